"""Many runs of one chapter: the points of a grid, each with the ordinary key, and one table that is whole after each of them.

``sweeps/<name>/`` of the build directory holds ``table.parquet`` and ``table.csv`` with a row for each point that has ended, and
``plan.json``. The runs themselves are recorded where every run is: what a build or another sweep has run is used again, and after a
kill the same command runs what is missing. A point that fails is a row with its error.
"""

import json
import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
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
from effnotes.runner.errors import UsageError
from effnotes.runner.execute import RunRequest
from effnotes.runner.grid import describe_point, grid_points
from effnotes.runner.kept import run_command
from effnotes.runner.keys import record_key
from effnotes.runner.plan import ChapterPlan
from effnotes.runner.progress import Reporter
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore, write_atomically
from effnotes.runner.schedule import Outcome, describe_failure, run_chapters
from effnotes.runner.scrub import private_paths, scrub

_MOST_SHOWN = 50  # points of a plan
_LOOK_AGAIN_S = 1.0  # at points that another process runs


class Sweep(NamedTuple):
    """The points that are to be run, and where their table goes."""

    name: str
    folder: Path
    varied: list[str]  # parameters that the grids give
    points: list[ChapterPlan]

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
    sweep = Sweep(
        name, project.build_dir / "sweeps" / name, list(dict.fromkeys(key for each in given for key in each)), [*plans.values()]
    )
    content = {"chapter": chapter, "profile": profile, "varied": sweep.varied, "points": len(plans), "digest": digest}
    with suppress(FileNotFoundError, ValueError):
        if json.loads((sweep.folder / "plan.json").read_bytes()) != content:
            raise UsageError(f"{sweep.folder} holds a sweep of other points; give this one another --name, or remove that folder.")
    write_atomically(sweep.folder / "plan.json", json.dumps(content, indent=1).encode())
    return sweep


def recorded(sweep: Sweep, store: RecordStore) -> dict[str, dict[str, Any]]:
    """Return a row of the table for each point that is recorded as finished, by key; rows of its table need not be made again."""
    import pandas as pd

    path, rows = sweep.folder / "table.parquet", dict[str, dict[str, Any]]()
    with suppress(FileNotFoundError):
        made = pd.read_parquet(path)
        rows = {row["key"]: row for row in made[made["status"] == "ok"].to_dict("records")}
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


def run_sweep(
    project: Project, sweep: Sweep, reporter: Reporter, slots: int | None, scheduler: str | None, retries: int, patience_min: float
) -> list[str]:
    """Say what is to be run and how long it will take, run it, and keep the table up to date.

    Args:
        project: the checkout.
        sweep: as planned.
        reporter: is told how far it is.
        slots: points run at once on this machine; None: one a core.
        scheduler: address of a `dask.distributed` scheduler, or None for this machine.
        retries: how often a point that fails is run again.
        patience_min: for how many minutes nothing may happen in a cell.

    Returns:
        What is to be said of each point that failed.
    """
    scratch.sweep(str(project.root))
    store = RecordStore(project.build_dir / "runs")
    rows = recorded(sweep, store)
    missing = len(sweep.points) - len(rows)
    slots = slots or max(1, min(missing, available_cores()))
    each = point_seconds(sweep, store, rows.values())
    time_text = "" if not missing else "; no earlier run tells how long that takes"
    if missing and each is not None:
        time_text = f"; about {format_duration(each)} each" + (
            f", {format_duration(each * missing / slots)} in all" * (not scheduler)
        )
    reporter.say(f"{sweep.name}: {len(sweep.points)} points, {len(rows)} recorded already, {missing} to run{time_text}")
    if len(sweep.points) <= _MOST_SHOWN:
        for plan in sweep.points:
            reporter.say(f"  {sweep.label(plan)}{' (recorded)' * (plan.key in rows)}")
    return _Run(project, sweep, reporter, rows, slots=slots, retries=retries, patience_min=patience_min).run(scheduler)


