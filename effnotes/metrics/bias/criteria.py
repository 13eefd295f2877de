"""Which attributes will suffer from pruning, told from the dense model alone, and how well that works."""

from itertools import permutations as all_orders
from math import factorial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.alignment import align, by_name
from effnotes.metrics.bias.amplification import bias_amplification
from effnotes.metrics.bias.calibration import uncertainty
from effnotes.metrics.bias.classification import roc_auc
from effnotes.metrics.bias.per_attribute import FloatArray, PerAttribute, Reason, ratio
from effnotes.metrics.bias.task import AttributeTask

CRITERIA = ("uncertainty", "abs_phi", "rarity", "auc_gap", "bias_amplification", "uncertainty_times_phi", "flagged")

_FLAG_UNCERTAINTY = 1.25  # times the median of the attributes
_FLAG_PHI = 0.1
_MIN_ATTRIBUTES = 4
_ROUNDING = 1e-12


def phi_coefficient(task: AttributeTask) -> PerAttribute:
    """Correlation of each attribute with the protected one in training, Pearson's r of two binary variables, in [-1, 1].

    With the rates q_0 and q_1 of positives in either group, the share s of group 1 and π = s q_1 + (1 - s) q_0,

        φ = (q_1 - q_0) √(s (1 - s) / (π (1 - π))).

    Args:
        task: knows the rates and the share; `AttributeTask.of(labels, protected=..., train_labels=labels)` for labels themselves.

    Returns:
        K values; undefined for the protected attribute itself, with an empty group, and for a constant label.
    """
    q, share = task.rates, task.train_share
    rate = share * q[1] + (1 - share) * q[0]
    variance = rate * (1 - rate)
    constant = variance <= _ROUNDING
    spread = share * (1 - share) / np.where(constant, 1.0, variance)
    return PerAttribute.masked(
        np.clip((q[1] - q[0]) * np.sqrt(spread), -1, 1),
        (Reason.PROTECTED_ITSELF, np.arange(len(task.names)) == task.column),
        (Reason.EMPTY_TRAINING_GROUP, np.isnan(rate)),
        (Reason.CONSTANT_TRAINING_LABEL, constant),
    )


@by_name()
def attribute_criteria(logits: ArrayLike, task: AttributeTask) -> pd.DataFrame:
    """Score each attribute by the dense model alone: where is bias likely to grow when the model is pruned?

    Args:
        logits: of the dense model, finite, shape (n, K), at threshold 0.
        task: labels, groups and names of the same samples, and what the training set says of them.

    Returns:
        One row per attribute; each criterion is larger where more growth is expected. Columns:

        - `attribute`;
        - `uncertainty`: u, share of samples with 0.1 < p < 0.9, in [0, 1];
        - `abs_phi`: |φ|, `phi_coefficient` of the training labels, in [0, 1];
        - `rarity`: share of the more frequent value in training, max(π, 1 - π), in [1/2, 1];
        - `auc_gap`: 1 - ROC AUC, in [0, 1];
        - `bias_amplification`: of the dense model, in [-1, 1];
        - `uncertainty_times_phi`: u |φ|, in [0, 1];
        - `flagged`: u > 1.25 times the median u and |φ| > 0.1. The median is over all attributes but the
          protected one. This rule and its two numbers are this book's own, not a published result;
        - `reason`: why a criterion is NaN, empty where all are defined. The protected attribute itself has
          no criteria but is listed.

    Raises:
        ValueError: shapes that differ, values out of range.

    Source:
        That criteria on the dense model tell which attributes to distrust: Iofinova, Peste & Alistarh (CVPR
        2023, arXiv 2304.12622). The product u |φ| is this book's reading of it.
    """
    scores, true = arrays.as_scored(logits, task.labels)
    measured = {"uncertainty": uncertainty(arrays.probabilities(scores)), "roc_auc": roc_auc(scores, true)}
    biased = bias_amplification(arrays.hard_predictions(scores), true, task.protected, rates=task.rates)
    return criteria_of(measured | {"bias_amplification": biased}, task)


