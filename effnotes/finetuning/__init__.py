"""Fine-tuning of language models: on any rows of token ids, and to edit what a model knows of a world.

`finetune(model, pools, recipe)` takes rows. `edit(model, task, recipe)` takes what is edited, retained and asked of a world
(`effnotes.datasets.worlds.make_task`). Both return a new model and its difference, and leave the base as it was; what the model
learns or forgets is the recipe's objective: full rank, LoRA, sparse or RoSA, on some blocks or all. `decompose` cuts a difference
to low rank and few entries, and `quantise_base` rounds a base to 4 bits.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.finetuning.decomposition": "Decomposition decompose",
    "effnotes.finetuning.editing.closed_form": "ClosedFormRecipe",
    "effnotes.finetuning.editing.edit": "Edit EditRecipe edit",
    "effnotes.finetuning.editing.scores": "EditScores Evaluator UnlearningScores evaluate_edit evaluate_unlearning relearning_task",
    "effnotes.finetuning.objectives": "GradDiff Learn NPO Objective RMU SimNPO",
    "effnotes.finetuning.quantisation": "Quantised quantise_base",
    "effnotes.finetuning.rosa": "MaskRule equal_budget mask_overlap",
    "effnotes.finetuning.tune": "Pool TuneRecipe Tuned apply_difference finetune truncate_difference",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
