"""A world: settings that say how its facts depend on one another and are written, and everything that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effnotes.core.errors import nearest
from effnotes.datasets.worlds.corpus import Corpus
from effnotes.datasets.worlds.graph import (
    FACT_KINDS,
    FILLERS,
    ONO,
    PROMPTABLE,
    SNO,
    SO,
    FactKind,
    Facts,
    Graph,
    Integers,
    draw_graph,
    draw_withheld,
    n_of,
    stream,
)
from effnotes.datasets.worlds.sentences import STATEMENTS, Sentences, form_code, write_facts
from effnotes.datasets.worlds.words import EOS, PAD, Words, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MOST_WORDS = 10**6


def _setting(default: Any, kind: type, low: float, high: float, *aliases: str, can_be_none: bool = False) -> Any:
    """Declare a setting with its type, its range (both ends allowed) and Behemoth's names for it."""
    limits = {"kind": kind, "low": low, "high": high, "aliases": aliases, "can_be_none": can_be_none}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=limits)
    return field(default=default, metadata=limits)


@dataclass(frozen=True, eq=False)
class World:
    """A synthetic world of facts (subject, relation, object), after Behemoth (arXiv 2601.23153).

    The same settings give the same facts, words and sentences, byte for byte. All of a world is derived from its settings when
    it is first asked for; a world costs nothing until then.

    Attributes:
        n_subjects: S, 1 to 1,000,000. (`-s --subjects`)
        n_relations: R, 1 to 999. (`-r --relationships`)
        n_objects: O, possible objects of each relation, 1 to 1,000,000; each relation has its own words. (`-o --objects`)
        n_nested: M, nested objects of each relation, a divisor of O; 0 for none. Each object has a nested object, and each subject
            has that of its object. (`--num-nested-objects`)
        correlation: Probability that relation 1 has the object index of relation 0, above chance (1/O, or 1/2 if binarised);
            None draws them independently. (`--correlated-pair --correlation-strength`)
        binarize: Relation 0 has only two objects; needs `correlation`. (`-b --binarize-first-correlated`)
        minority_frac: Share of facts with a second object, 0 to 1; not with correlated or nested worlds.
            (`-m --minority-position-entity-frac`)
        minority_p: Probability that a sentence on such a fact states the second object, 0 to 1. (`-p --minority-position-frac`)
        templates: Share of each statement form, summing to 1: "sro", "rso", "sor", "osr", "repeats", "nonsense_sro" and
            "nonsense_rso". Facts that are withheld in one form share its part out among the others in proportion.
            (`-c --phrase-creator` with `-i --inversion-frac`)
        qa_frac: Questions per statement about a subject and its object, on average over all subjects, 0 and above.
            (`-q --questions-frac`)
        qa_subject_frac: Share of subjects that questions are asked about, above 0 to 1. (`-e --questions-entity-frac`)
        zipf: Exponent of the subjects' frequencies, 0 to 4; None writes all facts equally often.
        withheld_frac: Share of facts that are never written in one of the templates, which one being drawn from those that a prompt
            can ask with, 0 to 1: there the template is a true paraphrase.
        repeats: Times that each fact is stated, on average over subjects, at least 1. (`-n --repeats`)
        ono_upweight: Factor on the statements about objects and their nested objects, at least 1.
            (`--obj-nested-obj-edges-upweight`)
        shuffle: True puts all sentences in one random order, False keeps the statements about a subject together.
        tokens_per_subject: 1 or 2; None takes one token for fewer than 1,000 subjects. Two are a first of S/1000 and a second of
            1,000 where S is a multiple of 1,000 (as in the original), else about the square root of S each.
        seed: 0 and above.
        given_graph: Facts from elsewhere (`import_world`); None draws them.
        given_words: Words from elsewhere; None numbers them.

    Raises:
        ValueError: A setting has the wrong type, is out of range, or does not go with another; the message names it and says what
            is allowed.
    """

    n_subjects: int = _setting(100_000, int, 1, _MOST_WORDS, "subjects", "s")
    n_relations: int = _setting(6, int, 1, 999, "relationships", "r")
    n_objects: int = _setting(400, int, 1, _MOST_WORDS, "objects", "o")
    n_nested: int = _setting(0, int, 0, _MOST_WORDS, "num_nested_objects")
    correlation: float | None = _setting(None, float, 0, 1, can_be_none=True)
    binarize: bool = _setting(False, bool, 0, 1, "binarize_first_correlated", "b")
    minority_frac: float = _setting(0.0, float, 0, 1, "minority_position_entity_frac", "m")
    minority_p: float = _setting(0.1, float, 0, 1, "minority_position_frac", "p")
    templates: Mapping[str, float] = _setting({"sro": 0.75, "rso": 0.25}, dict, 0, 1)
    qa_frac: float = _setting(0.0, float, 0, math.inf, "questions_frac", "q")
    qa_subject_frac: float = _setting(0.5, float, 0, 1, "questions_entity_frac", "e")
    zipf: float | None = _setting(None, float, 0, 4, can_be_none=True)
    withheld_frac: float = _setting(0.0, float, 0, 1)
    repeats: int = _setting(500, int, 1, 10**6, "n")
    ono_upweight: int = _setting(1, int, 1, 10**6, "obj_nested_obj_edges_upweight")
    shuffle: bool = _setting(True, bool, 0, 1)
    tokens_per_subject: int | None = _setting(None, int, 1, 2, can_be_none=True)
    seed: int = _setting(0, int, 0, 2**63 - 1)
    given_graph: Graph | None = field(default=None, repr=False, kw_only=True)
    given_words: Words | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            _check_setting(setting, getattr(self, setting.name))
        # A copy: what a caller does to his mapping later must not change the world.
        object.__setattr__(self, "templates", dict(self.templates))
        self._check_templates()
        self._check_together()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> World:
        """Make a world from settings by name; Behemoth's command-line names are known too, with hyphens or underscores.

        Raises:
            ValueError: A name is unknown or given twice, or as for the class itself.
        """
        return cls(**rename_settings(settings))

    # --- what the settings must satisfy ---------------------------------------------------------------------------------------

    def _check_templates(self) -> None:
        allowed = f"give a share to some of {', '.join(STATEMENTS)}, summing to 1, as in {{sro: 0.75, rso: 0.25}}"
        for name, share in self.templates.items():
            if name not in STATEMENTS:
                raise ValueError(f"templates has no form {name!r}.{nearest(str(name), STATEMENTS)} Allowed: {allowed}")
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"templates gives {name} the share {share!r}, which must be a number from 0 to 1; {allowed}")
        if not math.isclose(sum(self.templates.values()), 1, abs_tol=1e-9):
            raise ValueError(f"templates sum to {sum(self.templates.values()):g}; {allowed}")

    def _check_together(self) -> None:
        if self.n_nested and self.n_objects % self.n_nested:
            divisors = [m for m in range(1, min(self.n_objects, 10**4) + 1) if self.n_objects % m == 0]
            shown = ", ".join(map(str, divisors[:12])) + (", ..." if len(divisors) > 12 else "")
            raise ValueError(
                f"n_nested={self.n_nested} does not divide n_objects={self.n_objects}, but all nested objects have equally many "
                f"objects; allowed are 0 (none), {shown}"
            )
        if self.minority_frac > 0 and self.n_nested:
            raise ValueError(f"minority_frac={self.minority_frac} does not go with n_nested={self.n_nested}; set one of them to 0")
        if self.minority_frac > 0 and self.n_objects < 2:
            raise ValueError(f"minority_frac={self.minority_frac} needs n_objects of at least 2, not {self.n_objects}")
        if self.correlation is None:
            if self.binarize:
                raise ValueError("binarize=True needs a correlated world; set correlation as well, or binarize to false")
        else:
            self._check_correlation(self.correlation)
        if self.qa_frac > 0 and self.n_asked == 0:
            raise ValueError(
                f"qa_subject_frac={self.qa_subject_frac} of n_subjects={self.n_subjects} is no subject, but qa_frac="
                f"{self.qa_frac} asks for questions; it must be at least {1 / self.n_subjects:g}"
            )
        if self.withheld_frac > 0 and sum(share > 0 for share in self.templates.values()) < 2:
            raise ValueError(
                f"withheld_frac={self.withheld_frac} needs two templates with a share above 0, one to withhold and one to write "
                f"in; templates is {dict(self.templates)}"
            )
        if self.withheld_frac > 0 and not any(self.templates.get(name, 0) > 0 for name in PROMPTABLE):
            raise ValueError(
                f"withheld_frac={self.withheld_frac} needs a template that ends with the object: {', '.join(PROMPTABLE)}"
            )
        if self.given_words is None:
            check_vocabulary(self)
        if self.given_graph is not None:
            self._check_graph(self.given_graph)

    def _check_graph(self, graph: Graph) -> None:
        shape = (self.n_subjects, self.n_relations)
        if graph.objects.shape != shape:
            raise ValueError(f"given_graph has facts of shape {graph.objects.shape}, but n_subjects and n_relations are {shape}")
        most = int(max(graph.objects.max(), graph.minority.max()))
        if most >= self.n_objects:
            raise ValueError(
                f"given_graph has an object {most}, but n_objects={self.n_objects} numbers them 0 to {self.n_objects - 1}"
            )
        nested = (self.n_relations, self.n_objects if self.n_nested else 0)
        if graph.nested.shape != nested or graph.nested.max(initial=-1) >= self.n_nested:
            raise ValueError(
                f"given_graph has nested objects of shape {graph.nested.shape} up to {graph.nested.max(initial=-1)}, but with "
                f"n_objects={self.n_objects} and n_nested={self.n_nested} their shape must be {nested}, and all below n_nested"
            )
        if self.qa_frac > 0 and not graph.asked.any():
            raise ValueError(
                f"qa_frac={self.qa_frac} asks for questions, but given_graph names no subject to ask about; set it to 0"
            )

    def _check_correlation(self, correlation: float) -> None:
        if self.n_relations < 2:
            raise ValueError(f"correlation={correlation} needs n_relations of at least 2, a pair, not {self.n_relations}")
        if self.n_objects < 2:
            raise ValueError(f"correlation={correlation} needs n_objects of at least 2, not {self.n_objects}")
        if self.minority_frac > 0:
            raise ValueError(f"correlation={correlation} does not go with minority_frac={self.minority_frac}; drop one of them")
        chance = 0.5 if self.binarize else 1 / self.n_objects
        if correlation <= chance:
            raise ValueError(
                f"correlation={correlation} is no more than chance, {chance:g} with "
                f"{'binarize' if self.binarize else f'n_objects={self.n_objects}'}; allowed is above {chance:g} up to 1, or none"
            )

    # --- what follows from them -----------------------------------------------------------------------------------------------

    @property
    def n_asked(self) -> int:
        """Number of subjects that questions are asked about."""
        return n_of(self.qa_subject_frac, self.n_subjects) if self.qa_frac > 0 else 0

    @cached_property
    def graph(self) -> Graph:
        """The facts as tables."""
        return draw_graph(self) if self.given_graph is None else self.given_graph

    @cached_property
    def words(self) -> Words:
        """The token numbers of all words."""
        return Words.allocate(self) if self.given_words is None else self.given_words

    @cached_property
    def withheld(self) -> Integers:
        """(number of facts,) int64: position in `templates` of the one that a fact is never written in, -1 for none."""
        return draw_withheld(self, len(self.facts()))

    @cached_property
    def graph_dissents(self) -> bool:
        """Whether some facts have a second object."""
        return bool((self.graph.minority >= 0).any())

    @cached_property
    def in_use(self) -> NDArray[np.bool_]:
        """(R, O) bool: objects that sentences state, as the own or the second object of a subject or as having a nested one.

        The words of all others are in the vocabulary and in no sentence: a relation of given facts can have fewer than O objects,
        and in a small world not all are drawn.
        """
        graph = self.graph
        used = np.full((self.n_relations, self.n_objects), graph.has_nested)
        used[np.arange(self.n_relations), graph.objects] = True
        subjects, relations = np.nonzero(graph.minority >= 0)
        used[relations, graph.minority[subjects, relations]] = True
        return used

    @property
    def vocab_size(self) -> int:
        """Number of tokens, reserved ones included."""
        return self.words.n_tokens

    @property
    def n_bits(self) -> float:
        """What there is to know about subjects and their own objects if all were independent: S R log2 O, in bits.

        Where relations have fewer objects in use than O it is more than there is.

        Divided by a model's parameters it is the load, to be compared with the two bits a parameter that models of language can
        store (Allen-Zhu & Li, Physics of Language Models 3.3).
        """
        return self.n_subjects * self.n_relations * math.log2(self.n_objects)

    def facts(self, kind: FactKind | None = None) -> Facts:
        """Return all facts of one kind, or of all, numbered as `fact_ids` numbers them.

        Args:
            kind: "so" (S R facts, subject by subject), "sno" (the same order) or "ono" (R O facts, relation by relation). The
                latter two are empty in a world without nested objects.

        Raises:
            ValueError: There is no such kind.
        """
        if kind is None:
            return Facts.join(*(self.facts(each) for each in FACT_KINDS)) if self.graph.has_nested else self.facts("so")
        if kind not in FACT_KINDS:
            raise ValueError(f"kind={kind!r}: there is no such kind of fact; the kinds are {', '.join(FACT_KINDS)}")
        r = np.arange(self.n_relations)
        if kind != "so" and not self.graph.has_nested:
            return Facts.none()
        if kind == "ono":
            objects = np.tile(np.arange(self.n_objects), self.n_relations)
            return Facts.of(ONO, objects, np.repeat(r, self.n_objects), self.graph.nested.reshape(-1))
        subjects, relations = np.repeat(np.arange(self.n_subjects), self.n_relations), np.tile(r, self.n_subjects)
        objects = self.graph.objects.reshape(-1)
        if kind == "so":
            return Facts.of(SO, subjects, relations, objects)
        return Facts.of(SNO, subjects, relations, self.graph.nested[relations, objects])

    def fact_ids(self, facts: Facts) -> Integers:
        """Return (n,) int64: the number of each fact among all facts of the world, whatever object it states."""
        per_kind = self.n_subjects * self.n_relations
        about_subject = facts.kind * per_kind + facts.subject * self.n_relations + facts.relation
        return np.where(facts.kind == ONO, 2 * per_kind + facts.relation * self.n_objects + facts.subject, about_subject)

    def check_facts(self, facts: Facts) -> None:
        """Raise ValueError where a fact has a number that the world does not have."""
        nested = facts.kind != SO
        for name, column, end in (
            ("kind", facts.kind, np.where(self.graph.has_nested, len(FACT_KINDS), 1)),
            ("relation", facts.relation, np.array(self.n_relations)),
            ("subject", facts.subject, np.where(facts.kind == ONO, self.n_objects, self.n_subjects)),
            ("object", facts.object, np.where(nested, self.n_nested, self.n_objects)),
        ):
            wrong = np.flatnonzero((column < 0) | (column >= end))
            if len(wrong):
                most = np.broadcast_to(end, column.shape)[wrong[0]] - 1
                raise ValueError(f"fact {wrong[0]} has {name}={column[wrong[0]]}; in this world it must be from 0 to {most}")

    def minority_of(self, facts: Facts) -> Integers:
        """Return (n,) int64: the second object of each fact, -1 where there is none."""
        is_so = facts.kind == SO
        found = self.graph.minority[np.where(is_so, facts.subject, 0), facts.relation]
        return np.where(is_so, found, -1)

    def nested_of(self, relation: Integers, object: Integers) -> Integers:
        """Return (n,) int64: the nested object of each object."""
        return self.graph.nested[relation, object]

    # --- sentences ------------------------------------------------------------------------------------------------------------

    def encode(self, facts: Facts, template: str, *, seed: int = 0) -> Sentences:
        """Write facts in one form, for prompts and edits.

        Args:
            facts: n facts.
            template: One of `effnotes.datasets.worlds.FORMS`. In "repeats" no marker follows the object, in "nonsense" there are
                always two fillers, as in Behemoth's validation data.
            seed: Draws markers and fillers; the fixed forms have nothing random.

        Returns:
            n sentences in the order of the facts.

        Raises:
            ValueError: There is no such form, or the world has no words for it or for a fact.
        """
        self.check_facts(facts)
        code = form_code(template)
        if template.startswith("nonsense") and "W999" not in self.words.grammar:
            raise ValueError(f"template={template!r}: this world has no words for it; name it in templates, with share 0 at least")
        return write_facts(self.words, facts, np.full(len(facts), code), stream(self.seed, FILLERS, seed), validation=True)

    def corpus(self, left_out: Facts | None = None) -> Corpus:
        """Return the training text, without the facts in `left_out`: the data of a model that never saw them.

        Raises:
            ValueError: The world has no such fact.
        """
        if left_out is not None:
            self.check_facts(left_out)
        return Corpus(self, left_out, together=not self.shuffle)

    def sentences(self, *, shard: int = 0, of: int = 1, left_out: Facts | None = None) -> Iterator[Sentences]:
        """Yield the training text in blocks of up to 65,536 sentences, in constant memory.

        Args:
            shard: Which part, 0 to of - 1. Parts can be written in any order and by different processes.
            of: Number of parts, at least 1; together they are the whole text.
            left_out: Facts that are not written, such as those of `Task.forgotten`.

        Raises:
            ValueError: There is no such shard, or no such fact.
        """
        if not 0 <= shard < of:
            raise ValueError(f"shard={shard} of={of}: a shard is numbered from 0 to {of - 1}, and there is at least one")
        return self.corpus(left_out).blocks(shard, of)

    def sample_sentences(self, n: int, *, seed: int = 0, left_out: Facts | None = None) -> Sentences:
        """Draw n sentences with replacement, each as likely as it is frequent in the training text.

        Raises:
            ValueError: n or the seed is below 0, or everything is left out.
        """
        if n < 0:
            raise ValueError(f"n={n}: must be at least 0")
        corpus = replace(self.corpus(left_out), together=False)
        if not corpus.n_items:
            raise ValueError("left_out names every fact of the world; nothing is left to be drawn")
        return corpus.sample(n, seed)

    @property
    def n_sentences(self) -> int:
        """Number of sentences in the training text."""
        return self.corpus().n_sentences

    # --- tokeniser and files --------------------------------------------------------------------------------------------------

    def tokenizer_json(self) -> dict[str, Any]:
        """Return a word-level tokeniser in the format of Hugging Face's `tokenizer.json`; its ids are the numbers in the text."""
        vocabulary = {written.strip(): number for number, written in enumerate(self.words.strings) if number != PAD}
        vocabulary["<|padding|>"] = PAD
        special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        stop = {"type": "Split", "pattern": {"String": "."}, "behavior": "Isolated", "invert": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": EOS, "content": "<|endoftext|>", **special}, {"id": PAD, "content": "<|padding|>", **special}],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, stop]},
            "post_processor": None,
            "decoder": None,
            # No such word: what is no word of this world is an error, and never padding.
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unknown>"},
        }

    def hf_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the world's tokeniser for Hugging Face models: word level, split at blanks.

        Raises:
            ImportError: transformers is not installed.
        """
        try:
            from tokenizers import Tokenizer
            from transformers import PreTrainedTokenizerFast
        except ImportError as error:
            raise ImportError("hf_tokenizer needs transformers: pip install transformers") from error
        import json

        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(self.tokenizer_json())),
            eos_token="<|endoftext|>",
            bos_token="<|endoftext|>",
            pad_token="<|padding|>",
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings by name, in plain Python types."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return values | {"templates": dict(self.templates)}


SETTINGS: dict[str, Field[Any]] = {each.name: each for each in fields(World) if "kind" in each.metadata}
"""The settings of a world by name."""

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping from template to share"}


def _check_setting(setting: Field[Any], value: Any) -> None:
    limits = setting.metadata
    kind, low, high = limits["kind"], limits["low"], limits["high"]
    allowed = _KINDS[kind] + (" or none" if limits["can_be_none"] else "")
    if value is None and limits["can_be_none"]:
        return
    if kind is bool:
        fits = isinstance(value, bool)
    elif kind is dict:
        fits = isinstance(value, Mapping)
    else:
        fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not fits:
        raise ValueError(f"{setting.name}={value!r} is {_type_name(value)}, but must be {allowed}")
    if kind in (int, float) and not (low <= value <= high and math.isfinite(value)):
        between = f"at least {low}" if high == math.inf else f"from {low:,} to {high:,}"
        raise ValueError(f"{setting.name}={value} is out of range: it must be {allowed} {between}")


def _type_name(value: Any) -> str:
    names = {str: "text", bool: "true or false", list: "a list", dict: "a mapping", type(None): "empty", float: "a decimal"}
    return names.get(type(value), type(value).__name__)


_PAIR = ("correlated_pair", "correlation_strength")
_PHRASES = ("phrase_creator", "inversion_frac")
_SHORT = {"c": "phrase_creator", "i": "inversion_frac"}
_ALIASES = {alias: name for name, setting in SETTINGS.items() for alias in setting.metadata["aliases"]}
KNOWN_NAMES = (*SETTINGS, *_PAIR, *_PHRASES, *_SHORT, *_ALIASES)


def rename_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their own names, from these or Behemoth's command-line names.

    Raises:
        ValueError: A name is unknown, or two names of one setting are given.
    """
    renamed: dict[str, Any] = {}
    given: dict[str, str] = {}
    for key, value in settings.items():
        plain = str(key).lstrip("-").replace("-", "_")
        name = plain if plain in SETTINGS else _ALIASES.get(plain, _SHORT.get(plain, plain))
        if name not in SETTINGS and name not in (*_PAIR, *_PHRASES):
            raise ValueError(f"there is no setting {key!r}.{nearest(plain, KNOWN_NAMES)} The settings are: {', '.join(SETTINGS)}.")
        if name in given:
            raise ValueError(f"{key!r} and {given[name]!r} are two names of one setting, {name}; give one of them")
        given[name] = str(key)
        renamed[name] = value
    _rename_pair(renamed)
    _rename_phrases(renamed)
    return renamed


