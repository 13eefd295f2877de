"""Plan chapters, reuse what is recorded, run the rest, and report what failed only after everything has had its turn."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from effnotes.core.files import errors_name
from effnotes.core.processes import available_cores
from effnotes.runner import keys
from effnotes.runner.cluster import Cluster
from effnotes.runner.errors import BuildError, UsageError, describe_os_error
from effnotes.runner.execute import RunRequest
from effnotes.runner.kept import load_kept, run_command
from effnotes.runner.plan import ChapterPlan
from effnotes.runner.progress import Reporter
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore, StoredRun, exclusive
from effnotes.runner.schedule import describe_failure, run_chapters
from effnotes.runner.scratch import sweep
from effnotes.runner.scrub import private_paths, scrub
from effnotes.runner.site import build_site, check_pages
from effnotes.runner.stage import stage_book
from effnotes.runner.watch import PATIENCE_MIN, Progress


@dataclass
class Results:
    """What became of chapters that were to be run, by name.

    Attributes:
        finished: the recorded runs.
        failed: for each chapter that failed or refused its parameters what its page says: ``where`` and ``error``.
        failures: what the command line says of those that failed.
        refusals: what it says of those that refused their parameters.
    """

    finished: dict[str, StoredRun] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise what the command line is to report.

        Raises:
            BuildError: at least one chapter failed.
            UsageError: chapters refused their parameters and none failed.
        """
        if self.failures:
            raise BuildError("\n".join([*self.failures, *self.refusals]))
        if self.refusals:
            raise UsageError("\n".join(self.refusals))


def run_plans(
    project: Project,
    plans: Iterable[ChapterPlan],
    reporter: Reporter,
    *,
    slots: int | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    patience_min: float = PATIENCE_MIN,
) -> Results:
    """Find a finished run of each plan: the recorded one where there is one, else a new one.

    Whatever fails, all others are run and recorded. Of a refusal nothing is recorded.

    Args:
        project: the checkout.
        plans: one plan a chapter.
        reporter: is told how far each chapter is.
        slots: chapters run at once; default: as many as measure claims, at most one a core.
        cluster: a `dask.distributed` scheduler to run on.
        force: run again what is recorded, from the start.
        patience_min: for how many minutes nothing may happen in a cell.

    Raises:
        UsageError: the scheduler cannot be used, or a chapter has a cell that would never run.
    """
    store, results = RecordStore(project.build_dir / "runs"), Results()
    sweep(str(project.root))
    with ExitStack() as locks:
        to_run: list[ChapterPlan] = []
        for plan in sorted(plans, key=lambda plan: plan.chapter.name):
            name = plan.chapter.name
            told = f"{name}: another process is running this chapter with these parameters; waiting for it."
            locks.enter_context(exclusive(store.root / name / f"{plan.key}.lock", told, reporter.say))
            stored = None if force else store.load(name, plan.key)
            if stored is not None and stored.finished:
                results.finished[name] = stored
                reporter.say(f"{name}: recorded already ({plan.profile}, run in {_seconds(stored)})")
            else:
                to_run.append(plan)
        # A page that is drawn from a record takes seconds; a chapter beside it shall not wait for half of the cores all the time.
        measuring = sum(bool(project.register(plan.chapter.name)) for plan in to_run)
        slots = slots or max(1, min(measuring or len(to_run), available_cores()))
        commit = checkout_revision(project.root)
        requests = [make_request(project, plan, commit, slots, force, patience_min * 60) for plan in to_run]
        for plan in to_run:
            reporter.start(plan.chapter.name)

        def advance(name: str, _key: str, state: Progress) -> None:
            reporter.advance(name, state)

        take = partial(next, iter(requests), None)
        finished = run_chapters(take, slots=slots, cluster=cluster, on_progress=advance, say=reporter.say)
        with closing(finished):  # an interrupt between two results ends those that run at once, not when memory is collected
            for request, outcome in finished:
                reporter.finish(request["chapter"], _settle(project, store, results, request, outcome))
    return results


def _settle(project: Project, store: RecordStore, results: Results, request: RunRequest, outcome: Any) -> str:
    """Enter into `results` what a chapter returned, or why it returned nothing; say in a word how it ended."""
    name = request["chapter"]
    paths = private_paths(request["directory"], request["cache_dir"], request["parameters"])
    try:
        if isinstance(outcome, Exception):
            raise outcome
        notebook, record = outcome
        if record["status"] == "refused":
            why = record["error"]["message"]
            results.refusals.append(f"{name} refuses these parameters: {why}")
            results.failed[name] = {"where": "The parameters of this run were refused.", "error": scrub(why, paths)}
            return "refused"
        run = store.save(notebook, record)
    except Exception as error:
        why = describe_failure(error)
        results.failures.append(f"{name} gave no record: {why}.")
        results.failed[name] = {"where": "The run of this page gave no record.", "error": scrub(why, paths)}
        return "failed"
    if run.finished:
        results.finished[name] = run
        return f"run in {_seconds(run)} ({request['profile']})"
    results.failures.append(_failed_cell(project, run))
    told = run.record["error"]
    where = f"The run of this page failed {_place(told)}."
    results.failed[name] = {"where": where, "error": f"{told['name']}: {told['message']}"}
    return "failed"


