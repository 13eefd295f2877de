"""How a model is pretrained, as settings alone: a plan checks them before anything that trains is loaded."""

import math
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from effnotes.core.settings import settings

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


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
