"""Pruning: masks, how they are chosen (methods) and when (schedules), and what is saved (cost).

One contract for all: a `PruningPlan` is a method, a target, a schedule and a seed, and gives the masks of every epoch.
`PRUNING_METHODS` lists the methods by name, and `pruning_plan` plans one of them for a training run of any length.
"""

from effnotes.pruning.alternating import alternating_magnitude, reviving_magnitude
from effnotes.pruning.control import random_choice
from effnotes.pruning.cost import Latency, ModelCost, measure_latency, model_cost
from effnotes.pruning.magnitude import global_magnitude, gradual_magnitude, layer_counts, one_shot_magnitude, uniform_magnitude
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
from effnotes.pruning.methods import PRUNING_METHODS, PruningMethod, prune_, pruning_plan
from effnotes.pruning.plans import MaskMethod, PruningHook, PruningPlan
from effnotes.pruning.schedules import AlternatingSchedule, CubicSchedule, OneShotSchedule, Schedule, cubic_level
from effnotes.pruning.semi_structured import NMMagnitude

__all__ = [
    "PRUNING_METHODS",
    "AlternatingSchedule",
    "CubicSchedule",
    "Latency",
    "MaskMethod",
    "Masks",
    "ModelCost",
    "NMMagnitude",
    "OneShotSchedule",
    "PruningHook",
    "PruningMethod",
    "PruningPlan",
    "Schedule",
    "SizeOnDisk",
    "alternating_magnitude",
    "apply_masks_",
    "cubic_level",
    "dense_masks",
    "effective_sparsity",
    "global_magnitude",
    "gradual_magnitude",
    "kept_count",
    "layer_counts",
    "measure_latency",
    "model_cost",
    "one_shot_magnitude",
    "prunable_parameters",
    "prune_",
    "pruning_plan",
    "random_choice",
    "reviving_magnitude",
    "size_on_disk",
    "sparsity",
    "uniform_magnitude",
]
