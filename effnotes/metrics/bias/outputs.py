"""Reading logits that others have stored: the folders and files of the pruned-vision-model-bias repository.

Its runs lie under one root, sparsities named in percent:

    runs/joint_runs/DATASET/ARCHITECTURE/STRATEGY/SPARSITY/RUN/
    runs/single_label_runs/DATASET/ARCHITECTURE/STRATEGY/ATTRIBUTE/SPARSITY/RUN/
    runs/backdoor_runs/DATASET/ARCHITECTURE/STRATEGY/ATTRIBUTE/FEATURE/SPARSITY/RUN/

with the logits of a run as plain text in `test_outputs.txt` and `valid_outputs.txt`, or with the endings
`_best` and `_last` for the epoch they are of; its training writes `val_outputs`, its analysis reads
`valid_outputs`, so both are taken. Cached pickles beside them are never opened.

Source: code published with Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from effnotes.metrics.bias.per_attribute import FloatArray

RUN_COLUMNS = (
    *("kind", "dataset", "architecture", "strategy", "attribute", "planted", "sparsity", "run", "epoch"),
    *("test_outputs", "validation_outputs", "path"),
)
_KEYS = [*RUN_COLUMNS[:-3]]

_LEVELS = {
    "joint": ("dataset", "architecture", "strategy", "sparsity", "run"),
    "single_label": ("dataset", "architecture", "strategy", "attribute", "sparsity", "run"),
    "backdoor": ("dataset", "architecture", "strategy", "attribute", "planted", "sparsity", "run"),
}
_EPOCHS = ("", "best", "last")


def read_outputs(path: str | Path, *, columns: int | None = None) -> FloatArray:
    """Read a text file of logits: one line per sample, one number per attribute, separated by white space.

    Args:
        path: of the file, UTF-8; blank lines and either kind of line ending are fine.
        columns: K, the attributes there must be; 40 for CelebA's, 1 for a single-label run. None takes what
            the first line has.

    Returns:
        Shape (n, K), float64, in the order of the lines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty or no text, a line has another number of columns than the first or than
            `columns`, or an entry is no finite number; file and line are named.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file of logits")
    rows: list[list[float]] = []
    source = "asked for"
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            entries = line.split()
            if not entries:
                continue
            if columns is None:
                columns, source = len(entries), f"in line {number}"
            if len(entries) != columns:
                raise ValueError(f"{file}, line {number}: {len(entries)} columns, not the {columns} {source}")
            rows.append([_finite(entry, f"{file}, line {number}, column {k}") for k, entry in enumerate(entries, start=1)])
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no text file ({error.reason} at byte {error.start}); logits are read from plain text") from None
    if not rows:
        raise ValueError(f"{file}: the file is empty; it should hold one line of logits per sample")
    return np.array(rows)


def find_runs(root: str | Path) -> pd.DataFrame:
    """List the stored runs below a folder, by the layout of the pruned-vision-model-bias repository.

    Args:
        root: the folder `runs`, or the one that holds it.

    Returns:
        One row per run and stored epoch, sorted. Columns: `kind` ("joint", "single_label" or "backdoor"),
        `dataset`, `architecture`, `strategy` ("Dense", "GMP-RI", ...), `attribute` and `planted` (feature;
        empty where the kind has none), `sparsity` (a fraction, in [0, 1): the folder's percent / 100), `run`,
        `epoch` ("best", "last", or empty where the file name says none), `test_outputs` and
        `validation_outputs` (paths for `read_outputs`, None where missing) and `path` (the run's folder). A
        run without any test logits has one row, with None. Hidden entries and loose files are passed over.

    Raises:
        FileNotFoundError: there is no such folder, or none of the three kinds in it.
        ValueError: a folder in the place of a sparsity is not named by a percentage.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of runs")
    base = folder / "runs" if (folder / "runs").is_dir() else folder
    kinds = [kind for kind in _LEVELS if (base / f"{kind}_runs").is_dir()]
    if not kinds:
        expected = ", ".join(f"{kind}_runs" for kind in _LEVELS)
        raise FileNotFoundError(f"{base}: no runs here; expected at least one of the folders {expected}")
    found = []
    for kind in kinds:
        top, levels = base / f"{kind}_runs", _LEVELS[kind]
        for path in top.glob("/".join("*" * len(levels))):
            names = path.relative_to(top).parts
            if not path.is_dir() or any(name.startswith(".") for name in names):
                continue
            known = {"kind": kind, "attribute": "", "planted": "", "path": path, **dict(zip(levels, names, strict=True))}
            stored = [(epoch, *_outputs(path, epoch)) for epoch in _EPOCHS]
            for epoch, test, validation in [entry for entry in stored if entry[1] is not None] or [("", None, None)]:
                of_epoch = {"epoch": epoch, "test_outputs": test, "validation_outputs": validation}
                found.append({**known, "sparsity": _fraction(path.parent), **of_epoch})
    table = pd.DataFrame(found, columns=list(RUN_COLUMNS))
    # Columns of paths and None; a missing file must not turn into NaN.
    for column in ("test_outputs", "validation_outputs"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    return table.sort_values(_KEYS, kind="stable", ignore_index=True)


def _outputs(run: Path, epoch: str) -> tuple[Path | None, Path | None]:
    ending = f"_{epoch}.txt" if epoch else ".txt"
    paths = [[run / f"{split}_outputs{ending}" for split in splits] for splits in (("test",), ("valid", "val"))]
    test, validation = (next((path for path in options if path.is_file()), None) for options in paths)
    return test, validation


def _fraction(folder: Path) -> float:
    try:
        percent = float(folder.name)
    except ValueError:
        percent = float("nan")
    if not (percent == 0 or 1 <= percent < 100):
        raise ValueError(f"{folder}: a folder of this level must be named by a sparsity in percent, such as 0, 95 or 99.5")
    return percent / 100


def _finite(entry: str, where: str) -> float:
    try:
        value = float(entry)
    except ValueError:
        raise ValueError(f"{where}: {entry[:40]!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{where}: {entry!r} is not finite")
    return value
