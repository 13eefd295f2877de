"""A short training loop for image classifiers with several binary labels, dense and pruned alike.

Dense and sparse models share one `Recipe`, so that a difference between them is an effect of pruning and not of the recipe.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effnotes.pruning.masks import Masks, apply_masks_, dense_masks, masks_in_force, prunable_parameters, sparsity
from effnotes.pruning.schedules import PruningPlan

_FORMAT = "effnotes-checkpoint-1"


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; one recipe serves the dense model and all its pruned versions.

    The defaults train the narrow ResNet on a few thousand 32-pixel images. The published recipe for CelebA (Iofinova, Peste &
    Alistarh, CVPR 2023, official code) is `Recipe(epochs=100, batch_size=256, learning_rate=0.256, momentum=0.875,
    weight_decay=2**-15, warmup_epochs=5)`, except that the original resets the momentum after every epoch, changes the learning
    rate once an epoch, and crops and flips the images. Its fine-tuning for GMP-PT is `Recipe(epochs=80, batch_size=256,
    optimizer="adam", learning_rate=1e-4, decay="constant", weight_decay=0, warmup_epochs=0)`.

    Raises:
        ValueError: A field is out of range.
    """

    epochs: int = 12  # passes over the training images
    batch_size: int = 128  # images a step; an epoch is cut into equal batches of at most this size
    learning_rate: float = 0.1  # peak, reached at the end of the warm-up
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9  # SGD only, in [0, 1)
    weight_decay: float = 1e-4  # L2 penalty on all parameters
    warmup_epochs: float = 1.0  # linear warm-up, step by step
    decay: Literal["cosine", "constant"] = "cosine"  # after the warm-up, step by step: to zero, or none
    max_shift: int = 1  # random shift in pixels a side; the border is replicated, never wrapped round
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of activations; see `resolve_precision`

    def __post_init__(self) -> None:
        for name, lowest in (("epochs", 1), ("batch_size", 2), ("max_shift", 0), ("warmup_epochs", 0), ("weight_decay", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {lowest}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate={self.learning_rate}: must be positive and finite")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: must be at least 0 and below 1")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: longer than the {self.epochs} epochs of training")
        for name, allowed in (
            ("optimizer", ("sgd", "adam")),
            ("decay", ("cosine", "constant")),
            ("precision", ("auto", "float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be one of {', '.join(map(repr, allowed))}")

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Give the learning rate of a step, counted from 0 over the whole run.

        Over W warm-up steps lr (step + 1) / W; after them lr (1 + cos(pi (step - W) / (total - W))) / 2, or lr with constant decay.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.decay == "constant":
            return self.learning_rate
        progress = (step - warmup) / (self.epochs * steps_per_epoch - warmup)
        return 0.5 * self.learning_rate * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class TrainingResult:
    """What a training run leaves beside the trained model; always of the last epoch, none is selected by a score.

    Selecting the best epoch by accuracy would favour predicting the majority class, which is what a bias study must not do.
    """

    history: pd.DataFrame  # a row an epoch: epoch, learning_rate (of its last step), loss (mean over its images), sparsity, seconds
    masks: Masks  # in force at the end; all True for a dense run


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Give the dtype in which activations are computed on a device.

    `"auto"` is bfloat16 where the hardware has instructions for it (AVX512-BF16 or AMX on the CPU, Ampere or later on a GPU) and
    float32 elsewhere, where bfloat16 would be emulated and slow. Weights, their gradients and the optimizer stay float32.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return torch.bfloat16 if features.get("avx512_bf16") or features.get("amx_bf16") else torch.float32
    return torch.float32


def normalize(images: Tensor) -> Tensor:
    """Map uint8 images 0..255 to float32 in [-1, 1] (mean 0.5 and standard deviation 0.5 on the scale of 0 to 1)."""
    return images.float().sub_(127.5).div_(127.5)


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    recipe: Recipe,
    pruning: PruningPlan | None = None,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
) -> TrainingResult:
    """Train a classifier in place on images held in memory, pruning it on the way if a plan says so.

    The loss is the mean over images and labels of the binary cross-entropy of the logits. Masks are applied after every step, so
    pruned weights are zero whenever anybody looks; their gradients and momentum are not masked, as in the code of Iofinova, Peste &
    Alistarh (CVPR 2023). Where an update brings weights back (AC/DC), they start from zero and from rest: the momentum that they
    gathered while they were out is dropped. Normalisation statistics are not recomputed after an update. The order of the images
    and their shifts depend on `seed` and the epoch only: a dense and a pruned run of one seed see the same batches. On a CPU the
    result is the same bit for bit for one seed, number of threads and machine.

    Args:
        model: The network, on the device to train on. Its weights are changed, and it is left in evaluation mode.
        images: uint8 (n, 3, H, W), n >= 2, on any device.
        labels: (n, K) of 0 and 1, any dtype.
        recipe: See `Recipe`.
        pruning: When and how to prune; None trains without updates. Its updates must fall into the recipe's epochs.
        seed: Seed of the order, the shifts and dropout. The global random state is left as it was.
        masks: Masks in force at the start, to fine-tune a model that is pruned already; None for a dense start.
        checkpoint: File that keeps the state after every epoch (safetensors, replaced in one step). Where it exists and belongs to
            this very run, training goes on from it, with the same result as without the interruption; a torn one is reported
            by a `RuntimeWarning` and the run starts anew.

    Returns:
        History and masks; the weights are in `model`.

    Raises:
        ValueError: Images or labels have the wrong shape, dtype or values; the plan does not end within the recipe; or the
            checkpoint belongs to another run.
        DivergedError: The loss became NaN or infinite.
    """
    _check_data(images, labels)
    if pruning is not None and max(pruning.levels) >= recipe.epochs:
        raise ValueError(
            f"the pruning plan has its last update at epoch {max(pruning.levels)}, but the recipe trains epochs 0 to "
            f"{recipe.epochs - 1}; end the schedule earlier or train longer"
        )
    current = masks_in_force(model, masks)
    device = next(model.parameters()).device
    dtype = resolve_precision(recipe.precision, device)
    run = _fingerprint(model, images, labels, recipe, pruning, seed, current, dtype) if checkpoint is not None else {}

    model.to(memory_format=torch.channels_last)
    apply_masks_(model, current)
    optimizer = _optimizer(model, recipe)
    history: list[dict[str, float]] = []
    if checkpoint is not None and checkpoint.exists():
        state = _read_checkpoint(checkpoint, run)
        if state is not None:
            history, current = _restore_(state, model, optimizer)

    windows = _shift_windows(images.to(device), recipe.max_shift)
    targets = labels.to(device=device, dtype=torch.float32)
    model.train()
    with _isolated_rng(device):
        for epoch in range(len(history), recipe.epochs):
            started = time.perf_counter()
            if pruning is not None:
                updated = pruning.update(epoch, model, current)
                _rest_revived_(model, optimizer, current, updated)
                current = updated
                apply_masks_(model, current)
            rate, loss = _train_epoch(model, optimizer, windows, targets, recipe, current, dtype, seed, epoch)
            history.append(
                {
                    "epoch": epoch,
                    "learning_rate": rate,
                    "loss": loss,
                    "sparsity": sparsity(current),
                    "seconds": time.perf_counter() - started,
                }
            )
            if checkpoint is not None:
                _write_checkpoint(checkpoint, model, optimizer, current, run, history)
    model.eval()
    return TrainingResult(pd.DataFrame(history), current)


@torch.inference_mode()
def predict_logits(model: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Compute the logits of a model in evaluation mode and float32, without augmentation.

    Args:
        model: The network; the training mode of its modules is left as it was.
        images: uint8 (n, 3, H, W), on any device.
        batch_size: Images at a time, at least 1; it bounds the memory.

    Returns:
        Logits, float32 (n, K), on the CPU.

    Raises:
        ValueError: Images are not uint8 of four dimensions, there are none, or `batch_size` is below 1.
    """
    _check_images(images, least=1)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        batches = (normalize(batch.to(device)) for batch in images.split(batch_size))
        return torch.cat([model(batch.contiguous(memory_format=torch.channels_last)).float().cpu() for batch in batches])
    finally:
        for module, mode in modes:
            module.training = mode


def _check_images(images: Tensor, *, least: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}; needed: torch.uint8 of shape (n, 3, H, W)")
    if len(images) < least:
        raise ValueError(f"{len(images)} image(s) given; needed: at least {least}")


def _check_data(images: Tensor, labels: Tensor) -> None:
    _check_images(images, least=2)
    if labels.ndim != 2 or len(labels) != len(images):
        raise ValueError(f"labels of shape {tuple(labels.shape)} for {len(images)} images; needed: ({len(images)}, K)")
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("labels hold other values than 0 and 1; encode each attribute as one binary column")


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def _shift_windows(images: Tensor, max_shift: int) -> Tensor:
    """View the padded images as all their shifted crops: (n, 2s+1, 2s+1, 3, H, W), without copying them for each shift.

    The pixels lie channel-last in memory, so a gathered batch is channel-last as well.
    """
    height, width = images.shape[2:]
    rows = torch.arange(-max_shift, height + max_shift, device=images.device).clamp(0, height - 1)
    columns = torch.arange(-max_shift, width + max_shift, device=images.device).clamp(0, width - 1)
    padded = images.permute(0, 2, 3, 1)[:, rows][:, :, columns].contiguous()
    return padded.unfold(1, height, 1).unfold(2, width, 1)


@contextlib.contextmanager
def _isolated_rng(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    windows: Tensor,
    targets: Tensor,
    recipe: Recipe,
    masks: Masks,
    dtype: torch.dtype,
    seed: int,
    epoch: int,
) -> tuple[float, float]:
    """Train one epoch; give the learning rate of the last step and the mean loss."""
    device = targets.device
    n, shifts = len(targets), windows.shape[1]
    epoch_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    # A seed per epoch instead of a running state: resuming needs no state of the generators, dropout on the GPU included.
    torch.default_generator.manual_seed(epoch_seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(epoch_seed)
    generator = torch.Generator().manual_seed(epoch_seed)
    order = torch.randperm(n, generator=generator).to(device)
    down, right = torch.randint(shifts, (2, n), generator=generator).to(device)
    steps = -(-n // recipe.batch_size)

    weights = prunable_parameters(model)
    pruned = [name for name, mask in masks.items() if not mask.all()]
    masked_weights = [weights[name].data for name in pruned]
    factors = [torch.empty_like(weights[name]).copy_(masks[name]) for name in pruned]

    total = torch.zeros((), device=device)
    batches = zip(order.tensor_split(steps), down.tensor_split(steps), right.tensor_split(steps), strict=True)
    rate = 0.0
    for step, (chosen, rows, columns) in enumerate(batches):
        rate = recipe.learning_rate_at(epoch * steps + step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs = normalize(windows[chosen, rows, columns])
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(inputs)
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if masked_weights:
            torch._foreach_mul_(masked_weights, factors)
        total += loss.detach() * len(chosen)
    mean = float(total) / n
    if not math.isfinite(mean):
        raise DivergedError(
            f"the loss became {mean} in epoch {epoch} (seed {seed}, learning rate {rate:.3g}); "
            "lower the learning rate or warm up longer"
        )
    return rate, mean


@torch.no_grad()
def _rest_revived_(model: nn.Module, optimizer: torch.optim.Optimizer, before: Masks, after: Masks) -> None:
    """Zero the momentum of the weights that an update brings back, in place.

    Adam's second moments stay: they measure the size of the gradient, which a pruned weight gets like any other, and without them
    its first steps would be too long.
    """
    for name, weight in prunable_parameters(model).items():
        revived = after[name] & ~before[name]
        for key in ("momentum_buffer", "exp_avg"):
            momentum = optimizer.state.get(weight, {}).get(key)
            if momentum is not None:
                momentum.masked_fill_(revived, 0.0)


def _fingerprint(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    pruning: PruningPlan | None,
    seed: int,
    masks: Masks,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Describe all that decides the outcome of a run, by parts, so that a mismatch can be named."""
    plan = None
    if pruning is not None:
        method = pruning.method
        name = f"{getattr(method, '__module__', '')}.{getattr(method, '__qualname__', repr(method))}"
        plan = [name, sorted(pruning.levels.items()), pruning.seed]
    parts = {
        "data": _digest({"images": images, "labels": labels}),
        "initial weights": _digest(model.state_dict()),
        "initial masks": _digest(masks),
        "recipe": dataclasses.asdict(recipe),
        "pruning plan": plan,
        "seed": seed,
        "precision": str(dtype),
    }
    described: dict[str, Any] = json.loads(json.dumps(parts))
    return described


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    masks: Masks,
    run: dict[str, Any],
    history: list[dict[str, float]],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"mask.{name}": mask for name, mask in masks.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            if value is not None:
                tensors[f"optimizer.{name}.{key}"] = value
    # Copies, because tied weights share storage, which safetensors refuses.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    state = {"format": _FORMAT, "run": run, "history": history, "digest": _digest(tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(safetensors.torch.save(tensors, {"state": json.dumps(state)}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_checkpoint(path: Path, run: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, float]]] | None:
    """Read a checkpoint of this run; None, with a warning, for a torn file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if state["format"] != _FORMAT or state["digest"] != _digest(tensors):
            raise ValueError("its contents do not match its digest")
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path.name} is no whole checkpoint ({error}); training starts anew", RuntimeWarning, stacklevel=3)
        return None
    different = [part for part, value in run.items() if state["run"].get(part) != value]
    if different:
        raise ValueError(
            f"{path.name} is the checkpoint of another run (different: {', '.join(different)}); name another file or delete it"
        )
    return tensors, state["history"]


@torch.no_grad()
def _restore_(
    state: tuple[dict[str, Tensor], list[dict[str, float]]], model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[list[dict[str, float]], Masks]:
    """Load a checkpoint into the model and the optimizer, in place; give the history and the masks."""
    tensors, history = state
    own = model.state_dict()
    for name, tensor in own.items():
        tensor.copy_(tensors[f"model.{name}"])
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        for key in (key for key in tensors if key.startswith(prefix)):
            saved = tensors[key]
            if saved.shape == parameter.shape:
                # In the memory layout of the parameter: the fused kernels walk both side by side.
                saved = torch.empty_like(parameter).copy_(saved)
            optimizer.state[parameter][key.removeprefix(prefix)] = saved.to(parameter.device)
    masks = dense_masks(model)
    for name, mask in masks.items():
        mask.copy_(tensors[f"mask.{name}"])
    return history, masks
