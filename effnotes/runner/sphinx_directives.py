"""Directives that show what a build knows: what was found, a chapter's figure, verdicts by number, and the runs of the pages.

They read ``_data/build.json`` beside the page, which `effnotes build` writes when it stages the book.
"""

import base64
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from effnotes.reporting.claims import disagreement
from effnotes.reporting.escaping import myst_text
from effnotes.reporting.kept import format_duration, format_memory, run_text

VERDICTS = ("shown", "contradicted", "not settled")
NOT_MEASURED = "not measured"
NONE = "–"
Content = str | list[nodes.Node]  # of a cell


class header_cell(nodes.entry):  # type: ignore[misc]  # docutils has no types
    """A table cell that heads a row or a column; ``scope`` is ``"row"`` or ``"col"``."""


def read_build(env: BuildEnvironment, docname: str | None = None) -> dict[str, Any] | None:
    """Return the content of ``_data/build.json`` beside a page, or None where no build wrote one.

    Args:
        env: of Sphinx.
        docname: of the page; None for the one that is read now, which is read again when the file has changed.
    """
    path = Path(env.doc2path(docname or env.docname)).parent / "_data" / "build.json"
    if docname is None:
        env.note_dependency(str(path))
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


class BuildDirective(SphinxDirective):
    """A directive that shows something of the build that made the page."""

    def chapter(self, build: dict[str, Any], name: str | None) -> dict[str, Any]:
        """Return what the build says of the chapter called `name`, or of the one whose page this is."""
        for chapter in build["chapters"]:
            if chapter["name"] == name or (name is None and chapter["page"] == self.env.docname):
                return dict(chapter)
        raise self.error(f"there is no chapter {name or self.env.docname!r}")

    def page_of(self, chapter: dict[str, Any]) -> str:
        """Return the address of a chapter's page, seen from this page."""
        return f"{posixpath.relpath(chapter['page'], posixpath.dirname(self.env.docname))}.html"

    def inline(self, text: str, *, plain: bool = True) -> list[nodes.Node]:
        """Return text, or MyST where it is not plain, as the nodes of a paragraph."""
        children, messages = self.parse_inline(myst_text(text) if plain else text, lineno=self.lineno)
        return [*children, *messages]

    def fine_print(self, text: str, cited: str = "") -> nodes.paragraph:
        """Return a paragraph of small text, after the role that cites something."""
        return nodes.paragraph("", "", *self.inline(cited + myst_text(text), plain=False), classes=["effnotes-fine"])

    def drawing(self, name: str, content: bytes, alt: str) -> nodes.image:
        """Return a picture, written where Sphinx finds it and outside of what is staged."""
        path = Path(self.env.doctreedir).parent / "drawn" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        here = Path(self.env.doc2path(self.env.docname)).parent
        return nodes.image("", uri=Path(os.path.relpath(path, here)).as_posix(), alt=alt)

    def figure(self, picture: nodes.image, caption: Sequence[nodes.Node], name: str) -> nodes.figure:
        """Return a picture with its caption, which other pages can refer to by a name."""
        figure = nodes.figure("", picture, nodes.caption("", "", *caption), names=[name])
        self.set_source_info(figure)
        self.state.document.note_explicit_target(figure)
        return figure

    def table(
        self,
        name: str,
        caption: str,
        header: Sequence[str],
        rows: Iterable[Sequence[Content]],
        widths: Sequence[int],
        marks: Iterable[Sequence[str]] = (),
    ) -> nodes.Node:
        """Return a captioned table, the first cell of each row heading it, and each row with the classes in `marks`.

        A container of its own lets a wide table scroll on a narrow screen.
        """
        columns = [nodes.colspec(colwidth=width, stub=int(i == 0)) for i, width in enumerate(widths)]
        head = nodes.row("", *(header_cell("", nodes.paragraph("", text), scope="col") for text in header))
        body = nodes.tbody()
        for row in rows:
            first, *others = ([nodes.paragraph("", cell)] if isinstance(cell, str) else cell for cell in row)
            body += nodes.row("", header_cell("", *first, scope="row"), *(nodes.entry("", *cell) for cell in others))
        for row, classes in zip(body, marks, strict=False):
            row["classes"] += classes
        group = nodes.tgroup("", *columns, nodes.thead("", head), body, cols=len(header))
        table = nodes.table("", nodes.title(caption, caption), group, classes=["effnotes-table", "colwidths-given"], names=[name])
        self.set_source_info(table)
        self.state.document.note_explicit_target(table)
        return nodes.container("", table, classes=["effnotes-scroll"])