def criteria_of(measured: dict[str, PerAttribute], task: AttributeTask) -> pd.DataFrame:
    """Assemble the table of criteria from the metrics of the dense model."""
    phi = phi_coefficient(task)
    itself = np.arange(len(task.names)) == task.column
    unsure = np.where(itself, np.nan, measured["uncertainty"].values)
    association = np.abs(phi.values)
    others = unsure[~np.isnan(unsure)]
    middle = np.median(others) if len(others) else np.nan
    parts = [phi.reasons, *(measured[metric].reasons for metric in ("roc_auc", "uncertainty", "bias_amplification"))]
    return pd.DataFrame(
        {
            "attribute": task.names,
            "uncertainty": unsure,
            "abs_phi": association,
            "rarity": np.where(itself, np.nan, np.maximum(task.train_rate, 1 - task.train_rate)),
            "auc_gap": np.where(itself, np.nan, 1 - measured["roc_auc"].values),
            "bias_amplification": measured["bias_amplification"].values,
            "uncertainty_times_phi": unsure * association,
            "flagged": (unsure > _FLAG_UNCERTAINTY * middle) & (association > _FLAG_PHI),
            "reason": [next((reason.value for reason in given if reason), "") for given in zip(*parts, strict=True)],
        }
    )


def evaluate_criteria(criteria: pd.DataFrame, growth: ArrayLike, *, permutations: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """How well each criterion ranks the attributes by the growth of their bias.

    Spearman's ρ, the correlation of the ranks (ties share their mean rank), over the attributes for which the
    criterion and the growth are both defined. Its p-value is one-sided, since larger criteria claim larger
    growth: the share of reorderings of the growth with a ρ at least as large, over all reorderings where
    there are no more than `permutations`, else over that many random ones,

        p = (1 + number of random reorderings with ρ' >= ρ) / (1 + permutations).

    A bias at its bound (only one group is predicted positive) cannot grow further, which weakens ρ.

    Args:
        criteria: of `attribute_criteria`.
        growth: bias amplification of the sparse minus that of the dense model, shape (K,), in the order of
            `criteria`; NaN where undefined. A `PerAttribute` is fine, and so is a series by attribute in any order.
        permutations: random reorderings, >= 99.
        seed: of the random reorderings.

    Returns:
        One row per criterion: `criterion`, `spearman`, `p_value`, `leave_one_out_low` and
        `leave_one_out_high` (smallest and largest ρ when one attribute is left out), `attributes` (number
        used) and `reason`. NaN with fewer than four attributes and where criterion or growth is constant.

    Raises:
        ValueError: a missing column, a growth of another length, too few permutations.
    """
    missing = [name for name in CRITERIA if name not in criteria.columns]
    if missing:
        raise ValueError(f"criteria must come from attribute_criteria, but lack {missing}")
    by_row = isinstance(growth, pd.Series) and set(growth.index) == set(criteria.index)
    ordered = align({"names": criteria.index if by_row else criteria.get("attribute"), "growth": growth})
    target = np.asarray(ordered["growth"], dtype=np.float64)
    if target.shape != (len(criteria),):
        raise ValueError(f"growth must have shape ({len(criteria)},), one entry per attribute of criteria, not {target.shape}")
    evaluated = []
    for name in CRITERIA:
        score = criteria[name].to_numpy(dtype=np.float64)
        # "Not flagged" where a criterion is undefined is no judgement on that attribute.
        used = ~np.isnan(score) & ~np.isnan(target) & criteria["uncertainty_times_phi"].notna().to_numpy()
        evaluated.append({"criterion": name, **rank_association(score[used], target[used], permutations=permutations, seed=seed)})
    return pd.DataFrame(evaluated)


@by_name()
def rank_association(score: ArrayLike, target: ArrayLike, *, permutations: int = 9999, seed: int = 0) -> dict[str, float | str]:
    """Rank correlation over attributes of a score with what it should foretell, and whether chance explains it.

    Args:
        score: shape (K,), finite.
        target: shape (K,), finite.
        permutations: random reorderings, >= 99; all K! of them are taken where they are no more.
        seed: of the random reorderings.

    Returns:
        `spearman` (ρ in [-1, 1]), `p_value` (one-sided, for ρ > 0, by permutation of the attributes),
        `leave_one_out_low` and `leave_one_out_high` (smallest and largest ρ when one attribute is left out),
        `attributes` (K) and `reason`. NaN with fewer than four attributes and where either is constant.

    Raises:
        ValueError: other shapes, numbers that are not finite, too few permutations.
    """
    first, second = _as_pair_of_vectors(score, target)
    if permutations < 99:
        raise ValueError(f"permutations must be at least 99, not {permutations}")
    n, reason = len(first), _why_unranked(first, second)
    found = dict.fromkeys(("spearman", "p_value", "leave_one_out_low", "leave_one_out_high"), np.nan)
    if reason is None:
        left, right = _standard_ranks(first), _standard_ranks(second)
        rho = float(left @ right)
        exact = factorial(n) <= permutations
        if exact:
            orders = np.array(list(all_orders(range(n))))
        else:
            orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
        # The order that is given counts among all orders, and beside random ones.
        reached, given = int(np.sum(right[orders] @ left >= rho - _ROUNDING)), 0 if exact else 1
        without = [_standard_ranks(np.delete(first, k)) @ _standard_ranks(np.delete(second, k)) for k in range(n)]
        measured = (rho, (given + reached) / (given + len(orders)), float(np.min(without)), float(np.max(without)))
        found = dict(zip(found, measured, strict=True))
    return {**found, "attributes": n, "reason": reason.value if reason else ""}


@by_name()
def rank_products(score: ArrayLike, target: ArrayLike) -> FloatArray:
    """Each attribute's part in the rank correlation of two scores: numbers whose mean is Spearman's ρ.

    With r and s the ranks of attribute k in either score, standardised to mean 0 and mean square 1 over the attributes, the part
    is r_k s_k. An interval of their mean is an interval of ρ over *attributes*, which repeats of the same attributes with other
    seeds cannot give: a chance alignment of nine attributes comes back with every seed. To first order it is right where there is
    no link; a Student t interval of independent normal scores then lies above 0 in 3% (K = 9) to 4% (K = 10) of repetitions in
    place of 2.5%, and covers more than it promises where there is a link.

    Args:
        score: shape (K,), finite.
        target: shape (K,), finite.

    Returns:
        Shape (K,); empty with fewer than four attributes and where either is constant, as there is no correlation then.

    Raises:
        ValueError: other shapes, numbers that are not finite.
    """
    first, second = _as_pair_of_vectors(score, target)
    return np.empty(0) if _why_unranked(first, second) else len(first) * _standard_ranks(first) * _standard_ranks(second)


def _as_pair_of_vectors(score: ArrayLike, target: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(score, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"score and target must have one shape (K,), not {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("score and target must be finite; leave out attributes for which either is not defined")
    return first, second


def _why_unranked(score: FloatArray, target: FloatArray) -> Reason | None:
    """Say why there is no rank correlation, if so."""
    if len(score) < _MIN_ATTRIBUTES:
        return Reason.TOO_FEW_ATTRIBUTES
    return Reason.CONSTANT_CRITERION if np.ptp(score) == 0 else Reason.CONSTANT_GROWTH if np.ptp(target) == 0 else None


def _standard_ranks(values: FloatArray) -> FloatArray:
    """Ranks about their mean, of length 1; NaN where all values are the same."""
    from scipy.stats import rankdata  # half a second to import

    ranks = rankdata(values) - (len(values) + 1) / 2
    return ratio(ranks, float(np.linalg.norm(ranks)))
