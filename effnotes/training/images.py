"""Training of image classifiers with several binary labels or with exclusive classes, dense and pruned alike.

Dense and sparse models share one `Recipe`, so that a difference between them is an effect of pruning and not of the recipe.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.core.digests import tensors_digest
from effnotes.datasets.attributes import check_images
from effnotes.models.images import normalize
from effnotes.models.modes import evaluating
from effnotes.models.weights import check_finite, in_float32, like_weights
from effnotes.training.dynamics import Dynamics
from effnotes.training.hardware import memory_format, resolve_precision
from effnotes.training.loop import Hook, Loop
from effnotes.training.recipes import Recipe
from effnotes.training.sources import Batch, Images, Memory, Prepared, Stream, Transform, load


class HookFactory(Protocol):
    """What makes a hook for each run anew, such as an `effnotes.pruning.PruningPlan`."""

    def hook(self) -> Hook:
        """Give a hook for one run."""
        ...


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
    from torchvision.transforms import v2  # brings PyTorch's compiler with it, which takes seconds

    check_range(8, image_size=image_size)
    shorter = round(image_size * 256 / 224)
    crop = [v2.RandomCrop(image_size), v2.RandomHorizontalFlip()] if train else [v2.CenterCrop(image_size)]
    transform: Transform = v2.Compose([v2.Resize(shorter, antialias=True), *crop, v2.PILToTensor()])
    return transform


def train(
    model: nn.Module,
    images: Images,
    labels: Tensor | None = None,
    *,
    recipe: Recipe,
    pruning: HookFactory | None = None,
    seed: int,
    hooks: Sequence[Hook] = (),
    checkpoint: Path | None = None,
    transform: Transform | None = None,
    loader_workers: int = 0,
    fit: Callable[[Loop[Batch]], None] = Loop.fit,
) -> pd.DataFrame:
    """Train a classifier in place, pruning it on the way if a plan says so.

    The images are held in memory, or come from a map-style dataset that decodes them when they are needed.

    The loss is the mean over images and labels of the binary cross-entropy of the logits, or, for classes of which each image has
    one (`loss="softmax"`), the mean over images of the cross-entropy of their softmax. Normalisation statistics are not recomputed
    when a hook changes weights. The order of the images, their shifts and flips, and what `transform` draws from torch's generator
    depend on `seed` and the epoch only: a dense and a pruned run of one seed see the same batches, whatever the number of loader
    workers. On a CPU the result is the same bit for bit for one seed, number of threads and machine. Images and weights lie in
    memory as `effnotes.training.hardware.memory_format` says.

    Args:
        model: The network, on the device to train on. Its weights are changed, to float32 where they are of another type, and it is
            left in evaluation mode.
        images: uint8 (n, 3, H, W), n >= 2, on any device; or a dataset of n items (image, label), the image PIL or uint8 (3, H, W)
            and the label (K,) of 0 and 1, or the number of its class.
        labels: (n, K) of 0 and 1, any dtype, or (n,) numbers of classes from 0 on for `loss="softmax"`; left out for a dataset,
            which has its own.
        recipe: See `Recipe`. With a dataset the images are augmented by `transform`, and `max_shift` and `flip` must be off.
        pruning: When and how to prune, short for its hook among `hooks`; None trains without updates. Its updates must fall into
            the recipe's epochs.
        seed: Seed of the order, the shifts and dropout. The global random state is left as it was.
        hooks: What else happens beside the steps; a part of the run is an epoch.
        checkpoint: File that keeps the state after every epoch; see `effnotes.training.loop.Loop`. A dataset is known by its type,
            length, first item and transform.
        transform: For a dataset: maps its image to uint8 (3, H, W), one size for all, such as `celeba_transforms(train=True)`.
            None: the dataset gives such images itself.
        loader_workers: For a dataset: processes that decode and transform, 0 for none beside this one.
        fit: Carries the run out; another one may do so in pieces and `fork` it in between.

    Returns:
        A row an epoch: epoch, learning_rate (of its last step), loss (mean over its images), what hooks add, such as the
        sparsity of a pruned run, seconds, cpu_seconds (of this process). The weights, in `model`, are always those of the last
        epoch: selecting the best by accuracy would favour predicting the majority class, which is what a bias study must not do.

    Raises:
        ValueError: Images or labels have the wrong shape, dtype or values; the model has fewer outputs than there are classes, or
            weights that are NaN or infinite; a hook or the checkpoint does not fit; or an argument does not go with images in
            memory, or with a dataset.
        DivergedError: The loss became NaN or infinite.
    """
    device = like_weights(model, torch.empty(0)).device
    source = _source(images, labels, recipe, transform, loader_workers, device)
    in_float32(model, copied=False)
    dtype = resolve_precision(recipe.precision, device)
    run: dict[str, Any] = {"recipe": dataclasses.asdict(recipe), "seed": seed, "precision": str(dtype)}
    if checkpoint is not None:  # as these take a while
        run |= {"data": source.describe(), "initial weights": tensors_digest(model.state_dict())}
    layout = memory_format(model, device)
    model.to(memory_format=layout)
    observers = [hook for hook in hooks if isinstance(hook, Dynamics)]

    def batches(epoch: int) -> Iterator[Batch]:
        epoch_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        # A seed per epoch instead of a running state: resuming needs no state of the generators, dropout on the GPU included.
        torch.default_generator.manual_seed(epoch_seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(epoch_seed)
        yield from source.batches(epoch_seed)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        logits = network(normalize(batch.images).contiguous(memory_format=layout)).float()
        for observer in observers:
            observer.observe(batch, logits.detach())
        if recipe.loss == "binary":
            return F.binary_cross_entropy_with_logits(logits, batch.targets)
        if batch.n_classes > logits.shape[1]:
            raise ValueError(f"labels speak of {batch.n_classes} classes, but the model has {logits.shape[1]} outputs")
        return F.cross_entropy(logits, batch.targets)

    loop = Loop(
        model,
        _optimizer(model, recipe),
        batches,
        loss,
        parts=recipe.epochs,
        size=lambda batch: len(batch.targets),
        rate=lambda _, step: recipe.learning_rate_at(step, source.steps),
        precision=dtype,
        hooks=[*hooks] if pruning is None else [*hooks, pruning.hook()],
        checkpoint=checkpoint,
        run=run,
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        fit(loop)
    return pd.DataFrame(loop.history).rename(columns={"part": "epoch"})


@torch.inference_mode()
def predict_logits(
    model: nn.Module, images: Images, batch_size: int = 500, *, transform: Transform | None = None, loader_workers: int = 0
) -> Tensor:
    """Compute the logits of a model in evaluation mode, without augmentation and in the type of its weights.

    Args:
        model: The network; the training mode of its modules is left as it was.
        images: uint8 (n, 3, H, W), on any device; or a dataset as for `train`, whose labels are not looked at.
        batch_size: Images at a time, at least 1; it bounds the memory.
        transform: As for `train`, but of evaluation, such as `celeba_transforms(train=False)`.
        loader_workers: As for `train`.

    Returns:
        Logits, float32 (n, K), on the CPU, in the order of the images.

    Raises:
        ValueError: Images have the wrong shape or dtype, there are none, `batch_size` is below 1, or a weight is NaN or infinite.
    """
    check_range(1, batch_size=batch_size)
    check_finite(model)
    device = like_weights(model, torch.empty(0)).device
    if isinstance(images, Tensor):
        check_images(images)
        batches: Iterator[Tensor] = iter(images.split(batch_size))
    else:
        prepared = Prepared(images, transform, least=1)
        batches = (batch for batch, _ in load(prepared, torch.arange(len(prepared)).split(batch_size), loader_workers, 0))
    layout = memory_format(model, device)
    with evaluating(model):
        inputs = (normalize(batch.to(device)).contiguous(memory_format=layout) for batch in batches)
        return torch.cat([model(like_weights(model, each)).float().cpu() for each in inputs])


def _source(
    images: Images, labels: Tensor | None, recipe: Recipe, transform: Transform | None, workers: int, device: torch.device
) -> Memory | Stream:
    if not isinstance(images, Tensor):
        if labels is not None:
            raise ValueError("labels are given beside a dataset; a dataset's items hold their labels, so leave them out")
        if recipe.max_shift or recipe.flip:
            given = f"max_shift={recipe.max_shift}, flip={recipe.flip}"
            raise ValueError(f"{given}: a dataset is augmented by `transform`; use a recipe with max_shift=0 and flip=False")
        return Stream(Prepared(images, transform), recipe, workers, device)
    if labels is None:
        raise ValueError("images in memory need labels, (n, K) of 0 and 1; only a dataset brings its own")
    if transform is not None or workers:
        raise ValueError("transform and loader_workers are for datasets; images in memory are augmented by the recipe")
    return Memory(images, labels, recipe, device)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    given: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **given)
    return torch.optim.SGD(model.parameters(), momentum=recipe.momentum, **given)
