"""Classes that exclude one another, against SciPy, scikit-learn and tables that can be counted by hand."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import f1_score

from effnotes.metrics import bias as metrics

# Five images of three classes, two of each but the last, of which there is one, and the probabilities that a model gives them.
P = np.array([[0.95, 0.03, 0.02], [0.6, 0.3, 0.1], [0.05, 0.92, 0.03], [0.5, 0.4, 0.1], [0.7, 0.1, 0.2]])
LABELS = np.eye(3, dtype=int)[[0, 0, 1, 1, 2]]


def task_of(labels, train):
    groups = {"protected": np.zeros(len(labels)), "train_groups": np.zeros(len(train))}
    return metrics.AttributeTask.of(labels, train_labels=train, **groups)


def test_log_odds_are_those_of_the_softmax_probabilities():
    logits = np.random.default_rng(0).normal(size=(50, 7), scale=3)
    np.testing.assert_allclose(expit(metrics.log_odds(logits)), softmax(logits, axis=1), rtol=1e-12)
    assert metrics.log_odds(np.array([[90.0, 0.0]])).tolist() == [[90.0, -90.0]], "1 - p would be 0"


def test_the_most_probable_class_is_judged():
    train = np.eye(3, dtype=int)[[1, 1, 1, 0, 2]]  # the second class is the most frequent one
    found = metrics.class_metrics(metrics.log_odds(np.log(P)), task_of(LABELS, train))
    # Named are the classes 0, 0, 1, 0, 0 with 0.95, 0.6, 0.92, 0.5 and 0.7; the first three are right.
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["majority_accuracy"] == pytest.approx(2 / 5)
    assert found["uncertainty"] == pytest.approx(3 / 5)
    gaps = abs(0.95 + 0.92 - 2), abs(0.6 - 1), abs(0.5 - 0), abs(0.7 - 0)  # by bin: above 0.9, and one each
    assert found["expected_calibration_error"] == pytest.approx(sum(gaps) / 5)
    assert np.isnan([found["interdependence"], found["label_interdependence"]]).all()


def test_macro_f1_is_averaged_over_the_classes_of_a_group():
    # F1 of the classes: 2*2 / (2*2 + 2 + 0), 2*1 / (2*1 + 0 + 1), and 0 for the one that is never named.
    assert metrics.macro_f1(P, LABELS, [1, 0, 0]).to_dict() == pytest.approx({0: (2 / 3 + 0) / 2, 1: 2 / 3})
    assert metrics.macro_f1(P, LABELS, [4, 4, 4])[4] == pytest.approx(
        f1_score(LABELS.argmax(1), P.argmax(1), average="macro", zero_division=0)
    )


def test_a_class_without_test_images_has_no_f1():
    labels = np.eye(3, dtype=int)[[0, 0, 1, 1, 1]]
    # The last class is named nowhere and missing: it is no 0 in the mean of its group, and a group of its own is left out.
    assert metrics.macro_f1(P, labels, [0, 0, 0])[0] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert metrics.macro_f1(P, labels, [0, 0, 1]).index.tolist() == [0]


@pytest.mark.parametrize("groups", [[0, 1], [0, 1, 1, 2]])
def test_each_class_has_a_group(groups):
    with pytest.raises(ValueError, match=r"groups must have shape \(3,\), one entry per class"):
        metrics.macro_f1(P, LABELS, groups)
