"""Slides of a chapter, from its latest finished run: each figure with what it shows, what was found, and one question a slide.

nbconvert makes them; reveal.js, which shows them, and MathJax lie beside them, so that no server elsewhere is needed.
"""

import base64
import html
import importlib.util
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from effnotes.reporting.escaping import myst_text
from effnotes.reporting.findings import FINDING_MIME
from effnotes.runner.errors import UsageError
from effnotes.runner.exercises import Worksheet, standing_alone
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore, StoredRun

# nbconvert's own template loads jQuery, RequireJS, Mermaid, MathJax and reveal.js from servers elsewhere.
_TEMPLATE = """\
{% extends 'index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}
<script>MathJax = {tex: {inlineMath: [['$', '$']], tags: 'none'}};</script>
<script src="reveal/tex-svg.js" defer></script>
{% endblock %}
{% block html_head_css %}
<style>
.reveal {font-size: 26px}
.reveal .slides {text-align: left}
.reveal .slides section img {width: 100%; max-height: 480px; object-fit: contain; object-position: left}
</style>
{% endblock %}
{% block footer_js %}
<script src="reveal/dist/reveal.js"></script>
<script>Reveal.initialize({hash: true, slideNumber: 'c/t', width: 1180, height: 760, transition: 'none', center: false});</script>
{% endblock %}
"""
_PARTS = {"sphinx_revealjs": "_static/revealjs/dist", "sphinx-mathjax-offline": "static/mathjax/tex-svg.js"}


def write_slides(project: Project, sheets: Sequence[Worksheet], folder: Path) -> list[Path]:
    """Write the slides of chapters to a folder that is there, as ``CHAPTER.slides.html``, and what shows them beside it.

    Raises:
        UsageError: a chapter has no finished run, or the packages that make slides are not installed.
    """
    if missing := [name for name in ("nbconvert", *_PARTS) if importlib.util.find_spec(name) is None]:
        raise UsageError(f"slides need {', '.join(missing)}; install what makes them: pip install 'effnotes[slides]'")
    from jinja2 import DictLoader
    from nbconvert import SlidesExporter
    from nbformat.v4 import new_notebook

    store = RecordStore(project.build_dir / "runs")
    runs = {sheet.chapter.name: store.latest(sheet.chapter.name) for sheet in sheets}
    found = {name: run for name, run in runs.items() if run is not None}
    if lacking := [name for name in runs if name not in found]:
        first = "; ".join(f"effnotes run {name}" for name in lacking)
        raise UsageError(f"slides show a finished run, and there is none of {', '.join(lacking)} in {store.root}. First: {first}")
    template: dict[str, Any] = {"extra_loaders": [DictLoader({"offline": _TEMPLATE})], "template_file": "offline"}
    exporter = SlidesExporter(**template, reveal_url_prefix="reveal", reveal_theme="white")
    written = []
    for sheet in sheets:
        title = {"title": sheet.chapter.title}
        cells = list(_cells(sheet, found[sheet.chapter.name]))
        text, _ = exporter.from_notebook_node(new_notebook(cells=cells, metadata=title))
        written.append(folder / f"{sheet.chapter.name}.slides.html")
        written[-1].write_text(text, encoding="utf-8")
    for name, place in _PARTS.items():
        spec = importlib.util.find_spec(name)
        source = Path(str(spec and spec.origin)).parent / place
        if source.is_dir():
            shutil.copytree(source, folder / "reveal" / source.name, ignore=shutil.ignore_patterns("*.eot", "*.ttf", "*.map"))
        else:
            shutil.copy(source, folder / "reveal")
    return written


def _cells(sheet: Worksheet, run: StoredRun) -> Iterator[Any]:
    """Yield a cell for each slide."""
    import nbformat
    from nbformat.v4 import new_markdown_cell

    def slide(*paragraphs: str) -> Any:
        return new_markdown_cell("\n\n".join(filter(None, paragraphs)), metadata={"slideshow": {"slide_type": "slide"}})

    cells = nbformat.read(run.notebook_path, as_version=4).cells
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    said = [found[FINDING_MIME] for found in data if FINDING_MIME in found]
    lists = {each["place"]: [f"- {myst_text(sentence)}" for sentence in each["sentences"]] for each in said}
    question = sheet.chapter.prose.partition(f"# {sheet.chapter.title}\n")[2].partition("\n```")[0].strip()
    yield slide(
        f"# {sheet.chapter.title}", standing_alone(question), f"Profile {run.record['profile']}, {run.record['started'][:10]}."
    )
    if "page" in lists:
        yield slide("## What we found", *lists["page"])
    for cell in cells:
        about = cell.metadata.get("mystnb", {})
        pictures = [_image(output.get("data", {}), about.get("image", {}).get("alt", "")) for output in cell.get("outputs", [])]
        if "figure" in about and any(pictures):
            found = [myst_text(" ".join(each["sentences"])) for each in said if each["figure"] == about["figure"]["name"]]
            yield slide(*(f"**{sentences}**" for sentences in found), about["figure"]["caption"], *pictures)
    if "takeaways" in lists:
        yield slide("## Key takeaways", *lists["takeaways"])
    for each in sheet.exercises:
        yield slide(f"## A question ({each.effort})", each.text)


def _image(data: Mapping[str, str], alt: str) -> str:
    """Return a picture among the forms of an output as HTML; nbconvert would leave out its alternative text."""
    if "image/png" in data:
        kind, content = "image/png", "".join(data["image/png"].split())
    elif "image/svg+xml" in data:
        kind, content = "image/svg+xml", base64.b64encode(data["image/svg+xml"].encode()).decode()
    else:
        return ""
    return f'<img src="data:{kind};base64,{content}" alt="{html.escape(alt)}">'
