"""Bias amplification: known values, its algebraic identity, a loop, and every undefined case."""

import numpy as np
import pytest

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason

TOWARDS_1 = [[0.2], [0.4]]
TOWARDS_0 = [[0.4], [0.2]]


def known_case():
    """100 samples: group 1 from row 50 on, 25 true positives in each group, 5 false positives in group 1."""
    rows = np.arange(100)
    groups = (rows >= 50).astype(int)
    labels = ((rows < 25) | ((rows >= 50) & (rows < 75))).astype(int)[:, None]
    predictions = ((rows < 25) | ((rows >= 50) & (rows < 80))).astype(int)[:, None]
    return predictions, labels, groups


def test_known_values():
    predictions, labels, groups = known_case()
    towards_1 = metrics.bias_amplification(predictions, labels, groups, rates=TOWARDS_1)
    towards_0 = metrics.bias_amplification(predictions, labels, groups, rates=TOWARDS_0)
    np.testing.assert_allclose(towards_1, [30 / 55 - 0.5], rtol=1e-14)
    np.testing.assert_allclose(towards_0, [25 / 55 - 0.5], rtol=1e-14)
    assert round(towards_1.values[0], 5) == 0.04545
    assert metrics.bias_amplification(labels, labels, groups, rates=TOWARDS_1).values.tolist() == [0.0]


def random_case(seed, n=400, attributes=6):
    """Labels that depend on the group (the last column) and predictions that exaggerate or not."""
    rng = np.random.default_rng(seed)
    groups = rng.random(n) < rng.uniform(0.3, 0.7)
    low, high = rng.uniform(0.2, 0.8, (2, attributes))
    labels = rng.random((n, attributes)) < np.where(groups[:, None], high, low)
    flip = rng.random((n, attributes)) < rng.uniform(0, 0.6, (1, attributes))
    predictions = labels ^ (flip & (rng.random((n, attributes)) < np.where(groups[:, None], 0.9, 0.4)))
    return np.column_stack([predictions, groups]), np.column_stack([labels, groups]), groups


def amplification_by_loop(predictions, labels, train_labels, protected):
    """Straight from the definition, sample by sample."""
    values = []
    for k in range(labels.shape[1]):
        counts = {0: 0, 1: 0}
        positives = {0: 0, 1: 0}
        for row in train_labels:
            counts[int(row[protected])] += 1
            positives[int(row[protected])] += int(row[k])
        q0, q1 = positives[0] / counts[0], positives[1] / counts[1]
        favoured = 1 if q1 > q0 else 0
        predicted = true = predicted_in = true_in = 0
        per_group = {0: 0, 1: 0}
        for i, row in enumerate(labels):
            inside = int(row[protected]) == favoured
            predicted += int(predictions[i, k])
            true += int(row[k])
            predicted_in += int(predictions[i, k]) * inside
            true_in += int(row[k]) * inside
            per_group[int(row[protected])] += int(row[k])
        defined = k != protected and min(per_group.values()) >= 10 and abs(q1 - q0) >= 0.1 * min(q0, q1)
        values.append(predicted_in / predicted - true_in / true if defined and predicted else np.nan)
    return values


@pytest.mark.parametrize("seed", range(10))
def test_agreement_with_a_loop_over_samples(seed):
    predictions, labels, _ = random_case(seed)
    _, train_labels, _ = random_case(seed + 100)
    rates = metrics.conditional_rates(train_labels, protected=6)
    result = metrics.bias_amplification(predictions, labels, 6, rates=rates)
    np.testing.assert_allclose(result, amplification_by_loop(predictions, labels, train_labels, 6), atol=1e-14)
    assert result.reasons[6] is Reason.PROTECTED_ITSELF


