"""Runs as data: named numbers in the record, the list of runs, runs side by side, and copies that overwrite nothing."""

import json
import shutil

import pandas as pd
import pytest

import effnotes
from effnotes.reporting.kept import RecordError, read_record

REPORTING = """
# %%
from IPython.display import display

from effnotes.reporting import claims
from effnotes.reporting.metrics import report

display(report("total", total, unit="one"), report("none", None, unit="one"))
claims.measure("sum.grows", [first, second, total])
"""


@pytest.fixture(scope="module")
def reporting(make_book, tmp_path_factory):
    """A book with two runs of a chapter that reports, and one that failed; the first was copied to `out`."""
    book = make_book(tmp_path_factory.mktemp("reporting") / "checkout")
    book.register()
    book.add("addition", book.chapters["addition"] + REPORTING)
    for number, options in enumerate(
        [("--out", "out"), ("-p", "first=40", "--profile", "smoke"), ("-p", "first=0", "-p", "pause_s=-1.0")]
    ):
        ran = book.effnotes("run", "addition", *options)
        assert ran.returncode == (number == 2), ran.stdout
    return book


def keys_by_number(book) -> list[str]:
    records = sorted((json.loads(path.read_text()) for path in book.records("addition")), key=lambda each: each["number"])
    return [record["key"] for record in records]


def test_the_record_has_metrics_and_the_command_that_makes_it_again(reporting):
    by_number = {json.loads(path.read_text())["number"]: read_record(path) for path in reporting.records("addition")}
    assert by_number[1].metrics == {"total": 3.0, "none": None}
    assert by_number[1].content["metrics"]["total"]["unit"] == "one"
    assert by_number[2].command == "effnotes run addition -p first=40 --profile smoke"
    assert by_number[2].parameters["first"] == 40


def test_what_out_wrote_is_read_as_a_record(reporting):
    copied = read_record(reporting.root / "out")
    assert copied.metrics["total"] == 3.0
    assert copied.claims["sum.grows"]["verdict"] == "not settled"
    assert read_record(reporting.root / "out" / "record.json").content == copied.content
    with pytest.raises(RecordError, match="no record here"):
        read_record(reporting.root / "book")


def test_out_overwrites_nothing(reporting):
    before = (reporting.root / "out" / "record.json").read_bytes()
    other = reporting.in_process("run", "addition", "-p", "first=7", "--out", "out")
    assert other.returncode == 2
    assert "holds another run, which is not overwritten" in other.stdout
    assert len(reporting.records("addition")) == 3  # it was refused before it ran
    same = reporting.in_process("run", "addition", "--out", "out")
    assert same.returncode == 0, same.stdout
    assert (reporting.root / "out" / "record.json").read_bytes() == before
    (reporting.root / "alone").mkdir()
    (reporting.root / "alone" / "addition.ipynb").write_text("mine")
    alone = reporting.in_process("run", "addition", "--out", "alone")
    assert alone.returncode == 2
    assert (reporting.root / "alone" / "addition.ipynb").read_text() == "mine"


def test_a_run_made_anew_does_not_replace_an_earlier_copy(reporting, tmp_path):
    book = reporting.copy(tmp_path / "checkout")
    before = (book.root / "out" / "record.json").read_bytes()
    anew = book.effnotes("run", "addition", "--force", "--out", "out")
    assert anew.returncode == 2, anew.stdout
    assert "holds an earlier run with these values" in anew.stdout
    assert (book.root / "out" / "record.json").read_bytes() == before


def test_a_number_is_reported_once(book):
    twice = 'from effnotes.reporting.metrics import report\nreport("total", total, unit="one")'
    book.add("addition", book.chapters["addition"] + f"\n# %%\n{twice}\n\n# %%\n{twice}\n")
    _, record = book.execute("addition")
    assert record["status"] == "failed"
    assert record["error"]["message"].startswith("the metric 'total' is kept a second time")
    assert record["error"]["cell"] == 5


def test_runs_are_listed_with_what_tells_them_apart(reporting):
    (reporting.root / "data" / "records" / "addition").mkdir(parents=True)
    shutil.copy(reporting.root / "out" / "record.json", reporting.root / "data" / "records" / "addition" / "large.json")
    listed = reporting.in_process("runs", "addition")
    assert reporting.in_process("compare", "addition/large", keys_by_number(reporting)[1][:4]).returncode == 0
    shutil.rmtree(reporting.root / "data")
    assert listed.returncode == 0, listed.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in listed.stdout.splitlines() if line.startswith("│")]
    first, second, third, more, kept = rows
    assert [row[0] for row in (first, second, third)] == [key[:8] for key in keys_by_number(reporting)]
    assert first[2:5] == ["quick", "", "1 not settled"]
    assert second[2:4] == ["smoke", "first=40"]
    assert (third[3], third[6], more[3]) == ("first=0", "failed", "pause_s=-1.0")
    assert kept[0] == "addition/large"
    assert reporting.in_process("runs").stdout.count("first=40") == 1


def test_runs_are_put_side_by_side(reporting):
    _, second, _ = keys_by_number(reporting)
    compared = reporting.in_process("compare", "out", second[:6])
    assert compared.returncode == 0, compared.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in compared.stdout.splitlines() if line.startswith("│")]
    assert ["parameter", "first", "1", "40"] in rows
    assert not any(row[1] == "second" for row in rows)  # it does not differ
    assert ["metric", "total (one)", "3", "42"] in rows
    assert ["metric", "none (one)", "–", "–"] in rows
    assert any(row[0] == "claim" and row[1].startswith("sum.grows") and row[2].startswith("2 [") for row in rows)
    folder = reporting.root / "_build" / "compared" / f"out-{second[:8]}"
    assert pd.read_csv(folder / "table.csv")["metric.total"].tolist() == [3.0, 42.0]
    assert b"<svg" in (folder / "figure.svg").read_bytes()


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (["out"], "two or more different runs"),
        (["out", "out"], "two or more different runs"),
        (["out", "abcd"], "there is no run 'abcd'"),
        (["out", "book/index.md"], "cannot be read as JSON"),
        (["out", "none/such"], "there is no run 'none/such'"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(reporting, which, message):
    refused = reporting.in_process("compare", *which)
    assert refused.returncode == 2
    assert message in refused.stdout


def test_the_command_line_says_its_version(book):
    said = book.in_process("--version")
    assert (said.returncode, said.stdout.strip()) == (0, f"effnotes {effnotes.__version__}")
