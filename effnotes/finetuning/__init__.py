"""Fine-tuning of language models: on any rows of token ids, and to edit what a model knows of a world.

`finetune(model, pools, recipe)` takes rows. `edit(model, task, recipe)` takes what is edited, retained and asked of a world
(`effnotes.datasets.worlds.make_task`). Both return a new model and its difference, and leave the base as it was; what the model
learns or forgets is the recipe's objective: full rank or LoRA, on some blocks or all.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "ClosedFormRecipe": "effnotes.finetuning.editing.closed_form",
    "Edit": "effnotes.finetuning.editing.edit",
    "EditRecipe": "effnotes.finetuning.editing.edit",
    "EditScores": "effnotes.finetuning.editing.scores",
    "Evaluator": "effnotes.finetuning.editing.scores",
    "GradAscent": "effnotes.finetuning.objectives",
    "GradDiff": "effnotes.finetuning.objectives",
    "Learn": "effnotes.finetuning.objectives",
    "NPO": "effnotes.finetuning.objectives",
    "Objective": "effnotes.finetuning.objectives",
    "Pool": "effnotes.finetuning.tune",
    "RMU": "effnotes.finetuning.objectives",
    "SimNPO": "effnotes.finetuning.objectives",
    "TuneRecipe": "effnotes.finetuning.tune",
    "Tuned": "effnotes.finetuning.tune",
    "UnlearningScores": "effnotes.finetuning.editing.scores",
    "apply_difference": "effnotes.finetuning.tune",
    "edit": "effnotes.finetuning.editing.edit",
    "evaluate_edit": "effnotes.finetuning.editing.scores",
    "evaluate_unlearning": "effnotes.finetuning.editing.scores",
    "finetune": "effnotes.finetuning.tune",
    "relearning_task": "effnotes.finetuning.editing.scores",
    "truncate_difference": "effnotes.finetuning.tune",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
