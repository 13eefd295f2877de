"""Named numbers that runs are compared by: what a chapter's findings rest on, such as an accuracy or a time.

A chapter shows what `report` returns. The executed notebook then carries the number as JSON under a MIME type of its own, the
runner takes it into the run's record, and `effnotes compare` and the tables of sweeps put it beside those of other runs.
"""

import math
import re
from typing import Any, NamedTuple

from effnotes.reporting.claims import format_number

METRIC_MIME = "application/vnd.effnotes.metric+json"
"""MIME type under which an executed notebook keeps a reported number."""

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
"""What a metric, a kept record and a sweep may be called."""


class Metric(NamedTuple):
    """A number on its way into the record; shows itself as one line."""

    name: str
    value: float | None  # None where it was not defined in this run
    unit: str

    def __str__(self) -> str:
        return f"{self.name}: {'not defined' if self.value is None else f'{format_number(self.value)} {self.unit}'}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002
        return {"text/plain": str(self), METRIC_MIME: self._asdict()}


def report(name: str, value: float | None, *, unit: str) -> Metric:
    """Give a number of this run a name by which runs are compared; it is kept once it is shown.

    Args:
        name: Of the number in the record: lower-case words joined by `-` or `_`. A run reports one number under a name.
        value: Finite, rounded to 6 significant digits; None or NaN where this run did not define it.
        unit: What it is counted in, such as "s", "points" or "share of images".

    Returns:
        The number, to be the last value of a cell or an argument of `display`.

    Raises:
        ValueError: The name has another form, the value is no finite number, or there is no unit.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"a metric's name is lower-case words joined by '-' or '_', such as 'accuracy'; got {name!r}")
    if not unit.strip():
        raise ValueError(f"metric {name!r}: a number without a unit is no result; give one, such as unit='s'")
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"metric {name!r}: {value!r} is no number") from None
    if math.isinf(number):
        raise ValueError(f"metric {name!r} is infinite; report None where it is not defined")
    return Metric(name, None if math.isnan(number) else float(f"{number:.6g}"), unit)
