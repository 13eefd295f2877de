"""The Gram matrix of a layer's inputs, which is all that layer-wise pruning needs to know of the data."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from scipy.linalg import blas
from torch import Tensor, nn

from effnotes.models.weights import layer_weight

CHUNK_BYTES = 64_000_000  # of unfolded inputs held at a time

Layer = nn.Conv2d | nn.Linear


def weight_matrices(layer: Layer) -> tuple[Tensor, int]:
    """Give a layer's weight as (groups, rows, columns), columns channel by channel, and the taps of its kernel, 1 if linear.

    Raises:
        ValueError: The layer is of another kind, or has no weight that can be read.
    """
    if not isinstance(layer, Layer):
        raise ValueError(f"{type(layer).__name__} cannot be solved: layers must be Conv2d or Linear; leave it dense")
    weight = layer_weight(layer, type(layer).__name__).detach()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return weight.reshape(groups, len(weight) // groups, -1), weight[0, 0].numel()


def gram_matrix(layer: Layer, inputs: Tensor) -> Tensor:
    """Give the Gram matrix of a layer's inputs, the sum of x x^T over all images and output positions.

    x is what one row of the weight is multiplied with: for a convolution the patch of one output position in the order of the
    flattened weight (all taps of a channel, then the next channel), padded as the layer pads, for a linear layer the input.

    Args:
        layer: The layer; any kernel, stride, padding, dilation and groups.
        inputs: What it is called with: (images, channels, height, width), or (..., features) for a linear layer.

    Returns:
        (groups, c, c), c the columns of a row's weights: symmetric, unscaled, on the device of the inputs and in their type, but at
        least float32.

    Raises:
        ValueError: The layer is of another kind, or inputs do not fit it.
    """
    return gram_matrix_batch(layer, inputs[None])[0]


@torch.no_grad()
def gram_matrix_batch(layer: Layer, inputs: Tensor) -> Tensor:
    """Give the Gram matrix of each of m inputs (m, ...) of a layer, as (m, groups, c, c); see `gram_matrix`, the case m = 1."""
    inputs, groups, columns, _ = _laid_out(layer, inputs)
    total = inputs.new_zeros(len(inputs), groups, columns, columns)
    for one, each in zip(total, inputs, strict=True):
        for part in _vectors(layer, each):
            for square, vectors in zip(one, part, strict=True):
                _add_outer_(square, vectors)
    _mirrored_(total.flatten(0, 1))
    return total


@torch.no_grad()
def layer_statistics(layer: Layer, inputs: Tensor) -> Tensor:
    """Give what `solve_layer_batch` solves a layer from, for m inputs (m, ...): the Gram matrices, or what is smaller.

    Where there are fewer input vectors x than an eighth of their numbers, n < c / 8, these are given themselves, (m, groups, c, n):
    their Gram matrix has rank n, and what is done with it costs c n^2 operations in place of c^3. By operations that pays below
    c / 3; on a processor a layer of 512 x 4608 took a third of the time at n = 196, as long at c / 5, and twice as long at c / 3.

    Raises:
        ValueError: As for `gram_matrix`.
    """
    laid_out, _, columns, positions = _laid_out(layer, inputs)
    if 8 * positions >= columns:
        return gram_matrix_batch(layer, inputs)
    return torch.stack([torch.cat([*_vectors(layer, each)], dim=-1) for each in laid_out])


def _laid_out(layer: Layer, inputs: Tensor) -> tuple[Tensor, int, int, int]:
    """Return inputs, padded as the layer pads, groups, columns, and the number of input vectors of each of the m inputs."""
    weight, _ = weight_matrices(layer)
    groups, _, columns = weight.shape
    if isinstance(layer, nn.Linear):
        needed, fits = f"(..., {columns})", inputs.ndim >= 2 and inputs.shape[-1] == columns
    else:
        needed, fits = f"(images, {layer.in_channels}, height, width)", inputs.ndim == 5 and inputs.shape[2] == layer.in_channels
    if not fits:
        what = f"inputs of shape {tuple(inputs.shape[1:])}: {type(layer).__name__} takes {needed}"
        raise ValueError(f"{what}; give those of its hook")
    inputs = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    if isinstance(layer, nn.Linear):
        return inputs, groups, columns, inputs[0].numel() // columns
    pads = layer._reversed_padding_repeated_twice  # left, right, top, bottom, also for padding="same"
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs.flatten(0, 1), pads, mode=mode).unflatten(0, inputs.shape[:2])
    positions = _positions(layer, padded)
    if min(positions) < 1:
        small = f"inputs of {inputs.shape[3]} x {inputs.shape[4]} pixels are smaller than the kernel"
        raise ValueError(f"{small} {layer.kernel_size[0]} x {layer.kernel_size[1]}; give larger images")
    return padded, groups, columns, inputs.shape[1] * positions[0] * positions[1]


def _positions(layer: nn.Conv2d, padded: Tensor) -> list[int]:
    shape = zip(padded.shape[-2:], layer.kernel_size, layer.dilation, layer.stride, strict=True)
    return [(size - d * (k - 1) - 1) // s + 1 for size, k, d, s in shape]


def _mirrored_(total: Tensor, width: int = 128) -> None:
    """Copy the lower triangle into the upper one, in blocks that fit a cache, which is five times as fast as the whole at once."""
    for start in range(0, total.shape[-1], width):
        here, rest = slice(start, start + width), slice(start + width, None)
        total[:, here, rest] = total[:, rest, here].mT
        total[:, here, here] = total[:, here, here].tril() + total[:, here, here].tril(-1).mT


def _add_outer_(total: Tensor, vectors: Tensor) -> None:
    """Add vectors @ vectors.T, of which the lower triangle is enough, to a contiguous matrix."""
    if total.device.type == "cpu":
        # Half the work of a product of matrices. BLAS takes column by column, where a row-wise matrix is its own transpose.
        syrk = blas.ssyrk if total.dtype == torch.float32 else blas.dsyrk
        syrk(1.0, vectors.contiguous().numpy().T, 1.0, total.numpy().T, trans=1, lower=0, overwrite_c=1)
    else:
        total.addmm_(vectors, vectors.T)


def _vectors(layer: Layer, padded: Tensor) -> Iterator[Tensor]:
    """Give the vectors of all output positions, (groups, c, n), of a convolution some images at a time."""
    if isinstance(layer, nn.Linear):
        yield padded.reshape(-1, padded.shape[-1]).T[None]
        return
    positions = _positions(layer, padded)
    size = padded.element_size() * padded.shape[1] * math.prod(layer.kernel_size) * math.prod(positions)
    for part in padded.split(max(1, CHUNK_BYTES // size)):
        n, c, h, w = part.stride()
        (sh, sw), (dh, dw) = layer.stride, layer.dilation
        # Patches as a view, channel by channel; the one copy that follows is twice as fast as F.unfold and its transpose.
        shape, strides = (part.shape[1], *layer.kernel_size, len(part), *positions), (c, h * dh, w * dw, n, h * sh, w * sw)
        patches = part.as_strided(shape, strides, part.storage_offset())
        yield patches.reshape(layer.groups, -1, len(part) * math.prod(positions))
