"""What a sweep costs beside its runs: the plan of many points, the look for recorded ones, and the time around each run."""

import hashlib
import json
import os
import statistics
import time
import tracemalloc

import pytest

from effnotes.core.processes import granted_cores
from effnotes.reporting.comparison import tidy_table
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore
from effnotes.runner.sweep import plan_sweep, recorded

POINTS = 10_000
GRIDS = [f"first=1:{POINTS // 100}:1", "second=0.01:1:0.01"]


@pytest.fixture(scope="module")
def project(make_book, tmp_path_factory) -> Project:
    return Project.find(make_book(tmp_path_factory.mktemp("swept") / "checkout").root)


def plan(project: Project):
    return plan_sweep(project, "addition", GRIDS, {}, "quick", "many")


def test_planning_many_points_takes_seconds_and_little_memory(benchmark, project):
    planned = benchmark.pedantic(plan, args=(project,), rounds=3)
    assert len(planned.points) == POINTS
    assert benchmark.stats["min"] < 3
    tracemalloc.start()
    try:
        planned = plan(project)
        assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
    finally:
        tracemalloc.stop()


def test_looking_for_many_recorded_points_takes_seconds(benchmark, project):
    planned, notebook = plan(project), b"{}" * 10_000
    store = RecordStore(project.build_dir / "runs")
    claim = {"id": "sum.grows", "estimate": 1.0, "interval": [0.5, 1.5], "verdict": "shown", "unit": "one", "effects": [1.0] * 30}
    for point in planned.points:
        folder = store.root / "addition" / point.key
        folder.mkdir(parents=True)
        (folder / "notebook.ipynb").write_bytes(notebook)
        values = [{"name": name, "value": value} for name, value in point.values.items()]
        record = {"format": 3, "key": point.key, "notebook_sha256": hashlib.sha256(notebook).hexdigest(), "status": "finished"}
        record |= {"chapter": "addition", "profile": "quick", "started": "2026-01-01", "duration_s": 1.0, "parameters": values}
        (folder / "record.json").write_text(json.dumps(record | {"claims": [claim] * 10}))
    rows = benchmark.pedantic(recorded, args=(planned, store), rounds=3)
    assert len(rows) == POINTS
    assert benchmark.stats["min"] < 5  # what else the machine does is not measured
    planned.folder.mkdir(parents=True)
    tidy_table(rows.values()).to_parquet(planned.folder / "table.parquet", index=False)
    start = time.perf_counter()
    assert recorded(planned, store).keys() == rows.keys()
    assert time.perf_counter() - start < 5


def test_two_workers_share_the_work_and_little_is_added_to_it(make_book, tmp_path):
    """Points that compute, in pure Python and so on one thread each; the median of three sweeps with each number of workers."""
    if granted_cores() < 2:
        pytest.skip("this machine grants one core")
    book, took = make_book(tmp_path / "checkout"), {1: [], 2: []}
    work = "for _ in range(int(pause_s * 20)):\n    sum(number * number for number in range(1_000_000))"
    book.edit("addition", "time.sleep(pause_s)", work)
    for turn in range(3):
        for workers in took:
            name = f"of-{workers}-{turn}"
            options = ("-p", "pause_s=1.5", "-p", f"label={name}", "--workers", str(workers), "--name", name)
            start = time.perf_counter()
            # As many threads as workers: one of each, whatever their number.
            threads = {**os.environ, "OMP_NUM_THREADS": str(workers)}
            result = book.effnotes("sweep", "addition", "--grid", "first=1:12:1", *options, env=threads, timeout=600)
            took[workers].append(time.perf_counter() - start)
            assert result.returncode == 0, result.stdout
    records = [json.loads(path.read_text()) for path in book.records("addition")]
    own = [record for record in records if "of-1-2" in [item["value"] for item in record["parameters"]]]
    assert len(own) == 12
    around = took[1][2] / 12 - sum(cell["duration_s"] or 0 for record in own for cell in record["cells"]) / 12
    faster = statistics.median(took[1]) / statistics.median(took[2])
    print(f"{faster:.2f} times as fast; {around:.2f} s around each run; {took}")
    assert faster >= 1.7
    assert around <= 1.5
