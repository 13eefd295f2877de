"""Records of finished and failed runs: one directory each, written whole or not at all.

``runs/<chapter>/<key>/`` holds ``notebook.ipynb`` and ``record.json``. Both are written to a directory of another name, flushed to
the disk and renamed into place. The record states the notebook's SHA-256, so a torn pair is never taken for finished.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from effnotes.core.files import errors_name, written_whole
from effnotes.runner.errors import UsageError
from effnotes.runner.keys import RECORD_FORMAT


class StoredRun(NamedTuple):
    """A record with the executed notebook that it describes, as read back from the disk."""

    record: dict[str, Any]
    directory: Path

    @property
    def finished(self) -> bool:
        """Whether every cell ran without error."""
        return bool(self.record["status"] == "finished")

    @property
    def notebook_path(self) -> Path:
        """The executed notebook, of a failed run up to the cell that failed."""
        return self.directory / "notebook.ipynb"


class RecordStore:
    """The records under one directory, by chapter and key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers: dict[str, int] = {}  # of the last run of each chapter that this object knows of

    def load(self, chapter: str, key: str) -> StoredRun | None:
        """Return the run under `key`, or None where there is none or it is torn."""
        directory = self.root / chapter / key
        try:
            record = json.loads((directory / "record.json").read_bytes())
            notebook = hashlib.sha256((directory / "notebook.ipynb").read_bytes()).hexdigest()
            whole = (record["format"], record["key"], record["notebook_sha256"]) == (RECORD_FORMAT, key, notebook)
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return StoredRun(record, directory) if whole else None

    def find(self, start: str) -> list[StoredRun]:
        """Return the runs, of any chapter, whose key starts so."""
        found = (self.load(path.parent.name, path.name) for path in sorted(self.root.glob(f"*/{start}*")) if path.is_dir())
        return [run for run in found if run is not None]

    def latest(
        self, chapter: str, profile: str | None = None, fits: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> StoredRun | None:
        """Return the run of `chapter`, of one profile or of any, that was finished last among those whose record fits."""
        finished = [run for run in self.runs(chapter) if run.finished and (profile is None or run.record["profile"] == profile)]
        return max((run for run in finished if fits(run.record)), key=run_order, default=None)

    def runs(self, chapter: str) -> Iterator[StoredRun]:
        """Yield every run of `chapter` that is whole, finished or not."""
        runs = (self.load(chapter, path.name) for path in (self.root / chapter).glob("[0-9a-f]*"))
        return (run for run in runs if run is not None)

    def save(self, notebook: bytes, record: dict[str, Any]) -> StoredRun:
        """Keep a run, in place of an earlier one under the same key; one process at a time may do so, see `exclusive`.

        Raises:
            OSError: it could not be written whole, for example because the disk is full; nothing of it is left then.
        """
        # Counted, because the clock may be set back; once, because a sweep saves thousands.
        if (chapter := record["chapter"]) not in self._numbers:
            self._numbers[chapter] = max((run_order(run)[0] for run in self.runs(chapter)), default=0)
        self._numbers[chapter] += 1
        record = {**record, "number": self._numbers[chapter], "notebook_sha256": hashlib.sha256(notebook).hexdigest()}
        target = self.root / record["chapter"] / record["key"]
        partial = target.with_name(f".partial-{target.name}")
        shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed
        try:
            write_atomically(partial / "notebook.ipynb", notebook)
            # What UTF-8 cannot hold becomes an escape, which JSON reads as the same.
            content = json.dumps(record, indent=1, ensure_ascii=False).encode(errors="backslashreplace")
            write_atomically(partial / "record.json", content)
            # A directory cannot be renamed onto another; a kill between the two lines costs a re-run, no more.
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            with errors_name(target):
                descriptor = os.open(target.parent, os.O_RDONLY)  # the renaming itself is to reach the disk
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return StoredRun(record, target)


def check_folder(folder: Path, chapter: str, key: str) -> None:
    """Refuse a folder into which a run could not be copied without loss of what is there.

    Raises:
        UsageError: it is a file, or holds another run or a notebook of that name.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out names a file ({folder}); give a directory, which will be made where it is missing.")
    try:
        content = json.loads((folder / "record.json").read_bytes())
        same = content["key"] == key
    except (OSError, ValueError, LookupError, TypeError):
        same = not any((folder / name).exists() for name in ("record.json", f"{chapter}.ipynb"))
    if not same:
        raise UsageError(f"--out {folder} holds another run, which is not overwritten; give another directory.")


def copy_run(run: StoredRun, notebook: bytes, folder: Path) -> None:
    """Write a run's notebook, in the form given, and its record to a folder that `check_folder` has let pass.

    What is there already is not overwritten.

    Raises:
        UsageError: another run with the same key is there.
    """
    chapter = run.record["chapter"]
    written = {f"{chapter}.ipynb": notebook, "record.json": (run.directory / "record.json").read_bytes()}
    for target, content in written.items():
        if not (folder / target).exists():
            write_atomically(folder / target, content)
        elif (folder / target).read_bytes() != content:
            raise UsageError(f"--out {folder} holds an earlier run with these values; the new one is in {run.directory}.")


def run_order(run: StoredRun) -> tuple[int, str]:
    """Return what grows from one run of a chapter to the next."""
    return run.record.get("number", 0), str(run.record["started"])


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` by way of a temporary name beside it.

    Raises:
        OSError: it could not be written whole; what was at `path` before is untouched then.
    """
    with written_whole(path) as file:
        file.write(content)


def exclusive(path: Path, on_wait: str, announce: Any) -> AbstractContextManager[Any]:
    """Take the lock at `path`, held to the end of the context; where another process holds it, call ``announce(on_wait)`` and wait.

    The operating system releases the lock when its holder dies, however it dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        announce(on_wait)
        return lock.acquire()
