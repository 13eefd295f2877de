"""What several notes begin with: the digits of scikit-learn, split by seed, and a few steps of Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Rows: TypeAlias = list[dict[str, Any]]


class Digits(NamedTuple):
    """Images as rows (n, 64) in [0, 1], float32, with their classes (n,)."""

    x: Any
    test_x: Any
    y: Any
    test_y: Any


def digits(seed: int, train: int = 1200) -> Digits:
    """Split the 1797 digits in two, with equal shares of the classes."""
    x, y = load_digits(return_X_y=True)
    return Digits(*train_test_split((x / 16).astype(np.float32), y, train_size=train, random_state=seed, stratify=y))


def padded(x: Any) -> Any:
    """Add a column of ones, for the bias."""
    return np.c_[x, np.ones(len(x))]


def descend(parameters: Iterable[Any], loss: Callable[[], Any], steps: int, rate: float) -> None:
    """Take steps of Adam down a loss that draws its own batch, with a rate that falls along a cosine."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()
