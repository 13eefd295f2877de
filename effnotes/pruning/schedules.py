"""When masks are updated and to which sparsity, and the one contract that every pruning method fits.

Epochs are counted from 0, and an update at epoch e happens before the first step of that epoch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from effnotes.pruning.masks import Masks, masks_in_force


class MaskMethod(Protocol):
    """A pruning method: chooses the masks of one update.

    It gets the model, the sparsity to reach in [0, 1), the masks in force and a generator for methods that draw at random.
    It returns new masks and changes nothing. Whether pruned weights stay out for good (nested masks) or may return is its own
    affair; a plan whose method brings weights back says so in its field `revives`.
    """

    def __call__(
        self, model: nn.Module, level: float, masks: Mapping[str, Tensor] | None = None, *, generator: torch.Generator
    ) -> Masks:
        """Give the masks for sparsity `level`."""
        ...


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


@dataclass(frozen=True)
class CubicSchedule:
    """Gradual pruning at epochs start, start + frequency, ... < end along `cubic_level`.

    Progress is (epoch - start) / (end - start), as in the code of Iofinova, Peste & Alistarh (CVPR 2023). There the last update
    comes before `end` and may stop short of the target (0.99466 instead of 0.995 over [2, 1, 16]); here the last update always
    goes to the target itself, so a sparse model has the sparsity that its label says.
    """

    start: int  # epoch of the first update, 0 or later
    end: int  # the updates come before this epoch
    frequency: int = 1  # epochs from one update to the next
    initial: float = 0.05  # sparsity of the first update, in [0, 1)

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"start={self.start}, end={self.end}: needs 0 <= start < end, in epochs")
        if self.frequency < 1:
            raise ValueError(f"frequency={self.frequency}: needs at least 1 epoch between updates")
        if not 0 <= self.initial < 1:
            raise ValueError(f"initial={self.initial}: the first sparsity must be at least 0 and below 1")

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


@dataclass(frozen=True)
class OneShotSchedule:
    """A single update straight to the target at the start of one epoch."""

    epoch: int = 0  # epoch of the update, 0 or later

    def __post_init__(self) -> None:
        if self.epoch < 0:
            raise ValueError(f"epoch={self.epoch}: epochs are counted from 0")

    def levels(self, target: float) -> dict[int, float]:
        """Give the one update, `{epoch: target}`."""
        return {self.epoch: target}


@dataclass(frozen=True)
class AlternatingSchedule:
    """Alternating compressed and dense phases (AC/DC), from a dense warm-up to a compressed end.

    Peste, Iofinova, Vladu & Alistarh, "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks" (NeurIPS
    2021). The defaults are their 100 epochs for ImageNet, as in the official code: pruned at epochs 10, 20, ..., 70, dense again
    at 15, 25, ..., 65 and for the last time at 75, pruned for good at 85. Every compressed phase has the full target.

    Raises:
        ValueError: A field is out of range.
    """

    warmup: int = 10  # dense epochs before the first compressed phase, 0 or more
    phase: int = 5  # epochs of each alternating phase, 1 or more
    phases: int = 13  # alternating phases; odd, because the first and the last are compressed
    final_dense: int = 10  # epochs of the dense phase before the final compressed one, 1 or more

    def __post_init__(self) -> None:
        for name, lowest in (("warmup", 0), ("phase", 1), ("phases", 1), ("final_dense", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {lowest}")
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


@dataclass(frozen=True)
class PruningPlan:
    """How a training run is pruned: a method, a target, a schedule and a seed.

    The target is met exactly at the end: the schedule's last level is the target, and the methods of this package keep
    `kept_count` weights of all prunable ones. Only N:M patterns leave layers dense that they do not fit; see `NMMagnitude`.

    Raises:
        ValueError: `target` is not in (0, 1), or the schedule does not end there.
    """

    method: MaskMethod
    target: float  # final sparsity over the prunable weights, in (0, 1)
    schedule: Schedule
    seed: int = 0  # for methods that draw at random; magnitude pruning does not
    revives: bool = False  # whether pruned weights may return; False: each update must keep to the masks in force

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"target={self.target}: must lie between 0 and 1; for a dense model leave the plan out")
        levels = self.schedule.levels(self.target)
        if not levels or levels[max(levels)] != self.target:
            raise ValueError(f"the schedule's updates are {levels}; the last one must go to the target {self.target}")

    @property
    def levels(self) -> dict[int, float]:
        """The sparsity of each update by epoch."""
        return self.schedule.levels(self.target)

    def update(self, epoch: int, model: nn.Module, masks: Mapping[str, Tensor] | None = None) -> Masks:
        """Give the masks in force from the start of `epoch`; the model is not changed.

        Args:
            epoch: Epoch that is about to start, counted from 0.
            model: The model with its current weights.
            masks: Masks in force so far; None for a dense model.

        Returns:
            New masks where the schedule has an update at this epoch, else the masks given (all True where none is given).

        Raises:
            ValueError: The method cannot reach the level, or it brings weights back although the plan does not say so.
        """
        current = masks_in_force(model, masks)
        level = self.levels.get(epoch)
        if level is None:
            return current
        # A generator of its own per update: a resumed run draws what an uninterrupted one draws.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        updated = self.method(model, level, current, generator=generator)
        if not self.revives:
            returned = sum(int((updated[name] & ~current[name]).sum()) for name in current)
            if returned:
                raise ValueError(
                    f"the update of epoch {epoch} to sparsity {level} brings {returned} pruned weights back, but the plan's masks "
                    "are nested; use another method, or set revives=True if that is meant"
                )
        return updated
