"""Files: paths as people give them, what lies below a folder, and files that are never half there."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from effnotes.core.errors import DataError

_PACKAGE = Path(__file__).parents[1]
_DATA = (_PACKAGE.parent, _PACKAGE / "_book")  # where the book's own data lie: in a checkout, and in an installed package
_HERE = Path()


def user_path(given: str | os.PathLike[str], start: Path = _HERE) -> Path:
    """Return the path that somebody gave, with the home directory in place of ``~``; all that reads files takes it through here.

    A relative path leads on from `start`. What begins with ``data/`` and is not there is looked for among the data of the book, so
    that a notebook runs in any folder.

    Raises:
        DataError: No file can have this path: it is too long, leads through a folder that may not be entered, or holds a NUL.
    """
    relative = Path(os.path.expanduser(given))  # noqa: PTH111 - Path.expanduser raises where there is no such user
    path = start / relative
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        if relative.parts[:1] == ("data",):
            return next((root / relative for root in _DATA if (root / relative).exists()), path)
        # Otherwise the caller knows what was to be there.
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)[:200]!r}: this path cannot be used ({getattr(error, 'strerror', None) or error})") from None
    return path


def folders_under(root: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[tuple[str, str]]]]:
    """Walk through `root` and the folders in it, links followed, each folder once and none that holds `root`.

    Yields:
        Of each folder its path, the names of its files, and the links to folders in it: where each is and the true path behind it.
    """
    top = os.path.realpath(root)
    seen = {top}
    for folder, names, files in os.walk(root, followlinks=True):
        links: list[tuple[str, str]] = []
        for name in sorted(names, key=lambda name: (os.path.islink(f"{folder}/{name}"), name)):  # noqa: PTH114 - path objects are slow
            place, true = f"{folder}/{name}", os.path.realpath(f"{folder}/{name}")
            links += [(place, true)] * os.path.islink(place)  # noqa: PTH114
            if true in seen or f"{top}/".startswith(f"{true.rstrip('/')}/"):
                names.remove(name)
            seen.add(true)
        names.sort()
        yield folder, sorted(files), links


def files_under(root: str | os.PathLike[str]) -> Iterator[tuple[str, str | None]]:
    """Yield what `root` holds, links followed: of each file its place in it and its path, of each linked folder where it leads."""
    for folder, files, links in folders_under(root):
        for link, true in links:
            yield f"{os.path.relpath(link, root)} -> {os.path.relpath(true, os.path.realpath(root))}", None
        for path in (os.path.join(folder, name) for name in files):  # noqa: PTH118
            if os.path.isfile(path):  # noqa: PTH113
                yield os.path.relpath(path, root), path


def fingerprint(root: str) -> str:
    """Give a digest of the names, sizes and times of the files under a folder; empty for no folder.

    Kept results are known by it, so that they are not taken for those of other data that lie in the same place.

    Raises:
        ValueError: there is no such folder.
    """
    if not root:
        return ""
    folder = user_path(root)
    if not folder.is_dir():
        raise ValueError(f"data_root={root!r}: there is no such folder")
    digest = hashlib.sha256()
    for shown, path in files_under(folder):
        status = path and os.stat(path)  # noqa: PTH116 - a path object for each of 200,000 files takes seconds
        digest.update(f"{shown}\0{status.st_size}\0{status.st_mtime_ns}\0".encode() if status else f"{shown}\0".encode())
    return digest.hexdigest()


def new_folder(given: str | os.PathLike[str]) -> Path:
    """Return the path of a folder that is missing or empty, and nothing else.

    Raises:
        DataError: The folder holds something, or is a file.
    """
    path = user_path(given)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "holds something" if path.is_dir() else "is a file"
        raise DataError(f"{path} {what}, and nothing is written over; name a folder that is missing or empty.")
    return path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file of another name beside `path`, which is flushed to the disk and renamed to `path` at the end of the context.

    The folder is made. Where the context ends with an error, also while writing, what was at `path` before is untouched.
    """
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    with errors_name(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Enter `path` in an error of the operating system that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
