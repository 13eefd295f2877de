"""What a classifier says of each of its training images, visit by visit, while it is trained."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effnotes.training.loop import Hook


class Dynamics(Hook):
    """Hook of `effnotes.training.train` with `loss="softmax"` that records margins and errors, one row an epoch.

    Recorded is what the network gives in training mode for the image as it was shifted and flipped, before the step that learns
    from it, as in the code of CCS and ELFS; a later pass in evaluation mode would give other scores.

    Args:
        n: Training images.

    Attributes:
        margins: (epochs, n) p(y) - max over c != y of p(c).
        errors: (epochs, n) Euclidean norm of one-hot(y) - p.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.margins = self.errors = torch.empty(0, n)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> None:  # noqa: ARG002
        """Make room for so many epochs."""
        self.margins, self.errors = torch.full((2, parts, self.n), torch.nan)

    def before_part(self, part: int) -> None:
        """Turn to the row of an epoch."""
        self.part = part

    def observe(self, batch: Any, outputs: Tensor) -> None:
        """Record what the logits of a batch say of its images."""
        probabilities = outputs.softmax(1)
        truth = F.one_hot(batch.targets, outputs.shape[1])
        true = (probabilities * truth).sum(1)
        rows = batch.rows.cpu()
        self.margins[self.part, rows] = (true - (probabilities - 2 * truth).amax(1)).cpu()
        self.errors[self.part, rows] = torch.linalg.vector_norm(truth - probabilities, dim=1).cpu()

    def state(self) -> dict[str, Tensor]:
        """Give what was recorded."""
        return {"dynamics.margins": self.margins, "dynamics.errors": self.errors}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take it back."""
        self.margins, self.errors = tensors["dynamics.margins"].clone(), tensors["dynamics.errors"].clone()
