"""AC/DC: training that alternates between a sparse and a dense network, so that pruned weights get another chance."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from effnotes.pruning.magnitude import global_magnitude
from effnotes.pruning.masks import Masks, masks_in_force
from effnotes.pruning.plans import PruningPlan
from effnotes.pruning.schedules import AlternatingSchedule


def reviving_magnitude(model: nn.Module, level: float, masks: Mapping[str, Tensor] | None = None, **_: Any) -> Masks:
    """Keep the weights of largest magnitude over all layers, whatever was pruned before; level 0 restores all.

    The projection onto sparse weights of iterative hard thresholding. A pruned weight is 0, so it comes back only if masks
    are restored and training has moved it since.

    Args:
        model: The network; it is not changed.
        level: Sparsity to reach over the prunable weights, in [0, 1).
        masks: Masks in force; only checked.
        _: The generator of the contract, for nothing is drawn.

    Returns:
        Masks, bool, on the devices of their weights.

    Raises:
        ValueError: `level` is out of range, a mask does not fit, or a weight is not finite.
    """
    masks_in_force(model, masks)
    return global_magnitude(model, level)


def alternating_magnitude(target: float, *, epochs: int) -> PruningPlan:
    """Plan AC/DC for a run from random weights: dense warm-up, compressed and dense phases in turn, compressed to the end.

    Peste, Iofinova, Vladu & Alistarh (NeurIPS 2021). At each restoration the mask becomes all ones and the pruned weights
    start again from 0, without the momentum that they gathered while they were out (see `PruningHook`; the official
    scripts reset the momentum there as well). Each compressed phase chooses its weights anew.

    Args:
        target: Sparsity of every compressed phase over the prunable weights, in (0, 1).
        epochs: Length of the training run, at least 4; 100 gives the published phases, see `AlternatingSchedule`.
    """
    return PruningPlan(reviving_magnitude, target, AlternatingSchedule.for_epochs(epochs), revives=True)
