"""What decides the page's verdicts: an effect for each seed of each claim."""

from __future__ import annotations

import numpy as np
import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.contextual.experiment import DENSE, LTE, PREDICTED, RANDOM, STATIC, UNTRAINED, Result


def recall_at(levels: pd.DataFrame, method: str, sparsity: float, column: str = "recall") -> pd.Series[float]:
    """Return a method's recall at a sparsity by seed: on a line between the two levels around it, or on that of the last two.

    Args:
        levels: As `Result.levels`. The dense model, with as many extra steps, is each method's level at sparsity 0.
        method: Its name.
        sparsity: Asked for.
        column: "recall", "rare" or "frequent".
    """

    def of(rows: pd.DataFrame) -> float:
        x, y = rows.sort_values("sparsity")[["sparsity", column]].drop_duplicates("sparsity").to_numpy().T
        if len(x) == 1:  # every gate stayed open
            return float(y[0])
        at = int(np.clip(np.searchsorted(x, sparsity), 1, len(x) - 1))
        slope = (y[at] - y[at - 1]) / (x[at] - x[at - 1])
        return float(np.clip(y[at - 1] + slope * (sparsity - x[at - 1]), 0, 1))

    chosen = levels[levels["method"].isin([method, DENSE])]
    return pd.Series({seed: of(rows) for seed, rows in chosen.groupby("seed")}, dtype=float)


def effects(result: Result) -> dict[str, list[float]]:
    """Return what each claim is measured by, one effect a seed, by the claim's name, in the order of the page."""
    levels, low, top = result.levels, result.parameters.sparsities[0], result.parameters.sparsities[-1]
    own, dense = (levels[levels["method"] == name] for name in (LTE, DENSE))
    nearest = own[own["nearest"]].set_index("seed")
    near = result.near.pivot_table(index="seed", columns=result.near["separability"] > 0, values="near")
    blocks = result.layers[result.layers["nearest"]].pivot_table(index="seed", columns="block", values="sparsity")
    unions = result.unions.pivot_table(index="seed", columns="batch", values="sparsity")
    common = result.shared.assign(more=result.shared["overlap"] - result.shared["expected"]).pivot_table(
        index="seed", columns="common", values="more"
    )
    edits = result.edits.pivot_table(index="seed", columns="where", values=["H", "retention"])
    times = result.times.set_index("seed")
    gap = recall_at(levels, LTE, top, "frequent") - recall_at(levels, LTE, top, "rare")
    of_dense = dense.set_index("seed")["frequent"] - dense.set_index("seed")["rare"]
    found = {f"beats-{short}": recall_at(levels, LTE, top) - recall_at(levels, method, top) for short, method in _RIVALS.items()}
    found |= {
        "no-loss": recall_at(levels, LTE, low) - dense.set_index("seed")["recall"],
        "adaptation-mends": nearest["recall"] - nearest["switched"],
        "gates-apart": near[True] - near[False] if True in near and False in near else pd.Series(dtype=float),
        "first-block-sparser": blocks[1] - blocks[2],
        "batch-undoes": unions[unions.columns.max()] - unions[unions.columns.min()],
        "gathered-slower": (times["gathered"] / times["dense"]).map(np.log2),
        "relation-shares": common["relation"],
        "value-shares": common["value"],
        "edit-keeps": edits["retention"]["active"] - edits["retention"]["dense"],
        "edit-in-active": edits["H"]["active"] - edits["H"]["others"],
        "rare-first": gap - of_dense,
    }
    return {name: values.dropna().tolist() for name, values in found.items()}


_RIVALS = {"static": STATIC, "random-router": RANDOM, "moefication": UNTRAINED, "predictor": PREDICTED}


def measure(result: Result) -> list[claims.Measurement]:
    """Measure the page's claims; to be displayed."""
    return [claims.measure(f"contextual.{name}", found) for name, found in effects(result).items()]
