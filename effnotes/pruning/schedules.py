"""When masks are updated and to which sparsity.

Epochs are counted from 0, and an update at epoch e happens before the first step of that epoch.
"""

import math
from typing import Annotated, Protocol

from pydantic import Field

from effnotes.core.settings import settings


class Schedule(Protocol):
    """When to prune how far: maps a target to the level of each update."""

    def levels(self, target: float) -> dict[int, float]:
        """Give the sparsity to reach at the start of each epoch that has an update, in order of time."""
        ...


def cubic_level(progress: float, target: float, initial: float = 0.05) -> float:
    """Give the sparsity of the cubic schedule: s(t) = target - (target - initial) (1 - t)^3.

    Zhu & Gupta, "To prune, or not to prune" (2017), equation 1. Most weights go early, while the network can still recover.

    Args:
        progress: Time t since the first update as a fraction of the pruning period; values beyond [0, 1] are clipped.
        target: Final sparsity.
        initial: Sparsity of the first update.
    """
    remaining = 1 - min(1.0, max(0.0, progress))
    return target - (target - initial) * remaining**3


@settings
class CubicSchedule:
    """Gradual pruning at epochs start, start + frequency, ... < end along `cubic_level`.

    Progress is (epoch - start) / (end - start), as in the code of Iofinova, Peste & Alistarh (CVPR 2023). There the last update
    comes before `end` and may stop short of the target (0.99466 instead of 0.995 over [2, 1, 16]); here the last update always
    goes to the target itself, so a sparse model has the sparsity that its label says.
    """

    start: Annotated[int, Field(ge=0)]  # epoch of the first update
    end: int  # the updates come before this epoch
    frequency: int = Field(1, ge=1)  # epochs from one update to the next
    initial: float = Field(0.05, ge=0, lt=1)  # sparsity of the first update

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise ValueError(f"start={self.start}, end={self.end}: needs start < end, in epochs")

    def levels(self, target: float) -> dict[int, float]:
        """Give the sparsity to reach at the start of each epoch with an update; the last one is `target`.

        Raises:
            ValueError: `target` is below the initial sparsity.
        """
        if target < self.initial:
            raise ValueError(f"target={target} lies below the first level {self.initial}; lower `initial`")
        span = self.end - self.start
        epochs = range(self.start, self.end, self.frequency)
        levels = {epoch: cubic_level((epoch - self.start) / span, target, self.initial) for epoch in epochs}
        levels[epochs[-1]] = target
        return levels


@settings
class OneShotSchedule:
    """A single update straight to the target at the start of one epoch."""

    epoch: int = Field(0, ge=0)  # epoch of the update

    def levels(self, target: float) -> dict[int, float]:
        """Give the one update, `{epoch: target}`."""
        return {self.epoch: target}


@settings
class AlternatingSchedule:
    """Alternating compressed and dense phases (AC/DC), from a dense warm-up to a compressed end.

    Peste, Iofinova, Vladu & Alistarh, "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks" (NeurIPS
    2021). The defaults are their 100 epochs for ImageNet, as in the official code: pruned at epochs 10, 20, ..., 70, dense again
    at 15, 25, ..., 65 and for the last time at 75, pruned for good at 85. Every compressed phase has the full target.

    Raises:
        ValueError: A field is out of range.
    """

    warmup: int = Field(10, ge=0)  # dense epochs before the first compressed phase
    phase: int = Field(5, ge=1)  # epochs of each alternating phase
    phases: int = Field(13, ge=1)  # alternating phases; odd, because the first and the last are compressed
    final_dense: int = Field(10, ge=1)  # epochs of the dense phase before the final compressed one

    def __post_init__(self) -> None:
        if self.phases % 2 == 0:
            raise ValueError(f"phases={self.phases}: must be odd, because the first and the last phase are compressed")

    @classmethod
    def for_epochs(cls, epochs: int) -> "AlternatingSchedule":
        """Scale the published phases to a run of another length: as many as fit, of one epoch at least.

        The warm-up takes 10% of the epochs, a phase 5%, the final dense phase 10% and the final compressed one 15% and what
        is left over.

        Raises:
            ValueError: Fewer than 4 epochs: there is no room for a warm-up, a compressed, a dense and a compressed phase.
        """
        if epochs < 4:
            raise ValueError(f"epochs={epochs}: AC/DC needs at least 4, one for each of its kinds of phases; train longer")
        warmup, phase, final_dense, final = (max(1, math.floor(epochs * share / 100 + 0.5)) for share in (10, 5, 10, 15))
        fitting = (epochs - warmup - final_dense - final) // phase
        return cls(warmup, phase, fitting if fitting % 2 else fitting - 1, final_dense)

    def levels(self, target: float) -> dict[int, float]:
        """Give `target` at the start of each compressed phase and 0 at the start of each dense one, the warm-up left out."""
        starts = [self.warmup + number * self.phase for number in range(self.phases + 1)]
        levels = {epoch: 0.0 if number % 2 else target for number, epoch in enumerate(starts)}
        levels[starts[-1] + self.final_dense] = target
        return levels
