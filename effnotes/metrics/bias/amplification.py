"""Bias amplification: does a model give a group more of an attribute's positives than the group truly holds?

The measure is about rates, not errors. A model that guesses at random inside each group, at the group's own
rate, has none; false positives and false negatives cancel. Read it beside accuracy and error rates by group.

Other definitions stand beside it, for comparison with work that uses them. All three compare a model with labels, group by
group, and differ in what they divide by and compare with:

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

from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.arrays import as_binary, as_groups, as_pair, as_rates, as_shares, resolve_protected
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, Reason, ratio

_MIN_POSITIVES = 10  # in either group of the samples
_MIN_SKEW = 0.1  # relative to the smaller rate
# Rates written as decimals (.11 against .10) must not fall below a skew of .1 through rounding.
_ROUNDING = 1e-9
_EXACT = 1e-12  # a share of one half, but for rounding

_Conditions = list[tuple[Reason, BoolArray]]


@by_name()
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


@by_name()
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


@by_name()
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
    return _excess_share(predicted, true, member, np.ones(true.shape[1], dtype=bool), [_few_positives(true, member)])


@by_name()
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


@by_name()
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
    return _share(true, member, towards=True)


@by_name()
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
    towards = shares > 0.5
    return PerAttribute.masked(
        _share(predicted, member, towards) - np.where(towards, shares, 1 - shares),
        (Reason.PROTECTED_ITSELF, np.arange(attributes) == column),
        (Reason.NO_TRAINING_POSITIVES, np.isnan(shares)),
        (Reason.SMALL_SKEW, np.abs(shares - 0.5) < _EXACT),
        (Reason.NO_PREDICTED_POSITIVES, predicted.sum(0) == 0),
    )


@by_name()
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


def _excess_share(
    predicted: BoolArray, true: BoolArray, member: BoolArray, towards: BoolArray, undefined: _Conditions
) -> PerAttribute:
    """Predicted minus true share of the positives in group 1 (`towards`, (K,)) or else in group 0."""
    excess = _share(predicted, member, towards) - _share(true, member, towards)
    return PerAttribute.masked(excess, *undefined, (Reason.NO_PREDICTED_POSITIVES, predicted.sum(0) == 0))


def _share(positives: BoolArray, member: BoolArray, towards: BoolArray | bool) -> FloatArray:
    """Share of the positives, (n, K), that lie in group 1 (`towards`) or else in group 0."""
    return ratio(np.where(towards, positives[member].sum(0), positives[~member].sum(0)), positives.sum(0))


def _undefined_by_labels(true: BoolArray, protected: int | ArrayLike, q: FloatArray) -> _Conditions:
    member, column = resolve_protected(protected, true)
    low, high = np.minimum(*q), np.maximum(*q)
    return [
        (Reason.PROTECTED_ITSELF, np.arange(true.shape[1]) == column),
        (Reason.EMPTY_TRAINING_GROUP, np.isnan(low)),
        (Reason.NO_TRAINING_POSITIVES, high == 0),
        (Reason.SMALL_SKEW, high - low < _MIN_SKEW * low * (1 - _ROUNDING)),
        _few_positives(true, member),
    ]


def _few_positives(true: BoolArray, member: BoolArray) -> tuple[Reason, BoolArray]:
    return Reason.FEW_TEST_POSITIVES, np.minimum(true[member].sum(0), true[~member].sum(0)) < _MIN_POSITIVES
