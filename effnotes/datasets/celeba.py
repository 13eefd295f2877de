"""CelebA (Liu, Luo, Wang & Tang, ICCV 2015): photographs of faces with forty binary attributes, read from a folder of the user's.

Two layouts are read: the original one (`list_attr_celeba.txt`, `list_eval_partition.txt`, with or without the folders `Anno`,
`Eval` and `Img` of the download), and the common re-pack with the same tables as CSV and a nested image folder. The official
partition is kept; it puts all photographs of one person into one split, which a new random split would not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from effnotes.core.errors import DataError
from effnotes.datasets.attributes import AttributeData, AttributeSplit, select_attributes
from effnotes.datasets.files import (
    Limit,
    check_image_size,
    check_images_exist,
    check_limit,
    check_not_empty,
    decode_image,
    decode_images,
    find_root,
    limited,
    parse_choice,
    read_lines,
)

__all__ = ["CelebADataset", "load_celeba"]

_SPLITS = ("train", "val", "test")  # in the order of the partition's numbers
_IMAGES = "img_align_celeba"
_LAYOUT = f"""\
  ROOT/{_IMAGES}/000001.jpg ...      the aligned images (the re-pack's nested {_IMAGES}/{_IMAGES}/ is fine)
  ROOT/list_attr_celeba.txt             or .csv
  ROOT/list_eval_partition.txt          or .csv
ROOT may also be the folder that holds 'celeba'; the folders Anno, Eval and Img of the original download are read too."""


def load_celeba(
    root: str | Path,
    *,
    image_size: int,
    limit: Limit = None,
    protected: str = "Male",
    attributes: Sequence[str] | None = None,
) -> AttributeData:
    """Read CelebA into memory, scaled to squares.

    Tables and the presence of every image are checked before the first image is decoded. A label is (v + 1) / 2 of the -1 or 1
    in the file, and columns are found by the names in the file. All 202,599 images take 2.5 GB at 64 pixels and 30 GB at 224;
    for training at full size use `CelebADataset`, which decodes as it goes.

    Args:
        root: Folder with the data; see the data card `data/celeba/CARD.md` for the layouts.
        image_size: Height and width in pixels. The shorter side of the image is scaled to it and the middle cut out.
        limit: At most so many images of each split ("train", "val", "test"), evenly spread over the file.
        protected: Name of the protected attribute.
        attributes: Names of the label columns, in this order; None takes all forty. Where `protected` is not among them it
            becomes the group array of the splits.

    Returns:
        The official training, validation and test images.

    Raises:
        DataError: A file or image is missing, cut short or malformed; the message names the file and the line.
        ValueError: An attribute is unknown (the message gives the nearest name), or a number out of range.
    """
    check_image_size(image_size)
    check_limit(limit, _SPLITS)
    index = _read_index(root)
    labels, names, column, groups = select_attributes(torch.from_numpy(index.labels), index.attribute_names, attributes, protected)
    rows = {split: index.rows_of(split) for split in _SPLITS}
    check_not_empty({split: len(of_split) for split, of_split in rows.items()}, index.partition_file)
    rows = {split: of_split[limited(len(of_split), limit, split)] for split, of_split in rows.items()}
    paths = {split: index.paths(of_split) for split, of_split in rows.items()}
    check_images_exist([path for of_split in paths.values() for path in of_split])
    splits = {
        split: AttributeSplit(
            decode_images(paths[split], image_size), labels[of_split].long(), None if groups is None else groups[of_split].long()
        )
        for split, of_split in rows.items()
    }
    source = f"CelebA, aligned images, {image_size} px, official partition"
    return AttributeData(splits["train"], splits["val"], splits["test"], names, column, source)


class CelebADataset(Dataset[tuple[Any, Tensor]]):
    """One split of CelebA whose images are decoded when they are asked for, for training at full size.

    Item `i` is `(transform(image), labels)`: a 178 x 218 RGB `PIL.Image` through the transform, and (40,) int64 in {0, 1}.
    Tables and the presence of all images are checked on creation. Worker processes of a `DataLoader` may share it.

    Args:
        root: As for `load_celeba`.
        split: "train", "val" or "test" of the official partition.
        transform: Applied to the image, for instance a `torchvision.transforms.Compose`.

    Raises:
        DataError: As for `load_celeba`; for a damaged image when it is asked for.
        ValueError: There is no such split.
    """

    def __init__(self, root: str | Path, split: Literal["train", "val", "test"], transform: Callable[[Image.Image], Any]) -> None:
        check_limit({split: 1}, _SPLITS)
        index = _read_index(root)
        rows = index.rows_of(split)
        check_not_empty({split: len(rows)}, index.partition_file)
        check_images_exist(index.paths(rows))
        self.attribute_names = index.attribute_names
        self.labels = torch.from_numpy(index.labels[rows].astype(np.int64))
        self._folder = index.folder
        # One array of text: a list of as many objects is copied page by page into every worker process.
        self._names = np.array([index.names[row] for row in rows], dtype=np.str_)
        self._transform = transform

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._transform(decode_image(self._folder / str(self._names[index]))), self.labels[index]


@dataclass(frozen=True)
class _Index:
    folder: Path
    partition_file: Path
    names: list[str]  # n file names
    labels: NDArray[np.uint8]  # (n, 40) in {0, 1}
    attribute_names: tuple[str, ...]
    partition: NDArray[np.uint8]  # (n,) in {0, 1, 2}

    def rows_of(self, split: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.partition == _SPLITS.index(split)).astype(np.int64)

    def paths(self, rows: NDArray[np.int64]) -> list[Path]:
        return [self.folder / self.names[row] for row in rows]


def _read_index(root: str | Path) -> _Index:
    base = find_root(root, ["celeba", "CelebA"], lambda folder: _table(folder, "list_attr_celeba", "Anno") is not None, _LAYOUT)
    attribute_file = _table(base, "list_attr_celeba", "Anno")
    partition_file = _table(base, "list_eval_partition", "Eval")
    folder = next(
        (path for path in (base / _IMAGES / _IMAGES, base / _IMAGES, base / "Img" / _IMAGES) if path.is_dir()),
        None,
    )
    if attribute_file is None or partition_file is None or folder is None:
        absent = f"folder {_IMAGES}" if folder is None else "list_eval_partition.txt, and no .csv of it,"
        raise DataError(f"{base}: there is no {absent} in this directory. Expected layout:\n{_LAYOUT}")
    names, labels, attribute_names = _read_attributes(attribute_file)
    return _Index(folder, partition_file, names, labels, attribute_names, _read_partition(partition_file, names, attribute_file))


def _table(base: Path, stem: str, subfolder: str) -> Path | None:
    candidates = (base / f"{stem}.txt", base / subfolder / f"{stem}.txt", base / f"{stem}.csv")
    return next((path for path in candidates if path.is_file()), None)


def _read_attributes(path: Path) -> tuple[list[str], NDArray[np.uint8], tuple[str, ...]]:
    lines = read_lines(path)
    count: int | None = None
    separator = None  # any run of spaces, the original's padding
    if path.suffix == ".csv":
        separator = ","
    elif lines:
        number, text = lines.pop(0)
        if not text.isdecimal():
            raise DataError(f"{path}, line {number}: {text[:60]!r} should be the number of images alone")
        count = int(text)
    if not lines:
        raise DataError(f"{path}: the line of attribute names is missing")
    header_line, header = lines.pop(0)
    attribute_names = tuple(name.strip() for name in header.split(separator))
    if separator is not None:
        if attribute_names[0] != "image_id":
            raise DataError(f"{path}, line {header_line}: the first column is {attribute_names[0]!r}, but must be 'image_id'")
        attribute_names = attribute_names[1:]
    if len(set(attribute_names)) != len(attribute_names) or {"1", "-1"} & set(attribute_names):
        raise DataError(f"{path}, line {header_line}: these are no attribute names, each once: {header[:60]!r}")

    names: list[str] = []
    rows: list[bytes] = []
    for number, text in lines:
        name, *values = text.split(separator)
        if separator is not None:
            values = [value.strip() for value in values]
        if len(values) != len(attribute_names):
            raise DataError(
                f"{path}, line {number}: {len(values)} values after {name!r}, but there are {len(attribute_names)} attributes"
            )
        if not set(values) <= {"1", "-1"}:
            wrong = next(value for value in values if value not in ("1", "-1"))
            raise DataError(f"{path}, line {number}: {wrong!r} is no label; the values are -1 and 1")
        names.append(name)
        rows.append(bytes([value == "1" for value in values]))
    if count is not None and count != len(names):
        raise DataError(
            f"{path}, line 1: it announces {count} images, but {len(names)} rows follow; the file is cut short or edited"
        )
    _check_unique(names, [number for number, _ in lines], path)
    labels = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(names), len(attribute_names))
    return names, labels.copy(), attribute_names


def _read_partition(path: Path, names: list[str], attribute_file: Path) -> NDArray[np.uint8]:
    lines = read_lines(path)
    separator = "," if path.suffix == ".csv" else None
    if separator is not None:
        if not lines or [cell.strip() for cell in lines[0][1].split(",")] != ["image_id", "partition"]:
            raise DataError(f"{path}, line 1: the header must be 'image_id,partition'")
        lines = lines[1:]
    split_of: dict[str, int] = {}
    listed: list[str] = []
    for number, text in lines:
        cells = text.split(separator)
        if len(cells) != 2:
            raise DataError(f"{path}, line {number}: {text[:60]!r} should be a file name and 0, 1 or 2")
        split_of[cells[0]] = parse_choice(cells[1].strip(), ("0", "1", "2"), path, number, f"the partition of {cells[0]}")
        listed.append(cells[0])
    _check_unique(listed, [number for number, _ in lines], path)
    for name in names:
        if name not in split_of:
            raise DataError(f"{path}: {name} of {attribute_file.name} is not in this file")
    if len(split_of) != len(names):
        known = set(names)
        number, extra = next((number, name) for (number, _), name in zip(lines, listed, strict=True) if name not in known)
        raise DataError(f"{path}, line {number}: {extra} is not in {attribute_file.name}")
    return np.array([split_of[name] for name in names], dtype=np.uint8)


def _check_unique(names: list[str], lines: list[int], path: Path) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name, line in zip(names, lines, strict=True):
        if name in seen:
            raise DataError(f"{path}, line {line}: {name} is listed a second time")
        seen.add(name)
