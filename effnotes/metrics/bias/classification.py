"""How well each attribute is predicted, and how much of that its base rate alone would give.

Every function is vectorised over the K attributes of a multi-label task and returns NaN with a reason where
its denominator is zero. A high accuracy on a rare attribute says little: read it beside `majority_accuracy`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.arrays import as_binary, as_groups, as_pair, as_scored, as_shares, check_same_shape
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, Reason, ratio

IntArray = NDArray[np.int64]
_Metric = Callable[[ArrayLike, ArrayLike], PerAttribute]


@by_name()
def accuracy(predictions: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Share of right predictions, mean(ŷ = y), in [0, 1].

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined without samples.

    Raises:
        ValueError: shapes that differ, or entries other than 0 and 1.
    """
    predicted, true = as_pair(predictions, labels)
    return _share((predicted == true).sum(0), len(true), len(true))


@by_name()
def majority_accuracy(labels: ArrayLike, train_rate: ArrayLike) -> PerAttribute:
    """Accuracy of always answering with the more frequent training label, in [0, 1].

    The floor under `accuracy`: on attributes of which few are balanced, it is high for no merit of a model.

    Args:
        labels: in {0, 1}, shape (n, K), of the samples to be predicted.
        train_rate: rate of positives in the training labels, shape (K,), e.g. `positive_rate(train_labels)`.
            A rate of exactly 1/2 answers "negative".

    Returns:
        K values; undefined without samples, and where the training rate is NaN.

    Raises:
        ValueError: labels other than 0 and 1, or rates outside [0, 1] or of another length.
    """
    true = as_binary(labels, "labels")
    rate = as_shares("train_rate", train_rate, true.shape[1:], "positive_rate(train_labels)")
    positives, n = true.sum(0), len(true)
    hits = np.where(rate > 0.5, positives, n - positives)
    return PerAttribute.masked(ratio(hits, n), (Reason.NO_TRAINING_SAMPLES, np.isnan(rate)), (Reason.NO_SAMPLES, n == 0))


