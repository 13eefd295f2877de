"""The folder for what runs keep only while they last: sockets, scratch files, and the temporary files of kernels.

A process that is killed cleans up nothing. So all runs of a checkout work in one folder below the system's temporary directory,
each in a folder of its own that it holds locked; the operating system releases a lock when its holder dies, and the next command
sweeps what nobody holds.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from effnotes.core.files import errors_name

_LONGEST_BASE = 50  # characters; the address of a socket may have 103 (macOS), of which all that follows takes up to 51


def sweep(checkout: str) -> None:
    """Remove what killed runs of a checkout have left, and the checkout's folder where no run is at work.

    Args:
        checkout: the directory of the checkout, or what else tells one from the other.

    Raises:
        PermissionError: the checkout's folder in the temporary directory belongs to another user.
    """
    with _checkout_folder(checkout) as folder:
        for left in folder.iterdir():
            with suppress(BlockingIOError), _held(left, fcntl.LOCK_NB):  # a run is at work in what cannot be locked
                shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):  # it is not empty
            folder.rmdir()


@contextmanager
def scratch_folder(checkout: str) -> Iterator[Path]:
    """Yield a new folder for one run, with a path short enough for the address of a socket; it is removed at the end.

    Args:
        checkout: as for `sweep`.

    Raises:
        PermissionError: as for `sweep`.
    """
    sweep(checkout)
    with ExitStack() as stack:
        with _checkout_folder(checkout) as folder:
            private = Path(tempfile.mkdtemp(prefix="", dir=folder))
            stack.callback(sweep, checkout)
            stack.enter_context(_held(private))
        yield private


@contextmanager
def _checkout_folder(checkout: str) -> Iterator[Path]:
    """Yield the checkout's folder, held, so that nobody sweeps a folder that is made but not yet locked."""
    base = tempfile.gettempdir()
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:12]
    folder = Path(base if len(base) <= _LONGEST_BASE else "/tmp") / f"effnotes-{os.getuid()}-{digest}"
    with ExitStack() as stack:
        while True:
            folder.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):  # a run that has ended meanwhile may have removed it
                held = stack.enter_context(_held(folder))
                if os.fstat(held).st_uid != os.getuid():
                    raise PermissionError(f"{folder} belongs to another user; remove it, or set TMPDIR to a folder of your own")
                if os.path.samestat(os.fstat(held), folder.stat()):
                    break
        yield folder


@contextmanager
def _held(folder: Path, how: int = 0) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with errors_name(folder):  # some network disks have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield descriptor
    finally:
        os.close(descriptor)
