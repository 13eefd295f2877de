"""The whole book as one PDF: the rendered pages, one behind the other, printed by Chromium."""

import posixpath
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from effnotes.core.files import written_whole
from effnotes.runner.errors import BuildError, UsageError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-pdf-header-footer")
_STYLE = """
@page { size: A4; margin: 18mm 16mm 20mm; @bottom-center { content: counter(page); font: 9pt sans-serif; } }
body { background: white; }
.effnotes-printed { break-before: page; }
.effnotes-printed:first-child { break-before: auto; }
figure, pre, tr, .admonition, .sd-card { break-inside: avoid; }
pre { white-space: pre-wrap; }
.headerlink, .copybtn, .toggle-button, .tocsection { display: none !important; }
"""


def find_chromium() -> str:
    """Return the path of the browser that prints.

    Raises:
        UsageError: there is none.
    """
    if (found := next(filter(None, map(shutil.which, _BROWSERS)), None)) is None:
        raise UsageError(
            f"--pdf prints with Chromium, and there is none (looked for {', '.join(_BROWSERS)}). Install it (Debian: "
            "apt-get install chromium), or build without --pdf and print the pages from a browser."
        )
    return found


def print_book(site: Path, pages: Sequence[str], target: Path, browser: str) -> None:
    """Print rendered pages to one PDF, in which links between them lead from page to page.

    Args:
        site: the folder of the rendered pages.
        pages: their names without ending, in the order of the book.
        target: the PDF.
        browser: path of a Chromium.

    Raises:
        BuildError: Chromium wrote no PDF; the message holds what it said.
    """
    folder = (site / pages[0]).parent
    joined = folder / "effnotes-printed.html"  # beside the pages, so that their pictures and styles are found
    try:
        joined.write_text(_join(site, pages), encoding="utf-8")
        with tempfile.TemporaryDirectory() as scratch:
            printed = Path(scratch) / "book.pdf"
            # Virtual time: what scripts wait for is awaited, and no more.
            options = (f"--user-data-dir={scratch}/profile", "--virtual-time-budget=600000", f"--print-to-pdf={printed}")
            run = subprocess.run([browser, *_FLAGS, *options, joined.as_uri()], capture_output=True, text=True, check=False)
            if not printed.is_file():
                raise BuildError(f"Chromium printed no PDF (exit status {run.returncode}):\n{run.stderr[-2000:]}")
            with written_whole(target) as file:
                file.write(printed.read_bytes())
    finally:
        joined.unlink(missing_ok=True)


def _join(site: Path, pages: Sequence[str]) -> str:
    """Put the articles of pages behind one another, identifiers with the page's name, and links between pages within."""
    from bs4 import BeautifulSoup

    names = {f"{page}.html": page.replace("/", "-") for page in pages}
    whole = BeautifulSoup((site / f"{pages[0]}.html").read_text(encoding="utf-8"), "html.parser")
    footer = whole.select_one(".bd-footer-content__inner")
    articles = []
    for page, name in names.items():
        article = BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
        assert article is not None  # the theme gives one to each page
        article.name, article["id"], article["class"] = "section", name, "effnotes-printed"
        for element in article.find_all(True):
            if element.get("id") and element.find_parent("svg") is None:
                element["id"] = f"{name}--{element['id']}"
            if element.name == "details":
                element["open"] = ""
            for attribute in {"href", "src"}.intersection(element.attrs):
                link = urlsplit(str(element[attribute]))
                if link.scheme or link.netloc or element.find_parent("svg"):
                    continue
                inner = posixpath.normpath(posixpath.join(posixpath.dirname(page), link.path)) if link.path else page
                if inner in names:
                    element[attribute] = f"#{names[inner]}" + (f"--{link.fragment}" if link.fragment else "")
                elif element.name == "a":  # a file beside the pages, which is not in the PDF
                    del element[attribute]
                else:
                    element[attribute] = posixpath.relpath(inner, posixpath.dirname(pages[0]))
        articles.append(article)
    assert whole.head is not None
    assert whole.body is not None
    style = whole.new_tag("style")
    style.string = _STYLE
    whole.head.append(style)
    main = whole.new_tag("main")
    main.extend([*articles, *([footer] if footer else [])])
    whole.body.clear()
    whole.body.append(main)
    return str(whole)
