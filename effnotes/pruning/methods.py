"""All pruning methods by name, each with a sensible plan for a training run of any length."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from effnotes.core.checks import check_choice, check_range
from effnotes.pruning.control import random_choice
from effnotes.pruning.magnitude import alternating_magnitude, global_magnitude, one_shot_magnitude, uniform_magnitude
from effnotes.pruning.masks import Masks, apply_masks_
from effnotes.pruning.plans import MaskMethod, PruningPlan
from effnotes.pruning.schedules import CubicSchedule, OneShotSchedule
from effnotes.pruning.semi_structured import NMMagnitude

_Build = Callable[[float, int, int, CubicSchedule], PruningPlan]


@dataclass(frozen=True)
class PruningMethod:
    """A pruning method as the book offers it: its plan, and what it starts from."""

    build: _Build  # target, epochs, seed, cubic schedule -> plan
    starts_trained: bool = False  # from a trained dense model, one for each seed (True), or from random weights (False)
    trains: bool = True  # hand the plan to `train` (True), or to `prune_` and leave it at that (False)


def _gradual(method: MaskMethod) -> _Build:
    return lambda target, _epochs, seed, schedule: PruningPlan(method, target, schedule, seed)


def _one_shot(target: float, *_: Any) -> PruningPlan:
    return one_shot_magnitude(target)


def _n_of_4(target: float, *_: Any) -> PruningPlan:
    n = round(4 * (1 - target))
    if not 1 <= n <= 3 or abs(1 - n / 4 - target) > 1e-9:
        raise ValueError(f"target={target}: 4 channels allow 0.25 (3:4), 0.5 (2:4, the pattern of sparse hardware) and 0.75 (1:4)")
    return PruningPlan(NMMagnitude(n, 4), target, OneShotSchedule())


PRUNING_METHODS: Mapping[str, PruningMethod] = {
    # gradual global magnitude pruning from random weights: GMP-RI
    "gmp": PruningMethod(_gradual(global_magnitude)),
    # the same of a trained model: GMP-PT
    "gmp_post": PruningMethod(_gradual(global_magnitude), starts_trained=True),
    # global magnitude pruning of a trained model in one step, then fine-tuning
    "one_shot": PruningMethod(_one_shot, starts_trained=True),
    # the same without training after it
    "one_shot_untuned": PruningMethod(_one_shot, starts_trained=True, trains=False),
    # gradual magnitude pruning from random weights, each layer by the same share
    "uniform": PruningMethod(_gradual(uniform_magnitude)),
    # n of 4 input channels by magnitude (2:4 at 50%) in a trained model, then fine-tuning
    "n_of_4": PruningMethod(_n_of_4, starts_trained=True),
    # gradual pruning by chance from random weights: the control
    "random": PruningMethod(_gradual(random_choice)),
    # AC/DC: dense and compressed phases in turn, from random weights
    "acdc": PruningMethod(lambda target, epochs, *_: alternating_magnitude(target, epochs=epochs)),
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
    check_choice(list(PRUNING_METHODS), method=name)
    check_range(1, epochs=epochs)
    if not 0 <= target < 1:
        raise ValueError(f"target={target}: must be at least 0 (dense) and below 1 (0.9 removes 90% of the weights)")
    if target == 0:
        return None
    method = PRUNING_METHODS[name]
    published = (1, 4, 60, 80) if method.starts_trained else (10, 10, 81, 100)  # start, frequency, end, epochs
    first, every = (epochs * value // published[3] for value in published[:2])
    # Rounded up: in a short run each update counts, and two of them would be one-shot pruning by another name.
    last = -(-epochs * published[2] // published[3])
    begin = min(epochs - 1, max(1, first)) if start is None else start
    stop = max(begin + 1, last) if end is None else end
    if stop > epochs:
        raise ValueError(f"start={begin}, end={stop}: the updates must come before the end of the {epochs} epochs")
    return method.build(target, epochs, seed, CubicSchedule(begin, stop, max(1, every)))


def prune_(model: nn.Module, plan: PruningPlan) -> Masks:
    """Prune a model straight to the target of a plan, in place and without training; give the masks.

    For the methods without `trains`, and for a look at what any method would take away from a trained model.

    Args:
        model: The network; its pruned weights become zero.
        plan: Its method, target and seed count, its schedule does not.

    Raises:
        ValueError: The method cannot reach the target on this model.
    """
    masks = plan.method(model, plan.target, generator=torch.Generator().manual_seed(plan.seed))
    apply_masks_(model, masks)
    return masks
