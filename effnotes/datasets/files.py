"""Reading data sets that somebody else laid out on disk: tables, images, and errors that name the file and the line."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effnotes.core.checks import check_choice, check_range
from effnotes.core.errors import DataError
from effnotes.core.files import user_path

Limit: TypeAlias = int | Mapping[str, int] | None
"""At most so many images of every split, or of each split by name; None takes all."""
Fit: TypeAlias = Literal["crop", "squash"]


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Say where a fault was: turn what bad content raises into a DataError that begins with `where`; a DataError stays as it is."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{where}: {error}") from error


def find_root(root: str | Path, nested: Sequence[str], is_root: Callable[[Path], object], layout: str) -> Path:
    """Return the folder that holds the data: `root` itself, or the first of the folders `nested` in it that does.

    Raises:
        DataError: There is no such folder, or `is_root` is true of none of them; the message shows the expected `layout`.
    """
    given = user_path(root)
    if not given.is_dir():
        what = "is a file" if given.exists() else "does not exist"
        raise DataError(f"{given}: this directory {what}. Expected layout:\n{layout}")
    for candidate in (given, *(given / name for name in nested)):
        if is_root(candidate):
            return candidate
    looked = ", ".join(str(given / name) for name in nested)
    raise DataError(f"{given}: the data are not there, nor in {looked}. Expected layout:\n{layout}")


def read_text(path: Path) -> str:
    """Read a text file; a byte order mark is fine, and line ends of Windows become plain ones.

    Raises:
        DataError: The file is missing, or is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path}: this file is missing") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: this is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a text file that are not blank, stripped, with their numbers from 1.

    Raises:
        DataError: As for `read_text`.
    """
    text = read_text(path)
    # Not splitlines: it also breaks at form feeds and the like, and then the numbers are not an editor's.
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file with a header row: the line number and the named columns of every row that is not blank.

    Raises:
        DataError: The file or a column is missing, a column is there twice, a row has too few or too many cells, or the file is no
            UTF-8 text.
    """
    rows = csv.reader(io.StringIO(read_text(path)))
    header = [name.strip() for name in next(rows, [])]
    absent = [name for name in columns if name not in header]
    if absent:
        wanted = f"the header is {','.join(header)!r}, and must name {', '.join(columns)}, with commas between"
        raise DataError(f"{path}, line 1: no column {', '.join(map(repr, absent))}; {wanted}")
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line 1: the header {','.join(header)!r} has {', '.join(map(repr, twice))} twice; keep one")
    places = {name: header.index(name) for name in columns}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DataError(f"{path}, line {rows.line_num}: {len(row)} cells, but the header has {len(header)}")
        yield rows.line_num, {name: row[place].strip() for name, place in places.items()}


def parse_choice(text: str, allowed: Sequence[str], path: Path, line: int, what: str) -> int:
    """Return the position of a cell among the allowed ones, or raise a DataError that names file and line."""
    if text not in allowed:
        raise DataError(f"{path}, line {line}: {what} is {text!r}, but must be one of {', '.join(allowed)}")
    return allowed.index(text)


def limited(n: int, limit: Limit, split: str) -> NDArray[np.int64]:
    """Return which rows of a split of `n` to take: all, or `limit` of them spread evenly over the file.

    Many tables are sorted by class or place; the first rows of those would be one class.

    Raises:
        ValueError: The limit is below 1.
    """
    most = limit.get(split) if isinstance(limit, Mapping) else limit
    if most is None or most >= n:
        return np.arange(n)
    if most < 1:
        raise ValueError(f"limit={most} for {split}: must be at least 1, or None for all images")
    return np.arange(most) * n // most


def check_request(image_size: int, limit: Limit, splits: Sequence[str]) -> None:
    """Raise ValueError where an image size is below 1, or a limit names a split that does not exist."""
    check_range(1, image_size=image_size)
    for name in limit if isinstance(limit, Mapping) else ():
        check_choice(splits, **{"split of the limit": name})


