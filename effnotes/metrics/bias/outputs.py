"""Reading logits that others have stored: the folders and files of the pruned-vision-model-bias repository.

Its runs lie under one root, sparsities named in percent:

    runs/joint_runs/DATASET/ARCHITECTURE/STRATEGY/SPARSITY/RUN/
    runs/single_label_runs/DATASET/ARCHITECTURE/STRATEGY/ATTRIBUTE/SPARSITY/RUN/
    runs/backdoor_runs/DATASET/ARCHITECTURE/STRATEGY/ATTRIBUTE/FEATURE/SPARSITY/RUN/

with the logits of a run as plain text in `test_outputs.txt` and `valid_outputs.txt`, or with the endings
`_best` and `_last` for the epoch they are of; its training writes `val_outputs`, its analysis reads
`valid_outputs`. `sorted(Path("runs").glob("joint_runs/*/*/*/*/*/test_outputs*.txt"))` lists them; cached pickles
beside them are not opened.

Source: code published with Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
"""

import contextlib
import math
from pathlib import Path

import numpy as np

from effnotes.core.errors import DataError
from effnotes.datasets.files import read_lines
from effnotes.metrics.bias.per_attribute import FloatArray


def read_outputs(path: str | Path, *, columns: int | None = None) -> FloatArray:
    """Read a text file of logits: one line per sample, one number per attribute, separated by white space.

    Args:
        path: of the file, UTF-8; blank lines, a byte order mark and either kind of line ending are fine.
        columns: K, the attributes there must be; 40 for CelebA's, 1 for a single-label run. None takes what
            the first line has.

    Returns:
        Shape (n, K), float64, in the order of the lines.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is empty or no text, a line has another number of columns than the first or than
            `columns`, or an entry is no finite number; file and line are named.
    """
    file = Path(path)
    rows: list[list[float]] = []
    source = "asked for"
    if not file.exists():
        raise FileNotFoundError(f"{file}: this file is missing")
    try:
        lines = read_lines(file)
    except DataError as error:
        raise DataError(f"{error}; this is no text file of logits, as numpy.savetxt writes one") from None
    for number, line in lines:
        entries = line.split()
        if columns is None:
            columns, source = len(entries), f"in line {number}"
        if len(entries) != columns:
            raise DataError(f"{file}, line {number}: {len(entries)} columns, not the {columns} {source}")
        rows.append([_finite(entry, f"{file}, line {number}, column {k}") for k, entry in enumerate(entries, start=1)])
    if not rows:
        raise DataError(f"{file}: the file is empty; it should hold one line of logits per sample")
    return np.array(rows)


def _finite(entry: str, where: str) -> float:
    with contextlib.suppress(ValueError):
        # float() would take 1_5 for 15.
        if "_" not in entry and math.isfinite(value := float(entry)):
            return value
    raise DataError(f"{where}: {entry[:40]!r} is no finite number")
