"""Bias amplification: does a model give a group more of an attribute's positives than the group truly holds?

The measure is about rates, not errors. A model that guesses at random inside each group, at the group's own
rate, has none; false positives and false negatives cancel. Read it beside accuracy and error rates by group.
"""

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias.arrays import as_binary, as_groups, as_pair, as_rates, resolve_protected
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, Reason, ratio

_MIN_POSITIVES = 10  # in either group of the samples
_MIN_SKEW = 0.1  # relative to the smaller rate
# Rates written as decimals (.11 against .10) must not fall below a skew of .1 through rounding.
_ROUNDING = 1e-9

_Conditions = list[tuple[Reason, BoolArray]]


def conditional_rates(labels: ArrayLike, protected: int | ArrayLike) -> FloatArray:
    """Rate of positives of each attribute in either group, q_g = P(y_k = 1 | a = g).

    Args:
        labels: training labels in {0, 1}, shape (n, K).
        protected: the index of the protected column, or the group of each sample in {0, 1}, shape (n,).

    Returns:
        Shape (2, K), in [0, 1]; row g belongs to group g and is NaN where the group is empty.

    Raises:
        ValueError: labels or groups other than 0 and 1, a wrong shape, an index out of range.
    """
    true = as_binary(labels, "labels")
    member, _ = resolve_protected(protected, true)
    return np.stack([ratio(true[group].sum(0), group.sum()) for group in (~member, member)])


def bias_amplification(predictions: ArrayLike, labels: ArrayLike, protected: int | ArrayLike, *, rates: ArrayLike) -> PerAttribute:
    """Bias amplification of each attribute with respect to a protected attribute.

    Let G be the group in which the attribute is more frequent in training (group 1 if q_1 > q_0,
    else group 0). Then

        BA_k = Σ_{i∈G} ŷ_ik / Σ_i ŷ_ik - Σ_{i∈G} y_ik / Σ_i y_ik,

    the share of predicted positives that lie in G minus the share of true positives that do. Positive: the
    skew of the data is amplified; negative: attenuated. With S the true share of G the range is [-S, 1 - S].
    With r_g = predicted positives / true positives in group g and H the other group,

        BA_k = S (1 - S) (r_G - r_H) / (S r_G + (1 - S) r_H):

    it is 0 when both groups are under-predicted by the same factor.

    Groups are always those of the true labels. The direction comes from the training labels: taken from the
    predictions, or as an absolute value, it would make the bias positive by construction.

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: true labels of the same samples in {0, 1}, shape (n, K).
        protected: the index of the protected column, or the group of each sample in {0, 1}, shape (n,).
        rates: rates of positives by group, shape (2, K), row g for group g: `conditional_rates(train_labels,
            protected)`, or a generator's true rates, which keep sampling noise out of the direction and of
            the choice of attributes.

    Returns:
        K values. Undefined, and in this order of reasons: for the protected attribute itself; with an empty
        training group; without training positives; with a relative skew |q_1 - q_0| / min(q_1, q_0) below
        0.1; with fewer than 10 true positives in either group; without predicted positives. Only the last
        depends on the model.

    Raises:
        ValueError: shapes that differ, entries other than 0 and 1, rates outside [0, 1].

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622). Zhao et al. (EMNLP 2017) take the reference
        share from the training labels, the direction from the share of positives (so that unequal groups
        count as skew), and the groups from predictions; Wang & Russakovsky (ICML 2021) compare P(ŷ = 1 | a)
        with P(y = 1 | a) and so react to over- and under-prediction as such.
    """
    predicted, true = as_pair(predictions, labels)
    member, _ = resolve_protected(protected, true)
    q = as_rates(rates, true.shape[1])
    return _excess_share(predicted, true, member, q[1] > q[0], _undefined_by_labels(true, protected, q))


def planted_bias_amplification(predictions: ArrayLike, labels: ArrayLike, planted: ArrayLike) -> PerAttribute:
    """Bias amplification towards samples that carry a planted feature, such as a stamped corner square.

    The share of predicted positives that carry the feature minus the share of true positives that do: as
    `bias_amplification`, with the marked samples as the group G for every attribute, since the direction and
    the skew are known from the planting.

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: in {0, 1}, shape (n, K).
        planted: 1 for the samples that carry the feature, shape (n,).

    Returns:
        K values in [-S, 1 - S], S the true share of the marked samples. Undefined with fewer than 10 true
        positives among the samples with or among those without the feature, and without predicted positives.

    Raises:
        ValueError: shapes that differ, entries other than 0 and 1.

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622), the backdoor experiments.
    """
    predicted, true = as_pair(predictions, labels)
    member = as_groups(planted, len(true))
    towards = np.ones(true.shape[1], dtype=bool)
    return _excess_share(predicted, true, member, towards, [_few_positives(true, member)])


def fixed_attribute_set(labels: ArrayLike, protected: int | ArrayLike, *, rates: ArrayLike) -> BoolArray:
    """Attributes whose bias amplification the labels alone allow, whatever a model predicts.

    Averages over models need one set: an attribute that a collapsed model never predicts would otherwise drop
    out of the average exactly where its bias was largest. What is undefined inside this set is so for lack of
    predicted positives, and `summarise` counts it.

    Args:
        labels: test labels in {0, 1}, shape (n, K).
        protected: as in `bias_amplification`.
        rates: as in `bias_amplification`.

    Returns:
        Shape (K,), True for the attributes to average over.

    Raises:
        ValueError: as in `bias_amplification`.
    """
    true = as_binary(labels, "labels")
    conditions = _undefined_by_labels(true, protected, as_rates(rates, true.shape[1]))
    allowed: BoolArray = ~np.any([where for _, where in conditions], axis=0)
    return allowed


def _excess_share(
    predicted: BoolArray, true: BoolArray, member: BoolArray, towards: BoolArray, undefined: _Conditions
) -> PerAttribute:
    """Predicted minus true share of the positives in group 1 (`towards`, (K,)) or else in group 0."""
    shares = []
    for positives in (predicted, true):
        in_group = np.where(towards, positives[member].sum(0), positives[~member].sum(0))
        shares.append(ratio(in_group, positives.sum(0)))
    nothing_predicted = (Reason.NO_PREDICTED_POSITIVES, predicted.sum(0) == 0)
    return PerAttribute.masked(shares[0] - shares[1], *undefined, nothing_predicted)


def _undefined_by_labels(true: BoolArray, protected: int | ArrayLike, q: FloatArray) -> _Conditions:
    member, column = resolve_protected(protected, true)
    low, high = np.minimum(*q), np.maximum(*q)
    small_skew = (high - low < _MIN_SKEW * low * (1 - _ROUNDING)) | (high == low)
    return [
        (Reason.PROTECTED_ITSELF, np.arange(true.shape[1]) == column),
        (Reason.EMPTY_TRAINING_GROUP, np.isnan(low)),
        (Reason.NO_TRAINING_POSITIVES, high == 0),
        (Reason.SMALL_SKEW, small_skew),
        _few_positives(true, member),
    ]


def _few_positives(true: BoolArray, member: BoolArray) -> tuple[Reason, BoolArray]:
    return Reason.FEW_TEST_POSITIVES, np.minimum(true[member].sum(0), true[~member].sum(0)) < _MIN_POSITIVES