def _rename_pair(settings: dict[str, Any]) -> None:
    if not any(name in settings for name in _PAIR):
        return
    if "correlation" in settings:
        raise ValueError("correlation and correlated_pair are two names of one setting; give one of them")
    is_pair, strength = settings.pop("correlated_pair", False), settings.pop("correlation_strength", None)
    if not isinstance(is_pair, bool):
        raise ValueError(f"correlated_pair={is_pair!r} is {_type_name(is_pair)}, but must be true or false")
    if strength is not None and not is_pair:
        raise ValueError(f"correlation_strength={strength} needs correlated_pair: true; or set correlation: {strength} alone")
    settings["correlation"] = (1.0 if strength is None else strength) if is_pair else None


def _rename_phrases(settings: dict[str, Any]) -> None:
    if not any(name in settings for name in _PHRASES):
        return
    if "templates" in settings:
        raise ValueError("templates and phrase_creator (with inversion_frac) say the same; give one of them")
    creator, inverted = settings.pop("phrase_creator", "inverted"), settings.pop("inversion_frac", 0.0)
    creators = ("inverted", "simplerepeats", "nonsense")
    if creator not in creators:
        raise ValueError(f"phrase_creator={creator!r}: allowed are {', '.join(creators)}.{nearest(str(creator), creators)}")
    if isinstance(inverted, bool) or not isinstance(inverted, int | float) or not 0 <= inverted <= 1:
        raise ValueError(f"inversion_frac={inverted!r}: must be a number from 0 to 1, the share of sentences not in the order SRO")
    if creator == "simplerepeats":
        if inverted > 0:
            raise ValueError(f"inversion_frac={inverted} does not go with phrase_creator=simplerepeats, which has one order; set 0")
        settings["templates"] = {"repeats": 1.0}
    elif creator == "nonsense":
        settings["templates"] = {"nonsense_sro": 1.0 - inverted, "nonsense_rso": inverted}
    else:
        others = dict.fromkeys(("sor", "osr", "rso"), inverted / 3) if inverted else {}
        settings["templates"] = {"sro": 1.0 - inverted, **others}
