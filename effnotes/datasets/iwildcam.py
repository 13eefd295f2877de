"""iWildCam 2020 in the form of WILDS, version 2.0 (Beery, Cole & Gjoka 2020; Koh et al., ICML 2021), from a folder of the user's.

Species in photographs of camera traps: exclusive classes, from thousands of images to one. Test images come from cameras that
training has seen ("id_test") and from others ("test").
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effnotes.core.checks import check_choice
from effnotes.core.errors import DataError
from effnotes.datasets import files
from effnotes.datasets.attributes import ClassData, ClassSplit

_SPLITS = ("train", "val", "test", "id_val", "id_test")
_LAYOUT = """\
  ROOT/metadata.csv          with the columns split, filename and y
  ROOT/categories.csv        with the columns y and name; optional
  ROOT/train/<filename>      the images of all splits
ROOT may also be the folder that holds iwildcam_v2.0. Version 1.0, which has train.csv and other splits, is not read."""

FREQUENCY_NAMES = ("1 to 5", "6 to 10", "11 to 50", "51 to 150", "over 150")
"""The groups of classes by frequency: the images that each of their classes has."""
_EDGES = (5, 10, 50, 150)  # most images in a group


def load_iwildcam(root: str | Path, *, image_size: int, limit: files.Limit = None, splits: Sequence[str] = _SPLITS) -> ClassData:
    """Read iWildCam 2.0 into memory; images are squashed to squares, as WILDS does, because animals stand at the edges too.

    Args:
        root: Folder with `metadata.csv`; see the data card `data/iwildcam/CARD.md`.
        image_size: Height and width in pixels.
        limit: At most so many images of each split, evenly spread over the table.
        splits: Which splits to read, among "train", "val", "test", "id_val" and "id_test".

    Returns:
        The splits by WILDS's names, of which "val" and "test" are other cameras than "train". Class names come from
        `categories.csv` where that is there. A class of the whole table may be in no image of a split.

    Raises:
        DataError: A file or image is missing, cut short, malformed or listed twice; the message names the file and line.
        ValueError: A number is out of range, or there is no such split.
    """
    files.check_request(image_size, limit, _SPLITS)
    check_choice(_SPLITS, **{f"splits[{number}]": name for number, name in enumerate(splits)})
    base = files.find_root(root, ["iwildcam_v2.0"], lambda folder: (folder / "metadata.csv").is_file(), _LAYOUT)
    table = base / "metadata.csv"
    values, paths = [], []
    for line, row in files.read_csv(table, ["split", "filename", "y"], once="filename"):
        values.append((files.parse_choice(row["split"], _SPLITS, table, line, "split"), _class_index(row["y"], table, line)))
        paths.append(base / "train" / row["filename"])
    split_of, label = np.array(values, dtype=np.int64).reshape(-1, 2).T
    present = np.unique(label)
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        gap = f"the labels go up to {present.max()}, but no row has y = {gaps[0]}"
        raise DataError(f"{table}: {gap}; the classes must be numbered without gaps")
    rows = files.rows_of_splits(split_of, _SPLITS, limit, table)
    class_names = _class_names(base / "categories.csv", len(present))
    read = files.read_splits({name: rows[name] for name in splits}, paths, image_size, "squash")
    found = {name: ClassSplit(torch.from_numpy(images), torch.from_numpy(label)[rows]) for name, (rows, images) in read.items()}
    return ClassData(found, class_names, f"iWildCam 2.0 (WILDS), {image_size} px")


def frequency_groups(labels: Tensor, num_classes: int) -> Tensor:
    """Group classes by how many images they have, to read scores of frequent and of rare classes apart.

    Args:
        labels: (n,) int64, class indices.
        num_classes: Number of classes C.

    Returns:
        (C,) int64: the position of each class in `FREQUENCY_NAMES`; -1 for a class without any image, for which no score is
        defined.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    return torch.where(counts == 0, -1, torch.bucketize(counts, torch.tensor(_EDGES)))


def _class_index(text: str, table: Path, line: int) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise DataError(f"{table}, line {line}: y is {text[:60]!r}, but must be a class index from 0, of at most 9 digits")
    return int(text)


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    names = [f"class {number}" for number in range(classes)]
    lines: dict[str, int] = {}
    if path.is_file():
        for line, row in files.read_csv(path, ["y", "name"]):
            index = _class_index(row["y"], path, line)
            if index < classes:  # all classes that no image has are numbered 99999 in the published file
                files.check_once(lines, str(index), path, line)
                names[index] = files.clean_name(row["name"])
    return tuple(names)
