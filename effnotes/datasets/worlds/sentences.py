"""Sentences: many facts, each in one of `FORMS`, turned into rows of tokens at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from effnotes.datasets.worlds.forms import FORMS, PATTERNS, REFUSALS
from effnotes.datasets.worlds.graph import Facts, Integers, RowIndex
from effnotes.datasets.worlds.words import ABSENT, EOS, N_FILLERS, PAD, RESERVED, RR, SS, STOP, Words

Place: TypeAlias = Literal["subject", "relation", "last"]
"""Where in a prompt: the last token of its subject, of its relation, or of all."""

_Part: TypeAlias = tuple[str, Integers, list[Integers], list[Integers]]  # marker, word, fillers before and after
_MOST_FILLERS, _MORE_FILLERS = 5, 0.4


@dataclass(frozen=True, eq=False)
class Sentences:
    """n sentences as rows of tokens, with what each says and where its answer is.

    Attributes:
        tokens: (n, L) int32; EOS, the sentence, its full stop, then padding up to the longest of these rows.
        length: (n,) int64; tokens in a row without padding. A sentence has as many tokens, its EOS at one end included.
        answer: (n,) int64; column of the answer's first token, so `tokens[i, :answer[i]]` is the prompt.
        answer_length: (n,) int64; tokens of the answer, as many as have to be right.
        facts: What is said: in a dissenting sentence the second object, in a refusal the fact that is withheld.
        form: (n,) int64; position in `FORMS`.
    """

    tokens: NDArray[np.int32]
    length: Integers
    answer: Integers
    answer_length: Integers
    facts: Facts
    form: Integers

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: RowIndex) -> Sentences:
        """Return the sentences at the given positions, or where a mask is true; the padding stays."""
        said = (self.length[rows], self.answer[rows], self.answer_length[rows], self.facts.take(rows), self.form[rows])
        return Sentences(self.tokens[rows], *said)


def last_columns(asked: Sentences, words: Words, place: Place) -> Integers:
    """Return (n,) int64: the column of the last token of the subject, of the relation, or of the prompt.

    Args:
        asked: n sentences with subject and relation before the answer.
        words: The words of their world.
        place: Of what.
    """
    if place == "last":
        return asked.answer - 1
    marker, word = (SS, 0) if place == "subject" else (RR, 1)
    columns: Integers = (asked.tokens == marker).argmax(axis=1) + (words.of_facts(asked.facts)[word] != ABSENT).sum(axis=1)
    return columns


def text_of(sentences: Sentences, words: Words) -> str:
    """Return the sentences as one line of text: each ends with EOS and none begins with it."""
    return words.text(sentences.tokens)[len(RESERVED[EOS]) :] + RESERVED[EOS] if len(sentences) else ""


def prompts_of(sentences: Sentences, words: Words) -> list[tuple[str, str]]:
    """Return prompt and answer of each sentence as text, as Behemoth splits them: a question's answer begins with OO."""
    starts = sentences.answer - np.isin(sentences.form, [FORMS.index("question"), FORMS.index("new_question")])
    rows = zip(sentences.tokens, starts.tolist(), (sentences.answer + sentences.answer_length).tolist(), strict=True)
    return [(words.text(row[1:start]), words.text(row[start:end])) for row, start, end in rows]


def write_facts(
    words: Words, facts: Facts, form: Integers, rng: Generator, *, validation: bool = False, repeats: Sequence[int] | None = None
) -> Sentences:
    """Write each fact in the form given for it.

    Args:
        words: The words of the world.
        facts: n facts.
        form: (n,) positions in `FORMS`.
        rng: Draws fillers and repeats; fixed forms take nothing from it.
        validation: As prompts are written: no markers after the object in "repeats", always two fillers in "nonsense".
        repeats: Six numbers, how many markers stand before and after subject, relation and object in "repeats"; None draws.

    Returns:
        The sentences in the order of the facts.
    """
    parts = []
    for code in np.unique(form).tolist():
        rows, name = np.flatnonzero(form == code), FORMS[code]
        said = facts.take(rows)
        if name == "repeats":
            tokens, answer = _repeats(words, said, rng, validation, repeats)
        elif name.startswith("nonsense"):
            tokens, answer = _nonsense(words, said, name, rng, validation)
        else:
            tokens, answer = _fixed(words, said, name)
        end = answer + (PATTERNS[name].split("|")[1].count("OO") if name in REFUSALS else 2)
        parts.append((rows, tokens, *((part != ABSENT).sum(axis=1) for part in (tokens[:, :answer], tokens[:, answer:end]))))

    places = np.full((len(facts), max((tokens.shape[1] for _, tokens, _, _ in parts), default=1)), ABSENT, dtype=np.int32)
    starts, lengths = np.zeros((2, len(facts)), dtype=np.int64)
    for rows, tokens, start, length in parts:
        places[rows, : tokens.shape[1]] = tokens
        starts[rows], lengths[rows] = start, length
    tokens, total = _left_justified(places)
    return Sentences(tokens, total, starts, lengths, facts, form)


