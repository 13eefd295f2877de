"""A store of trained weights: one file for each network, under a key of all that decides them."""

from __future__ import annotations

import copy
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from effnotes.core.files import user_path, written_whole

if TYPE_CHECKING:
    from torch import nn


def models_folder() -> str:
    """Return the folder that trained models are kept in: in `EFFNOTES_CACHE_DIR`, else one that this process removes."""
    cache = os.environ.get("EFFNOTES_CACHE_DIR")
    return str(user_path(cache).resolve() / "models") if cache else _temporary_folder().name


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="effnotes-models-")


def train_or_load_(network: nn.Module, folder: str | Path, key: str, train: Callable[[nn.Module], object]) -> None:
    """Read a network's weights and buffers where they are kept; else train a copy of it, keep them, and take them over.

    Args:
        network: Built, of the same shape as what is kept; left in evaluation mode.
        folder: As `models_folder` gives it.
        key: Of all that decides the weights: data, recipe, seed and code. A torn file counts as missing.
        train: Trains a network in place.
    """
    import safetensors.torch

    file = Path(folder) / f"{key}.safetensors"
    try:
        safetensors.torch.load_model(network, file)
    except (OSError, safetensors.SafetensorError, RuntimeError):
        # Of a copy, for training leaves weights in another layout, over which sums round otherwise than over what is read.
        trained = copy.deepcopy(network)
        train(trained)
        with written_whole(file) as opened:
            opened.write(safetensors.torch.save({name: value.contiguous() for name, value in trained.state_dict().items()}))
        network.load_state_dict(trained.state_dict())
    network.eval()
