"""All metrics of a model in one tidy table, and its averages over attributes."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias import classification as of_decisions
from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.amplification import bias_amplification
from effnotes.metrics.bias.calibration import expected_calibration_error, uncertainty
from effnotes.metrics.bias.dependence import interdependence
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, Reason
from effnotes.metrics.bias.task import AttributeTask

_COLUMNS = ["attribute", "metric", "value", "reason"]


@by_name()
def attribute_metrics(logits: ArrayLike, task: AttributeTask, *, thresholds: ArrayLike | None = None) -> pd.DataFrame:
    """Measure every attribute of one model: quality, confidence, interdependence and bias, as a tidy table.

    Args:
        logits: finite, shape (n, K), on the test samples.
        task: the test samples' labels, groups and names, and what the training set says of them.
        thresholds: on the logits, one number or shape (K,); None stands for 0.

    Returns:
        Columns `attribute`, `metric`, `value` (NaN where undefined) and `reason` (empty where defined).
        Metrics: accuracy, majority_accuracy, balanced_accuracy, roc_auc, average_precision, positive_rate,
        predicted_positive_rate, rare_value_ratio, false_positive_rate, false_negative_rate, uncertainty (0.1
        < p < 0.9 whatever the thresholds), expected_calibration_error, interdependence and
        label_interdependence (adjusted R²), bias_amplification; and accuracy, false_positive_rate and
        false_negative_rate again with the endings _group_0, _group_1 and _gap. The function of that name
        documents each.

    Raises:
        ValueError: shapes that differ, or values out of range.
    """
    scores, true = arrays.as_scored(logits, task.labels)
    p = arrays.probabilities(scores)
    return tidy(score_metrics(scores, p, true) | decision_metrics(arrays.hard_predictions(scores, thresholds), task), task.names)


def score_metrics(scores: FloatArray, p: FloatArray, true: BoolArray) -> dict[str, PerAttribute]:
    """Measure what no threshold enters: the order and the probabilities of the logits, and the labels themselves."""
    area, precision = of_decisions.ranking_metrics(scores, true)
    return {
        "roc_auc": area,
        "average_precision": precision,
        "uncertainty": uncertainty(p),
        "expected_calibration_error": expected_calibration_error(p, true),
        "positive_rate": of_decisions.positive_rate(true),
        "label_interdependence": interdependence(true),
    }


def decision_metrics(predicted: BoolArray, task: AttributeTask) -> dict[str, PerAttribute]:
    """Measure what depends on the decisions, shape (n, K)."""
    true, rate = task.labels, task.train_rate
    results = {
        "accuracy": of_decisions.accuracy(predicted, true),
        "majority_accuracy": of_decisions.majority_accuracy(true, rate),
        "balanced_accuracy": of_decisions.balanced_accuracy(predicted, true),
        "predicted_positive_rate": of_decisions.positive_rate(predicted),
        "rare_value_ratio": of_decisions.rare_value_ratio(predicted, true, rate),
        "false_positive_rate": of_decisions.false_positive_rate(predicted, true),
        "false_negative_rate": of_decisions.false_negative_rate(predicted, true),
        "interdependence": interdependence(predicted),
        "bias_amplification": bias_amplification(predicted, true, task.protected, rates=task.rates),
    }
    for metric in (of_decisions.accuracy, of_decisions.false_positive_rate, of_decisions.false_negative_rate):
        groups = of_decisions.by_group(metric, predicted, true, task.groups)
        results |= {f"{metric.__name__}_group_{number}": result for number, result in enumerate(groups)}
        results[f"{metric.__name__}_gap"] = of_decisions.group_gap(*groups)
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
        raise ValueError("table has several values of an attribute and metric; give models a column that tells them apart")
    # Attributes outside the set stay in, blanked out, so that an empty set gives NaN and not an empty table.
    kept = table["attribute"].isin(wanted)
    undefined = table["value"].isna()
    common = kept & ~undefined.groupby([table["metric"], table["attribute"]]).transform("any")
    unpredicted = kept & (table["reason"] == Reason.NO_PREDICTED_POSITIVES.value)
    means = {"mean": table["value"].where(kept), "mean_common": table["value"].where(common)}
    counts = {"attributes": kept, "undefined": kept & undefined, "no_predicted_positives": unpredicted, "common": common}
    of_model = table[keys].assign(**means, **counts).groupby(keys, sort=False, dropna=False, as_index=False)
    summary = of_model.agg(dict.fromkeys(means, "mean") | dict.fromkeys(counts, "sum"))
    if len(wanted) != len(set(wanted)) or (summary["attributes"] != len(wanted)).any():
        known = list(table["attribute"].unique())
        raise ValueError(f"every model and metric must have each of the attributes {wanted} once; the table knows {known}")
    return summary


def tidy(results: dict[str, PerAttribute], names: list[Hashable], **given: object) -> pd.DataFrame:
    """Write metrics as rows of the tidy table, after columns that tell models apart."""
    columns: dict[str, object] = {
        "attribute": names * len(results),
        "metric": [metric for metric in results for _ in names],
        "value": np.concatenate([result.values for result in results.values()]),
        "reason": ["" if reason is None else reason.value for result in results.values() for reason in result.reasons],
    }
    return pd.DataFrame(given | columns)
