"""Small tables on their way into a record and back."""

import json

import numpy as np
import pandas as pd
import pytest

from effnotes.reporting.tables import MAX_CELLS, TABLE_MIME, TableError, keep_table, read_table

FRAME = pd.DataFrame(
    {
        "seed": [1, 2, 3],
        "value": [0.123456789, np.nan, -2.0],
        "attribute": ["Big_Nose", None, "Smile & <b>"],
        "calibrated": [True, False, True],
    }
)


def through_json(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Keep a table and read it back, by way of text that allows no NaN."""
    payload = json.loads(json.dumps(keep_table(name, frame).to_json(), allow_nan=False))
    return read_table({"tables": {payload.pop("name"): payload}}, name)


def test_a_table_comes_back_with_six_digits():
    back = through_json("averages", FRAME)
    assert list(back.columns) == list(FRAME.columns)
    assert back["seed"].tolist() == [1, 2, 3]
    assert back["seed"].dtype == np.int64
    assert back["value"].dtype == np.float64
    assert back["value"].tolist()[::2] == [0.123457, -2.0]
    assert np.isnan(back["value"][1])
    assert back["attribute"].dropna().tolist() == ["Big_Nose", "Smile & <b>"]
    assert back["attribute"].isna().tolist() == [False, True, False]
    assert back["calibrated"].dtype == bool


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pd.Categorical(["b", "a", None]), ["b", "a", None]),
        (pd.Categorical([0.5, 0.9, 0.5]), ["0.5", "0.9", "0.5"]),
        (pd.array([1, None, 3], dtype="Int64"), [1, None, 3]),
        (pd.array([True, None, False], dtype="boolean"), [True, None, False]),
        (np.array([1.5, 2, np.nan], dtype=np.float32), [1.5, 2.0, None]),
        (np.array([1, 2, 3], dtype=np.uint8), [1, 2, 3]),
        ([np.float64(0.25), 3, None], [0.25, 3, None]),
        ([np.nan, np.nan, np.nan], [None, None, None]),
        ([1e-9 / 3, 123456789.0, 2 / 3], [3.33333e-10, 123457000.0, 0.666667]),
    ],
)
def test_every_value_is_a_plain_one(values, kept):
    (column,) = keep_table("t", pd.DataFrame({"x": values})).data
    assert list(column) == kept
    assert {type(value) for value in column} <= {str, int, float, bool, type(None)}


def test_a_column_that_is_never_defined_comes_back_as_numbers():
    assert through_json("t", pd.DataFrame({"x": [np.nan, np.nan]}))["x"].dtype == np.float64
    assert through_json("t", pd.DataFrame({"x": []})).shape == (0, 1)


def test_chosen_rows_are_kept_in_their_order_and_numbered_anew():
    back = through_json("t", FRAME[FRAME["calibrated"]].sort_values("seed", ascending=False))
    assert back["seed"].tolist() == [3, 1]
    assert back.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "frame", "message"),
    [
        ("Averages", FRAME, "lower-case words"),
        ("two words", FRAME, "lower-case words"),
        ("../t", FRAME, "lower-case words"),
        ("t", FRAME.set_index("seed"), r"its index \(seed\) would be lost; call reset_index"),
        ("t", FRAME.set_index("attribute", drop=False).rename_axis(None), "would be lost"),
        ("t", FRAME.groupby(["seed", "attribute"])[["value"]].mean(), r"\(seed, attribute\) would be lost"),
        ("t", FRAME.rename(columns={"value": "seed"}), r"\['seed'\] come more than once"),
        ("t", pd.DataFrame({0: [1]}), r"must be text; got \[0\]"),
        ("t", pd.DataFrame(), "it needs columns"),
        ("t", pd.DataFrame({"x": [1.0, np.inf]}), "column 'x' holds inf"),
        ("t", pd.DataFrame({"x": [[1], [2]]}), r"column 'x' holds \[1\] \(list\)"),
        ("t", pd.DataFrame({"x": pd.to_datetime(["2026-01-01"])}), "column 'x' holds Timestamp"),
        ("t", pd.DataFrame({"x": [1, "a"]}), "mixes numbers with text"),
        ("t", pd.DataFrame({"x": [True, 1.5]}, dtype=object), "mixes numbers with true and false"),
        (
            "t",
            pd.DataFrame({"x": np.zeros(MAX_CELLS + 1)}),
            f"{MAX_CELLS + 1:,} cells; at most {MAX_CELLS:,} are kept: average first",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(name, frame, message):
    with pytest.raises(TableError, match=message):
        keep_table(name, frame)


def test_the_largest_table_is_kept():
    assert len(keep_table("t", pd.DataFrame({"x": np.zeros(MAX_CELLS)})).data[0]) == MAX_CELLS


def test_a_table_shows_one_line_and_carries_its_values():
    shown = keep_table("by-level", FRAME)._repr_mimebundle_()
    assert shown["text/plain"] == "Table by-level, 3 rows, kept with the record of this run."
    assert shown["text/html"].count("<code>by-level</code>, 3 rows") == 1
    assert shown[TABLE_MIME]["columns"] == list(FRAME.columns)
    assert "1 row," in str(keep_table("one", FRAME.head(1)))
    assert "Table <code>a</code>, 3 rows" in keep_table("a", FRAME)._repr_mimebundle_()["text/html"]


def test_a_table_that_is_not_there_names_the_nearest():
    record = {"tables": {"models": {"columns": ["x"], "data": [[1]]}, "growth": {"columns": ["x"], "data": [[1]]}}}
    with pytest.raises(TableError, match=r"no table 'model'\. Did you mean 'models'\? It has: models, growth"):
        read_table(record, "model")
    with pytest.raises(TableError, match="It has: no tables"):
        read_table({"claims": []}, "models")
