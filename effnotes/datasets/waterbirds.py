"""Waterbirds (Sagawa, Koh, Hashimoto & Liang, ICLR 2020): birds pasted onto land or water, read from a folder of the user's."""

from pathlib import Path

import numpy as np
import torch

from effnotes.datasets.attributes import AttributeData, AttributeSplit
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

__all__ = ["load_waterbirds"]

_SPLITS = ("train", "val", "test")  # in the order of the column's numbers
_LAYOUT = """\
  ROOT/metadata.csv      with the columns img_filename, y, place and split
  ROOT/<img_filename>    the images
ROOT may also be the folder that holds waterbird_complete95_forest2water2 or waterbirds_v1.0."""


def load_waterbirds(root: str | Path, *, image_size: int, limit: Limit = None) -> AttributeData:
    """Read Waterbirds into memory: one attribute, waterbird or landbird, and the background as group.

    Validation and test images have a balanced background within each label; training images have not.

    Args:
        root: Folder with `metadata.csv`; see the data card `data/waterbirds/CARD.md`.
        image_size: Height and width in pixels. The shorter side of the image is scaled to it and the middle cut out.
        limit: At most so many images of each split ("train", "val", "test"), evenly spread over the table.

    Returns:
        Labels (n, 1), 1 = waterbird; groups 1 = on water.

    Raises:
        DataError: A file or image is missing, cut short or malformed; the message names the file and the line.
        ValueError: A number is out of range.
    """
    check_image_size(image_size)
    check_limit(limit, _SPLITS)
    nested = ["waterbird_complete95_forest2water2", "waterbirds_v1.0"]
    base = find_root(root, nested, lambda folder: (folder / "metadata.csv").is_file(), _LAYOUT)
    table = base / "metadata.csv"
    rows: list[tuple[int, int, int]] = []  # split, label, place
    names: list[str] = []
    for line, row in read_csv(table, ["img_filename", "y", "place", "split"]):
        label, place = (parse_choice(row[name], ("0", "1"), table, line, name) for name in ("y", "place"))
        rows.append((parse_choice(row["split"], ("0", "1", "2"), table, line, "split"), label, place))
        names.append(row["img_filename"])
    values = np.array(rows, dtype=np.int64).reshape(-1, 3)
    chosen = {name: np.flatnonzero(values[:, 0] == number) for number, name in enumerate(_SPLITS)}
    check_not_empty({name: len(of_split) for name, of_split in chosen.items()}, table)
    chosen = {name: of_split[limited(len(of_split), limit, name)] for name, of_split in chosen.items()}
    paths = {name: [base / names[row] for row in of_split] for name, of_split in chosen.items()}
    check_images_exist([path for of_split in paths.values() for path in of_split])
    splits = [
        AttributeSplit(
            decode_images(paths[name], image_size), torch.from_numpy(values[of_split, 1:2]), torch.from_numpy(values[of_split, 2])
        )
        for name, of_split in chosen.items()
    ]
    train, val, test = splits
    return AttributeData(
        train, val, test, ("Waterbird",), None, f"Waterbirds, {image_size} px, official split; group: water background"
    )
