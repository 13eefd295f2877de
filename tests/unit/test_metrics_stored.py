"""Stored logits in the layout of the pruned-vision-model-bias repository: files that are whole, and files that are not."""

import numpy as np
import pytest

from effnotes.metrics import bias as metrics


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values)
    return path


@pytest.mark.parametrize("shape", [(7, 40), (7, 1), (1, 40)])
def test_what_savetxt_wrote_is_read_back(tmp_path, shape):
    values = np.random.default_rng(0).normal(size=shape)
    path = write(tmp_path / "test_outputs.txt", values)
    np.testing.assert_array_equal(metrics.read_outputs(path, columns=shape[1]), values)


def test_blank_lines_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "valid_outputs.txt"
    path.write_bytes(b"\r\n1.0 -2e-3\r\n\r\n  3 4\t\r\n\n")
    assert metrics.read_outputs(path).tolist() == [[1.0, -0.002], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("1 2\n\n3 4\n5\n", None, r"test_outputs\.txt, line 4: 1 columns, not the 2 in line 1"),
        ("1 2\n3 4 5\n", None, "line 2: 3 columns, not the 2 in line 1"),
        ("1 2\n3 4\n", 40, "line 1: 2 columns, not the 40 asked for"),
        ("1 2\n\n3 x4\n", None, "line 3, column 2: 'x4' is no number"),
        ("# 1 2\n3 4\n", None, "line 1, column 1: '#' is no number"),
        ("1 2\n3 nan\n", None, "line 2, column 2: 'nan' is not finite"),
        ("-inf\n", None, "line 1, column 1: '-inf' is not finite"),
        ("", None, "the file is empty"),
        ("\n \n", None, "the file is empty"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, columns, message):
    path = tmp_path / "test_outputs.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        metrics.read_outputs(path, columns=columns)


def test_a_missing_and_a_binary_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of logits"):
        metrics.read_outputs(tmp_path / "none.txt")
    path = tmp_path / "test_outputs.txt"
    path.write_bytes(b"\x80\x04\x95 pickled")
    with pytest.raises(ValueError, match="no text file"):
        metrics.read_outputs(path)


@pytest.fixture
def runs(tmp_path):
    base = tmp_path / "runs"
    two = np.zeros((2, 2))
    joint = base / "joint_runs" / "celeba" / "resnet18"
    write(joint / "Dense" / "0" / "seed21" / "test_outputs.txt", two)
    write(joint / "Dense" / "0" / "seed21" / "valid_outputs.txt", two)
    for epoch in ("best", "last"):
        write(joint / "GMP-RI" / "99.5" / "seed21" / f"test_outputs_{epoch}.txt", two)
    write(joint / "GMP-RI" / "99.5" / "seed21" / "val_outputs_best.txt", two)
    (joint / "GMP-RI" / "99.5" / "unfinished").mkdir()
    (joint / "GMP-RI" / ".DS_Store").write_text("")
    (joint / "GMP-RI" / "99.5" / "run_stats.pkl").write_bytes(b"never opened")
    write(
        base / "single_label_runs" / "celeba" / "resnet18" / "GMP-RI" / "big-nose" / "80" / "s15" / "test_outputs_best.txt",
        two[:, :1],
    )
    write(
        base / "backdoor_runs" / "celeba" / "resnet18" / "Dense" / "blond" / "grayscale" / "0" / "s8" / "test_outputs_best.txt", two
    )
    return tmp_path


def test_runs_are_found_by_the_layout(runs):
    table = metrics.find_runs(runs)
    described = table[["kind", "strategy", "attribute", "planted", "sparsity", "run", "epoch"]].to_numpy().tolist()
    assert described == [
        ["backdoor", "Dense", "blond", "grayscale", 0.0, "s8", "best"],
        ["joint", "Dense", "", "", 0.0, "seed21", ""],
        ["joint", "GMP-RI", "", "", 0.995, "seed21", "best"],
        ["joint", "GMP-RI", "", "", 0.995, "seed21", "last"],
        ["joint", "GMP-RI", "", "", 0.995, "unfinished", ""],
        ["single_label", "GMP-RI", "big-nose", "", 0.8, "s15", "best"],
    ]
    assert set(table["dataset"]) == {"celeba"}
    assert set(table["architecture"]) == {"resnet18"}
    files = [[path and path.name for path in pair] for pair in table[["test_outputs", "validation_outputs"]].to_numpy()]
    assert files[1] == ["test_outputs.txt", "valid_outputs.txt"]
    assert files[2] == ["test_outputs_best.txt", "val_outputs_best.txt"]
    assert files[3] == ["test_outputs_last.txt", None]
    assert files[4] == [None, None]
    assert metrics.read_outputs(table.loc[5, "test_outputs"]).shape == (2, 1)
    assert metrics.find_runs(runs / "runs").equals(table)


@pytest.mark.parametrize("name", ["dense", "0.995", "100", "-5"])
def test_a_folder_that_is_no_percentage(runs, name):
    (runs / "runs" / "joint_runs" / "celeba" / "resnet18" / "GMP-PT" / name / "seed1").mkdir(parents=True)
    with pytest.raises(ValueError, match="named by a sparsity in percent"):
        metrics.find_runs(runs)


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="joint_runs, single_label_runs, backdoor_runs"):
        metrics.find_runs(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder of runs"):
        metrics.find_runs(tmp_path / "nowhere")
