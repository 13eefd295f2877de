"""Random pruning: the control that tells what the choice of the weights is worth."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from effnotes.pruning.masks import Masks, kept_count, masks_in_force, masks_of, prunable_parameters, refuse_revival


@torch.no_grad()
def random_choice(
    model: nn.Module, level: float, masks: Mapping[str, Tensor] | None = None, *, generator: torch.Generator
) -> Masks:
    """Keep weights drawn at random, each set of `kept_count(n, level)` of those still there with the same probability.

    The baseline of Gale, Elsen & Hooker ("The State of Sparsity in Deep Neural Networks", 2019): along the schedule of gradual
    magnitude pruning, a random choice in place of the magnitudes. Drawn over all prunable layers at once, so each keeps about
    the same share. Masks are nested.

    Args:
        model: The network; it is not changed.
        level: Sparsity to reach over the prunable weights, in [0, 1).
        masks: Masks in force, None for a dense network.
        generator: Decides the draw, on the CPU; the same for one state of the generator, whatever the device of the model.

    Returns:
        Masks, bool, on the devices of their weights.

    Raises:
        ValueError: `level` is out of range or below the sparsity of `masks`, or a mask does not fit.
    """
    weights = prunable_parameters(model)
    alive = torch.cat([mask.flatten().cpu() for mask in masks_in_force(model, masks).values()])
    keep = kept_count(len(alive), level)
    refuse_revival(alive, keep, level)
    kept, places = torch.zeros_like(alive), alive.nonzero().flatten()
    kept[places[torch.randperm(len(places), generator=generator)[:keep]]] = True
    return masks_of(weights, kept)
