"""How networks are trained: settings that are checked before torch is loaded."""

import dataclasses
import math
from typing import Annotated, Literal

from pydantic import Field

from effnotes.core.settings import settings

LabelKind = Literal["binary", "softmax"]
Share = Annotated[float, Field(ge=0, le=1)]


@settings
class Recipe:
    """How a model is trained; one recipe serves the dense model and all its pruned versions.

    The defaults train the narrow ResNet on a few thousand 32-pixel images. `PUBLISHED_GMP_RI` and `PUBLISHED_GMP_PT` are the
    recipes for CelebA at full size.

    Raises:
        ValueError: A field is out of range.
    """

    epochs: int = Field(12, ge=1)  # passes over the training images
    batch_size: int = Field(128, ge=2)  # images a step; an epoch is cut into equal batches of at most this size
    learning_rate: float = Field(0.1, gt=0)  # peak, reached at the end of the warm-up
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)  # SGD only
    weight_decay: float = Field(1e-4, ge=0)  # L2 penalty on all parameters
    warmup_epochs: float = Field(1.0, ge=0)  # linear warm-up, step by step
    decay: Literal["cosine", "constant"] = "cosine"  # after the warm-up, step by step: to zero, or none
    max_shift: int = Field(1, ge=0)  # random shift in pixels a side, of images in memory; borders are replicated, not wrapped
    flip: bool = False  # mirror each image with probability 1/2; for attributes without a left and a right; images in memory only
    loss: LabelKind = "binary"  # cross-entropy of each label by itself, or, of classes that exclude one another, of their softmax
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of activations; see `resolve_precision`

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: longer than the {self.epochs} epochs of training")

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Give the learning rate of a step, counted from 0 over the whole run.

        Over W warm-up steps lr (step + 1) / W; after them lr (1 + cos(pi (step - W) / (total - W))) / 2, or lr with constant decay.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.decay == "constant":
            return self.learning_rate
        return 0.5 * self.learning_rate * (1 + math.cos(math.pi * ((step - warmup) / (self.epochs * steps_per_epoch - warmup))))


PUBLISHED_GMP_RI = Recipe(
    100, batch_size=256, learning_rate=0.256, momentum=0.875, weight_decay=2**-15, warmup_epochs=5, max_shift=0, precision="float32"
)
"""Recipe of the dense and the GMP-RI models of Iofinova, Peste & Alistarh (CVPR 2023, official code), for `celeba_transforms`.

What differs: the original sets the learning rate once an epoch and zeroes the momentum after every epoch; here the rate changes
with every step and the momentum stays. Its dense ResNet-18 configuration has no weight decay, its sparse ones have 2^-15; here
both have it, or the comparison would measure the recipe. Its batches hold 256 images and the last of an epoch fewer; here all are
equal. It keeps the best epoch by validation accuracy beside the last; here there is only the last.
"""

PUBLISHED_GMP_PT = dataclasses.replace(
    PUBLISHED_GMP_RI, epochs=80, optimizer="adam", learning_rate=1e-4, decay="constant", weight_decay=0.0, warmup_epochs=0
)
"""Recipe by which Iofinova, Peste & Alistarh (CVPR 2023, official code) prune a trained dense model (GMP-PT), 80 epochs long.

What differs: the original starts the runs of all seeds from one dense checkpoint, so that its seeds vary the fine-tuning alone;
for independent replicates give each seed a parent of its own. Dense model and fine-tuning together take 180 epochs, where a
GMP-RI model takes 100.
"""


@settings
class PretrainingRecipe:
    """How a model learns a world, and when it knows it.

    The corpus is read in its own order, whole `passes` times. Then the model is asked for its facts; while it knows too few, it is
    trained on further sentences, at most `most_extensions` times. The defaults are for worlds of a few thousand facts.

    Raises:
        ValueError: A field is out of range.
    """

    passes: int = Field(1, ge=1)  # times that the corpus is read; how often each fact stands in it is the world's `repeats`
    batch_size: int = Field(256, ge=1)  # sentences a step
    learning_rate: float = Field(4e-3, gt=0)  # peak, reached at the end of the warm-up
    final_share: Share = 0.05  # of the peak, where the cosine ends
    warmup_steps: int = Field(100, ge=0)  # linear; at most a tenth of all steps
    betas: tuple[float, float] = (0.9, 0.95)  # of AdamW
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)  # largest norm of the gradient
    precision: Literal["float32", "bfloat16"] = "float32"  # of activations
    extension_steps: int = Field(200, ge=1)
    extension_share: Share = 0.1  # of the peak, the learning rate of an extension
    most_extensions: int = Field(4, ge=0)
    recall: Share = 0.999  # share of facts to be known in the world's commonest template
    recall_elsewhere: Share = 0.995  # share of facts to be known in each other template
    probability: Share = 0.97  # mean probability of the right answers, in each template
    most_asked: int = Field(20_000, ge=1)  # facts asked for in each template; of more, this many are drawn
    checkpoint_steps: int = Field(200, ge=1)  # steps between two checkpoints, roughly

    def learning_rate_at(self, step: int, total: int) -> float:
        """Give the learning rate of a step, counted from 0, of `total` steps; behind them that of an extension."""
        warmup = min(self.warmup_steps, total // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if step >= total:
            return self.learning_rate * self.extension_share
        progress = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * (self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))
