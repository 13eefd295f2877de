"""What a run found goes into its record, into the alternative texts of its figures and onto its page; folds are named."""

import json

import nbformat
from nbformat.v4 import new_output

from effnotes.reporting.findings import FINDING_MIME, finding
from effnotes.runner import outputs
from effnotes.runner.outputs import is_empty, limit_outputs

FINDING = """
# %% mystnb={"figure": {"caption": "A line that rises.", "name": "fig-line"}, "image": {"alt": "A line."}} tags=["hide-input"]
import matplotlib.pyplot as plt
from IPython.display import HTML, display

from effnotes.reporting.findings import finding, what_we_found

_ = plt.plot([first, total])

# %% tags=["remove-input"]
finding(f"It rises to {total:g} & on.", figure="fig-line")

# %% tags=["hide-input"]
HTML("<table><tr><td>1</td></tr></table>")

# %% tags=["hide-input"]
first

# %% tags=["remove-cell"]
what_we_found((f"The sum is {total:g}.", "sum.grows"), ("It is no surprise.", ""))
"""


def test_what_was_found_is_kept_and_figures_say_it(book):
    first, parameter, rest = (book.chapters["addition"] + FINDING).partition("second: float")
    assert parameter
    book.add("saying", f"{first}\n# Further settings\n{parameter}{rest}")
    built = book.effnotes("build", "--only", "saying")
    assert built.returncode == 0, built.stdout
    found = [{"sentence": "The sum is 3.", "claim": "sum.grows"}, {"sentence": "It is no surprise.", "claim": ""}]
    assert json.loads(book.records("saying")[0].read_text())["found"] == found
    stage = book.root / "_build" / "stage" / "book"
    chapters = json.loads((stage / "_data" / "build.json").read_text())["chapters"]
    assert next(chapter for chapter in chapters if chapter["name"] == "saying")["record"]["found"] == found
    staged = nbformat.read(stage / "saying.ipynb", as_version=4)
    shown = [cell.metadata.get("mystnb", {}) for cell in staged.cells if cell.cell_type == "code"][-5:]
    assert shown[0]["image"]["alt"] == "A line. It rises to 3 & on."
    names = [cell.get("code_prompt_show") for cell in shown]
    assert names == ["How the figure is drawn", None, "How the table is made", None, None]
    page = (book.root / "_build" / "html" / "book" / "saying.html").read_text()
    assert 'alt="A line. It rises to 3 &amp; on."' in page
    assert "<strong>It rises to 3 &amp; on.</strong>" in page
    assert page.count("Show the code") == 1
    own, folded = (next(cell for cell in staged.cells if name in cell.source) for name in ("first: int", "second: float"))
    assert "hide-input" not in own.metadata["tags"]
    assert "second: float" not in own.source
    assert folded.metadata["tags"] == ["parameters", "hide-input"]
    assert page.count("Further settings") == 2  # the fold, and the comment in it
    assert "no surprise" not in page


def test_what_was_found_is_said_once(book):
    book.add("saying", book.chapters["addition"] + FINDING + FINDING)
    _, record = book.execute("saying")
    assert record["status"] == "failed"
    assert record["error"]["message"].startswith("what was found is said a second time")
    assert record["error"]["line"] is not None


def test_what_was_found_is_never_cut(monkeypatch):
    monkeypatch.setattr(outputs, "MOST_SHOWN", 10)
    shown = [new_output("display_data", data=finding("It rises.", figure="fig-line")._repr_mimebundle_()) for _ in range(2)]
    limit_outputs(shown)
    assert [FINDING_MIME in output.data for output in shown] == [True, True]
    assert not any(map(is_empty, shown))
