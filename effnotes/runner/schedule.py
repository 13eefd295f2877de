"""Run several chapters side by side, on processes of this machine or on the workers of a `dask.distributed` scheduler.

Both kinds of executor run the same function, `execute.execute_chapter`, and give back its results as they come. A worker that is
killed costs no other chapter: on this machine the chapters that were under way with it are run again, each alone, so that the one
that takes its process down is told from those that only shared the pool; a cluster's scheduler gives a lost task to another worker.
"""

import functools
import multiprocessing
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from effnotes.core.processes import available_cores, exit_with_parent
from effnotes.runner.errors import BuildError, UsageError
from effnotes.runner.execute import RunRequest, execute_chapter

CellCallback = Callable[[str, int, int], None]  # chapter, cells done, cells in all
Outcome = tuple[bytes, dict[str, Any]] | Exception

# Set in each process of the pool by its initializer.
_slot_queue: Any = None
_slot_gpu: str | None = None


@dataclass(frozen=True)
class Job:
    """A chapter to run: its source and its plan."""

    source: str
    task: RunRequest


def run_chapters(jobs: list[Job], *, slots: int, scheduler: str | None, on_cell: CellCallback) -> Iterator[tuple[Job, Outcome]]:
    """Run `jobs` and yield each with what it returned, or with the exception that kept it from returning, as they end.

    Args:
        jobs: what to run; an empty list yields nothing and starts nothing.
        slots: number of chapters run at once on this machine; without effect with `scheduler`.
        scheduler: address of a `dask.distributed` scheduler, or None for processes of this machine.
        on_cell: called in this process whenever a chapter has finished a cell.

    Raises:
        UsageError: the scheduler does not answer, or the extra ``cluster`` is not installed.
    """
    if not jobs:
        return
    if scheduler is not None:
        yield from _run_on_cluster(jobs, scheduler, on_cell)
        return
    broken: list[Job] = []
    for job, outcome in _run_on_pool(jobs, slots, on_cell):
        if isinstance(outcome, BrokenProcessPool) and len(jobs) > 1:
            broken.append(job)
        else:
            yield job, outcome
    for job in broken:
        yield from _run_on_pool([job], 1, on_cell)


def default_slots(chapters: int) -> int:
    """Return how many chapters to run at once here: as many as there are, at most one a core."""
    return max(1, min(chapters, available_cores()))


def _run_on_pool(jobs: list[Job], slots: int, on_cell: CellCallback) -> Iterator[tuple[Job, Outcome]]:
    context = multiprocessing.get_context("spawn")
    progress = context.SimpleQueue()
    slot_numbers = context.SimpleQueue()
    for slot in range(slots):
        slot_numbers.put(slot)
    with _listening(progress, on_cell):
        pool = ProcessPoolExecutor(slots, mp_context=context, initializer=_start_slot, initargs=(slot_numbers, progress, _gpus()))
        try:
            yield from _outcomes(pool, jobs, _run_in_slot)
        except BaseException:
            # Ctrl-C, or the consumer gave up: what is under way is lost, what was yielded is kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.kill()
            raise
        pool.shutdown()


def _run_on_cluster(jobs: list[Job], address: str, on_cell: CellCallback) -> Iterator[tuple[Job, Outcome]]:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--scheduler needs the extra 'cluster': pip install 'effnotes[cluster]'.") from None
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no scheduler answers at {address!r} ({type(error).__name__}); start one with 'dask scheduler' and give"
            " its address, for example --scheduler tcp://127.0.0.1:8786."
        ) from None
    with client:
        if not client.scheduler_info().get("workers"):
            raise UsageError(f"the scheduler at {address} has no workers; start one with 'dask worker {address}'.")
        # A topic of its own: other builds may use the same scheduler.
        topic = f"effnotes-{uuid.uuid4()}"
        client.subscribe_topic(topic, lambda event: on_cell(*event[1]))
        yield from _outcomes(client.get_executor(pure=False, retries=2), jobs, functools.partial(_run_on_worker, topic))


def _outcomes(
    executor: Executor, jobs: list[Job], function: Callable[[str, RunRequest], tuple[bytes, dict[str, Any]]]
) -> Iterator[tuple[Job, Outcome]]:
    futures: dict[Future[tuple[bytes, dict[str, Any]]], Job] = {
        executor.submit(function, job.source, job.task): job for job in jobs
    }
    for future in as_completed(futures):
        error = future.exception()
        if error is None:
            yield futures[future], future.result()
        elif isinstance(error, Exception):
            yield futures[future], error
        else:
            raise error


def _run_in_slot(source: str, task: RunRequest) -> tuple[bytes, dict[str, Any]]:
    return execute_chapter(source, task, lambda done, total: _slot_queue.put((task["chapter"], done, total)), gpu=_slot_gpu)


def _run_on_worker(topic: str, source: str, task: RunRequest) -> tuple[bytes, dict[str, Any]]:
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def abandoned() -> bool:
        """Whether the scheduler has dropped the task, as it does when the client that asked for it is gone."""
        state = worker.state.tasks.get(key)
        return state is None or state.state == "cancelled"

    # Nothing of the machine that planned the build exists here: not its directories, not its count of cores.
    threads = max(1, available_cores() // worker.state.nthreads)
    local: RunRequest = {**task, "directory": None, "cache_dir": None, "threads": threads}
    return execute_chapter(
        source, local, lambda done, total: worker.log_event(topic, (task["chapter"], done, total)), abandoned=abandoned
    )


def _start_slot(slot_numbers: Any, progress: Any, gpus: list[str]) -> None:
    global _slot_queue, _slot_gpu
    exit_with_parent()
    # Ctrl-C reaches the whole process group; the build decides what happens to its slots.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _slot_queue = progress
    _slot_gpu = gpus[slot_numbers.get() % len(gpus)] if gpus else None


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(index) for index, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]


@contextmanager
def _listening(queue: Any, on_cell: CellCallback) -> Iterator[None]:
    """Pass on what the slots put into `queue` while the context is open."""

    def listen() -> None:
        while (item := queue.get()) is not None:
            on_cell(*item)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        queue.put(None)
        thread.join(timeout=5)


def describe_failure(error: Exception) -> str:
    """Say in one sentence why a chapter gave no record at all."""
    if isinstance(error, BrokenProcessPool):
        return "the process that ran it was killed, most often for want of memory"
    if isinstance(error, BuildError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"
