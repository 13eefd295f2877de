"""What a step of AC/DC and one of CrAM cost beside a dense one: at most 1.05 times it, and at most 1.1 times two of them.

Run with `pytest tests/benchmarks/test_sparse_training_benchmark.py`. One round is one epoch over 1,280 images of 32 pixels.
"""

import time

import pytest
import torch

from effnotes.datasets import make_faces
from effnotes.models import build_model
from effnotes.pruning import AlternatingSchedule, CompressionAware, CourseHook, PruningPlan, global_magnitude, reviving_magnitude
from effnotes.training.images import train
from effnotes.training.recipes import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS, ROUNDS = 3, 5
SCHEDULE = AlternatingSchedule(warmup=0, phase=1, phases=1, final_dense=1)  # sparse, dense, sparse: two updates in three epochs


def hooks_of(arm):
    if arm == "AC/DC":
        return [CourseHook(PruningPlan(reviving_magnitude, 0.9, SCHEDULE, revives=True), 32)]
    return [CompressionAware([(global_magnitude, 0.9), (global_magnitude, 0.5)], 0.05)] if arm == "CrAM+" else []


def test_steps_cost_what_their_passes_do():
    drawn = make_faces(1280, seed=0)
    images, labels = torch.as_tensor(drawn.images), torch.as_tensor(drawn.labels)
    recipe = Recipe(epochs=EPOCHS, batch_size=128, warmup_epochs=0, precision="float32")
    fastest = dict.fromkeys(("dense", "AC/DC", "CrAM+"), float("inf"))
    for _ in range(ROUNDS):  # in turn, so that a busy spell of the machine meets all of them
        for arm in fastest:
            model = build_model("resnet8", 12, image_size=32, seed=0)
            start = time.process_time()
            train(model, images, labels, recipe=recipe, seed=0, hooks=hooks_of(arm))
            fastest[arm] = min(fastest[arm], time.process_time() - start)
    ratios = {arm: seconds / fastest["dense"] for arm, seconds in fastest.items()}
    print({arm: round(ratio, 3) for arm, ratio in ratios.items()})
    assert ratios["AC/DC"] <= 1.05
    assert ratios["CrAM+"] <= 2 * 1.1