@by_name()
def balanced_accuracy(predictions: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Mean of the true positive and the true negative rate, (TP/P + TN/N) / 2, in [0, 1]; 1/2 is chance.

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined where a class is absent from the labels.

    Raises:
        ValueError: shapes that differ, or entries other than 0 and 1.
    """
    predicted, true = as_pair(predictions, labels)
    positives, negatives = true.sum(0), (~true).sum(0)
    values = (ratio((predicted & true).sum(0), positives) + ratio((~predicted & ~true).sum(0), negatives)) / 2
    return PerAttribute.masked(values, *_absent_classes(positives, negatives))


@by_name()
def roc_auc(logits: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Area under the ROC curve: P(score of a positive > score of a negative) + P(equal)/2, in [0, 1].

    Taken on the logits: the sigmoid keeps their order, but rounds the largest to the same probability. A
    value computed from hard predictions would be the balanced accuracy.

    Args:
        logits: finite scores, shape (n, K); any increasing transform gives the same value.
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined where a class is absent.

    Raises:
        ValueError: shapes that differ, scores that are not finite, labels other than 0 and 1.
    """
    return ranking_metrics(*as_scored(logits, labels))[0]


@by_name()
def average_precision(logits: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Average precision, Σ_t (R_t - R_{t-1}) · P_t over the distinct scores t from high to low, in (0, 1].

    Precision P and recall R count the samples that score at least t, so ties enter together. The value of
    random scores is the rate of positives, not 1/2.

    Args:
        logits: finite scores, shape (n, K); any increasing transform gives the same value.
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined without positives.

    Raises:
        ValueError: shapes that differ, scores that are not finite, labels other than 0 and 1.
    """
    return ranking_metrics(*as_scored(logits, labels))[1]


def ranking_metrics(scores: FloatArray, true: BoolArray) -> tuple[PerAttribute, PerAttribute]:
    """Compute `roc_auc` and `average_precision` of one shape (n, K) together: sorting is most of their time."""
    positives, negatives = true.sum(0), (~true).sum(0)
    area, precisions = np.full((2, true.shape[1]), np.nan)
    # Column by column in memory: strided reads would cost as much as the sorting.
    by_column = np.ascontiguousarray(scores.T), np.ascontiguousarray(true.T)
    for k in np.flatnonzero(positives):
        true_positives, false_positives = _counts_by_threshold(by_column[0][k], by_column[1][k])
        precision = true_positives[1:] / (true_positives[1:] + false_positives[1:])
        precisions[k] = np.sum(np.diff(true_positives) * precision) / positives[k]
        if negatives[k]:
            # Twice the trapezoids, so that the sum stays in exact integers.
            doubled = np.sum((true_positives[1:] + true_positives[:-1]) * np.diff(false_positives))
            area[k] = doubled / (2 * positives[k] * negatives[k])
    absent = _absent_classes(positives, negatives)
    return PerAttribute.masked(area, *absent), PerAttribute.masked(precisions, *absent[:2])


@by_name()
def positive_rate(values: ArrayLike) -> PerAttribute:
    """Share of positives, mean(v), in [0, 1]: base rate of labels, predicted-positive rate of predictions.

    Args:
        values: labels or predictions in {0, 1}, shape (n, K).

    Returns:
        K values; undefined without samples.

    Raises:
        ValueError: not of shape (n, K), or entries other than 0 and 1.
    """
    positive = as_binary(values, "values")
    return _share(positive.sum(0), len(positive), len(positive))


@by_name()
def rare_value_ratio(predictions: ArrayLike, labels: ArrayLike, train_rate: ArrayLike) -> PerAttribute:
    """How often the rare value is predicted relative to how often it occurs, in [0, ∞); 1 is right.

    mean(ŷ) / mean(y) where positives are the rare side in training (rate <= 1/2), and
    (1 - mean ŷ) / (1 - mean y) where negatives are. Below 1, the rare value is under-predicted. It counts
    predictions, right or wrong.

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: in {0, 1}, shape (n, K).
        train_rate: rate of positives in the training labels, shape (K,), e.g. `positive_rate(train_labels)`.

    Returns:
        K values; undefined where no label has the rare value, and where the training rate is NaN.

    Raises:
        ValueError: shapes that differ, entries other than 0 and 1, rates outside [0, 1].

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
    """
    predicted, true = as_pair(predictions, labels)
    rate = as_shares("train_rate", train_rate, true.shape[1:], "positive_rate(train_labels)")
    rare_is_positive = rate <= 0.5
    predicted_rare = np.where(rare_is_positive, predicted.sum(0), (~predicted).sum(0))
    true_rare = np.where(rare_is_positive, true.sum(0), (~true).sum(0))
    none = (Reason.NO_SAMPLES, len(true) == 0), (Reason.NO_RARE_VALUES, true_rare == 0)
    return PerAttribute.masked(ratio(predicted_rare, true_rare), (Reason.NO_TRAINING_SAMPLES, np.isnan(rate)), *none)


@by_name()
def false_positive_rate(predictions: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Share of the negatives that are predicted positive, FP / N, in [0, 1].

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined without negatives.

    Raises:
        ValueError: shapes that differ, or entries other than 0 and 1.
    """
    predicted, true = as_pair(predictions, labels)
    return _share((predicted & ~true).sum(0), (~true).sum(0), len(true), Reason.NO_NEGATIVES)


@by_name()
def false_negative_rate(predictions: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Share of the positives that are predicted negative, FN / P, in [0, 1].

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined without positives.

    Raises:
        ValueError: shapes that differ, or entries other than 0 and 1.
    """
    predicted, true = as_pair(predictions, labels)
    return _share((~predicted & true).sum(0), true.sum(0), len(true), Reason.NO_POSITIVES)


@by_name()
def by_group(metric: _Metric, predictions: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> tuple[PerAttribute, PerAttribute]:
    """Evaluate a metric on each of two groups.

    For instance `by_group(false_positive_rate, predictions, labels, labels[:, protected])`.

    Args:
        metric: of predictions (or scores) and labels.
        predictions: what the metric takes first, shape (n, K).
        labels: in {0, 1}, shape (n, K).
        groups: in {0, 1}, shape (n,).

    Returns:
        The metric in group 0 and in group 1. An empty group is undefined, not left out.

    Raises:
        ValueError: shapes that differ, or labels or groups other than 0 and 1.
    """
    true = as_binary(labels, "labels")
    first = np.asarray(predictions)
    check_same_shape(first, true, "predictions")
    member = as_groups(groups, len(true))
    return metric(first[~member], true[~member]), metric(first[member], true[member])


def group_gap(group_0: PerAttribute, group_1: PerAttribute) -> PerAttribute:
    """Absolute difference of a metric between two groups, |m_1 - m_0|, >= 0.

    Args:
        group_0: K values.
        group_1: K values, of the other group.

    Returns:
        K values; undefined where either is.

    Raises:
        ValueError: results of different length.
    """
    if len(group_0) != len(group_1):
        raise ValueError(f"both groups need the same attributes, not {len(group_0)} and {len(group_1)}")
    gap = np.abs(group_1.values - group_0.values)
    return PerAttribute.masked(gap, (Reason.UNDEFINED_IN_GROUP, np.isnan(gap)))


def _share(events: IntArray, cases: IntArray | int, samples: int, reason: Reason = Reason.NO_SAMPLES) -> PerAttribute:
    return PerAttribute.masked(ratio(events, cases), (Reason.NO_SAMPLES, samples == 0), (reason, cases == 0))


def _absent_classes(positives: IntArray, negatives: IntArray) -> tuple[tuple[Reason, BoolArray], ...]:
    of_classes = (Reason.NO_POSITIVES, positives == 0), (Reason.NO_NEGATIVES, negatives == 0)
    return (Reason.NO_SAMPLES, positives + negatives == 0), *of_classes


def _counts_by_threshold(scores: FloatArray, true: BoolArray) -> tuple[IntArray, IntArray]:
    """True and false positives above each distinct score, high to low, that score included; first (0, 0)."""
    order = np.argsort(-scores)
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(true[order])[last_of_ties]
    return np.concatenate(([0], true_positives)), np.concatenate(([0], last_of_ties + 1 - true_positives))
