"""A base of 4-bit weights, as QLoRA tunes adapters on (Dettmers et al., NeurIPS 2023): NF4, with quantised scales, by torchao."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from effnotes.models.language import block_linears
from effnotes.models.weights import copy_of, in_float32

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BLOCK = 64  # weights that share a scale, and scales that share one of their own


class Quantised(NamedTuple):
    """A model whose matrices take values of NF4 only, held as float32, and what they take in memory.

    Adapters are tuned on it as on any other base. Merged into it they leave NF4's values, and quantising again would change them.
    """

    model: PreTrainedModel
    packed_bytes: int  # of the quantised matrices: 4 bits a weight, 8 a block of 64, and 32 for 64 of these
    dense_bytes: int  # of the same in float32


def quantise_base(model: PreTrainedModel) -> Quantised:
    """Return a copy of a model with the linear layers of its blocks rounded to NF4; embedding, head and the rest stay as they are.

    Each 64 weights are scaled by the largest among them and rounded to the nearest of 16 quantiles of the normal distribution. Of
    weights that are normally distributed .09 is lost (norm of the change in that of the weights).

    Args:
        model: A causal language model of transformers; it stays as it is.

    Raises:
        ValueError: A matrix is not of a multiple of 4,096 numbers; as for `block_linears` and `in_float32`.
        ModuleNotFoundError: torchao is missing.
    """
    model = copy_of(in_float32(model))
    linears = block_linears(model)
    for name, linear in linears.items():
        if linear.weight.numel() % _BLOCK**2:
            what = f"NF4 packs blocks of {_BLOCK} x {_BLOCK} = {_BLOCK**2} numbers; take a model of another width"
            raise ValueError(f"{name}.weight has {linear.weight.numel()} numbers: {what}")
    from torchao.quantization import NF4Tensor

    packed = dense = 0
    for linear in linears.values():
        short = NF4Tensor.from_tensor(linear.weight.detach(), _BLOCK, _BLOCK)
        parts = (short.quantized_data, short.quantized_scalers, short.quantization_factor, short.scaler_mean)
        packed, dense = packed + sum(part.nbytes for part in parts), dense + linear.weight.nbytes
        linear.weight = nn.Parameter(short.get_original_weight().to(linear.weight), linear.weight.requires_grad)
    return Quantised(model, packed, dense)
