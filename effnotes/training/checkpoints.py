"""Files that keep the state of a training run, so that it goes on after an interruption: one format for all runs."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from effnotes.core.digests import tensors_digest
from effnotes.core.files import written_whole

_FORMAT = "effnotes-checkpoint-2"


def write_checkpoint(path: Path, run: Mapping[str, Any], tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
    """Keep tensors, and how far a run has come; under another name first, so that a checkpoint is never half there.

    Args:
        path: The file (safetensors), which is replaced in one step; its folder is made.
        run: All that decides the outcome of the run, by parts, as JSON can hold it.
        tensors: The state.
        progress: As JSON can hold it.
    """
    # Copies, because tied weights share storage, which safetensors refuses.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    state = {"format": _FORMAT, "run": run, "progress": progress, "digest": tensors_digest(copies)}
    with written_whole(path) as file:
        file.write(safetensors.torch.save(copies, {"state": json.dumps(state)}))


def read_checkpoint(path: Path, run: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the tensors and the progress of a run; None where there is no file or, with a `RuntimeWarning`, where it is torn.

    Raises:
        ValueError: The checkpoint belongs to another run; the message names the parts that differ.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if state["format"] != _FORMAT or state["digest"] != tensors_digest(tensors):
            raise ValueError("its contents do not match its digest")
        theirs, progress = dict(state["run"]), dict(state["progress"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path.name} is no whole checkpoint ({error}); training starts anew", RuntimeWarning, stacklevel=4)
        return None
    ours = json.loads(json.dumps(run))
    different = [part for part in {**ours, **theirs} if ours.get(part) != theirs.get(part)]
    if different:
        parts = ", ".join(different)
        raise ValueError(f"{path.name} is the checkpoint of another run (different: {parts}); name another file or delete it")
    return tensors, progress


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Give the tensors of a model, as `model.NAME`, and those of its optimizer, as `optimizer.NAME.KEY`."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        kept = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{name}.{key}": value for key, value in kept.items() if value is not None}
    return tensors


@torch.no_grad()
def restore_training_(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what `training_state` gave into a model and its optimizer, in place."""
    for name, tensor in model.state_dict().items():
        tensor.copy_(tensors[f"model.{name}"])
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        for key in (key for key in tensors if key.startswith(prefix)):
            saved = tensors[key]
            if saved.shape == parameter.shape:
                # In the memory layout of the parameter: the fused kernels walk both side by side.
                saved = torch.empty_like(parameter).copy_(saved)
            # The count of steps, too, lies on the device where the fused kernel wants it.
            optimizer.state[parameter][key.removeprefix(prefix)] = saved.to(parameter.device)
