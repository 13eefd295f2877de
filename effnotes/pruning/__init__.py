"""Pruning: masks, how they are chosen (methods) and when (schedules), and what is saved (cost).

One contract for all: a `PruningPlan` is a method, a target, a schedule and a seed, and gives the masks of every epoch.
`PRUNING_METHODS` lists the methods by name, and `pruning_plan` plans one of them for a training run of any length.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "AlternatingSchedule": "effnotes.pruning.schedules",
    "CubicSchedule": "effnotes.pruning.schedules",
    "Latency": "effnotes.pruning.cost",
    "MaskMethod": "effnotes.pruning.plans",
    "Masks": "effnotes.pruning.masks",
    "ModelCost": "effnotes.pruning.cost",
    "NMMagnitude": "effnotes.pruning.semi_structured",
    "OneShotSchedule": "effnotes.pruning.schedules",
    "PRUNING_METHODS": "effnotes.pruning.methods",
    "PruningHook": "effnotes.pruning.plans",
    "PruningMethod": "effnotes.pruning.methods",
    "PruningPlan": "effnotes.pruning.plans",
    "Schedule": "effnotes.pruning.schedules",
    "SizeOnDisk": "effnotes.pruning.masks",
    "alternating_magnitude": "effnotes.pruning.alternating",
    "apply_masks_": "effnotes.pruning.masks",
    "cubic_level": "effnotes.pruning.schedules",
    "dense_masks": "effnotes.pruning.masks",
    "effective_sparsity": "effnotes.pruning.masks",
    "global_magnitude": "effnotes.pruning.magnitude",
    "gradual_magnitude": "effnotes.pruning.magnitude",
    "kept_count": "effnotes.pruning.masks",
    "layer_counts": "effnotes.pruning.magnitude",
    "measure_latency": "effnotes.pruning.cost",
    "model_cost": "effnotes.pruning.cost",
    "one_shot_magnitude": "effnotes.pruning.magnitude",
    "prunable_parameters": "effnotes.pruning.masks",
    "prune_": "effnotes.pruning.methods",
    "pruning_plan": "effnotes.pruning.methods",
    "pruning_schedule": "effnotes.pruning.methods",
    "random_choice": "effnotes.pruning.control",
    "reviving_magnitude": "effnotes.pruning.alternating",
    "size_on_disk": "effnotes.pruning.masks",
    "sparsity": "effnotes.pruning.masks",
    "uniform_magnitude": "effnotes.pruning.magnitude",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
