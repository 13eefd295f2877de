"""A short training loop for image classifiers with several binary labels, dense and pruned alike.

Dense and sparse models share one `Recipe`, so that a difference between them is an effect of pruning and not of the recipe.
"""

import contextlib
import dataclasses
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
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
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from effnotes.core.digests import tensors_digest
from effnotes.pruning.masks import Masks, apply_masks_, dense_masks, masks_in_force, prunable_parameters, sparsity
from effnotes.pruning.schedules import PruningPlan
from effnotes.training.hardware import memory_format

_FORMAT = "effnotes-checkpoint-1"

Transform = Callable[[Any], Tensor]  # of one image


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; one recipe serves the dense model and all its pruned versions.

    The defaults train the narrow ResNet on a few thousand 32-pixel images. `PUBLISHED_GMP_RI` and `PUBLISHED_GMP_PT` are the
    recipes for CelebA at full size.

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
    max_shift: int = 1  # random shift in pixels a side; the border is replicated, never wrapped round; images in memory only
    flip: bool = False  # mirror each image with probability 1/2; for attributes without a left and a right; images in memory only
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


PUBLISHED_GMP_RI = Recipe(
    epochs=100,
    batch_size=256,
    learning_rate=0.256,
    momentum=0.875,
    weight_decay=2**-15,
    warmup_epochs=5,
    max_shift=0,
    precision="float32",
)
"""Recipe of the dense and the GMP-RI models of Iofinova, Peste & Alistarh (CVPR 2023, official code), for `celeba_transforms`.

What differs: the original sets the learning rate once an epoch and zeroes the momentum after every epoch; here the rate changes
with every step and the momentum stays. Its dense ResNet-18 configuration has no weight decay, its sparse ones have 2^-15; here
both have it, or the comparison would measure the recipe. Its batches hold 256 images and the last of an epoch fewer; here all are
equal. It keeps the best epoch by validation accuracy beside the last; here there is only the last.
"""

PUBLISHED_GMP_PT = Recipe(
    epochs=80,
    batch_size=256,
    optimizer="adam",
    learning_rate=1e-4,
    decay="constant",
    weight_decay=0.0,
    warmup_epochs=0,
    max_shift=0,
    precision="float32",
)
"""Recipe by which Iofinova, Peste & Alistarh (CVPR 2023, official code) prune a trained dense model (GMP-PT), 80 epochs long.

What differs: the original starts the runs of all seeds from one dense checkpoint, so that its seeds vary the fine-tuning alone;
for independent replicates give each seed a parent of its own. Dense model and fine-tuning together take 180 epochs, where a
GMP-RI model takes 100.
"""


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


def celeba_transforms(train: bool, image_size: int = 224) -> Transform:
    """Give the published preparation of CelebA's images, as a transform for `train` or `predict_logits`.

    Training: shorter side to 256/224 of `image_size`, random crop, horizontal flip with probability 1/2. Evaluation: the same size,
    central crop. Both of Iofinova, Peste & Alistarh (CVPR 2023, official code), who follow Wang et al. ("Towards fairness in
    visual recognition", CVPR 2020); as published, pixels are then mapped to [-1, 1], which `train` and `predict_logits` do on
    their device: four times less to move than floats.

    Args:
        train: True for training, False for evaluation.
        image_size: Height and width that the network gets, in pixels, at least 8.

    Returns:
        A transform that maps a PIL image, or a uint8 tensor (3, H, W), to a uint8 tensor (3, image_size, image_size).

    Raises:
        ValueError: `image_size` is below 8.
    """
    if image_size < 8:
        raise ValueError(f"image_size={image_size}: must be at least 8 pixels; the published size is 224")
    shorter = round(image_size * 256 / 224)
    crop = [v2.RandomCrop(image_size), v2.RandomHorizontalFlip()] if train else [v2.CenterCrop(image_size)]
    transform: Transform = v2.Compose([v2.Resize(shorter, antialias=True), *crop, v2.PILToTensor()])
    return transform


