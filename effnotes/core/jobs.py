"""Independent jobs side by side, each in a single-threaded process of its own.

Two PyTorch processes with two threads each on two cores run many times slower than two single-threaded ones, so a chapter's
trainings run here. No worker outlives the process that started it, however that one ends.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import multiprocessing.util
import os
import pickle
import platform
import shutil
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from effnotes.core.checks import check_range
from effnotes.core.digests import function_closure, json_digest
from effnotes.core.files import user_path, written_whole
from effnotes.core.processes import THREAD_VARIABLES, available_cores, device, exit_with_parent, tell, tell_parts_only
from effnotes.core.settings import from_json, to_json

JobResult = dict[str, NDArray[Any] | float | int | str | list[Any]]

_Processes = dict[Any, SpawnProcess]  # by the link to each worker

# One thread each; and freed tensors stay with the process, or every step faults the same megabytes in again (glibc only).
_WORKER_ENVIRONMENT = dict.fromkeys(THREAD_VARIABLES, "1")
_WORKER_ENVIRONMENT |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "1073741824")


class JobError(RuntimeError):
    """A job failed, or its process died; the message holds the job's parameters and the error."""


class _Task(NamedTuple):
    kind: type[Any]
    text: str  # the job as JSON
    path: Path | None  # where its result is kept


class WorkerPool(contextlib.AbstractContextManager["WorkerPool"]):
    """Processes that wait for jobs between several calls of `run_jobs`, where starting them anew would take longer than the jobs.

    What a worker has imported and keeps in memory stays there. The processes end with `close`, at the end of a `with` block, with
    a call that fails, or with the process that made the pool. One call at a time may use it.

    Args:
        workers: Processes at a time, at least 1; default as for `run_jobs`.

    Raises:
        ValueError: `workers` is below 1.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is None:
            import torch

            workers = 1 if torch.cuda.is_available() else available_cores()
        check_range(1, whole=True, workers=workers)
        self.workers = workers
        self._processes: _Processes = {}
        # Also before the interpreter exits, where multiprocessing would wait for them: so by its own finalizers, which run before
        # that. Those of `weakref` run after it where somebody used one before multiprocessing was imported.
        multiprocessing.util.Finalize(self, _end, args=(self._processes,), exitpriority=10)

    def close(self) -> None:
        """End all workers; the pool starts new ones when it is used again."""
        _end(self._processes)

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, function: Callable[..., JobResult], tasks: Mapping[int, _Task]) -> dict[int, JobResult]:
        """Run jobs and return their results; where one fails or somebody interrupts, no worker goes on."""
        waiting, running, results = list(tasks), dict[Any, int](), dict[int, JobResult]()
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    idle = (link for link, process in self._processes.items() if link not in running and process.is_alive())
                    link = next(idle, None) or _start_worker(self._processes)
                    running[link] = waiting.pop(0)
                    # A worker that died meanwhile is noticed when its link is read.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        link.send((function, tasks[running[link]]))
                for link in cast(list[Any], connection.wait(list(running))):
                    index = running.pop(link)
                    try:
                        error, result, made = link.recv()
                    except (EOFError, OSError):
                        self._processes[link].join()
                        error = f"its process died with exit code {self._processes[link].exitcode}"
                    if error is not None:
                        raise JobError(f"{function.__module__}:{function.__name__}({tasks[index].text}) failed: {error}")
                    results[index] = result
                    tell({"computed": made})
        except BaseException:
            self.close()
            raise
        return results


@contextlib.contextmanager
def pool_of(workers: int | WorkerPool | None) -> Iterator[WorkerPool]:
    """Yield the pool given, or a pool of so many workers for the `with` block alone: several calls start and import only once.

    Raises:
        ValueError: `workers` is below 1.
    """
    if isinstance(workers, WorkerPool):
        yield workers
    else:
        with WorkerPool(workers) as pool:
            yield pool


def run_jobs(
    function: Callable[..., JobResult], jobs: Sequence[Any], *, workers: int | WorkerPool | None = None
) -> list[JobResult]:
    """Call `function(job)` for every job, in single-threaded processes side by side.

    A job is an instance of a class made by `effnotes.core.settings.settings`, which goes to a worker, and into the key of what is
    kept, as JSON.

    Where the environment variable `EFFNOTES_CACHE_DIR` names a folder, each result is kept there as soon as its job is done, under
    a key over the function's name and module, the job, the code that the function's module depends on (`effnotes.core.digests`),
    and the versions of Python and of the packages that this code imports. A call that was interrupted, or is repeated, computes
    only what is missing, and a change to a docstring, a metric or a figure trains nothing again. A torn entry counts as missing.

    Args:
        function: A function at the top level of an importable module (not of a notebook or script). It returns a dictionary with
            text keys whose values are NumPy arrays (no object arrays), float, int, str, or lists of what JSON can hold.
        jobs: Settings of each call.
        workers: Processes at a time, at least 1, or a pool that keeps them. Default: 1 where there is a GPU, else
            `OMP_NUM_THREADS` if set, else the cores that this process may use.

    Returns:
        The results in the order of the jobs.

    Raises:
        ValueError: The function cannot be imported by a worker, `workers` is below 1, or a job is no settings that JSON can hold.
        JobError: A job failed; the others have been stopped. What was finished before is in the cache.
    """
    _check_importable(function)
    with pool_of(workers) as pool:
        tasks = dict(enumerate(_tasks(function, jobs)))
        results: dict[int, JobResult] = {}
        tell({"jobs": len(jobs)})
        for index, task in tasks.items():
            if task.path is not None and (kept := _read_result(task.path)) is not None:
                results[index], made = kept
                tell({"reused": made})
        results |= pool._run(function, {index: task for index, task in tasks.items() if index not in results})
    return [results[index] for index in tasks]


def _tasks(function: Callable[..., Any], jobs: Sequence[Any]) -> list[_Task]:
    texts = [to_json(job) if dataclasses.is_dataclass(job) else "" for job in jobs]
    for job, text in zip(jobs, texts, strict=True):
        if not text or from_json(type(job), text) != job:
            raise ValueError(f"job {job!r}: must be settings whose fields compare equal after their way through JSON")
    paths: list[Path | None] = [None] * len(jobs)
    if given := os.environ.get("EFFNOTES_CACHE_DIR"):
        folder, code = user_path(given), function_closure(function)
        folder.mkdir(parents=True, exist_ok=True)
        common = [f"{function.__module__}:{function.__name__}", code.digest, code.versions, platform.python_version()]
        paths = [folder / f"{json_digest([*common, text])}.npz" for text in texts]
    return [_Task(type(job), text, path) for job, text, path in zip(jobs, texts, paths, strict=True)]


def _end(processes: _Processes) -> None:
    for process in processes.values():
        process.kill()
    for process in processes.values():
        process.join()
    processes.clear()


def _start_worker(processes: _Processes) -> Any:
    """Start a worker, enter it among the processes of its pool and return the link to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # No daemon, because those may start no processes, and a job may decode images in some. Workers are killed by their pool, and
    # exit by themselves where their parent is gone.
    process = context.Process(target=_work, args=(theirs,), daemon=False, name="effnotes-job")
    # The environment is what a worker must find before its first import: thread pools and malloc read it once, at start. And a
    # worker must not import the caller's main module, which would run an unguarded script a second time.
    with _replaced(os.environ, _WORKER_ENVIRONMENT), _replaced(sys.modules, {"__main__": types.ModuleType("__main__")}):
        process.start()
    theirs.close()
    processes[ours] = process
    return ours


