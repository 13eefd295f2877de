"""Render the staged book with Jupyter Book and put the pages in place at once."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from effnotes.core.errors import nearest
from effnotes.runner.errors import BuildError, UsageError
from effnotes.runner.project import Project, code_page
from effnotes.runner.records import write_atomically

_WARNING_LINES_SHOWN = 40

# Jupyter Book in a process that ends when this one does: its standard input is a pipe that closes then.
_RENDER = """
import os, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
from jupyter_book.cli.main import main
main()
"""


def check_pages(project: Project) -> None:
    """Refuse, before anything runs, what would stop the rendering after all chapters have run.

    Raises:
        UsageError: ``_config.yml`` or a file that it names is missing, the repository has an address that cannot be used,
            ``_toc.yml`` has another form, a page of Markdown holds code, or a page's headings do not start at the first level or
            leave one out.
    """
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser
    from sphinx_external_toc.parsing import MalformedError, parse_toc_data

    config = project.read_yaml("_config.yml") or {}
    try:
        _ = project.repository
        options = (config.get("sphinx") or {}).get("config") or {}
        named = [config.get("logo"), (config.get("html") or {}).get("favicon"), *(config.get("bibtex_bibfiles") or [])]
        extensions = set((config.get("parse") or {}).get("myst_enable_extensions") or ["colon_fence", "dollarmath"])
        parser = create_md_parser(MdParserConfig(enable_extensions=extensions - {"linkify"}), RendererHTML)
        parse_toc_data(project.read_yaml("_toc.yml"))
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"_config.yml does not have the form of Jupyter Book's: {error}.") from None
    except MalformedError as error:
        raise UsageError(f"_toc.yml: {error}.") from None
    for name in filter(None, named):
        if not (project.root / name).is_file() or Path(name).parts[0] != "book":
            raise UsageError(f"_config.yml names {name}, which is not there, or not in book/, from where files are taken.")
    for old, new in (options.get("effnotes_redirects") or {}).items():
        if new not in project.pages or old in project.pages:
            wrong = (
                f"'{old}' is a page itself" if old in project.pages else f"there is no page '{new}'.{nearest(new, project.pages)}"
            )
            raise UsageError(f"_config.yml, effnotes_redirects: '{old}' cannot lead to '{new}': {wrong}")
    suppressed = {"myst", "myst.header"}.intersection(options.get("suppress_warnings") or [])
    for number, (file, texts) in enumerate(project.markdown().items()):
        cells = [parser.parse(text) for text in texts]
        if file.endswith(".md") and any(token.info.startswith("{code-cell}") for cell in cells for token in cell):
            raise UsageError(code_page(file))
        if any(directive in text for text in texts for directive in ("{include}", "{eval-rst}")):
            continue  # headings may come from elsewhere
        headings = [(int(at.tag[1]), then.content) for cell in cells for at, then in pairwise(cell) if at.type == "heading_open"]
        if not headings and number:
            raise UsageError(f"{file} has no heading, and cannot be listed by a title; begin it with '# A title'.")
        for (above, _), (level, title) in pairwise([(0, ""), *headings]):
            if level > above + 1 and not suppressed:
                where = f"'{'#' * level} {title}' " + (f"comes after one of level {above}" if above else "is the first")
                remedy = f"'{'#' * (above + 1)} {title}'"
                raise UsageError(f"{file}: the heading {where}; levels may not be left out: make it {remedy}.")


def build_site(stage: Path, build_dir: Path, announce: Callable[[str], None]) -> Path:
    """Render `stage` to ``html/`` under `build_dir` and return the path of its first page.

    Rendering goes on in a directory of its own and the pages are swapped in when all are there, so a reader never meets
    half a book. Warnings are errors. Where nothing has changed since, nothing is rendered; `announce` is told otherwise.

    Raises:
        BuildError: Jupyter Book failed or warned; the message holds its warnings and where its whole output lies.
    """
    site, target = build_dir / "site", build_dir / "html"
    rendered, stamp = site / "_build" / "html", site / "rendered-from"
    digest = _tree_digest(stage)
    if not (rendered / "index.html").is_file() or not stamp.is_file():
        # What a cut-short rendering has read, Sphinx would not read again, nor repeat its warnings.
        shutil.rmtree(site, ignore_errors=True)
    if not stamp.is_file() or stamp.read_text() != digest or not (target / "index.html").is_file():
        announce("pages: rendering")
        stamp.unlink(missing_ok=True)
        _run_jupyter_book(stage, site, build_dir / "jupyter-book.log")
        _swap_in(rendered, target)
        write_atomically(stamp, digest.encode())
    return target / "index.html"


def _run_jupyter_book(stage: Path, site: Path, log: Path) -> None:
    options = ("build", "-W", "-n", "--keep-going", "--path-output", str(site), str(stage))
    command, environment = [sys.executable, "-c", _RENDER, *options], {"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, env=os.environ | environment, **streams) as process:
        process.wait()
    if process.returncode:
        # Sphinx does not repeat the warnings of pages that it has already read: the next build has to read all of them again.
        shutil.rmtree(site, ignore_errors=True)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        telling = [line for line in lines if re.search("WARNING|ERROR|Error", line)] or lines
        shown = "\n  ".join(telling[-_WARNING_LINES_SHOWN:]).replace(f"{stage}{os.sep}", "")
        raise BuildError(f"Jupyter Book could not render the pages without warnings (whole output: {log}):\n  {shown}")


def _swap_in(rendered: Path, target: Path) -> None:
    incoming, outgoing = target.with_name("html.incoming"), target.with_name("html.outgoing")
    shutil.rmtree(incoming, ignore_errors=True)
    shutil.rmtree(outgoing, ignore_errors=True)
    shutil.copytree(rendered, incoming)
    if target.exists():
        target.rename(outgoing)
    incoming.rename(target)
    shutil.rmtree(outgoing, ignore_errors=True)


def _tree_digest(stage: Path) -> str:
    """Digest what a rendering depends on: the staged files and the extension that renders them."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("sphinx_*.py"))))
    for path in sorted(item for item in stage.rglob("*") if item.is_file()):
        digest.update(f"{path.relative_to(stage).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