def train(
    model: nn.Module,
    images: Tensor | Dataset[Any],
    labels: Tensor | None = None,
    *,
    recipe: Recipe,
    pruning: PruningPlan | None = None,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    transform: Transform | None = None,
    loader_workers: int = 0,
) -> TrainingResult:
    """Train a classifier in place, pruning it on the way if a plan says so.

    The images are held in memory, or come from a map-style dataset that decodes them when they are needed.

    The loss is the mean over images and labels of the binary cross-entropy of the logits. Masks are applied after every step, so
    pruned weights are zero whenever anybody looks; their gradients and momentum are not masked, as in the code of Iofinova, Peste &
    Alistarh (CVPR 2023). Where an update brings weights back (AC/DC), they start from zero and from rest: the momentum that they
    gathered while they were out is dropped. Normalisation statistics are not recomputed after an update. The order of the images,
    their shifts and flips, and what `transform` draws from torch's generator depend on `seed` and the epoch only: a dense and a
    pruned run of one seed see the same batches, whatever the number of loader workers. On a CPU the result is the same bit for bit
    for one seed, number of threads and machine. Images and weights lie in memory as `memory_format` says.

    Args:
        model: The network, on the device to train on. Its weights are changed, and it is left in evaluation mode.
        images: uint8 (n, 3, H, W), n >= 2, on any device; or a dataset of n items (image, label), the image PIL or uint8 (3, H, W)
            and the label (K,) of 0 and 1.
        labels: (n, K) of 0 and 1, any dtype; left out for a dataset, which has its own.
        recipe: See `Recipe`. With a dataset the images are augmented by `transform`, and `max_shift` and `flip` must be off.
        pruning: When and how to prune; None trains without updates. Its updates must fall into the recipe's epochs.
        seed: Seed of the order, the shifts and dropout. The global random state is left as it was.
        masks: Masks in force at the start, to fine-tune a model that is pruned already; None for a dense start.
        checkpoint: File that keeps the state after every epoch (safetensors, replaced in one step). Where it exists and belongs to
            this very run, training goes on from it, with the same result as without the interruption; a torn one is reported
            by a `RuntimeWarning` and the run starts anew. A dataset is known by its type, length, first item and transform.
        transform: For a dataset: maps its image to uint8 (3, H, W), one size for all, such as `celeba_transforms(train=True)`.
            None: the dataset gives such images itself.
        loader_workers: For a dataset: processes that decode and transform, 0 for none beside this one.

    Returns:
        History and masks; the weights are in `model`.

    Raises:
        ValueError: Images or labels have the wrong shape, dtype or values; the plan does not end within the recipe; the
            checkpoint belongs to another run; or an argument does not go with images in memory, or with a dataset.
        DivergedError: The loss became NaN or infinite.
    """
    device = next(model.parameters()).device
    source: _Memory | _Stream
    if isinstance(images, Tensor):
        _check_data(images, labels)
        if transform is not None or loader_workers:
            raise ValueError("transform and loader_workers are for datasets; images in memory are augmented by the recipe")
        assert labels is not None
        source = _Memory(images, labels, recipe, device)
    else:
        if labels is not None:
            raise ValueError("labels are given beside a dataset; a dataset's items hold their labels, so leave them out")
        if recipe.max_shift or recipe.flip:
            raise ValueError(
                f"max_shift={recipe.max_shift}, flip={recipe.flip}: a dataset's images are augmented by `transform`; "
                "use a recipe with max_shift=0 and flip=False"
            )
        source = _Stream(_Prepared(images, transform), recipe.batch_size, loader_workers, device)
    if pruning is not None and max(pruning.levels) >= recipe.epochs:
        raise ValueError(
            f"the pruning plan has its last update at epoch {max(pruning.levels)}, but the recipe trains epochs 0 to "
            f"{recipe.epochs - 1}; end the schedule earlier or train longer"
        )
    current = masks_in_force(model, masks)
    dtype = resolve_precision(recipe.precision, device)
    run = _fingerprint(model, source.describe(), recipe, pruning, seed, current, dtype) if checkpoint is not None else {}

    layout = memory_format(model, device)
    model.to(memory_format=layout)
    apply_masks_(model, current)
    optimizer = _optimizer(model, recipe)
    history: list[dict[str, float]] = []
    if checkpoint is not None and checkpoint.exists():
        state = _read_checkpoint(checkpoint, run)
        if state is not None:
            history, current = _restore_(state, model, optimizer)

    model.train()
    with _isolated_rng(device):
        for epoch in range(len(history), recipe.epochs):
            started = time.perf_counter()
            if pruning is not None:
                updated = pruning.update(epoch, model, current)
                _rest_revived_(model, optimizer, current, updated)
                current = updated
                apply_masks_(model, current)
            rate, loss = _train_epoch(model, optimizer, source, recipe, current, dtype, layout, seed, epoch)
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
def predict_logits(
    model: nn.Module,
    images: Tensor | Dataset[Any],
    batch_size: int = 500,
    *,
    transform: Transform | None = None,
    loader_workers: int = 0,
) -> Tensor:
    """Compute the logits of a model in evaluation mode and float32, without augmentation.

    Args:
        model: The network; the training mode of its modules is left as it was.
        images: uint8 (n, 3, H, W), on any device; or a dataset as for `train`, whose labels are not looked at.
        batch_size: Images at a time, at least 1; it bounds the memory.
        transform: As for `train`, but of evaluation, such as `celeba_transforms(train=False)`.
        loader_workers: As for `train`.

    Returns:
        Logits, float32 (n, K), on the CPU, in the order of the images.

    Raises:
        ValueError: Images have the wrong shape or dtype, there are none, or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    device = next(model.parameters()).device
    if isinstance(images, Tensor):
        _check_images(images, least=1)
        batches: Iterator[Tensor] = iter(images.split(batch_size))
    else:
        prepared = _Prepared(images, transform, least=1)
        batches = (batch for batch, _ in _loader(prepared, torch.arange(len(prepared)).split(batch_size), loader_workers, 0))
    layout = memory_format(model, device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        logits = []
        for batch in batches:
            inputs = normalize(batch.to(device)).contiguous(memory_format=layout)
            logits.append(model(inputs).float().cpu())
        return torch.cat(logits)
    finally:
        for module, mode in modes:
            module.training = mode


def _check_images(images: Tensor, *, least: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}; needed: torch.uint8 of shape (n, 3, H, W)")
    if len(images) < least:
        raise ValueError(f"{len(images)} image(s) given; needed: at least {least}")


def _check_data(images: Tensor, labels: Tensor | None) -> None:
    _check_images(images, least=2)
    if labels is None:
        raise ValueError("images in memory need labels, (n, K) of 0 and 1; only a dataset brings its own")
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


class _Memory:
    """Images in memory, shifted and flipped as the recipe says."""

    def __init__(self, images: Tensor, labels: Tensor, recipe: Recipe, device: torch.device) -> None:
        self.windows = _shift_windows(images.to(device), recipe.max_shift)
        self.targets = labels.to(device=device, dtype=torch.float32)
        self.images, self.labels, self.flip = images, labels, recipe.flip
        self.n, self.steps = len(images), -(-len(images) // recipe.batch_size)

    def batches(self, epoch_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of an epoch: images uint8 (b, 3, H, W), channel-last in memory, and labels float32 (b, K)."""
        device = self.targets.device
        generator = torch.Generator().manual_seed(epoch_seed)
        order = torch.randperm(self.n, generator=generator).to(device)
        down, right = torch.randint(self.windows.shape[1], (2, self.n), generator=generator).to(device)
        mirrored = (torch.rand(self.n, generator=generator) < 0.5).to(device) if self.flip else None
        parts = (each.tensor_split(self.steps) for each in (order, down, right, torch.arange(self.n)))
        for chosen, rows, columns, places in zip(*parts, strict=True):
            images = self.windows[chosen, rows, columns]
            if mirrored is not None:
                images = torch.where(mirrored[places][:, None, None, None], images.flip(3), images)
            yield images, self.targets[chosen]

    def describe(self) -> Any:
        """Give what tells these data from others."""
        return tensors_digest({"images": self.images, "labels": self.labels})


