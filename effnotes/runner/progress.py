"""Tell the person at the terminal how far the chapters are: live bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_PLAIN_INTERVAL_S = 15.0


class Reporter:
    """Reports on several chapters at once; use it as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("cells"),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
        )
        self._bars: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            self.say("interrupted: finished chapters are recorded, and the next build goes on from there")

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, chapter: str) -> None:
        """Announce that `chapter` will be run."""
        self._started[chapter] = self._said[chapter] = time.monotonic()
        if self._live:
            self._bars[chapter] = self._progress.add_task(chapter, total=None)
        else:
            self.say(f"{chapter}: running")

    def cell(self, chapter: str, done: int, total: int) -> None:
        """Note that `done` of the chapter's `total` code cells have run."""
        if self._live:
            self._progress.update(self._bars[chapter], completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._said[chapter] >= _PLAIN_INTERVAL_S:
            self._said[chapter] = now
            self.say(f"{chapter}: {done} of {total} cells, {now - self._started[chapter]:.0f} s")

    def finish(self, chapter: str, outcome: str) -> None:
        """Say how the run of `chapter` ended."""
        if self._live:
            self._progress.stop_task(self._bars[chapter])
        self.say(f"{chapter}: {outcome}")
