"""What executors of any kind make of runs, as it comes."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from effnotes.runner.execute import RunRequest
from effnotes.runner.watch import Progress

ProgressCallback = Callable[[str, str, Progress], None]  # name of the chapter and key of the run, and how far it is
Take = Callable[[], RunRequest | None]
Result = tuple[bytes, dict[str, Any]]
Outcome = Result | Exception


def outcomes(
    submit: Callable[[RunRequest], Future[Result]], take: Take, room: Callable[[], int], look_s: float | None = None
) -> Iterator[tuple[RunRequest, Outcome]]:
    """Yield what `submit` makes of all that `take` gives, `room()` at once; a pool that is broken is given no more.

    Both are asked again after each run that ends and, where `look_s` is given, every so many seconds.
    """
    futures: dict[Future[Result], RunRequest] = {}
    outcome: Outcome | None = None
    while True:
        while not isinstance(outcome, BrokenProcessPool) and len(futures) < room() and (request := take()):
            try:
                futures[submit(request)] = request
            except BrokenProcessPool as error:  # since the last outcome
                outcome = error
                yield request, error
        if not futures:
            return
        for future in wait(futures, look_s, FIRST_COMPLETED).done:
            request = futures.pop(future)
            try:
                ended: Outcome = future.result()
            except Exception as error:  # also where a cluster has given the run up, which `exception` would raise
                ended = error
            outcome = outcome if isinstance(outcome, BrokenProcessPool) else ended
            yield request, ended
