"""Which weights may be pruned, which are, and how much that saves.

A mask is a `dict[str, BoolTensor]` by parameter name, True = kept. Sparsity is always a fraction of the *prunable* weights.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from effnotes.models.weights import layer_weight

Masks = dict[str, Tensor]


def prunable_parameters(model: nn.Module, *, changing: bool = False) -> dict[str, Tensor]:
    """Give the weights that pruning may remove, by name: those of every `Conv2d` and every `Linear`.

    Biases and normalisation layers are never pruned. In the ResNets the only linear layer is the last one, so this is the set
    that Iofinova, Peste & Alistarh (CVPR 2023) prune: all convolutions, the first one and the projections included, and the
    classifier. The order is that of `model.named_modules()`, and a weight shared by two layers appears once.

    Args:
        model: The network.
        changing: Whether the weights are to be changed. One that PyTorch computes from other parameters (`torch.nn.utils.prune`,
            weight norm, spectral norm) can be read, as it would be in the next forward pass, but not changed.

    Raises:
        ValueError: The model has no such layer, or a layer no weight that can be read, or changed.
    """
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = layer_weight(module, name or type(module).__name__, changing=changing)
            if all(weight is not other for other in found.values()):
                found[f"{name}.weight".removeprefix(".")] = weight
    if not any(weight.numel() for weight in found.values()):
        raise ValueError(f"{type(model).__name__} has no Conv2d or Linear layer with weights, so nothing in it can be pruned")
    return found


def masks_in_force(model: nn.Module, masks: Mapping[str, Tensor] | None = None) -> Masks:
    """Give a mask for every prunable weight, on its device: those given, and all True where none is given.

    Raises:
        ValueError: A mask names no prunable weight of the model, has another shape, or is not bool.
    """
    weights = prunable_parameters(model)
    current = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for name, mask in (masks or {}).items():
        if name not in weights:
            raise ValueError(f"mask {name!r} belongs to no prunable weight; the model has: {', '.join(weights)}")
        if mask.dtype != torch.bool or mask.shape != weights[name].shape:
            needed = f"needed: torch.bool of shape {tuple(weights[name].shape)}"
            raise ValueError(f"mask {name!r} is {mask.dtype} of shape {tuple(mask.shape)}; {needed}")
        current[name] = mask.to(weights[name].device)
    return current


def masks_of(weights: Mapping[str, Tensor], kept: Tensor) -> Masks:
    """Cut a flat bool tensor over all weights, in their order, into the mask of each, on its device and in its memory layout."""
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {
        name: torch.empty_like(weight, dtype=torch.bool).copy_(part.view(weight.shape))
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


def refuse_revival(alive: Tensor, keep: int, level: float, where: str = "the network") -> None:
    """Raise ValueError where more weights should stay at sparsity `level` than there are True ones in `alive`."""
    if keep > (left := int(alive.sum())):
        asked = f"sparsity {level} asks for {keep} of {alive.numel()} weights of {where}"
        raise ValueError(f"{asked}, but the masks leave only {left}; this method never brings a weight back")


def kept_count(total: int, level: float) -> int:
    """Give the number of weights that stay at sparsity `level`: round((1 - level) * total), halves rounded up.

    Args:
        total: Number of prunable weights.
        level: Sparsity in [0, 1).

    Raises:
        ValueError: `level` lies outside [0, 1).
    """
    if not 0 <= level < 1:
        raise ValueError(f"sparsity {level}: must be at least 0 and below 1 (0.9 removes 90% of the weights)")
    # Rounding to 9 places first: (1 - 0.95) * n lies a few ulp off its decimal value, and a half must not fall with them.
    return math.floor(round((1 - level) * total, 9) + 0.5)


def sparsity(masks: Mapping[str, Tensor]) -> float:
    """Give the fraction of the prunable weights that the masks remove, in [0, 1].

    Raises:
        ValueError: The masks cover no weight.
    """
    total = sum(mask.numel() for mask in masks.values())
    if total == 0:
        raise ValueError("no masks given; masks come from a pruning method")
    return 1 - sum(int(mask.sum()) for mask in masks.values()) / total


def effective_sparsity(model: nn.Module) -> float:
    """Give the fraction of the prunable weights that are exactly zero, in [0, 1], whatever made them zero.

    Differs from `sparsity(masks)` when masks were not applied, or when a kept weight happens to be zero.
    """
    weights = prunable_parameters(model).values()
    total = sum(weight.numel() for weight in weights)
    return 1 - sum(int(torch.count_nonzero(weight)) for weight in weights) / total


@torch.no_grad()
def apply_masks_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the pruned weights of the model to zero, in place.

    Args:
        model: The model that the masks were made for.
        masks: By parameter name, bool, each of its weight's shape; True = kept.

    Raises:
        ValueError: As for `masks_in_force`, or a weight is computed from other parameters.
    """
    weights = prunable_parameters(model, changing=True)
    for name, mask in masks_in_force(model, masks).items():
        # Not a product: that would leave NaN where a pruned weight had become infinite.
        weights[name].masked_fill_(~mask, 0.0)


class SizeOnDisk(NamedTuple):
    """Bytes that a model takes as a safetensors file."""

    dense: int  # every tensor in full, zeros included
    sparse: int  # prunable weights as one bit a weight and the values that are not zero; the other tensors in full


def size_on_disk(model: nn.Module) -> SizeOnDisk:
    """Measure the bytes of the model's safetensors file, in full and with zeros stored as one bit each.

    The sparse form is lossless: per prunable weight a bit map and the non-zero values. The one bit a weight bounds what it can
    save: float32 weights shrink to 1/32 of their size at most, whatever the sparsity. A prunable weight that PyTorch computes from
    other parameters counts as itself, in place of these.
    """
    weights = prunable_parameters(model)
    # Copies: tied weights share storage, which safetensors refuses; each is counted, as in a file made from copies.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    for name in weights.keys() - state.keys():
        parts = f"{name}_", f"{name.removesuffix('weight')}parametrizations.weight."
        state = {key: tensor for key, tensor in state.items() if not key.startswith(parts)}
        state[name] = weights[name].detach().cpu().contiguous().clone()
    dense = len(safetensors.torch.save(state))
    for name in weights:
        weight = state.pop(name)
        kept = weight != 0
        state[f"{name}.bits"] = torch.from_numpy(np.packbits(kept.numpy()))
        state[f"{name}.values"] = weight[kept]
    return SizeOnDisk(dense, len(safetensors.torch.save(state)))
