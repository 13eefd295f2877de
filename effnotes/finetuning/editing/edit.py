"""Editing what a model knows of a world: by fine-tuning it on the training rows of a task, or in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd
from pydantic import Field
from torch import nn

from effnotes.core.settings import settings
from effnotes.datasets.worlds.tasks import Task
from effnotes.finetuning.editing.closed_form import ClosedFormRecipe, rewrite_
from effnotes.finetuning.tune import Changed, Observe, Pool, Tuned, TuneRecipe, changed_copy, finetune, look
from effnotes.models.answers import answer
from effnotes.models.rows import Rows
from effnotes.models.weights import in_float32

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EDITED = ("edited", "forget")
_RETAINED = (("with_same_value", "with_same_rel"), ("reg_data",))
"""Training groups that retain the edited relation, and those that retain the others."""


@settings
class EditRecipe(TuneRecipe):
    """How a model is fine-tuned to edit what it knows: a `TuneRecipe`, and what of a batch is the edit.

    Raises:
        ValueError: A field is out of range, or does not go with another.
    """

    edited_share: float = Field(0.25, gt=0, le=1)  # of a batch; half of the rest retains the edited relation, half the others


@dataclass(frozen=True, eq=False)
class Edit(Tuned):
    """An edited model, and what was changed: see `Tuned`.

    A closed form trains the width for each fact, which is what is sought by gradient descent, and holds the moments of the keys on
    top of `optimizer_bytes`, 8 h^2 bytes a layer of h hidden units; ROME seeks one fact's vector at a time. Its history has one
    checkpoint, step 1. The column edited_exact is the share of the edited facts answered as trained; of forgotten facts, answered
    as before.
    """

    @property
    def first_success(self) -> int | None:
        """The first checkpoint at which every edited fact was answered as trained; None for never.

        Of an edit that unlearns it has no meaning: there `edited_exact` is what is still known.
        """
        reached = self.history.loc[(self.history["edited_exact"] == 1) & (self.history["step"] > 0), "step"]
        return int(reached.iloc[0]) if len(reached) else None


AnyRecipe: TypeAlias = EditRecipe | ClosedFormRecipe


def edit(
    model: PreTrainedModel, task: Task, recipe: AnyRecipe | None = None, *, seed: int = 0, observe: Observe | None = None
) -> Edit:
    """Edit a copy of a model, by fine-tuning it on the training rows of a task or by a closed form that takes the edited facts.

    Args:
        model: The base, a causal language model of transformers that knows the task's world; it stays as it is, to the bit. One of
            another type is taken in float32, with a `RuntimeWarning`.
        task: What is edited. Which and how many rows retain the rest is the task's business (`retain_coverage`); without any,
            batches hold edited rows only.
        recipe: How; None for `EditRecipe()`.
        seed: Of the batches, and of LoRA's start; a closed form draws nothing.
        observe: Called at the start and at each checkpoint with the model as it is then (with adapters, for LoRA), to measure it;
            what it returns is written into the history.

    Returns:
        The new model and its difference.

    Raises:
        ValueError: As for `finetune`; of a closed form as for `rewrite_`.
        RuntimeError: Something trained what should not be trained, or `observe` changed the base.
    """
    recipe, model = EditRecipe() if recipe is None else recipe, in_float32(model)
    asked = task.encode("test", "forget" if "forget" in task.test else "edited")

    def measure(current: nn.Module) -> dict[str, float]:
        exact = {"edited_exact": float(answer(current, asked).exact.mean())}
        return exact if observe is None else exact | dict(observe(current))

    if isinstance(recipe, EditRecipe):
        made = finetune(model, edit_pools(task, recipe), recipe, seed=seed, observe=measure)
    else:
        made = changed_copy(model, lambda copied: _rewritten(copied, task, recipe, measure))
    return Edit(**vars(made))


def edit_pools(task: Task, recipe: EditRecipe) -> list[Pool]:
    """Return a task's training rows: those of the edit, and, in equal shares, what retains its relation and the others."""
    edited, *retained = ([task.encode("train", name) for name in names if name in task.train] for names in (_EDITED, *_RETAINED))
    present = [Rows.of(*parts) for parts in retained if parts]
    rest = 1 - recipe.edited_share
    return [Pool(Rows.of(*edited), recipe.edited_share)] + [Pool(rows, rest / len(present), retained=True) for rows in present]


def _rewritten(copied: PreTrainedModel, task: Task, recipe: ClosedFormRecipe, measure: Observe) -> Changed:
    start = look(copied, 0, [], measure)
    names = rewrite_(copied, task, recipe)
    width = int(copied.config.hidden_size)
    n_trainable = len(task.train["edited"]) * width
    history = pd.DataFrame([start, look(copied, 1, [], measure)])
    return Changed(copied, names, n_trainable, 12 * (width if recipe.method == "rome" else n_trainable), history)
