"""Files that are never half there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
