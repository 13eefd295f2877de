"""Other definitions of bias amplification, for comparison with work that uses them.

All three compare a model with labels, group by group, and differ in what they divide by and compare with:

| | `bias_amplification` | `corpus_bias_amplification` | `directional_bias_amplification` |
|---|---|---|---|
| compares | shares of the positives | shares of the positives | rates within the groups |
| reference | labels of the same samples | training labels | labels of the same samples |
| direction | higher rate in training | more than half of the training positives | correlation in training |
| groups | true | predicted (or true) | true |
| over- or under-prediction alike in both groups | gives 0 | gives 0 if the splits agree | does not give 0 |
"""

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias.arrays import as_binary, as_pair, as_rates, as_shares, resolve_protected
from effnotes.metrics.bias.per_attribute import FloatArray, PerAttribute, Reason, ratio

_ROUNDING = 1e-12


def positive_shares(labels: ArrayLike, protected: int | ArrayLike) -> FloatArray:
    """Share of each attribute's positives that lie in group 1, Σ_i y_ik a_i / Σ_i y_ik.

    Args:
        labels: in {0, 1}, shape (n, K).
        protected: the index of the protected column, or the group of each sample in {0, 1}, shape (n,).

    Returns:
        Shape (K,), in [0, 1]; NaN where an attribute has no positives.

    Raises:
        ValueError: labels or groups other than 0 and 1, a wrong shape, an index out of range.
    """
    true = as_binary(labels, "labels")
    member, _ = resolve_protected(protected, true)
    return ratio(true[member].sum(0), true.sum(0))


def corpus_bias_amplification(predictions: ArrayLike, protected: int | ArrayLike, *, train_shares: ArrayLike) -> PerAttribute:
    """Bias amplification against the training corpus, after Zhao et al. 2017.

    With b*_k the share of the training positives that lie in group 1, G is the group that holds more than
    half of them, and

        BA_k = Σ_{i∈G} ŷ_ik / Σ_i ŷ_ik - (b*_k if G = 1 else 1 - b*_k).

    Against `bias_amplification`: the reference is the training share, so a shift between training and test
    labels counts as amplification; the direction is a share of positives, so that in groups of unequal size
    the larger one is mostly G, whatever the rates are; and with a column as `protected` the groups are
    themselves predicted, so that errors there enter.

    Args:
        predictions: in {0, 1}, shape (n, K).
        protected: the index of the protected column, whose predictions are then the groups, as in the paper;
            or the group of each sample in {0, 1}, shape (n,), for instance the true one.
        train_shares: b*, shape (K,), in [0, 1]: `positive_shares(train_labels, protected)`.

    Returns:
        K values in [-b, 1 - b], b >= 1/2 the training share of G. Undefined, in this order: for the protected
        attribute itself; without training positives; where either group holds exactly half of them; without
        predicted positives. Their mean over the attributes is the paper's figure.

    Raises:
        ValueError: entries other than 0 and 1, shares outside [0, 1] or of another length.

    Source:
        Zhao, Wang, Yatskar, Ordonez & Chang, "Men Also Like Shopping" (EMNLP 2017), section 3.
    """
    predicted = as_binary(predictions, "predictions")
    member, column = resolve_protected(protected, predicted)
    attributes = predicted.shape[1]
    shares = as_shares("train_shares", train_shares, (attributes,), "positive_shares(train_labels, protected)")
    towards_1 = shares > 0.5
    in_group = np.where(towards_1, predicted[member].sum(0), predicted[~member].sum(0))
    total = predicted.sum(0)
    return PerAttribute.masked(
        ratio(in_group, total) - np.where(towards_1, shares, 1 - shares),
        (Reason.PROTECTED_ITSELF, np.arange(attributes) == column),
        (Reason.NO_TRAINING_POSITIVES, np.isnan(shares)),
        (Reason.SMALL_SKEW, np.abs(shares - 0.5) < _ROUNDING),
        (Reason.NO_PREDICTED_POSITIVES, total == 0),
    )


def directional_bias_amplification(
    predictions: ArrayLike, labels: ArrayLike, protected: int | ArrayLike, *, rates: ArrayLike
) -> PerAttribute:
    """Directional bias amplification from protected attribute to task, BiasAmp(A→T), of each attribute.

    With Δ_g = P(ŷ_k = 1 | a = g) - P(y_k = 1 | a = g), G the group in which the attribute is more frequent in
    training and H the other one,

        BiasAmp_k = (Δ_G - Δ_H) / 2,

    the mean over both groups of Δ_g with the sign of the correlation of group and attribute in training. A
    positive value says that the difference between the groups' rates grew.

    Against `bias_amplification`: counts are divided by the size of the group instead of by the number of
    predicted positives. A model that finds half of each group's positives has a value of
    -(q_G - q_H) / 4 in terms of the true rates, where the share of positives, and hence
    `bias_amplification`, stays as it is. Nothing has to be predicted for it to be defined.

    Args:
        predictions: in {0, 1}, shape (n, K).
        labels: true labels of the same samples in {0, 1}, shape (n, K).
        protected: the index of the protected column, or the group of each sample in {0, 1}, shape (n,).
        rates: rates of positives by training group, shape (2, K): `conditional_rates(train_labels,
            protected)`. P(a, t) > P(a) P(t) in the paper is the same as the higher rate.

    Returns:
        K values in [-1, 1]. Undefined, in this order: for the protected attribute itself; with an empty
        training group; with equal rates, which have no direction; with an empty group among these samples.
        Their mean over the attributes is the paper's figure for one protected attribute of two groups.

    Raises:
        ValueError: shapes that differ, entries other than 0 and 1, rates outside [0, 1].

    Source:
        Wang & Russakovsky, "Directional Bias Amplification" (ICML 2021, arXiv 2102.12594), section 4.
    """
    predicted, true = as_pair(predictions, labels)
    member, column = resolve_protected(protected, true)
    attributes = true.shape[1]
    q = as_rates(rates, attributes)
    excess = [ratio(predicted[group].sum(0) - true[group].sum(0), group.sum()) for group in (~member, member)]
    return PerAttribute.masked(
        np.sign(q[1] - q[0]) * (excess[1] - excess[0]) / 2,
        (Reason.PROTECTED_ITSELF, np.arange(attributes) == column),
        (Reason.EMPTY_TRAINING_GROUP, np.isnan(q[0] + q[1])),
        (Reason.SMALL_SKEW, q[0] == q[1]),
        (Reason.EMPTY_GROUP, len(np.unique(member)) < 2),
    )
