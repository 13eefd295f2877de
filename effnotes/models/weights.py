"""Whether the weights of a network are what others take them for: parameters of their layers, finite, and float32.

PyTorch computes some weights from other parameters before every forward pass (`torch.nn.utils.prune`, weight norm, spectral norm,
`torch.nn.utils.parametrize`). Such a weight can be read; what is written into it is gone with the next pass.
"""

import copy
import warnings
from typing import NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from effnotes.models.modes import evaluating

Network = TypeVar("Network", bound=nn.Module)


def _recomputed(module: nn.Module, key: str) -> tuple[Tensor, str] | None:
    """What a parameter of a layer would be in the next forward pass, and the call that makes it one; None if nothing computes it.

    Nothing is changed: what the layer keeps under the name may be older than what it is computed from.
    """
    if parametrize.is_parametrized(module, key):
        with evaluating(module):  # spectral norm improves its estimate whenever it is asked in training mode
            return getattr(module, key), f"torch.nn.utils.parametrize.remove_parametrizations(layer, {key!r})"
    for hook in module._forward_pre_hooks.values():
        match hook:
            case BasePruningMethod(_tensor_name=name) if name == key:
                return hook.apply_mask(module), f"torch.nn.utils.prune.remove(layer, {key!r})"
            case WeightNorm(name=name) if name == key:
                return hook.compute_weight(module), f"torch.nn.utils.remove_weight_norm(layer, {key!r})"
            case SpectralNorm(name=name) if name == key:
                return hook.compute_weight(module, do_power_iteration=False), f"torch.nn.utils.remove_spectral_norm(layer, {key!r})"
    return None


def _refuse(name: str, remedy: str) -> NoReturn:
    what = "is computed from other parameters before every forward pass, so that a change of it, or a copy, would be lost"
    raise ValueError(f"{name} {what}; make it a parameter first: {remedy}")


@torch.no_grad()
def layer_weight(module: nn.Module, name: str, *, changing: bool = False) -> Tensor:
    """Return the weight of a layer: its parameter, or the values that the next forward pass would compute.

    Args:
        module: A layer with a weight, such as a convolution.
        name: What messages call it.
        changing: Whether it is to be changed, so that a computed one is refused.

    Raises:
        ValueError: The layer has no weight, or one without numbers that can be read here; or it is computed and to be changed.
    """
    weight: Tensor | None = module._parameters.get("weight")
    if weight is None:
        found = _recomputed(module, "weight")
        if found is None:
            raise ValueError(f"{name} has no parameter `weight`; give it one, layer.weight = torch.nn.Parameter(...)")
        if changing:
            _refuse(f"{name}.weight", found[1])
        weight = found[0].detach()
    if nn.parameter.is_lazy(weight):
        raise ValueError(f"{name}.weight has no shape yet, as the layer is lazy; let the model compute one batch first")
    if weight.is_meta or weight.layout != torch.strided:
        what = "on the device 'meta', which holds no numbers" if weight.is_meta else f"stored as {weight.layout}"
        raise ValueError(f"{name}.weight is {what}; load the weights, or make them dense with to_dense()")
    return weight


@torch.no_grad()
def check_own(model: nn.Module) -> None:
    """Raise ValueError where a parameter of a layer is computed from others; the message names it and what helps."""
    for name, module in model.named_modules():
        for key in [*vars(module), *getattr(module, "parametrizations", ())]:
            if found := _recomputed(module, key):
                _refuse(f"{name}.{key}".removeprefix("."), found[1])


def check_finite(model: nn.Module) -> None:
    """Raise ValueError where weights of a model are NaN or infinite; the message names them."""
    there = [item for item in model.named_parameters() if not (nn.parameter.is_lazy(item[1]) or item[1].is_meta)]
    bad = [name for name, weight in there if not torch.isfinite(weight).all()]
    if bad:
        more = f" and {len(bad) - 1} more" if bad[1:] else ""
        raise ValueError(f"{bad[0]}{more}: there are weights that are NaN or infinite; take a checkpoint from before they were so")


def in_float32(model: Network, *, copied: bool = True, finite: bool = True) -> Network:
    """Return a model with its weights in float32: the model itself, or with a `RuntimeWarning` a copy of one of another type.

    In float16 Adam's epsilon is 0, and its first step can give NaN; in bfloat16 a step below 1/256 of a weight is lost. Full rank
    suffers from both, while adapters are kept in float32: a comparison would favour them.

    Args:
        model: The network.
        copied: Whether a model of another type stays as it is; False changes it in place.
        finite: Whether weights that are NaN or infinite are refused.

    Raises:
        ValueError: A weight is NaN or infinite, or the model cannot be copied.
    """
    if finite:
        check_finite(model)
    types = sorted({str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()} - {"torch.float32"})
    if not types:
        return model
    what = ", ".join(types).replace("torch.", "")
    warnings.warn(f"the model has weights in {what}; they are taken in float32, and so is the result", RuntimeWarning, stacklevel=3)
    return (copy_of(model) if copied else model).float()


def copy_of(model: Network) -> Network:
    """Return a copy of a network.

    Raises:
        ValueError: A parameter is computed from others, by other means than `parametrize`: PyTorch copies no such network.
    """
    try:
        return copy.deepcopy(model)
    except RuntimeError:
        check_own(model)
        raise


def like_weights(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return inputs on the device of a model's weights and, where they are floating-point numbers, in their type."""
    weight = next((weight for weight in model.parameters() if weight.is_floating_point()), None)
    return inputs if weight is None else inputs.to(weight.device, weight.dtype if inputs.is_floating_point() else None)