def _left_justified(places: NDArray[np.int32]) -> tuple[NDArray[np.int32], Integers]:
    """Close the gaps in each row, and pad behind: tokens and lengths."""
    present = places != ABSENT
    lengths = present.sum(axis=1)
    tokens = np.full((len(places), int(lengths.max(initial=1))), PAD, dtype=np.int32)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = places[present]
    return tokens, lengths


def pattern_row(words: Words, form: str) -> list[int]:
    """Return the token at each place of a form, from EOS on, or -2 - k for column k of a fact's words, side by side."""
    row = [EOS]
    for piece in PATTERNS[form].replace("|", "").split():
        if piece in "SRO":
            row += [-2 - 2 * "SRO".index(piece), -3 - 2 * "SRO".index(piece)]
        else:
            row.append(RESERVED.index(piece) if piece in RESERVED else words.grammar[piece])
    return row


def _fixed(words: Words, facts: Facts, form: str) -> tuple[NDArray[np.int32], int]:
    said = np.concatenate(words.of_facts(facts), axis=1)
    prompt = PATTERNS[form].split("|")[0].split()
    columns = [said[:, -2 - place] if place < ABSENT else place for place in pattern_row(words, form)]
    return _stacked(columns, len(facts)), 1 + len(prompt) + sum(piece in "SRO" for piece in prompt)


def _repeats(
    words: Words, facts: Facts, rng: Generator, validation: bool, repeats: Sequence[int] | None
) -> tuple[NDArray[np.int32], int]:
    drawn = rng.integers([1, 0] * 3, 4, size=(len(facts), 6)) if repeats is None else np.tile(repeats, (len(facts), 1))
    if validation:
        drawn[:, 5] = 0
    fillers = np.repeat([words.grammar[name] for name in ("WS", "WR", "WO")], 2)
    # Six runs of at most three markers: before and after each word.
    runs = [[np.where(drawn[:, run] > place, filler, ABSENT) for place in range(3)] for run, filler in enumerate(fillers)]
    return _marked(zip(("SS", "RR", "OO"), words.of_facts(facts), runs[::2], runs[1::2], strict=True), len(facts))


def _nonsense(words: Words, facts: Facts, form: str, rng: Generator, validation: bool) -> tuple[NDArray[np.int32], int]:
    n = len(facts)
    fillers = np.array([words.grammar[f"W{number}"] for number in range(N_FILLERS)])
    subject, relation, value = words.of_facts(facts)
    parts = [("SS", subject), ("RR", relation)]
    written: list[_Part] = []
    for marker, word in (*(parts if form.endswith("sro") else parts[::-1]), ("OO", value)):
        drawn = fillers[rng.integers(len(fillers), size=(n, _MOST_FILLERS))]
        # At least one, and another one with probability .4 each time, up to five.
        counts = 1 + np.cumprod(rng.random((n, _MOST_FILLERS - 1)) < _MORE_FILLERS, axis=1).sum(axis=1)
        if validation:
            counts[:] = 2
        written.append((marker, word, [np.where(counts > at, drawn[:, at], ABSENT) for at in range(_MOST_FILLERS)], []))
    return _marked(written, n)


def _marked(parts: Iterable[_Part], n: int) -> tuple[NDArray[np.int32], int]:
    """Put together sentences of parts, of which the last is the answer."""
    columns: list[Integers | int] = [EOS]
    answer = 0
    for marker, word, before, after in parts:
        columns += [*before, RESERVED.index(marker), *word.T, *after]
        answer = len(columns) - len(after) - 2
    return _stacked([*columns, STOP], n), answer


def _stacked(columns: list[Integers | int], n: int) -> NDArray[np.int32]:
    places = np.empty((n, len(columns)), dtype=np.int32)
    for number, column in enumerate(columns):
        places[:, number] = column
    return places
