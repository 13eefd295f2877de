"""The other definitions of bias amplification: loops from the definitions, known values, and how they differ."""

import numpy as np
import pytest

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason


def draw(seed, n=300, attributes=5):
    """Predictions, labels and training labels whose last column is the group."""
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0.1, 0.9, (2, attributes))

    def labels_of(size):
        group = rng.random(size) < 0.4
        return np.column_stack([rng.random((size, attributes)) < np.where(group[:, None], high, low), group]).astype(int)

    labels, train = labels_of(n), labels_of(2 * n)
    predictions = np.where(rng.random(labels.shape) < 0.25, 1 - labels, labels)
    return predictions, labels, train


def corpus_by_loop(predictions, train, protected):
    values = []
    for k in range(train.shape[1]):
        counts = {split: [0, 0] for split in ("train", "predicted")}
        for split, rows in (("train", train), ("predicted", predictions)):
            for row in rows:
                counts[split][row[protected]] += row[k]
        group = 0 if counts["train"][0] > counts["train"][1] else 1
        values.append(counts["predicted"][group] / sum(counts["predicted"]) - counts["train"][group] / sum(counts["train"]))
    return values


def directional_by_loop(predictions, labels, train, protected):
    """Sum over both groups as attributes, with the indicator P(a, t) > P(a) P(t) of the paper."""
    values = []
    for k in range(labels.shape[1]):
        total = 0.0
        for group in (0, 1):
            in_train = train[:, protected] == group
            joint = np.mean(in_train & (train[:, k] == 1))
            positively = joint > in_train.mean() * train[:, k].mean()
            inside = labels[:, protected] == group
            change = predictions[inside, k].mean() - labels[inside, k].mean()
            total += change if positively else -change
        values.append(total / 2)
    return values


@pytest.mark.parametrize("seed", range(10))
def test_both_agree_with_loops(seed):
    predictions, labels, train = draw(seed)
    shares = metrics.positive_shares(train, 5)
    corpus = metrics.corpus_bias_amplification(predictions, 5, train_shares=shares)
    np.testing.assert_allclose(corpus.values[:5], corpus_by_loop(predictions, train, 5)[:5], atol=1e-14)
    rates = metrics.conditional_rates(train, 5)
    directional = metrics.directional_bias_amplification(predictions, labels, 5, rates=rates)
    np.testing.assert_allclose(directional.values[:5], directional_by_loop(predictions, labels, train, 5)[:5], atol=1e-14)
    assert corpus.reasons[5] is directional.reasons[5] is Reason.PROTECTED_ITSELF


def test_known_values_and_how_the_definitions_differ():
    # Group 1: 10 of 20 positive; group 0: 10 of 80 positive. Half of the positives of either group are found.
    groups = np.arange(100) < 20
    labels = np.zeros((100, 1), int)
    labels[:10] = labels[20:30] = 1
    predictions = np.zeros((100, 1), int)
    predictions[:5] = predictions[20:25] = 1
    rates = metrics.conditional_rates(labels, groups)
    np.testing.assert_array_equal(rates, [[10 / 80], [10 / 20]])
    assert metrics.bias_amplification(predictions, labels, groups, rates=rates).values[0] == 0
    directional = metrics.directional_bias_amplification(predictions, labels, groups, rates=rates)
    assert directional.values[0] == -(10 / 20 - 10 / 80) / 4
    # Exactly half of the positives in either group: the corpus has no direction, though the rates differ fourfold.
    corpus = metrics.corpus_bias_amplification(predictions, groups, train_shares=metrics.positive_shares(labels, groups))
    assert corpus.reasons == (Reason.SMALL_SKEW,)
    # One more in training for the large group gives the direction to it, against that of the rates.
    away = metrics.corpus_bias_amplification(predictions, groups, train_shares=[0.4])
    np.testing.assert_allclose(away, [0.5 - 0.6])


def test_groups_are_predicted_where_a_column_is_named():
    predictions = np.array([[1, 1], [1, 1], [1, 1], [1, 0]])
    labels = np.array([[1, 1], [1, 0], [1, 0], [1, 0]])
    by_prediction = metrics.corpus_bias_amplification(predictions, 1, train_shares=[0.6, 1.0])
    by_truth = metrics.corpus_bias_amplification(predictions, labels[:, 1], train_shares=[0.6, 1.0])
    np.testing.assert_allclose(by_prediction.values[0], 0.75 - 0.6)
    np.testing.assert_allclose(by_truth.values[0], 0.25 - 0.6)


def test_undefined_cases():
    predictions, labels = np.array([[0, 1], [0, 1]]), np.array([[1, 1], [0, 0]])
    corpus = metrics.corpus_bias_amplification(predictions, [0, 1], train_shares=[0.7, np.nan])
    assert corpus.reasons == (Reason.NO_PREDICTED_POSITIVES, Reason.NO_TRAINING_POSITIVES)
    empty = metrics.directional_bias_amplification(predictions, labels, [1, 1], rates=[[0.1, 0.3], [0.2, 0.3]])
    assert empty.reasons == (Reason.EMPTY_GROUP, Reason.SMALL_SKEW)
    no_training = metrics.directional_bias_amplification(predictions, labels, [0, 1], rates=[[np.nan, np.nan], [0.2, 0.3]])
    assert no_training.reasons == (Reason.EMPTY_TRAINING_GROUP,) * 2
    assert np.isnan(metrics.positive_shares([[0], [0]], [0, 1])).all()
    with pytest.raises(ValueError, match=r"train_shares must have shape \(2,\)"):
        metrics.corpus_bias_amplification(predictions, [0, 1], train_shares=[0.5])
