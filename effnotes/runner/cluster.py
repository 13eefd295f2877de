"""Run chapters on the workers of a `dask.distributed` scheduler, which share no directory with the machine that asks for the runs.

A worker runs only what it has the same code, packages and data for: each run computes its key there, before anything else. All
workers are looked at before the first run; one that comes later and differs is refused when it is given a run, which then goes to
another. A task whose worker dies is given to another by the scheduler.
"""

import asyncio
import functools
import json
import os
import ssl
import subprocess
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from effnotes.core.processes import available_cores
from effnotes.runner import keys
from effnotes.runner.errors import UsageError
from effnotes.runner.execute import LibraryMismatchError, RunRequest, execute_chapter
from effnotes.runner.outcomes import Outcome, ProgressCallback, Result, Take, outcomes
from effnotes.runner.project import Chapter
from effnotes.runner.watch import Progress

_GPU = "GPU"  # the resource, as dask's own pages call it
_LOOK_S = 5.0
_CERTIFICATES = (
    "Name their files in DASK_DISTRIBUTED__COMM__TLS__CA_FILE, __CLIENT__CERT and __CLIENT__KEY; see 'How to run this book'."
)
_NAMED = 3  # modules, packages or parameters of a refusal
_ELSEWHERE = Path("/nowhere")  # where relative paths start on a worker, whose kernels run in an empty folder

# Of this process, where it is a worker.
_gpus_lock = threading.Lock()
_gpus_taken: set[str] = set()


class NoWorkerError(RuntimeError):
    """Every worker that is there was refused for what a run needs."""


class Cluster(NamedTuple):
    """A scheduler, and what its workers must offer."""

    address: str  # such as tcp://127.0.0.1:8786 or, with the certificates of dask's configuration, tls://127.0.0.1:8786
    gpus: int = 0  # that each run needs, of workers that offer them as the resource GPU


def run_on_cluster(
    first: RunRequest, take: Take, cluster: Cluster, on_progress: ProgressCallback, say: Callable[[str], None]
) -> Iterator[tuple[RunRequest, Outcome]]:
    """Run chapters on a cluster; as `schedule.run_chapters`, and `first` is what `take` will give first."""
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--scheduler needs the extra 'cluster': pip install 'effnotes[cluster]'.") from None
    _check_certificates(cluster.address)
    try:
        client = Client(cluster.address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_no_answer(cluster.address, error)) from None
    with client:
        workers = _Workers(client, cluster, say)
        workers.check(first)
        # A topic of its own: other builds may use the same scheduler.
        client.subscribe_topic(workers.topic, lambda event: on_progress(event[1][0], event[1][1], Progress(*event[1][2])))
        again = deque[RunRequest]()

        def feed() -> RunRequest | None:
            return again.popleft() if again else take()

        for request, outcome in outcomes(workers.submit, feed, workers.room, _LOOK_S):
            if workers.is_to_go_on(request, outcome):
                again.append(request)
            else:
                yield request, outcome


