"""What a model does well, how sure it is of it, and whom it treats how.

Every metric is one function on arrays of shape (n, K), samples by attributes: logits, probabilities in [0,
1], labels and predictions in {0, 1}. It returns a `PerAttribute`: K numbers, NaN with a `Reason` where there
is none. An `AttributeTask` holds labels, groups, rates and names of a test set; `attribute_metrics` computes all
metrics of a model on it in one table, and `summarise` averages that over a fixed set of attributes.

`bias_audit` compares a pruned model with its dense parent in one call, and `audit_logits` does so from stored
logits. `exemplar_table` looks at the decisions that pruning changed, `attribute_criteria` at what the dense
model alone can tell, and `override_study` at what calibration and overrides mend. Classes that exclude one another
are read as attributes by their `log_odds`; `class_metrics` and `macro_f1` are about the most probable one.
"""

from effnotes.metrics.bias.amplification import (
    bias_amplification,
    conditional_rates,
    corpus_bias_amplification,
    directional_bias_amplification,
    fixed_attribute_set,
    planted_bias_amplification,
    positive_shares,
)
from effnotes.metrics.bias.arrays import hard_predictions, probabilities
from effnotes.metrics.bias.attribute_table import attribute_metrics, summarise
from effnotes.metrics.bias.audit import BiasAudit, audit_logits, bias_audit
from effnotes.metrics.bias.calibration import calibrated_thresholds, expected_calibration_error, uncertain, uncertainty
from effnotes.metrics.bias.classification import (
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
from effnotes.metrics.bias.criteria import attribute_criteria, evaluate_criteria, phi_coefficient, rank_association, rank_products
from effnotes.metrics.bias.exclusive import class_metrics, log_odds, macro_f1
from effnotes.metrics.bias.exemplars import exemplar_table, modal_exemplars, modal_predictions, taxicab_distance
from effnotes.metrics.bias.interdependence import interdependence
from effnotes.metrics.bias.outputs import read_outputs
from effnotes.metrics.bias.overrides import override, override_study, select_least_certain, select_randomly
from effnotes.metrics.bias.per_attribute import PerAttribute, Reason
from effnotes.metrics.bias.task import AttributeTask

__all__ = ["AttributeTask", "BiasAudit", "PerAttribute", "Reason", "audit_logits", "bias_audit", "read_outputs"]
__all__ += ["accuracy", "attribute_criteria", "attribute_metrics", "average_precision", "balanced_accuracy"]
__all__ += ["bias_amplification", "by_group", "calibrated_thresholds", "conditional_rates", "corpus_bias_amplification"]
__all__ += ["directional_bias_amplification", "evaluate_criteria", "exemplar_table", "expected_calibration_error"]
__all__ += ["false_negative_rate", "false_positive_rate", "fixed_attribute_set", "group_gap", "hard_predictions"]
__all__ += ["interdependence", "majority_accuracy", "modal_exemplars", "modal_predictions", "override", "override_study"]
__all__ += ["phi_coefficient", "planted_bias_amplification", "positive_rate", "positive_shares", "probabilities"]
__all__ += ["rank_association", "rank_products", "rare_value_ratio", "roc_auc", "select_least_certain", "select_randomly"]
__all__ += ["class_metrics", "log_odds", "macro_f1", "summarise", "taxicab_distance", "uncertain", "uncertainty"]
