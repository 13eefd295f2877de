"""Sphinx extension of the book: the scoreboard, the table of runs, and notes where a chapter was not run.

The directives read ``_data/build.json`` beside the page, which `effnotes build` writes when it stages the
book. Where that file does not exist, Sphinx was started by hand on the sources, and a note says which command
runs the chapters.
"""

import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_output
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

from effnotes.reporting.claims import format_number, interval_text, units_text
from effnotes.reporting.escaping import myst_text
from effnotes.reporting.kept import format_duration, format_memory
from effnotes.runner.project import Chapter

_VERDICTS = ("shown", "contradicted", "not settled")
_NOT_MEASURED = "not measured"
_NONE = "–"
_Content = str | list[nodes.Node]  # of a cell


class header_cell(nodes.entry):  # type: ignore[misc]  # docutils has no types
    """A table cell that heads a row or a column; ``scope`` is ``"row"`` or ``"col"``."""


def _visit_header_cell(translator: HTML5Translator, node: header_cell) -> None:
    start = len(translator.body)
    translator.visit_entry(node)
    translator.body[start] = translator.body[start].replace("<th", f'<th scope="{node["scope"]}"', 1)


def _visit_citation(translator: HTML5Translator, node: nodes.citation) -> None:
    # docutils gives an entry the deprecated role doc-biblioentry, which is not allowed as an item of its own list.
    start = len(translator.body)
    HTML5Translator.visit_citation(translator, node)
    translator.body[start:] = [text.replace('role="doc-biblioentry"', 'role="listitem"') for text in translator.body[start:]]


def _read_build(env: BuildEnvironment) -> dict[str, Any] | None:
    """Return the content of ``_data/build.json`` beside the page that is read, or None where no build wrote one."""
    path = Path(env.doc2path(env.docname)).parent / "_data" / "build.json"
    env.note_dependency(str(path))
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


class _BuildDirective(SphinxDirective):
    """A directive that shows something of the build that made the page."""

    def page_of(self, chapter: dict[str, Any]) -> str:
        """Return the address of a chapter's page, seen from this page."""
        return f"{posixpath.relpath(chapter['page'], posixpath.dirname(self.env.docname))}.html"

    def table(
        self, name: str, caption: str, header: Sequence[str], rows: Iterable[Sequence[_Content]], widths: Sequence[int]
    ) -> nodes.Node:
        """Return a captioned table, the first cell of each row heading it.

        A container of its own lets a wide table scroll on a narrow screen.
        """
        columns = [nodes.colspec(colwidth=width, stub=int(i == 0)) for i, width in enumerate(widths)]
        head = nodes.row("", *(header_cell("", nodes.paragraph("", text), scope="col") for text in header))
        body = nodes.tbody()
        for row in rows:
            first, *others = ([nodes.paragraph("", cell)] if isinstance(cell, str) else cell for cell in row)
            body += nodes.row("", header_cell("", *first, scope="row"), *(nodes.entry("", *cell) for cell in others))
        group = nodes.tgroup("", *columns, nodes.thead("", head), body, cols=len(header))
        table = nodes.table("", nodes.title(caption, caption), group, classes=["effnotes-table", "colwidths-given"], names=[name])
        self.set_source_info(table)
        self.state.document.note_explicit_target(table)
        return nodes.container("", table, classes=["effnotes-scroll"])


