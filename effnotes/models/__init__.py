"""Image classifiers of the book: one constructor for the narrow ResNet and torchvision's reference models.

Language models are in `effnotes.models.language` and what they answer in `effnotes.models.answers`; they are imported from there,
so that work on images does not hang on them.
"""

from effnotes.models.resnet import NarrowResNet
from effnotes.models.zoo import MODEL_NAMES, build_model

__all__ = ["MODEL_NAMES", "NarrowResNet", "build_model"]
