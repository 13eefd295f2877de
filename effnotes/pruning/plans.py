"""The contract that every pruning method fits, and how a plan is carried out in a training run.

Epochs are counted from 0, and an update at epoch e happens before the first step of that epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from effnotes.core.digests import tensors_digest
from effnotes.pruning.masks import Masks, apply_masks_, masks_in_force, prunable_parameters, sparsity
from effnotes.pruning.schedules import Schedule


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

    def hook(self) -> "PruningHook":
        """Give the hook that carries the plan out in one training run."""
        return PruningHook(self)

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
        returned = sum(int((updated[name] & ~current[name]).sum()) for name in current)
        if returned and not self.revives:
            what = f"the update of epoch {epoch} to sparsity {level} brings {returned} pruned weights back, but masks are nested"
            raise ValueError(f"{what}; use another method, or set revives=True if that is meant")
        return updated


class PruningHook:
    """What a training run does to be pruned: for the hooks of `effnotes.training.train`, one for each run.

    At the start of an epoch the plan updates the masks. After every step they are applied, so that pruned weights are zero whenever
    anybody looks; their gradients and momentum are not masked, as in the code of Iofinova, Peste & Alistarh (CVPR 2023). Where an
    update brings weights back (AC/DC), they start from zero and from rest: the momentum that they gathered while they were out is
    dropped. Adam's second moments stay: they measure the size of the gradient, which a pruned weight gets like any other, and
    without them its first steps would be too long.

    Args:
        plan: When and how to prune; None keeps to the masks given.
        masks: In force at the start, to fine-tune a model that is pruned already; None for a dense start.
    """

    masks: Masks  # in force, once a run has started

    def __init__(self, plan: PruningPlan | None = None, masks: Mapping[str, Tensor] | None = None) -> None:
        self._plan, self._given = plan, masks

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> None:
        """Apply the masks that are in force at the start.

        Raises:
            ValueError: A mask does not fit the model, a weight cannot be changed, or the plan does not end within the run.
        """
        last = -1 if self._plan is None else max(self._plan.levels)
        if last >= parts:
            given = f"the pruning plan has its last update at epoch {last}, but the run trains epochs 0 to {parts - 1}"
            raise ValueError(f"{given}; end the schedule earlier or train longer")
        self._model, self._optimizer, self._weights = model, optimizer, prunable_parameters(model, changing=True)
        self.masks = masks_in_force(model, self._given)
        apply_masks_(model, self.masks)

    @torch.no_grad()
    def before_part(self, part: int) -> None:
        """Update the masks as the plan says for this epoch."""
        if self._plan is not None:
            before, self.masks = self.masks, self._plan.update(part, self._model, self.masks)
            for name, weight in self._weights.items():
                state = self._optimizer.state.get(weight, {})
                for momentum in (state[key] for key in ("momentum_buffer", "exp_avg") if state.get(key) is not None):
                    momentum.masked_fill_(self.masks[name] & ~before[name], 0.0)
            apply_masks_(self._model, self.masks)
        pruned = [name for name, mask in self.masks.items() if not mask.all()]
        self._pruned = [self._weights[name].data for name in pruned]
        self._factors = [torch.empty_like(self._weights[name]).copy_(self.masks[name]) for name in pruned]

    def before_step(self, again: Callable[[], Tensor]) -> None:
        """Leave the gradients as they are."""

    def after_step(self, step: int, loss: Tensor) -> None:  # noqa: ARG002 - part of the contract
        """Apply the masks."""
        if self._pruned:
            torch._foreach_mul_(self._pruned, self._factors)

    def columns(self) -> dict[str, float]:
        """Give the sparsity of the epoch over the prunable weights."""
        return {"sparsity": sparsity(self.masks)}

    def describe(self) -> dict[str, Any]:
        """Give what tells this pruning from another."""
        plan = None
        if self._plan is not None:
            method = self._plan.method
            name = f"{getattr(method, '__module__', '')}.{getattr(method, '__qualname__', repr(method))}"
            plan = [name, sorted(self._plan.levels.items()), self._plan.seed]
        return {"pruning plan": plan, "initial masks": None if self._given is None else tensors_digest(self._given)}

    def state(self) -> dict[str, Tensor]:
        """Give the masks, as `mask.NAME`."""
        return {f"mask.{name}": mask for name, mask in self.masks.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the masks back from a checkpoint."""
        self.masks = {name: torch.empty_like(mask).copy_(tensors[f"mask.{name}"]) for name, mask in self.masks.items()}