class Scoreboard(_BuildDirective):
    """``{scoreboard}``: every registered claim with its published figure, what was measured, and the verdict."""

    def run(self) -> list[nodes.Node]:
        """Return the count of verdicts and the table, or a note where there is no build."""
        build = _read_build(self.env)
        if build is None:
            return [_not_run_note("The scoreboard is filled in when the chapters are run.")]
        kept = {row["id"]: row for row in build["claims"]["kept"]}
        pages = {chapter["name"]: self.page_of(chapter) for chapter in build["chapters"]}
        caption = f"Registered claims: as published, in this build (profile {build['profile']}) and in the kept record"
        header = ("Claim", "Published", f"This build ({build['profile']})", "Verdict", "Kept record (full)")
        rows = [self.row(row, kept[row["id"]], pages) for row in build["claims"]["record"]]
        return [*_verdict_count(build), self.table("scoreboard-table", caption, header, rows, (26, 24, 18, 16, 16))]

    def row(self, claim: dict[str, Any], kept: dict[str, Any], pages: dict[str, str]) -> list[list[nodes.Node]]:
        """Return the cells of one claim; its name leads to its card where the chapter shows one."""
        name: nodes.Node = nodes.literal("", claim["id"])
        if claim["verdict"] != _NOT_MEASURED:
            anchor = f"claim-{claim['id'].replace('.', '-')}"
            name = nodes.reference("", "", name, refuri=f"{pages[claim['chapter']]}#{anchor}")
        key = re.sub(r"[^\w:.+/-]", "", claim["source"]["key"])  # what a bibliography can have
        source = self.fine_print(f", {claim['source']['where']}", cited=f"{{cite:p}}`{key}`")
        full = self.fine_print("No full run is kept.") if kept["verdict"] == _NOT_MEASURED else _badge(kept["verdict"])
        return [
            [nodes.paragraph("", "", name), nodes.paragraph("", claim["statement"])],
            [nodes.paragraph("", claim["published"] or "no figure given"), source],
            self.measurement(claim),
            [_badge(claim["verdict"]), self.fine_print(claim["reason"])],
            [*self.measurement(kept), full],
        ]

    def measurement(self, claim: dict[str, Any]) -> list[nodes.Node]:
        """Return estimate, interval, unit and number of units, or a dash where nothing was measured."""
        if claim["estimate"] is None:
            return [nodes.paragraph("", _NONE)]
        low, high = bounds = claim["interval"] or (0.0, 0.0)
        value = format_number(claim["estimate"], high - low) + (f" {interval_text(bounds)}" if claim["interval"] else "")
        return [nodes.paragraph("", value, classes=["effnotes-number"]), self.fine_print(f"{claim['unit']}; {units_text(claim)}")]

    def fine_print(self, text: str, cited: str = "") -> nodes.paragraph:
        """Return a paragraph of small text, after the role that cites something."""
        children, messages = self.parse_inline(cited + myst_text(text), lineno=self.lineno)
        return nodes.paragraph("", "", *children, *messages, classes=["effnotes-fine"])


class VerdictCount(_BuildDirective):
    """``{verdict-count}``: one sentence on how many claims were shown, contradicted and left open."""

    def run(self) -> list[nodes.Node]:
        """Return the sentence, or nothing where there is no build."""
        build = _read_build(self.env)
        return [] if build is None else _verdict_count(build)


class RunTable(_BuildDirective):
    """``{run-table}``: which run of each chapter, and of each page drawn from a kept record, these pages show."""

    def run(self) -> list[nodes.Node]:
        """Return the table, or a note where there is no build."""
        build = _read_build(self.env)
        if build is None:
            return [_not_run_note("The table of runs is filled in when the chapters are run.")]
        header = ("Page", "Profile", "Status", "Started (UTC)", "Time", "Peak memory", "Device", "Commit", "Key")
        rows = [self.row(chapter) for chapter in build["chapters"]]
        return [self.table("run-table", "The runs that these pages show", header, rows, (18, 8, 9, 14, 9, 10, 12, 10, 10))]

    def row(self, chapter: dict[str, Any]) -> list[_Content]:
        """Return the cells of one page."""
        name: _Content = [nodes.paragraph("", "", nodes.reference("", chapter["title"], refuri=self.page_of(chapter)))]
        record = chapter["record"]
        if record is None:
            return [name, _NONE, "failed" if chapter["failed"] else "not run", *[[]] * 6]
        commit = record["commit"]
        return [
            name,
            record["profile"],
            record["status"],
            record["started"][:16].replace("T", " "),
            format_duration(record["duration_s"]),
            format_memory(record["peak_memory_bytes"]),
            record["environment"]["device"] or _NONE,
            _NONE if commit is None else commit["revision"][:8] + ("" if commit["clean"] else " + changes"),
            record["key"][:8],
        ]


def _badge(verdict: str) -> nodes.paragraph:
    return nodes.paragraph("", "", _verdict(verdict))


def _verdict(verdict: str) -> nodes.inline:
    return nodes.inline("", verdict, classes=["effnotes-verdict", f"effnotes-verdict--{verdict.replace(' ', '-')}"])


def _verdict_count(build: dict[str, Any]) -> list[nodes.Node]:
    counts = Counter(row["verdict"] for row in build["claims"]["record"])
    noun = "claim is" if counts.total() == 1 else "claims are"
    before = f"{counts.total()} published {noun} registered; in this build (profile {build['profile']}): "
    paragraph = nodes.paragraph()
    for verdict in (*_VERDICTS, _NOT_MEASURED) if counts[_NOT_MEASURED] else _VERDICTS:
        paragraph += [nodes.Text(f"{before}{counts[verdict]} "), _verdict(verdict)]
        before = ", "
    paragraph += nodes.Text(".")
    return [paragraph]


