"""The table of all metrics, and its averages over a fixed set of attributes."""

import numpy as np
import pandas as pd
import pytest
import torch

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason

NAMES = ["round", "hat", "beard", "smile"]


@pytest.fixture(scope="module")
def model():
    """Test logits and labels, and training labels, of four attributes; the first is protected."""
    rng = np.random.default_rng(0)

    def draw(n):
        first = rng.random(n) < 0.4
        rest = rng.random((n, 3)) < np.where(first[:, None], [0.5, 0.4, 0.5], [0.2, 0.1, 0.5])
        return np.column_stack([first, rest]).astype(int)

    train, test = draw(2000), draw(1000)
    return 3 * test - 1.5 + rng.normal(size=test.shape), test, train


def measure(model, thresholds=None, **changes):
    logits, labels, train = model
    task = metrics.AttributeTask.of(labels, **{"train_labels": train, "protected": 0, "names": NAMES} | changes)
    return metrics.attribute_metrics(logits, task, thresholds=thresholds)


def values_of(table, metric):
    return table[table["metric"] == metric].set_index("attribute")["value"]


def test_each_row_is_what_the_function_of_that_name_gives(model):
    logits, labels, train = model
    table = measure(model, thresholds=[0.0, 0.5, -0.5, 0.0])
    predictions = metrics.hard_predictions(logits, [0.0, 0.5, -0.5, 0.0])
    p = metrics.probabilities(logits)
    rate = metrics.positive_rate(train)
    rates = metrics.conditional_rates(train, 0)
    expected = {
        "accuracy": metrics.accuracy(predictions, labels),
        "majority_accuracy": metrics.majority_accuracy(labels, rate),
        "balanced_accuracy": metrics.balanced_accuracy(predictions, labels),
        "roc_auc": metrics.roc_auc(logits, labels),
        "average_precision": metrics.average_precision(logits, labels),
        "positive_rate": metrics.positive_rate(labels),
        "predicted_positive_rate": metrics.positive_rate(predictions),
        "rare_value_ratio": metrics.rare_value_ratio(predictions, labels, rate),
        "false_positive_rate": metrics.false_positive_rate(predictions, labels),
        "false_negative_rate": metrics.false_negative_rate(predictions, labels),
        "uncertainty": metrics.uncertainty(p),
        "expected_calibration_error": metrics.expected_calibration_error(p, labels),
        "interdependence": metrics.interdependence(predictions),
        "label_interdependence": metrics.interdependence(labels),
        "bias_amplification": metrics.bias_amplification(predictions, labels, 0, rates=rates),
    }
    for metric, result in expected.items():
        np.testing.assert_array_equal(values_of(table, metric), result.values, err_msg=metric)
    member = labels[:, 0] == 1
    for name, rows in (("accuracy_group_0", ~member), ("accuracy_group_1", member)):
        np.testing.assert_array_equal(values_of(table, name), (predictions == labels)[rows].mean(0))
    gap = values_of(table, "accuracy_group_1") - values_of(table, "accuracy_group_0")
    np.testing.assert_allclose(values_of(table, "accuracy_gap"), gap.abs())
    assert set(table["metric"]) == set(expected) | {
        f"{metric}_{ending}"
        for metric in ("accuracy", "false_positive_rate", "false_negative_rate")
        for ending in ("group_0", "group_1", "gap")
    }


def test_the_table_is_tidy_and_every_gap_has_its_reason(model):
    table = measure(model)
    assert list(table.columns) == ["attribute", "metric", "value", "reason"]
    assert not table.duplicated(["attribute", "metric"]).any()
    assert list(table["attribute"].unique()) == NAMES
    assert (table["value"].isna() == (table["reason"] != "")).all()
    protected_row = table.query("metric == 'bias_amplification' and attribute == 'round'")
    assert protected_row["reason"].item() == "protected attribute itself"
    assert table.query("metric == 'bias_amplification' and attribute == 'smile'")["reason"].item() == "skew too small"


def test_the_protected_attribute_by_name_index_or_array(model):
    _, labels, train = model
    by_index = measure(model)
    pd.testing.assert_frame_equal(measure(model, protected="round"), by_index)
    groups = measure(model, protected=labels[:, 0], rates=metrics.conditional_rates(train, 0))
    # An array of groups is no column, so the column that repeats it is judged like any other.
    reason = groups.query("metric == 'bias_amplification' and attribute == 'round'")["reason"].item()
    assert reason == "too few test positives"
    pd.testing.assert_frame_equal(groups[groups["attribute"] != "round"], by_index[by_index["attribute"] != "round"])


def test_given_rates_replace_those_of_the_training_labels(model):
    _, _, train = model
    swapped = metrics.conditional_rates(train, 0)[::-1]
    forward, backward = measure(model), measure(model, rates=swapped)
    for name in ("hat", "beard"):
        difference = values_of(forward, "bias_amplification")[name] + values_of(backward, "bias_amplification")[name]
        assert difference == pytest.approx(0, abs=1e-14)


