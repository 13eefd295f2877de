"""Published figures of RoSA and Panza, from `published.yaml` beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from effnotes.core.strict_yaml import load_yaml

NOT_TRANSCRIBED = "not transcribed"


def published(table: Literal["rosa", "rosa_bars", "panza"]) -> pd.DataFrame:
    """Return a published table; a figure that nobody has transcribed is NaN.

    "rosa" has a row for each method (parameters in millions, accuracies in percent), "rosa_bars" full tuning as a figure
    of the authors shows it, "panza" a row for each method (scores in [0, 1]).
    """
    found = load_yaml(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))[table]
    return pd.DataFrame(found["rows"], columns=found["columns"])


def told(table: pd.DataFrame) -> pd.DataFrame:
    """Return a published table as texts, in which missing figures say that they are missing."""
    return table.map(lambda value: NOT_TRANSCRIBED if value is None or value != value else str(value))
