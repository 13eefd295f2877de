"""Sentences that say what a run found: computed from it, shown as prose, and kept with the record.

A chapter writes no number that its run gave. What a figure shows is said by `finding`, below it; what the whole run gave by
`what_we_found`, which pages show at their top, and what to take away by `takeaways`. Each carries its sentences as JSON under a
MIME type of its own.
"""

import html
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

FINDING_MIME = "application/vnd.effnotes.finding+json"
"""MIME type under which an executed notebook keeps what was found."""

Place: TypeAlias = Literal["figure", "page", "takeaways"]


class Finding(NamedTuple):
    """Sentences and where they belong; shows itself as prose."""

    place: Place
    sentences: tuple[str, ...]  # plain text
    claims: tuple[str, ...] = ()  # for a page: the id of the claim that each sentence is about, "" for none
    figure: str = ""  # name of the figure, or "" for a table

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return {"place": self.place, "sentences": list(self.sentences), "claims": list(self.claims), "figure": self.figure}

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002
        said = [html.escape(sentence) for sentence in self.sentences]
        shown = f"<ul>{''.join(f'<li>{each}</li>' for each in said)}</ul>"
        if self.place == "figure":
            shown = f"<p><strong>{' '.join(said)}</strong></p>"
        shown = f'<div class="effnotes-finding effnotes-finding--{self.place}">{shown}</div>'
        return {"text/plain": str(self), "text/html": shown, FINDING_MIME: self.to_json()}


def finding(sentence: str, *, figure: str = "") -> Finding:
    """Say in a sentence what a figure or a table shows; to be the last value of the cell behind it.

    Args:
        sentence: Plain text, computed from the run.
        figure: Name of the figure, whose alternative text the sentence ends; "" for a table.

    Raises:
        ValueError: There is no sentence.
    """
    return Finding("figure", _said([sentence]), figure=figure)


def what_we_found(*found: tuple[str, str]) -> Finding:
    """Say what the run gave, for the top of the chapter's page; a run says it once.

    Args:
        found: Three to five pairs: a sentence, plain text computed from the run, and the id of the claim that it is about, whose
            verdict the page adds; "" for none.

    Raises:
        ValueError: A sentence is empty.
    """
    return Finding("page", _said(sentence for sentence, _ in found), tuple(claim for _, claim in found))


def takeaways(*sentences: str) -> Finding:
    """Say what to take away, each sentence with the number that it rests on.

    Raises:
        ValueError: A sentence is empty.
    """
    return Finding("takeaways", _said(sentences))


def _said(sentences: Iterable[str]) -> tuple[str, ...]:
    found = tuple(sentence.strip() for sentence in sentences)
    if not found or not all(found):
        raise ValueError(f"sentences={found}: each must say something")
    return found
