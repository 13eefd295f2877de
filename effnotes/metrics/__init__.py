"""What a model does well, how sure it is of it, and whom it treats how.

Every metric is one function on arrays of shape (n, K), samples by attributes: logits, probabilities in [0,
1], labels and predictions in {0, 1}. It returns a `PerAttribute`: K numbers, NaN with a `Reason` where there
is none. `attribute_metrics` computes all of them in one table, and `summarise` averages it over a fixed set
of attributes.
"""

from effnotes.metrics.bias import (
    bias_amplification,
    conditional_rates,
    fixed_attribute_set,
    planted_bias_amplification,
)
from effnotes.metrics.calibration import expected_calibration_error, uncertain, uncertainty
from effnotes.metrics.classification import (
    accuracy,
    average_precision,
    balanced_accuracy,
    by_group,
    false_negative_rate,
    false_positive_rate,
    group_gap,
    majority_accuracy,
    positive_rate,
    rare_value_ratio,
    roc_auc,
)
from effnotes.metrics.inputs import hard_predictions, probabilities
from effnotes.metrics.interdependence import interdependence
from effnotes.metrics.results import PerAttribute, Reason
from effnotes.metrics.table import attribute_metrics, summarise

__all__ = [
    "PerAttribute",
    "Reason",
    "accuracy",
    "attribute_metrics",
    "average_precision",
    "balanced_accuracy",
    "bias_amplification",
    "by_group",
    "conditional_rates",
    "expected_calibration_error",
    "false_negative_rate",
    "false_positive_rate",
    "fixed_attribute_set",
    "group_gap",
    "hard_predictions",
    "interdependence",
    "majority_accuracy",
    "planted_bias_amplification",
    "positive_rate",
    "probabilities",
    "rare_value_ratio",
    "roc_auc",
    "summarise",
    "uncertain",
    "uncertainty",
]
