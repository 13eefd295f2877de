"""Steps that decide verdicts: which level is high, which attributes enter an average, and the effects of each kind of claim.

All work on tidy tables, so that they can be tested on tables whose verdict is known.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from effnotes.metrics.bias.arrays import hard_predictions
from effnotes.metrics.bias.calibration import uncertain
from effnotes.metrics.bias.criteria import rank_products


class Knee(NamedTuple):
    """Where high sparsity begins, by accuracy on validation images alone."""

    level: float  # the lowest at which accuracy has fallen by more than the drop; the highest of all where none has
    passed: bool  # whether one has; if not, claims on high sparsity are not judged
    fall: pd.Series  # of accuracy from the dense model, mean over seeds, by sparsity


def find_knee(accuracy: pd.DataFrame, drop: float) -> Knee:
    """Find the level that claims on high sparsity are judged at, by a rule that does not look at bias.

    Args:
        accuracy: columns `seed`, `sparsity` and `accuracy`, on validation images; 0 is the dense model.
        drop: fall of accuracy beyond which a level is high, as a share.
    """
    means = accuracy.groupby("sparsity")["accuracy"].mean()
    fall = means[0.0] - means
    passed = bool((fall > drop).any())
    return Knee(float(fall.index[fall > drop][0] if passed else fall.index[-1]), passed, fall)


def always_defined(table: pd.DataFrame) -> list[str]:
    """Give the attributes whose value is defined in every row of a tidy table."""
    defined = table["value"].notna().groupby(table["attribute"]).all()
    return defined.index[defined.to_numpy()].tolist()


def common_attributes(table: pd.DataFrame, skewed: Sequence[str]) -> list[str]:
    """Give one set for all levels: the skewed attributes whose bias amplification is defined in every seed at every sparsity.

    Args:
        table: of `attribute_metrics`, one below the other, with `seed` and `sparsity`.
        skewed: attributes to choose from.
    """
    defined = always_defined(table[table["metric"] == "bias_amplification"])
    return [name for name in skewed if name in defined]


def growth_to(table: pd.DataFrame, common: Sequence[str], sparsity: float, *metrics: str) -> pd.DataFrame:
    """Differences from the dense twin in some metrics, by seed and attribute.

    Args:
        table: as for `common_attributes`.
        common: attributes to look at; an attribute for which one of the metrics is not defined in some seed is left out.
        sparsity: level to compare with the dense model.
        *metrics: columns of what is returned.
    """
    wide = table[table["attribute"].isin(common)].pivot(index=["seed", "attribute"], columns=["metric", "sparsity"], values="value")
    columns: list[Any] = [wide[name, sparsity] - wide[name, 0.0] if common else [] for name in metrics]
    growth = pd.DataFrame(dict(zip(metrics, columns, strict=True)), index=wide.index)
    return growth[growth.notna().all(axis=1).groupby(level="attribute").transform("all")]


def by_seed(values: pd.Series) -> list[list[float]]:
    """One list of attributes' values for each seed, for claims whose units are attributes within seeds."""
    return [group.tolist() for _, group in values.groupby("seed")]


def change(averages: pd.DataFrame, metric: str, sparsity: float) -> list[float]:
    """Difference from the dense twin in the mean over attributes, one number a seed.

    Args:
        averages: of `summarise`, with `seed` and `sparsity`.
        metric: its name.
        sparsity: level to compare with the dense model.
    """
    means = averages[averages["metric"] == metric].pivot(index="seed", columns="sparsity", values="mean_common")
    return (means[sparsity] - means[0.0]).dropna().tolist()


def link(score: pd.Series, growth: pd.Series) -> list[float]:
    """Parts of the attributes in the rank correlation of a score with the growth of bias, both means over seeds."""
    means = pd.DataFrame({"score": score, "growth": growth}).dropna()
    return [float(part) for part in rank_products(means["score"], means["growth"])]


def differences(of_seeds: Mapping[int, pd.Series]) -> list[list[float]]:
    """Attributes' differences, a list for each seed, of the attributes for which they are defined in every seed."""
    complete = pd.DataFrame(dict(of_seeds)).dropna()
    return [complete[seed].tolist() for seed in complete] if len(complete) else []


def changed_decisions(dense_logits: NDArray[Any], other_logits: NDArray[Any]) -> dict[str, float]:
    """Describe the decisions on which another model differs from a dense one.

    Args:
        dense_logits: shape (n, K).
        other_logits: of the same samples, shape (n, K).

    Returns:
        `rate`, their share of all decisions; `dense_uncertain`, the share of them of which the dense model was uncertain, and
        `base_dense_uncertain`, that of all decisions; `excess_uncertain`, by how much the first exceeds the second within an
        attribute, averaged over changed decisions; `positive_to_negative`, the share of them that went from yes to no. NaN where
        no decision changed.
    """
    before, after = hard_predictions(dense_logits), hard_predictions(other_logits)
    unsure, differs = uncertain(expit(dense_logits)), before != after

    def among_changed(values: NDArray[Any]) -> float:
        return float(values[differs].mean()) if differs.any() else np.nan

    return {
        "rate": float(differs.mean()),
        "dense_uncertain": among_changed(unsure),
        "base_dense_uncertain": float(unsure.mean()),
        "excess_uncertain": among_changed(unsure - unsure.mean(0)),
        "positive_to_negative": among_changed(before),
    }
