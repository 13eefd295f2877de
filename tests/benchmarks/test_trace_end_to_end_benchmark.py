"""CPU seconds and memory of one trace: large networks against the floor of their operations, the chapter's network, and its parts.

Run with `pytest -s -o addopts= --import-mode=importlib tests/benchmarks/test_trace_end_to_end_benchmark.py`. The floor is made of
FastSPADE's operations, each at the rate that this machine has for it in the same run, on one thread: the network's convolutions
alone, SYRK, Cholesky (2/3 c^3 for a factor and its inverse; the library needs half of that, as in what is printed as the strict
floor) and a product of matrices. Other work on the machine slows all of it, though not all to the same degree.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from scipy.linalg import blas, lapack
from torch import nn

from effnotes.interpretation import TraceRequest, trace, trace_batch
from effnotes.models import build_model

pytestmark = pytest.mark.usefixtures("one_thread")

VIEWS = 32
# In a process of its own, so that no memory that was freed before is used again unseen.
TRACED = """
import json, resource, sys, time
import psutil, torch
from effnotes.interpretation import trace
from effnotes.models import build_model
torch.set_num_threads(1)
model = build_model(sys.argv[1], 10, image_size=224, seed=0).eval()
image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
trace(build_model("resnet8", 10, image_size=32, seed=0).eval(), image[:, :32, :32].contiguous(), n=2)
before, start = psutil.Process().memory_info().rss, time.process_time()
found = trace(model, image, n=int(sys.argv[2]))
total = time.process_time() - start
growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
print(json.dumps({"total": total, "growth": growth, **found.seconds}))
"""


def rate(operations: float, work: Callable[[], object], times: int = 3) -> float:
    """Operations a CPU second, the best of several times."""
    work()
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return operations / min(seconds)


def operations(model: nn.Module) -> tuple[dict[str, float], Callable[[], object]]:
    """Floating-point operations of a trace's stages (a multiplication and an addition are two; SYRK half of a full product).

    Beside it a function that does all convolutions and linear layers for two views, without what lies between them.
    """
    found = dict.fromkeys(("forward", "gram", "factor", "sweep"), 0.0)
    calls = []
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))

    def count(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        calls.append((layer.forward, torch.randn(2, *inputs[0].shape[1:])))
        rows, columns = layer.weight.flatten(1).shape
        positions = VIEWS * output.numel() / rows
        found["forward"] += 2 * positions * rows * columns
        if layer is not first:
            found["gram"] += positions * columns**2
            found["factor"] += 2 / 3 * columns**3
            found["sweep"] += rows * columns**2

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    return found, torch.no_grad()(lambda: [forward(inputs) for forward, inputs in calls])


def rates(forward: float, layers: Callable[[], object]) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    vectors, square = torch.randn(2304, 6272, generator=generator), torch.randn(1024, 1024, generator=generator)
    definite = (vectors @ vectors.T).numpy()
    return {
        "forward": rate(forward * 2 / VIEWS, layers),
        "gram": rate(6272 * 2304**2, lambda: blas.ssyrk(1.0, vectors.numpy().T, trans=1)),
        "factor": rate(2304**3 / 3, lambda: lapack.spotrf(definite, lower=1)),
        "sweep": rate(2 * 1024**3, lambda: square @ square),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_large_network_against_its_floor(name: str) -> None:
    model = build_model(name, 10, image_size=224, seed=0).eval()
    needed, layers = operations(model)
    before = rates(needed["forward"], layers)
    command = [sys.executable, "-c", TRACED, name, str(VIEWS)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after = rates(needed["forward"], layers)  # the machine may have been slower or faster meanwhile
    floor = {stage: 2 * needed[stage] / (before[stage] + after[stage]) for stage in needed}
    whole = sum(floor.values())
    print(f"\n{name}, n = {VIEWS}: {found['total']:.1f} CPU s, {found['total'] / whole:.2f} times the floor of {whole:.1f}")
    print(f"  strict floor: {whole - floor['factor'] / 2:.1f}")
    print("  floor by stage: " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in floor.items()))
    print("  trace by stage: " + ", ".join(f"{key} {found[key]:.2f}" for key in ("augment", "forward", "gram", "solve", "judge")))
    print(f"  rates, GFLOP a CPU s: {', '.join(f'{stage} {each / 1e9:.0f}' for stage, each in before.items())}")
    print(f"  peak growth {found['growth'] / 1e6:.0f} MB")
    assert found["total"] <= 1.7 * whole
    assert found["growth"] <= 1e9


@pytest.mark.parametrize("width", [16, 32])
def test_the_chapters_network(benchmark, width: int) -> None:
    model = build_model("resnet8", 10, image_size=32, width=width, seed=0).eval()
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seconds = []

    def once() -> None:
        start = time.process_time()
        found = trace(model, image, n=16, augment="small")
        seconds.append(time.process_time() - start)
        benchmark.extra_info |= {stage: round(each, 4) for stage, each in found.seconds.items()}

    benchmark.pedantic(once, rounds=10, warmup_rounds=1)
    print(f"\nresnet8, width {width}, n = 16: {min(seconds):.3f} to {max(seconds):.3f} CPU s, {benchmark.extra_info}")
    assert min(seconds) <= 0.25


@pytest.mark.parametrize("width", [16, 32])
def test_the_chapters_network_in_batches_of_16(benchmark, width: int) -> None:
    model = build_model("resnet8", 10, image_size=32, width=width, seed=0).eval()
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seconds = []

    def once() -> None:
        start = time.process_time()
        found = trace_batch(model, images, [TraceRequest()], n=16, augment="small")
        seconds.append((time.process_time() - start) / len(images))
        benchmark.extra_info |= {stage: round(each, 4) for stage, each in found[0][0].seconds.items()}

    benchmark.pedantic(once, rounds=4, warmup_rounds=1)
    print(f"\nresnet8, width {width}, n = 16, batches of 16: {min(seconds):.3f} to {max(seconds):.3f} CPU s an image")
    assert min(seconds) <= 0.1
