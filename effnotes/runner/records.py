"""Records of finished and failed runs: one directory each, written whole or not at all.

``runs/<chapter>/<key>/`` holds ``notebook.ipynb`` and ``record.json``. Both are written to a directory of another name, flushed to
the disk and renamed into place. The record states the notebook's SHA-256, so a torn pair is never taken for finished.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effnotes.runner.keys import RECORD_FORMAT

_PARTIAL = ".partial-"
_PARTIAL_LIFETIME_S = 3600  # writing a record takes moments


@dataclass(frozen=True)
class StoredRun:
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

    def load(self, chapter: str, key: str) -> StoredRun | None:
        """Return the run under `key`, or None where there is none or it is torn."""
        directory = self.root / chapter / key
        try:
            record = json.loads((directory / "record.json").read_bytes())
            notebook = (directory / "notebook.ipynb").read_bytes()
        except (OSError, ValueError):
            return None
        if (
            not isinstance(record, dict)
            or record.get("format") != RECORD_FORMAT
            or record.get("key") != key
            or record.get("notebook_sha256") != hashlib.sha256(notebook).hexdigest()
        ):
            return None
        return StoredRun(record, directory)

    def latest(self, chapter: str) -> StoredRun | None:
        """Return the finished run of `chapter` that was started last, whatever its parameters."""
        runs = [self.load(chapter, path.name) for path in (self.root / chapter).glob("[0-9a-f]*")]
        finished = [run for run in runs if run is not None and run.finished]
        return max(finished, key=lambda run: str(run.record["started"]), default=None)

    def save(self, notebook: bytes, record: dict[str, Any]) -> StoredRun:
        """Keep a run, in place of an earlier one under the same key.

        Raises:
            OSError: it could not be written whole, for example because the disk is full; nothing of it is left then.
        """
        record = {**record, "notebook_sha256": hashlib.sha256(notebook).hexdigest()}
        parent = self.root / record["chapter"]
        parent.mkdir(parents=True, exist_ok=True)
        for leftover in parent.glob(f"{_PARTIAL}*"):  # of writers that were killed
            if time.time() - leftover.stat().st_mtime > _PARTIAL_LIFETIME_S:
                shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=parent))
        target = parent / record["key"]
        try:
            _write_synced(partial / "notebook.ipynb", notebook)
            _write_synced(partial / "record.json", json.dumps(record, indent=1, ensure_ascii=False).encode())
            if target.exists():
                # A directory cannot be renamed onto another; a kill between the two lines costs a re-run, no more.
                target.rename(partial.with_name(f"{partial.name}-replaced"))
            partial.rename(target)
            _sync_directory(parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(partial.with_name(f"{partial.name}-replaced"), ignore_errors=True)
        return StoredRun(record, target)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` by way of a temporary name beside it.

    Raises:
        OSError: it could not be written whole; what was at `path` before is untouched then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        _write_synced(partial, content)
        partial.chmod(0o644)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(path: Path, on_wait: str, announce: Any) -> Iterator[None]:
    """Hold the lock at `path`; where another process holds it, call ``announce(on_wait)`` once and wait.

    The operating system releases the lock when its holder dies, however it dies.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        announce(on_wait)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
