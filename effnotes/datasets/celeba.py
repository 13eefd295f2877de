"""CelebA (Liu, Luo, Wang & Tang, ICCV 2015): photographs of faces with forty binary attributes, read from a folder of the user's.

Two layouts are read: the original one (`list_attr_celeba.txt`, `list_eval_partition.txt`, with or without the folders `Anno`,
`Eval` and `Img` of the download), and the common re-pack with the same tables as CSV and a nested image folder. The official
partition is kept; it puts all photographs of one person into one split, which a new random split would not.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from effnotes.core.checks import check_choice
from effnotes.core.errors import DataError
from effnotes.datasets import files
from effnotes.datasets.attributes import SPLITS, AttributeData, column_of, read_attribute_data

_IMAGES = "img_align_celeba"
_LAYOUT = f"""\
  ROOT/{_IMAGES}/000001.jpg ...      the aligned images (the re-pack's nested {_IMAGES}/{_IMAGES}/ is fine)
  ROOT/list_attr_celeba.txt             or .csv
  ROOT/list_eval_partition.txt          or .csv
ROOT may also be the folder that holds 'celeba'; the folders Anno, Eval and Img of the original download are read too."""


def load_celeba(root: str | Path, *, image_size: int, limit: files.Limit = None) -> AttributeData:
    """Read CelebA into memory, scaled to squares, with "Male" as the protected attribute.

    Tables and the presence of every image are checked before the first image is decoded. A label is (v + 1) / 2 of the -1 or 1
    in the file, and columns are found by the names in the file. All 202,599 images take 2.5 GB at 64 pixels and 30 GB at 224;
    for training at full size use `CelebADataset`, which decodes as it goes.

    Args:
        root: Folder with the data; see the data card `data/celeba/CARD.md` for the layouts.
        image_size: Height and width in pixels. The shorter side of the image is scaled to it and the middle cut out.
        limit: At most so many images of each split ("train", "val", "test"), evenly spread over the file.

    Returns:
        The official training, validation and test images. To protect another attribute, take
        `dataclasses.replace(data, protected=data.column(name))`.

    Raises:
        DataError: A file or image is missing, cut short or malformed; the message names the file and the line.
        ValueError: There is no attribute of that name, or a number is out of range.
    """
    files.check_request(image_size, limit, SPLITS)
    index = _read_index(root)
    column = column_of("Male", index.attribute_names, "attribute to protect")
    columns = torch.from_numpy(index.labels), index.attribute_names, column, None
    source = f"CelebA, aligned images, {image_size} px, official partition"
    return read_attribute_data(index.partition, index.partition_file, index.paths, image_size, limit, columns, source)


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
        check_choice(SPLITS, split=split)
        index = _read_index(root)
        rows = files.rows_of_splits(index.partition, SPLITS, None, index.partition_file)[split]
        files.check_images_exist([index.paths[row] for row in rows])
        self.attribute_names = index.attribute_names
        self.labels = torch.from_numpy(index.labels[rows].astype(np.int64))
        # One array of text: a list of as many objects is copied page by page into every worker process.
        self._paths = np.array([str(index.paths[row]) for row in rows], dtype=np.str_)
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._transform(files.decode_image(Path(self._paths[index]))), self.labels[index]


class _Index(NamedTuple):
    partition_file: Path
    paths: list[Path]  # n images
    labels: NDArray[np.uint8]  # (n, 40) in {0, 1}
    attribute_names: tuple[str, ...]
    partition: NDArray[np.uint8]  # (n,) in {0, 1, 2}


def _read_index(root: str | Path) -> _Index:
    base = files.find_root(root, ["celeba", "CelebA"], lambda folder: _table(folder, "list_attr_celeba", "Anno"), _LAYOUT)
    attribute_file = _table(base, "list_attr_celeba", "Anno")
    partition_file = _table(base, "list_eval_partition", "Eval")
    folders = (base / _IMAGES / _IMAGES, base / _IMAGES, base / "Img" / _IMAGES)
    folder = next((path for path in folders if path.is_dir()), None)
    if attribute_file is None or partition_file is None or folder is None:
        absent = f"folder {_IMAGES}" if folder is None else "list_eval_partition.txt, and no .csv of it,"
        raise DataError(f"{base}: there is no {absent} in this directory. Expected layout:\n{_LAYOUT}")
    names, labels, attribute_names = _read_attributes(attribute_file)
    partition = _read_partition(partition_file, names, attribute_file)
    return _Index(partition_file, [folder / name for name in names], labels, attribute_names, partition)


def _table(base: Path, stem: str, subfolder: str) -> Path | None:
    candidates = (base / f"{stem}.txt", base / subfolder / f"{stem}.txt", base / f"{stem}.csv")
    return next((path for path in candidates if path.is_file()), None)


def _read_original(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Read rows as `files.read_csv` does, with blanks between cells; without `columns` two lines come first, a number and names."""
    rows = files.read_lines(path)
    announced: int | None = None
    if not columns and rows:
        number, text = rows.pop(0)
        if not text.isdecimal() or len(text) > 9:
            raise DataError(f"{path}, line {number}: {text[:60]!r} should be the number of images alone")
        announced = int(text)
        if not rows:
            raise DataError(f"{path}: the line of attribute names is missing")
        number, text = rows.pop(0)
        columns = [files.clean_name(name) for name in text.split()]
        if len(set(columns)) != len(columns) or {"1", "-1"} & set(columns):
            raise DataError(f"{path}, line {number}: these are no attribute names, each once: {text[:60]!r}")
    lines: dict[str, int] = {}
    for number, text in rows:
        image, *cells = text.split()
        if len(cells) != len(columns):
            needed = f"there are {len(columns)} attributes" if announced is not None else "needed is one: 0, 1 or 2"
            raise DataError(f"{path}, line {number}: {len(cells)} values after {image!r}, but {needed}")
        files.check_once(lines, image, path, number)
        yield number, {"image_id": image, **dict(zip(columns, cells, strict=True))}
    if announced not in (None, len(rows)):
        counted = f"it announces {announced} images, but {len(rows)} rows follow"
        raise DataError(f"{path}, line 1: {counted}; the file is cut short or edited")


def _read_attributes(path: Path) -> tuple[list[str], NDArray[np.uint8], tuple[str, ...]]:
    rows = files.read_csv(path, ["image_id"], once="image_id", others=True) if path.suffix == ".csv" else _read_original(path)
    images, labels = [], []
    names: tuple[str, ...] = ()
    for number, row in rows:
        images.append(row.pop("image_id"))
        names = tuple(row)
        if wrong := set(row.values()) - {"1", "-1"}:
            raise DataError(f"{path}, line {number}: {min(wrong)!r} is no label; the values are -1 and 1")
        labels.append(bytes([value == "1" for value in row.values()]))
    if not images:
        raise DataError(f"{path}: there is no image in this table; the file is cut short")
    return images, np.frombuffer(b"".join(labels), dtype=np.uint8).reshape(len(images), len(names)).copy(), names


def _read_partition(path: Path, names: list[str], attribute_file: Path) -> NDArray[np.uint8]:
    columns, known = ["partition"], set(names)
    is_csv = path.suffix == ".csv"
    rows = files.read_csv(path, ["image_id", *columns], once="image_id") if is_csv else _read_original(path, columns)
    split_of: dict[str, int] = {}
    for number, row in rows:
        image, what = row["image_id"], f"the partition of {row['image_id']}"
        if image not in known:
            raise DataError(f"{path}, line {number}: {files.shown(image)} is not in {attribute_file.name}")
        split_of[image] = files.parse_choice(row["partition"], ("0", "1", "2"), path, number, what)
    for name in names:
        if name not in split_of:
            raise DataError(f"{path}: {files.shown(name)} of {attribute_file.name} is not in this file")
    return np.array([split_of[name] for name in names], dtype=np.uint8)
