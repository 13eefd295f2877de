"""Runs side by side: one tidy table of what they were given and what they gave, and a figure of it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STATUS = {"finished": "ok"}
"""What the status of a record is called in the table, where it is not called the same."""

_MOST_LEVELS = 12  # of a second parameter that are told apart by colour


def tidy_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row about a run, or about one that gave no record.

    Args:
        record: of a run; of its fields, those that are missing are left out.

    Returns:
        Plain values by column: ``status`` (ok, failed, refused), ``error``, ``chapter``, ``profile``, ``key``, ``started``,
        ``duration_s``, ``peak_memory_bytes``, ``parameter.NAME`` (lists and mappings as JSON), ``metric.NAME`` and
        ``metric.NAME.unit``, for each claim ``claim.ID.estimate``, ``.low``, ``.high``, ``.verdict`` and ``.unit``, and
        ``version.PACKAGE``.
    """
    error = record.get("error")
    row = {"status": STATUS.get(record.get("status", "finished"), record.get("status"))}
    row |= {"error": f"{error['name']}: {error['message']}" if error else None}
    row |= {name: record.get(name) for name in ("chapter", "profile", "key", "started", "duration_s", "peak_memory_bytes")}
    row |= {f"parameter.{item['name']}": _plain(item["value"]) for item in record.get("parameters", ())}
    for name, metric in record.get("metrics", {}).items():
        row |= {f"metric.{name}": metric["value"], f"metric.{name}.unit": metric["unit"]}
    for claim in record.get("claims", ()):
        low, high = claim["interval"] or (None, None)
        found = {"estimate": claim["estimate"], "low": low, "high": high, "verdict": claim["verdict"], "unit": claim["unit"]}
        row |= {f"claim.{claim['id']}.{name}": value for name, value in found.items()}
    environment = record.get("environment", {"packages": {}})
    versions = {"python": environment.get("python"), **environment["packages"]}
    return row | {f"version.{name}": version for name, version in versions.items()}


def tidy_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows of `tidy_row` as a frame that CSV and Parquet can hold: each column of one kind."""
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    for name in filter(lambda name: pd.api.types.is_object_dtype(frame[name]), frame.columns):
        kinds = {type(value) for value in frame[name].dropna()}
        if len(kinds) > 1 and not kinds <= {int, float}:
            frame[name] = frame[name].map(lambda value: value if isinstance(value, str) else json.dumps(value), na_action="ignore")
    first = ("status", "error", "chapter", "profile", "key", "started", "duration_s", "peak_memory_bytes")
    kinds_of_column = ("parameter.", "metric.", "claim.", "version.")
    ordered = [name for kind in kinds_of_column for name in frame.columns if name.startswith(kind)]
    return frame[[*(name for name in first if name in frame), *ordered]]


def quantities(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return the columns that hold what runs have measured, metrics and estimates of claims, each with its name and its unit."""
    units = {name.removesuffix(".unit"): name for name in map(str, frame) if name.endswith(".unit")}
    columns = {f"{start}.estimate" if start.startswith("claim.") else start: (start, units[start]) for start in units}
    measured = {name: of for name, of in columns.items() if frame[name].notna().any()}
    return {name: (start.partition(".")[2], str(frame[unit].dropna().iloc[0])) for name, (start, unit) in measured.items()}


def draw_comparison(frame: pd.DataFrame, by: Sequence[str]) -> Figure | None:
    """Draw what runs have measured, a panel for each quantity; None where they have measured nothing.

    Args:
        frame: of `tidy_table`.
        by: columns, the first along the axis and the second by colour. What further ones vary is shown as a range; where nothing
            else varies, bars are the 95% intervals of claims.
    """
    import matplotlib as mpl
    import pandas as pd
    import seaborn as sns

    from effnotes.reporting.figures import use_style

    names = quantities(frame)
    if not names:
        return None
    use_style()
    parts = []
    for column, (name, _) in names.items():
        ends = {end: frame.get(column.replace(".estimate", f".{end}")) for end in ("low", "high")} if ".estimate" in column else {}
        parts.append(frame[[*by]].assign(value=pd.to_numeric(frame[column]), quantity=name, low=None, high=None).assign(**ends))
    drawn = pd.concat(parts, ignore_index=True).dropna(subset="value")
    along, colour = by[0], by[1] if len(by) > 1 and drawn[by[1]].nunique() <= _MOST_LEVELS else None
    numeric = pd.api.types.is_numeric_dtype(drawn[along]) and drawn[along].nunique() > 2
    drawn = drawn.sort_values([*by], key=None if numeric else lambda values: values.astype(str), kind="stable")
    if not numeric:
        drawn[along] = drawn[along].astype(str)
    layout: dict[str, Any] = {"col": "quantity", "col_wrap": min(2, len(names)), "height": 2.2, "aspect": 1.45}
    layout |= {"col_order": [name for name, _ in names.values()], "facet_kws": {"sharey": False}, "errorbar": ("pi", 100)}
    levels = drawn[colour].drop_duplicates().sort_values() if colour else None
    layout |= {"hue": colour and drawn[colour].astype(str), "hue_order": levels if levels is None else [*map(str, levels)]}
    layout |= {"kind": "line", "linestyle": "-" if numeric else "", "marker": "o", "err_style": "bars"}
    with mpl.rc_context({"figure.constrained_layout.use": False}):  # seaborn lays out grids itself
        grid = sns.relplot(drawn, x=along, y="value", **layout)
        if grid.legend is not None:
            sns.move_legend(grid, "upper right", title=colour and colour.removeprefix("parameter."))
        if not drawn.duplicated([along, "quantity"]).any():
            for name, ax in grid.axes_dict.items():
                of = drawn[(drawn["quantity"] == name) & drawn["low"].notna()]
                ax.vlines(of[along], of["low"].astype(float), of["high"].astype(float), linewidth=1.5)
        grid.set_titles("{col_name}").set_axis_labels(along.removeprefix("parameter."), "")
        for name, unit in names.values():
            grid.axes_dict[name].set_ylabel(textwrap.fill(unit, 24), fontsize="small")
            grid.axes_dict[name].tick_params("x", rotation=0 if numeric else 30)
        grid.tight_layout()
    figure: Figure = grid.figure
    return figure


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
