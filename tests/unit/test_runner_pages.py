"""What a build gives to readers beside its pages: a PDF, version and date, old addresses, a citation, little weight."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import effnotes

CHECKOUT = Path(__file__).parents[2]
INDEX = """# A small book

{doc}`times <multiplication>`, $x^2$, {download}`data <claims.yaml>`

```{book-bibtex}
```
"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def book(make_book, tmp_path_factory):
    book = make_book(tmp_path_factory.mktemp("pages") / "checkout")
    shutil.copy(CHECKOUT / "CITATION.cff", book.root)
    config = book.root / "_config.yml"
    config.write_text(config.read_text().replace("effnotes_redirects: {}", "effnotes_redirects: {book/sum: book/addition}"))
    (book.root / "book" / "index.md").write_text(INDEX)
    swept = book.effnotes("sweep", "multiplication", "--grid", "divide_by=2,3", "--name", "small")
    assert swept.returncode == 0, swept.stdout
    result = book.effnotes("build", *["--pdf"] * bool(CHROMIUM))
    assert result.returncode == 0, result.stdout
    return book


def page(book, name):
    return BeautifulSoup((book.root / "_build" / "html" / f"{name}.html").read_text(), "html.parser")


@pytest.fixture(scope="module")
def printed(book) -> Path:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return book.root / "_build" / "effnotes.pdf"


def test_the_pdf_has_every_page_of_the_book(printed):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on this machine (Debian: apt-get install poppler-utils)")
    text = subprocess.run(["pdftotext", "-layout", printed, "-"], capture_output=True, text=True, check=True).stdout
    titles = ("A small book", "\x0cAddition", "total 3.0 None", "\x0cMultiplication", "\x0cSweep small")
    places = [text.index(title) for title in titles]
    assert places == sorted(places), "in the order of the book, each page of it on a new sheet"
    assert f"version {effnotes.__version__}" in text


def test_links_of_the_pdf_lead_to_its_own_pages_and_to_no_file(book, printed):
    content = printed.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Dest" in content, "the link between the pages"
    assert b"file://" not in content
    assert str(book.root).encode() not in content
    assert not list((book.root / "_build" / "html").rglob("*printed*"))


def test_without_chromium_the_pdf_is_refused_before_anything_runs(make_book, tmp_path):
    book = make_book(tmp_path / "checkout")
    result = book.effnotes("build", "--pdf", env={**os.environ, "PATH": str(tmp_path)})
    assert result.returncode == 2
    assert "--pdf prints with Chromium, and there is none" in result.stdout
    assert not (book.root / "_build" / "runs").exists()


def test_every_page_has_the_version_and_the_day_of_the_latest_run(book):
    for name in ("book/index", "book/addition", "404", "search"):
        assert f"version {effnotes.__version__}." in page(book, name).find(class_="last-updated").text, name
    record = book.records("addition")[0]
    record.write_text(json.dumps(json.loads(record.read_text()) | {"started": "2101-02-03T04:05:06+00:00"}))
    assert book.effnotes("build").returncode == 0
    for name in ("book/index", "book/multiplication"):
        assert "Last updated on 3 February 2101, version" in page(book, name).find(class_="last-updated").text, name


def test_an_old_address_leads_to_the_new_one(book):
    old = page(book, "book/sum")
    assert old.find("meta", attrs={"http-equiv": "refresh"})["content"] == "0; url=addition.html"
    assert old.find("a")["href"] == "addition.html"


@pytest.mark.parametrize(
    ("redirects", "message"),
    [
        ("{book/sum: book/additon}", r"there is no page 'book/additon'\. Did you mean 'book/addition'\?"),
        ("{book/addition: book/multiplication}", "'book/addition' is a page itself"),
    ],
)
def test_an_old_address_that_cannot_lead_there_is_refused(make_book, tmp_path, redirects, message):
    book = make_book(tmp_path / "checkout")
    config = book.root / "_config.yml"
    config.write_text(config.read_text().replace("effnotes_redirects: {}", f"effnotes_redirects: {redirects}"))
    result = book.in_process("build")
    assert result.returncode == 2
    assert re.search(message, result.stdout), result.stdout
    assert not (book.root / "_build" / "runs").exists()


def test_there_is_a_page_for_addresses_of_none(book):
    missing = page(book, "404")
    assert missing.find("article").find("h1").text == "There is no such page"
    assert (book.root / "_build" / "html" / missing.find("article").find("a")["href"]).is_file()


def test_the_citation_is_that_of_the_file(book):
    entries = page(book, "book/index").find(class_="highlight-bibtex").text
    assert "@software{effnotes,\n  author = {{The effnotes authors}}," in entries
    assert "@phdthesis{iofinova2026,\n  author = {Iofinova, Eugenia B.}," in entries
    assert "doi = {10.15479/AT-ISTA-21854}," in entries


def test_pages_load_no_script_for_formulas_and_no_icons_that_they_do_not_show(book):
    site = book.root / "_build" / "html"
    loaded = {}
    for name in ("book/index", "book/addition"):
        elements = page(book, name).find_all(["script", "link"])
        urls = {(element.get("src") or element.get("href") or "").split("?")[0] for element in elements}
        files = {path for url in urls if url and (path := (site / "book" / url).resolve()).suffix in (".js", ".css")}
        loaded[name] = {path.relative_to(site.resolve()).as_posix(): path.stat().st_size for path in files}
    assert page(book, "book/index").find("math").find("msup").text == "x2"
    assert not any("mathjax" in name for files in loaded.values() for name in files)
    assert [name for name, files in loaded.items() if sum(files.values()) > 800_000] == []
    script = (site / "_static" / "scripts" / "fontawesome.js").read_text()
    used = {name for path in site.rglob("*.html") for name in re.findall(r'"(?:fas|fa-solid) fa-([a-z-]+)', path.read_text())}
    assert len(used) > 5
    assert [name for name in used if f'"{name}"' not in script and f"{name}:[" not in script] == []
    assert '"address-book":[' not in script
