"""Where batches of images come from: tensors in memory, or data sets that decode an image when it is needed."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from effnotes.core.checks import check_range
from effnotes.core.digests import tensors_digest
from effnotes.datasets.attributes import check_images
from effnotes.training.recipes import LabelKind, Recipe

Images: TypeAlias = Tensor | Dataset[Any]
Transform = Callable[[Any], Tensor]  # of one image


class Batch(NamedTuple):
    """Images of one step, on the device of the training, and what they show."""

    images: Tensor  # uint8 (b, 3, H, W), channel-last in memory
    targets: Tensor  # float32 (b, K) of 0 and 1, or int64 (b,) of classes
    n_classes: int  # that the labels speak of, at least; 0 for binary ones
    rows: Tensor  # int64 (b,), the numbers of the images among all


class Memory:
    """Images in memory, shifted and flipped at random."""

    def __init__(self, images: Tensor, labels: Tensor, recipe: Recipe, device: torch.device) -> None:
        check_images(images, least=2)
        check_labels(labels, recipe.loss, len(images))
        self.windows = _shift_windows(images.to(device), recipe.max_shift)
        self.targets, self.n_classes = _targets(labels, recipe.loss, device)
        self.images, self.labels, self.flip = images, labels, recipe.flip
        self.n, self.steps = len(images), -(-len(images) // recipe.batch_size)

    def batches(self, epoch_seed: int) -> Iterator[Batch]:
        """Give the batches of an epoch, of about equal size."""
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
            yield Batch(images, self.targets[chosen], self.n_classes, chosen)

    def describe(self) -> Any:
        """Give what tells these data from others."""
        return tensors_digest({"images": self.images, "labels": self.labels})


class Stream:
    """Images that are decoded when they are needed, in the order that images in memory would have."""

    def __init__(self, prepared: "Prepared", recipe: Recipe, workers: int, device: torch.device) -> None:
        self.prepared, self.kind, self.workers, self.device = prepared, recipe.loss, workers, device
        self.n, self.steps = len(prepared), -(-len(prepared) // recipe.batch_size)
        check_labels(prepared[0, 0][1][None], self.kind, 1)

    def batches(self, epoch_seed: int) -> Iterator[Batch]:
        """Give the batches of an epoch, of about equal size."""
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(epoch_seed))
        parts = order.tensor_split(self.steps)
        for rows, (images, labels) in zip(parts, load(self.prepared, parts, self.workers, epoch_seed), strict=True):
            check_labels(labels, self.kind, len(images))
            inputs = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield Batch(inputs, *_targets(labels, self.kind, self.device), rows)

    def describe(self) -> Any:
        """Give what tells these data from others, short of decoding them all."""
        dataset, transform = self.prepared.dataset, self.prepared.transform
        image, label = self.prepared[0, 0]
        return [type(dataset).__qualname__, self.n, repr(transform), tensors_digest({"image": image, "label": label})]


class Prepared(Dataset[tuple[Tensor, Tensor]]):
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
            needed = "torch.uint8 of shape (3, H, W), which a transform such as celeba_transforms makes of an RGB image"
            raise ValueError(f"item {index} of the dataset is prepared as {found}; needed: {needed}")
        return image, torch.as_tensor(label)


def load(prepared: Prepared, batches: tuple[Tensor, ...], workers: int, epoch_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Load the images and labels of given indices, batch by batch."""
    check_range(0, loader_workers=workers)
    seeds = np.random.SeedSequence(epoch_seed).generate_state(len(prepared)).tolist()
    keys = [[(index, seeds[index]) for index in batch.tolist()] for batch in batches]
    # A generator of its own, or the loader would draw from the one that dropout uses.
    generator = torch.Generator().manual_seed(epoch_seed)
    pinned = torch.cuda.is_available()
    return iter(DataLoader(prepared, batch_sampler=keys, num_workers=workers, generator=generator, pin_memory=pinned))


def check_labels(labels: Tensor, kind: LabelKind, n: int) -> None:
    """Raise ValueError unless the labels of n images are (n, K) of 0 and 1 ("binary"), or (n,) numbers of classes ("softmax")."""
    found = f"labels of shape {tuple(labels.shape)} for {n} image(s)"
    if kind == "softmax":
        if labels.shape != (n,):
            raise ValueError(f"{found}; needed for loss='softmax': ({n},), the number of the one class of each image")
        if labels.is_floating_point() or (labels < 0).any():
            raise ValueError("labels for loss='softmax' are the numbers of classes, whole and from 0 on")
    elif labels.ndim != 2 or len(labels) != n:
        raise ValueError(f"{found}; needed: ({n}, K), one number for each attribute, 0 or 1 (exclusive classes: loss='softmax')")
    elif not ((labels == 0) | (labels == 1)).all():
        raise ValueError("labels hold other values than 0 and 1; encode each attribute as one binary column")


def _targets(labels: Tensor, kind: LabelKind, device: torch.device) -> tuple[Tensor, int]:
    """Labels as the loss takes them, and the number of classes that they speak of."""
    dtype, n_classes = (torch.int64, int(labels.max()) + 1) if kind == "softmax" else (torch.float32, 0)
    return labels.to(device, dtype, non_blocking=True), n_classes


def _shift_windows(images: Tensor, max_shift: int) -> Tensor:
    """View the padded images as all their shifted crops: (n, 2s+1, 2s+1, 3, H, W), without copying them for each shift.

    The pixels lie channel-last in memory, so a gathered batch is channel-last as well.
    """
    height, width = images.shape[2:]
    rows = torch.arange(-max_shift, height + max_shift, device=images.device).clamp(0, height - 1)
    columns = torch.arange(-max_shift, width + max_shift, device=images.device).clamp(0, width - 1)
    return images.permute(0, 2, 3, 1)[:, rows][:, :, columns].contiguous().unfold(1, height, 1).unfold(2, width, 1)
