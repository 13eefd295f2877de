"""Animals with Attributes 2 (Xian, Lampert, Schiele & Akata, IEEE TPAMI 2019), read from a folder of the user's.

Attributes ("predicates") belong to the class and not to the image, so over few classes many of them coincide: the
interdependence of the labels themselves is close to 1.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effnotes.core.errors import DataError
from effnotes.datasets import files
from effnotes.datasets.attributes import SPLITS, AttributeData, column_of, read_attribute_data

_LAYOUT = """\
  ROOT/classes.txt                     number, tab, class
  ROOT/predicates.txt                  number, tab, attribute
  ROOT/predicate-matrix-binary.txt     one line of 0 and 1 a class
  ROOT/JPEGImages/CLASS/*.jpg          with ROOT/trainclasses.txt and ROOT/testclasses.txt, one class a line
or, instead of JPEGImages and the two lists,
  ROOT/train_images/CLASS/*.jpg and ROOT/ood_images/CLASS/*.jpg
ROOT may also be the folder that holds Animals_with_Attributes2."""


def load_awa2(root: str | Path, *, image_size: int, limit: files.Limit = None) -> AttributeData:
    """Read AwA2 into memory, with water as the protected attribute; the test images are of classes that training does not have.

    Training and validation images are of the same classes: of each class every tenth image, by name, goes to validation. The test
    classes are those of `testclasses.txt`, or the folders of `ood_images`.

    Args:
        root: Folder with the data; see the data card `data/awa2/CARD.md` for the layouts.
        image_size: Height and width in pixels. The shorter side of the image is scaled to it and the middle cut out.
        limit: At most so many images of each split ("train", "val", "test"), evenly spread over the classes.

    Returns:
        Labels (n, 85), the row of the image's class in the predicate matrix. To protect another attribute (domestic, bipedal and
        furry have been used), take `dataclasses.replace(data, protected=data.column(name))`.

    Raises:
        DataError: A file or image is missing, cut short or malformed; the message names the file and the line.
        ValueError: There is no attribute of that name, or a number is out of range.
    """
    files.check_request(image_size, limit, SPLITS)
    matrix_name = "predicate-matrix-binary.txt"
    base = files.find_root(root, ["Animals_with_Attributes2", "AwA2"], lambda folder: (folder / matrix_name).is_file(), _LAYOUT)
    classes, names = _read_numbered(base / "classes.txt"), _read_numbered(base / "predicates.txt")
    matrix = _read_matrix(base / matrix_name, len(classes), names)

    split_of, class_of, paths = [], [], []
    folders = _class_folders(base, classes)
    for (seen, number, _), images in zip(folders, files.list_image_folders([folder for *_, folder in folders]), strict=True):
        paths += images
        class_of += [number] * len(images)
        # The second of each ten, so that even a class of two images has one in either split.
        split_of += [int(place % 10 == 1) if seen else 2 for place in range(len(images))]
    columns = matrix[class_of], names, column_of("water", names, "attribute to protect"), None
    source = f"AwA2, {image_size} px, test on unseen classes"
    return read_attribute_data(np.array(split_of), base, paths, image_size, limit, columns, source)


def _read_numbered(path: Path) -> tuple[str, ...]:
    lines: dict[str, int] = {}
    for expected, (line, text) in enumerate(files.read_lines(path), start=1):
        cells = files.clean_name(text).split()
        if len(cells) != 2 or cells[0] != str(expected):
            raise DataError(f"{path}, line {line}: {text[:60]!r} should be the number {expected} and a name")
        if (name := cells[1]) in lines:  # names and no paths: a/../b is none for b
            raise DataError(
                f"{path}, line {line}: {name} is listed a second time, first in line {lines[name]}; keep one of the two lines"
            )
        lines[name] = line
    return tuple(lines)


def _read_matrix(path: Path, classes: int, predicates: Sequence[str]) -> Tensor:
    rows = []
    for line, text in files.read_lines(path):
        cells = text.split()
        if len(cells) != len(predicates) or not set(cells) <= {"0", "1"}:
            needed = f"{len(predicates)} values of 0 and 1, one for each line of predicates.txt"
            raise DataError(f"{path}, line {line}: needed are {needed}")
        rows.append([int(cell) for cell in cells])
    if len(rows) != classes:
        raise DataError(f"{path}: {len(rows)} rows, but classes.txt lists {classes} classes")
    return torch.tensor(rows)


def _class_folders(base: Path, classes: Sequence[str]) -> list[tuple[bool, int, Path]]:
    """List for each class whether training has it, its row in the matrix, and its folder."""
    found: list[tuple[bool, int, Path]] = []
    images = base / "JPEGImages"
    for seen, listed, name in ((True, "trainclasses.txt", "train_images"), (False, "testclasses.txt", "ood_images")):
        lines: dict[str, int] = {}
        if images.is_dir():
            for line, text in files.read_lines(base / listed):
                files.check_once(lines, text, base / listed, line)
            folders = [(f"{base / listed}, line {line}", text, images / text) for text, line in lines.items()]
        elif (base / name).is_dir():
            within = sorted(path for path in (base / name).iterdir() if path.is_dir() and not files.is_hidden(path))
            folders = [(str(folder), folder.name, folder) for folder in within]
        else:
            raise DataError(f"{base}: there is neither JPEGImages nor {name} in this directory. Expected layout:\n{_LAYOUT}")
        for where, text, folder in folders:
            name = files.clean_name(text)
            if name not in classes or text != folder.name:  # a path could lead out of the folder of images
                raise DataError(f"{where}: {text[:60]!r} is not in classes.txt")
            found.append((seen, classes.index(name), folder))
    both = {row for seen, row, _ in found if seen} & {row for seen, row, _ in found if not seen}
    if both:
        raise DataError(f"{base}: {classes[min(both)]} is a training and a test class at once; test classes must be unseen")
    return found
