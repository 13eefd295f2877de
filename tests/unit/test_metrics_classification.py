"""Classification metrics against scikit-learn, by hand, and at their edges."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, confusion_matrix, roc_auc_score

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import PerAttribute, Reason


def column(*values):
    return np.array(values)[:, None]


@pytest.fixture(params=[0, 1, 2])
def scored(request):
    """Logits with many ties, and labels of base rates from rare to frequent."""
    rng = np.random.default_rng(request.param)
    labels = rng.random((300, 6)) < [0.03, 0.2, 0.5, 0.5, 0.8, 0.95]
    logits = np.round(rng.normal(size=labels.shape) + 2 * labels - 1, request.param)
    return logits, labels.astype(int)


def test_agreement_with_scikit_learn(scored):
    logits, labels = scored
    predictions = metrics.hard_predictions(logits)
    results = {
        accuracy_score: metrics.accuracy(predictions, labels),
        balanced_accuracy_score: metrics.balanced_accuracy(predictions, labels),
    }
    for reference, result in results.items():
        expected = [reference(labels[:, k], predictions[:, k]) for k in range(6)]
        np.testing.assert_allclose(result, expected, rtol=1e-13)
    for reference, result in {
        roc_auc_score: metrics.roc_auc(logits, labels),
        average_precision_score: metrics.average_precision(logits, labels),
    }.items():
        expected = [reference(labels[:, k], logits[:, k]) for k in range(6)]
        np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_error_rates_overall_and_by_group_agree_with_the_confusion_matrix(scored):
    logits, labels = scored
    predictions = metrics.hard_predictions(logits)
    groups = labels[:, 2]
    for name, metric in (("fpr", metrics.false_positive_rate), ("fnr", metrics.false_negative_rate)):

        def reference(rows, name=name):
            rates = []
            for k in range(6):
                (tn, fp), (fn, tp) = confusion_matrix(labels[rows, k], predictions[rows, k], labels=[0, 1])
                events, cases = (fp, fp + tn) if name == "fpr" else (fn, fn + tp)
                rates.append(events / cases if cases else np.nan)
            return np.array(rates)

        group_0, group_1 = metrics.by_group(metric, predictions, labels, groups)
        np.testing.assert_allclose(metric(predictions, labels), reference(slice(None)))
        np.testing.assert_allclose(group_0, reference(groups == 0))
        np.testing.assert_allclose(group_1, reference(groups == 1))
        gap = metrics.group_gap(group_0, group_1)
        np.testing.assert_allclose(gap, np.abs(reference(groups == 1) - reference(groups == 0)))
        # The grouping column is all negative in group 0 and all positive in group 1, so one rate is missing.
        assert gap.reasons[2] is Reason.UNDEFINED_IN_GROUP


def test_rates_worked_out_by_hand():
    labels = column(1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    predictions = column(1, 0, 0, 1, 1, 0, 0, 0, 0, 0)
    assert metrics.accuracy(predictions, labels).values.tolist() == [0.6]
    assert metrics.false_positive_rate(predictions, labels).values.tolist() == [2 / 7]
    assert metrics.false_negative_rate(predictions, labels).values.tolist() == [2 / 3]
    assert metrics.positive_rate(predictions).values.tolist() == [0.3]
    assert metrics.positive_rate(labels).values.tolist() == [0.3]


def test_ranking_metrics_see_only_the_order_and_survive_saturated_probabilities():
    labels = column(1, 0, 1, 0)
    logits = column(400.0, 300.0, 200.0, 100.0)  # every sigmoid is exactly 1 in float64
    assert metrics.roc_auc(logits, labels).values.tolist() == [0.75]
    np.testing.assert_allclose(metrics.average_precision(logits, labels), [(1 + 2 / 3) / 2])


def test_constant_scores_are_chance():
    labels = column(1, 0, 0, 0)
    scores = np.zeros((4, 1))
    assert metrics.roc_auc(scores, labels).values.tolist() == [0.5]
    assert metrics.average_precision(scores, labels).values.tolist() == [0.25]


def test_rare_value_ratio_follows_the_side_that_is_rare_in_training():
    labels = np.array([[1, 1], [0, 1], [0, 1], [0, 0]])
    predictions = np.array([[1, 1], [1, 1], [0, 1], [0, 1]])
    result = metrics.rare_value_ratio(predictions, labels, [0.25, 0.75])
    assert result.values.tolist() == [2.0, 0.0]
    # At exactly one half, positives count as the rare side.
    assert metrics.rare_value_ratio(predictions, labels, [0.5, 0.5]).values.tolist() == [2.0, 4 / 3]


def test_rare_value_absent_from_the_test_labels():
    result = metrics.rare_value_ratio([[1, 0]], [[0, 1]], [0.1, 0.9])
    assert result.reasons == (Reason.NO_RARE_VALUES, Reason.NO_RARE_VALUES)


def test_majority_accuracy_answers_with_the_training_majority():
    labels = np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert metrics.majority_accuracy(labels, [0.9, 0.5, 0.51]).values.tolist() == [0.75, 0.75, 0.25]
    assert metrics.majority_accuracy(labels, [np.nan] * 3).reasons == (Reason.NO_TRAINING_SAMPLES,) * 3


def test_a_logit_on_its_threshold_is_negative():
    logits = np.array([[0.0, 1.0], [np.nextafter(0, 1), np.nextafter(1, 2)]])
    assert metrics.hard_predictions(logits, [0.0, 1.0]).tolist() == [[False, False], [True, True]]
    assert metrics.hard_predictions(logits).tolist() == [[False, True], [True, True]]
    assert not metrics.hard_predictions(logits, np.inf).any()


def test_probabilities_neither_overflow_nor_lose_small_values():
    with np.errstate(all="raise", under="ignore"):
        p = metrics.probabilities(np.array([[-1e4, -700.0, 0.0, 700.0, 1e4]], dtype=np.float32))
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, [[0.0, np.exp(-700.0), 0.5, 1.0, 1.0]], rtol=1e-12)


@pytest.mark.parametrize(
    ("label", "reason"), [(1, Reason.NO_NEGATIVES), (0, Reason.NO_POSITIVES)], ids=["all positive", "all negative"]
)
def test_one_class_is_undefined_and_says_which_is_missing(label, reason):
    labels = np.full((4, 1), label)
    predictions = column(0, 1, 1, 0)
    logits = column(-1.0, 1.0, 1.0, -1.0)
    assert metrics.balanced_accuracy(predictions, labels).reasons == (reason,)
    assert metrics.roc_auc(logits, labels).reasons == (reason,)
    one_sided = metrics.false_positive_rate if label else metrics.false_negative_rate
    assert one_sided(predictions, labels).reasons == (reason,)
    assert metrics.accuracy(predictions, labels).values.tolist() == [0.5]


def test_average_precision_needs_positives_only():
    logits = column(-1.0, 1.0)
    assert metrics.average_precision(logits, column(1, 1)).values.tolist() == [1.0]
    assert metrics.average_precision(logits, column(0, 0)).reasons == (Reason.NO_POSITIVES,)


def test_no_samples_is_undefined_everywhere():
    empty = np.zeros((0, 2))
    for result in (
        metrics.accuracy(empty, empty),
        metrics.majority_accuracy(empty, [0.5, 0.5]),
        metrics.balanced_accuracy(empty, empty),
        metrics.roc_auc(empty, empty),
        metrics.average_precision(empty, empty),
        metrics.positive_rate(empty),
        metrics.rare_value_ratio(empty, empty, [0.5, 0.5]),
        metrics.false_positive_rate(empty, empty),
        metrics.false_negative_rate(empty, empty),
    ):
        assert result.reasons == (Reason.NO_SAMPLES, Reason.NO_SAMPLES)
        assert np.isnan(result.values).all()


def test_one_sample():
    assert metrics.accuracy([[1]], [[1]]).values.tolist() == [1.0]
    assert metrics.roc_auc([[0.3]], [[1]]).reasons == (Reason.NO_NEGATIVES,)


def test_an_empty_group_is_undefined_and_so_is_its_gap():
    labels = column(0, 1)
    group_0, group_1 = metrics.by_group(metrics.accuracy, labels, labels, [0, 0])
    assert group_0.values.tolist() == [1.0]
    assert group_1.reasons == (Reason.NO_SAMPLES,)
    assert metrics.group_gap(group_0, group_1).reasons == (Reason.UNDEFINED_IN_GROUP,)


def test_tensors_lists_booleans_and_floats_give_the_same_result(scored):
    logits, labels = scored
    expected = metrics.roc_auc(logits, labels).values
    assert np.array_equal(metrics.roc_auc(torch.tensor(logits), torch.tensor(labels)), expected)
    assert np.array_equal(metrics.roc_auc(logits.tolist(), labels.astype(bool)), expected)
    assert np.array_equal(metrics.roc_auc(logits, labels.astype(np.float32)), expected)


def test_arguments_are_left_as_they_were(scored):
    logits, labels = scored
    before = logits.copy(), labels.copy()
    metrics.roc_auc(logits, labels)
    metrics.accuracy(metrics.hard_predictions(logits), labels)
    assert np.array_equal(before[0], logits)
    assert np.array_equal(before[1], labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.roc_auc([[np.nan, 0.0]], [[0, 1]]), "1 of 2 are NaN or infinite, the first at row 0, column 0"),
        (lambda: metrics.hard_predictions([[np.inf]]), "NaN or infinite"),
        (lambda: metrics.hard_predictions([0.5, 0.1]), r"logits\[:, None\]"),
        (lambda: metrics.hard_predictions(np.zeros((3, 0))), "K >= 1"),
        (lambda: metrics.hard_predictions([[0.0, 0.0]], [0.0, 0.0, 0.0]), r"shape \(2,\), not \(3,\)"),
        (lambda: metrics.hard_predictions([[0.0]], np.nan), "thresholds must not be NaN"),
        (lambda: metrics.accuracy([[1, 0]], [[-1, 1]]), r"hold \[-1\]; map -1/1 by \(labels \+ 1\) // 2"),
        (lambda: metrics.accuracy([[0.3, 1]], [[0, 1]]), "hard_predictions"),
        (lambda: metrics.accuracy([[np.nan, 1]], [[0, 1]]), "predictions must be 0 or 1"),
        (lambda: metrics.accuracy([[0, 1]], [[0], [1]]), r"one shape, not \(1, 2\) and \(2, 1\)"),
        (lambda: metrics.accuracy([["yes"]], [[1]]), "real numbers"),
        (lambda: metrics.probabilities(torch.zeros(2, 1, requires_grad=True)), r"logits\.detach\(\)"),
        (lambda: metrics.probabilities(torch.zeros(2, 1, dtype=torch.bfloat16)), r"\.float\(\)"),
        (lambda: metrics.majority_accuracy([[1]], [1.5]), r"train_rate must .* lie in \[0, 1\]"),
        (lambda: metrics.majority_accuracy([[1]], [0.5, 0.5]), r"shape \(1,\)"),
        (lambda: metrics.by_group(metrics.accuracy, [[1]], [[1]], [2]), "groups must be 0 or 1"),
        (lambda: metrics.by_group(metrics.accuracy, [[1]], [[1]], [0, 1]), r"groups must have shape \(1,\)"),
        (lambda: metrics.by_group(metrics.accuracy, [[1], [0]], [[1]], [0]), "one shape"),
        (lambda: metrics.group_gap(metrics.accuracy([[1]], [[1]]), metrics.accuracy([[1, 1]], [[1, 1]])), "not 1 and 2"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_result_is_an_array_that_knows_its_gaps():
    result = metrics.false_positive_rate([[0, 1], [1, 1]], [[0, 1], [0, 1]])
    assert np.nanmean(result) == 0.5
    assert len(result) == 2
    assert result.reasons == (None, Reason.NO_NEGATIVES)
    assert result.reasons[1] == "no negatives"


@pytest.mark.parametrize("reason", [None, Reason.NO_SAMPLES])
def test_a_result_without_its_reason_cannot_be_made(reason):
    value = np.nan if reason is None else 0.0
    with pytest.raises(ValueError, match="NaN exactly where a reason is given"):
        PerAttribute(np.array([value]), (reason,))
