"""All metrics of a model in one tidy table, and its averages over attributes."""

from collections.abc import Hashable, Sequence

import pandas as pd
from numpy.typing import ArrayLike

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.amplification import bias_amplification, conditional_rates
from effnotes.metrics.bias.calibration import expected_calibration_error, uncertainty
from effnotes.metrics.bias.classification import (
    accuracy,
    balanced_accuracy,
    by_group,
    false_negative_rate,
    false_positive_rate,
    group_gap,
    majority_accuracy,
    positive_rate,
    ranking_metrics,
    rare_value_ratio,
)
from effnotes.metrics.bias.interdependence import interdependence
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, Reason

_COLUMNS = ["attribute", "metric", "value", "reason"]


def attribute_metrics(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    train_labels: ArrayLike,
    protected: int | str | ArrayLike,
    rates: ArrayLike | None = None,
    thresholds: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Measure every attribute of one model: quality, confidence, interdependence and bias, as a tidy table.

    Args:
        logits: finite, shape (n, K), on the test samples.
        labels: of the test samples in {0, 1}, shape (n, K).
        train_labels: in {0, 1}, shape (m, K): they say which value of an attribute is rare, what the majority
            is, and (unless `rates` does) in which group an attribute is more frequent.
        protected: the protected attribute: a column's index or name, or the group of each test sample, shape
            (n,).
        rates: rates of positives by group, shape (2, K), in place of those of the training labels; needed
            where `protected` is an array.
        thresholds: on the logits, one number or shape (K,); None stands for 0.
        names: of the K attributes; None numbers them from 0.

    Returns:
        Columns `attribute`, `metric`, `value` (NaN where undefined) and `reason` (empty where defined).
        Metrics: accuracy, majority_accuracy, balanced_accuracy, roc_auc, average_precision, positive_rate,
        predicted_positive_rate, rare_value_ratio, false_positive_rate, false_negative_rate, uncertainty (0.1
        < p < 0.9 whatever the thresholds), expected_calibration_error, interdependence and
        label_interdependence (adjusted R²), bias_amplification; and accuracy, false_positive_rate and
        false_negative_rate again with the endings _group_0, _group_1 and _gap. The function of that name
        documents each.

    Raises:
        ValueError: shapes that differ, values out of range, names that are not K different ones, an unknown
            protected attribute, or an array of groups without `rates`.
    """
    scores, true = arrays.as_logits(logits), arrays.as_binary(labels, "labels")
    arrays.check_same_shape(scores, true, "logits")
    train = arrays.as_binary(train_labels, "train_labels")
    attributes = true.shape[1]
    if train.shape[1] != attributes:
        raise ValueError(f"train_labels must have {attributes} attributes as labels do, not {train.shape[1]}")
    attribute_names = arrays.as_names(names, attributes)
    if isinstance(protected, str):
        protected = arrays.position(protected, attribute_names)
    groups, column = arrays.resolve_protected(protected, true)
    if rates is None:
        if column is None:
            raise ValueError("with an array as protected, rates are needed: conditional_rates(train_labels, train_groups)")
        rates = conditional_rates(train, column)

    predicted = arrays.hard_predictions(scores, thresholds)
    results = score_metrics(scores, true) | decision_metrics(
        predicted, true, protected, groups=groups, rates=rates, train_rate=positive_rate(train).values
    )
    return pd.concat([rows(metric, result, attribute_names) for metric, result in results.items()], ignore_index=True)


def score_metrics(scores: FloatArray, true: BoolArray) -> dict[str, PerAttribute]:
    """Measure what no threshold enters: the order and the probabilities of the logits, and the labels themselves."""
    p = arrays.probabilities(scores)
    area, precision = ranking_metrics(scores, true)
    return {
        "roc_auc": area,
        "average_precision": precision,
        "uncertainty": uncertainty(p),
        "expected_calibration_error": expected_calibration_error(p, true),
        "positive_rate": positive_rate(true),
        "label_interdependence": interdependence(true),
    }


def decision_metrics(
    predicted: BoolArray,
    true: BoolArray,
    protected: int | ArrayLike,
    *,
    groups: BoolArray,
    rates: ArrayLike,
    train_rate: FloatArray,
) -> dict[str, PerAttribute]:
    """Measure what depends on the decisions; `groups` (n,) are those of `protected`."""
    results = {
        "accuracy": accuracy(predicted, true),
        "majority_accuracy": majority_accuracy(true, train_rate),
        "balanced_accuracy": balanced_accuracy(predicted, true),
        "predicted_positive_rate": positive_rate(predicted),
        "rare_value_ratio": rare_value_ratio(predicted, true, train_rate),
        "false_positive_rate": false_positive_rate(predicted, true),
        "false_negative_rate": false_negative_rate(predicted, true),
        "interdependence": interdependence(predicted),
        "bias_amplification": bias_amplification(predicted, true, protected, rates=rates),
    }
    for metric in (accuracy, false_positive_rate, false_negative_rate):
        group_0, group_1 = by_group(metric, predicted, true, groups)
        results[f"{metric.__name__}_group_0"] = group_0
        results[f"{metric.__name__}_group_1"] = group_1
        results[f"{metric.__name__}_gap"] = group_gap(group_0, group_1)
    return results


def summarise(table: pd.DataFrame, attributes: Sequence[Hashable] | None = None) -> pd.DataFrame:
    """Average each metric over one fixed set of attributes, model by model.

    Concatenate the tables of several models with columns that tell them apart (sparsity, seed, ...); all
    columns beside those of `attribute_metrics` are taken for such. Attributes that are undefined for some
    models must not shift the comparison, so two means are given: over what is defined in the model at hand,
    and over the attributes that are defined in every model of the table.

    Args:
        table: tables of `attribute_metrics`, one below the other.
        attributes: which to average over; None takes all. For bias amplification take `fixed_attribute_set`,
            e.g. `[name for name, kept in zip(names, fixed_attribute_set(...)) if kept]`.

    Returns:
        One row per model and metric: the columns that tell models apart, `metric`, `mean` (over the
        attributes defined in this model), `mean_common` (over those defined in all models), `attributes`,
        `undefined` and `no_predicted_positives` (how many of them), and `common` (how many are defined in all
        models). A mean over no attribute is NaN.

    Raises:
        ValueError: a column is missing, an attribute is unknown or missing for some model, or two rows of the
            table are of the same model, metric and attribute.
    """
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"table must have the columns {_COLUMNS}, but lacks {missing}")
    models = [column for column in table.columns if column not in _COLUMNS]
    wanted = list(table["attribute"].unique()) if attributes is None else list(attributes)
    keys = [*models, "metric"]
    if table.duplicated([*keys, "attribute"]).any():
        raise ValueError(
            "table holds several values for the same attribute and metric; "
            "give the tables of different models a column that tells them apart, such as seed"
        )
    # Attributes outside the set stay in, blanked out, so that an empty set gives NaN and not an empty table.
    kept = table["attribute"].isin(wanted)
    undefined = table["value"].isna()
    common = kept & ~undefined.groupby([table["metric"], table["attribute"]]).transform("any")
    summary = (
        table.assign(
            kept_value=table["value"].where(kept),
            common_value=table["value"].where(common),
            kept=kept,
            undefined=kept & undefined,
            unpredicted=kept & (table["reason"] == Reason.NO_PREDICTED_POSITIVES.value),
            common=common,
        )
        .groupby(keys, sort=False, dropna=False, as_index=False)
        .agg(
            mean=("kept_value", "mean"),
            mean_common=("common_value", "mean"),
            attributes=("kept", "sum"),
            undefined=("undefined", "sum"),
            no_predicted_positives=("unpredicted", "sum"),
            common=("common", "sum"),
        )
    )
    if len(wanted) != len(set(wanted)) or (summary["attributes"] != len(wanted)).any():
        raise ValueError(
            f"every model and metric must have each of the attributes {wanted} once; "
            f"the table knows {list(table['attribute'].unique())}"
        )
    return summary


def rows(metric: str, result: PerAttribute, names: list[Hashable]) -> pd.DataFrame:
    """Write one metric as rows of the tidy table."""
    reasons = ["" if reason is None else reason.value for reason in result.reasons]
    return pd.DataFrame({"attribute": names, "metric": metric, "value": result.values, "reason": reasons})
