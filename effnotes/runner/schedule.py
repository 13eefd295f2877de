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
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from effnotes.core.processes import available_cores, exit_with_parent
from effnotes.runner import keys
from effnotes.runner.errors import UsageError, describe_os_error
from effnotes.runner.execute import RunRequest, execute_chapter
from effnotes.runner.project import Chapter
from effnotes.runner.watch import Progress

ProgressCallback = Callable[[str, str, Progress], None]  # name of the chapter and key of the run, and how far it is
Take = Callable[[], RunRequest | None]
Outcome = tuple[bytes, dict[str, Any]] | Exception

# Set in each process of the pool by its initializer.
_slot_progress: Any = None
_slot_gpu: str | None = None


def run_chapters(
    take: Take, *, slots: int, scheduler: str | None, on_progress: ProgressCallback
) -> Generator[tuple[RunRequest, Outcome], None, None]:
    """Run chapters and yield each with what it returned, or with the exception that kept it from returning, as they end.

    Args:
        take: gives the next run whenever there is room for one, and None where there is none: it is asked again after each that
            ends. Where there is none at all, nothing is started.
        slots: number of chapters run at once on this machine; without effect with `scheduler`.
        scheduler: address of a `dask.distributed` scheduler, or None for processes of this machine.
        on_progress: called in this process now and then, while a chapter runs.

    Raises:
        UsageError: the scheduler does not answer or has workers of another version, or the extra ``cluster`` is not installed.
    """
    first = [request] if (request := take()) else []

    def feed() -> RunRequest | None:
        return first.pop() if first else take()

    if first and scheduler is not None:
        yield from _run_on_cluster(first[0], feed, scheduler, on_progress)
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
            yield from run_chapters(take, slots=slots, scheduler=None, on_progress=on_progress)


def _run_on_pool(take: Take, slots: int, on_progress: ProgressCallback) -> Iterator[tuple[RunRequest, Outcome]]:
    context = multiprocessing.get_context("spawn")
    slot_numbers = context.SimpleQueue()
    for slot in range(slots):
        slot_numbers.put(slot)
    with _listening(on_progress) as progress:
        pool = ProcessPoolExecutor(slots, mp_context=context, initializer=_start_slot, initargs=(slot_numbers, progress, _gpus()))
        try:
            yield from _outcomes(pool, take, _run_in_slot, lambda: slots)
        except BaseException:
            # Ctrl-C, or the consumer gave up: what is under way is lost, what was yielded is kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.kill()
            raise
        pool.shutdown()


def _run_on_cluster(
    first: RunRequest, take: Take, address: str, on_progress: ProgressCallback
) -> Iterator[tuple[RunRequest, Outcome]]:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--scheduler needs the extra 'cluster': pip install 'effnotes[cluster]'.") from None
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start one with 'dask scheduler' and give its address, for example --scheduler tcp://127.0.0.1:8786."
        raise UsageError(f"no scheduler answers at {address!r} ({type(error).__name__}); {remedy}") from None
    with client:
        if not client.scheduler_info().get("workers"):
            raise UsageError(f"the scheduler at {address} has no workers; start one with 'dask worker {address}'.")
        planned = {name: first["key_parts"][name] for name in ("library", "packages")}
        found = client.run(keys.code_parts, Chapter(first["chapter"], "", first["source"]), on_error="return")
        if others := [worker for worker, parts in found.items() if parts != planned]:
            what = f"{len(others)} of {len(found)} workers have another version of effnotes, of a package or of Python"
            raise UsageError(f"{what}, such as {others[0]}; install this checkout and its lock file there, and start them again.")
        # A topic of its own: other builds may use the same scheduler.
        topic = f"effnotes-{uuid.uuid4()}"
        client.subscribe_topic(topic, lambda event: on_progress(event[1][0], event[1][1], Progress(*event[1][2])))
        executor, function = client.get_executor(pure=False, retries=2), functools.partial(_run_on_worker, topic)
        # So many wait that no worker does, nor one that comes later.
        yield from _outcomes(executor, take, function, lambda: 8 + 2 * sum(client.nthreads().values()))


def _outcomes(
    executor: Executor, take: Take, function: Callable[[RunRequest], tuple[bytes, dict[str, Any]]], room: Callable[[], int]
) -> Iterator[tuple[RunRequest, Outcome]]:
    """Yield what `executor` makes of all that `take` gives, `room()` at once; a pool that is broken is given no more."""
    futures: dict[Future[tuple[bytes, dict[str, Any]]], RunRequest] = {}
    outcome: Outcome | None = None
    while True:
        while not isinstance(outcome, BrokenProcessPool) and len(futures) < room() and (request := take()):
            try:
                futures[executor.submit(function, request)] = request
            except BrokenProcessPool as error:  # since the last outcome
                outcome = error
                yield request, error
        if not futures:
            return
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            request = futures.pop(future)
            try:
                ended: Outcome = future.result()
            except Exception as error:  # also where a cluster has given the run up, which `exception` would raise
                ended = error
            outcome = outcome if isinstance(outcome, BrokenProcessPool) else ended
            yield request, ended


def _run_in_slot(task: RunRequest) -> tuple[bytes, dict[str, Any]]:
    return execute_chapter(task, lambda progress: _slot_progress.send((task["chapter"], task["key"], progress)), gpu=_slot_gpu)


def _run_on_worker(topic: str, task: RunRequest) -> tuple[bytes, dict[str, Any]]:
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
        local, lambda progress: worker.log_event(topic, (task["chapter"], task["key"], tuple(progress))), abandoned=abandoned
    )


def _start_slot(slot_numbers: Any, progress: Any, gpus: list[str]) -> None:
    global _slot_progress, _slot_gpu
    exit_with_parent()
    # Ctrl-C reaches the whole process group; the build decides what happens to its slots.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _slot_progress = progress
    _slot_gpu = gpus[slot_numbers.get() % len(gpus)] if gpus else None


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(index) for index, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]


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
    if isinstance(error, CancelledError):
        return "the scheduler was lost, or has given the run up; give the command again when it runs"
    return describe_os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