def build_book(project: Project, plans: list[ChapterPlan], reporter: Reporter, profile: str, **options: Any) -> Path:
    """Run what is not recorded, then stage and render the whole book; return the path of its first page.

    A chapter that `plans` leaves out is shown with its latest finished run, or as source with a note where it has none. The page of
    one that failed, or that refused its parameters, says so; all others are rendered before the error is raised.

    Args:
        project: the checkout.
        plans: one plan a chapter that is to be run.
        reporter: is told how far each chapter is.
        profile: name of the profile that was asked for.
        options: as for `run_plans`.

    Raises:
        BuildError: a chapter failed, or the pages could not be rendered without warnings.
        UsageError: the pages could not be rendered whatever the chapters give, a kept record no longer fits its chapter, a chapter
            refused its parameters, or the scheduler cannot be used.
    """
    check_pages(project)
    kept = load_kept(project)
    with exclusive(project.build_dir / "build.lock", "Another build is running in this checkout; waiting for it.", reporter.say):
        store = RecordStore(project.build_dir / "runs")
        results = run_plans(project, plans, reporter, **options)
        others = project.chapters.keys() - results.finished.keys() - results.failed.keys()
        runs = results.finished | {name: run for name in others if (run := store.latest(name)) is not None}
        try:
            with errors_name(project.build_dir):
                index = build_site(stage_book(project, runs, kept, profile, results.failed), project.build_dir, reporter.say)
        except (BuildError, OSError) as error:  # such as a full disk; what failed before is told with it
            results.failures.append(describe_os_error(error) if isinstance(error, OSError) else str(error))
        results.raise_problems()
        return index


def make_request(
    project: Project, plan: ChapterPlan, commit: dict[str, Any] | None, slots: int, force: bool, patience_s: float
) -> RunRequest:
    """Return what a run of a planned chapter needs.

    Args:
        project: the checkout.
        plan: which chapter with which values.
        commit: the checkout's revision.
        slots: how many chapters share this machine's cores.
        force: whether what the chapter has kept of earlier runs is removed first.
        patience_s: for how many seconds nothing may happen in a cell.

    Raises:
        UsageError: a cell would never run.
    """
    for number, (_, tags) in enumerate(plan.chapter.code, start=1):
        if "skip-execution" in tags:
            why = "a run is finished when every code cell has run. Remove the tag, or make the cell Markdown."
            raise UsageError(f"{plan.chapter.page}.py: cell {number} is tagged 'skip-execution' and would never run; {why}")
    closure = keys.chapter_closure(plan.chapter)
    cache = project.build_dir / "cache" / plan.chapter.name
    if force:
        shutil.rmtree(cache, ignore_errors=True)
    return {
        "chapter": plan.chapter.name,
        "source": plan.chapter.source,
        "key": plan.key,
        "key_parts": plan.key_parts,
        "profile": plan.profile,
        "parameters": [each._asdict() | {"value": plan.values[each.name]} for each in plan.chapter.parameters.values()],
        "packages": list(closure.versions),
        "claims": project.register(plan.chapter.name),
        "library": closure.digest,
        "command": run_command(plan.chapter.name, plan.profile, plan.overrides),
        "commit": commit,
        "patience_s": patience_s,
        "cell_timeout_s": project.profile(plan.profile).cell_timeout_s,
        "threads": max(1, available_cores() // slots),
        "directory": str(project.root),
        "cache_dir": str(cache),
    }


def checkout_revision(root: Path) -> dict[str, Any] | None:
    """Return the checkout's revision and whether it has uncommitted changes; None where there is no Git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain")}
    except (OSError, subprocess.CalledProcessError):
        return None


def _seconds(run: StoredRun) -> str:
    return f"{run.record['duration_s']:.0f} s"


def _failed_cell(project: Project, run: StoredRun) -> str:
    record, error = run.record, run.record["error"]
    chapter = project.chapters[record["chapter"]]
    line = f" ({chapter.page}.py, line {error['line']})" if error["line"] else ""
    source = f"    {error['source']}\n" if error["source"] else ""
    failed = f"{chapter.name} failed {_place(error)}{line}:\n{source}  {error['name']}: {error['message']}"
    return f"{failed}\n  The notebook up to there: {run.notebook_path}"


def _place(error: Mapping[str, Any]) -> str:
    return f"in cell {error['cell']} of {error['cells']}" if error["cell"] else "before its first cell"
