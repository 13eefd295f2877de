"""The Gram matrix of a layer's inputs, which is all that layer-wise pruning needs to know of the data."""

import torch
import torch.nn.functional as F
from scipy.linalg import blas
from torch import Tensor, nn

from effnotes.models.weights import layer_weight

CHUNK_BYTES = 64_000_000  # of unfolded inputs held at a time


def weight_matrices(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, int]:
    """Give a layer's weight as (groups, rows, columns), columns channel by channel, and the taps of its kernel, 1 if linear.

    Raises:
        ValueError: The layer is of another kind, or has no weight that can be read.
    """
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ValueError(f"{type(layer).__name__} cannot be solved: layers must be Conv2d or Linear; leave it dense")
    weight = layer_weight(layer, type(layer).__name__).detach()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return weight.reshape(groups, len(weight) // groups, -1), weight[0, 0].numel()


@torch.no_grad()
def gram_matrix(layer: nn.Conv2d | nn.Linear, inputs: Tensor) -> Tensor:
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
    weight, _ = weight_matrices(layer)
    groups, _, columns = weight.shape
    if isinstance(layer, nn.Linear):
        needed, fits = f"(..., {columns})", inputs.ndim >= 1 and inputs.shape[-1] == columns
    else:
        needed, fits = f"(images, {layer.in_channels}, height, width)", inputs.ndim == 4 and inputs.shape[1] == layer.in_channels
    if not fits:
        raise ValueError(f"inputs of shape {tuple(inputs.shape)}: {type(layer).__name__} takes {needed}; give those of its hook")
    inputs = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    total = inputs.new_zeros(groups, columns, columns)
    if isinstance(layer, nn.Linear):
        _add_outer_(total[0], inputs.reshape(-1, columns).T)
    else:
        pads = layer._reversed_padding_repeated_twice  # left, right, top, bottom, also for padding="same"
        sides = (pads[2] + pads[3], pads[0] + pads[1])
        reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        free = [size + side - r for size, side, r in zip(inputs.shape[2:], sides, reach, strict=True)]
        if min(free) < 1:
            small = f"inputs of {inputs.shape[2]} x {inputs.shape[3]} pixels are smaller than the kernel"
            raise ValueError(f"{small} {layer.kernel_size[0]} x {layer.kernel_size[1]}; give larger images")
        if _lags_pay(layer, free, inputs.shape[2:]):
            size = inputs.element_size() * layer.in_channels * (free[0] + reach[0]) * (free[1] + reach[1])
            for part in inputs.split(max(1, CHUNK_BYTES // size)):
                _add_lags_(total[0], layer, part, free)
        else:
            positions = [(room - 1) // s + 1 for room, s in zip(free, layer.stride, strict=True)]
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            _add_patches_(total, layer, F.pad(inputs, pads, mode=mode), positions)
    return _mirrored_(total)


def _mirrored_(total: Tensor, width: int = 128) -> Tensor:
    """Copy the lower triangle into the upper one, in blocks that fit a cache, which is five times as fast as the whole at once."""
    for start in range(0, total.shape[-1], width):
        here, rest = slice(start, start + width), slice(start + width, None)
        total[:, here, rest] = total[:, rest, here].mT
        total[:, here, here] = total[:, here, here].tril() + total[:, here, here].tril(-1).mT
    return total


def _add_outer_(total: Tensor, vectors: Tensor, scale: float = 1.0) -> None:
    """Add scale * vectors @ vectors.T, of which the lower triangle is enough, to a contiguous matrix."""
    if total.device.type == "cpu":
        # Half the work of a product of matrices. BLAS takes column by column, where a row-wise matrix is its own transpose.
        syrk = blas.ssyrk if total.dtype == torch.float32 else blas.dsyrk
        syrk(scale, vectors.contiguous().numpy().T, 1.0, total.numpy().T, trans=1, lower=0, overwrite_c=1)
    else:
        total.addmm_(vectors, vectors.T, alpha=scale)


def _add_patches_(total: Tensor, layer: nn.Conv2d, padded: Tensor, positions: list[int]) -> None:
    """Add the patches of all output positions, some images or some rows of one image at a time."""
    (height, width), groups, columns = positions, *total.shape[:2]
    row_bytes = groups * columns * width * padded.element_size()
    rows = max(1, min(height, CHUNK_BYTES // row_bytes))
    for part in padded.split(max(1, CHUNK_BYTES // (row_bytes * height))):
        n, c, h, w = part.stride()
        (sh, sw), (dh, dw) = layer.stride, layer.dilation
        for top in range(0, height, rows):
            # Patches as a view, channel by channel; the one copy that follows is twice as fast as F.unfold and its transpose.
            size = (padded.shape[1], *layer.kernel_size, len(part), min(rows, height - top), width)
            strides = (c, h * dh, w * dw, n, h * sh, w * sw)
            patches = part.as_strided(size, strides, part.storage_offset() + top * sh * h).reshape(groups, columns, -1)
            for one, patch in zip(total, patches, strict=True):
                _add_outer_(one, patch)


def _lags_pay(layer: nn.Conv2d, positions: list[int], size: torch.Size) -> bool:
    """Whether `_add_lags_` holds for a convolution and takes clearly less work than its patches."""
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    if layer.stride != (1, 1) or layer.groups > 1 or layer.padding_mode != "zeros" or (left, top) != (right, bottom):
        return False
    held = (size[0] + top, size[1] + left)
    if positions[0] > held[0] or positions[1] > held[1]:
        return False
    (kh, kw), every, valid = layer.kernel_size, held[0] * held[1], positions[0] * positions[1]
    lags = ((2 * kh - 1) * (2 * kw - 1) + 1) // 2
    return 2 * lags * every + (kh * kw) ** 2 * (every - valid) < 0.6 * (kh * kw) ** 2 * valid


def _add_lags_(total: Tensor, layer: nn.Conv2d, inputs: Tensor, positions: list[int]) -> None:
    """Add the patches of all output positions of a convolution of stride 1, without ever making them.

    Written one row after the other, with zeros between rows and between images, what two taps of a kernel see differs by a fixed
    lag. Summed over *all* places, valid ones or not, their products depend on the lag alone: 13 products of matrices for a 3x3
    kernel in place of the 45 blocks of a triangle. The patches of the places that are no output position are then taken away.
    """
    pw, _, ph, _ = layer._reversed_padding_repeated_twice
    (height, width), channels = inputs.shape[2:], layer.in_channels
    stride, count = width + pw, len(inputs) * (height + ph) * (width + pw)
    steps = [torch.arange(k, device=inputs.device) * d for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    taps = (steps[0][:, None] * stride + steps[1]).flatten()
    end = int(taps[-1])
    line = inputs.new_zeros(channels, count + 2 * end)
    line[:, end : end + count] = F.pad(inputs, (pw, 0, ph, 0)).transpose(0, 1).reshape(channels, -1)
    blocks, lags = total.view(channels, len(taps), channels, len(taps)), taps - taps[:, None]
    for lag in lags[lags >= 0].unique().tolist():
        product = line[:, end : end + count] @ line[:, end + lag : end + lag + count].T
        for one, other in (lags == lag).nonzero().tolist():
            blocks[:, one, :, other] += product
            if lag:
                blocks[:, other, :, one] += product.T
    invalid = torch.ones(len(inputs), height + ph, stride, dtype=torch.bool, device=inputs.device)
    invalid[:, : positions[0], : positions[1]] = False
    places = F.pad(invalid.flatten(), (end, 0), value=True).nonzero().flatten()
    _add_outer_(total, line[:, (places + taps[:, None]).flatten()].view(channels * len(taps), -1), -1.0)
