"""Compression-identified exemplars: the samples on which a pruned population decides otherwise than a dense one.

A population is a stack of models that differ in their seed, shape (models, n, K). One model is a population,
too; then every changed decision is an exemplar, and how much of that is chance shows only beside two dense
models of different seeds: give one of them in place of the sparse population.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.calibration import uncertain
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, Reason, ratio


@by_name()
def modal_predictions(predictions: ArrayLike) -> BoolArray:
    """Majority decision of a population: positive where more than half of the models say so.

    With an even number of models a tie is negative, which alone turns positives into negatives in one
    population and not in the other: prefer an odd number.

    Args:
        predictions: in {0, 1}, shape (models, n, K).

    Returns:
        Shape (n, K).

    Raises:
        ValueError: another shape, entries other than 0 and 1, no model.

    Source:
        Hooker et al. (2020, arXiv 2010.03058); the tie rule is that of Iofinova, Peste & Alistarh (CVPR 2023).
    """
    votes = _as_population(predictions, "predictions")
    positive: BoolArray = 2 * votes.sum(0) > len(votes)
    return positive


@by_name()
def modal_exemplars(dense: ArrayLike, sparse: ArrayLike) -> BoolArray:
    """Mark the decisions on which the majorities of two populations differ.

    Args:
        dense: predictions of the dense models in {0, 1}, shape (models, n, K).
        sparse: predictions of the sparse models in {0, 1}, shape (models, n, K); their number may differ.

    Returns:
        Shape (n, K), True for modal exemplars.

    Raises:
        ValueError: as in `modal_predictions`, or populations of different samples or attributes.

    Source:
        Hooker et al. (2020, arXiv 2010.03058), who decide per sample; here per sample and attribute.
    """
    first, second = _as_populations(dense, sparse)
    differs: BoolArray = modal_predictions(first) != modal_predictions(second)
    return differs


@by_name()
def taxicab_distance(dense: ArrayLike, sparse: ArrayLike) -> FloatArray:
    """Distance between how two populations distribute their votes, for ranking exemplars.

    The L1 distance between the vectors of the two labels' shares of votes,

        d = |s⁺_dense - s⁺_sparse| + |s⁻_dense - s⁻_sparse| = 2 |s⁺_dense - s⁺_sparse|.

    Shares in place of counts let populations of different size be compared; with M models in each, the
    distance between the counts is M d.

    Args:
        dense: predictions in {0, 1}, shape (models, n, K).
        sparse: predictions in {0, 1}, shape (models, n, K).

    Returns:
        Shape (n, K), in [0, 2]; 2 where all dense models contradict all sparse ones.

    Raises:
        ValueError: as in `modal_exemplars`.

    Source:
        Hooker et al. (2020, arXiv 2010.03058), taxicab exemplars.
    """
    first, second = _as_populations(dense, sparse)
    distance: FloatArray = 2 * np.abs(first.mean(0) - second.mean(0))
    return distance


@by_name()
def exemplar_table(before: ArrayLike, after: ArrayLike, p: ArrayLike, *, names: Sequence[Hashable] | None = None) -> pd.DataFrame:
    """Modal exemplars of each attribute: how many, how uncertain the dense models were, which way they went.

    Uncertainty is read off the dense models' probability p̄, the mean of several: uncertain is 0.1 < p̄ < 0.9, highly
    uncertain 0.4 < p̄ < 0.6, whatever the thresholds. The odds ratio asks whether exemplars are more often
    uncertain than other samples,

        OR = (exemplars, uncertain · others, certain) / (exemplars, certain · others, uncertain),

    with Wald's 95% interval of log OR (half a sample is added to each of the four counts where one is zero)
    and the p-value of Fisher's exact test (two-sided).

    Args:
        before: decisions of the dense model in {0, 1}, shape (n, K); of several, their `modal_predictions`.
        after: decisions of the sparse model or models, likewise.
        p: probabilities of the dense model, shape (n, K); of several, their mean.
        names: of the K attributes; None numbers them from 0.

    Returns:
        One row per attribute. Columns: `attribute`, `exemplars` (their number), `rate` (of all samples),
        `dense_uncertain` and `dense_highly_uncertain` (shares of the exemplars, in [0, 1]),
        `base_dense_uncertain` and `base_dense_highly_uncertain` (shares of all samples), `odds_ratio`,
        `odds_ratio_low`, `odds_ratio_high`, `p_value`, `positive_to_negative` (share of the exemplars) and
        `reason`. Without exemplars the shares among them are NaN; the odds ratio is NaN as well where all or
        no samples are exemplars, or all or none are uncertain. `reason` says so.

    Raises:
        ValueError: shapes that differ, values out of range, no samples, names that are not K different ones.

    Source:
        Exemplars: Hooker et al. (2020, arXiv 2010.03058). Uncertainty and direction of the exemplars per
        attribute: Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
    """
    first, second = arrays.as_binary(before, "before"), arrays.as_binary(after, "after")
    unsure, very_unsure = uncertain(p), uncertain(p, half_width=0.1)
    if not first.shape == second.shape == unsure.shape:
        raise ValueError(f"before, after and p must have one shape, not {first.shape}, {second.shape} and {unsure.shape}")
    samples = len(first)
    if samples == 0:
        raise ValueError("exemplars need at least one sample, but there is none")
    differs = first != second
    exemplars = differs.sum(0)
    both = (differs & unsure).sum(0)
    attributes = arrays.as_names(names, first.shape[1])
    doubts = {"dense_uncertain": unsure, "dense_highly_uncertain": very_unsure}
    shares = {name: ratio((differs & doubt).sum(0), exemplars) for name, doubt in doubts.items()}
    shares |= {f"base_{name}": doubt.mean(0) for name, doubt in doubts.items()}
    table = pd.DataFrame({"attribute": attributes, "exemplars": exemplars, "rate": exemplars / samples, **shares})
    counts = zip(both, exemplars, unsure.sum(0), strict=True)
    odds = [_odds(np.array([[yes, total - yes], [every - yes, samples - total - every + yes]])) for yes, total, every in counts]
    table[["odds_ratio", "odds_ratio_low", "odds_ratio_high", "p_value"]] = np.array(odds)
    table["positive_to_negative"] = ratio((differs & first).sum(0), exemplars)
    reasons = np.where(table["odds_ratio"].isna(), Reason.ONE_KIND_OF_SAMPLE.value, "")
    table["reason"] = np.where(exemplars == 0, Reason.NO_EXEMPLARS.value, reasons)
    return table


def _odds(table: NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Odds ratio, its interval and Fisher's p-value; NaN where a row or a column is empty."""
    from scipy import stats  # half a second to import

    if (table.sum(0) == 0).any() or (table.sum(1) == 0).any():
        return np.nan, np.nan, np.nan, np.nan
    # SciPy's exact interval would do without the added halves, but takes half a second on counts of 100,000.
    cells = table + 0.5 if (table == 0).any() else table
    log_ratio = np.log(cells[0, 0]) + np.log(cells[1, 1]) - np.log(cells[0, 1]) - np.log(cells[1, 0])
    half_width = stats.norm.ppf(0.975) * np.sqrt((1 / cells).sum())
    low, high = np.exp(log_ratio - half_width), np.exp(log_ratio + half_width)
    return float(np.exp(log_ratio)), float(low), float(high), float(stats.fisher_exact(table)[1])


def _as_population(values: ArrayLike, name: str) -> BoolArray:
    array = np.asarray(values)
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[2] == 0:
        raise ValueError(f"{name} must have shape (models >= 1, n, K >= 1), not {array.shape}; for one model pass {name}[None]")
    return arrays.as_binary(array.reshape(-1, array.shape[2]), name).reshape(array.shape)


def _as_populations(dense: ArrayLike, sparse: ArrayLike) -> tuple[BoolArray, BoolArray]:
    first, second = _as_population(dense, "dense"), _as_population(sparse, "sparse")
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"dense and sparse models need the same samples and attributes, not {first.shape} and {second.shape}")
    return first, second