class _Workers:
    """The workers of a scheduler, and which of them are given which runs."""

    def __init__(self, client: Any, cluster: Cluster, say: Callable[[str], None]) -> None:
        self.topic = f"effnotes-{uuid.uuid4()}"
        self._client, self._cluster, self._say = client, cluster, say
        self._executor = client.get_executor(pure=False, resources={_GPU: cluster.gpus} if cluster.gpus else None)
        self._refused = defaultdict[tuple[str, ...], dict[str, str]](dict)  # why, by what runs need and a worker's address
        self._bound: dict[str, tuple[Future[Result], set[str]]] = {}  # runs by key that only these workers may be given

    def check(self, request: RunRequest) -> None:
        """Raise a `UsageError` where there are no workers for a run, none offers the GPUs, or some differ."""
        address, wanted = self._cluster
        if not (offering := self._offering()):
            options = f" --resources {_GPU}={wanted}" if wanted else ""
            lack = f"no worker that offers {wanted} GPU{'s' * (wanted > 1)} to a run" if wanted else "no workers"
            raise UsageError(f"the scheduler at {address} has {lack}; start one with 'dask worker {address}{options}'.")
        if others := self._differing(request, list(offering)):
            what = (
                f"{len(others)} of {len(offering)} workers have another version of the code, of a package or of the data, such as"
            )
            remedy = (
                "Install this checkout and its lock file there, put the same data where the parameters say, and start them again."
            )
            raise UsageError(f"{what} {': '.join(next(iter(others.items())))}. {remedy}")

    def submit(self, request: RunRequest) -> Future[Result]:
        """Give a run to the scheduler, for all workers or, where some were refused, for the others."""
        refused, among = self._refused.get(_needs(request)), None
        if self._client.status != "running":
            return _given_up(CancelledError())
        if refused and not (among := self._offering().keys() - refused.keys()):
            return _given_up(NoWorkerError("; ".join(map(": ".join, refused.items()))))
        task = functools.partial(_run_on_worker, self.topic, self._cluster.gpus)
        future: Future[Result] = self._executor.submit(task, request, workers=among and sorted(among))
        if among:
            self._bound[request["key"]] = future, among
        return future

    def room(self) -> int:
        """Return how many runs may be under way: so many that no worker waits, nor one that comes later."""
        offering = self._offering()
        for future, among in self._bound.values():
            if not among & offering.keys():
                future.cancel()  # all that it was bound to are gone
        return 8 + 2 * sum(offering.values())

    def is_to_go_on(self, request: RunRequest, outcome: Outcome) -> bool:
        """Return whether a run came back because its worker differs or is gone, and is to be given to another."""
        bound = self._bound.pop(request["key"], None)
        if isinstance(outcome, CancelledError):
            return bound is not None and self._client.status == "running"
        if not isinstance(outcome, LibraryMismatchError | ImportError):
            return False
        refused = self._refused[_needs(request)]
        if refused and bound is None:
            return True  # submitted before that worker was refused
        found = self._differing(request, sorted(self._offering().keys() - refused.keys()))
        for address, why in found.items():
            self._say(f"{address} is given no more of {request['chapter']}: {why}")
        refused |= found
        return bool(found)

    def _offering(self) -> dict[str, int]:
        """Return the number of threads of each worker that offers what a run needs, by address."""
        workers = self._client.scheduler_info().get("workers", {})  # of a scheduler that is lost there is no such list
        return {name: each["nthreads"] for name, each in workers.items() if each["resources"].get(_GPU, 0) >= self._cluster.gpus}

    def _differing(self, request: RunRequest, addresses: list[str]) -> dict[str, str]:
        """Return what differs from this machine on each of these workers where something does."""
        assert request["directory"] is not None
        here = keys.surroundings(*_planned(request), Path(request["directory"]))
        found = self._client.run(_surroundings_of_worker, request, workers=addresses, on_error="return")
        # One that does not answer may be a slow one.
        told = {address: _differences(here, there) for address, there in found.items() if not isinstance(there, OSError)}
        return {address: why for address, why in told.items() if why}


def _given_up(error: Exception) -> Future[Result]:
    future = Future[Result]()
    future.set_exception(error)
    return future


def _differences(here: Mapping[str, Mapping[str, str]], there: Mapping[str, Mapping[str, str]] | Exception) -> str:
    """Say in what a worker differs from this machine, as `keys.surroundings` tells of both."""
    if isinstance(there, Exception):
        return f"effnotes does not work there ({type(there).__name__}: {there})"
    said = []
    for kind, own in here.items():
        other = there[kind]
        names = [name for name in sorted(own.keys() | other.keys()) if own.get(name) != other.get(name)]
        versions = [f"{name} {other.get(name, 'is missing')} ({own.get(name, 'none')} here)" for name in names]
        shown = (versions if kind == "packages" else names)[:_NAMED] + [f"{len(names) - _NAMED} more"] * (len(names) > _NAMED)
        if shown:
            what = {"modules": "other code of ", "packages": "", "data": "other data, or none, at the path of "}[kind]
            said.append(what + ", ".join(shown))
    return "; ".join(said)


