"""The scoreboard: counts, a picture of every claim's interval, and a table to filter; and the preview of the site."""

import html
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from docutils import nodes
from matplotlib.figure import Figure

from effnotes.reporting.claims import format_number, interval_text, units_text
from effnotes.reporting.claims.figure import VERDICT_COLOURS, describe_distances, draw_distances, figure_bytes
from effnotes.runner import sphinx_directives as shared

_KINDS = {"table": "a number in a table or a figure", "text": "a sentence of the text"}
_KINDS |= {"code": "published code", "addition": "an addition of this book"}
# The look of the figures, of which seaborn would take two seconds to set it for this one.
_PREVIEW_STYLE: Any = {"text.color": ".15", "patch.force_edgecolor": True, "patch.edgecolor": "white", "legend.frameon": False}
_PREVIEW_STYLE |= {"font.family": "DejaVu Sans", "figure.constrained_layout.use": True}
_Rows = Sequence[Mapping[str, Any]]


class Scoreboard(shared.BuildDirective):
    """``{scoreboard}``: every registered claim as published, as the kept runs and as this build measured it."""

    def run(self) -> list[nodes.Node]:
        """Return counts, the picture, the filter and the table, or a note where there is no build."""
        build = shared.read_build(self.env)
        if build is None:
            return [shared.not_run_note("The scoreboard is filled in when the chapters are run.")]
        claiming = {row["chapter"] for row in build["claims"]["record"]}
        chapters = {chapter["name"]: chapter for chapter in build["chapters"] if chapter["name"] in claiming}
        titles = {name: chapter["title"] for name, chapter in chapters.items()}
        runs = {"larger run (full)": build["claims"]["kept"], f"this build ({build['profile']})": build["claims"]["record"]}
        runs = {name: rows for name, rows in runs.items() if any(row["verdict"] != shared.NOT_MEASURED for row in rows)}
        shown = [*shared.verdict_count(build), *(nodes.paragraph("", wrong_text(name, rows)) for name, rows in runs.items())]
        if not runs:
            return shown
        by_chapter = {title: lambda row, name=name: row["chapter"] == name for name, title in titles.items()}
        by_kind = {text: lambda row, kind=kind: row["source"]["kind"] == kind for kind, text in _KINDS.items()}
        picture = self.drawing("claims.svg", figure_bytes(draw_distances(runs, titles)), describe_distances(runs))
        caption = (
            "How far each claim's 95% interval lies from the bar that it is held against, in units of its margin; where that is 0,"
            " of the effect worth seeing. Whatever a claim says, it holds right of zero: an interval wholly to the right shows it,"
            " one wholly to the left contradicts it, and one across zero settles nothing. The scale is even from −1 to 1 and"
            " logarithmic beyond."
        )
        return [
            *shown,
            self.figure(picture, self.inline(caption), "fig-claims"),
            self.counts(
                "verdicts-by-chapter", "Verdicts by chapter", "Chapter", by_chapter | {"all chapters": lambda _: True}, runs
            ),
            self.counts("verdicts-by-source", "Verdicts by what the claim rests on", "Published as", by_kind, runs),
            nodes.container("", _filter(titles), self.claims(build, chapters), classes=["effnotes-board"]),
        ]

    def counts(
        self, name: str, caption: str, head: str, groups: Mapping[str, Callable[[Any], bool]], runs: Mapping[str, _Rows]
    ) -> nodes.Node:
        """Return a table of verdicts, a row for each group of claims and run."""
        measured = all(row["verdict"] != shared.NOT_MEASURED for rows in runs.values() for row in rows)
        words = shared.VERDICTS if measured else (*shared.VERDICTS, shared.NOT_MEASURED)
        rows: list[list[shared.Content]] = []
        for group, belongs in groups.items():
            for run, claims in runs.items():
                counted = Counter(row["verdict"] for row in claims if belongs(row))
                rows.append([[nodes.paragraph("", f"{group}, {run}")], *(str(counted[word]) for word in words)])
        table = self.table(name, caption, (head, *words), rows, (48, 14, 20, 18, 18)[: 1 + len(words)])
        table["classes"].append("effnotes-counts")
        return table

    def claims(self, build: dict[str, Any], chapters: Mapping[str, dict[str, Any]]) -> nodes.Node:
        """Return the table of all claims."""
        kept = {row["id"]: row for row in build["claims"]["kept"]}
        header = ("Claim", "Larger run (full)", f"This build ({build['profile']})", "Would have settled", "What to know")
        places = list(chapters)
        rows, marks = [], []
        for row in build["claims"]["record"]:
            other = kept[row["id"]]
            rows.append(self.row(row, other, self.page_of(chapters[row["chapter"]])))
            words = {word.replace(" ", "-") for word in (row["verdict"], other["verdict"])}
            words |= {"disputed"} if shared.disagree(other, row) else set()
            marks.append([f"effnotes-in-{1 + places.index(row['chapter'])}", *sorted(f"effnotes-is-{word}" for word in words)])
        caption = "Registered claims: as published, as measured in the larger run, and in this build"
        return self.table("scoreboard-table", caption, header, rows, (30, 19, 19, 12, 20), marks)

    def row(self, claim: dict[str, Any], kept: dict[str, Any], page: str) -> list[shared.Content]:
        """Return the cells of one claim; its name leads to its card where the chapter shows one."""
        name: nodes.Node = nodes.literal("", claim["id"])
        if claim["verdict"] != shared.NOT_MEASURED:
            name = nodes.reference("", "", name, refuri=f"{page}#{shared.card_anchor(claim['id'])}")
        key = re.sub(r"[^\w:.+/-]", "", claim["source"]["key"])  # what a bibliography can have
        source = self.fine_print(f", {claim['source']['where']} ({_KINDS[claim['source']['kind']]})", cited=f"{{cite:p}}`{key}`")
        published = self.fine_print(f"Published: {claim['published'] or 'no figure given'}")
        runs = {"larger run": kept, "this build": claim}
        why, settled = shared.disagree(kept, claim), list[nodes.Node]()
        notes: list[nodes.Node] = [nodes.paragraph("", "", shared.flag(), nodes.Text(f": {why}"))] if why else []
        for run, row in runs.items():
            least = row["smallest_effect"]
            settled.append(self.fine_print(f"{run}: {shared.NONE if least is None else format_number(least)}"))
            if row["verdict"] == "not settled":
                notes.append(self.fine_print(f"{run}: {_why_unsettled(row)}"))
            if row["verdict"] == shared.NOT_MEASURED:
                notes.append(self.fine_print(f"{run}: {row['reason']}"))
            if row["caution"]:
                notes.append(self.fine_print(f"but, {run}: {row['caution']}"))
        return [
            [nodes.paragraph("", "", name), nodes.paragraph("", claim["statement"]), published, source],
            [_label("Larger run"), *self.measurement(kept)],
            [_label("This build"), *self.measurement(claim)],
            [_label("Would have settled"), *settled],
            [_label("What to know"), *notes] if notes else [],
        ]

    def measurement(self, claim: dict[str, Any]) -> list[nodes.Node]:
        """Return verdict, estimate, interval, unit and number of units."""
        badge = nodes.paragraph("", "", shared.verdict(claim["verdict"]))
        if claim["estimate"] is None:
            return [badge]
        low, high = bounds = claim["interval"] or (0.0, 0.0)
        value = format_number(claim["estimate"], high - low) + (f" {interval_text(bounds)}" if claim["interval"] else "")
        number = nodes.paragraph("", value, classes=["effnotes-number"])
        return [badge, number, self.fine_print(f"{claim['unit']}; {units_text(claim)}")]