def test_tensors_and_unnamed_attributes(model):
    logits, labels, train = (torch.as_tensor(array) for array in model)
    table = metrics.attribute_metrics(logits, metrics.AttributeTask.of(labels, train_labels=train, protected=0))
    assert table["attribute"].unique().tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(table["value"], measure(model)["value"])


def test_no_samples_and_a_single_attribute_give_reasons_not_errors():
    nothing = np.zeros((0, 1))
    table = metrics.attribute_metrics(nothing, metrics.AttributeTask.of(nothing, train_labels=nothing, protected=0))
    assert table["value"].isna().all()
    assert (table["reason"] != "").all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["a", "b"]}, "names must be 4 different ones"),
        ({"names": ["a", "a", "b", "c"]}, "names must be 4 different ones"),
        ({"protected": "hut"}, "no attribute: 'hut'; there are .*'hat'"),
        ({"protected": np.zeros(1000)}, r"conditional_rates\(train_labels, train_groups\)"),
        ({"train_labels": np.zeros((5, 3))}, "train_labels must have 4 attributes as labels do, not 3"),
        ({"train_labels": np.full((5, 4), 2)}, "train_labels must be 0 or 1"),
    ],
)
def test_bad_input_is_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        measure(model, **changes)


# Averages


@pytest.fixture
def two_models():
    """Bias amplification of three attributes; the collapsed model predicts no positives of the worst one."""
    undefined = Reason.NO_PREDICTED_POSITIVES.value
    return pd.DataFrame(
        [
            ("dense", "a", "bias_amplification", 0.1, ""),
            ("dense", "b", "bias_amplification", 0.2, ""),
            ("dense", "c", "bias_amplification", 0.6, ""),
            ("dense", "d", "bias_amplification", np.nan, Reason.SMALL_SKEW.value),
            ("sparse", "a", "bias_amplification", 0.3, ""),
            ("sparse", "b", "bias_amplification", 0.4, ""),
            ("sparse", "c", "bias_amplification", np.nan, undefined),
            ("sparse", "d", "bias_amplification", np.nan, Reason.SMALL_SKEW.value),
        ],
        columns=["model", "attribute", "metric", "value", "reason"],
    )


def test_both_means_and_the_counts_are_given(two_models):
    summary = metrics.summarise(two_models, ["a", "b", "c"]).set_index("model")
    assert summary.loc["dense", "mean"] == pytest.approx(0.3)
    assert summary.loc["sparse", "mean"] == pytest.approx(0.35)
    # On the attributes that both models allow, the rise is .2 and not .05.
    assert summary.loc["dense", "mean_common"] == pytest.approx(0.15)
    assert summary.loc["sparse", "mean_common"] == pytest.approx(0.35)
    counts = summary[["attributes", "undefined", "no_predicted_positives", "common"]]
    assert counts.loc["dense"].tolist() == [3, 0, 0, 2]
    assert counts.loc["sparse"].tolist() == [3, 1, 1, 2]


def test_all_attributes_are_taken_by_default(two_models):
    summary = metrics.summarise(two_models).set_index("model")
    assert summary["attributes"].tolist() == [4, 4]
    assert summary["undefined"].tolist() == [1, 2]
    assert summary["no_predicted_positives"].tolist() == [0, 1]


def test_an_empty_set_has_no_mean(two_models):
    summary = metrics.summarise(two_models, [])
    assert summary["mean"].isna().all()
    assert summary["attributes"].tolist() == [0, 0]


def test_the_averages_of_a_measured_model_over_its_fixed_set(model):
    _, labels, train = model
    kept = metrics.fixed_attribute_set(labels, 0, rates=metrics.conditional_rates(train, 0))
    names = [name for name, allowed in zip(NAMES, kept, strict=True) if allowed]
    assert names == ["hat", "beard"]
    tables = [measure(model, thresholds=threshold).assign(threshold=threshold) for threshold in (0.0, 1.0)]
    summary = metrics.summarise(pd.concat(tables), names).set_index(["threshold", "metric"])
    for table, threshold in zip(tables, (0.0, 1.0), strict=True):
        for metric in ("bias_amplification", "accuracy"):
            expected = values_of(table, metric)[names].mean()
            assert summary.loc[(threshold, metric), "mean"] == pytest.approx(expected)


def test_a_single_model_needs_no_further_column(two_models):
    dense = two_models[two_models["model"] == "dense"].drop(columns="model")
    summary = metrics.summarise(dense, ["a", "b"])
    assert summary["metric"].tolist() == ["bias_amplification"]
    assert summary["mean"].tolist() == [pytest.approx(0.15)]


def test_averages_refuse_what_would_mislead(two_models):
    with pytest.raises(ValueError, match="a column that tells them apart"):
        metrics.summarise(two_models.drop(columns="model"))
    with pytest.raises(ValueError, match="every model and metric must have each of the attributes"):
        metrics.summarise(two_models, ["a", "unknown"])
    with pytest.raises(ValueError, match="every model and metric must have each of the attributes"):
        metrics.summarise(two_models.iloc[:-3], ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"lacks \['reason'\]"):
        metrics.summarise(two_models.drop(columns="reason"))
