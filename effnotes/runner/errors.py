"""Errors that the command line reports in one message, without a traceback."""

import errno
import re
import shutil
from pathlib import Path

_DISK_FAULTS = {
    errno.ENOSPC: ("is full", "free some space there"),
    errno.EDQUOT: ("holds as much as your quota allows", "free some space there"),
    errno.EROFS: ("is read-only", "make it writable"),
    errno.EIO: ("has faults", "see what the system's log says of it"),
}
_REPORT = re.compile(r"\[Errno (\d+)\] [^'\"\n]*(?:(['\"])(.+?)\2)?")


class UsageError(Exception):
    """What was asked for cannot be done as asked: nothing was run, or a chapter refused its parameters (exit status 2)."""


class BuildError(Exception):
    """Something that was run did not succeed (exit status 1)."""


def describe_os_error(error: OSError) -> str:
    """Say which file an error of the operating system is about and, where its disk is at fault, which disk and what to do."""
    # A folder that could not be copied gives a list of its files; the first stands for all.
    return re.sub(r"\[Errno \d+\] ", "", with_disk_remedy(str(error.args[0][0][2] if isinstance(error, shutil.Error) else error)))


def with_disk_remedy(text: str) -> str:
    """Add to an error's text, where it blames a disk, which disk that is and what to do."""
    found = _REPORT.search(text)
    if found is None or int(found[1]) not in _DISK_FAULTS:
        return text
    fault, remedy = _DISK_FAULTS[int(found[1])]
    path = Path(found[3] or ".").absolute()
    mounted = f" (mounted at {next(folder for folder in (path, *path.parents) if folder.is_mount())})" if found[3] else ""
    elsewhere = "or use another: --build-dir for records and pages, the variable TMPDIR for temporary files"
    return f"{text}; the disk {fault}{mounted}: {remedy}, {elsewhere}. Then give the command again"