def wrong_text(run: str, rows: _Rows) -> str:
    """Say how many claims of a run would be shown wrongly at most, on average, by a rule that is wrong in 2.5% of repetitions."""
    judged = sum(row["interval"] is not None for row in rows)
    return (
        f"Wrong verdicts of “shown” to expect, {run}: at most {format_number(0.025 * judged)} on average,"
        f" 2.5% of the {judged} claims with an interval; so many only if every truth lay just at its bar."
        " Nothing corrects for the number of claims."
    )


def draw_preview(title: str, build: dict[str, Any] | None) -> bytes:
    """Draw the picture that a link to the book is shown with: its question and the verdicts, of the larger runs if there are any.

    Returns:
        A PNG of 1200 by 630 pixels.
    """
    with plt.rc_context(_PREVIEW_STYLE):
        return figure_bytes(_preview(title, build), "png")


def _preview(title: str, build: dict[str, Any] | None) -> Figure:
    figure, ax = plt.subplots(figsize=(12, 6.3))
    figure.suptitle(title, fontsize=34, x=0.05, ha="left", fontweight="bold")
    runs = build["claims"] if build else {"kept": [], "record": []}
    measured = {which: [row for row in runs[which] if row["verdict"] != shared.NOT_MEASURED] for which in ("kept", "record")}
    which = "kept" if measured["kept"] else "record"
    titles = [(c["name"], c["title"]) for c in (build or {"chapters": []})["chapters"]]
    names = {name: shown for name, shown in titles if any(row["chapter"] == name for row in measured[which])}
    for height, name in enumerate(names):
        counts, left = Counter(row["verdict"] for row in measured[which] if row["chapter"] == name), 0
        for word in shared.VERDICTS:
            ax.barh(height, counts[word], left=left, height=0.42, color=VERDICT_COLOURS[word], label=word if height == 0 else None)
            if counts[word]:
                ax.text(left + counts[word] / 2, height, str(counts[word]), ha="center", va="center", color="white", fontsize=26)
            left += counts[word]
        ax.text(0, height - 0.28, names[name], fontsize=23, va="bottom")
    ax.axis("off")
    if names:
        ax.set_ylim(len(names) - 0.6, -0.7)
        figure.legend(loc="outside lower left", ncols=3, fontsize=22)
    return figure


def _why_unsettled(claim: Mapping[str, Any]) -> str:
    """Say which of two things "not settled" means, and how many units would do."""
    needed, close = claim["units_needed"], claim["unsettled"] == "too close to the margin"
    what = "an effect as far from it" if close else "an effect worth settling"
    return f"{claim['unsettled']}{f'; {needed} units would settle {what}' if needed else ''}"


def _label(text: str) -> nodes.paragraph:
    """Return a head that stands in the cell where a narrow screen has no room for columns."""
    return nodes.paragraph("", text, classes=["effnotes-label"])


def _filter(titles: Mapping[str, str]) -> nodes.raw:
    """Return the buttons that choose rows by style alone, see effnotes.css; where those do not work, all rows are there."""
    verdicts = {"all": "all", **{word.replace(" ", "-"): word for word in shared.VERDICTS}, "disputed": "the two runs disagree"}
    places = {"all": "all", **{str(number): title for number, title in enumerate(titles.values(), start=1)}}
    groups = {"is": ("Verdict in either run", verdicts), "in": ("Chapter", places)}
    sets = ""
    for group, (legend, choices) in groups.items():
        buttons = "".join(
            f'<label><input type="radio" name="board-{group}" id="board-{group}-{value}" autocomplete="off"'
            f"{' checked' if value == 'all' else ''}> {html.escape(text)}</label>"
            for value, text in choices.items()
        )
        sets += f"<fieldset><legend>{legend}</legend>{buttons}</fieldset>"
    return nodes.raw("", f'<div class="effnotes-filter">{sets}</div>', format="html")