@pytest.mark.parametrize("seed", range(50))
def test_identity_with_the_rates_of_prediction_and_bounds(seed):
    predictions, labels, groups = random_case(seed)
    rates = metrics.conditional_rates(labels, groups)
    result = metrics.bias_amplification(predictions, labels, groups, rates=rates)
    for k in np.flatnonzero(np.isfinite(result)):
        favoured = groups if rates[1, k] > rates[0, k] else ~groups
        r_g = predictions[favoured, k].sum() / labels[favoured, k].sum()
        r_h = predictions[~favoured, k].sum() / labels[~favoured, k].sum()
        share = labels[favoured, k].sum() / labels[:, k].sum()
        identity = share * (1 - share) * (r_g - r_h) / (share * r_g + (1 - share) * r_h)
        assert result.values[k] == pytest.approx(identity, abs=1e-14)
        assert -share <= result.values[k] <= 1 - share
    assert np.isfinite(result).any()


def test_under_prediction_by_one_factor_is_no_bias_and_the_ends_are_reached():
    labels = np.ones((80, 1), dtype=int)
    groups = np.arange(80) >= 60
    halved = (np.arange(80) % 2)[:, None]
    assert metrics.bias_amplification(halved, labels, groups, rates=TOWARDS_1).values.tolist() == [0.0]
    only_1, only_0 = groups[:, None], ~groups[:, None]
    assert metrics.bias_amplification(only_1, labels, groups, rates=TOWARDS_1).values.tolist() == [0.75]
    assert metrics.bias_amplification(only_0, labels, groups, rates=TOWARDS_1).values.tolist() == [-0.25]


def test_errors_that_keep_the_rates_are_no_bias():
    """False positives and false negatives cancel: the measure is about rates."""
    _, labels, groups = known_case()
    wrong = 1 - labels  # 25 of 50 in either group as well
    assert metrics.accuracy(wrong, labels).values.tolist() == [0.0]
    assert metrics.bias_amplification(wrong, labels, groups, rates=TOWARDS_1).values.tolist() == [0.0]


def test_the_direction_comes_from_the_rates_given_not_from_the_test_labels():
    predictions, labels, groups = random_case(0)
    rates = metrics.conditional_rates(labels, groups)
    given = metrics.bias_amplification(predictions, labels, groups, rates=rates)
    swapped = metrics.bias_amplification(predictions, labels, groups, rates=rates[::-1])
    np.testing.assert_allclose(swapped, -given.values, atol=1e-14)


def test_conditional_rates_worked_out_by_hand():
    labels = np.array([[0, 1], [0, 0], [0, 1], [1, 1], [1, 0]])
    np.testing.assert_allclose(metrics.conditional_rates(labels, 0), [[0, 2 / 3], [1, 1 / 2]])
    np.testing.assert_allclose(metrics.conditional_rates(labels, labels[:, 0]), [[0, 2 / 3], [1, 1 / 2]])
    one_group = metrics.conditional_rates(labels, np.zeros(5))
    np.testing.assert_allclose(one_group, [[0.4, 0.6], [np.nan, np.nan]])


def reason_for(rates):
    predictions, labels, groups = known_case()
    return metrics.bias_amplification(predictions, labels, groups, rates=rates).reasons[0]


def test_undefined_by_the_training_rates():
    assert reason_for([[np.nan], [0.2]]) is Reason.EMPTY_TRAINING_GROUP
    assert reason_for([[0.0], [0.0]]) is Reason.NO_TRAINING_POSITIVES
    assert reason_for([[0.3], [0.3]]) is Reason.SMALL_SKEW
    assert reason_for([[0.0], [0.01]]) is None  # the relative skew is infinite


def test_the_smallest_skew_that_counts_is_relative_to_the_smaller_rate():
    assert reason_for([[0.100], [0.1099]]) is Reason.SMALL_SKEW
    assert reason_for([[0.100], [0.110]]) is None
    assert reason_for([[0.110], [0.100]]) is None
    assert reason_for([[0.50], [0.549]]) is Reason.SMALL_SKEW


@pytest.mark.parametrize("positives", [(10, 9), (9, 10), (9, 9)])
def test_nine_true_positives_in_a_group_are_too_few(positives):
    groups = np.repeat([0, 1], 20)
    labels = np.concatenate([np.arange(20) < count for count in positives])[:, None]
    result = metrics.bias_amplification(labels, labels, groups, rates=TOWARDS_1)
    assert result.reasons == (Reason.FEW_TEST_POSITIVES,)


