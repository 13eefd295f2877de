"""Sphinx extension of the book: its directives, notes where a chapter was not run, and what the theme leaves out.

Where no build has written ``_data/build.json``, Sphinx was started by hand on the sources, and notes say which command runs the
chapters. The modules ``sphinx_*.py`` beside this one hold the directives.
"""

import hashlib
import posixpath
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_output
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

from effnotes.runner import sphinx_directives as shared
from effnotes.runner.project import Chapter
from effnotes.runner.sphinx_ledger import Ledger, LedgerCount
from effnotes.runner.sphinx_math import visit_display, visit_inline
from effnotes.runner.sphinx_scoreboard import Scoreboard, draw_preview
from effnotes.runner.sphinx_site import collect_pages, find_date, finish_site, offer_launches, point_launches, say_version

_PREVIEW = "_images/preview.png"


def _visit_header_cell(translator: HTML5Translator, node: shared.header_cell) -> None:
    start = len(translator.body)
    translator.visit_entry(node)
    translator.body[start] = translator.body[start].replace("<th", f'<th scope="{node["scope"]}"', 1)


def _visit_citation(translator: HTML5Translator, node: nodes.citation) -> None:
    # docutils gives an entry the deprecated role doc-biblioentry, which is not allowed as an item of its own list.
    start = len(translator.body)
    HTML5Translator.visit_citation(translator, node)
    translator.body[start:] = [text.replace('role="doc-biblioentry"', 'role="listitem"') for text in translator.body[start:]]


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
    config.effnotes_static_digest = hashlib.sha256(b"".join(path.read_bytes() for path in found if path.is_file())).hexdigest()


def _mend_open_graph(app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """While the site has no address, take out that of the page, which has to be absolute, and give its picture a relative one."""
    if not app.config.ogp_site_url and "metatags" in context:
        tags = re.sub(r'<meta property="og:url"[^>]*>\n?', "", context["metatags"])
        picture = posixpath.relpath(_PREVIEW, posixpath.dirname(page))
        context["metatags"] = tags.replace(f'content="{_PREVIEW}"', f'content="{picture}"')


def _write_preview(app: Sphinx, exception: Exception | None) -> None:
    """Draw the picture that links to the pages are shown with."""
    if exception is None and app.builder.name == "html":
        root = app.config.root_doc
        path = Path(app.outdir) / _PREVIEW
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(draw_preview(app.env.titles[root].astext(), shared.read_build(app.env, root)))


def _name_toggles(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """Name the arrows of the sidebar that unfold the pages below a chapter: the theme gives those who cannot see them none."""
    if (generate := context.get("generate_toctree_html")) is None:
        return

    def with_names(kind: str, *arguments: Any, **options: Any) -> Any:
        navigation = generate(kind, *arguments, **options)
        return navigation if kind == "raw" else str(navigation).replace("<summary>", '<summary aria-label="Pages of this chapter">')

    context["generate_toctree_html"] = with_names


def _note_chapter_without_outputs(app: Sphinx, document: nodes.document) -> None:
    """Say below the title of a chapter that is shown from its source that it has no outputs, and what failed where it did."""
    source = Path(app.env.doc2path(app.env.docname))
    title = next(iter(document.findall(nodes.title)), None)
    if source.suffix != ".py" or title is None:
        return
    chapters = (shared.read_build(app.env) or {"chapters": []})["chapters"]
    failed = next((chapter["failed"] for chapter in chapters if chapter["name"] == source.stem), None)
    note = shared.not_run_note("This is the source of the page, without outputs.")
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
    app.add_node(shared.header_cell, html=(_visit_header_cell, HTML5Translator.depart_entry))
    app.add_node(nodes.citation, override=True, html=(_visit_citation, HTML5Translator.depart_citation))
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("ledger", Ledger)
    app.add_directive("ledger-count", LedgerCount)
    app.add_directive("verdict-count", shared.VerdictCount)
    app.add_directive("run-table", shared.RunTable)
    app.add_directive("what-we-found", shared.WhatWeFound)
    app.add_directive("chapter-figure", shared.ChapterFigure)
    app.add_directive("book-bibtex", shared.BookBibTeX)
    app.add_config_value("effnotes_redirects", {}, "html", types=(dict,))
    app.add_config_value("effnotes_date", "", "html", types=(str,))
    app.add_config_value("effnotes_static_digest", "", "html", types=(str,))
    app.connect("config-inited", _digest_static_files)
    app.connect("config-inited", find_date)
    app.connect("config-inited", offer_launches)
    app.connect("doctree-read", _note_chapter_without_outputs)
    app.connect("doctree-read", _identify_exercise_content)
    app.connect("html-page-context", _mend_open_graph, priority=900)
    app.connect("html-page-context", _name_toggles, priority=900)
    app.connect("html-page-context", point_launches, priority=900)
    app.connect("html-page-context", say_version)
    app.connect("html-collect-pages", collect_pages)
    app.connect("build-finished", finish_site)
    app.connect("build-finished", _write_preview)
    # Sphinx keeps pages that it has read: those that another version of these files has read are read again.
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("sphinx_*.py")))
    env_version = int.from_bytes(hashlib.sha256(code).digest()[:4])
    return {"env_version": env_version, "parallel_read_safe": True, "parallel_write_safe": True}
