"""Many runs of one chapter: the points of a grid, each with the ordinary key, and one table that is whole after each of them.

``sweeps/<name>/`` of the build directory holds ``table.parquet`` and ``table.csv`` with a row for each point that has ended, and
``plan.json``; where no point has ended, there is no such folder. The runs themselves are recorded where every run is: what a build
or another sweep has run is used again, and after a kill the same command runs what is missing. A point that fails is a row with its
error.
"""

import json
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from effnotes.core.digests import json_digest
from effnotes.core.processes import available_cores
from effnotes.reporting.comparison import tidy_row, tidy_table
from effnotes.reporting.kept import format_duration
from effnotes.reporting.metrics import NAME
from effnotes.runner import scratch
from effnotes.runner.build import checkout_revision, make_request
from effnotes.runner.cluster import Cluster
from effnotes.runner.errors import UsageError
from effnotes.runner.execute import RunRequest
from effnotes.runner.grid import describe_point, grid_points
from effnotes.runner.kept import run_command
from effnotes.runner.keys import record_key
from effnotes.runner.outcomes import Outcome
from effnotes.runner.plan import ChapterPlan
from effnotes.runner.progress import Reporter
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore, write_atomically
from effnotes.runner.schedule import describe_failure, run_chapters
from effnotes.runner.scrub import private_paths, scrub
from effnotes.runner.watch import Progress

_MOST_SHOWN = 50  # points of a plan
_LOOK_AGAIN_S = 1.0  # at points that another process runs


class Sweep(NamedTuple):
    """The points that are to be run, and where their table goes."""

    name: str
    folder: Path
    varied: list[str]  # parameters that the grids give
    points: list[ChapterPlan]
    content: dict[str, Any]  # of its plan.json

    def check_folder(self) -> None:
        """Raise a `UsageError` where the folder holds a sweep of other points."""
        with suppress(FileNotFoundError, ValueError):
            if json.loads((self.folder / "plan.json").read_bytes()) != self.content:
                raise UsageError(
                    f"{self.folder} holds a sweep of other points; give this one another --name, or remove that folder."
                )

    def label(self, plan: ChapterPlan) -> str:
        """Name a point by its values."""
        return describe_point({name: plan.values[name] for name in self.varied})


def plan_sweep(
    project: Project, chapter: str, grids: Sequence[str], fixed: Mapping[str, Any], profile: str, name: str | None
) -> Sweep:
    """Return the points of a sweep, each with its key; nothing is run.

    Args:
        project: the checkout.
        chapter: which is run at each point.
        grids: as `grid_points` takes them.
        fixed: values that all points share, by name.
        profile: which supplies all others.
        name: of the sweep; default: one that follows from its points.

    Raises:
        UsageError: as for `grid_points`; two points are the same, or the name is not allowed or that of a sweep of other points.
    """
    source, base = project.chapter(chapter), project.values(chapter, profile, fixed)
    key_of = record_key(source, project.register(chapter), project.root)
    plans: dict[str, ChapterPlan] = {}
    given = grid_points(grids, fixed, source.parameters, chapter)
    for point in given:
        values = base | point
        plan = ChapterPlan(source, profile, {**fixed, **point}, values, *key_of(values))
        if plan.key in plans:
            raise UsageError(f"the grids give a point twice: {describe_point(point)}. Give each point once.")
        plans[plan.key] = plan
    digest = json_digest([chapter, profile, [plan.values for plan in plans.values()]])
    name = name or f"{chapter}-{digest[:8]}"
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name}: a sweep's name is lower-case words joined by '-' or '_', such as 'seeds-and-sizes'.")
    varied = list(dict.fromkeys(key for each in given for key in each))
    content = {"chapter": chapter, "profile": profile, "varied": varied, "points": len(plans), "digest": digest}
    sweep = Sweep(name, project.build_dir / "sweeps" / name, varied, [*plans.values()], content)
    sweep.check_folder()
    return sweep


