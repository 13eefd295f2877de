"""Magnitude pruning: the weights nearest to zero go first, compared over the whole network or within each layer.

AC/DC chooses by magnitude as well, over the whole network, and gives pruned weights another chance.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from effnotes.pruning.masks import Masks, kept_count, masks_in_force, masks_of, prunable_parameters, refuse_revival
from effnotes.pruning.plans import PruningPlan
from effnotes.pruning.schedules import CubicSchedule


@torch.no_grad()
def global_magnitude(model: nn.Module, level: float, masks: Mapping[str, Tensor] | None = None, **_: Any) -> Masks:
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
        _: The generator of the contract, for nothing is drawn.

    Returns:
        Masks, bool, on the devices of their weights.

    Raises:
        ValueError: `level` is out of range or below the sparsity of `masks`, a mask does not fit, or a weight is not finite.
    """
    weights = prunable_parameters(model)
    device = next(iter(weights.values())).device
    score = torch.cat([each.flatten().to(device) for each in kept_magnitudes(model, masks).values()])
    return masks_of(weights, _largest(score, kept_count(len(score), level), level))


@torch.no_grad()
def uniform_magnitude(model: nn.Module, level: float, masks: Mapping[str, Tensor] | None = None, **_: Any) -> Masks:
    """Keep the weights of largest magnitude within each layer, the same share in all of them.

    Zhu & Gupta (2017) prune each layer to one sparsity: no layer can be emptied, but small layers pay as much as large ones.
    All prunable layers take part, so that the sparsity is comparable with that of `global_magnitude`. Some studies keep the first
    layer dense and the last one denser (Gale, Elsen & Hooker, "The State of Sparsity in Deep Neural Networks", 2019), which makes
    the others sparser at one overall target.

    `layer_counts` shares out exactly `kept_count(n, level)` weights. Masks are nested, and among equals the first weight stays.

    Args:
        model: The network; it is not changed.
        level: Sparsity to reach over the prunable weights and in each layer, in [0, 1).
        masks: Masks in force, None for a dense network.
        _: The generator of the contract, for nothing is drawn.

    Returns:
        Masks, bool, on the devices of their weights.

    Raises:
        ValueError: `level` is out of range or below the sparsity of `masks` in some layer, a mask does not fit, or a weight is not
            finite.
    """
    scores = kept_magnitudes(model, masks)
    sizes = [score.numel() for score in scores.values()]
    counts = layer_counts(sizes, kept_count(sum(sizes), level))
    kept = [_largest(scores[name].flatten(), keep, level, name).cpu() for name, keep in zip(scores, counts, strict=True)]
    return masks_of(prunable_parameters(model), torch.cat(kept))


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


def layer_counts(sizes: Sequence[int], keep: int) -> list[int]:
    """Share out `keep` weights among layers in proportion to their sizes (Webster's method of apportionment).

    Rounding each layer by itself would miss the total, and handing the rest to the largest remainders can give a layer more
    weights at a higher sparsity, which nested masks forbid. Webster's method gives the next weight to the layer with the largest
    size / (2 count + 1), the first of equals; so the counts of fewer weights never exceed those of more.

    Args:
        sizes: Weights of each layer, at least 1.
        keep: Weights that stay, 0 to sum(sizes).

    Returns:
        One count a layer, in the order of `sizes`; they add up to `keep`.
    """
    total = sum(sizes)
    # Rounding at the divisor total / keep is Webster's answer for its own sum, a few weights away at most.
    counts = [(2 * keep * size + total) // (2 * total) for size in sizes]
    while sum(counts) < keep:
        next_one = min(range(len(sizes)), key=lambda layer: Fraction(2 * counts[layer] + 1, sizes[layer]))
        counts[next_one] += 1
    while sum(counts) > keep:
        last_one = max(range(len(sizes)), key=lambda layer: (Fraction(2 * counts[layer] - 1, sizes[layer]), layer))
        counts[last_one] -= 1
    return counts


def kept_magnitudes(model: nn.Module, masks: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Give |w| in float32 where a mask keeps the weight and -1 elsewhere: a kept zero still outranks a pruned weight.

    Raises:
        ValueError: A mask does not fit, or a weight is not finite.
    """
    magnitudes = {name: weight.detach().abs().float() for name, weight in prunable_parameters(model).items()}
    if not all(torch.isfinite(magnitude).all() for magnitude in magnitudes.values()):
        raise ValueError("the model has weights that are NaN or infinite, which have no rank; train it with a lower learning rate")
    current = masks_in_force(model, masks)
    return {name: torch.where(current[name], magnitude, -1.0) for name, magnitude in magnitudes.items()}


def _largest(score: Tensor, keep: int, level: float, where: str = "the network") -> Tensor:
    """Mark the `keep` largest of a flat tensor, the first ones among equals."""
    refuse_revival(score >= 0, keep, level, where)
    kept = torch.zeros_like(score, dtype=torch.bool)
    if keep:
        threshold = torch.kthvalue(score, score.numel() - keep + 1).values
        kept = score > threshold
        ties = (score == threshold).nonzero().flatten()
        kept[ties[: keep - int(kept.sum())]] = True
    return kept


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
