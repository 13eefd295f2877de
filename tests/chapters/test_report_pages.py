"""Pages that are drawn from a kept record: from invented ones where the record is another run's to make, else from their own."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from effnotes.runner.project import Chapter, Project

ROOT = Project.find(Path(__file__)).root
PAGE = "pruning_bias_cifar10s"


@pytest.fixture
def page(book):
    """The small book with the page on CIFAR-10S."""
    book.add(PAGE, (ROOT / "book" / f"{PAGE}.py").read_text())
    return book


def executed(book, record: Path, name: str = PAGE):
    result = book.effnotes("run", name, "-p", f"record={record}", "--out", "out")
    assert result.returncode == 0, result.stdout
    return nbformat.read(book.root / "out" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        pytest.param({"seeds": (1,), "sparsities": (0.0, 0.9, 0.985)}, marks=pytest.mark.slow),
        pytest.param({"sparsities": (0.0, 0.5, 0.8, 0.9, 0.95, 0.97, 0.985, 0.99)}, marks=pytest.mark.slow),
    ],
)
def test_the_page_draws_every_figure_and_card_from_the_record(page, write_invented, choices):
    path = write_invented(**choices)
    record = json.loads(path.read_text())
    notebook = executed(page, path)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    drawn = [cell for cell in codes if "figure" in cell.metadata.get("mystnb", {})]
    assert len(drawn) >= 10
    for cell in drawn:
        assert [set(output.data) & {"image/svg+xml", "image/png"} != set() for output in cell.outputs] == [True], cell.source
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for cell in codes for output in cell.outputs)
    for claim in record["claims"]:
        anchor = f"claim-{claim['id'].replace('.', '-')}"
        assert shown.count(f'id="{anchor}"') == 1
        assert f'href="#{anchor}"' in shown
    assert "CPU: invented &lt;processor&gt;, 2 cores, 2 threads, 8.0 GiB of memory" in shown
    assert "30 min 05 s" in shown
    printed = "".join(output.get("text", "") for cell in codes for output in cell.outputs)
    assert f"$ {record['command']}" in " ".join(printed.replace("\\\n", " ").split())
    counts = " ".join(str(output.get("data", {}).get("text/markdown", "")) for cell in codes for output in cell.outputs)
    assert "Of 13 claims, 5 are *shown*, 4 are *contradicted*, 4 are *not settled*." in counts
    assert not [output for cell in codes for output in cell.outputs if output.get("name") == "stderr"]


@pytest.mark.slow
def test_the_page_shows_the_claims_that_the_record_has(page, write_invented):
    path = write_invented()
    record = json.loads(path.read_text())
    record["claims"] = [claim for claim in record["claims"] if claim["id"] in ("bias.accuracy-flat", "bias.ba-grows")]
    path.write_text(json.dumps(record))
    text = str(executed(page, path))
    assert "Of 2 claims, 1 are *shown*" in text
    assert "In this run: not measured." in text


@pytest.mark.slow
def test_without_the_record_the_page_says_how_it_is_made(page):
    failed = page.effnotes("run", PAGE, "-p", "record=data/records/pruning_bias/nothing.json")
    assert failed.returncode == 1
    made_by = "'effnotes run pruning_bias --profile full --keep-as nothing'"
    assert f"nothing.json: there is no record here. A record is made by {made_by}" in failed.stdout
    bare = json.loads((ROOT / "data" / "records" / "pruning_bias" / "full.json").read_text())
    folder = page.root / "data" / "records" / "pruning_bias"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bare.json").write_text(json.dumps(bare | {"tables": {}}))
    other = page.effnotes("run", PAGE, "-p", "record=data/records/pruning_bias/bare.json")
    assert other.returncode == 1
    assert "the record has no table 'models'" in other.stdout


def test_the_page_measures_nothing_and_leaves_the_runner_alone():
    page = Chapter(PAGE, f"book/{PAGE}", (ROOT / "book" / f"{PAGE}.py").read_text())
    code = "\n".join(source for source, _ in page.code)
    assert "effnotes.runner" not in code
    assert "measure(" not in code
    assert not re.search(r":label: exercise-", page.prose)
    assert list(page.parameters) == ["record", "drawn"]


def test_the_page_on_a_stock_model_shows_what_its_record_measured_and_no_more(book):
    """Cards of the claims that have an effect, a mail of each persona by each system, and losses that fall."""
    name, path = "personalization_smollm2", ROOT / "data" / "records" / "personalization" / "smollm2.json"
    book.add(name, (ROOT / "book" / f"{name}.py").read_text())
    record, notebook = json.loads(path.read_text()), executed(book, path, name)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 2
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
    cards = {claim["id"]: shown.count(f'id="claim-{claim["id"].replace(".", "-")}"') for claim in record["claims"]}
    assert cards == {claim["id"]: int(claim["estimate"] is not None) for claim in record["claims"]}
    assert 0 < sum(cards.values()) < len(cards)
    printed = "".join(output.get("text", "") for output in outputs)
    texts = dict(zip(record["tables"]["examples"]["columns"], record["tables"]["examples"]["data"], strict=True))
    assert len(set(texts["persona"])) == 3
    assert all(text in printed for text in texts["written"])
    assert len(texts["written"]) == 3 * 5
