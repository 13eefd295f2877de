"""Global magnitude pruning: the weights nearest to zero go first, wherever in the network they are."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from effnotes.pruning.masks import Masks, check_masks, dense_masks, kept_count, prunable_parameters
from effnotes.pruning.schedules import CubicSchedule, OneShotSchedule, PruningPlan


@torch.no_grad()
def global_magnitude(
    model: nn.Module,
    level: float,
    masks: Mapping[str, Tensor] | None = None,
    *,
    generator: torch.Generator | None = None,  # noqa: ARG001 - part of the contract; nothing is drawn here
) -> Masks:
    """Keep the weights of largest magnitude, compared over all prunable layers at once.

    The ranking is that of the score (|w| + 1e-4) * mask of Iofinova, Peste & Alistarh (CVPR 2023, official code): a pruned weight
    never returns (masks are nested), and a kept weight that is exactly zero still outranks a pruned one. Two details differ. The
    original keeps the scores strictly above the k-th largest, hence k - 1 weights or fewer with ties; here exactly
    `kept_count(n, level)` stay, and among equal magnitudes the first in the order of `prunable_parameters` and of the flattened
    weight. And pruned weights are ranked by their mask rather than by an offset, which loses no digits of small weights.

    Args:
        model: The network; it is not changed.
        level: Sparsity to reach over the prunable weights, in [0, 1).
        masks: Masks in force, None for a dense network.
        generator: Not used.

    Returns:
        Masks, bool, on the devices of their weights.

    Raises:
        ValueError: `level` is out of range or below the sparsity of `masks`, a mask does not fit, or a weight is not finite.
    """
    weights = prunable_parameters(model)
    current = dense_masks(model)
    if masks is not None:
        check_masks(weights, masks)
        current.update(masks)
    device = next(iter(weights.values())).device
    magnitude = torch.cat([weight.detach().abs().flatten().float().to(device) for weight in weights.values()])
    if not torch.isfinite(magnitude).all():
        raise ValueError("the model has weights that are NaN or infinite, which have no rank; train it with a lower learning rate")
    alive = torch.cat([current[name].flatten().to(device) for name in weights])
    total, keep = magnitude.numel(), kept_count(magnitude.numel(), level)
    if keep > int(alive.sum()):
        raise ValueError(
            f"sparsity {level} asks for {keep} of {total} weights, but the masks leave only {int(alive.sum())}; "
            "magnitude pruning never brings a weight back"
        )
    score = torch.where(alive, magnitude, -1.0)
    kept = torch.zeros_like(alive)
    if keep:
        threshold = torch.kthvalue(score, total - keep + 1).values
        kept = score > threshold
        ties = (score == threshold).nonzero().flatten()
        kept[ties[: keep - int(kept.sum())]] = True
    result: Masks = {}
    for (name, weight), flat in zip(weights.items(), kept.split([w.numel() for w in weights.values()]), strict=True):
        result[name] = torch.empty_like(weight, dtype=torch.bool).copy_(flat.view(weight.shape))
    return result


def gradual_magnitude(target: float, *, start: int, end: int, frequency: int = 1, initial: float = 0.05) -> PruningPlan:
    """Plan gradual magnitude pruning (GMP): `global_magnitude` along a cubic schedule, while the network trains.

    Used on freshly initialised weights this is GMP-RI, on a trained dense model GMP-PT (Iofinova, Peste & Alistarh, CVPR 2023).
    The original starts all GMP-PT runs from one dense checkpoint, so that its seeds vary fine-tuning only; for independent
    replicates give each seed a parent of its own. Published schedules (start, frequency, end): GMP-RI (10, 10, 81) of 100
    epochs with SGD; GMP-PT (1, 4, 60) of 80 epochs with Adam at a constant learning rate of 1e-4.

    Args:
        target: Final sparsity over the prunable weights, in (0, 1), reached exactly by the last update.
        start: Epoch of the first update.
        end: The updates come before this epoch.
        frequency: Epochs from one update to the next.
        initial: Sparsity of the first update.
    """
    return PruningPlan(global_magnitude, target, CubicSchedule(start, end, frequency, initial))


def one_shot_magnitude(target: float, *, epoch: int = 0) -> PruningPlan:
    """Plan a single global magnitude pruning at the start of `epoch`; the epochs after it fine-tune the rest.

    To prune without fine-tuning call `global_magnitude` and `apply_masks_`.
    """
    return PruningPlan(global_magnitude, target, OneShotSchedule(epoch))
