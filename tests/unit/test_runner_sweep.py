"""Sweeps: what a grid means, what is refused, the table after each point, what is run again, and the page."""

import json
import os
import signal
import subprocess
import time

import nbformat
import pandas as pd
import pytest

from effnotes.runner.errors import UsageError
from effnotes.runner.grid import grid_points
from effnotes.runner.install import install_cell
from effnotes.runner.parameters import declared_parameters
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore
from effnotes.runner.sweep import plan_sweep, point_seconds, recorded

DECLARED = declared_parameters(
    "size: int = 1\nrate: float = 0.1\nseeds: list[int] = [1]\nname: str = 'a'\nlabel: str | None = None\n"
)
FAILING = """
# %%
from effnotes.reporting.metrics import report

if label == "bad":
    raise RuntimeError("a bad label <b>```")
report("total", total, unit="one")
"""
GRIDS = ("--grid", "first=1,2", "--grid", "label=good,bad")


def points(*grids: str, **fixed: object) -> list[dict]:
    return grid_points(grids, fixed, DECLARED, "chapter")


def test_grids_are_lists_ranges_and_their_product(tmp_path):
    assert points("size=1,2") == [{"size": 1}, {"size": 2}]
    assert points("seeds=[0],[1, 2]") == [{"seeds": [0]}, {"seeds": [1, 2]}]
    assert points("rate=0.5:0.9:0.1") == [{"rate": value} for value in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert points("size=10:1:-4") == [{"size": 10}, {"size": 6}, {"size": 2}]
    assert points("label=null,b") == [{"label": None}, {"label": "b"}]
    assert points("size=1,2", "name=a,b")[1:3] == [{"size": 1, "name": "b"}, {"size": 2, "name": "a"}]
    file = tmp_path / "points.yaml"
    file.write_text("- {size: 3, rate: 1}\n- {size: 4}\n")
    assert points(str(file), "name=a,b")[1:3] == [{"size": 3, "rate": 1.0, "name": "b"}, {"size": 4, "name": "a"}]


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ([], "needs a grid"),
        (["sise=1,2"], "no parameter 'sise'.*Did you mean 'size'"),
        (["size=1,b"], "declared as int; given was 'b'"),
        (["size="], "has no values"),
        (["size=1:5:0"], "never gets from 1 to 5"),
        (["size=5:1:1"], "never gets from 5 to 1"),
        (["size=0:1e9:1"], "1,000,000,001 values"),
        (["size=1:400:1", "rate=1:400:1"], "160,000 points"),
        (["size=1,2", "size=3"], "'size' is given twice"),
        (["name=b,c"], "'name' is given twice"),
        (["nowhere.yaml"], "no file that can be read"),
        (["size=[1"], "no valid YAML"),
    ],
)
def test_bad_grids_are_refused(grids, message):
    with pytest.raises(UsageError, match=message):
        points(*grids, name="a")


