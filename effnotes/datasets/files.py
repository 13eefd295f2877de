"""Reading data sets that somebody else laid out on disk: tables, images, and errors that name the file and the line."""

import contextlib
import csv
import io
import math
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from effnotes.core.checks import check_choice, check_range
from effnotes.core.errors import DataError
from effnotes.core.files import user_path

Limit: TypeAlias = int | Mapping[str, int] | None
"""At most so many images of every split, or of each split by name; None takes all."""
Fit: TypeAlias = Literal["crop", "squash"]

_ENDINGS = (".jpg", ".jpeg", ".png")
_FORMATS = ("JPEG", "PNG")  # what Pillow may try; among all that it knows are some that start programs
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I")

# Letters that are not drawn. Joiners between letters beyond Latin are kept, because they shape words of Persian or Hindi, and so
# are the tags that make the flag of a region of the plain flag before them.
_BEYOND_LATIN = r"[^\x00-\u024f\u2000-\u206f]"
_UNSEEN = re.compile(
    rf"((?<={_BEYOND_LATIN})[\u200c\u200d](?=[\u200c\u200d]*{_BEYOND_LATIN})|\U0001f3f4[\U000e0020-\U000e007f]+)|"
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Say where a fault was: turn what bad content raises into a DataError that begins with `where`; a DataError stays as it is."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
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


def clean_name(text: str) -> str:
    """Return a name as it is read: accents in one form (NFC), no letters that cannot be seen, and single blanks between words.

    What is left out are control and format characters (a zero-width space, a soft hyphen, marks of direction) and others that are
    not drawn; joiners stay where they shape a word.
    """
    return " ".join(unicodedata.normalize("NFC", _UNSEEN.sub(r"\1", text)).split())


def shown(text: object) -> str:
    """Return a name for a message, quoted and escaped where it holds letters that cannot be seen or be told apart."""
    return str(text) if clean_name(str(text)) == str(text) else ascii(str(text))


def check_once(lines: dict[str, int], name: str, path: Path, line: int) -> None:
    """Note the line of a name in `lines`, or raise a DataError that gives both lines where it is there already.

    Two spellings of one path, `a.jpg` and `./a.jpg`, are one name.
    """
    first = lines.setdefault(os.path.normpath(name), line)
    if first != line:
        again = f"{shown(name)} is listed a second time, first in line {first}"
        raise DataError(f"{path}, line {line}: {again}; keep one of the two lines")


def read_csv(
    path: Path, columns: Sequence[str], *, once: str | None = None, others: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file with a header row: the line number and the named columns of every row that is not blank.

    Columns may stand in any order and cells may be quoted.

    Args:
        path: The file.
        columns: Names of the columns that must be there.
        once: The column whose cells must all differ, such as the names of images.
        others: Whether to give all other columns with a name too, in their order; a column of row numbers, as pandas and R write
            it, has none.

    Raises:
        DataError: The file or a column is missing, a column is there twice, a row has too few or too many cells, a quotation mark
            is not closed, a cell of `once` is there twice, or the file is no UTF-8 text.
    """
    rows = _read_rows(path)
    line, written = next(rows, (1, []))
    header = [clean_name(name) for name in written]
    absent = [name for name in columns if name not in header]
    if absent:
        wanted = f"the header is {','.join(written)!r}, and must name {', '.join(columns)}, with commas between"
        raise DataError(f"{path}, line {line}: no column {', '.join(map(repr, absent))}; {wanted}")
    if others:
        columns = [name for name in header if name and not re.fullmatch(r"Unnamed: \d+", name)]
    twice = [name for name in dict.fromkeys(columns) if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line {line}: the header {','.join(written)!r} has {', '.join(map(repr, twice))} twice; keep one")
    places = {name: header.index(name) for name in columns}
    lines: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"{path}, line {line}: {len(row)} cells, but the header has {len(header)}")
        if once is not None:
            check_once(lines, row[places[once]].strip(), path, line)
        yield line, {name: row[place].strip() for name, place in places.items()}


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a CSV file that are not blank, each with the line in which it begins.

    One quotation mark too many makes one cell of all that follows, up to the next mark or the end.
    """
    # Blanks behind a closing mark, which strict reading would refuse; behind one within a cell there is no end of the cell.
    lines = io.StringIO(re.sub(r'(?<!")"[ \t]+(?=,|$)', '"', read_text(path), flags=re.MULTILINE)).readlines()
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    remedy = "close it or take it away, and write a mark within a quoted cell twice"
    while (start := reader.line_num) < len(lines):
        where = f"{path}, line {start + 1}"
        try:
            row = next(reader)
        except csv.Error as error:
            unclosed = f"a quotation mark that is opened here is not closed at the end of its cell ({error})"
            raise DataError(f"{where}: {unclosed}; {remedy}") from None
        if "".join(lines[start : reader.line_num]).count('"') % 2:
            raise DataError(f"{where}: one quotation mark is without another; {remedy}")
        for cell in row if reader.line_num > start + 1 else ():
            more = sum(bool(line.strip()) for line in cell.split("\n")[1:])
            if "\n" in cell and cell.count(",") >= max(more, 1) * (len(row) - 1):
                swallowed = f"a quotation mark that is opened here is closed in line {reader.line_num}, with whole rows between"
                raise DataError(f"{where}: {swallowed}; {remedy}")
        if any(cell.strip() for cell in row):
            yield start + 1, row


def parse_choice(text: str, allowed: Sequence[str], path: Path, line: int, what: str) -> int:
    """Return the position of a cell among the allowed ones, or raise a DataError that names file and line."""
    if text not in allowed:
        raise DataError(f"{path}, line {line}: {shown(what)} is {text!r}, but must be one of {', '.join(allowed)}")
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
    # Only files: a folder may have the name of an image, and a pipe would be waited for.
    present = {at: {each.name for each in os.scandir(at) if each.is_file()} if at.is_dir() else set() for at in folders}
    missing = [path for path in paths if path.name not in present[path.parent]]
    if missing:
        others = f"as are {len(missing) - 1} others of the {len(paths)} that the tables name"
        raise DataError(f"{shown(missing[0])}: this image is missing, {others}; unpack the images again")


def is_hidden(path: Path) -> bool:
    """Tell whether a file or folder is one that a program leaves behind, such as `._fox.jpg` or `.ipynb_checkpoints`."""
    return path.name.startswith(".") or path.name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def list_image_folders(folders: Sequence[Path]) -> list[list[Path]]:
    """Return the JPEG and PNG files of each folder, sorted by name.

    What else is there is left out: hidden files, folders, and files of other endings. One warning counts it and names some.

    Raises:
        DataError: A folder is missing or holds none.
    """
    left_out: dict[str, list[Path]] = {"hidden": [], "folders": [], "of another ending than .jpg, .jpeg or .png": []}
    hidden, inner, others = left_out.values()
    images: list[list[Path]] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: this folder of images is missing")
        images.append([])
        for path in sorted(folder.iterdir()):
            kind = hidden if is_hidden(path) else inner if path.is_dir() else others
            (images[-1] if kind is others and path.suffix.lower() in _ENDINGS else kind).append(path)
    parts = [f"{len(paths)} {kind} ({_some(paths)})" for kind, paths in left_out.items() if paths]
    said = f"left out are {', '.join(parts)}" if parts else "it is empty"
    for folder, found in zip(folders, images, strict=True):
        if not found:
            raise DataError(f"{folder}: there is no JPEG or PNG file in this folder; {said}")
    if parts:
        where = folders[0] if len(folders) == 1 else folders[0].parent
        warnings.warn(f"{where}: beside the images there are files that are not read; {said}", RuntimeWarning, stacklevel=3)
    return images


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(shown(f"{path.parent.name}/{path.name}") for path in paths[:3]) + ", ..." * (len(paths) > 3)


def decode_image(path: Path) -> Image.Image:
    """Read one JPEG or PNG image as RGB of 8 bits, as it looks.

    Of 16 bits of grey the upper 8 are kept, what is transparent is laid on white, and an image that says how it is to be turned
    (EXIF) is turned.

    Raises:
        DataError: The file is missing, cut short, no image, or of another format.
    """
    if not path.is_file():
        raise DataError(f"{shown(path)}: this image is missing" + ", there is a folder of its name" * path.is_dir())
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _as_rgb(image)
    # Pillow has no common error for damaged files; which one comes depends on where the file is cut.
    except Exception as error:
        remedy = "fetch or unpack it again, or convert it; JPEG and PNG are read"
        raise DataError(f"{shown(path)}: this image cannot be read ({error}); {remedy}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode not in _MODES:
        raise ValueError(f"its pixels are of the kind {image.mode!r}")
    image.load()  # not within what is suppressed: asked again, Pillow gives what it had before it came upon the damage
    with contextlib.suppress(Exception):  # damaged EXIF says nothing
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # convert("RGB") would make white of all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def resize_image(image: Image.Image, image_size: int, fit: Fit = "crop") -> Image.Image:
    """Scale an image to a square of `image_size`, bilinear and anti-aliased.

    Args:
        image: RGB.
        image_size: Height and width in pixels.
        fit: "crop" scales the shorter side to `image_size` and cuts the middle out, as torchvision's `Resize` and `CenterCrop` do;
            "squash" keeps the whole image and changes its proportions.

    Returns:
        RGB of image_size x image_size.

    Raises:
        ValueError: The image is so long and thin that its longer side, scaled, would take gigabytes.
    """
    width, height = image.size
    if fit == "squash":
        return image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    shorter = min(width, height)
    width, height = (int(image_size * side / shorter) for side in (width, height))
    if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(f"with {image.width} x {image.height} pixels this image is too long and thin to be scaled; cut it")
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
            image = decode_image(paths[row])
            with naming(shown(paths[row])):
                images[row] = np.asarray(resize_image(image, image_size, fit)).transpose(2, 0, 1)

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        # What has not begun when one fails is dropped by the iterator itself.
        list(pool.map(decode, np.array_split(np.arange(len(paths)), 1000)))
    return images
