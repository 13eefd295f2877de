"""Independent jobs side by side, each in a single-threaded process of its own.

Two PyTorch processes with two threads each on two cores run many times slower than two single-threaded ones, so a chapter's
trainings run here. No worker outlives the process that started it, however that one ends.
"""

import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import multiprocessing.util
import os
import platform
import shutil
import signal
import sys
import time
import traceback
import types
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from effnotes.core.digests import function_closure, json_digest
from effnotes.core.processes import PROGRESS_VARIABLE, available_cores, device, exit_with_parent
from effnotes.core.settings import from_json, to_json

JobResult = dict[str, NDArray[Any] | float | int | str | list[Any]]

# One thread each; and freed tensors stay with the process, or every step faults the same megabytes in again (glibc only).
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}


class JobError(RuntimeError):
    """A job failed, or its process died; the message holds the job's parameters and the error."""


class WorkerPool:
    """Processes that wait for jobs between several calls of `run_jobs`, where starting them anew would take longer than the jobs.

    What a worker has imported and keeps in memory stays there. The processes end with `close`, at the end of a `with` block, or
    with the process that made the pool.

    Args:
        workers: Processes at a time, at least 1; default as for `run_jobs`.

    Raises:
        ValueError: `workers` is below 1.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers={workers}: at least one process is needed")
        self.workers = workers or _default_workers()
        self._idle: list[tuple[SpawnProcess, connection.Connection]] = []
        # Also before the interpreter exits, where multiprocessing would wait for them: so by its own finalizers, which run before
        # that. Those of `weakref` run after it where somebody used one before multiprocessing was imported.
        multiprocessing.util.Finalize(self, _end_idle, args=(self._idle,), exitpriority=10)

    def take(self) -> tuple[SpawnProcess, connection.Connection]:
        """Return a waiting worker, or a new one."""
        while self._idle:
            process, link = self._idle.pop()
            if process.is_alive():
                return process, link
        return _start_worker()

    def give_back(self, process: SpawnProcess, link: connection.Connection) -> None:
        """Let a worker that has nothing to do wait for the next call."""
        self._idle.append((process, link))

    def close(self) -> None:
        """End all waiting workers; the pool starts new ones when it is used again."""
        _end_idle(self._idle)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_jobs(
    function: Callable[..., JobResult],
    jobs: Sequence[Any],
    *,
    workers: int | WorkerPool | None = None,
    cache_dir: Path | None = None,
    on_done: Callable[[Any, JobResult], None] | None = None,
) -> list[JobResult]:
    """Call `function(job)` for every job, in single-threaded processes side by side.

    A job is an instance of `effnotes.core.settings.settings`, which goes to a worker, and into the key of what is kept, as JSON;
    the function's parameter is annotated with its class. A mapping does as well: its entries become keyword arguments.

    With a cache each result is kept as soon as its job is done, under a key over the function's name and module, the job's
    parameters, the code that the function's module depends on (`effnotes.core.digests`), and the versions of Python and of the
    packages that this code imports. A call that was interrupted, or is repeated, computes only what is missing, and a change to a
    docstring, a metric or a figure trains nothing again. A torn entry counts as missing.

    Args:
        function: A function at the top level of an importable module (not of a notebook or script). It returns a dictionary with
            text keys whose values are NumPy arrays (no object arrays), float, int, str, or lists of what JSON can hold.
        jobs: Settings of each call, all of one class; or keyword arguments: scalars, text, and lists or dictionaries of them.
        workers: Processes at a time, at least 1, or a pool that keeps them. Default: 1 where there is a GPU, else
            `OMP_NUM_THREADS` if set, else the cores that this process may use.
        cache_dir: Folder of kept results. Default: the environment variable `EFFNOTES_CACHE_DIR`; unset, nothing is kept.
        on_done: Called in this process after each job with the job and its result, in the order in which they finish.

    Returns:
        The results in the order of the jobs.

    Raises:
        ValueError: The function cannot be imported by a worker, `workers` is below 1, or a job holds what JSON cannot.
        JobError: A job failed; the others have been stopped. What was finished before is in the cache.
    """
    name = _importable_name(function)
    pool = workers if isinstance(workers, WorkerPool) else WorkerPool(workers)
    texts = [_canonical(job) for job in jobs]
    cache = cache_dir if cache_dir is not None else _cache_from_environment()
    paths = _cache_paths(name, function, texts, cache) if cache is not None else [None] * len(jobs)

    results: dict[int, JobResult] = {}
    _tell({"jobs": len(jobs)})
    for index, path in enumerate(paths):
        kept = _read_result(path) if path is not None else None
        if kept is not None:
            result, made = kept
            results[index] = result
            _tell({"reused": made})
            if on_done is not None:
                on_done(jobs[index], result)
    waiting = [index for index in range(len(jobs)) if index not in results]
    # Closed at once when on_done raises or the user interrupts, so that no worker goes on meanwhile.
    try:
        with contextlib.closing(_run(name, texts, paths, waiting, pool)) as finished:
            for index, result in finished:
                results[index] = result
                if on_done is not None:
                    on_done(jobs[index], result)
    finally:
        if pool is not workers:
            pool.close()
    return [results[index] for index in range(len(jobs))]


def _run(
    name: str, texts: Sequence[str], paths: Sequence[Path | None], waiting: list[int], pool: WorkerPool
) -> Generator[tuple[int, JobResult]]:
    """Run the waiting jobs and give (index, result) as they finish; whatever happens, leave no process behind that has a job."""
    queue = list(reversed(waiting))
    running: dict[connection.Connection, tuple[SpawnProcess, int]] = {}
    busy: list[SpawnProcess] = []

    def hand_out(link: connection.Connection, process: SpawnProcess) -> None:
        index = queue.pop()
        running[link] = (process, index)
        # A worker that died already is noticed when its link is read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.send((name, texts[index], paths[index]))

    try:
        for _ in range(min(pool.workers, len(waiting))):
            process, link = pool.take()
            busy.append(process)
            hand_out(link, process)
        while running:
            for ready in connection.wait(list(running)):
                assert isinstance(ready, connection.Connection)
                link = ready
                process, index = running.pop(link)
                try:
                    error, result, made = link.recv()
                except (EOFError, OSError):
                    process.join()
                    error, result, made = f"its process died with exit code {process.exitcode}", None, None
                if error is not None:
                    raise JobError(f"{name}({texts[index]}) failed: {error}")
                _tell({"computed": made})
                if queue:
                    hand_out(link, process)
                else:
                    busy.remove(process)
                    pool.give_back(process, link)
                yield index, result
    finally:
        _end(busy)


def _end_idle(idle: list[tuple[SpawnProcess, connection.Connection]]) -> None:
    _end([process for process, _ in idle])
    idle.clear()


def _end(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _start_worker() -> tuple[SpawnProcess, connection.Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # No daemon, because those may start no processes, and a job may decode images in some. Workers are killed by `_run`, and exit
    # by themselves where their parent is gone.
    process = context.Process(target=_work, args=(theirs,), daemon=False, name="effnotes-job")
    # The environment is what a worker must find before its first import: thread pools and malloc read it once, at start. And a
    # worker must not import the caller's main module, which would run an unguarded script a second time.
    with _replaced(os.environ, _WORKER_ENVIRONMENT), _replaced(sys.modules, {"__main__": types.ModuleType("__main__")}):
        process.start()
    theirs.close()
    return process, ours


@contextlib.contextmanager
def _replaced(mapping: MutableMapping[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    before = {name: mapping.get(name) for name in values}
    mapping.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del mapping[name]
            else:
                mapping[name] = value


def _work(link: connection.Connection) -> None:
    """Run jobs from the link until it closes (in the worker)."""
    exit_with_parent()
    # Ctrl-C reaches the whole group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.pop(PROGRESS_VARIABLE, None)  # what a job does within itself is not told
    import torch

    torch.set_num_threads(1)
    # Momentum of weights that get no gradient decays into denormal numbers, which are slow.
    torch.set_flush_denormal(True)
    while True:
        try:
            name, text, path = link.recv()
        except EOFError:
            return
        global _unfinished
        _unfinished = None if path is None else path.with_suffix(".unfinished")
        try:
            module, _, attribute = name.rpartition(":")
            function = getattr(importlib.import_module(module), attribute)
            clock = time.monotonic()
            result = _called(function, text)
            seconds = round(time.monotonic() - clock, 2)
            _check_result(result)
            made = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": seconds, "machine": device()}
            if path is not None:
                _write_result(path, result, made)
        except Exception as error:
            link.send((f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}", None, None))
        else:
            link.send((None, result, made))


_unfinished: Path | None = None


def unfinished_folder() -> Path | None:
    """Return the folder in which the job that runs may keep what it needs to go on, should it be killed; None for nowhere.

    The same job finds it again, as long as nothing has changed that its result depends on. It is removed when the result is kept.
    """
    return _unfinished


def _called(function: Callable[..., Any], text: str) -> Any:
    """Call a function with a job that was made text."""
    kinds = [kind for name, kind in get_type_hints(function).items() if name != "return"]
    if len(kinds) == 1 and isinstance(kinds[0], type) and dataclasses.is_dataclass(kinds[0]):
        return function(from_json(kinds[0], text))
    return function(**json.loads(text))


def _default_workers() -> int:
    import torch

    return 1 if torch.cuda.is_available() else available_cores()


def _importable_name(function: Callable[..., Any]) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or module == "__main__" or "." in name or "<" in name:
        raise ValueError(
            f"{function!r} cannot be called in another process; define it with `def` at the top level of a module that can be "
            "imported (not of a notebook or of the script that is run)"
        )
    return f"{module}:{name}"


def _canonical(job: Any) -> str:
    kind: type[Any] = type(job)
    if dataclasses.is_dataclass(kind):
        text = to_json(job)
        if from_json(kind, text) != job:
            raise ValueError(f"job {job!r} changes on its way through JSON; its fields must compare equal and be plain values")
        return text
    try:
        text = json.dumps(dict(job), sort_keys=True, ensure_ascii=False)
        same = json.loads(text) == dict(job)
    except (TypeError, ValueError) as error:
        raise ValueError(f"job {dict(job)!r}: {error}; use numbers, text, lists and dictionaries") from error
    if not same:
        raise ValueError(f"job {dict(job)!r}: tuples, NaN and keys that are no text change on the way; use lists and text keys")
    return text


def _cache_from_environment() -> Path | None:
    folder = os.environ.get("EFFNOTES_CACHE_DIR")
    return Path(folder) if folder else None


def _cache_paths(name: str, function: Callable[..., Any], texts: Sequence[str], folder: Path) -> list[Path | None]:
    code = function_closure(function)
    common = [name, code.digest, code.versions, platform.python_version()]
    folder.mkdir(parents=True, exist_ok=True)
    return [folder / f"{json_digest([*common, text])}.npz" for text in texts]


def _tell(event: Mapping[str, Any]) -> None:
    """Tell who watches this process what happened to jobs."""
    path = os.environ.get(PROGRESS_VARIABLE)
    if path:
        with contextlib.suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def _check_result(result: Any) -> None:
    """Raise TypeError unless the result comes back from the cache as it went in."""
    if not isinstance(result, dict):
        raise TypeError(f"the job returned {type(result).__name__}; needed: a dictionary")
    for key, value in result.items():
        if not isinstance(key, str):
            raise TypeError(f"the job returned the key {key!r}; needed: text")
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            continue
        if isinstance(value, dict) or value is None or not _is_json(value):
            raise TypeError(
                f"the job returned {key!r} as {type(value).__name__}; needed: a NumPy array without objects, float, int, str or a "
                "list of what JSON can hold (a NumPy number is converted by its .item())"
            )


def _is_json(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _write_result(path: Path, result: JobResult, made: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {f"={key}": value for key, value in result.items() if isinstance(value, np.ndarray)}
    values = {key: value for key, value in result.items() if f"={key}" not in arrays}
    header = json.dumps({"order": list(result), "values": values, "made": made}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have cleared the cache meanwhile
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        shutil.rmtree(path.with_suffix(".unfinished"), ignore_errors=True)
    finally:
        temporary.unlink(missing_ok=True)


def _read_result(path: Path) -> tuple[JobResult, dict[str, Any]] | None:
    """Read a kept result, with when and where it was made; None where there is none or it is torn."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            values = header["values"] | {name[1:]: stored[name] for name in stored.files if name != "header"}
        return {key: values[key] for key in header["order"]}, header["made"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
