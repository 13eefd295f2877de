"""Fine-tuning that edits what a language model knows: full rank or LoRA, on some blocks or all, to learn a fact or to forget it.

`edit(model, task, recipe)` returns a new model and its difference, and leaves the base as it was. What the model learns or
forgets is the recipe's objective; what is edited, retained and asked is the task (`effnotes.datasets.worlds.make_task`).
"""

from effnotes.finetuning.editing.closed_form import ClosedFormRecipe
from effnotes.finetuning.editing.edit import Edit, EditRecipe, apply_difference, edit, trained_names, truncate_difference
from effnotes.finetuning.editing.scores import (
    EditScores,
    Evaluator,
    UnlearningScores,
    evaluate_edit,
    evaluate_unlearning,
    relearning_task,
)
from effnotes.finetuning.objectives import NPO, RMU, GradAscent, GradDiff, Learn, Objective, Rows, SimNPO

__all__ = [
    "NPO",
    "RMU",
    "ClosedFormRecipe",
    "Edit",
    "EditRecipe",
    "EditScores",
    "Evaluator",
    "GradAscent",
    "GradDiff",
    "Learn",
    "Objective",
    "Rows",
    "SimNPO",
    "UnlearningScores",
    "apply_difference",
    "edit",
    "evaluate_edit",
    "evaluate_unlearning",
    "relearning_task",
    "trained_names",
    "truncate_difference",
]
