"""Image classifiers of the book: one constructor for the narrow ResNet and torchvision's reference models."""

from effnotes.models.resnet import NarrowResNet
from effnotes.models.zoo import MODEL_NAMES, build_model

__all__ = ["MODEL_NAMES", "NarrowResNet", "build_model"]