def _not_run_note(text: str) -> nodes.Admonition:
    how = "type `make book`, or `effnotes build` where the package is installed, and open `_build/html/index.html`"
    parts = enumerate(f"{text} Nothing was run for this page: {how}.".split("`"))
    inline = [nodes.literal("", part) if number % 2 else nodes.Text(part) for number, part in parts]
    return nodes.note("", nodes.paragraph("", "", *inline), classes=["effnotes-not-run"])


def read_chapter(text: str) -> NotebookNode:
    """Read a chapter's source (py:percent) as a notebook without outputs.

    A cell that would draw a numbered figure gets a line of text in its place, so that the figures keep their
    numbers and captions and the references to them lead somewhere.
    """
    notebook: NotebookNode = Chapter("", "", text).notebook()
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "figure" in cell.metadata.get("mystnb", {}):
            cell.outputs = [new_output("display_data", data={"text/markdown": "*The figure is drawn when the page is run.*"})]
    return notebook


def _digest_static_files(app: Sphinx, config: Config) -> None:
    """Make the configuration depend on the book's own style sheet and images.

    Sphinx copies them only while it renders pages, and would leave an old style sheet where nothing else changed.
    """
    found = (path for folder in config.html_static_path for path in sorted((Path(app.confdir) / folder).rglob("*")))
    content = b"".join(path.read_bytes() for path in found if path.is_file())
    config.effnotes_static_digest = hashlib.sha256(content).hexdigest()


def _drop_relative_url(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """Take out Open Graph's address of the page, which has to be absolute, while the site has no address."""
    if not app.config.ogp_site_url and "metatags" in context:
        context["metatags"] = re.sub(r'<meta property="og:url"[^>]*>\n?', "", context["metatags"])


def _name_toggles(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """Name the arrows of the sidebar that unfold the pages below a chapter: the theme gives those who cannot see them none."""
    if (generate := context.get("generate_toctree_html")) is None:
        return

    def with_names(kind: str, *arguments: Any, **options: Any) -> Any:
        navigation = generate(kind, *arguments, **options)
        labelled = str(navigation).replace("<summary>", '<summary aria-label="Pages of this chapter">')
        return navigation if kind == "raw" else labelled

    context["generate_toctree_html"] = with_names


def _note_chapter_without_outputs(app: Sphinx, document: nodes.document) -> None:
    """Say below the title of a chapter that is shown from its source that it has no outputs, and what failed where it did."""
    source = Path(app.env.doc2path(app.env.docname))
    title = next(iter(document.findall(nodes.title)), None)
    if source.suffix != ".py" or title is None:
        return
    chapters = (_read_build(app.env) or {"chapters": []})["chapters"]
    failed = next((chapter["failed"] for chapter in chapters if chapter["name"] == source.stem), None)
    note = _not_run_note("This is the source of the page, without outputs.")
    if failed:
        told = nodes.literal_block(failed["error"], failed["error"], language="text")
        what = nodes.paragraph("", f"{failed['where']} What follows is the source of the page, without outputs.")
        note = nodes.admonition("", nodes.title("", "This page could not be made"), what, told, classes=["danger"])
    title.parent.insert(title.parent.index(title) + 1, note)


def _identify_exercise_content(_app: Sphinx, document: nodes.document) -> None:
    """Give the content of each exercise and solution an identifier of its own: sphinx-exercise repeats the same two."""
    for section in document.findall(nodes.section):
        if section["ids"] in (["exercise-content"], ["solution-content"]):
            section["ids"] = [nodes.make_id(f"{section.parent['ids'][0]}-content")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives and events with Sphinx."""
    app.add_node(header_cell, html=(_visit_header_cell, HTML5Translator.depart_entry))
    app.add_node(nodes.citation, override=True, html=(_visit_citation, HTML5Translator.depart_citation))
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("verdict-count", VerdictCount)
    app.add_directive("run-table", RunTable)
    app.add_config_value("effnotes_static_digest", "", "html", types=(str,))
    app.connect("config-inited", _digest_static_files)
    app.connect("doctree-read", _note_chapter_without_outputs)
    app.connect("doctree-read", _identify_exercise_content)
    app.connect("html-page-context", _drop_relative_url, priority=900)
    app.connect("html-page-context", _name_toggles, priority=900)
    # Sphinx keeps pages that it has read: those that another version of this file has read are read again.
    env_version = int.from_bytes(hashlib.sha256(Path(__file__).read_bytes()).digest()[:4])
    return {"env_version": env_version, "parallel_read_safe": True, "parallel_write_safe": True}