@contextlib.contextmanager
def _replaced(mapping: MutableMapping[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    before = {name: mapping[name] for name in values if name in mapping}
    mapping.update(values)
    try:
        yield
    finally:
        for name in values.keys() - before.keys():
            del mapping[name]
        mapping.update(before)


def _work(link: connection.Connection) -> None:
    """Run jobs from the link until it closes (in the worker)."""
    global _unfinished
    exit_with_parent()
    # Ctrl-C reaches the whole group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Jobs within a job are not told, only how far it is.
    tell_parts_only()
    import torch

    torch.set_num_threads(1)
    # Momentum of weights that get no gradient decays into denormal numbers, which are slow.
    torch.set_flush_denormal(True)
    while True:
        try:
            message = link.recv_bytes()
        except EOFError:
            return
        try:
            function, (kind, text, path) = pickle.loads(message)  # imports the function's module
            _unfinished = path and path.with_suffix(".unfinished")
            clock = time.monotonic()
            result = function(from_json(kind, text))
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


def _check_importable(function: Callable[..., Any]) -> None:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in (None, "__main__") or not name.isidentifier():
        where = "at the top level of a module that can be imported (not of a notebook or of the script that is run)"
        raise ValueError(f"{function!r} cannot be called in another process; define it with `def` {where}")


def _check_result(result: Any) -> None:
    """Raise TypeError unless the result comes back from the cache as it went in."""
    if not isinstance(result, dict):
        raise TypeError(f"the job returned {type(result).__name__}; needed: a dictionary")
    for key, value in result.items():
        if not isinstance(key, str):
            raise TypeError(f"the job returned the key {key!r}; needed: text")
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            continue
        # As text, because 1 and True, a list and a tuple, or NumPy's numbers and Python's are equal; NaN is unequal to itself.
        with contextlib.suppress(TypeError, ValueError):
            if not isinstance(value, dict | None) and repr(json.loads(json.dumps(value))) == repr(value):
                continue
        needed = "a NumPy array without objects, float, int, str (a NumPy number's .item()) or a list of what JSON can hold"
        raise TypeError(f"the job returned {key!r} as {type(value).__name__}; needed: {needed}")


def _write_result(path: Path, result: JobResult, made: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {f"={key}": value for key, value in result.items() if isinstance(value, np.ndarray)}
    values = {key: value for key, value in result.items() if f"={key}" not in arrays}
    header = json.dumps({"order": list(result), "values": values, "made": made}).encode()
    with written_whole(path) as file:
        np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
    shutil.rmtree(path.with_suffix(".unfinished"), ignore_errors=True)


def _read_result(path: Path) -> tuple[JobResult, dict[str, Any]] | None:
    """Read a kept result, with when and where it was made; None where there is none or it is torn."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            values = header["values"] | {name[1:]: stored[name] for name in stored.files if name != "header"}
        return {key: values[key] for key in header["order"]}, header["made"]
    except Exception:  # what torn bytes raise, in an archive, an array or a header, has no common class
        return None
