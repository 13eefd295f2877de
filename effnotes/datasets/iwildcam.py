"""iWildCam 2020 in the form of WILDS, version 2.0 (Beery, Cole & Gjoka 2020; Koh et al., ICML 2021), from a folder of the user's.

Species in photographs of camera traps: exclusive classes, from thousands of images to one. Test images come from cameras that
training has seen ("id_test") and from others ("test").
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effnotes.core.errors import DataError
from effnotes.datasets.attributes import ClassData, ClassSplit
from effnotes.datasets.files import (
    Limit,
    check_image_size,
    check_images_exist,
    check_limit,
    check_not_empty,
    decode_images,
    find_root,
    limited,
    parse_choice,
    read_csv,
)

__all__ = ["frequency_groups", "load_iwildcam"]

_SPLITS = ("train", "val", "test", "id_val", "id_test")
_LAYOUT = """\
  ROOT/metadata.csv          with the columns split, filename and y
  ROOT/categories.csv        with the columns y and name; optional
  ROOT/train/<filename>      the images of all splits
ROOT may also be the folder that holds iwildcam_v2.0."""


def load_iwildcam(root: str | Path, *, image_size: int, limit: Limit = None) -> ClassData:
    """Read iWildCam 2.0 into memory; images are squashed to squares, as WILDS does, because animals stand at the edges too.

    Args:
        root: Folder with `metadata.csv`; see the data card `data/iwildcam/CARD.md`.
        image_size: Height and width in pixels.
        limit: At most so many images of each split ("train", "val", "test", "id_val", "id_test"), evenly spread over the table.

    Returns:
        Five splits by WILDS's names, of which "val" and "test" are other cameras than "train". Class names come from
        `categories.csv` where that is there.

    Raises:
        DataError: This is version 1.0; or a file or image is missing, cut short or malformed; the message names the file and line.
        ValueError: A number is out of range.
    """
    check_image_size(image_size)
    check_limit(limit, _SPLITS)
    _refuse_version_1(Path(root).expanduser())
    base = find_root(root, ["iwildcam_v2.0"], lambda folder: (folder / "metadata.csv").is_file(), _LAYOUT)
    table = base / "metadata.csv"
    names: list[str] = []
    rows: list[tuple[int, int]] = []  # split, label
    for line, row in read_csv(table, ["split", "filename", "y"]):
        if not row["y"].isdecimal():
            raise DataError(f"{table}, line {line}: y is {row['y']!r}, but must be a class index from 0")
        rows.append((parse_choice(row["split"], _SPLITS, table, line, "split"), int(row["y"])))
        names.append(row["filename"])
    values = np.array(rows, dtype=np.int64).reshape(-1, 2)
    present = np.unique(values[:, 1])
    if not np.array_equal(present, np.arange(len(present))):
        gap = next(number for number, label in enumerate([*present, -1]) if number != label)
        raise DataError(
            f"{table}: the labels go up to {present.max()}, but no row has y = {gap}; the classes must be numbered without gaps"
        )
    chosen = {name: np.flatnonzero(values[:, 0] == number) for number, name in enumerate(_SPLITS)}
    check_not_empty({name: len(of_split) for name, of_split in chosen.items()}, table)
    chosen = {name: of_split[limited(len(of_split), limit, name)] for name, of_split in chosen.items()}
    paths = {name: [base / "train" / names[row] for row in of_split] for name, of_split in chosen.items()}
    check_images_exist([path for of_split in paths.values() for path in of_split])
    class_names = _class_names(base / "categories.csv", len(present))
    splits = {
        name: ClassSplit(decode_images(paths[name], image_size, "squash"), torch.from_numpy(values[of_split, 1]))
        for name, of_split in chosen.items()
    }
    return ClassData(splits, class_names, f"iWildCam 2.0 (WILDS), {image_size} px")


def frequency_groups(labels: Tensor, num_classes: int, edges: tuple[int, ...] = (5, 10, 50, 150)) -> Tensor:
    """Group classes by how many images they have, to read scores of frequent and of rare classes apart.

    Args:
        labels: (n,) int64, class indices.
        num_classes: Number of classes C.
        edges: Largest counts of the groups, ascending; one group more holds the classes above the last.

    Returns:
        (C,) int64: 0 for a class with 1 to edges[0] images, 1 for up to edges[1], and so on; -1 for a class without any image, for
        which no score is defined.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    groups = torch.bucketize(counts, torch.tensor(edges))
    return torch.where(counts == 0, -1, groups)


def _refuse_version_1(root: Path) -> None:
    for folder in (root, root / "iwildcam_v1.0"):
        old = next((name for name in ("RELEASE_v1.0.txt", "train.csv", "test_ood.csv") if (folder / name).is_file()), None)
        if old is not None and not (folder / "metadata.csv").is_file():
            raise DataError(
                f"{folder / old}: this is iWildCam version 1.0; needed is version 2.0, which has one metadata.csv and other splits"
            )


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    names = [f"class {number}" for number in range(classes)]
    if path.is_file():
        for line, row in read_csv(path, ["y", "name"]):
            if not row["y"].isdecimal():
                raise DataError(f"{path}, line {line}: y is {row['y']!r}, but must be a class index from 0")
            if int(row["y"]) < classes:
                names[int(row["y"])] = row["name"]
    return tuple(names)
