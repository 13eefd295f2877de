"""Calibrated thresholds: the promised number of positives, ties, and the two ends."""

import numpy as np
import pytest

from effnotes.metrics import bias as metrics


@pytest.mark.parametrize("seed", range(5))
def test_as_many_positives_as_labels_and_midway_between_neighbours(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, 6)).astype(np.float32)
    labels = rng.random((200, 6)) < rng.random(6)
    thresholds = metrics.calibrated_thresholds(logits, labels)
    np.testing.assert_array_equal(metrics.hard_predictions(logits, thresholds).sum(0), labels.sum(0))
    for k in range(6):
        ranked, m = sorted(logits[:, k].tolist(), reverse=True), int(labels[:, k].sum())
        np.testing.assert_allclose(thresholds[k], (ranked[m - 1] + ranked[m]) / 2)


def test_ties_at_the_cut_are_all_negative():
    logits = np.array([[3.0], [1.0], [1.0], [0.0]])
    threshold = metrics.calibrated_thresholds(logits, [[1], [1], [0], [0]])
    assert threshold.tolist() == [1.0]
    assert metrics.hard_predictions(logits, threshold).ravel().tolist() == [True, False, False, False]


def test_no_positives_and_only_positives():
    logits = np.array([[5.0, 5.0], [-5.0, -5.0]])
    thresholds = metrics.calibrated_thresholds(logits, [[0, 1], [0, 1]])
    assert thresholds.tolist() == [np.inf, -np.inf]
    np.testing.assert_array_equal(metrics.hard_predictions(logits, thresholds), [[False, True], [False, True]])


@pytest.mark.parametrize("upper", [1.0, 1e-300, 1.7e308])
def test_neighbouring_numbers_are_still_told_apart(upper):
    logits = np.array([[upper], [np.nextafter(upper, 0)]])
    threshold = metrics.calibrated_thresholds(logits, [[1], [0]])
    assert metrics.hard_predictions(logits, threshold).ravel().tolist() == [True, False]


def test_bad_input():
    with pytest.raises(ValueError, match="at least one validation sample"):
        metrics.calibrated_thresholds(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match="one shape"):
        metrics.calibrated_thresholds(np.zeros((3, 2)), np.zeros((3, 1)))
