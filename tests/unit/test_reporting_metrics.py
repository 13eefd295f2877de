"""Named numbers of a run: what may be reported, what is kept, and how runs stand side by side."""

import json

import numpy as np
import pandas as pd
import pytest

from effnotes.reporting.comparison import draw_comparison, quantities, tidy_row, tidy_table
from effnotes.reporting.metrics import METRIC_MIME, report


def test_a_metric_carries_plain_json():
    data = report("accuracy", np.float32(0.123456789), unit="share")._repr_mimebundle_()
    assert json.loads(json.dumps(data[METRIC_MIME])) == {"name": "accuracy", "value": 0.123457, "unit": "share"}
    assert "0.123" in data["text/plain"]
    assert "share" in data["text/plain"]


@pytest.mark.parametrize("value", [None, float("nan"), np.nan])
def test_what_is_not_defined_is_null(value):
    assert report("gap", value, unit="points").value is None


@pytest.mark.parametrize(
    ("name", "value", "unit", "message"),
    [
        ("Accuracy", 1.0, "share", "lower-case words"),
        ("a b", 1.0, "share", "lower-case words"),
        ("accuracy", float("inf"), "share", "infinite"),
        ("accuracy", "high", "share", "no number"),
        ("accuracy", 1.0, " ", "unit"),
    ],
)
def test_what_is_no_metric_is_refused(name, value, unit, message):
    with pytest.raises(ValueError, match=message):
        report(name, value, unit=unit)


def record(size: object, accuracy: float | None, **fields: object) -> dict:
    claim = {"id": "a.b", "estimate": 1.0, "interval": [0.5, 1.5], "verdict": "shown", "unit": "points"}
    metrics = {"accuracy": {"value": accuracy, "unit": "share"}}
    return {"status": "finished", "parameters": [{"name": "size", "value": size}], "metrics": metrics, "claims": [claim], **fields}


def test_rows_of_different_kinds_become_a_table_that_files_hold(tmp_path):
    failed = {"status": "failed", "error": {"name": "E", "message": "no"}, "parameters": [{"name": "size", "value": [1, 2]}]}
    frame = tidy_table([tidy_row(record(3, 0.5)), tidy_row(record("large", None)), tidy_row(failed)])
    assert frame["status"].tolist() == ["ok", "ok", "failed"]
    assert frame["parameter.size"].tolist() == ["3", "large", "[1, 2]"]
    assert frame["error"].tolist()[-1] == "E: no"
    assert frame["claim.a.b.low"].tolist()[:2] == [0.5, 0.5]
    frame.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    assert again["metric.accuracy"].isna().tolist() == [False, True, True]
    assert again["claim.a.b.verdict"].tolist()[:2] == ["shown", "shown"]


def test_a_panel_for_each_quantity_and_a_bar_for_each_interval():
    frame = tidy_table(tidy_row(record(size, size / 10)) for size in (1, 2, 3))
    assert quantities(frame) == {"metric.accuracy": ("accuracy", "share"), "claim.a.b.estimate": ("a.b", "points")}
    figure = draw_comparison(frame, ["parameter.size"])
    assert [ax.get_title() for ax in figure.axes] == ["accuracy", "a.b"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["share", "points"]
    accuracy, claim = figure.axes
    assert accuracy.lines[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    bars = [segment for collection in claim.collections for segment in collection.get_segments() if len(segment)]
    assert [1.0, 0.5, 1.0, 1.5] in [segment.ravel().tolist() for segment in bars]


def test_runs_that_measured_nothing_have_no_figure():
    frame = tidy_table([tidy_row({"status": "failed", "parameters": []})])
    assert draw_comparison(frame, ["status"]) is None
