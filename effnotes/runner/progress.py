"""Tell the person at the terminal how far the chapters are: live bars on a terminal, plain lines elsewhere."""

import time
from typing import Self

from rich import progress
from rich.console import Console

from effnotes.reporting.kept import format_duration
from effnotes.runner.watch import Progress

_PLAIN_INTERVAL_S = 60.0


class Reporter:
    """Reports on several chapters at once; use it as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TextColumn("{task.fields[state]}"))
        self._progress = progress.Progress(*columns, progress.TimeElapsedColumn(), console=console, disable=not self._live)
        self._bars: dict[str, progress.TaskID] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._overall: progress.TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            self.say("interrupted: what is finished is recorded, and the same command goes on from there")

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def overall(self, name: str, done: int, total: int, left_s: float | None) -> None:
        """Show how many of many runs are done, and how long the others will take; a run's own bar goes away when it ends."""
        if self._overall is None:
            self._overall = self._progress.add_task(name, total=total, state="")
        left = f", about {format_duration(max(1, round(left_s)))} for the others" if left_s else ""
        self._progress.update(self._overall, completed=done, state=f"{done} of {total}{left}")

    def start(self, chapter: str) -> None:
        """Announce that `chapter` will be run."""
        self._started[chapter] = self._said[chapter] = time.monotonic()
        if self._live:
            self._bars[chapter] = self._progress.add_task(chapter, total=None, state="starting")
        else:
            self.say(f"{chapter}: running")

    def advance(self, chapter: str, state: Progress) -> None:
        """Note how far `chapter` is: on a bar at once, on plain lines once a minute."""
        now = time.monotonic()
        if self._live and chapter not in self._bars:  # told late: the run has ended
            return
        if self._live:
            # Jobs count as parts of the cell that waits for them.
            done = state.cells + (state.jobs / state.of_jobs if state.of_jobs else 0)
            self._progress.update(self._bars[chapter], completed=done, total=state.of_cells or None, state=_described(state))
        elif now - self._said[chapter] >= _PLAIN_INTERVAL_S:
            self._said[chapter] = now
            self.say(f"{chapter}: {_described(state)}, {now - self._started[chapter]:.0f} s")

    def finish(self, chapter: str, outcome: str) -> None:
        """Say how the run of `chapter` ended."""
        if self._live and self._overall is None:
            self._progress.stop_task(self._bars[chapter])
        elif self._live:
            self._progress.remove_task(self._bars.pop(chapter))
        self.say(f"{chapter}: {outcome}")


def _described(state: Progress) -> str:
    parts = [f"{state.cells} of {state.of_cells} cells"]
    if state.of_jobs:
        parts.append(f"{state.jobs} of {state.of_jobs} jobs done, {state.of_jobs - state.jobs} left")
        if state.share is not None:
            parts[-1] += f" (those under way {state.share:.0%} done)"
    if state.left_s is not None:
        parts.append(f"about {format_duration(max(1, round(state.left_s)))} for them")
    return ", ".join(parts)
