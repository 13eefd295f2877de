"""An audit from files, in Python and as a command: what is printed and written, and what is refused before any work."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from effnotes.__main__ import app
from effnotes.metrics.bias import audit_files, audit_logits, read_stored

LOGITS = Path(__file__).parents[1] / "fixtures" / "logits"
FILES = [f"--{name}={LOGITS / name}.npy" for name in ("dense", "pruned", "labels")]
NAMES = ["group", "a", "b", "c", "d"]


def run(*arguments):
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """The same numbers as tables, those of the pruned model with columns in another order."""
    monkeypatch.chdir(tmp_path)
    frames = {name: pd.DataFrame(np.load(LOGITS / f"{name}.npy"), columns=NAMES) for name in ("dense", "pruned", "labels")}
    frames["dense"].to_csv("dense.csv")
    frames["pruned"][NAMES[::-1]].to_csv("pruned.csv", index=False)
    frames["labels"].to_csv("labels.csv", index=False)
    return ["--dense=dense.csv", "--pruned=pruned.csv", "--labels=labels.csv"]


def test_the_command_prints_the_summary_and_writes_figure_and_table(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "effnotes", "audit", *FILES, "--groups", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    dense, pruned, labels = (np.load(LOGITS / f"{name}.npy") for name in ("dense", "pruned", "labels"))
    audit = audit_logits(dense, pruned, labels, protected=0, train_labels=labels)
    assert done.stdout.startswith(f"{audit}\n")
    rows = [line.split() for line in str(audit).split("largest first")[1].splitlines()[3:]]
    assert [row[0] for row in rows][:3] == ["3", "2", "4"], "the largest change first"
    assert {path.name for path in (tmp_path / "audit-pruned").iterdir()} == {"figure.svg", "figure.png", "table.csv"}
    assert (tmp_path / "audit-pruned" / "figure.svg").read_text().startswith("<?xml")
    assert (tmp_path / "audit-pruned" / "figure.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(tmp_path / "audit-pruned" / "table.csv")
    assert len(table) == len(audit.table)
    row = table[(table["model"] == "difference") & (table["metric"] == "bias_amplification") & (table["attribute"] == 3)].iloc[0]
    assert row[["value", "low", "high"]].tolist() == pytest.approx(audit.changes().loc[3, ["difference", "low", "high"]].tolist())


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine").mkdir()
    assert run(*FILES, "--to", tmp_path / "mine").exit_code == 0, "an empty folder is as good as none"
    before = (tmp_path / "mine" / "table.csv").stat().st_mtime_ns
    again = run(*FILES, "--to", tmp_path / "mine", "--groups", "0")
    assert again.exit_code == 2
    assert "mine holds something, and nothing is written over" in again.output
    assert (tmp_path / "mine" / "table.csv").stat().st_mtime_ns == before


def test_without_groups_the_changes_of_accuracy_are_listed(tmp_path):
    output = run(*FILES, "--to", tmp_path / "out").output
    assert "change of accuracy, the largest first" in output
    assert "name them with --groups" in output


def test_tables_are_read_by_the_names_of_their_columns(tables):
    stored = audit_files(*(LOGITS / f"{name}.npy" for name in ("dense", "pruned", "labels")), groups=0)
    named = audit_files("dense.csv", "pruned.csv", "labels.csv", groups="group")
    assert named.changes().index[0] == "c"
    np.testing.assert_allclose(named.changes()["difference"], stored.changes()["difference"], atol=1e-6)
    assert run(*tables, "--groups", "group").exit_code == 0
    pd.DataFrame(np.load(LOGITS / "labels.npy")).to_csv("numbered.csv", index=False)
    assert read_stored("numbered.csv").equals(pd.DataFrame(np.load(LOGITS / "labels.npy").astype(int)))


def test_groups_and_classes_are_read_from_files_of_one_column(tmp_path):
    rng = np.random.default_rng(0)
    classes, groups, logits = rng.integers(0, 3, 200), rng.integers(0, 2, 200), rng.normal(size=(200, 3))
    for name, array in {"dense": logits, "pruned": logits + groups[:, None] * [1, 0, -1], "classes": classes}.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "groups.csv").write_text("female\n" + "\n".join(map(str, groups)))
    audit = audit_files(*(tmp_path / f"{name}.npy" for name in ("dense", "pruned", "classes")), groups=tmp_path / "groups.csv")
    known = {"protected": groups, "train_labels": classes, "train_groups": groups}
    expected = audit_logits(logits, logits + groups[:, None] * [1, 0, -1], classes, **known)
    pd.testing.assert_frame_equal(audit.table, expected.table)


REFUSED = [
    ({"--dense": "none.npy"}, r"none\.npy: this file is missing"),
    ({"--dense": "."}, r"\.: this file is missing"),
    ({"--pruned": "model.pt"}, r"model\.pt: its name ends in '\.pt'; give an array of NumPy"),
    ({"--pruned": "short.npy"}, r"pruned \(short\.npy\) has shape \(9, 5\), but with dense\.csv of shape \(400, 5\)"),
    ({"--labels": "short.npy"}, r"labels \(short\.npy\) has shape \(9, 5\), but .*\(400, 5\) needs \(400, 5\) or \(400, 1\)"),
    ({"--pruned": "words.csv"}, r"words\.csv: column 'b' holds 'much', which is no real number"),
    ({"--pruned": "ragged.csv"}, r"ragged\.csv: .*line 3"),
    ({"--pruned": "bare.csv"}, r"bare\.csv: the first row holds numbers; put a row of names above it"),
    ({"--pruned": "empty.csv"}, r"empty\.csv: No columns to parse"),
    ({"--pruned": "torn.npy"}, r"torn\.npy: "),
    ({"--pruned": "pickled.npy"}, r"pickled\.npy: Object arrays cannot be loaded"),
    ({"--pruned": "nan.npy"}, "pruned_logits must be finite, but 1 of 2000"),
    ({"--pruned": "cube.npy"}, r"cube\.npy: the array has shape \(2, 2, 2\)"),
    ({"--labels": "high.npy"}, r"labels must be 0 or 1, but hold \[2"),
    ({"--groups": "short.npy"}, r"groups \(short\.npy\) has shape \(9, 5\), but .* needs \(400, 1\)"),
    (
        {"--groups": "grup"},
        r"groups grup: neither a file, nor a column of the labels \(group, a, b, c, d\)\. Did you mean 'group'\?",
    ),
    ({"--groups": "seven.npy"}, r"groups must be 0 or 1, but hold \[7"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(tables, changes, message):
    labels = np.load(LOGITS / "labels.npy")
    arrays = {"short": labels[:9], "cube": np.zeros((2, 2, 2)), "high": labels + 2, "seven": np.full(400, 7)}
    arrays["nan"] = np.where(np.arange(2000).reshape(400, 5) == 7, np.nan, 1.0)
    arrays["pickled"] = np.array([{}], dtype=object)
    for name, array in arrays.items():
        np.save(f"{name}.npy", array, allow_pickle=True)
    Path("torn.npy").write_bytes(Path("short.npy").read_bytes()[:-7])
    texts = {"words": "a,b\n1,2\n1,much\n", "ragged": "a,b\n1,2\n1,2,3\n", "bare": "0.5,1.5\n1,2\n", "empty": ""}
    for name, text in texts.items():
        Path(f"{name}.csv").write_text(text)
    Path("model.pt").write_bytes(b"\x80")
    given = dict(option.split("=") for option in tables) | changes
    result = run(*(f"{option}={value}" for option, value in given.items()))
    assert result.exit_code == 2
    assert re.search(message, result.output), result.output
    assert len(result.output.strip().splitlines()) == 1
    assert list(Path().glob("audit-*")) == []