@pytest.mark.parametrize("text", ["", "size: 1", "- 3", "[{}]", "[1"])
def test_a_file_that_holds_no_points_is_refused(tmp_path, text):
    (tmp_path / "points.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"holds no list of points|no valid YAML"):
        points(str(tmp_path / "points.yaml"))


@pytest.fixture(scope="module")
def swept_once(make_book, tmp_path_factory):
    """A book with a sweep of four points, two of which fail, and what the command said."""
    book = make_book(tmp_path_factory.mktemp("swept") / "checkout")
    book.add("addition", book.chapters["addition"] + FAILING)
    return book, book.effnotes("sweep", "addition", *GRIDS, "-p", "second=3.0", "--workers", "2", "--name", "demo")


@pytest.fixture
def swept(swept_once, tmp_path):
    return swept_once[0].copy(tmp_path / "checkout")


def table(book, name: str = "demo") -> pd.DataFrame:
    return pd.read_parquet(book.root / "_build" / "sweeps" / name / "table.parquet")


def test_a_failing_point_is_a_row_and_stops_no_other(swept_once):
    book, said = swept_once
    assert said.returncode == 1
    assert "demo: 4 points, 0 recorded already, 4 to run; no earlier run tells how long" in said.stdout
    assert "2 of 4 points failed" in said.stdout
    assert 'first=1, label="bad" failed: RuntimeError: a bad label' in said.stdout
    rows = table(book)
    assert rows["status"].tolist() == ["ok", "failed", "ok", "failed"]
    assert rows["metric.total"].fillna(0).tolist() == [4.0, 0.0, 5.0, 0.0]
    assert rows["error"].tolist()[1] == "RuntimeError: a bad label <b>```"
    assert rows[["parameter.first", "parameter.label"]].iloc[2].tolist() == [2, "good"]
    assert set(rows["parameter.second"]) == {3.0}
    assert rows["version.python"].notna().all()
    again = pd.read_csv(book.root / "_build" / "sweeps" / "demo" / "table.csv")
    assert again["status"].tolist() == rows["status"].tolist()


def test_only_what_is_missing_is_run_and_a_run_elsewhere_counts(swept):
    assert "recorded already" in swept.in_process("run", "addition", "-p", "first=2", "-p", "label=good", "-p", "second=3").stdout
    ran = swept.effnotes("run", "addition", "-p", "first=3", "-p", "second=3", "-p", "label=good")
    assert ran.returncode == 0, ran.stdout
    before = {path: path.stat().st_mtime_ns for path in swept.records("addition")}
    more = swept.in_process("sweep", "addition", "--grid", "first=1:3:1", "-p", "second=3", "-p", "label=good", "--name", "more")
    assert more.returncode == 0, more.stdout
    assert "3 points, 3 recorded already, 0 to run" in more.stdout
    assert table(swept, "more")["metric.total"].tolist() == [4.0, 5.0, 6.0]
    assert {path: path.stat().st_mtime_ns for path in swept.records("addition")} == before


def test_a_point_that_is_lost_is_run_again_and_failed_ones_as_often_as_asked(swept):
    (lost,) = (path for path in swept.records("addition") if json.loads(path.read_text())["key"] == table(swept)["key"][0])
    lost.unlink()
    again = swept.effnotes("sweep", "addition", *GRIDS, "-p", "second=3.0", "--name", "demo", "--retries", "1")
    assert again.returncode == 1
    assert "4 points, 1 recorded already, 3 to run; about" in again.stdout
    assert again.stdout.count("RuntimeError: a bad label <b>``` (to be run again)") == 2
    assert table(swept)["status"].tolist() == ["ok", "failed", "ok", "failed"]
    assert lost.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid", "third=1"), "no parameter 'third'"),
        (("--grid", "first=1,2,1"), "give a point twice: first=1"),
        (("--grid", "second=1,1.0"), "give a point twice: second=1.0"),
        (("--grid", "first=1", "--name", "A b"), "a sweep's name is"),
        (("--grid", "first=1", "--name", "demo"), "holds a sweep of other points"),
        (("--grid", "first=1", "-p", "first=2"), "'first' is given twice"),
        (("--grid", "first=1", "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), "give one of them"),
        ((), "needs a grid"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(swept_once, options, message):
    book, _ = swept_once
    refused = book.in_process("sweep", "addition", *options)
    assert refused.returncode == 2
    assert message in refused.stdout
    assert len(book.records("addition")) == 4
    assert [path.name for path in (book.root / "_build" / "sweeps").iterdir()] == ["demo"]


def test_the_commands_of_an_array_make_the_records_of_the_sweep(swept):
    script = swept.in_process("sweep", "addition", "--grid", "label=x y,good", "-p", "first=4", "--print-commands").stdout
    assert "#SBATCH --array=1-2\n" in script
    command = f'effnotes() {{ {" ".join(swept.command())} "$@"; }}\n'
    ran = subprocess.run(
        ["sh", "-c", command + script], env={**os.environ, "SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    project = Project.find(swept.root)
    planned = plan_sweep(project, "addition", ["label=x y,good"], {"first": 4}, "quick", None)
    rows = recorded(planned, RecordStore(project.build_dir / "runs"))
    assert [row["parameter.label"] for row in rows.values()] == ["x y"]


def test_the_time_of_a_point_is_that_of_earlier_runs(swept):
    project = Project.find(swept.root)
    store = RecordStore(project.build_dir / "runs")
    planned = plan_sweep(project, "addition", ["first=8,9"], {}, "quick", None)
    assert point_seconds(planned, store, []) > 0
    assert point_seconds(planned._replace(points=[planned.points[0]._replace(profile="full")]), store, []) is None
    assert point_seconds(planned, store, [{"duration_s": 2.0}, {"duration_s": 4.0}]) == 3.0


def test_the_page_compares_the_points(swept):
    built = swept.effnotes("build")
    assert built.returncode == 0, built.stdout
    page = (swept.root / "_build" / "html" / "book" / "sweeps" / "demo.html").read_text()
    assert "2 of 4 points are finished, 2 failed" in page
    assert "effnotes-sortable" in page
    assert "RuntimeError: a bad label &lt;b&gt;&#96;&#96;&#96;" in page
    for key in table(swept)["key"]:
        assert f"../../_static/sweeps/demo/{key}.ipynb" in page
        linked = swept.root / "_build" / "html" / "_static" / "sweeps" / "demo" / f"{key}.ipynb"
        assert nbformat.read(linked, as_version=4).cells[0].source == install_cell(Project.find(swept.root)).source
    assert "figure.svg" in page
    assert 'href="sweeps/demo.html"' in (swept.root / "_build" / "html" / "book" / "addition.html").read_text()
    assert "pages: rendering" not in swept.in_process("build").stdout  # the same pages again


@pytest.mark.slow
def test_after_a_kill_only_the_missing_points_run(book):
    options = ("sweep", "addition", "--grid", "first=1:4:1", "-p", "pause_s=1.5", "--workers", "2", "--name", "demo")
    sweep = book.start(*options)
    deadline = time.monotonic() + 60
    while not (path := book.root / "_build" / "sweeps" / "demo" / "table.parquet").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    done = pd.read_parquet(path)["key"].tolist()
    assert 1 <= len(done) < 4
    stamps = {key: (book.root / "_build" / "runs" / "addition" / key / "record.json").stat().st_mtime_ns for key in done}
    again = book.effnotes(*options)
    assert again.returncode == 0, again.stdout
    assert table(book)["status"].tolist() == ["ok"] * 4
    assert {key: (book.root / "_build" / "runs" / "addition" / key / "record.json").stat().st_mtime_ns for key in done} == stamps


@pytest.mark.slow
def test_two_sweeps_share_their_points(book):
    options = ("sweep", "addition", "-p", "pause_s=1.0", "--workers", "1")
    one = book.start(*options, "--grid", "first=1,2,3", "--name", "one")
    two = book.start(*options, "--grid", "first=3,2,1,4", "--name", "two")
    for process in (one, two):
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert len(book.records("addition")) == 4
    numbers = [json.loads(path.read_text())["number"] for path in book.records("addition")]
    assert len(numbers) == 4
    assert len(table(book, "one")) == 3
    assert len(table(book, "two")) == 4
