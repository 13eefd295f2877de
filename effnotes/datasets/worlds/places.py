"""Where in a sentence its subject, its relation and its answer are."""

from __future__ import annotations

from typing import Literal, TypeAlias

from effnotes.datasets.worlds.graph import Integers
from effnotes.datasets.worlds.sentences import Sentences
from effnotes.datasets.worlds.words import ABSENT, RR, SS, Words

Place: TypeAlias = Literal["subject", "relation", "last"]


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
    n_tokens = (words.of_facts(asked.facts)[word] != ABSENT).sum(axis=1)
    columns: Integers = (asked.tokens == marker).argmax(axis=1) + n_tokens
    return columns
