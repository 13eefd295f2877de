"""Run several chapters side by side, on processes of this machine or on the workers of a `dask.distributed` scheduler.

Both kinds of executor run the same function, `execute.execute_chapter`, and give back its results as they come. A worker that is
killed costs no other chapter: on this machine the chapters that were under way with it are run again, each alone, so that the one
that takes its process down is told from those that only shared the pool; a cluster's scheduler gives a lost task to another worker.
"""

import functools
import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from effnotes.core.processes import exit_with_parent
from effnotes.runner.cluster import Cluster, NoWorkerError, gpus, run_on_cluster
from effnotes.runner.errors import describe_os_error
from effnotes.runner.execute import RunRequest, execute_chapter
from effnotes.runner.outcomes import Outcome, ProgressCallback, Take, outcomes

# Set in each process of the pool by its initializer.
_slot_progress: Any = None
_slot_gpu: str | None = None


def run_chapters(
    take: Take, *, slots: int, cluster: Cluster | None, on_progress: ProgressCallback, say: Callable[[str], None]
) -> Generator[tuple[RunRequest, Outcome], None, None]:
    """Run chapters and yield each with what it returned, or with the exception that kept it from returning, as they end.

    Args:
        take: gives the next run whenever there is room for one, and None where there is none: it is asked again after each that
            ends. Where there is none at all, nothing is started.
        slots: number of chapters run at once on this machine; without effect with `cluster`.
        cluster: a `dask.distributed` scheduler, or None for processes of this machine.
        on_progress: called in this process now and then, while a chapter runs.
        say: told in a sentence of workers that are given no run.

    Raises:
        UsageError: the scheduler does not answer or has no workers that fit, or the extra ``cluster`` is not installed.
    """
    first = [request] if (request := take()) else []

    def feed() -> RunRequest | None:
        return first.pop() if first else take()

    if first and cluster is not None:
        yield from run_on_cluster(first[0], feed, cluster, on_progress, say)
    elif first:
        broken: list[tuple[RunRequest, Outcome]] = []
        for request, outcome in _run_on_pool(feed, slots, on_progress):
            if isinstance(outcome, BrokenProcessPool):
                broken.append((request, outcome))
            else:
                yield request, outcome
        if len(broken) == 1:  # nothing else was under way with it
            yield from broken
        for request, _ in broken if len(broken) > 1 else []:
            yield from _run_on_pool(functools.partial(next, iter([request]), None), 1, on_progress)
        if broken:  # of those that were not under way
            yield from run_chapters(take, slots=slots, cluster=None, on_progress=on_progress, say=say)


def _run_on_pool(take: Take, slots: int, on_progress: ProgressCallback) -> Iterator[tuple[RunRequest, Outcome]]:
    context = multiprocessing.get_context("spawn")
    slot_numbers = context.SimpleQueue()
    for slot in range(slots):
        slot_numbers.put(slot)
    with _listening(on_progress) as progress:
        pool = ProcessPoolExecutor(slots, mp_context=context, initializer=_start_slot, initargs=(slot_numbers, progress, gpus()))
        try:
            yield from outcomes(lambda request: pool.submit(_run_in_slot, request), take, lambda: slots)
        except BaseException:
            # Ctrl-C, or the consumer gave up: what is under way is lost, what was yielded is kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.kill()
            raise
        pool.shutdown()


def _run_in_slot(task: RunRequest) -> tuple[bytes, dict[str, Any]]:
    return execute_chapter(task, lambda progress: _slot_progress.send((task["chapter"], task["key"], progress)), gpu=_slot_gpu)


def _start_slot(slot_numbers: Any, progress: Any, visible: list[str]) -> None:
    global _slot_progress, _slot_gpu
    exit_with_parent()
    # Ctrl-C reaches the whole process group; the build decides what happens to its slots.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _slot_progress = progress
    _slot_gpu = visible[slot_numbers.get() % len(visible)] if visible else None


@contextmanager
def _listening(on_progress: ProgressCallback) -> Iterator[Connection]:
    """Yield what slots send their progress into, and pass it on while the context is open.

    A pipe and no queue: a slot that is killed while it holds a queue's lock would stop all others, and this process. Messages this
    short go through a pipe whole, whoever writes beside.
    """
    received, progress = multiprocessing.Pipe(duplex=False)

    def listen() -> None:
        while (item := received.recv()) is not None:
            # Where nobody can be told, as through a closed terminal, the pipe is emptied even so: slots would wait for room in it.
            with suppress(Exception, SystemExit):
                on_progress(*item)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        progress.send(None)
        thread.join(timeout=5)
        progress.close()


def describe_failure(error: Exception) -> str:
    """Say in a few words why a chapter gave no record at all."""
    if isinstance(error, BrokenProcessPool):
        return "the process that ran it was killed, most often for want of memory"
    if isinstance(error, NoWorkerError):
        return f"no worker of the cluster has what it was planned with ({error})"
    if isinstance(error, CancelledError):
        return "the scheduler was lost, or has given the run up; give the command again when it runs"
    return describe_os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
