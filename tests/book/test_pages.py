"""The built pages as files: nothing from other servers, links that lead somewhere, pictures with words, tables with heads."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from effnotes.reporting.claims import load_register
from effnotes.reporting.findings import FINDING_MIME
from effnotes.reporting.kept import format_duration, format_memory
from effnotes.runner.project import Project

ROOT = Path(__file__).parents[2]
PROJECT = Project.find(ROOT)
LANDING_FIGURE = {"book/index.html": "fig-answer", "book/pruning_bias.html": "fig-ba"}
FILE_NAME = re.compile(r"\.(png|svg|jpe?g|gif|webp)$|^[0-9a-f]{16,}$|[/\\]", re.IGNORECASE)


@pytest.fixture(scope="session")
def soups(site: Path, pages: list[Path]) -> dict[Path, BeautifulSoup]:
    return {page: BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser") for page in pages}


@pytest.fixture(scope="session")
def executed() -> list[str]:
    """Names of the pages that are run, in the order of `_toc.yml`: chapters, and pages drawn from a kept record."""
    return [page.page for page in PROJECT.chapters.values()]


@pytest.fixture(scope="session")
def chapters() -> list[str]:
    """Names of the pages that measure claims."""
    return [page.page for page in PROJECT.chapters.values() if PROJECT.register(page.name)]


def listed(toc: object) -> list[str]:
    """Names of all pages in a table of contents, at whatever depth."""
    if isinstance(toc, list):
        return [name for entry in toc for name in listed(entry)]
    if isinstance(toc, dict):
        own = [toc[key] for key in ("root", "file") if key in toc]
        return own + [name for key in ("parts", "chapters", "sections") for name in listed(toc.get(key))]
    return []


def is_remote(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https") or url.startswith("//")


def test_every_page_of_the_table_of_contents_is_built(site: Path) -> None:
    names = listed(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    assert {"book/index", "book/pruning_bias", "book/references"} <= set(names)
    for name in names:
        assert (site / f"{name}.html").is_file(), name


def test_pages_load_nothing_from_other_servers(soups: dict[Path, BeautifulSoup]) -> None:
    loading = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "link": "href"}
    found = [
        f"{page}: {element}"
        for page, soup in soups.items()
        for name, attribute in loading.items()
        for element in soup.find_all(name)
        if is_remote(element.get(attribute) or "")
    ]
    assert found == []


def test_scripts_in_the_pages_name_no_other_server(soups: dict[Path, BeautifulSoup]) -> None:
    found = [
        f"{page}: {script.string[:200]}"
        for page, soup in soups.items()
        for script in soup.find_all("script")
        if script.string and re.search(r"https?://", script.string)
    ]
    assert found == []


def test_style_sheets_load_nothing_from_other_servers(site: Path) -> None:
    remote = re.compile(r"""@import\s+(url\()?\s*["']?(https?:)?//|url\(\s*["']?(https?:)?//""")
    sheets = list(site.rglob("*.css"))
    assert sheets
    assert [sheet.name for sheet in sheets if remote.search(sheet.read_text(encoding="utf-8"))] == []


def test_links_lead_somewhere(site: Path, soups: dict[Path, BeautifulSoup]) -> None:
    anchors = {
        (site / page).resolve(): {element["id"] for element in soup.find_all(id=True)}
        | {element["name"] for element in soup.find_all("a", attrs={"name": True})}
        for page, soup in soups.items()
    }
    broken = []
    for page, soup in soups.items():
        here = (site / page).resolve()
        for element in soup.find_all(["a", "link", "script", "img"]):
            url = element.get("href") or element.get("src") or ""
            parts = urlsplit(url)
            if not url or parts.scheme or url.startswith("//"):
                continue
            target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
            # "#" alone means the top of the page; the theme links its own heading so.
            reached = target.is_file() and (
                not parts.fragment or target not in anchors or unquote(parts.fragment) in anchors[target]
            )
            if not reached:
                broken.append(f"{page}: {url}")
    assert broken == []


def test_identifiers_are_unique_on_a_page(soups: dict[Path, BeautifulSoup]) -> None:
    for page, soup in soups.items():
        ids = [element["id"] for element in soup.find_all(id=True) if element.find_parent("svg") is None]
        assert sorted(ids) == sorted(set(ids)), page


def test_every_picture_has_words(soups: dict[Path, BeautifulSoup]) -> None:
    for page, soup in soups.items():
        for image in soup.find_all("img"):
            alt = (image.get("alt") or "").strip()
            assert alt, f"{page}: {image}"
            assert not FILE_NAME.search(alt.replace("AC/DC", "")), f"{page}: {alt}"


def test_every_page_has_language_title_and_preview(site: Path, soups: dict[Path, BeautifulSoup]) -> None:
    for page, soup in soups.items():
        assert soup.html is not None
        assert soup.html["lang"] == "en", page
        assert soup.title is not None
        assert len(soup.title.text.strip()) > 3, page
        assert len(soup.find_all("h1", class_=False)) >= 1, page
        if page.parts[0] == "book":
            assert soup.find("meta", property="og:title"), page
            assert soup.find("meta", property="og:description"), page
            preview = soup.find("meta", property="og:image")
            assert (site / page.parent / preview["content"]).resolve().read_bytes().startswith(b"\x89PNG"), page
            assert soup.find("meta", property="og:image:alt"), page
        assert soup.find("meta", property="og:url") is None, page


def test_no_path_of_this_machine_is_shown(site: Path, pages: list[Path]) -> None:
    private = [str(ROOT), str(Path.home()) + "/", str(site), str(Path(sys.prefix))]
    for page in pages:
        text = (site / page).read_text(encoding="utf-8")
        assert not [path for path in private if len(path) > 5 and path in text], page


def test_pages_that_are_run_offer_their_notebook(site: Path, executed: list[str], soups: dict[Path, BeautifulSoup]) -> None:
    assert executed
    for name in executed:
        links = [link["href"] for link in soups[Path(f"{name}.html")].find_all("a", href=True)]
        notebooks = [href for href in links if href.endswith(".ipynb")]
        assert notebooks, name
        notebook = json.loads((site / name).parent.joinpath(notebooks[0]).resolve().read_text(encoding="utf-8"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert any(cell["outputs"] for cell in code), f"{name}: the notebook was not executed"


def test_figures_are_numbered_and_captioned(executed: list[str], soups: dict[Path, BeautifulSoup]) -> None:
    for name in executed:
        figures = soups[Path(f"{name}.html")].find_all("figure")
        assert figures, name
        for figure in figures:
            assert figure.find(class_="caption-number"), f"{name}: {figure.get('id')}"
            caption = figure.find(class_="caption-text")
            assert caption is not None
            assert len(caption.text.split()) >= 4, f"{name}: {figure.get('id')}"


@pytest.mark.parametrize("name", list(PROJECT.chapters))
def test_every_figure_says_what_it_shows(site: Path, soups: dict[Path, BeautifulSoup], name: str) -> None:
    page = PROJECT.chapters[name].page
    cells = json.loads((site.parent / "stage" / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [(cell, output.get("data", {})) for cell in cells for output in cell.get("outputs", [])]
    # A figure that this run had nothing to draw in says nothing either.
    drawn = {
        cell["metadata"]["mystnb"]["figure"]["name"]
        for cell, data in outputs
        if "figure" in cell["metadata"].get("mystnb", {}) and any(kind.startswith("image/") for kind in data)
    }
    found = [data[FINDING_MIME] for _, data in outputs if data.get(FINDING_MIME, {}).get("place") == "figure"]
    figures = {figure["figure"] for figure in found if figure["figure"]}
    assert figures - drawn == set(), "sentences on figures that the page does not have: compare the names"
    assert drawn - figures == set(), "figures without a sentence: show finding(sentence, figure=...) in the cell behind each"
    texts = [image.get("alt") or "" for image in soups[Path(f"{page}.html")].find_all("img")]
    plain = [" ".join(text.split()) for text in texts]
    for figure in (figure for figure in found if figure["figure"]):
        assert any(" ".join(figure["sentences"]) in text for text in plain), figure["figure"]


def test_scoreboard_has_every_registered_claim(soups: dict[Path, BeautifulSoup]) -> None:
    register = load_register(ROOT / "book" / "claims.yaml")
    table = soups[Path("book/scoreboard.html")].find("table", id="scoreboard-table")
    assert table is not None
    assert table.find("caption") is not None
    assert [cell["scope"] for cell in table.find("thead").find_all("th")] == ["col"] * 5
    rows = table.find("tbody").find_all("tr")
    shown = {row.find("code").text: row for row in rows}
    assert list(shown) == list(register)
    for claim in register.values():
        row = shown[claim.id]
        assert row.find("th")["scope"] == "row"
        # Sphinx sets apostrophes as typographers do.
        assert " ".join(claim.statement.split()).replace("'", "\u2019") in " ".join(row.text.split()).replace("'", "\u2019")
        assert row.find(class_="effnotes-verdict").text in ("shown", "contradicted", "not settled", "not measured")


def test_run_table_has_every_page_that_is_run(executed: list[str], soups: dict[Path, BeautifulSoup]) -> None:
    table = soups[Path("book/how_this_book_was_made.html")].find("table", class_="effnotes-table")
    assert table is not None
    links = [row.find("a")["href"] for row in table.find("tbody").find_all("tr")]
    assert links == [f"{Path(name).name}.html" for name in executed]


def test_landing_page_has_a_card_for_each_chapter(chapters: list[str], soups: dict[Path, BeautifulSoup]) -> None:
    cards = soups[Path("book/index.html")].find_all(class_="sd-card")
    links = {link["href"].split("#")[0] for card in cards for link in card.find_all("a", href=True)}
    assert {f"{Path(name).name}.html" for name in chapters} <= links


def test_the_landing_page_shows_the_figure_of_this_build(site: Path, soups: dict[Path, BeautifulSoup]) -> None:
    figures = [soups[Path(page)].find("figure", id=name) for page, name in LANDING_FIGURE.items()]
    drawn = [figure.find("img") for figure in figures]
    assert drawn[0]["alt"] == drawn[1]["alt"]
    first, second = ((site / "book" / image["src"]).resolve().read_bytes().strip() for image in drawn)
    assert first == second


def test_the_scoreboard_draws_an_interval_before_it_lists_any(soups: dict[Path, BeautifulSoup]) -> None:
    page = soups[Path("book/scoreboard.html")]
    ids = [element.get("id") for element in page.find_all(["figure", "table"])]
    assert (
        ids.index("fig-claims") < ids.index("verdicts-by-chapter") < ids.index("verdicts-by-source") < ids.index("scoreboard-table")
    )
    assert "lie wholly right of zero" in page.find("figure", id="fig-claims").find("img")["alt"]


@pytest.fixture(scope="module")
def bare_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources on which Jupyter Book was run by hand."""
    directory = tmp_path_factory.mktemp("bare")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, directory)
    shutil.copytree(ROOT / "book", directory / "book")
    run_jupyter_book(directory)
    return directory


def run_jupyter_book(directory: Path) -> None:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    environment = {**os.environ, "NO_COLOR": "1"}
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARNING" not in result.stdout + result.stderr


def test_a_bare_jupyter_book_build_gives_pages_with_a_note(bare_build: Path, executed: list[str]) -> None:
    for name in (*executed, "book/index", "book/scoreboard", "book/how_this_book_was_made"):
        page = (bare_build / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")
        note = BeautifulSoup(page, "html.parser").find(class_="effnotes-not-run")
        assert note is not None, name
        assert "make book" in note.text
        assert "effnotes build" in note.text


@pytest.mark.slow
def test_a_changed_style_sheet_reaches_the_pages(bare_build: Path) -> None:
    source = bare_build / "book" / "_static" / "effnotes.css"
    source.write_text(source.read_text(encoding="utf-8") + "/* changed */", encoding="utf-8")
    run_jupyter_book(bare_build)
    assert (bare_build / "_build" / "html" / "_static" / "effnotes.css").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.42, "8.4 s"), (59.97, "1 min 00 s"), (200.3, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(None, "–"), (300 * 2**20, "300 MiB"), (3 * 2**30, "3.0 GiB")])
def test_memory(size: int | None, text: str) -> None:
    assert format_memory(size) == text
