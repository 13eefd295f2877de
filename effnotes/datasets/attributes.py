"""The common shape of data with binary attributes and two groups, drawn or photographed, held in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effnotes.core.errors import nearest
from effnotes.datasets.files import Limit, read_splits, rows_of_splits

SPLITS = ("train", "val", "test")

Columns: TypeAlias = tuple[Tensor, tuple[str, ...], int | None, Tensor | None]
"""Labels (n, K), their names, the column of the protected attribute or None, and groups (n,) or None."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with labels, as a map-style dataset for `torch.utils.data.DataLoader`: item `i` is `(images[i], labels[i])`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


@dataclass(frozen=True, eq=False)
class AttributeSplit(Images):
    """Images with one binary label for each attribute, and perhaps a group for each image.

    Works as a map-style dataset for `torch.utils.data.DataLoader`: item `i` is `(images[i], labels[i])`.

    Attributes:
        images: (n, 3, S, S) uint8, RGB, n >= 1.
        labels: (n, K) int64 in {0, 1}.
        groups: (n,) int64 in {0, 1}, the protected attribute where it is no column of the labels; else None.

    Raises:
        ValueError: A shape, dtype or value is another.
    """

    groups: Tensor | None = None

    def __post_init__(self) -> None:
        check_images(self.images)
        for what, values, ndim in (("labels", self.labels, 2), ("groups", self.groups, 1)):
            if values is not None:
                _check_whole(what, values, len(self.images), ndim=ndim)
                if not bool(((values == 0) | (values == 1)).all()):
                    raise ValueError(f"{what} hold other values than 0 and 1")


@dataclass(frozen=True, eq=False)
class AttributeData:
    """Training, validation and test images with the same attributes, and who belongs to which group.

    The protected attribute is either a column of the labels, `protected`, or an array `groups` of each split; `groups_of` gives it
    in both cases. Data without a protected attribute have neither.

    Attributes:
        train: Images to train on.
        val: Images to choose and calibrate on.
        test: Images to report on.
        attribute_names: Names of the K label columns.
        protected: Column of the protected attribute; None where the splits have `groups`, or there is none.
        source: What the data are and how they were prepared, in one line, for captions and records.

    Raises:
        ValueError: The splits differ in the number of attributes or in having groups, names do not fit the labels or repeat, or
            the protected attribute is given twice and differently.
    """

    train: AttributeSplit
    val: AttributeSplit
    test: AttributeSplit
    attribute_names: tuple[str, ...]
    protected: int | None
    source: str

    def __post_init__(self) -> None:
        n = len(self.attribute_names)
        if len(set(self.attribute_names)) != n:
            raise ValueError(f"attribute_names {list(self.attribute_names)} hold a name twice")
        if self.protected is not None and not 0 <= self.protected < n:
            raise ValueError(f"protected={self.protected}: must be a column from 0 to {n - 1}, or None")
        for name, split in zip(SPLITS, (self.train, self.val, self.test), strict=True):
            if split.labels.shape[1] != n:
                raise ValueError(f"{name} has {split.labels.shape[1]} label columns for {n} attribute names")
            if (split.groups is None) != (self.train.groups is None):
                raise ValueError(f"{name} and train must both have groups or both have none")
            column, groups = self.protected, split.groups
            if column is not None and groups is not None and not torch.equal(groups, split.labels[:, column]):
                raise ValueError(f"groups of {name} differ from its label column {column}, which is said to be protected")

    def groups_of(self, split: AttributeSplit) -> Tensor | None:
        """Return the group of each image of a split, (n,) int64 in {0, 1}; None where nothing is protected."""
        return split.groups if self.protected is None else split.labels[:, self.protected]

    def column(self, name: str) -> int:
        """Return the column of an attribute.

        Raises:
            ValueError: There is no such attribute; the message gives the nearest name.
        """
        return column_of(name, self.attribute_names)


@dataclass(frozen=True, eq=False)
class ClassSplit(Images):
    """Images of exclusive classes.

    Attributes:
        images: (n, 3, S, S) uint8, RGB, n >= 1.
        labels: (n,) int64, class indices from 0.

    Raises:
        ValueError: A shape, dtype or value is another.
    """

    def __post_init__(self) -> None:
        check_images(self.images)
        _check_whole("labels", self.labels, len(self.images))
        if bool((self.labels < 0).any()):
            raise ValueError(f"labels go down to {int(self.labels.min())}; needed: class indices from 0")


@dataclass(frozen=True, eq=False)
class ClassData:
    """Named splits of images of the same classes.

    Attributes:
        splits: The splits by name, in the order of the source.
        class_names: Names of the classes in the order of their indices.
        source: What the data are, in one line.

    Raises:
        ValueError: A label has no class name.
    """

    splits: dict[str, ClassSplit]
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            if int(split.labels.max()) >= len(self.class_names):
                raise ValueError(f"{name} has a label {int(split.labels.max())}, but there are {len(self.class_names)} class names")


class RegionData(NamedTuple):
    """Images of exclusive classes, and where in each image its class is to be seen.

    Attributes:
        data: Images and classes of the splits "train", "val" and "test".
        regions: For each split (n, H, W) bool: True on the pixels that show the class; False on all of an image where that is not
            known.
    """

    data: ClassData
    regions: dict[str, Tensor]


def column_of(name: str, names: Sequence[str], what: str = "attribute") -> int:
    """Return the position of a name, or raise a ValueError that gives the nearest one and lists all."""
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}.{nearest(name, names)} The data have: {', '.join(names)}.")
    return list(names).index(name)


def read_attribute_data(
    split_of: NDArray[np.integer[Any]], table: Path, paths: list[Path], image_size: int, limit: Limit, columns: Columns, source: str
) -> AttributeData:
    """Read the images that a table lists: training, validation and test images with the labels of their rows.

    Args:
        split_of: (n,) the split of each row of the table, as its position in `SPLITS`.
        table: What the table was read from.
        paths: The image of each row.
        image_size: Height and width in pixels.
        limit: As for `files.limited`.
        columns: Of the whole table.
        source: As for `AttributeData`.

    Raises:
        DataError: A split has no image, or an image is missing or damaged.
        ValueError: A limit is below 1.
    """
    labels, names, protected, groups = columns
    train, val, test = (
        AttributeSplit(torch.from_numpy(images), labels[rows].long(), None if groups is None else groups[rows].long())
        for rows, images in read_splits(rows_of_splits(split_of, SPLITS, limit, table), paths, image_size).values()
    )
    return AttributeData(train, val, test, names, protected, source)


def check_images(images: Tensor, *, least: int = 1) -> None:
    """Raise ValueError unless images are (n, 3, H, W) uint8, and enough."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}; needed: torch.uint8 of shape (n, 3, H, W)")
    if len(images) < least:
        raise ValueError(f"{len(images)} image(s) given; needed: at least {least}")


def _check_whole(what: str, values: Tensor, n: int, *, ndim: int = 1) -> None:
    if values.dtype != torch.int64 or values.ndim != ndim or len(values) != n:
        shape = f"({n}, K)" if ndim == 2 else f"({n},)"
        raise ValueError(f"{what} are {values.dtype} of shape {tuple(values.shape)}; needed: torch.int64 of shape {shape}")