def _planned(request: RunRequest) -> tuple[Chapter, dict[str, Any]]:
    return Chapter(request["chapter"], "", request["source"]), {item["name"]: item["value"] for item in request["parameters"]}


def _needs(request: RunRequest) -> tuple[str, ...]:
    return tuple(request["key_parts"][part] for part in ("library", "packages", "data"))


def _check_certificates(address: str) -> None:
    """Refuse an address with TLS where dask's configuration has no certificates for it."""
    from distributed.security import Security

    if address.startswith("tls://"):
        try:
            missing = Security().get_connection_args("client").get("ssl_context") is None
        except OSError as error:  # also where a file is no certificate
            raise UsageError(f"the certificates for {address} cannot be used ({error}). {_CERTIFICATES}") from None
        if missing:
            raise UsageError(f"{address} needs certificates. {_CERTIFICATES}")


def _no_answer(address: str, error: Exception) -> str:
    """Say why there is no connection to a scheduler, and what to do."""
    from distributed.comm.addressing import get_address_host_port

    told = f"no scheduler answers at {address!r} ({type(error).__name__}: {error})"
    if address.startswith("tls://"):
        return f"{told}; it must be started with --protocol tls and a certificate of the same authority."
    try:
        ssl.get_server_certificate(get_address_host_port(address), timeout=5)
    except (OSError, ValueError):
        return f"{told}; start one with 'dask scheduler' and give its address, for example --scheduler tcp://127.0.0.1:8786."
    return f"the scheduler at {address} speaks TLS alone: give its address as tls://. {_CERTIFICATES}"


async def _surroundings_of_worker(request: RunRequest) -> dict[str, dict[str, str]]:
    # In a thread: a worker that reads much data is to answer its scheduler meanwhile.
    return await asyncio.to_thread(keys.surroundings, *_planned(request), _ELSEWHERE)


@functools.lru_cache(maxsize=16)
def _key_on_worker(_topic: str, chapter: Chapter, claims: str) -> Callable[[Mapping[str, Any]], tuple[str, dict[str, str]]]:
    """Return what gives keys here; data are looked at once for all runs of one command, as where they were planned."""
    return keys.record_key(chapter, json.loads(claims), _ELSEWHERE)


def _run_on_worker(topic: str, wanted_gpus: int, task: RunRequest) -> Result:
    from distributed import get_worker

    chapter, values = _planned(task)
    if _key_on_worker(topic, chapter, json.dumps(task["claims"]))(values)[0] != task["key"]:
        raise LibraryMismatchError("the worker has other code, packages or data than the run was planned with")
    worker = get_worker()
    key = worker.get_current_task()

    def abandoned() -> bool:
        """Whether the scheduler has dropped the task, as it does when the client that asked for it is gone."""
        state = worker.state.tasks.get(key)
        return state is None or state.state == "cancelled"

    def tell(progress: Progress) -> None:
        worker.log_event(topic, (task["chapter"], task["key"], tuple(progress)))

    # Nothing of the machine that planned the build exists here: not its directories, not its count of cores.
    threads = max(1, available_cores() // worker.state.nthreads)
    local: RunRequest = {**task, "directory": None, "cache_dir": None, "threads": threads}
    with _taken_gpus(wanted_gpus) as visible:
        return execute_chapter(local, tell, gpu=visible, abandoned=abandoned)


@contextmanager
def _taken_gpus(count: int) -> Iterator[str | None]:
    """Yield so many of the GPUs of this worker, as ``CUDA_VISIBLE_DEVICES`` names them, that no other run has; None: of 0, all."""
    with _gpus_lock:
        free = [name for name in gpus() if name not in _gpus_taken][:count] if count else []
        if len(free) < count:
            raise RuntimeError(f"the worker offers more GPUs than it has: {count} wanted, {len(free)} free")
        _gpus_taken.update(free)
    try:
        yield ",".join(free) or None
    finally:
        _gpus_taken.difference_update(free)


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(index) for index, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]
