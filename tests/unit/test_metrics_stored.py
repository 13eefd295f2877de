"""Stored logits as the pruned-vision-model-bias repository writes them: files that are whole, and files that are not."""

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


def test_a_byte_order_mark_is_passed_over_and_a_form_feed_ends_no_line(tmp_path):
    path = tmp_path / "test_outputs.txt"
    path.write_bytes(b"\xef\xbb\xbf1.0 -2e-3\r\n3 \x0c4\r\n")
    assert metrics.read_outputs(path).tolist() == [[1.0, -0.002], [3.0, 4.0]]


def test_arrays_are_not_unpickled(tmp_path):
    path = tmp_path / "test_outputs.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"test_outputs\.npy: .*no text file of logits, as numpy\.savetxt writes one"):
        metrics.read_outputs(path)


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
        ("1 2\n\n3 x4\n", None, "line 3, column 2: 'x4' is no finite number"),
        ("1 2\n3 4_0\n", None, "line 2, column 2: '4_0' is no finite number"),
        ("# 1 2\n3 4\n", None, "line 1, column 1: '#' is no finite number"),
        ("1 2\n3 nan\n", None, "line 2, column 2: 'nan' is no finite number"),
        ("-inf\n", None, "line 1, column 1: '-inf' is no finite number"),
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
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        metrics.read_outputs(tmp_path / "none.txt")
    path = tmp_path / "test_outputs.txt"
    path.write_bytes(b"\x80\x04\x95 pickled")
    with pytest.raises(ValueError, match="no text file"):
        metrics.read_outputs(path)
