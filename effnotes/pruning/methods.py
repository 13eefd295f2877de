"""All pruning methods by name, each with a sensible plan for a training run of any length.

What loads torch is imported where it is needed: the table, and what a method cannot do, are told before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from effnotes.core.checks import check_choice, check_range
from effnotes.pruning.schedules import AlternatingSchedule, CubicSchedule, OneShotSchedule, Schedule

if TYPE_CHECKING:
    from torch import nn

    from effnotes.pruning.masks import Masks
    from effnotes.pruning.plans import MaskMethod, PruningPlan


class PruningMethod(NamedTuple):
    """A pruning method as the book offers it: how it prunes, and what it starts from."""

    gradual: bool = False  # prunes along the cubic schedule, whose start and end can be chosen
    starts_trained: bool = False  # from a trained dense model, one for each seed (True), or from random weights (False)
    trains: bool = True  # hand the plan to `train` (True), or to `prune_` and leave it at that (False)
    nested: bool = True  # pruned weights never return (True), or may (False)


PRUNING_METHODS: Mapping[str, PruningMethod] = {
    # gradual global magnitude pruning from random weights: GMP-RI
    "gmp": PruningMethod(gradual=True),
    # the same of a trained model: GMP-PT
    "gmp_post": PruningMethod(gradual=True, starts_trained=True),
    # global magnitude pruning of a trained model in one step, then fine-tuning
    "one_shot": PruningMethod(starts_trained=True),
    # the same without training after it
    "one_shot_untuned": PruningMethod(starts_trained=True, trains=False),
    # gradual magnitude pruning from random weights, each layer by the same share
    "uniform": PruningMethod(gradual=True),
    # n of 4 input channels by magnitude (2:4 at 50%) in a trained model, then fine-tuning
    "n_of_4": PruningMethod(starts_trained=True),
    # gradual pruning by chance from random weights: the control
    "random": PruningMethod(gradual=True),
    # AC/DC: dense and compressed phases in turn, from random weights
    "acdc": PruningMethod(nested=False),
}


def pruning_plan(
    name: str, target: float, *, epochs: int, seed: int = 0, start: int | None = None, end: int | None = None
) -> PruningPlan | None:
    """Plan a pruning method for a training run of a given length.

    `PRUNING_METHODS[name]` says what the method starts from: for `starts_trained` train a dense model first (one for each seed,
    or the seeds vary fine-tuning only) and hand its weights to a second run with the plan; without `trains` call `prune_` on it.

    The gradual schedules are those of Iofinova, Peste & Alistarh (CVPR 2023, official code), scaled to `epochs`: from random
    weights (`gmp`, `uniform`, `random`) start 10, frequency 10 and end 81 of 100 epochs, post-training (`gmp_post`) 1, 4 and 60 of
    80 epochs, with at least one dense epoch before and at most an update an epoch. `one_shot`, `one_shot_untuned` and `n_of_4`
    prune before the first epoch, and `acdc` alternates as `AlternatingSchedule` says.

    Args:
        name: One of `PRUNING_METHODS`.
        target: Final sparsity over the prunable weights in [0, 1); 0 is the dense model. Gradual methods need 0.05 or more,
            `n_of_4` 0.25, 0.5 or 0.75.
        epochs: Epochs of the training run that the plan is for, at least 1; `acdc` needs 4.
        seed: For methods that draw at random; only `random` does.
        start: Epoch of the first update of a gradual method, default as above; the other methods have no use for it.
        end: The updates of a gradual method come before this epoch; default as above.

    Returns:
        The plan, or None for target 0.

    Raises:
        ValueError: The name is unknown, or a number is out of range for the method.
    """
    schedule = pruning_schedule(name, target, epochs=epochs, start=start, end=end)
    if schedule is None:
        return None
    from effnotes.pruning.plans import PruningPlan

    return PruningPlan(_mask_method(name, target), target, schedule, seed, revives=not PRUNING_METHODS[name].nested)


def pruning_schedule(name: str, target: float, *, epochs: int, start: int | None = None, end: int | None = None) -> Schedule | None:
    """Say when a pruning method prunes how far: the schedule of `pruning_plan`, whose arguments, errors and None these are."""
    check_choice(list(PRUNING_METHODS), method=name)
    check_range(1, epochs=epochs)
    if not 0 <= target < 1:
        raise ValueError(f"target={target}: must be at least 0 (dense) and below 1 (0.9 removes 90% of the weights)")
    if target == 0:
        return None
    method = PRUNING_METHODS[name]
    if not method.nested:
        return AlternatingSchedule.for_epochs(epochs)
    if name == "n_of_4" and target not in (0.25, 0.5, 0.75):
        raise ValueError(f"target={target}: 4 channels allow 0.25 (3:4), 0.5 (2:4, the pattern of sparse hardware) and 0.75 (1:4)")
    if not method.gradual:
        return OneShotSchedule()
    published = (1, 4, 60, 80) if method.starts_trained else (10, 10, 81, 100)  # start, frequency, end, epochs
    first, every = (epochs * value // published[3] for value in published[:2])
    # Rounded up: in a short run each update counts, and two of them would be one-shot pruning by another name.
    last = -(-epochs * published[2] // published[3])
    begin = min(epochs - 1, max(1, first)) if start is None else start
    stop = max(begin + 1, last) if end is None else end
    if stop > epochs:
        raise ValueError(f"start={begin}, end={stop}: the updates must come before the end of the {epochs} epochs")
    schedule = CubicSchedule(begin, stop, max(1, every))
    schedule.levels(target)  # refuses a target that it cannot reach
    return schedule


def _mask_method(name: str, target: float) -> MaskMethod:
    """Give what chooses the weights: magnitude over the whole network, where a method is none of its own."""
    from effnotes.pruning.control import random_choice
    from effnotes.pruning.magnitude import global_magnitude, reviving_magnitude, uniform_magnitude
    from effnotes.pruning.semi_structured import NMMagnitude

    own: dict[str, MaskMethod] = {"uniform": uniform_magnitude, "random": random_choice, "acdc": reviving_magnitude}
    return NMMagnitude(round(4 * (1 - target)), 4) if name == "n_of_4" else own.get(name, global_magnitude)


def prune_(model: nn.Module, plan: PruningPlan) -> Masks:
    """Prune a model straight to the target of a plan, in place and without training; give the masks.

    For the methods without `trains`, and for a look at what any method would take away from a trained model.

    Args:
        model: The network; its pruned weights become zero.
        plan: Its method, target and seed count, its schedule does not.

    Raises:
        ValueError: The method cannot reach the target on this model.
    """
    import torch

    from effnotes.pruning.masks import apply_masks_

    masks = plan.method(model, plan.target, generator=torch.Generator().manual_seed(plan.seed))
    apply_masks_(model, masks)
    return masks
