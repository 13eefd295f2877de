"""Sentences: many facts, each in one of `FORMS`, turned into rows of tokens at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnotes.datasets.worlds.forms import FORMS, PATTERNS, REFUSALS
from effnotes.datasets.worlds.graph import Facts, Integers, RowIndex
from effnotes.datasets.worlds.words import ABSENT, EOS, N_FILLERS, PAD, RESERVED, Words

_MOST_FILLERS, _MORE_FILLERS = 5, 0.4
_VALIDATION_FILLERS = 2


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


def text_of(sentences: Sentences, words: Words) -> str:
    """Return the sentences as one line of text: each ends with EOS and none begins with it."""
    if not len(sentences):
        return ""
    return words.text(sentences.tokens)[len(RESERVED[EOS]) :] + RESERVED[EOS]


def prompts_of(sentences: Sentences, words: Words) -> list[tuple[str, str]]:
    """Return prompt and answer of each sentence as text, as Behemoth splits them: a question's answer begins with OO."""
    rows = []
    starts = sentences.answer - np.isin(sentences.form, [FORMS.index("question"), FORMS.index("new_question")])
    ends = sentences.answer + sentences.answer_length
    for row, start, end in zip(sentences.tokens, starts.tolist(), ends.tolist(), strict=True):
        rows.append((words.text(row[1:start]), words.text(row[start:end])))
    return rows


def write_facts(
    words: Words,
    facts: Facts,
    form: Integers,
    rng: np.random.Generator,
    *,
    validation: bool = False,
    repeats: NDArray[np.integer[Any]] | None = None,
) -> Sentences:
    """Write each fact in the form given for it.

    Args:
        words: The words of the world.
        facts: n facts.
        form: (n,) positions in `FORMS`.
        rng: Draws fillers and repeats; fixed forms take nothing from it.
        validation: As prompts are written: no markers after the object in "repeats", always two fillers in "nonsense".
        repeats: (6,) how many markers stand before and after subject, relation and object in "repeats"; None draws.

    Returns:
        The sentences in the order of the facts.
    """
    parts = []
    for code in np.unique(form).tolist():
        rows = np.flatnonzero(form == code)
        said = facts.take(rows)
        if FORMS[code] == "repeats":
            tokens, answer = _repeats(words, said, rng, validation, repeats)
        elif FORMS[code].startswith("nonsense"):
            tokens, answer = _nonsense(words, said, FORMS[code].endswith("sro"), rng, validation)
        else:
            tokens, answer = _fixed(words, said, FORMS[code])
        answer_length = len(_answer(FORMS[code])) if FORMS[code] in REFUSALS else (tokens[:, answer : answer + 2] != ABSENT).sum(1)
        parts.append((rows, tokens, (tokens[:, :answer] != ABSENT).sum(axis=1), np.broadcast_to(answer_length, len(rows))))

    width = max((tokens.shape[1] for _, tokens, _, _ in parts), default=1)
    places = np.full((len(facts), width), ABSENT, dtype=np.int32)
    starts, lengths = np.zeros((2, len(facts)), dtype=np.int64)
    for rows, tokens, start, length in parts:
        places[rows, : tokens.shape[1]] = tokens
        starts[rows], lengths[rows] = start, length
    tokens, total = _left_justified(places)
    return Sentences(tokens, total, starts, lengths, facts, form)


def _answer(form: str) -> list[str]:
    return PATTERNS[form].split("|")[1].split()[:-1]


def _left_justified(places: NDArray[np.int32]) -> tuple[NDArray[np.int32], Integers]:
    """Close the gaps in each row, and pad behind: tokens and lengths."""
    present = places != ABSENT
    lengths = present.sum(axis=1)
    tokens = np.full((len(places), int(lengths.max(initial=1))), PAD, dtype=np.int32)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = places[present]
    return tokens, lengths


def _fixed(words: Words, facts: Facts, form: str) -> tuple[NDArray[np.int32], int]:
    before, after = (part.split() for part in PATTERNS[form].split("|"))
    slots = dict(zip("SRO", words.of_facts(facts), strict=True))
    columns: list[Integers | int] = [EOS]
    answer = 0
    for position, piece in enumerate((*before, *after)):
        if position == len(before):
            answer = len(columns)
        if piece in slots:
            columns += [slots[piece][:, 0], slots[piece][:, 1]]
        else:
            columns.append(RESERVED.index(piece) if piece in RESERVED else words.grammar[piece])
    return _stacked(columns, len(facts)), answer


def _repeats(
    words: Words, facts: Facts, rng: np.random.Generator, validation: bool, repeats: NDArray[np.integer[Any]] | None
) -> tuple[NDArray[np.int32], int]:
    if repeats is None:
        counts = rng.integers([1, 0] * 3, 4, size=(len(facts), 6))
        if validation:
            counts[:, 5] = 0
    else:
        counts = np.broadcast_to(repeats, (len(facts), 6))
    columns: list[Integers | int] = [EOS]
    answer = 0
    parts = zip(("SS", "RR", "OO"), ("WS", "WR", "WO"), words.of_facts(facts), strict=True)
    for part, (marker, filler, word) in enumerate(parts):
        fill = words.grammar[filler]
        columns += [np.where(counts[:, 2 * part] > place, fill, ABSENT) for place in range(3)]
        columns.append(RESERVED.index(marker))
        answer = len(columns)
        columns += [word[:, 0], word[:, 1]]
        columns += [np.where(counts[:, 2 * part + 1] > place, fill, ABSENT) for place in range(3)]
    columns.append(RESERVED.index("."))
    return _stacked(columns, len(facts)), answer


def _nonsense(
    words: Words, facts: Facts, subject_first: bool, rng: np.random.Generator, validation: bool
) -> tuple[NDArray[np.int32], int]:
    n = len(facts)
    fillers = np.array([words.grammar[f"W{number}"] for number in range(N_FILLERS)])
    subject, relation, value = words.of_facts(facts)
    parts = [("SS", subject), ("RR", relation)]
    columns: list[Integers | int] = [EOS]
    answer = 0
    for marker, word in (*(parts if subject_first else parts[::-1]), ("OO", value)):
        drawn = fillers[rng.integers(len(fillers), size=(n, _MOST_FILLERS))]
        # At least one, and another one with probability .4 each time, up to five.
        counts = 1 + np.cumprod(rng.random((n, _MOST_FILLERS - 1)) < _MORE_FILLERS, axis=1).sum(axis=1)
        if validation:
            counts[:] = _VALIDATION_FILLERS
        columns += [np.where(counts > place, drawn[:, place], ABSENT) for place in range(_MOST_FILLERS)]
        columns.append(RESERVED.index(marker))
        answer = len(columns)
        columns += [word[:, 0], word[:, 1]]
    columns.append(RESERVED.index("."))
    return _stacked(columns, n), answer


def _stacked(columns: list[Integers | int], n: int) -> NDArray[np.int32]:
    places = np.empty((n, len(columns)), dtype=np.int32)
    for number, column in enumerate(columns):
        places[:, number] = column
    return places
