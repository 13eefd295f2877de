"""Training of networks: one loop, and what images and worlds of facts need on top of it."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.training.hardware": "resolve_precision",
    "effnotes.training.images": "celeba_transforms normalize predict_logits train",
    "effnotes.training.loop": "DivergedError Hook Loop",
    "effnotes.training.pretraining": "pretrain",
    "effnotes.training.recipes": "PUBLISHED_GMP_PT PUBLISHED_GMP_RI PretrainingRecipe Recipe",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
