"""What decides the page's verdicts: an effect for each seed of each claim, from the tables of a run."""

from __future__ import annotations

import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.sparse_training.experiment import Result

DENSE_FINISH = "AC/DC, dense finish"
MULTI = "CrAM+ Multi"


def outcome(result: Result, model: str, level: float | None = None, score: str = "accuracy", **of: object) -> pd.Series[float]:
    """Return a score of one model by seed.

    Args:
        result: Of a run.
        model: Its name.
        level: One-shot sparsity; None for the model as it came out of training.
        score: "accuracy", "worst" or "bias".
        of: pattern and recalibrated, of one-shot pruning.
    """
    rows = result.outcomes
    if rows.empty:
        return pd.Series(dtype=float)
    rows = rows[rows["model"] == model]
    if level is None and "pattern" not in of:
        return rows.drop_duplicates("seed").set_index("seed")[score]  # the first is the model itself
    wanted = {"pattern": "", "recalibrated": True} | of
    shots = rows[rows.duplicated("seed")]
    keep = (shots["pattern"] == wanted["pattern"]) & (shots["recalibrated"] == wanted["recalibrated"])
    return shots[keep & ((shots["level"] == level) | (level is None))].set_index("seed")[score]


def increase(result: Result, model: str, mode: str) -> pd.Series[float]:
    """Return the mean relative error increase over the tasks, by seed."""
    rows = result.transfer
    return rows[(rows["model"] == model) & (rows["mode"] == mode)].groupby("seed")["increase"].mean()


def agreement(result: Result, pair: str) -> pd.Series[float]:
    """Return the agreement of a pair by seed."""
    return result.pairs[result.pairs["pair"] == pair].set_index("seed")["agreement"]


def churn(result: Result) -> pd.Series[float]:
    """Return the last churn of AC/DC minus its first, by seed."""
    if "churn" not in result.course:
        return pd.Series(dtype=float)
    of = result.course[(result.course["arm"] == "AC/DC")].dropna(subset="churn").groupby("seed")["churn"]
    return of.last() - of.first()


def memorised(result: Result, arm: str) -> pd.Series[float]:
    """Return the share of wrong labels that are predicted after the last epoch, by seed."""
    rows = result.memory
    return pd.Series(dtype=float) if rows.empty else rows[rows["arm"] == arm].groupby("seed")["as_told"].last()


def effects(result: Result) -> dict[str, list[float]]:
    """Return what each claim is measured by, by the claim's name, in the order of the page."""
    p = result.plan.parameters
    top, at = max(p.levels), p.sparsity
    linear, full = ({name: increase(result, name, mode) for name in ("AC/DC", "GMP", "ticket")} for mode in ("linear", "full"))

    def of(model: str, level: float | None = None, score: str = "accuracy", **how: object) -> pd.Series[float]:
        return outcome(result, model, level, score, **how)

    found = {
        "acdc-accurate": of("AC/DC") - of("dense"),
        "decompression-helps": of("AC/DC") - of("frozen mask"),
        "acdc-beats-gradual": of("AC/DC") - of("GMP"),
        "churn-falls": churn(result),
        "dense-finish": of(DENSE_FINISH) - of("dense"),
        "pair-agrees": agreement(result, "one AC/DC run") - agreement(result, "AC/DC and dense run"),
        "memorises-less": memorised(result, "AC/DC") - memorised(result, "dense"),
        "linear-as-good": -linear["AC/DC"],
        "full-costs-more": full["AC/DC"] - linear["AC/DC"],
        "ranking-flips": (full["AC/DC"] - full["GMP"]) - (linear["AC/DC"] - linear["GMP"]),
        "ticket-bad-linearly": linear["ticket"] - full["ticket"],
        "one-shot": of(MULTI, at) - of(MULTI),
        "dense-no-worse": of(MULTI) - of("SGD"),
        "beats-sgd": of(MULTI, top) - of("SGD", top),
        "beats-equal-cost": of(MULTI, top) - of("dense", top),
        "patterns": of("CrAM+ N:M", pattern=p.patterns[0]) - of("CrAM+ N:M"),
        "ascent-matters": of(MULTI, top) - of(f"{MULTI}, no ascent", top),
        "recalibration-matters": of(MULTI, at) - of(MULTI, at, recalibrated=False),
        "fairer-when-pruned": of(MULTI, top, "bias") - of("SGD", top, "bias"),
        "acdc-as-fair": of("AC/DC", None, "bias") - of("dense", None, "bias"),
    }
    return {name: values.dropna().tolist() for name, values in found.items()}


def measure(result: Result) -> list[claims.Measurement]:
    """Measure the page's claims; to be displayed."""
    return [claims.measure(f"sparse.{name}", found) for name, found in effects(result).items()]
