"""Pruning: masks, how they are chosen (methods) and when (schedules), and what is saved (cost).

One contract for all: a `PruningPlan` is a method, a target, a schedule and a seed, and gives the masks of every epoch.
`PRUNING_METHODS` lists the methods by name, and `pruning_plan` plans one of them for a training run of any length.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.pruning.compression_aware": "CompressionAware compression_aware_gradients_",
    "effnotes.pruning.control": "random_choice",
    "effnotes.pruning.cost": "ModelCost measure_latency model_cost",
    "effnotes.pruning.course": "CourseHook flop_share layer_flops mask_churn",
    "effnotes.pruning.gram": "gram_matrix gram_matrix_batch layer_statistics",
    "effnotes.pruning.layerwise": "LAYER_SOLVERS LayerSolution solve_layer solve_layer_batch",
    "effnotes.pruning.magnitude": "global_magnitude gradual_magnitude layer_counts reviving_magnitude uniform_magnitude",
    "effnotes.pruning.masks": "Masks SizeOnDisk apply_masks_ effective_sparsity kept_count masks_in_force "
    "prunable_parameters size_on_disk sparsity",
    "effnotes.pruning.methods": "PRUNING_METHODS PruningMethod prune_ pruning_plan pruning_schedule",
    "effnotes.pruning.plans": "MaskMethod PruningHook PruningPlan",
    "effnotes.pruning.schedules": "AlternatingSchedule CubicSchedule OneShotSchedule Schedule cubic_level",
    "effnotes.pruning.semi_structured": "NMMagnitude",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
