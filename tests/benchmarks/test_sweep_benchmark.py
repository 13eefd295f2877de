"""What a sweep costs beside its runs: the plan of many points, and the look for those that are recorded."""

import hashlib
import json
import time
import tracemalloc

import pytest

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
    tidy_table(rows.values()).to_parquet(planned.folder / "table.parquet", index=False)
    start = time.perf_counter()
    assert recorded(planned, store).keys() == rows.keys()
    assert time.perf_counter() - start < 5
