"""Waterbirds (Sagawa, Koh, Hashimoto & Liang, ICLR 2020): birds pasted onto land or water, read from a folder of the user's."""

from pathlib import Path

import numpy as np
import torch

from effnotes.datasets.attributes import SPLITS, AttributeData, read_attribute_data
from effnotes.datasets.files import Limit, check_request, find_root, parse_choice, read_csv

_CHOICES = {"split": ("0", "1", "2"), "y": ("0", "1"), "place": ("0", "1")}
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
        DataError: A file or image is missing, cut short, malformed or listed twice; the message names the file and the line.
        ValueError: A number is out of range.
    """
    check_request(image_size, limit, SPLITS)
    nested = ["waterbird_complete95_forest2water2", "waterbirds_v1.0"]
    base = find_root(root, nested, lambda folder: (folder / "metadata.csv").is_file(), _LAYOUT)
    table = base / "metadata.csv"
    values, paths = [], []
    for line, row in read_csv(table, ["img_filename", *_CHOICES], once="img_filename"):
        values.append([parse_choice(row[name], allowed, table, line, name) for name, allowed in _CHOICES.items()])
        paths.append(base / row["img_filename"])
    split_of, label, place = np.array(values, dtype=np.int64).reshape(-1, 3).T
    columns = torch.from_numpy(label)[:, None], ("Waterbird",), None, torch.from_numpy(place)
    source = f"Waterbirds, {image_size} px, official split; group: water background"
    return read_attribute_data(split_of, table, paths, image_size, limit, columns, source)
