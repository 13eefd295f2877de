"""Training of networks: one loop, and what images and worlds of facts need on top of it."""

from effnotes.core.lazy import exports

_HOMES = {
    "PUBLISHED_GMP_PT": "effnotes.training.images",
    "PUBLISHED_GMP_RI": "effnotes.training.images",
    "Recipe": "effnotes.training.images",
    "celeba_transforms": "effnotes.training.images",
    "normalize": "effnotes.training.images",
    "predict_logits": "effnotes.training.images",
    "resolve_precision": "effnotes.training.hardware",
    "train": "effnotes.training.images",
    "DivergedError": "effnotes.training.loop",
    "Hook": "effnotes.training.loop",
    "Loop": "effnotes.training.loop",
    "PretrainingRecipe": "effnotes.training.recipes",
    "pretrain": "effnotes.training.pretraining",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
