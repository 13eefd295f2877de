"""What a model does well, how sure it is of it, and whom it treats how.

Every metric is one function on arrays of shape (n, K), samples by attributes: logits, probabilities in [0,
1], labels and predictions in {0, 1}. It returns a `PerAttribute`: K numbers, NaN with a `Reason` where there
is none. An `AttributeTask` holds labels, groups, rates and names of a test set; `attribute_metrics` computes all
metrics of a model on it in one table, and `summarise` averages that over a fixed set of attributes.

Frames and series are brought into one order by the names that they carry, that of `names` where these are given, else that of the
labels; where names contradict one another, and where an array is masked, the call is refused.

`bias_audit` compares a pruned model with its dense parent in one call, `audit_logits` does so from stored logits, and `audit_files`
from files of them. `exemplar_table` looks at the decisions that pruning changed, `attribute_criteria` at what the dense model alone
can tell, and `override_study` at what calibration and overrides mend. Classes that exclude one another are read as attributes by
their `log_odds`; `class_metrics` and `macro_f1` are about the most probable one.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.metrics.bias.amplification": "bias_amplification conditional_rates corpus_bias_amplification "
    "directional_bias_amplification fixed_attribute_set planted_bias_amplification positive_shares",
    "effnotes.metrics.bias.arrays": "hard_predictions probabilities",
    "effnotes.metrics.bias.attribute_table": "attribute_metrics summarise",
    "effnotes.metrics.bias.audit": "BiasAudit audit_logits bias_audit",
    "effnotes.metrics.bias.calibration": "calibrated_thresholds expected_calibration_error uncertain uncertainty",
    "effnotes.metrics.bias.classification": "accuracy average_precision balanced_accuracy by_group false_negative_rate "
    "false_positive_rate group_gap majority_accuracy positive_rate rare_value_ratio roc_auc",
    "effnotes.metrics.bias.criteria": "attribute_criteria evaluate_criteria phi_coefficient rank_association rank_products",
    "effnotes.metrics.bias.dependence": "interdependence",
    "effnotes.metrics.bias.exclusive": "class_metrics log_odds macro_f1",
    "effnotes.metrics.bias.exemplars": "exemplar_table modal_exemplars modal_predictions taxicab_distance",
    "effnotes.metrics.bias.outputs": "read_outputs",
    "effnotes.metrics.bias.overrides": "override override_study select_least_certain select_randomly",
    "effnotes.metrics.bias.per_attribute": "PerAttribute Reason",
    "effnotes.metrics.bias.stored": "audit_files read_stored",
    "effnotes.metrics.bias.task": "AttributeTask",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
