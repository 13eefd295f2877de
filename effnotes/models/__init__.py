"""Models of the book: image classifiers from one constructor, small language models from another, and what the latter answer."""

from effnotes.models.answers import Answers, answer, answer_log_probabilities, object_probabilities
from effnotes.models.language import (
    LANGUAGE_MODELS,
    LanguageModelShape,
    build_language_model,
    load_language_model,
    save_language_model,
)
from effnotes.models.resnet import NarrowResNet
from effnotes.models.zoo import MODEL_NAMES, build_model

__all__ = [
    "LANGUAGE_MODELS",
    "MODEL_NAMES",
    "Answers",
    "LanguageModelShape",
    "NarrowResNet",
    "answer",
    "answer_log_probabilities",
    "build_language_model",
    "build_model",
    "load_language_model",
    "object_probabilities",
    "save_language_model",
]
