"""What a model costs: weights, bytes and time, side by side, so that nobody reads speed into zeros."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from effnotes.core.checks import check_range
from effnotes.models.modes import evaluating
from effnotes.pruning.masks import prunable_parameters, size_on_disk

_WARM_UPS = 3


class Latency(NamedTuple):
    """Time of one batch, in milliseconds."""

    fastest_ms: float  # the repeat that other work on the machine disturbed least
    median_ms: float  # what is usual on the machine as busy as it was


@dataclass(frozen=True)
class ModelCost:
    """Size and speed of a model as it is, its zeros counted whatever made them zero."""

    parameters: int  # all, biases and normalisation included
    prunable_weights: int  # those of the convolutional and linear layers
    remaining_weights: int  # prunable weights that are not zero
    effective_sparsity: float  # share of zeros among the prunable weights, in [0, 1]
    overall_sparsity: float  # share of zeros among all parameters, in [0, 1]; biases that are still 0 count
    dense_bytes: int  # safetensors file with every zero written out
    sparse_bytes: int  # safetensors file with one bit for each prunable weight and the values that are not zero
    latency_ms: float  # fastest batch, with PyTorch's dense kernels, which compute with the zeros; see `measure_latency`
    median_latency_ms: float  # median batch of the same measurement


def measure_latency(model: nn.Module, image_size: int, *, batch_size: int = 100, repeats: int = 15) -> Latency:
    """Measure how long a model takes for one batch of images, in evaluation mode and on its own device.

    On a CPU it runs on one thread, whatever PyTorch is set to, so that figures from machines of different width and from processes
    side by side can be compared. Three batches go ahead unmeasured. The images are zeros: dense kernels take the same time
    for any. Setting the number of threads and the training mode of the modules are as before afterwards.

    Args:
        model: Maps images (n, 3, image_size, image_size), float32, to a tensor.
        image_size: Height and width in pixels, at least 1.
        batch_size: Images a batch, at least 1.
        repeats: Batches that are measured, at least 1.

    Raises:
        ValueError: A number is below 1.
    """
    check_range(1, image_size=image_size, batch_size=batch_size, repeats=repeats)
    images = torch.zeros(batch_size, 3, image_size, image_size, device=next(model.parameters()).device)
    times = []
    with torch.inference_mode(), evaluating(model), _one_thread():
        for _ in range(_WARM_UPS + repeats):
            start = time.perf_counter()
            model(images).cpu()  # waits for a GPU
            times.append(1000 * (time.perf_counter() - start))
    return Latency(min(times[_WARM_UPS:]), statistics.median(times[_WARM_UPS:]))


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
        ValueError: A number is below 1, or the model has no prunable layer.
    """
    weights = list(prunable_parameters(model).values())
    prunable = sum(weight.numel() for weight in weights)
    remaining = sum(int(weight.count_nonzero()) for weight in weights)
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    dense_bytes, sparse_bytes = size_on_disk(model)
    fastest_ms, median_ms = measure_latency(model, image_size, batch_size=batch_size, repeats=repeats)
    return ModelCost(
        parameters=total,
        prunable_weights=prunable,
        remaining_weights=remaining,
        effective_sparsity=1 - remaining / prunable,
        overall_sparsity=1 - sum(int(parameter.count_nonzero()) for parameter in parameters) / total,
        dense_bytes=dense_bytes,
        sparse_bytes=sparse_bytes,
        latency_ms=fastest_ms,
        median_latency_ms=median_ms,
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
