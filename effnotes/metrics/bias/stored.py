"""An audit of two models from files: their logits on the same samples, the labels, and who belongs to which group."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from effnotes.core.errors import DataError, nearest
from effnotes.core.files import user_path
from effnotes.datasets.files import naming
from effnotes.metrics.bias.audit import BiasAudit, audit_logits

_FORMS = "an array of NumPy (.npy), or a table with commas between and a row of names on top (.csv)"


def read_stored(path: str | Path) -> pd.DataFrame:
    """Read numbers that are stored as `.npy` or `.csv`, one row a sample.

    Args:
        path: of an array of shape (n,) or (n, K), or of a table with K columns under a row of their names, UTF-8. A first column
            without a name holds row numbers, as pandas writes them, and is left out.

    Returns:
        Shape (n, K); columns that have no names, or 0, 1, 2, ... for names, are numbered from 0.

    Raises:
        DataError: the file is missing, is neither of both, or holds something that is no real number.
    """
    file = user_path(path)
    if not file.is_file():
        raise DataError(f"{file}: this file is missing; give {_FORMS}")
    if (ending := file.suffix.lower()) not in (".npy", ".csv"):
        raise DataError(f"{file}: its name ends in {ending!r}; give {_FORMS}")
    with naming(file):
        frame = _read_array(file) if ending == ".npy" else _read_table(file)
    for name, column in frame.items():
        if column.dtype.kind not in "biuf":
            wrong = column[pd.to_numeric(column, errors="coerce").isna()] if column.dtype.kind != "c" else column
            raise DataError(f"{file}: column {name!r} holds {str(wrong.iloc[0])[:40]!r}, which is no real number")
    return frame


def _read_array(file: Path) -> pd.DataFrame:
    with file.open("rb") as stream:  # np.load would take an archive under this name as well
        array = np.lib.format.read_array(stream, allow_pickle=False)
    if array.ndim not in (1, 2):
        raise DataError(f"{file}: the array has shape {array.shape}; give one row a sample, (n,) or (n, K)")
    return pd.DataFrame(array.reshape(len(array), -1))


def _read_table(file: Path) -> pd.DataFrame:
    read: dict[str, Any] = {"header": None, "encoding": "utf-8-sig", "skipinitialspace": True}
    header = pd.read_csv(file, nrows=1, dtype=str, keep_default_na=False, **read).iloc[0].str.strip().tolist()
    frame: pd.DataFrame = pd.read_csv(file, skiprows=1, low_memory=False, **read)
    if len(header) != frame.shape[1]:
        raise DataError(f"{file}: the first row has {len(header)} cells and the second {frame.shape[1]}")
    numbers = [str(number) for number in range(len(header))]
    if not header[0] and len(header) > 1:
        frame, header, numbers = frame.iloc[:, 1:], header[1:], numbers[:-1]
    if header != numbers and pd.to_numeric(pd.Series(header), errors="coerce").notna().all():
        raise DataError(f"{file}: the first row holds numbers; put a row of names above it, such as {','.join(numbers[:3])}, ...")
    frame.columns = pd.RangeIndex(len(header)) if header == numbers else pd.Index(header)
    return frame


def audit_files(
    dense: str | Path, pruned: str | Path, labels: str | Path, *, groups: str | Path | Hashable | None = None
) -> BiasAudit:
    """Audit stored logits as `audit_logits` does, with the audited labels in place of those of training.

    Which value of an attribute is rare, and in which group it is frequent, is then read from the same samples that the models are
    judged on, at the price of noise; `audit_logits(..., train_labels=...)` takes the labels of training.

    Args:
        dense: logits of n samples, shape (n, K), as `read_stored` reads them.
        pruned: likewise, of the same samples in the same order.
        labels: in {0, 1}, shape (n, K); or the class of each sample, from 0 to K - 1, shape (n,).
        groups: of each sample in {0, 1}, shape (n,); or a column of the labels by its name or number. Without groups nothing that
            compares them is defined.

    Returns:
        A `BiasAudit`: print it, or `write` it to a folder.

    Raises:
        DataError: a file is missing or has another form, shapes differ, a logit is not finite, labels or groups are out of range.
    """
    tables = {name: read_stored(path) for name, path in {"dense": dense, "pruned": pruned, "labels": labels}.items()}
    given: dict[str, Any] = {"dense": dense, "pruned": pruned, "labels": labels, "groups": groups}
    true, shape = tables["labels"], tables["dense"].shape
    protected: Any = np.zeros(shape[0], dtype=np.int64)
    if groups is not None:
        column = {str(name): number for number, name in enumerate(true)}.get(str(groups))
        if true.shape[1] > 1 and column is not None and not user_path(str(groups)).exists():
            protected = column
        elif not user_path(str(groups)).exists() and not Path(str(groups)).suffix:
            known = [str(name) for name in true]
            more = f"nor a column of the labels ({', '.join(known[:8])}{', ...' * (len(known) > 8)}).{nearest(str(groups), known)}"
            raise DataError(f"groups {groups}: neither a file, {more}")
        else:
            tables["groups"] = read_stored(str(groups))
            protected = tables["groups"].iloc[:, 0].to_numpy()
    allowed = {"pruned": [shape], "labels": [shape, (shape[0], 1)], "groups": [(shape[0], 1)]}
    for name, fitting in allowed.items():
        if name in tables and tables[name].shape not in fitting:
            needed = " or ".join(map(str, fitting))
            raise DataError(
                f"{name} ({given[name]}) has shape {tables[name].shape}, but with {dense} of shape {shape} needs {needed}"
            )
    with naming("the audit"):
        judged = true.iloc[:, 0] if true.shape[1] < shape[1] else true
        training: dict[str, Any] = {"train_labels": judged, "train_groups": None if isinstance(protected, int) else protected}
        return audit_logits(tables["dense"], tables["pruned"], judged, protected=protected, **training)
