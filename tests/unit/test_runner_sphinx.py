"""The directives of the book, on pages of a small site: what was found, a chapter's figure, the scoreboard, the preview."""

import io
import json
import shutil
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from effnotes.reporting.claims import disagreement, join, load_register, measure
from effnotes.runner.sphinx_scoreboard import draw_preview, wrong_text

ROOT = Path(__file__).parents[2]
# The small site has two chapters.
REGISTER = {
    name: claim
    for name, claim in load_register(ROOT / "book" / "claims.yaml").items()
    if claim.chapter in ("pruning_bias", "model_editing")
}
FLAT, GROWS, RANK = "bias.accuracy-flat", "bias.uncertainty-grows", "editing.low-rank-often"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>'
CONFIGURATION = """
extensions = ["myst_parser", "sphinxcontrib.bibtex", "sphinxext.opengraph", "effnotes.runner.sphinx_extension"]
bibtex_bibfiles = ["book/references.bib"]
root_doc = "book/index"
html_theme = "basic"
html_title = "A book"
ogp_social_cards = {"enable": False}
ogp_image = "_images/preview.png"
"""
INDEX = """
# A question?

```{verdict-count}
```

```{what-we-found} pruning_bias
:first:
```

```{chapter-figure} pruning_bias fig-ba
:name: fig-answer
```

```{toctree}
pruning_bias
model_editing
scoreboard
```
"""


def cell(name: str, kind: str, picture: str) -> dict:
    figure = {"figure": {"name": name, "caption": "Bias by *sparsity*."}, "image": {"alt": "Lines. They rise by 0.1."}}
    return {"cell_type": "code", "metadata": {"mystnb": figure}, "outputs": [{"data": {kind: picture}}]}


CELLS = (cell("fig-ba", "image/svg+xml", SVG),)


def record(profile: str, found: list[tuple[str, str]] | None) -> dict:
    said = {} if found is None else {"found": [{"sentence": sentence, "claim": claim} for sentence, claim in found]}
    return {"profile": profile, "duration_s": 90.0, "parameters": [{"name": "seeds", "value": [1, 2]}], **said}


def rows(**effects: list[float]) -> list[dict]:
    return join(REGISTER, [measure(claim, values).to_json() for claim, values in effects.items()])


@pytest.fixture(scope="module")
def build() -> dict:
    kept = [("Accuracy moves by 0.1 points <b>.", FLAT), ("Doubt grows.", GROWS), ("No claim.", "")]
    chapters = [
        {"name": "pruning_bias", "title": "Bias", "page": "book/pruning_bias", "failed": None},
        {"name": "model_editing", "title": "Editing", "page": "book/model_editing", "failed": None},
    ]
    chapters[0] |= {"kept": record("full", kept), "record": record("quick", [("Accuracy falls.", FLAT)])}
    chapters[1] |= {"kept": record("full", None), "record": record("quick", None)}
    claims: dict = {
        "kept": rows(**{FLAT: [0.001, 0.002, 0.0], GROWS: [0.2, 0.21, 0.25]}),
        "record": rows(**{FLAT: [-0.3, -0.31, -0.32], RANK: [0.2, -0.3, 0.1]}),
    }
    claims["record"][0]["caution"] = "A noise floor stands above."
    return {"profile": "quick", "chapters": chapters, "claims": claims}


def make_site(folder: Path, build: dict | None, index: str = INDEX, cells: tuple = CELLS) -> tuple[Path, str]:
    """Make the pages of a small site from the content of build.json; return their folder and the warnings."""
    book = folder / "source" / "book"
    book.mkdir(parents=True)
    shutil.copy(ROOT / "book" / "references.bib", book)
    (book.parent / "conf.py").write_text(CONFIGURATION)
    (book / "index.md").write_text(index)
    if index is INDEX:
        (book / "pruning_bias.md").write_text("# Bias\n\n```{what-we-found}\n```\n")
        (book / "model_editing.md").write_text("# Editing\n\n```{what-we-found}\n```\n")
        (book / "scoreboard.md").write_text("# Board\n\n```{scoreboard}\n```\n\n```{bibliography}\n```\n")
    if build is not None:
        (book / "_data").mkdir()
        (book / "_data" / "build.json").write_text(json.dumps(build))
        (book / "pruning_bias.ipynb").write_text(json.dumps({"cells": list(cells)}))
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        Sphinx(book.parent, book.parent, folder / "html", folder / "trees", "html", None, io.StringIO(), warnings).build()
    return folder / "html" / "book", warnings.getvalue()


