"""The one loop that all training goes through: batches, a loss, hooks beside the steps, and a checkpoint to go on from.

A run consists of parts: an epoch of images, a piece of a corpus, or all steps of an edit. Between two parts it can be interrupted.
What else happens (a pruning method, an observer) is a `Hook` and needs no loop of its own.
"""

import copy
import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from effnotes.core.processes import tell_part
from effnotes.training.checkpoints import read_checkpoint, restore_training_, training_state, write_checkpoint

Batch = TypeVar("Batch")


class DivergedError(RuntimeError):
    """The loss of a training run became NaN or infinite."""


class Hook(Protocol):
    """What happens beside the steps of a run; derive from it and override what matters, for here every method does nothing."""

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> None:
        """Prepare for a run of so many parts, before a checkpoint is read; raise ValueError where it does not fit."""
        return

    def before_part(self, part: int) -> None:
        """Act before the first step of a part, counted from 0; the model and the optimizer may be changed in place."""
        return

    def before_step(self, again: Callable[[], Tensor]) -> None:
        """Act on the gradients of a batch before they are clipped and used; `again()` computes its loss anew."""
        return

    def after_step(self, step: int, loss: Tensor) -> None:
        """Act after a step, counted from 1 over the whole run; the loss is that of the batch before the step."""
        return

    def columns(self) -> dict[str, float]:
        """Give what the history of a part gets beside its loss."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Give, by parts and as JSON can hold it, what decides the outcome: a checkpoint of another is refused."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Give what a checkpoint must hold for the run to go on; names begin with a word of the hook's own."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the state back from a checkpoint; tensors of the model and of other hooks are among them."""
        return


@dataclass(eq=False)
class Loop(Generic[Batch]):
    """A training run, in place: what it is made of, and how far it has come.

    With a checkpoint the state is kept after every part. Where the file exists and belongs to this very run, it goes on from there,
    with the same result as without the interruption; a torn file is reported by a `RuntimeWarning` and the run starts anew.

    Raises:
        ValueError: The checkpoint belongs to another run, or a hook does not fit.
    """

    model: nn.Module  # on the device to train on, its parameters that want a gradient in the optimizer
    optimizer: torch.optim.Optimizer
    batches: Callable[[int], Iterable[Batch]]  # those of a part, counted from 0; asked for before the part's clock starts
    loss: Callable[[nn.Module, Batch], Tensor]  # scalar; computed under autocast where the precision is not float32
    parts: int = 1  # that are planned
    size: Callable[[Batch], int] | None = None  # what a batch counts in the mean loss; None: all the same
    rate: Callable[[int, int], float] | None = None  # learning rate by part and step, counted from 0; None: as the optimizer is
    precision: torch.dtype = torch.float32  # of activations
    clip: float | None = None  # largest norm of the gradient
    train_mode: bool = True  # False keeps the model in evaluation mode: without dropout
    may_diverge: bool = False  # whether a loss that is not finite is no error
    hooks: Sequence[Hook] = ()
    progress: Callable[[int, int], None] = tell_part  # called after each part with the numbers of parts done and planned
    checkpoint: Path | None = None
    run: Mapping[str, Any] = field(default_factory=dict)  # all that decides the outcome, by parts, as JSON can hold it
    history: list[dict[str, float]] = field(default_factory=list)  # of each part: part, learning_rate, loss, hooks' columns, times
    step: int = 0  # steps done

    def __post_init__(self) -> None:
        for hook in self.hooks:
            self.run = {**self.run, **hook.describe()}
            hook.start(self.model, self.optimizer, self.parts)
        found = read_checkpoint(self.checkpoint, self.run) if self.checkpoint is not None else None
        if found is not None:
            tensors, progress = found
            restore_training_(self.model, self.optimizer, tensors)
            for hook in self.hooks:
                hook.restore(tensors)
            self.history, self.step = progress["history"], progress["step"]

    def fit(self, parts: int | None = None) -> None:
        """Train until so many parts are done, those of a checkpoint included; None for those that are planned.

        The model is left in evaluation mode.

        Raises:
            DivergedError: The loss became NaN or infinite.
        """
        for part in range(len(self.history), self.parts if parts is None else parts):
            self._train_part(part)
            self.progress(part + 1, self.parts)
            if self.checkpoint is not None:
                tensors = training_state(self.model, self.optimizer)
                for hook in self.hooks:
                    tensors |= hook.state()
                write_checkpoint(self.checkpoint, self.run, tensors, {"history": self.history, "step": self.step})
        self.model.eval()

    def fork(self, *hooks: Hook) -> "Loop[Batch]":
        """Copy the run as it stands, to go on in another way from there, with hooks that have been started, and no checkpoint.

        The fork of an AC/DC run before its last compression, without its pruning, is the dense finish.
        """
        twin = copy.copy(self)
        twin.model, twin.optimizer, twin.history = copy.deepcopy((self.model, self.optimizer, self.history))
        twin.hooks, twin.checkpoint = hooks, None
        return twin

    def _loss(self, device: str, batch: Batch) -> Tensor:
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32):
            return self.loss(self.model, batch)

    def _train_part(self, part: int) -> None:
        batches = self.batches(part)
        wall, cpu = time.perf_counter(), time.process_time()
        for hook in self.hooks:
            hook.before_part(part)
        self.model.train(self.train_mode)
        device = next(self.model.parameters()).device
        total, count = torch.zeros((), device=device), 0  # stays infinite or NaN once it is
        for batch in batches:
            if self.rate is not None:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate(part, self.step)
            again = functools.partial(self._loss, device.type, batch)
            loss = again()
            self.optimizer.zero_grad()
            loss.backward()
            for hook in self.hooks:
                hook.before_step(again)
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            size = 1 if self.size is None else self.size(batch)
            total += loss.detach() * size
            count += size
            self.step += 1
            for hook in self.hooks:
                hook.after_step(self.step, loss.detach())
        mean, rate = float(total) / max(1, count), float(self.optimizer.param_groups[0]["lr"])
        if not (self.may_diverge or math.isfinite(mean)):
            where = f"in part {part}, before step {self.step} of the run (learning rate {rate:.3g})"
            raise DivergedError(f"the loss became {mean} {where}; lower the learning rate or warm up longer")
        row = {"part": part, "learning_rate": rate, "loss": mean}
        for hook in self.hooks:
            row |= hook.columns()
        self.history.append(row | {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu})
