"""Small tables that a chapter keeps with the record of its run, for pages that are drawn where the run cannot be repeated.

A chapter shows what `keep_table` returns. The executed notebook then carries the table as JSON under a MIME type of its own, the
runner takes it into the run's record, and `read_table` gives it back as a frame. A table is tidy: a row is an observation, a column
a variable, and nothing is in the index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from effnotes.core.errors import nearest

if TYPE_CHECKING:
    import pandas as pd

TABLE_MIME = "application/vnd.effnotes.table+json"
"""MIME type under which an executed notebook keeps a table."""

MAX_CELLS = 30_000
"""The largest table that is kept: rows times columns."""

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_KINDS = {str: "text", bool: "true and false", int: "numbers", float: "numbers"}
_SCALARS = "text, whole numbers, finite numbers or true and false"


class TableError(ValueError):
    """A frame that cannot be kept, or a table that a record does not have."""


class KeptTable(NamedTuple):
    """A table on its way into the record; shows itself as one line."""

    name: str
    columns: tuple[str, ...]
    data: tuple[tuple[Any, ...], ...]  # one tuple a column, of str, int, float, bool or None

    def to_json(self) -> dict[str, Any]:
        """Name, columns and the values of each column, as plain JSON values."""
        return {"name": self.name, "columns": list(self.columns), "data": [list(values) for values in self.data]}

    def __str__(self) -> str:
        rows = len(self.data[0])
        return f"Table {self.name}, {rows:,} row{'' if rows == 1 else 's'}, kept with the record of this run."

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002
        shown = str(self).replace(f" {self.name},", f" <code>{self.name}</code>,", 1)  # a name has nothing to escape
        return {"text/plain": str(self), "text/html": f'<p class="effnotes-note">{shown}</p>', TABLE_MIME: self.to_json()}


def keep_table(name: str, frame: pd.DataFrame) -> KeptTable:
    """Make a table ready to be kept with the record of the run; it is kept once it is shown.

    Args:
        name: Of the table in the record: lower-case words joined by `-` or `_`. A run keeps one table under a name.
        frame: Plain columns of text, numbers or booleans, at most `MAX_CELLS` cells. Categories become text, floats are rounded
            to 6 significant digits, and what is missing (NaN, None, NA) becomes null. The row numbers are not kept.

    Returns:
        The table, to be the last value of a cell or an argument of `display`.

    Raises:
        TableError: The name has another form; the frame has no columns, too many cells, a named index or one that is no numbering
            of rows, column names that are no text or not unique, or values of another kind, also infinite ones.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TableError(f"a table's name is lower-case words joined by '-' or '_', such as 'averages'; got {name!r}")
    import pandas as pd

    columns, what = tuple(frame.columns), f"table {name!r}"
    strange = [column for column in columns if not isinstance(column, str) or not column.strip()]
    if strange or not columns:
        raise TableError(f"{what}: it needs columns, and their names must be text; got {strange or 'none'}")
    if not frame.columns.is_unique:
        repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
        raise TableError(f"{what}: column names must be unique; {repeated} come more than once")
    named = ", ".join(str(level) for level in frame.index.names if level is not None)
    if named or not pd.api.types.is_integer_dtype(frame.index.dtype):
        raise TableError(f"{what}: its index ({named or frame.index.dtype}) would be lost; call reset_index() first")
    if frame.size > MAX_CELLS:
        raise TableError(f"{what} has {len(frame):,} rows, {frame.size:,} cells; at most {MAX_CELLS:,} are kept: average first")
    return KeptTable(name, columns, tuple(_plain_column(frame[column], f"{what}, column {column!r}") for column in columns))


def read_table(record: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Read a table back from a record.

    Args:
        record: A run's record, or any other mapping whose entry "tables" maps names to "columns" and "data".
        name: Of the table.

    Returns:
        The frame with rows numbered from 0; a null is NaN among numbers, and also where a column holds nothing else.

    Raises:
        TableError: The record has no table of that name; the message names those that it has.
    """
    tables = record.get("tables") or {}
    if name not in tables:
        raise TableError(f"the record has no table {name!r}.{nearest(name, tables)} It has: {', '.join(tables) or 'no tables'}.")
    import pandas as pd

    columns = dict(zip(tables[name]["columns"], tables[name]["data"], strict=True))
    empty = {name for name, values in columns.items() if values and set(values) == {None}}
    return pd.DataFrame({name: pd.Series(values, dtype=float if name in empty else None) for name, values in columns.items()})


def _plain_column(column: pd.Series[Any], where: str) -> tuple[Any, ...]:
    """Return the values as plain JSON values of one kind."""
    import numpy as np
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).map(str, na_action="ignore")
    given = [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
    values = [value.item() if isinstance(value, np.generic) else value for value in given]
    for value in values:
        if value is not None and (type(value) not in _KINDS or value in (math.inf, -math.inf)):
            raise TableError(f"{where} holds {value!r} ({type(value).__name__}); a table that is kept holds {_SCALARS}")
    # An integer among floats is a number like the others; True among numbers, or a number among texts, is a slip.
    kinds = sorted({_KINDS[type(value)] for value in values if value is not None})
    if len(kinds) > 1:
        raise TableError(f"{where} mixes {' with '.join(kinds)}; give it values of one kind")
    return tuple(float(f"{value:.6g}") if isinstance(value, float) else value for value in values)
