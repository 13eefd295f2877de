"""What pruning itself costs: an update of the masks by each method, and masked steps against dense ones.

Run with `pytest tests/benchmarks/test_pruning_benchmark.py`.
"""

import time

import pytest
import torch

from effnotes.datasets import make_faces
from effnotes.models import build_model
from effnotes.pruning import (
    NMMagnitude,
    PruningHook,
    global_magnitude,
    model_cost,
    prunable_parameters,
    random_choice,
    reviving_magnitude,
    uniform_magnitude,
)
from effnotes.training.images import train
from effnotes.training.recipes import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = {
    "global": (global_magnitude, 0.9),
    "uniform": (uniform_magnitude, 0.9),
    "2:4": (NMMagnitude(), 0.5),
    "random": (random_choice, 0.9),
    "reviving": (reviving_magnitude, 0.9),
}


@pytest.mark.parametrize("name", METHODS)
def test_update_of_the_masks(benchmark, name):
    """ResNet-18 for 40 labels, 11,187,392 prunable weights."""
    model = build_model("resnet18", 40, image_size=64, seed=0)
    assert sum(weight.numel() for weight in prunable_parameters(model).values()) == 11_187_392
    method, level = METHODS[name]
    benchmark.pedantic(
        lambda: method(model, level, generator=torch.Generator().manual_seed(0)), rounds=3, warmup_rounds=1, iterations=1
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_masked_steps_beside_dense_ones(benchmark, precision):
    """Epochs in turn, so that a busy machine slows both; processor time, on one thread. `masked_over_dense` may reach 1.05."""
    faces = make_faces(1280, seed=0)
    images, labels = torch.as_tensor(faces.images), torch.as_tensor(faces.labels)
    recipe = Recipe(epochs=1, warmup_epochs=0, precision=precision)
    seconds = {"dense": [], "masked": []}

    def one_epoch_each():
        for masking, times in seconds.items():
            model = build_model("resnet8", 12, image_size=32, seed=0)
            masks = None if masking == "dense" else global_magnitude(model, 0.9)
            start = time.process_time()
            train(model, images, labels, recipe=recipe, hooks=[PruningHook(masks=masks)], seed=0)
            times.append(time.process_time() - start)

    benchmark.pedantic(one_epoch_each, rounds=10, warmup_rounds=1)
    fastest = {masking: min(times) for masking, times in seconds.items()}
    benchmark.extra_info["images_per_cpu_second"] = {masking: round(1280 / best) for masking, best in fastest.items()}
    benchmark.extra_info["masked_over_dense"] = round(fastest["masked"] / fastest["dense"], 3)


def test_cost_of_a_model(benchmark):
    model = build_model("resnet8", 12, image_size=32, seed=0)
    benchmark.pedantic(model_cost, (model, 32), rounds=3, warmup_rounds=1)
