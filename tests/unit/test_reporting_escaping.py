"""Text of others is shown on pages as it is: a script in any field of a table, a parameter, a record or a claim stays text."""

import copy
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from effnotes.reporting.claims import card_html
from effnotes.reporting.escaping import myst_code, myst_text, page_table
from effnotes.reporting.kept import KeptRecord
from effnotes.runner.stage import provenance

CHECKOUT = Path(__file__).parents[2]
SCRIPT = "<script>alert(1)</script>`` `|` {math}`x` $y$ [a](javascript:b) ![i](j)\n\n# H\n<img src=x onerror=alert(1)>"
ALLOWED = {
    "div",
    "p",
    "strong",
    "code",
    "dl",
    "dt",
    "dd",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "caption",
    "span",
    "a",
    "style",
}


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}


def assert_harmless(text: str) -> None:
    found = _Tags(text)
    assert found.tags <= ALLOWED
    assert not [name for name in found.names if name.startswith("on")]


def rendered(markdown: str) -> list:
    """Return the tokens of Markdown as the pages parse it."""
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    extensions = {"amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist", "smartquotes", "substitution", "tasklist"}
    parser = create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML)
    return [child for token in parser.parse(markdown) for child in (token, *(token.children or ()))]


def hostile(value):
    """Put the script into every text of plain data, but for those that code chooses by."""
    if isinstance(value, dict):
        chosen_by = ("direction", "method", "interval_method", "key")
        return {key: item if key in chosen_by else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return SCRIPT if isinstance(value, str) else value


@pytest.mark.parametrize(
    "text", [SCRIPT, "{{ x }}", "\\", "a|b\\|c", "&lt;b&gt;", "*a* _b_ ~c~ #d", "- x", "1. y", "::: z", "https://a.b", "`"]
)
def test_text_in_markdown_is_shown_as_it_is(text):
    tokens = rendered(f"| a | b |\n|:--|:--|\n| {myst_text(text)} | {myst_code(text)} |\n")
    kinds = {token.type for token in tokens if not token.type.startswith(("t", "inline"))}
    assert kinds == {"code_inline"}
    cells = [token for token in tokens if token.type == "inline"]
    shown = " ".join(text.split("\n"))
    assert "".join(child.content for child in cells[2].children) == shown.strip()
    assert cells[3].children[0].content.strip() == shown.strip()


def test_ordinary_text_keeps_its_quotes_and_stays_one_line():
    assert myst_text("it's 'so'\nand \"so\"") == "it's 'so' and \"so\""
    assert myst_code("repr") == "`repr`"


@pytest.mark.parametrize("place", ["cell", "column", "index", "category", "level"])
def test_a_script_in_any_place_of_a_table_stays_text(place):
    plain = pd.DataFrame({"a": ["x", None], "n": [1.25, float("nan")]})
    frame = {
        "cell": plain.assign(a=[SCRIPT, None]),
        "column": plain.rename(columns={"n": SCRIPT}),
        "index": plain.set_index(pd.Index(["x", SCRIPT], name=SCRIPT)),
        "category": plain.assign(a=pd.Categorical([SCRIPT, "k"])),
        "level": plain.set_axis(pd.MultiIndex.from_tuples([("a", SCRIPT), (SCRIPT, "n")], names=[SCRIPT, None]), axis=1),
    }[place]
    before = copy.deepcopy(frame)
    for index in (False, True):
        styled = page_table(frame) if not index else page_table(frame.reset_index())
        text = styled.format(precision=3, na_rep="–").to_html()
        assert_harmless(text)
        assert (place == "index" and not index) or html.escape("<img src=x", quote=False) in text
    pd.testing.assert_frame_equal(frame, before)


def test_a_harmless_table_is_what_pandas_styles(tmp_path):
    frame = pd.DataFrame({"a b": ["x", None, "it's"], "n": [1, 2, 3], "o": [None, True, 2.5]})
    plain = frame.style.hide().set_table_styles([{"selector": ".col1", "props": "text-align: right"}])
    ours, theirs = (table.format(precision=1).to_html(table_uuid="t") for table in (page_table(frame), plain))
    assert ours == theirs


def test_numbers_stand_flush_right_also_where_they_are_written_as_texts():
    written = {"weights": ["8\u202f000", "12"], "share": ["90%", "–"], "change": ["+1.5", "−0.25"], "name": ["gmp", "3x"]}
    frame = pd.DataFrame({"yes": [True, False], **written, "number": [1.5, None]})
    text = page_table(frame).to_html(table_uuid="t")
    assert re.findall(r"#T_t \.col(\d) \{\s*text-align: right;", text) == ["1", "2", "3", "5"]


def test_pages_style_their_tables_with_what_escapes():
    for page in (CHECKOUT / "book").glob("*.py"):
        source = page.read_text()
        assert not re.search(r"\.style\b(?!\.use)", source), page.name


def record() -> dict:
    content = json.loads(next((CHECKOUT / "data" / "records").glob("*/*.json")).read_text())
    return content | {"key": "0" * 64, "profile": "full"}


def test_a_script_in_any_field_of_a_record_stays_text_below_the_page():
    content = record()
    doctored = hostile({name: value for name, value in content.items() if name not in ("claims", "tables", "jobs", "made_for")})
    doctored["environment"]["packages"] = {SCRIPT: SCRIPT}
    reused = dict.fromkeys(("reused_from", "reused_to"), SCRIPT) | {"reused_on": [SCRIPT]}
    doctored["jobs"] = {"computed": 1, "reused": 1, "computed_s": 1.0, **reused}
    doctored["seeds"], doctored["commit"] = [SCRIPT], {"revision": SCRIPT, "clean": False}
    tokens = rendered(provenance(doctored))
    kinds = {token.type for token in tokens}
    assert "code_inline" in kinds
    assert not {kind for kind in kinds if re.search("html|role|math|link|image|substitution", kind)}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h2", "h3", "h3"]


def test_a_script_in_any_field_of_a_kept_record_stays_text_on_its_page():
    content = record()
    doctored = hostile({name: value for name, value in content.items() if name not in ("tables", "jobs")})
    doctored["data"] = {SCRIPT: SCRIPT}
    kept = KeptRecord(doctored)
    assert_harmless(kept.provenance_html())
    assert_harmless(kept.verdicts_html(SCRIPT))
    assert SCRIPT in kept.claims
    for claim in kept.claims.values():
        assert_harmless(card_html(claim))


@pytest.mark.slow
def test_a_script_in_parameters_claims_and_records_stays_text_in_a_built_book(book):
    text = "<script>alert(1)</script> `` ` | {math}`x`"
    words = dict.fromkeys(("statement", "published", "effect", "unit", "unit_of_analysis"), text)
    book.register(**words, source={"key": "iofinova2026thesis", "kind": "text", "where": text})
    book.edit("addition", "# a name for the sum", f"# {text}")
    book.edit(
        "addition",
        'print(f"total',
        "from effnotes.reporting import claims\ndisplay(claims.measure('sum.grows', [1.0, 1.1, 0.9]))\n"
        "import pandas as pd\nfrom effnotes.reporting.escaping import page_table\n"
        'display(page_table(pd.DataFrame({label: [label]}, index=[label]).rename_axis(index=label)))\nprint(f"total',
    )
    (book.root / "book" / "index.md").write_text(
        "# A small book\n\n```{scoreboard}\n```\n\n```{run-table}\n```\n\n```{bibliography}\n```\n"
    )
    (book.root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/addition\n")
    shutil.copy(CHECKOUT / "book" / "references.bib", book.root / "book" / "references.bib")
    given = ("build", "--only", "addition", "-p", f"addition.label={text}")
    first = book.effnotes(*given)
    assert first.returncode == 0, first.stdout
    (path,) = book.records("addition")
    record = json.loads(path.read_text())
    record["environment"]["device"] = record["commit"] = text
    record["commit"] = {"revision": text, "clean": True}
    record["claims"][0]["reason"] = record["claims"][0]["verdict"] = text
    path.write_text(json.dumps(record))
    second = book.effnotes(*given)
    assert second.returncode == 0, second.stdout
    for page in ("index", "addition"):
        shown = (book.root / "_build" / "html" / "book" / f"{page}.html").read_text()
        assert "<script>alert" not in shown
        assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
