"""Watch a kernel while it runs: its memory, its jobs, and whether anything happens at all."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

PATIENCE_MIN = 30.0
"""For how many minutes nothing may happen in a cell before its chapter is ended, unless the command line says otherwise."""

_INTERVAL_S = 0.5
# Of one core. A kernel that waits uses a thousandth; one that computes beside other work at a low priority may get a hundredth.
_BUSY_SHARE = 0.005


class Progress(NamedTuple):
    """How far a chapter is."""

    cells: int  # code cells that have run
    of_cells: int
    jobs: int  # jobs of the present cell that are done
    of_jobs: int  # 0: none are under way
    left_s: float | None  # estimate of the time that the other jobs take; None where there is none yet
    share: float | None = None  # of those under way that is done, on average; None where they do not tell


Report = Callable[[Progress], None]


class Watch:
    """Samples the memory of a kernel and of the processes that it started, reads what it tells of its jobs, and stops it.

    It is stopped when nobody waits for it any more, and when nothing has happened for long: no cell or job was finished, nothing
    was printed or displayed, and no processor time was used. What a kernel shows is to be written to the watch, as to a file.

    Args:
        jobs_file: where the kernel tells of its jobs, see `effnotes.core.processes.PROGRESS_VARIABLE`.
        patience_s: for how long nothing may happen.
        report: is told how far the chapter is, now and then.
        abandoned: asked now and then whether nobody waits any more.

    Attributes:
        peak_bytes: most resident memory at a time.
        idle: whether the kernel was stopped because nothing happened.
        told: what the kernel told after the last cell, see `effnotes.runner.kernel`.
        process: the kernel's, where who starts it enters it here.
        manager: papermill's, which holds the notebook, where who runs it enters it here.
    """

    def __init__(
        self, jobs_file: Path, patience_s: float, report: Report | None = None, abandoned: Callable[[], bool] | None = None
    ) -> None:
        self.peak_bytes, self.idle = 0, False
        self.told: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.manager: Any = None
        self._cells = (0, 0)
        self._computed: list[dict[str, Any]] = []
        self._reused: list[dict[str, Any]] = []
        self._parts: dict[int, float] = {}  # share that is done of what each process trains
        self._call = (0, 0, 0, 0.0, 0.0)  # jobs, done, computed among these, when it began, when the last was computed
        self._read_bytes = 0
        self._jobs_file, self._patience_s, self._report, self._abandoned = jobs_file, patience_s, report, abandoned
        self._happened = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, pid: int) -> None:
        """Begin to watch the kernel with this process number."""
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._read_jobs()

    def cell(self, done: int, total: int) -> None:
        """Note that `done` of `total` code cells have run."""
        self._cells = (done, total)
        self._happened = time.monotonic()

    def write(self, _text: str) -> None:
        """Note that something was printed or displayed."""
        self._happened = time.monotonic()

    def flush(self) -> None:
        """Do nothing: nothing is kept."""

    def jobs(self) -> dict[str, Any]:
        """Return how many jobs were computed and how many results reused, and when and on what machines those were made."""
        made = sorted(job["at"] for job in self._reused)
        seconds, machines = sum(job["seconds"] for job in self._computed), sorted({job["machine"] for job in self._reused})
        ends = {"reused_from": made[0] if made else None, "reused_to": made[-1] if made else None, "reused_on": machines}
        return {"computed": len(self._computed), "computed_s": round(seconds, 1), "reused": len(made), **ends}

    def progress(self) -> Progress:
        """Return how far the chapter is."""
        jobs, done, computed, began, last = self._call
        if done == jobs:
            return Progress(*self._cells, 0, 0, None)
        left = (last - began) / computed * (jobs - done) - (time.monotonic() - last) if computed else None
        under_way = [share for share in self._parts.values() if share < 1]
        share = round(sum(under_way) / len(under_way), 2) if under_way else None
        return Progress(*self._cells, done, jobs, None if left is None else max(left, 0.0), share)

    def _watch(self, pid: int) -> None:
        period_s = min(self._patience_s / 10, 30.0)
        used: dict[int, float] = {}
        measured = time.monotonic()
        shown: Progress | None = None
        while not self._stop.is_set():
            try:
                tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            except psutil.Error:
                return
            now = time.monotonic()
            usage = {process.pid: _usage(process) for process in tree}
            self.peak_bytes = max(self.peak_bytes, sum(resident for resident, _ in usage.values()))
            self._read_jobs()
            if now - measured >= period_s:
                spent = sum(max(0.0, seconds - used.get(each, 0.0)) for each, (_, seconds) in usage.items())
                used = {each: seconds for each, (_, seconds) in usage.items()}
                if spent > max(_BUSY_SHARE * (now - measured), 0.015):
                    self._happened = now
                measured = now
            self.idle = now - self._happened > self._patience_s
            if self.idle or (self._abandoned is not None and self._abandoned()):
                for process in reversed(tree):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                return
            state = self.progress()
            if self._report is not None and state != shown:
                shown = state
                self._report(state)
            self._stop.wait(_INTERVAL_S)

    def _read_jobs(self) -> None:
        """Read what the kernel has told of its jobs since the last time, whole lines only."""
        text = self._jobs_file.read_bytes()[self._read_bytes :] if self._jobs_file.is_file() else b""
        text = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(text)
        now = time.monotonic()
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # begun while the disk was full
            self._happened = now
            jobs, done, computed, began, _ = self._call
            if "jobs" in event:
                self._call, self._parts = (event["jobs"], 0, 0, now, now), {}
            elif "part" in event:
                self._parts[event["part"]["by"]] = event["part"]["share"]
            elif "cell" in event:
                self.told = event["cell"]
            elif "reused" in event:
                self._reused.append(event["reused"])
                self._call = (jobs, done + 1, computed, now, now)
            else:
                self._computed.append(event["computed"])
                self._call = (jobs, done + 1, computed + 1, began, now)


def _usage(process: psutil.Process) -> tuple[int, float]:
    """Return resident memory in bytes and processor time in seconds, zeros where the process has ended since it was listed."""
    try:
        times = process.cpu_times()
        return process.memory_info().rss, times.user + times.system
    except psutil.Error:
        return 0, 0.0
