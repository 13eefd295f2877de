"""From tables of edits to comparisons: differences edit by edit, on draws that no learning rate was chosen on.

Worlds are the independent units.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from effnotes.reporting.claims import cluster_interval
from effnotes.studies.protocol import DECIMALS

# An interval of differences of H that holds 0 and lies within this distance of it is a tie.
TIE = 0.01


def paired_differences(edits: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return each method's H minus the reference's, on the same edit.

    Args:
        edits: One row for each setting, world, draw and method.
        reference: Name of the method to compare with.

    Returns:
        Columns setting, world, draw, method, difference; a row for each edit that both made with a defined H.

    Raises:
        ValueError: The reference is not among the methods, or an edit has several rows of a method.
    """
    unit = ["setting", "world", "draw"]
    if reference not in set(edits["method"]):
        raise ValueError(f"reference={reference!r} is none of the methods: {', '.join(map(str, edits['method'].unique()))}")
    if edits.duplicated([*unit, "method"]).any():
        raise ValueError("an edit has several rows of the same method; choose one learning rate and one checkpoint first")
    of_reference = edits.loc[edits["method"] == reference, [*unit, "H"]].rename(columns={"H": "of_reference"})
    both = edits[edits["method"] != reference].merge(of_reference, on=unit)
    both["difference"] = (both["H"] - both["of_reference"]).round(DECIMALS)
    return both.loc[both["difference"].notna(), [*unit, "method", "difference"]].reset_index(drop=True)


def by_world(differences: pd.DataFrame, value: str = "difference") -> list[list[float]]:
    """Return values as one list a world, as `effnotes.reporting.claims.measure` takes them for whole seeds."""
    return [group[value].tolist() for _, group in differences.groupby("world")]


def compare(differences: pd.DataFrame) -> pd.DataFrame:
    """Compare methods with the reference, in each setting.

    Args:
        differences: As `paired_differences` returns them, of scores from 0 to 1.

    Returns:
        A row for each setting and method: setting, method, worlds, edits, mean (over worlds, of their means), low and high (95%
        interval over worlds, see `effnotes.reporting.claims.cluster_interval`; NaN for a single world), wins (share of edits with a
        difference above 0), sign_p (exact two-sided sign test on the worlds' means), holm_p (corrected over the methods of a
        setting), outcome: "win" (low > 0), "loss" (high < 0), "tie" (all of the interval within `TIE`), else "open".
    """
    rows = []
    for (setting, method), group in differences.groupby(["setting", "method"], sort=False):
        worlds = by_world(group)
        means = [round(float(np.mean(world)), DECIMALS) for world in worlds]
        interval = cluster_interval(worlds, limits=(-1.0, 1.0)) if len(worlds) > 1 else (means[0], math.nan, math.nan)
        mean, low, high = (round(bound, DECIMALS) for bound in interval)
        outcome = "win" if low > 0 else "loss" if high < 0 else "tie" if low > -TIE and high < TIE else "open"
        wins = float((group["difference"] > 0).mean())
        rows.append((setting, method, len(worlds), len(group), mean, low, high, wins, sign_test(means), outcome))
    columns = ["setting", "method", "worlds", "edits", "mean", "low", "high", "wins", "sign_p", "outcome"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(len(columns) - 1, "holm_p", table.groupby("setting", sort=False)["sign_p"].transform(holm))
    return table


def sign_test(values: ArrayLike) -> float:
    """Return the exact two-sided p-value of the sign test: are values above and below 0 equally likely? Zeros are left out.

    Args:
        values: (n,) independent values; 1 where none differs from 0.
    """
    from scipy import stats

    array = np.asarray(values, dtype=np.float64)
    above, n = int((array > 0).sum()), int((array != 0).sum())
    return float(stats.binomtest(above, n).pvalue) if n else 1.0


def holm(p_values: pd.Series[float]) -> pd.Series[float]:
    """Return p-values corrected for their number, step by step from the smallest (Holm, Scand. J. Statist. 6, 1979).

    p_(i) becomes the largest of min(1, (m - j + 1) p_(j)) over j <= i, of m in ascending order.

    Args:
        p_values: (m,) in [0, 1], each under a label of its own.

    Raises:
        ValueError: A value is no probability.
    """
    if not p_values.between(0, 1).all():
        raise ValueError(f"p_values={p_values.tolist()}: needed are numbers from 0 to 1")
    rising = p_values.sort_values(kind="stable")
    return (rising * np.arange(len(rising), 0, -1)).clip(upper=1.0).cummax().reindex(p_values.index)


def frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method, the points that no other of its points equals or beats in both edit success and retention.

    A point is the mean over all worlds and draws of one learning rate and step. Of points that are the same one is kept. They go
    from low to high edit success.

    Args:
        rows: As `run_edits` returns them, of one setting and split.
    """
    by, along, up = ["method", "learning_rate", "step"], "edit_success", "retention"
    # Closed forms have no learning rate.
    points = rows.groupby(by, sort=False, dropna=False)[[along, up]].mean().round(DECIMALS).reset_index()
    points = points.sort_values(["method", along, up], ascending=[True, False, False])
    best_before = points.groupby("method")[up].transform(lambda scores: scores.cummax().shift(fill_value=-math.inf))
    return points[points[up] > best_before].sort_values(["method", along]).reset_index(drop=True)
