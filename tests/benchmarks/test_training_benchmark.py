"""Images per second of training on one thread: dense, with this library's masks, and with those of `torch.nn.utils.prune`.

Run with `pytest tests/benchmarks/test_training_benchmark.py`. One round is one epoch over 1,280 images of 32 pixels.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from effnotes.datasets import make_faces
from effnotes.models import build_model
from effnotes.pruning import PruningHook, global_magnitude
from effnotes.training.hardware import resolve_precision
from effnotes.training.images import normalize, train
from effnotes.training.recipes import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = 1280


@pytest.fixture(scope="module")
def faces():
    drawn = make_faces(IMAGES, seed=0)
    return torch.as_tensor(drawn.images), torch.as_tensor(drawn.labels)


def new_model():
    return build_model("resnet8", 12, image_size=32, seed=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("masking", ["dense", "masked", "torch.nn.utils.prune"])
def test_training_epoch(benchmark, faces, masking, precision):
    images, labels = faces
    model = new_model()
    masks = None if masking == "dense" else global_magnitude(model, 0.9)
    recipe = Recipe(epochs=1, warmup_epochs=0, precision=precision)
    if masking == "torch.nn.utils.prune":
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                prune.custom_from_mask(module, "weight", masks[f"{name}.weight"])
        benchmark.pedantic(plain_epoch, (model, images, labels, recipe), rounds=5, warmup_rounds=1)
    else:
        benchmark.pedantic(
            train,
            (model, images, labels),
            {"recipe": recipe, "hooks": [PruningHook(masks=masks)], "seed": 0},
            rounds=5,
            warmup_rounds=1,
        )
    benchmark.extra_info["images_per_second"] = IMAGES / benchmark.stats.stats.min


def plain_epoch(model, images, labels, recipe):
    """The same steps for a model whose masks are a reparametrisation, which `train` does not know; images are not shifted."""
    model.to(memory_format=torch.channels_last).train()
    dtype = resolve_precision(recipe.precision, torch.device("cpu"))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
    for batch, targets in zip(images.split(recipe.batch_size), labels.float().split(recipe.batch_size), strict=True):
        inputs = normalize(batch).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model(inputs)
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
