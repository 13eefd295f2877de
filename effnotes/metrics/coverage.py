"""Which examples are hard, which of them to keep, and how much of the data a kept part covers: functions on arrays.

Scores come from the visits of a training run (`effnotes.training.dynamics` records them). Selections return the numbers of the
examples that are kept. Zheng, Liu, Lai & Prakash, "Coverage-centric Coreset Selection for High Pruning Rates" (ICLR 2023), and
Zheng, Tsai, Lu, Sun, Bartoldson, Kailkhura & Prakash, "ELFS: Label-Free Coreset Selection with Proxy Training Dynamics" (ICLR
2025), from whose formulas this is written.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effnotes.core.checks import check_choice, check_range

Floats: TypeAlias = NDArray[np.floating[Any]]
Places: TypeAlias = NDArray[np.int64]


def aum(margins: Floats) -> Floats:
    """Return the area under the margin of each example, the sum over visits of p(y) - max over c != y of p(c); low is hard.

    Of probabilities and summed, as CCS's code has it; Pleiss et al. (NeurIPS 2020) take the mean of logits.

    Args:
        margins: (T, n) in [-1, 1], one row a visit.
    """
    total: Floats = np.asarray(margins).sum(axis=0)
    return total


def forgetting(margins: Floats, never_learned: Literal["most", "least"] = "most") -> Floats:
    """Return how often each example was forgotten: right (margin above 0) at one visit and wrong at the next.

    Args:
        margins: (T, n), one row a visit.
        never_learned: What an example counts that was right at no visit. "most": T, more than any other can have, as in Toneva et
            al. (ICLR 2019), for whom such an example is the hardest. "least": 0, as CCS's code has it, which makes it the easiest.

    Raises:
        ValueError: Another convention.
    """
    check_choice(("most", "least"), never_learned=never_learned)
    right = np.asarray(margins) > 0
    counts = (right[:-1] & ~right[1:]).sum(axis=0).astype(float)
    return np.where(right.any(axis=0), counts, float(len(right)) if never_learned == "most" else 0.0)


def el2n(errors: Floats, visits: int = 10) -> Floats:
    """Return the sum over the first visits of the Euclidean norm of one-hot(y) - p (Paul, Ganguli & Dziugaite, NeurIPS 2021).

    Args:
        errors: (T, n) norms in [0, sqrt 2], one row a visit.
        visits: How many are summed, 10 in CCS; all, where there are fewer.
    """
    total: Floats = np.asarray(errors)[:visits].sum(axis=0)
    return total


def check_budget(n: int, keep: int, cutoff: float = 0.0) -> int:
    """Return how many examples a cutoff drops; raise ValueError unless `keep` of the others are there to be kept."""
    check_range(0, 1, cutoff=cutoff)
    dropped = round(cutoff * n)
    if not 1 <= keep <= n - dropped:
        what = f"a cutoff of {cutoff:g} drops {dropped} of {n} examples, so"
        raise ValueError(f"{what} {keep} cannot be kept; keep 1 to {n - dropped}, or lower the cutoff or raise the pruning rate")
    return dropped


def hardest(hardness: ArrayLike, keep: int) -> Places:
    """Return the `keep` examples of the largest score (n,); of equal ones those that come first."""
    score = np.asarray(hardness)
    check_budget(len(score), keep)
    return np.argsort(-score, kind="stable")[:keep]


def double_end(margin: ArrayLike, keep: int, cutoff: float) -> Places:
    """Return what ELFS keeps: by rising AUM it drops the share `cutoff`, keeps the next examples, and drops the easier rest.

    Args:
        margin: (n,) AUM, against pseudo-labels where there are no others.
        keep: How many, m.
        cutoff: Share beta of the lowest AUM that is dropped; beta n + m <= n.

    Raises:
        ValueError: Too few are left.
    """
    dropped = check_budget(len(np.asarray(margin)), keep, cutoff)
    # From the front: a slice that counts from the end is empty where nothing is left at the easy end.
    return np.argsort(margin, kind="stable")[dropped : dropped + keep]


def stratified_coreset(score: ArrayLike, margin: ArrayLike, keep: int, *, cutoff: float, seed: int, strata: int = 50) -> Places:
    """Return what coverage-centric selection (CCS) keeps: about as many examples of each level of difficulty.

    Of the examples that remain when the share `cutoff` with the lowest AUM is dropped, the range of the score is cut into strata
    of equal width. Strata are visited from the smallest to the largest; each gives min(its size, budget left // strata left)
    examples, drawn uniformly. Strata that are empty give nothing, so that the budgets add up to `keep`.

    Args:
        score: (n,) what is stratified by; AUM in the paper's best variant.
        margin: (n,) AUM, by which the cutoff drops whatever the score, as CCS's code does.
        keep: How many, m.
        cutoff: Share beta; beta n + m <= n. CCS has it from a search on validation labels; see `published_cutoff`.
        seed: Of the draw within strata.
        strata: Their number, 50 in the paper.

    Returns:
        (m,) numbers of examples, rising.

    Raises:
        ValueError: Too few are left, or `strata` is below 1.
    """
    check_range(1, whole=True, strata=strata)
    dropped = check_budget(len(np.asarray(score)), keep, cutoff)
    left = np.argsort(margin, kind="stable")[dropped:]
    of_left = np.asarray(score, dtype=float)[left]
    low, width = of_left.min(), np.ptp(of_left)
    bins = np.minimum((of_left - low) / (width or 1.0) * strata, strata - 1).astype(np.int64)
    sizes = np.bincount(bins, minlength=strata)
    budgets = stratum_budgets(sizes, keep)
    # In random order and then by stratum: the first of each stratum are a draw without replacement.
    order = np.random.default_rng(seed).permutation(len(left))
    order = order[np.argsort(bins[order], kind="stable")]
    place = np.arange(len(left)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(left[order[place < np.repeat(budgets, sizes)]])


def stratum_budgets(sizes: ArrayLike, keep: int) -> Places:
    """Return how many examples each stratum gives, min(size, budget left // strata left) from the smallest to the largest.

    Args:
        sizes: (k,) examples of each stratum.
        keep: Their sum; at most that of the sizes.
    """
    counts = np.asarray(sizes)
    budgets, left = np.zeros(len(counts), dtype=np.int64), keep
    for visited, stratum in enumerate(np.argsort(counts, kind="stable")):
        budgets[stratum] = min(int(counts[stratum]), left // (len(counts) - visited))
        left -= int(budgets[stratum])
    return budgets


def published_cutoff(rate: float) -> float:
    """Return the cutoff that CCS reports for CIFAR-10 at a pruning rate, straight lines between those of the paper."""
    return round(float(np.interp(rate, (0.5, 0.7, 0.8, 0.9), (0.0, 0.1, 0.1, 0.3))), 6)


def auc_pr(features: ArrayLike, chosen: ArrayLike) -> float:
    """Return the area under the partial-coverage curve of a part of the data; the lower, the better it covers them.

    r(p) is the least radius of balls around the chosen that hold the share p of all examples. Its integral over p from 0 to 1 is
    the mean over all examples of the Euclidean distance to the nearest chosen one: 0 for all of them.

    Args:
        features: (n, d) of all examples, for instance what the last hidden layer gives.
        chosen: (m,) numbers of the chosen.
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    every = np.asarray(features, dtype=np.float64)
    return float(pairwise_distances_argmin_min(every, every[np.asarray(chosen)])[1].mean())


def cluster_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Return the share of examples that are right when each cluster stands for one class, by the best one-to-one assignment.

    Args:
        labels: (n,) classes from 0.
        clusters: (n,) clusters from 0; their numbers mean nothing.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(labels, clusters)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum())