class _Stream:
    """Images that are decoded when they are needed, in the order that images in memory would have."""

    def __init__(self, prepared: "_Prepared", batch_size: int, workers: int, device: torch.device) -> None:
        self.prepared, self.workers, self.device = prepared, workers, device
        self.n, self.steps = len(prepared), -(-len(prepared) // batch_size)
        prepared.check_label()

    def batches(self, epoch_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of an epoch: images uint8 (b, 3, H, W), channel-last in memory, and labels float32 (b, K)."""
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(epoch_seed))
        for images, labels in _loader(self.prepared, order.tensor_split(self.steps), self.workers, epoch_seed):
            if not ((labels == 0) | (labels == 1)).all():
                raise ValueError("the dataset's labels hold other values than 0 and 1; encode each attribute as one binary column")
            inputs = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield inputs, labels.to(self.device, torch.float32, non_blocking=True)

    def describe(self) -> Any:
        """Give what tells these data from others, short of decoding them all."""
        dataset, transform = self.prepared.dataset, self.prepared.transform
        image, label = self.prepared[0, 0]
        return [type(dataset).__qualname__, self.n, repr(transform), tensors_digest({"image": image, "label": label})]


class _Prepared:
    """A dataset of uint8 tensors, made from one of images of any kind; items are asked for by (index, seed)."""

    def __init__(self, dataset: Dataset[Any], transform: Transform | None, *, least: int = 2) -> None:
        self.dataset, self.transform = dataset, transform
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ValueError(f"{type(dataset).__name__} has no length or no items by index; needed: a map-style dataset")
        if len(self) < least:
            raise ValueError(f"{len(self)} image(s) given; needed: at least {least}")
        self[0, 0]  # refuses what is no image before long work

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, seed = key
        # A seed per item: what a transform draws depends on neither the number of workers nor the order in which they come.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            image, label = self.dataset[index]
            if self.transform is not None:
                image = self.transform(image)
        if not (isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3):
            found = f"{image.dtype} of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(
                f"item {index} of the dataset is prepared as {found}; needed: torch.uint8 of shape (3, H, W), which a "
                "transform such as celeba_transforms makes of an RGB image"
            )
        return image, torch.as_tensor(label)

    def check_label(self) -> None:
        """Raise ValueError unless the first label is (K,) of 0 and 1."""
        label = self[0, 0][1]
        if label.ndim != 1 or not ((label == 0) | (label == 1)).all():
            raise ValueError(
                f"item 0 of the dataset has the label {label.tolist()}; needed: one number for each attribute, 0 or 1, shape (K,)"
            )


def _loader(prepared: _Prepared, batches: tuple[Tensor, ...], workers: int, epoch_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Load the images and labels of given indices, batch by batch."""
    if workers < 0:
        raise ValueError(f"loader_workers={workers}: must be 0 (none beside this process) or more")
    seeds = np.random.SeedSequence(epoch_seed).generate_state(len(prepared)).tolist()
    keys = [[(index, seeds[index]) for index in batch.tolist()] for batch in batches]
    # A generator of its own, or the loader would draw from the one that dropout uses.
    generator = torch.Generator().manual_seed(epoch_seed)
    loader: DataLoader[Any] = DataLoader(
        prepared,  # type: ignore[arg-type]  # a dataset by what it does, not by type
        batch_sampler=keys,
        num_workers=workers,
        generator=generator,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


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
    source: _Memory | _Stream,
    recipe: Recipe,
    masks: Masks,
    dtype: torch.dtype,
    layout: torch.memory_format,
    seed: int,
    epoch: int,
) -> tuple[float, float]:
    """Train one epoch; give the learning rate of the last step and the mean loss."""
    device = next(model.parameters()).device
    epoch_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    # A seed per epoch instead of a running state: resuming needs no state of the generators, dropout on the GPU included.
    torch.default_generator.manual_seed(epoch_seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(epoch_seed)

    weights = prunable_parameters(model)
    pruned = [name for name, mask in masks.items() if not mask.all()]
    masked_weights = [weights[name].data for name in pruned]
    factors = [torch.empty_like(weights[name]).copy_(masks[name]) for name in pruned]

    total = torch.zeros((), device=device)
    rate = 0.0
    for step, (images, targets) in enumerate(source.batches(epoch_seed)):
        rate = recipe.learning_rate_at(epoch * source.steps + step, source.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs = normalize(images).contiguous(memory_format=layout)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(inputs)
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if masked_weights:
            torch._foreach_mul_(masked_weights, factors)
        total += loss.detach() * len(targets)
    mean = float(total) / source.n
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
    data: Any,
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
        "data": data,
        "initial weights": tensors_digest(model.state_dict()),
        "initial masks": tensors_digest(masks),
        "recipe": dataclasses.asdict(recipe),
        "pruning plan": plan,
        "seed": seed,
        "precision": str(dtype),
    }
    described: dict[str, Any] = json.loads(json.dumps(parts))
    return described


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
    state = {"format": _FORMAT, "run": run, "history": history, "digest": tensors_digest(tensors)}
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
        if state["format"] != _FORMAT or state["digest"] != tensors_digest(tensors):
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
