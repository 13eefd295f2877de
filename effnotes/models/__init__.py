"""Networks by name: image classifiers, causal language models, texts as rows of token ids, and what a model answers to them.

Language models are in `effnotes.models.language`, rows in `effnotes.models.rows` and answers in `effnotes.models.answers`; each is
imported from there, so that work on texts does not wait for torchvision, nor work on images for texts.
"""

from effnotes.core.lazy import exports

_HOMES = {"effnotes.models.resnet": "NarrowResNet", "effnotes.models.zoo": "MODEL_NAMES build_model"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