def recorded(sweep: Sweep, store: RecordStore) -> dict[str, dict[str, Any]]:
    """Return a row of the table for each point that is recorded as finished, by key; rows of its table need not be made again."""
    import pandas as pd

    path, rows = sweep.folder / "table.parquet", dict[str, dict[str, Any]]()
    with suppress(FileNotFoundError, ValueError):
        made = pd.read_parquet(path).query("status == 'ok'")
        rows = {row["key"]: {str(name): value for name, value in row.items()} for row in made.to_dict("records")}
    found: dict[str, dict[str, Any]] = {}
    for plan in sweep.points:
        name, key = plan.chapter.name, plan.key
        if key in rows and (store.root / name / key / "record.json").is_file():
            found[key] = rows[key]
        elif (run := store.load(name, key)) is not None and run.finished:
            found[key] = tidy_row(run.record)
    return found


def point_seconds(sweep: Sweep, store: RecordStore, rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Return how long a point takes, by those that are recorded or else by other runs of the profile; None: not known."""
    chapter, profile = sweep.points[0].chapter.name, sweep.points[0].profile
    taken = [row["duration_s"] for row in rows] or [
        run.record["duration_s"] for run in store.runs(chapter) if run.finished and run.record["profile"] == profile
    ]
    return statistics.median(taken) if taken else None


def batch_script(sweep: Sweep, root: Path) -> str:
    """Return a script for ``sbatch`` that runs a point in each task of an array."""
    commands = [run_command(plan.chapter.name, plan.profile, plan.overrides) for plan in sweep.points]
    tasks = "\n".join(f"{number}) {command} ;;" for number, command in enumerate(commands, start=1))
    head = f"#!/bin/sh\n#SBATCH --job-name={sweep.name}\n#SBATCH --array=1-{len(commands)}\n"
    return f'{head}cd "{root}" || exit\ncase "$SLURM_ARRAY_TASK_ID" in\n{tasks}\nesac'


@dataclass
class SweepRun:
    """A sweep under way; `run` goes through it.

    Attributes:
        project: the checkout.
        sweep: as planned.
        reporter: is told how far it is.
        slots: points run at once on this machine; None: one a core.
        retries: how often a point that fails is run again.
        patience_min: for how many minutes nothing may happen in a cell.
    """

    project: Project
    sweep: Sweep
    reporter: Reporter
    slots: int | None
    retries: int
    patience_min: float

    def __post_init__(self) -> None:
        self._store = RecordStore(self.project.build_dir / "runs")
        self._rows = recorded(self.sweep, self._store)  # of points that have ended, by key
        self._waiting = deque(plan for plan in self.sweep.points if plan.key not in self._rows)
        self._under_way: dict[str, tuple[ChapterPlan, filelock.BaseFileLock]] = {}
        self._tries: Counter[str] = Counter()
        self._commit = checkout_revision(self.project.root)
        self._begun = self._written = time.monotonic()
        self._writing_s = 0.0

    def run(self, cluster: Cluster | None) -> list[str]:
        """Say what is to be run and how long it will take, run it, and keep the table up to date.

        Args:
            cluster: a `dask.distributed` scheduler, or None for this machine.

        Returns:
            What is to be said of each point that failed.

        Raises:
            UsageError: the cluster cannot be used, or another sweep has taken the name since this one was planned; nothing was run.
        """
        self.sweep.check_folder()
        scratch.sweep(str(self.project.root))
        points, missing = self.sweep.points, len(self._waiting)
        self.slots = self.slots or max(1, min(missing, available_cores()))
        each, told = point_seconds(self.sweep, self._store, self._rows.values()), ""
        if missing and each is None:
            told = "; no earlier run tells how long that takes"
        elif missing and each is not None:
            told = f"; about {format_duration(each)} each"
            told += "" if cluster else f", {format_duration(each * missing / self.slots)} in all"
        self.reporter.say(f"{self.sweep.name}: {len(points)} points, {len(self._rows)} recorded already, {missing} to run{told}")
        for plan in points if len(points) <= _MOST_SHOWN else []:
            self.reporter.say(f"  {self.sweep.label(plan)}{' (recorded)' if plan.key in self._rows else ''}")
        told_of: dict[str, Any] = {"on_progress": self._progress, "say": self.reporter.say}
        outcomes = run_chapters(self._take, slots=self.slots, cluster=cluster, **told_of)
        try:
            with closing(outcomes):
                for request, outcome in outcomes:
                    self._settle(request, outcome)
        except UsageError:
            raise  # nothing was run, and nothing is written
        except BaseException:
            self._write(last=True)
            raise
        self._write(last=True)
        failed = {self.sweep.label(plan): row for plan in points if (row := self._rows[plan.key])["status"] != "ok"}
        return [f"{label} {row['status']}: {row['error']}" for label, row in failed.items()]

    def _take(self) -> RunRequest | None:
        """Return the next point that no other process runs; where there are only such, wait for them, or for own ones to end."""
        while self._waiting:
            for _ in range(len(self._waiting)):
                plan = self._waiting.popleft()
                path = self._store.root / plan.chapter.name / f"{plan.key}.lock"
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(path)
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    self._waiting.append(plan)
                    continue
                stored = self._store.load(plan.chapter.name, plan.key)
                if stored is not None and stored.finished:
                    lock.release()
                    self.reporter.say(f"{self.sweep.label(plan)}: run by another process")
                    self._rows[plan.key] = tidy_row(stored.record)
                    self._write()
                    continue
                self._under_way[plan.key] = plan, lock
                self.reporter.start(self.sweep.label(plan))
                return make_request(self.project, plan, self._commit, self.slots or 1, False, self.patience_min * 60)
            if self._under_way:
                return None
            time.sleep(_LOOK_AGAIN_S)
        return None

    def _progress(self, _chapter: str, key: str, state: Progress) -> None:
        if key in self._under_way:
            self.reporter.advance(self.sweep.label(self._under_way[key][0]), state)

    def _settle(self, request: RunRequest, outcome: Outcome) -> None:
        """Record what a point returned, and put it into the table or back among those that wait."""
        plan, lock = self._under_way.pop(request["key"])
        try:
            row = self._row(request, outcome)
        finally:
            lock.release()
        self._tries[plan.key] += 1
        again = row["status"] == "failed" and self._tries[plan.key] <= self.retries
        how = f"run in {row['duration_s']:.0f} s" if row["status"] == "ok" else f"{row['status']}: {row['error']}"
        self.reporter.finish(self.sweep.label(plan), how + (" (to be run again)" if again else ""))
        if again:
            self._waiting.append(plan)
        else:
            self._rows[plan.key] = row
            self._write()

    def _row(self, request: RunRequest, outcome: Outcome) -> dict[str, Any]:
        """Record what a point returned; return its row, which says what went wrong where something did."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            notebook, record = outcome
            return tidy_row(record if record["status"] == "refused" else self._store.save(notebook, record).record)
        except Exception as error:
            told = {"name": type(error).__name__, "message": describe_failure(error)}
            known = {field: dict(request)[field] for field in ("chapter", "profile", "key", "parameters")}
            paths = private_paths(request["directory"], request["cache_dir"], request["parameters"])
            return tidy_row(scrub({**known, "status": "failed", "error": told}, paths))

    def _write(self, *, last: bool = False) -> None:
        """Write the table, for which sweeps of thousands of points take a tenth of the time, and say how far the sweep is."""
        now, done, total, ran = time.monotonic(), len(self._rows), len(self.sweep.points), self._tries.total()
        self.reporter.overall(self.sweep.name, done, total, (now - self._begun) / ran * (total - done) if ran else None)
        if self._rows and (last or now - self._written >= 10 * self._writing_s):
            if not (plan := self.sweep.folder / "plan.json").is_file():
                write_atomically(plan, json.dumps(self.sweep.content, indent=1).encode())
            frame = tidy_table(self._rows[plan.key] for plan in self.sweep.points if plan.key in self._rows)
            write_atomically(self.sweep.folder / "table.parquet", frame.to_parquet(index=False))
            write_atomically(self.sweep.folder / "table.csv", frame.to_csv(index=False).encode(errors="backslashreplace"))
            self._written = time.monotonic()
            self._writing_s = self._written - now