@pytest.fixture(scope="module")
def pages(build: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, warnings = make_site(tmp_path_factory.mktemp("site"), build)
    assert warnings == ""
    return folder


def soup(folder: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((folder / f"{name}.html").read_text(), "html.parser")


def text(element) -> str:
    return " ".join(element.text.split())


def test_a_chapter_begins_with_what_its_runs_found_the_larger_first(pages, build):
    page = soup(pages, "pruning_bias")
    found = page.find(class_="effnotes-found")
    heads = [text(strong.parent) for strong in found.find_all("strong")]
    assert heads == ["In the larger run (profile full, 2 seeds, 1 min 30 s)", "In this build (profile quick, 2 seeds, 1 min 30 s)"]
    items = [text(item) for item in found.find_all("li")]
    assert items == [
        "Accuracy moves by 0.1 points <b>. shown the two runs disagree",
        "Doubt grows. shown",
        "No claim.",
        "Accuracy falls. contradicted the two runs disagree",
    ]
    assert found.find("b") is None
    # A card is on this build's page for what this build has measured.
    assert [link["href"] for link in found.find_all("a")] == ["pruning_bias.html#claim-bias-accuracy-flat"] * 2


def test_a_record_without_sentences_shows_none(pages, build):
    assert soup(pages, "model_editing").find(class_="effnotes-found") is None


def test_without_a_build_pages_say_so(tmp_path):
    pages, warnings = make_site(tmp_path, None)
    assert warnings == ""
    assert soup(pages, "pruning_bias").find(class_="effnotes-found") is None
    for name in ("scoreboard", "index"):
        assert "make book" in soup(pages, name).find(class_="effnotes-not-run").text


def test_the_landing_page_shows_the_first_sentence_of_each_run(pages, build):
    found = soup(pages, "index").find(class_="effnotes-found-first")
    assert "Accuracy moves" in found.text
    assert "Accuracy falls" in found.text
    assert "Doubt grows" not in found.text


def test_the_landing_page_shows_the_figure_of_this_build(pages):
    figure = soup(pages, "index").find("figure", id="fig-answer")
    image = figure.find("img")
    assert image["alt"] == "Lines. They rise by 0.1."
    assert (pages / image["src"]).resolve().read_text() == SVG
    assert figure.find("em").text == "sparsity"
    assert figure.find("a")["href"] == "pruning_bias.html#fig-ba"
    assert "run for this build (profile quick, 2 seeds, 1 min 30 s)" in text(figure)


@pytest.mark.parametrize("cells", [(cell("fig-other", "image/svg+xml", SVG),), (cell("fig-ba", "text/plain", "no picture"),)])
def test_a_figure_that_is_not_there_is_told(tmp_path, build, cells):
    _, warnings = make_site(tmp_path, build, "# A\n\n```{chapter-figure} pruning_bias fig-ba\n:name: fig-answer\n```\n", cells)
    assert "the chapter 'pruning_bias' has no figure 'fig-ba' with a picture" in warnings


FORMULAS = """
# A

{math}`W' = \\tfrac{\\alpha}{r} W`, and {eq}`eq-sum`

```{math}
:label: eq-sum
\\begin{aligned} a &= \\sum_i x_i \\\\ b &< \\hat y \\end{aligned}
```
"""


def test_formulas_become_mathml_and_keep_their_numbers(tmp_path):
    folder, warnings = make_site(tmp_path, None, FORMULAS)
    assert warnings == ""
    page = soup(folder, "index")
    inline, display = page.find_all("math")
    assert inline.parent["class"] == ["math"]
    assert [element.name for element in inline.find("mfrac").find_all()] == ["mi", "mi"]
    assert display["display"] == "block"
    assert len(display.find_all("mtr")) == 2
    assert display.find("mover").text == "yˆ"
    equation = display.find_parent("div", id="equation-eq-sum")
    assert text(equation.find(class_="eqno")).startswith("(1)")
    assert page.find("a", href="#equation-eq-sum").text == "(1)"
    assert "mathjax" not in str(page).lower()


def test_a_formula_that_cannot_be_shown_is_told_with_its_place(tmp_path):
    _, warnings = make_site(tmp_path, None, "# A\n\n{math}`\\nosuchthing x`\n")
    assert "index.md:3: WARNING: \\nosuchthing x is no formula that can be shown" in warnings


def test_a_chapter_that_is_not_there_is_told(tmp_path, build):
    _, warnings = make_site(tmp_path, build, "# A\n\n```{what-we-found} prunning\n```\n")
    assert "there is no chapter 'prunning'" in warnings


def test_verdicts_are_counted_for_both_runs(pages, build):
    said = text(soup(pages, "index").find(class_="body").find("ul"))
    rest = len(REGISTER) - 2
    assert f"larger runs (profile full): 2 shown, 0 contradicted, 0 not settled, {rest} not measured" in said
    assert f"this build (profile quick): 0 shown, 1 contradicted, 1 not settled, {rest} not measured" in said


def test_the_scoreboard_counts_by_chapter_and_by_source(pages, build):
    board = soup(pages, "scoreboard")
    assert "at most 0.05 on average, 2.5% of the 2 claims with an interval" in board.text

    def counts(name: str) -> dict[str, list[str]]:
        found = board.find(id=name).find("tbody").find_all("tr")
        return {text(row.find("th")): [text(cell) for cell in row.find_all("td")] for row in found}

    by_chapter = counts("verdicts-by-chapter")
    bias = sum(claim.chapter == "pruning_bias" for claim in REGISTER.values())
    assert by_chapter["Bias, larger run (full)"] == ["2", "0", "0", str(bias - 2)]
    assert by_chapter["Bias, this build (quick)"] == ["0", "1", "0", str(bias - 1)]
    assert by_chapter["all chapters, this build (quick)"] == ["0", "1", "1", str(len(REGISTER) - 2)]
    by_source = counts("verdicts-by-source")
    of_one = [int(number) for group, cells in by_source.items() if group.endswith("(full)") for number in cells]
    assert sum(of_one) == len(REGISTER)


def test_the_scoreboard_draws_every_interval_before_the_table(pages, build):
    board = soup(pages, "scoreboard")
    image = board.find(id="fig-claims").find("img")
    assert "Larger run (full): 2 lie wholly right of zero, 0 wholly left" in image["alt"]
    assert "This build (quick): 0 lie wholly right of zero, 1 wholly left (bias.accuracy-flat)" in image["alt"]
    names = [element.get("id") or "" for element in board.find_all(True)]
    assert names.index("fig-claims") < names.index("board-is-all") < names.index("scoreboard-table")


def test_rows_of_the_scoreboard_say_what_the_filter_asks_for(pages, build):
    board = soup(pages, "scoreboard")
    table = {row.find("code").text: row for row in board.find(id="scoreboard-table").find("tbody").find_all("tr")}
    classes = {name: {word for word in row["class"] if word.startswith("effnotes-")} for name, row in table.items()}
    assert classes[FLAT] == {"effnotes-in-1", "effnotes-is-shown", "effnotes-is-contradicted", "effnotes-is-disputed"}
    assert classes[GROWS] == {"effnotes-in-1", "effnotes-is-shown", "effnotes-is-not-measured"}
    assert classes[RANK] == {"effnotes-in-2", "effnotes-is-not-settled", "effnotes-is-not-measured"}
    style = (ROOT / "book" / "_static" / "effnotes.css").read_text()
    chosen = {button["id"] for button in board.find(class_="effnotes-filter").find_all("input")} - {"board-is-all", "board-in-all"}
    assert chosen == {
        "board-is-shown",
        "board-is-contradicted",
        "board-is-not-settled",
        "board-is-disputed",
        "board-in-1",
        "board-in-2",
    }
    for name in chosen:
        assert f":has(#{name}:checked) tbody tr:not(.effnotes-{name.removeprefix('board-')})" in style


def test_a_row_says_what_would_have_settled_why_not_and_who_disagrees(pages, build):
    by_run = {run: {row["id"]: row for row in rows} for run, rows in build["claims"].items()}
    board = soup(pages, "scoreboard")
    table = {row.find("code").text: [text(cell) for cell in row.find_all("td")] for row in board.find_all("tr") if row.find("code")}
    assert disagreement(by_run["record"][FLAT], by_run["kept"][FLAT]) in table[FLAT][3].replace("’", "'")
    assert "but, this build: A noise floor stands above." in table[next(iter(REGISTER))][3]
    assert f"this build: {by_run['record'][RANK]['unsettled']}" in table[RANK][3]
    assert "larger run: –" in table[RANK][2]


def test_the_number_of_wrong_verdicts_rests_on_claims_with_an_interval():
    judged = rows(**{FLAT: [0.001, 0.002], GROWS: [0.1]})
    assert "at most 0.025 on average, 2.5% of the 1 claim" in wrong_text("this build", judged)


def test_every_page_names_a_preview_that_is_there(pages):
    for name in ("index", "pruning_bias", "scoreboard"):
        tag = soup(pages, name).find("meta", property="og:image")
        assert (pages / tag["content"]).resolve().read_bytes().startswith(b"\x89PNG"), name


def test_the_preview_is_the_same_for_the_same_verdicts_and_another_for_others(build):
    first = draw_preview("A question?", build)
    assert first == draw_preview("A question?", build)
    assert first != draw_preview("A question?", build | {"claims": {"kept": build["claims"]["record"], "record": []}})
    assert draw_preview("A question?", None) != first