def test_ten_true_positives_in_each_group_are_enough():
    groups = np.repeat([0, 1], 10)
    labels = np.ones((20, 1))
    assert metrics.bias_amplification(labels, labels, groups, rates=TOWARDS_1).values.tolist() == [0.0]


def test_no_predicted_positives_is_undefined_not_zero():
    _, labels, groups = known_case()
    result = metrics.bias_amplification(np.zeros_like(labels), labels, groups, rates=TOWARDS_1)
    assert result.reasons == (Reason.NO_PREDICTED_POSITIVES,)
    assert np.isnan(result.values[0])


def test_what_the_labels_forbid_is_named_before_what_the_model_did():
    _, labels, groups = known_case()
    nothing = np.zeros_like(labels)
    assert metrics.bias_amplification(nothing, labels, groups, rates=[[0.3], [0.3]]).reasons == (Reason.SMALL_SKEW,)


def test_no_samples_and_an_empty_test_group():
    empty = np.zeros((0, 1))
    assert metrics.bias_amplification(empty, empty, [], rates=TOWARDS_1).reasons == (Reason.FEW_TEST_POSITIVES,)
    labels = np.ones((30, 1))
    result = metrics.bias_amplification(labels, labels, np.zeros(30), rates=TOWARDS_1)
    assert result.reasons == (Reason.FEW_TEST_POSITIVES,)


def test_a_single_attribute_that_is_itself_protected():
    labels = np.ones((30, 1))
    assert metrics.bias_amplification(labels, labels, 0, rates=[[0], [1]]).reasons == (Reason.PROTECTED_ITSELF,)


def test_planted_feature_fixes_the_direction_and_knows_no_skew_rule():
    predictions, labels, planted = known_case()
    np.testing.assert_allclose(metrics.planted_bias_amplification(predictions, labels, planted), [30 / 55 - 0.5])
    np.testing.assert_allclose(metrics.planted_bias_amplification(predictions, labels, 1 - planted), [25 / 55 - 0.5])
    few = metrics.planted_bias_amplification(labels, labels & (np.cumsum(labels, axis=0) <= 34), planted)
    assert few.reasons == (Reason.FEW_TEST_POSITIVES,)
    none = metrics.planted_bias_amplification(np.zeros_like(labels), labels, planted)
    assert none.reasons == (Reason.NO_PREDICTED_POSITIVES,)


def test_the_fixed_set_is_what_the_labels_allow():
    predictions, labels, _ = random_case(3)
    rates = metrics.conditional_rates(labels, 6)
    rates[:, 2] = 0.5
    allowed = metrics.fixed_attribute_set(labels, 6, rates=rates)
    assert not allowed[2]
    assert not allowed[6]
    defined = np.isfinite(metrics.bias_amplification(predictions, labels, 6, rates=rates))
    assert np.array_equal(allowed, defined)
    collapsed = metrics.bias_amplification(np.zeros_like(labels), labels, 6, rates=rates)
    by_model = np.array([reason is Reason.NO_PREDICTED_POSITIVES for reason in collapsed.reasons])
    assert np.array_equal(allowed, by_model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": [[0.1, 0.2], [0.3, 0.4]]}, r"shape \(2, 1\).*conditional_rates"),
        ({"rates": [[-0.1], [0.3]]}, r"rates must .* lie in \[0, 1\]"),
        ({"protected": 1}, "index from 0 to 0, not 1"),
        ({"protected": -1}, "index from 0 to 0, not -1"),
        ({"protected": 0.5}, "an array .* or a column's index"),
        ({"protected": 0.0}, "an array .* or a column's index"),
        ({"protected": np.ones(99)}, r"shape \(100,\)"),
        ({"protected": np.full(100, 2)}, "groups must be 0 or 1"),
    ],
)
def test_bad_input_is_refused(change, message):
    predictions, labels, groups = known_case()
    arguments = {"protected": groups, "rates": TOWARDS_1} | change
    with pytest.raises(ValueError, match=message):
        metrics.bias_amplification(predictions, labels, **arguments)
