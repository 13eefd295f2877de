"""Whether a network trains or answers."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while; every module has the mode it had before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_evaluating(model: nn.Module) -> None:
    """Raise ValueError where a module of a model is in training mode."""
    if any(module.training for module in model.modules()):
        what = "the model, or a part of it, is in training mode, where dropout and statistics of the batch change the answer"
        raise ValueError(f"{what}; call model.eval()")
