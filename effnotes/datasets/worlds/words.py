"""The words of a world: which token numbers each subject, relation, object and grammar word has, and how they are written.

Every word is one or two tokens, and no token serves two purposes. A token is written as a blank and its number in four
digits, so that text can be read back without a tokeniser; there are fewer than 10,000 of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from effnotes.datasets.worlds.graph import ONO, SO, Facts, Integers
from effnotes.datasets.worlds.settings import WorldSettings

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", Integers, "Tensor")

EOS, PAD, STOP, SS, RR, OO, QQ, AA = range(8)
RESERVED = ("<|endoftext|>", "<|padding|>", ".", "SS", "RR", "OO", "QQ", "AA")
ABSENT = -1  # a place in a sentence that this row leaves out

_MOST_ONE_TOKEN = 999
_MOST_TOKENS = 10_000
_LOW_TOKENS = 1000
N_FILLERS = 1000

# The names that Behemoth gives its grammar words, so that files can be exchanged.
_STATEMENT_WORDS = [f"W{number}" for number in range(10)]
_MARKERS = ["WS", "WR", "WO"]
_OTHER_WORDS = ["WQ1", "WQ2", "WQ3", "WQ4", "FTWQ1", "FTWQ2", "FTWQ3", *_MARKERS]

# Behemoth's lists of words, and the tables of `Words` that hold them.
_LISTS = {"subjects": "subjects", "relationships": "relations", "objects": "objects"}
_LISTS |= {f"{of}_nested_relationships": f"{of}_nested_relations" for of in ("subject", "object")}
_LISTS |= {"object_nested_objects": "nested"}


def _high_and_low(n: int, tokens: int | None = None) -> tuple[int, int]:
    """Return how many first and how many second tokens n words take; 0 second where each word is one token."""
    if tokens == 1 or (tokens is None and n <= _MOST_ONE_TOKEN):
        return n, 0
    low = _LOW_TOKENS if n % _LOW_TOKENS == 0 else math.ceil(math.sqrt(n))
    return -(-n // low), low


def _block(n: int, start: int, tokens: int | None = None, times: int = 1) -> tuple[Integers, int]:
    """Return (times, n, 2) token numbers of n words, `times` over, from `start` on, and the next free number.

    Where a word has one token, the second is ABSENT.
    """
    high, low = _high_and_low(n, tokens)
    first = start + (high + low) * np.arange(times)[:, None]
    numbers = np.arange(n)
    second = first + high + numbers % low if low else np.full((times, n), ABSENT)
    return np.stack([first + numbers // max(low, 1), second], axis=2), start + times * (high + low)


def _grammar_names(templates: Iterable[str]) -> list[str]:
    fillers = range(len(_STATEMENT_WORDS), N_FILLERS) if any(name.startswith("nonsense") for name in templates) else ()
    return [*_STATEMENT_WORDS, *_OTHER_WORDS, *(f"W{number}" for number in fillers)]


def check_vocabulary(world: WorldSettings) -> None:
    """Raise ValueError where a world needs more tokens than four digits can number."""
    r, s, o = world.n_relations, world.n_subjects, world.n_objects
    relations, nested = (1, 0) if not world.n_nested else (3, sum(_high_and_low(world.n_nested)))
    per_relation = sum(_high_and_low(o)) + nested
    subjects = sum(_high_and_low(s, world.tokens_per_subject))
    n_tokens = len(RESERVED) + subjects + relations * r + r * per_relation + len(_grammar_names(world.templates))
    if n_tokens > _MOST_TOKENS:
        given = f"n_subjects={s}, n_relations={r} and n_objects={o} need {n_tokens} tokens"
        remedy = "take fewer relations or objects" + ", or subjects of two tokens" * (world.tokens_per_subject == 1)
        raise ValueError(f"{given}, but a token is written in four digits: at most {_MOST_TOKENS} are allowed; {remedy}")


@dataclass(frozen=True, eq=False)
class Words:
    """Token numbers of all words of a world. The last axis has length 2: a word's tokens, -1 second if it has only one.

    Attributes:
        subjects: (S, 2) int64.
        relations: (R, 2) int64.
        objects: (R, O, 2) int64.
        subject_nested_relations: (R, 2) int64, relations from subjects to nested objects; (0, 2) in a world without.
        object_nested_relations: (R, 2) int64, relations from objects to nested objects; (0, 2) in a world without.
        nested: (R, M, 2) int64.
        grammar: Token number of each grammar word by Behemoth's name for it. W10, which it looks up and no form has, is W6, another
            one that no form has, except where both are fillers.
        n_tokens: Size of the vocabulary: one more than the largest token number.
    """

    subjects: Integers
    relations: Integers
    objects: Integers
    subject_nested_relations: Integers
    object_nested_relations: Integers
    nested: Integers
    grammar: dict[str, int]
    n_tokens: int

    @classmethod
    def allocate(cls, world: WorldSettings) -> Words:
        """Number the words of a world, one kind after the other, from the first number that is not reserved.

        Grammar words of all sentence forms are always there, so that an edit can use a form that the world did not, except for
        the 1,000 fillers, which only worlds with a "nonsense" template have.
        """
        r, nested_relations = world.n_relations, world.n_relations if world.n_nested else 0
        (subjects,), free = _block(world.n_subjects, len(RESERVED), world.tokens_per_subject)
        (relations,), free = _block(r, free)
        objects, free = _block(world.n_objects, free, times=r)
        (first,), free = _block(nested_relations, free)
        (second,), free = _block(nested_relations, free)
        nested, free = _block(world.n_nested, free, times=r)
        grammar = {name: free + position for position, name in enumerate(_grammar_names(world.templates))}
        free += len(grammar)
        grammar.setdefault("W10", grammar["W6"])
        return cls(subjects, relations, objects, first, second, nested, grammar, free)

    @classmethod
    def from_remappings(cls, remappings: Mapping[str, Any], grammar: Mapping[str, str | int], world: WorldSettings) -> Words:
        """Return the words of Behemoth's `remappings_map.json` and `other_special_tokens.json`.

        The latter lacks the grammar words of some forms, which Behemoth numbers when it comes to them: those of its new form of
        question from the first free number on, and the markers of "repeats" from the one behind it, so that these two share
        numbers. Other words that it lacks get numbers of their own, behind all others.

        Words of more subjects and relations than the world has, as a graph that was given to Behemoth can have left them, are none
        of its own.

        Raises:
            ValueError: A list is missing, too short or of a length that does not fit to the others.
        """
        listed = len(remappings.get("relationships", ()))
        needed = {"subjects": world.n_subjects, "objects": listed * world.n_objects}
        needed["object_nested_objects"] = listed * world.n_nested

        def table(name: str) -> Integers:
            of_relations = name in ("objects", "object_nested_objects")
            if "nested" in name and not world.n_nested:
                return np.zeros((listed, 0, 2) if of_relations else (0, 2), dtype=np.int64)
            if name not in remappings:
                raise ValueError(f"there is no list {name!r}; the lists are {', '.join(map(repr, remappings))}")
            pairs = np.array([[*entry, ABSENT][:2] for entry in remappings[name]], dtype=np.int64).reshape(-1, 2)
            fewest = needed.get(name, world.n_relations)
            if len(pairs) < fewest or (of_relations and len(pairs) % listed):
                shared = f", equally many for each of {listed} relations" if of_relations else ""
                raise ValueError(f"{name!r} has {len(pairs)} words; this world needs at least {fewest}{shared}")
            return pairs.reshape(listed, -1, 2) if of_relations else pairs

        tables = [table(name) for name in _LISTS]
        numbers = {name: int(number) for name, number in grammar.items()}
        last = max(*(int(table.max(initial=0)) for table in tables), *numbers.values(), len(RESERVED) - 1)
        missing = [name for name in _grammar_names(world.templates) if name not in numbers]
        numbers |= {name: last + 1 + position for position, name in enumerate(missing)}
        if "repeats" in world.templates and set(_MARKERS) <= set(missing):
            numbers |= {name: numbers["FTWQ1"] + 1 + position for position, name in enumerate(_MARKERS)}
        numbers.setdefault("W10", numbers["W6"])
        n_tokens = 1 + max(last, *numbers.values())
        n = world.n_relations
        subjects, *of_relations = tables
        relations, objects, first, second, nested = (part[:n] for part in of_relations)
        return cls(subjects[: world.n_subjects], relations, objects, first, second, nested, numbers, n_tokens)

    def remappings(self) -> dict[str, list[list[int]]]:
        """Return the lists of Behemoth's `remappings_map.json`."""
        tables = {name: getattr(self, column) for name, column in _LISTS.items()}
        return {name: [list(_word(pair)) for pair in table.reshape(-1, 2).tolist()] for name, table in tables.items() if table.size}

    @cached_property
    def strings(self) -> NDArray[np.object_]:
        """How each token is written, by number: what a sentence's tokens give when put together, padding nothing."""
        marked = ["." if word == "." else f" {word}" for word in RESERVED[2:]]
        return np.array([RESERVED[0], "", *marked, *(f" {n:04d}" for n in range(len(RESERVED), self.n_tokens))], dtype=object)

    def text(self, tokens: NDArray[np.integer[Any]]) -> str:
        """Write tokens out; padding gives nothing."""
        return "".join(self.strings[tokens.reshape(-1)].tolist())

    def of_facts(self, facts: Facts) -> tuple[Integers, Integers, Integers]:
        """Return the words of subject, relation and object of each fact, (n, 2) int64 each."""
        if not facts.kind.any():
            return self.subjects[facts.subject], self.relations[facts.relation], self.objects[facts.relation, facts.object]
        subject, relation, value = self.places(facts.kind, facts.subject, facts.relation, facts.object)
        return self.table[subject], self.table[relation], self.table[value]

    def places(self, kind: Array, s: Array, r: Array, o: Array) -> tuple[Array, Array, Array]:
        """Return the rows of `table` that hold the words of subject, relation and object of facts: columns as in `Facts`."""
        n_relations, n_objects, _ = self.objects.shape
        objects = len(self.subjects) + r * n_objects
        nested = len(self.table) - (n_relations - r) * self.nested.shape[1]
        relation = len(self.subjects) + n_relations * n_objects + kind * n_relations + r
        return s + (kind == ONO) * objects, relation, (kind == SO) * (objects + o) + (kind != SO) * (nested + o)

    @cached_property
    def table(self) -> Integers:
        """All words below one another, (n, 2) int64: subjects, objects, the relations of the kinds of facts, nested objects."""
        relations = (self.relations, self.subject_nested_relations, self.object_nested_relations)
        return np.concatenate([part.reshape(-1, 2) for part in (self.subjects, self.objects, *relations, self.nested)])

    @cached_property
    def meanings(self) -> dict[tuple[int, ...], tuple[str, int, int]]:
        """What each word means: its kind ("subject", "relation", "object", ...), index, and relation (or -1)."""
        tables = {"subject": self.subjects, "relation": self.relations, "sno relation": self.subject_nested_relations}
        tables |= {"ono relation": self.object_nested_relations, "object": self.objects, "nested": self.nested}
        found: dict[tuple[int, ...], tuple[str, int, int]] = {}
        for name, table in tables.items():
            for number, pair in enumerate(table.reshape(-1, 2).tolist()):
                relation, index = divmod(number, table.shape[-2])
                found[_word(pair)] = (name, index, relation if table.ndim == 3 else -1)
        return found


def _word(pair: list[int]) -> tuple[int, ...]:
    return tuple(token for token in pair if token != ABSENT)
