"""Uncertainty, calibration and interdependence against loops, scikit-learn and hand-made cases."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason


def column(*values):
    return np.array(values)[:, None]


# Uncertainty


def test_uncertainty_counts_what_a_loop_counts():
    rng = np.random.default_rng(0)
    p = rng.random((500, 4))
    for low, high, half_width in ((0.1, 0.9, 0.4), (0.4, 0.6, 0.1)):
        expected = [sum(low < value < high for value in p[:, k]) / 500 for k in range(4)]
        np.testing.assert_allclose(metrics.uncertainty(p, half_width=half_width), expected)


def test_the_edges_of_the_band_are_certain():
    p = column(0.1, 0.9, 0.0, 1.0, np.nextafter(0.1, 0), np.nextafter(0.9, 1))
    assert not metrics.uncertain(p).any()
    assert metrics.uncertain(column(0.100001, 0.5, 0.899999)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": [[1.5]]}, r"\[0, 1\].*probabilities\(logits\)"),
        ({"p": [[np.nan]]}, r"must lie in \[0, 1\]"),
        ({"p": [[0.5]], "half_width": 0.0}, "half_width must be positive"),
    ],
)
def test_uncertainty_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.uncertainty(**arguments)


# Expected calibration error


def calibration_error_by_loop(p, labels):
    error = 0.0
    for b in range(10):
        low, high = b / 10, (b + 1) / 10
        inside = [(q, y) for q, y in zip(p, labels, strict=True) if low <= q < high or (b == 9 and q == 1)]
        if inside:
            mean_p = sum(q for q, _ in inside) / len(inside)
            mean_y = sum(y for _, y in inside) / len(inside)
            error += len(inside) / len(p) * abs(mean_p - mean_y)
    return error


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_calibration_error_is_that_of_a_loop_over_bins(n):
    rng = np.random.default_rng(n)
    p = rng.beta(0.4, 0.6, (n, 5))
    labels = rng.random((n, 5)) < p**1.5
    expected = [calibration_error_by_loop(p[:, k], labels[:, k]) for k in range(5)]
    np.testing.assert_allclose(metrics.expected_calibration_error(p, labels), expected, atol=1e-14)


def test_a_probability_of_one_shares_the_last_bin():
    # Together they are .95 sure of what is right half the time; bins of their own would give (1 + .1) / 2.
    p, labels = column(1.0, 0.9), column(0, 1)
    np.testing.assert_allclose(metrics.expected_calibration_error(p, labels), [0.45])


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    labels = column(1, 0, 1)
    assert metrics.expected_calibration_error(labels, labels).values.tolist() == [0.0]
    assert metrics.expected_calibration_error(1 - labels, labels).values.tolist() == [1.0]


def test_it_is_the_probability_of_the_positive_class_that_is_measured():
    # The predicted class is always right, with mean confidence .75, but positives occur as often as p says.
    p, labels = column(0.25, 0.25, 0.25, 0.25), column(1, 0, 0, 0)
    assert metrics.expected_calibration_error(p, labels).values.tolist() == [0.0]


def test_no_samples_have_no_confidence():
    empty = np.zeros((0, 1))
    assert metrics.uncertainty(empty).reasons == (Reason.NO_SAMPLES,)
    assert metrics.expected_calibration_error(empty, empty).reasons == (Reason.NO_SAMPLES,)
    assert metrics.interdependence(empty).reasons == (Reason.NO_SAMPLES,)


# Interdependence


def related_columns(n, seed):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    return (hidden @ rng.normal(size=(2, 8)) + rng.normal(size=(n, 8)) > rng.normal(size=8)).astype(int)


@pytest.mark.parametrize("seed", range(3))
def test_interdependence_agrees_with_one_regression_per_column(seed):
    values = related_columns(400, seed)
    n, attributes = values.shape
    scores = []
    for k in range(attributes):
        others = np.delete(values, k, axis=1)
        scores.append(LinearRegression().fit(others, values[:, k]).score(others, values[:, k]))
    plain = np.array(scores)
    assert plain.max() > 0.1
    np.testing.assert_allclose(metrics.interdependence(values, adjusted=False), plain, rtol=1e-10)
    adjusted = 1 - (1 - plain) * (n - 1) / (n - (attributes - 1) - 1)
    np.testing.assert_allclose(metrics.interdependence(values), adjusted, rtol=1e-10)


def test_collinear_columns_are_fully_determined_and_leave_the_others_their_regression():
    values = related_columns(300, 5)
    exclusive = np.column_stack([values[:, 0], 1 - values[:, 0], values[:, 1:4]])
    result = metrics.interdependence(exclusive, adjusted=False).values
    assert result[:2].tolist() == [1.0, 1.0]
    for k in (2, 3, 4):
        others = np.delete(exclusive, k, axis=1)
        expected = LinearRegression().fit(others, exclusive[:, k]).score(others, exclusive[:, k])
        assert result[k] == pytest.approx(expected, rel=1e-10)
    # The copy is no further predictor: the adjusted values are those without it.
    without_copy = metrics.interdependence(exclusive[:, 1:]).values
    np.testing.assert_allclose(metrics.interdependence(exclusive).values[2:], without_copy[1:], rtol=1e-10)


def test_columns_that_sum_to_one_determine_each_other():
    one_hot = np.eye(4, dtype=int)[np.random.default_rng(0).integers(0, 4, 200)]
    assert metrics.interdependence(one_hot).values.tolist() == [1.0] * 4


def test_adjustment_removes_what_chance_explains():
    rng = np.random.default_rng(0)
    plain, adjusted = [], []
    for _ in range(200):
        values = rng.random((60, 20)) < 0.5
        plain.append(np.mean(metrics.interdependence(values, adjusted=False)))
        adjusted.append(np.mean(metrics.interdependence(values)))
    # 19 unrelated predictors of 60 samples explain 19/59 on average; 200 draws give that to about .01.
    assert np.mean(plain) == pytest.approx(19 / 59, abs=0.01)
    assert np.mean(adjusted) == pytest.approx(0, abs=0.015)


def test_constant_columns_are_undefined_and_predict_nothing():
    values = related_columns(200, 1)[:, :3]
    padded = np.column_stack([values, np.zeros(200, dtype=int), np.ones(200, dtype=int)])
    result = metrics.interdependence(padded)
    np.testing.assert_allclose(result.values[:3], metrics.interdependence(values).values)
    assert result.reasons[3:] == (Reason.CONSTANT_COLUMN, Reason.CONSTANT_COLUMN)


def test_a_column_alone_has_nothing_to_depend_on():
    assert metrics.interdependence(column(0, 1, 1)).reasons == (Reason.NO_OTHER_COLUMN,)
    collapsed = np.column_stack([[0, 1, 1], [0, 0, 0]])
    assert metrics.interdependence(collapsed).reasons == (Reason.NO_OTHER_COLUMN, Reason.CONSTANT_COLUMN)


def test_one_sample_is_constant():
    assert metrics.interdependence([[1, 0]]).reasons == (Reason.CONSTANT_COLUMN,) * 2


def test_too_few_samples_leave_no_degree_of_freedom_to_adjust_with():
    values = np.array([[1, 0], [0, 0], [0, 1]])
    assert metrics.interdependence(values[:2, [0, 0]]).reasons == (Reason.TOO_FEW_SAMPLES,) * 2
    np.testing.assert_allclose(metrics.interdependence(values, adjusted=False), [0.25, 0.25])
    np.testing.assert_allclose(metrics.interdependence(values), [-0.5, -0.5])
