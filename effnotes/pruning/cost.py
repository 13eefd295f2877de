"""What a model costs: weights, bytes and time, side by side, so that nobody reads speed into zeros."""

import time
from typing import NamedTuple

import torch
from torch import nn

from effnotes.core.checks import check_range
from effnotes.models.modes import evaluating
from effnotes.models.weights import check_finite, like_weights
from effnotes.pruning.masks import effective_sparsity, prunable_parameters, size_on_disk

_WARM_UPS = 3


class ModelCost(NamedTuple):
    """Size and speed of a model as it is, its zeros counted whatever made them zero."""

    effective_sparsity: float  # share of zeros among the prunable weights, in [0, 1]
    remaining_weights: int  # prunable weights that are not zero
    dense_bytes: int  # safetensors file with every zero written out
    sparse_bytes: int  # safetensors file with one bit for each prunable weight and the values that are not zero
    latency_ms: float  # fastest batch, with PyTorch's dense kernels, which compute with the zeros; see `measure_latency`


def measure_latency(model: nn.Module, image_size: int, *, batch_size: int = 100, repeats: int = 15) -> float:
    """Measure how long a model takes for one batch of images, in evaluation mode and on its own device.

    On a CPU it runs on one thread, whatever PyTorch is set to, so that figures from machines of different width and from processes
    side by side can be compared. Three batches go ahead unmeasured. The images are zeros: dense kernels take the same time
    for any. Setting the number of threads and the training mode of the modules are as before afterwards.

    Args:
        model: Maps images (n, 3, image_size, image_size), in the type of its weights, to a tensor.
        image_size: Height and width in pixels, at least 1.
        batch_size: Images a batch, at least 1.
        repeats: Batches that are measured, at least 1.

    Returns:
        Milliseconds of the fastest batch: the one that other work on the machine disturbed least.

    Raises:
        ValueError: A number is below 1.
    """
    check_range(1, image_size=image_size, batch_size=batch_size, repeats=repeats)
    images = like_weights(model, torch.zeros(batch_size, 3, image_size, image_size))
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), evaluating(model):
            for _ in range(_WARM_UPS + repeats):
                start = time.perf_counter()
                model(images).cpu()  # waits for a GPU
                times.append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return min(times[_WARM_UPS:])


def model_cost(model: nn.Module, image_size: int, *, batch_size: int = 100, repeats: int = 15) -> ModelCost:
    """Count a model's weights and zeros, and measure its bytes on disk and its time for a batch.

    Zeros save bytes in a format made for them and no time in dense kernels; the report of Blalock et al. ("What is the State of
    Neural Network Pruning?", MLSys 2020) on how seldom papers say which they mean is the reason to give all of it.

    Args:
        model: The network with its masks applied; it is not changed.
        image_size: Height and width of its square images, in pixels.
        batch_size: Images a batch of the latency.
        repeats: Batches that are measured.

    Raises:
        ValueError: A number is below 1, or the model has no prunable layer, or weights that are NaN or infinite.
    """
    weights = prunable_parameters(model).values()
    check_finite(model)
    remaining = sum(int(weight.count_nonzero()) for weight in weights)
    latency_ms = measure_latency(model, image_size, batch_size=batch_size, repeats=repeats)
    return ModelCost(effective_sparsity(model), remaining, *size_on_disk(model), latency_ms)
