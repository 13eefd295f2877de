"""What a trace costs: one layer by each solver, beside the literal sweep, the authors' blocking and exact OBS.

Run with `pytest -o addopts= --import-mode=importlib tests/benchmarks/test_trace_benchmark.py`. All times are CPU seconds on one
thread, each the least of a few runs.
"""

import time

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from effnotes.pruning import gram_matrix, gram_matrix_batch, kept_count, layer_statistics, solve_layer, solve_layer_batch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def one_thread_of_lapack():
    """SciPy's LAPACK has threads of its own, whose waiting would count as CPU time."""
    with threadpool_limits(1):
        yield


LAYERS = {
    "64x576": nn.Conv2d(64, 64, 3),
    "256x2304": nn.Conv2d(256, 256, 3),
    "512x4608": nn.Conv2d(512, 512, 3),
    "512x2048": nn.Conv2d(2048, 512, 1),
    "2048x512": nn.Conv2d(512, 2048, 1),
    "1000x2048": nn.Linear(2048, 1000),
}
LEVEL = 0.7


def cpu_seconds(work, rounds):
    """The least CPU time of a few runs, and what the last of them gave."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def correlated_gram(columns):
    """Of rectified inputs that are correlated, as a network's are; twice as many positions as columns."""
    torch.manual_seed(0)
    inputs = (torch.randn(2 * columns, columns) @ torch.randn(columns, columns) / columns**0.5).relu_()
    return inputs.T @ inputs


@pytest.mark.parametrize("name", LAYERS)
def test_sparsegpt_beside_its_literal_forms(benchmark, oracles, name):
    """Goals: 4 times as fast as the authors' blocking on 1x1 and fc layers, 1.5 times on 3x3; 3 times as fast as the sweep."""
    layer = LAYERS[name]
    weight = layer.weight.detach().flatten(1)
    taps, gram = layer.weight[0, 0].numel(), correlated_gram(weight.shape[1])
    keep = kept_count(len(weight) * taps, LEVEL)
    found = benchmark.pedantic(lambda: solve_layer(layer, gram[None], LEVEL), rounds=1, warmup_rounds=1)
    ours, _ = cpu_seconds(lambda: solve_layer(layer, gram[None], LEVEL), 4)
    authors, blocked = cpu_seconds(lambda: oracles.blocked_like_the_authors(weight, gram, taps, keep), 2)
    literal, swept = cpu_seconds(lambda: oracles.literal_sweep(weight, gram, taps, keep), 1)
    benchmark.extra_info |= {
        "cpu_seconds": round(ours, 4),
        "authors_over_ours": round(authors / ours, 2),
        "literal_over_ours": round(literal / ours, 2),
        "error": found.error,
    }
    for other, _ in (blocked, swept):
        assert found.error == pytest.approx(oracles.relative_error(weight, other, gram), rel=0.01)
    assert authors / ours >= (4 if taps == 1 else 1.5)
    assert literal / ours >= 3


@pytest.mark.parametrize(("name", "images"), [("1000x2048", 32), ("512x4608", 4), ("512x4608", 8)])
def test_few_input_vectors_beside_their_gram_matrix(benchmark, name, images):
    """Goal: faster wherever `layer_statistics` gives the vectors themselves; statistics and solution are counted together."""
    torch.manual_seed(0)
    layer = LAYERS[name]
    inputs = torch.randn(1, images, layer.in_features).relu() if name == "1000x2048" else torch.randn(1, images, 512, 9, 9).relu()
    assert layer_statistics(layer, inputs).shape[-1] < layer.weight[0].numel()

    def solve(statistics):
        return solve_layer_batch(layer, statistics(layer, inputs), LEVEL)[0]

    found = benchmark.pedantic(lambda: solve(layer_statistics), rounds=1, warmup_rounds=1)
    few, _ = cpu_seconds(lambda: solve(layer_statistics), 3)
    gram, other = cpu_seconds(lambda: solve(gram_matrix_batch), 3)
    benchmark.extra_info |= {"cpu_seconds": round(few, 4), "gram_over_few": round(gram / few, 2)}
    # In float32 a few per cent of the mask differ, as anything does where ranks are this low.
    assert found.error == pytest.approx(other.error, rel=0.03)
    assert gram > few


@pytest.mark.parametrize(("name", "rows"), [("64x576", 8), ("256x2304", 1)])
@pytest.mark.parametrize("solver", ["exact_obs", "exact_obs_kernel"])
def test_exact_obs_takes_20_times_as_long(benchmark, name, rows, solver):
    """Its rows are independent until the selection, so a few of them stand for all; unstructured only on the small layer."""
    if solver == "exact_obs" and rows == 1:
        pytest.skip("2,304 steps of a row take minutes")
    layer, few = LAYERS[name], nn.Conv2d(LAYERS[name].in_channels, rows, 3)
    few.weight.data = layer.weight[:rows].detach().clone()
    gram = correlated_gram(few.weight[0].numel())[None]
    ours, _ = cpu_seconds(lambda: solve_layer(layer, gram, LEVEL), 4)
    found = benchmark.pedantic(lambda: solve_layer(few, gram, LEVEL, solver=solver), rounds=1)
    ratio = found.seconds / rows * len(layer.weight) / ours
    benchmark.extra_info |= {"sparsegpt_cpu_seconds": round(ours, 4), "exact_over_sparsegpt": round(ratio)}
    assert ratio >= 20


@pytest.mark.parametrize(("channels", "size"), [(64, 56), (128, 28), (256, 14), (512, 7)])
def test_gram_matrix_of_32_images(benchmark, channels, size):
    """The 3x3 layers of ResNet-18, in thousand millions of multiplications and additions a second, counting c^2 a position."""
    layer, inputs = nn.Conv2d(channels, channels, 3, padding=1), torch.rand(32, channels, size, size)
    benchmark.pedantic(lambda: gram_matrix(layer, inputs), rounds=1, warmup_rounds=1)
    seconds, gram = cpu_seconds(lambda: gram_matrix(layer, inputs), 2)
    operations = gram.shape[1] ** 2 * 32 * size**2
    benchmark.extra_info |= {"cpu_seconds": round(seconds, 4), "gflops": round(operations / seconds / 1e9)}