class WhatWeFound(BuildDirective):
    """``{what-we-found}``: the sentences that the runs of a chapter gave, the larger run's first, each with its verdict.

    The chapter is the one whose page this is, or the one that is named. With ``:first:`` only the first sentence of each run.
    """

    optional_arguments = 1
    option_spec: ClassVar = {"first": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the sentences, or nothing where no run gave any."""
        build = read_build(self.env)
        if build is None:
            return []
        chapter = self.chapter(build, self.arguments[0] if self.arguments else None)
        shown: list[nodes.Node] = []
        for which, where in (("kept", "In the larger run"), ("record", "In this build")):
            record = chapter[which] or {}
            found = [self.sentence(build, chapter, which, **said) for said in record.get("found", ())]
            if found:
                head = nodes.paragraph("", "", nodes.strong("", where), nodes.Text(f" ({run_text(record)})"))
                items = found[:1] if "first" in self.options else found
                listed = nodes.bullet_list("", *(nodes.list_item("", item) for item in items))
                shown += [head, *(items if "first" in self.options else [listed])]
        if not shown:
            return []
        if "first" in self.options:
            return [nodes.container("", *shown, classes=["effnotes-found-first"])]
        return [nodes.admonition("", nodes.title("", "What we found"), *shown, classes=["effnotes-found"])]

    def sentence(self, build: dict[str, Any], chapter: dict[str, Any], which: str, sentence: str, claim: str) -> nodes.paragraph:
        """Return a sentence with the verdict of its claim in that run, and whether the other run disagrees."""
        paragraph = nodes.paragraph("", sentence)
        rows = {run: {row["id"]: row for row in build["claims"][run]}.get(claim) for run in ("kept", "record")}
        if (row := rows[which]) and row["verdict"] != NOT_MEASURED:
            paragraph += [nodes.Text(" "), self.linked_verdict(row, rows["record"], self.page_of(chapter))]
            if disagree(rows["kept"], rows["record"]):
                paragraph += [nodes.Text(" "), flag()]
        return paragraph

    def linked_verdict(self, row: dict[str, Any], built: dict[str, Any] | None, page: str) -> nodes.Node:
        """Return the verdict as a link to the claim's card, where this build's page has it."""
        if built is None or built["verdict"] == NOT_MEASURED:
            return verdict(row["verdict"])
        return nodes.reference("", "", verdict(row["verdict"]), refuri=f"{page}#{card_anchor(row['id'])}")


class ChapterFigure(BuildDirective):
    """``{chapter-figure} CHAPTER FIGURE``: a figure of a chapter as this build has drawn it, with its caption and words.

    ``:name:`` is what this copy of the figure is referred to by.
    """

    required_arguments = 2
    option_spec: ClassVar = {"name": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Return the figure, or a note where the chapter was not run."""
        name, figure = self.arguments
        build = read_build(self.env)
        if build is None:
            return [not_run_note("The figure is drawn when the chapters are run.")]
        chapter = self.chapter(build, name)
        path = Path(self.env.srcdir) / f"{chapter['page']}.ipynb"
        if not path.is_file():
            return [not_run_note(f"The figure comes from the chapter “{chapter['title']}”, which has no finished run.")]
        self.env.note_dependency(str(path))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            shown = cell["metadata"].get("mystnb", {})
            if shown.get("figure", {}).get("name") == figure and (drawn := next(_pictures(cell), None)):
                picture = self.drawing(f"{figure}.{drawn[0]}", drawn[1], shown["image"]["alt"])
                return [self.figure(picture, self.caption(chapter, shown["figure"]["caption"], figure), self.options["name"])]
        raise self.error(f"the chapter {name!r} has no figure {figure!r} with a picture")

    def caption(self, chapter: dict[str, Any], text: str, figure: str) -> list[nodes.Node]:
        """Return the figure's own caption, and where it comes from."""
        link = nodes.reference("", f"“{chapter['title']}”", refuri=f"{self.page_of(chapter)}#{figure}")
        origin = nodes.Text(f", run for this build ({run_text(chapter['record'])}).")
        return [*self.inline(f"{text} From ", plain=False), link, origin]


class VerdictCount(BuildDirective):
    """``{verdict-count}``: how many claims were shown, contradicted and left open, in the larger runs and in this build."""

    def run(self) -> list[nodes.Node]:
        """Return the sentences, or nothing where there is no build."""
        build = read_build(self.env)
        return [] if build is None else verdict_count(build)


class RunTable(BuildDirective):
    """``{run-table}``: which run of each chapter, and of each page drawn from a kept record, these pages show."""

    def run(self) -> list[nodes.Node]:
        """Return the table, or a note where there is no build."""
        build = read_build(self.env)
        if build is None:
            return [not_run_note("The table of runs is filled in when the chapters are run.")]
        header = ("Page", "Profile", "Status", "Started (UTC)", "Time", "Peak memory", "Device", "Commit", "Key")
        rows = [self.row(chapter) for chapter in build["chapters"]]
        return [self.table("run-table", "The runs that these pages show", header, rows, (18, 8, 9, 14, 9, 10, 12, 10, 10))]

    def row(self, chapter: dict[str, Any]) -> list[Content]:
        """Return the cells of one page."""
        name: Content = [nodes.paragraph("", "", nodes.reference("", chapter["title"], refuri=self.page_of(chapter)))]
        record = chapter["record"]
        if record is None:
            return [name, NONE, "failed" if chapter["failed"] else "not run", *[[]] * 6]
        commit = record["commit"]
        revision = NONE if commit is None else commit["revision"][:8] + ("" if commit["clean"] else " + changes")
        used = format_duration(record["duration_s"]), format_memory(record["peak_memory_bytes"])
        started, device = record["started"][:16].replace("T", " "), record["environment"]["device"] or NONE
        return [name, record["profile"], record["status"], started, *used, device, revision, record["key"][:8]]


class BookBibTeX(SphinxDirective):
    """Shows ``CITATION.cff`` beside the configuration as entries of BibTeX: the book itself, and what it prefers to be cited as."""

    def run(self) -> list[nodes.Node]:
        """Return a block of code, or nothing where there is no such file."""
        path = Path(self.env.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(path))
        if not path.is_file():
            return []
        book = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = [_bibtex("software", "effnotes", book)]
        if preferred := book.get("preferred-citation"):
            kind = {"thesis": "phdthesis"}.get(preferred["type"], preferred["type"])
            entries.append(_bibtex(kind, f"{preferred['authors'][0]['family-names'].lower()}{preferred['year']}", preferred))
        text = "\n\n".join(entries)
        return [nodes.literal_block(text, text, language="bibtex")]


def _bibtex(kind: str, key: str, work: dict[str, Any]) -> str:
    authors = [
        f"{author['family-names']}, {author['given-names']}" if "family-names" in author else f"{{{author['name']}}}"
        for author in work["authors"]
    ]
    fields = {"author": " and ".join(authors), "title": f"{{{work['title']}}}", "school": work.get("institution", {}).get("name")}
    fields |= {name: work.get(name) for name in ("version", "year", "doi")}
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def card_anchor(claim: str) -> str:
    """Return the anchor of a claim's card on its chapter's page."""
    return f"claim-{claim.replace('.', '-')}"


def disagree(kept: dict[str, Any] | None, record: dict[str, Any] | None) -> str:
    """Say why the verdicts of two runs on a claim differ, in a sentence; "" where they do not, or where there is one alone."""
    return disagreement(record, kept) if kept and record else ""


def flag() -> nodes.inline:
    """Return a mark for claims on which the kept run and this build have different verdicts."""
    return nodes.inline("", "the two runs disagree", classes=["effnotes-flag"])


def verdict(word: str) -> nodes.inline:
    """Return a verdict as a badge."""
    return nodes.inline("", word, classes=["effnotes-verdict", f"effnotes-verdict--{word.replace(' ', '-')}"])


def verdict_count(build: dict[str, Any]) -> list[nodes.Node]:
    """Return a sentence and a list that count verdicts, those of the larger runs first."""
    total = len(build["claims"]["record"])
    items = nodes.bullet_list()
    for which, name in {"kept": "larger runs (profile full)", "record": f"this build (profile {build['profile']})"}.items():
        counts = Counter(row["verdict"] for row in build["claims"][which])
        paragraph = nodes.paragraph()
        before = f"{name}: "
        for word in (*VERDICTS, NOT_MEASURED) if counts[NOT_MEASURED] else VERDICTS:
            paragraph += [nodes.Text(f"{before}{counts[word]}\u00a0"), verdict(word)]
            before = ", "
        if counts[NOT_MEASURED] < total:
            items += nodes.list_item("", paragraph)
    noun = "claim is" if total == 1 else "claims are"
    said = nodes.paragraph("", f"{total} published {noun} registered{', and were judged in:' if len(items) else '.'}")
    return [said, items] if len(items) else [said]


def not_run_note(text: str) -> nodes.Admonition:
    """Return a note that says what is missing where nothing was run, and which command runs it."""
    how = "type `make book`, or `effnotes build` where the package is installed, and open `_build/html/index.html`"
    parts = enumerate(f"{text} Nothing was run for this page: {how}.".split("`"))
    inline = [nodes.literal("", part) if number % 2 else nodes.Text(part) for number, part in parts]
    return nodes.note("", nodes.paragraph("", "", *inline), classes=["effnotes-not-run"])


def _pictures(cell: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield kind and content of each picture that a cell of a notebook has drawn."""
    for output in cell.get("outputs", []):
        data = {kind: "".join(content) for kind, content in output.get("data", {}).items() if kind.startswith("image/")}
        if "image/svg+xml" in data:
            yield "svg", data["image/svg+xml"].encode()
        elif "image/png" in data:
            yield "png", base64.b64decode(data["image/png"])
