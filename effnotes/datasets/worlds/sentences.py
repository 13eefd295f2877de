"""Sentences: the forms in which a fact can be written, and many facts turned into rows of tokens at once.

Forms, with s, r, o for the words of subject, relation and object, w for grammar words, and EOS at the beginning of each row (in
text files: at the end of each sentence), after Behemoth (arXiv 2601.23153, `phrase_creation_utils.py`):

    sro                SS s w0 w1 RR r w2 OO o .                    statements; the default
    rso                w9 RR r w7 SS s w5 OO o .
    sor                SS s w0 OO o w3 w4 RR r .                    the object is not last: no prompt for it
    osr                OO o w5 SS s w8 RR r .
    repeats            1-3 markers before and 0-3 after each of SS s, RR r, OO o: 12^3 = 1,728 surface forms
    nonsense_sro       1-5 random fillers before each of SS s, RR r, OO o
    nonsense_rso       the same, with the relation first
    question           QQ a1 RR r a2 SS s a3 a4 AA OO o .
    new_question       QQ b1 RR r b2 SS s b3 AA OO o .              a form that no world is written in
    refusal            SS s w0 w1 RR r w2 OO OO OO .                the prompt of sro, answered with OO OO
    question_refusal   QQ a1 RR r a2 SS s a3 a4 AA OO OO OO .       the prompt of question, answered with OO OO OO
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnotes.core.errors import nearest
from effnotes.datasets.worlds.graph import Facts, Integers
from effnotes.datasets.worlds.words import ABSENT, EOS, N_FILLERS, PAD, RESERVED, Words

# Capitals are reserved tokens, S, R and O the words of the fact, the others grammar words. The answer begins where the bar is;
# "repeats" and "nonsense" are put together elsewhere.
PATTERNS = {
    "sro": "SS S W0 W1 RR R W2 OO | O .",
    "rso": "W9 RR R W7 SS S W5 OO | O .",
    "sor": "SS S W0 OO | O W3 W4 RR R .",
    "osr": "OO | O W5 SS S W8 RR R .",
    "repeats": "",
    "nonsense_sro": "",
    "nonsense_rso": "",
    "question": "QQ WQ1 RR R WQ2 SS S WQ3 WQ4 AA OO | O .",
    "new_question": "QQ FTWQ1 RR R FTWQ2 SS S FTWQ3 AA OO | O .",
    "refusal": "SS S W0 W1 RR R W2 OO | OO OO .",
    "question_refusal": "QQ WQ1 RR R WQ2 SS S WQ3 WQ4 AA | OO OO OO .",
}
FORMS = tuple(PATTERNS)
"""All forms; a sentence carries its form as the position in this tuple."""
STATEMENTS = FORMS[:7]
"""Forms in which a world can be written."""
REFUSALS = ("refusal", "question_refusal")
FIXED_FORMS = tuple(form for form, pattern in PATTERNS.items() if pattern)
"""Forms in which a fact is always written alike: nothing in them is random."""

_MOST_FILLERS, _MORE_FILLERS = 5, 0.4
_VALIDATION_FILLERS = 2


def form_code(form: str) -> int:
    """Return the position of a form in `FORMS`.

    Raises:
        ValueError: There is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"there is no form {form!r}.{nearest(form, FORMS)} The forms are: {', '.join(FORMS)}.")
    return FORMS.index(form)


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

    def take(self, rows: Integers | NDArray[np.bool_] | slice) -> Sentences:
        """Return the sentences at the given positions, or where a mask is true; the padding stays."""
        return Sentences(
            self.tokens[rows],
            self.length[rows],
            self.answer[rows],
            self.answer_length[rows],
            self.facts.take(rows),
            self.form[rows],
        )


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
