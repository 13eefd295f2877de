"""Pruning: masks, how they are chosen (methods) and when (schedules).

One contract for all: a `PruningPlan` is a method, a target, a schedule and a seed, and gives the masks of every epoch.
"""

from effnotes.pruning.magnitude import global_magnitude, gradual_magnitude, one_shot_magnitude
from effnotes.pruning.masks import (
    Masks,
    SizeOnDisk,
    apply_masks_,
    dense_masks,
    effective_sparsity,
    kept_count,
    prunable_parameters,
    size_on_disk,
    sparsity,
)
from effnotes.pruning.schedules import CubicSchedule, MaskMethod, OneShotSchedule, PruningPlan, Schedule, cubic_level

__all__ = [
    "CubicSchedule",
    "MaskMethod",
    "Masks",
    "OneShotSchedule",
    "PruningPlan",
    "Schedule",
    "SizeOnDisk",
    "apply_masks_",
    "cubic_level",
    "dense_masks",
    "effective_sparsity",
    "global_magnitude",
    "gradual_magnitude",
    "kept_count",
    "one_shot_magnitude",
    "prunable_parameters",
    "size_on_disk",
    "sparsity",
]