class _Run:
    """A sweep under way; `run` goes through it."""

    def __init__(
        self,
        project: Project,
        sweep: Sweep,
        reporter: Reporter,
        rows: Mapping[str, dict[str, Any]],  # of points that need no run, by key
        *,
        slots: int,  # points run at once on this machine
        retries: int,  # how often a point that fails is run again
        patience_min: float,  # for how many minutes nothing may happen in a cell
    ) -> None:
        self.project, self.sweep, self.reporter = project, sweep, reporter
        self.slots, self.retries, self.patience_min = slots, retries, patience_min
        self.store, self.rows = RecordStore(project.build_dir / "runs"), dict(rows)
        self._waiting = deque(plan for plan in sweep.points if plan.key not in rows)
        self._under_way: dict[str, tuple[ChapterPlan, filelock.BaseFileLock]] = {}
        self._tries: dict[str, int] = {}
        self._commit = checkout_revision(project.root)
        self._begun, self._ran = time.monotonic(), 0

    def run(self, scheduler: str | None) -> list[str]:
        """Run what is missing and keep the table up to date; return what is to be said of each point that failed.

        Args:
            scheduler: address of a `dask.distributed` scheduler, or None for this machine.
        """
        self._write()
        outcomes = run_chapters(self._take, slots=self.slots, scheduler=scheduler, on_progress=self._progress)
        with closing(outcomes):
            for request, outcome in outcomes:
                self._settle(request, outcome)
        failed = [plan for plan in self.sweep.points if self.rows[plan.key]["status"] != "ok"]
        return [f"{self.sweep.label(plan)} {self.rows[plan.key]['status']}: {self.rows[plan.key]['error']}" for plan in failed]

    def _take(self) -> RunRequest | None:
        """Return the next point that no other process runs; where there are only such, wait for them, or for own ones to end."""
        while self._waiting:
            for _ in range(len(self._waiting)):
                plan = self._waiting.popleft()
                path = self.store.root / plan.chapter.name / f"{plan.key}.lock"
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(path)
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    self._waiting.append(plan)
                    continue
                stored = self.store.load(plan.chapter.name, plan.key)
                if stored is not None and stored.finished:  # another process has run it since
                    lock.release()
                    self._end(plan, tidy_row(stored.record), "run by another process")
                    continue
                self._under_way[plan.key] = plan, lock
                self.reporter.start(self.sweep.label(plan))
                return make_request(self.project, plan, self._commit, self.slots, False, self.patience_min * 60)
            if self._under_way:
                return None
            time.sleep(_LOOK_AGAIN_S)
        return None

    def _progress(self, _chapter: str, key: str, state: Any) -> None:
        self.reporter.advance(self.sweep.label(self._under_way[key][0]), state)

    def _settle(self, request: RunRequest, outcome: Outcome) -> None:
        plan, lock = self._under_way.pop(request["key"])
        try:
            row = self._row(request, outcome)
        finally:
            lock.release()
        self._tries[plan.key] = self._tries.get(plan.key, 0) + 1
        self._ran += 1
        if row["status"] == "failed" and self._tries[plan.key] <= self.retries:
            self._waiting.append(plan)
            self.reporter.finish(self.sweep.label(plan), f"failed, to be run again: {row['error']}")
        else:
            how = f"run in {row['duration_s']:.0f} s" if row["status"] == "ok" else f"{row['status']}: {row['error']}"
            self.reporter.finish(self.sweep.label(plan), how)
            self._end(plan, row)

    def _row(self, request: RunRequest, outcome: Outcome) -> dict[str, Any]:
        """Record what a point returned; return its row, which says what went wrong where something did."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            notebook, record = outcome
            if record["status"] != "refused":
                record = self.store.save(notebook, record).record
            return tidy_row(record)
        except Exception as error:
            told = {"name": type(error).__name__, "message": describe_failure(error)}
            known = {field: dict(request)[field] for field in ("chapter", "profile", "key", "parameters")}
            paths = private_paths(request["directory"], request["cache_dir"], request["parameters"])
            return tidy_row(scrub({**known, "status": "failed", "error": told}, paths))

    def _end(self, plan: ChapterPlan, row: dict[str, Any], said: str = "") -> None:
        self.rows[plan.key] = row
        if said:
            self.reporter.say(f"{self.sweep.label(plan)}: {said}")
        self._write()

    def _write(self) -> None:
        """Write the table, and say how far the sweep is."""
        done, total = len(self.rows), len(self.sweep.points)
        left = (time.monotonic() - self._begun) / self._ran * (total - done) if self._ran else None
        self.reporter.overall(self.sweep.name, done, total, left)
        if self.rows:
            frame = tidy_table(self.rows[plan.key] for plan in self.sweep.points if plan.key in self.rows)
            write_atomically(self.sweep.folder / "table.parquet", frame.to_parquet(index=False))
            write_atomically(self.sweep.folder / "table.csv", frame.to_csv(index=False).encode(errors="backslashreplace"))