def rows_of_splits(
    split_of: NDArray[np.integer[Any]], splits: Sequence[str], limit: Limit, source: Path
) -> dict[str, NDArray[np.int64]]:
    """Return which rows of a table each split takes.

    Args:
        split_of: (n,) the split of each row, as its position in `splits`.
        splits: Names of the splits.
        limit: At most so many of each; see `limited`.
        source: What the table was read from.

    Raises:
        DataError: A split has no row.
        ValueError: A limit is below 1.
    """
    rows = {name: np.flatnonzero(split_of == number) for number, name in enumerate(splits)}
    for name, of_split in rows.items():
        if not len(of_split):
            raise DataError(f"{source}: the split {name!r} has no image")
    return {name: of_split[limited(len(of_split), limit, name)] for name, of_split in rows.items()}


def read_splits(
    rows: Mapping[str, NDArray[np.int64]], paths: Sequence[Path], image_size: int, fit: Fit = "crop"
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Read the images of each split.

    Args:
        rows: As from `rows_of_splits`.
        paths: The image of each row of the table.
        image_size: Height and width in pixels.
        fit: As for `resize_image`.

    Returns:
        For each split its rows, (m,) int64, and their images, (m, 3, image_size, image_size) uint8.

    Raises:
        DataError: An image is missing, which is found before the first is decoded, or damaged.
    """
    check_images_exist([paths[row] for of_split in rows.values() for row in of_split])
    return {name: (chosen, decode_images([paths[row] for row in chosen], image_size, fit)) for name, chosen in rows.items()}


def check_images_exist(paths: Sequence[Path]) -> None:
    """Raise DataError where an image is missing; each folder is listed once, which is quick for many images.

    Raises:
        DataError: An image is missing; the message names the first and counts the rest.
    """
    folders = {path.parent for path in paths}
    present = {folder: {path.name for path in folder.iterdir()} if folder.is_dir() else set() for folder in folders}
    missing = [path for path in paths if path.name not in present[path.parent]]
    if missing:
        others = f"as are {len(missing) - 1} others of the {len(paths)} that the tables name"
        raise DataError(f"{missing[0]}: this image is missing, {others}; unpack the images again")


def list_images(folder: Path) -> list[Path]:
    """Return the JPEG and PNG files of a folder, sorted by name.

    Raises:
        DataError: The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: this folder of images is missing")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not images:
        raise DataError(f"{folder}: there is no JPEG or PNG file in this folder")
    return images


def decode_image(path: Path) -> Image.Image:
    """Read one image as RGB.

    Raises:
        DataError: The file is missing, cut short or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: this image is missing") from None
    # Pillow has no common error for damaged files; which one comes depends on where the file is cut.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: this image cannot be read ({error}); fetch or unpack it again") from error


def resize_image(image: Image.Image, image_size: int, fit: Fit = "crop") -> Image.Image:
    """Scale an image to a square of `image_size`, bilinear and anti-aliased.

    Args:
        image: RGB.
        image_size: Height and width in pixels.
        fit: "crop" scales the shorter side to `image_size` and cuts the middle out, as torchvision's `Resize` and `CenterCrop` do;
            "squash" keeps the whole image and changes its proportions.

    Returns:
        RGB of image_size x image_size.
    """
    width, height = image.size
    if fit == "squash":
        return image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    shorter = min(width, height)
    width, height = (int(image_size * side / shorter) for side in (width, height))
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    return image.crop((left, top, left + image_size, top + image_size))


def decode_images(paths: Sequence[Path], image_size: int, fit: Fit = "crop") -> NDArray[np.uint8]:
    """Read and scale images in parallel threads; the decoder works outside Python's lock.

    Returns:
        (n, 3, image_size, image_size) uint8.

    Raises:
        DataError: As for `decode_image`; work that has not begun is dropped.
    """
    images = np.empty((len(paths), 3, image_size, image_size), dtype=np.uint8)

    def decode(rows: NDArray[np.int64]) -> None:
        for row in rows:
            images[row] = np.asarray(resize_image(decode_image(paths[row]), image_size, fit)).transpose(2, 0, 1)

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        # What has not begun when one fails is dropped by the iterator itself.
        list(pool.map(decode, np.array_split(np.arange(len(paths)), 1000)))
    return images
