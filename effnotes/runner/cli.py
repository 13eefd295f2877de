"""The command ``effnotes``: build the book, run one chapter, list parameters and claims.

Commands that compute nothing answer without importing torch. Exit status: 0 done, 1 something that was run failed, 2 the request
was refused and nothing was run, 130 interrupted.
"""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperGroup

import effnotes
from effnotes.core.errors import DataError, nearest
from effnotes.core.files import user_path
from effnotes.reporting.claims import beyond_bar, format_number, independent_text, interval_text, settling_distance
from effnotes.runner import kept
from effnotes.runner.build import build_book, run_plans
from effnotes.runner.cluster import Cluster
from effnotes.runner.errors import BuildError, UsageError, describe_os_error
from effnotes.runner.export import Format, export_chapters
from effnotes.runner.install import leaving_notebook
from effnotes.runner.parameters import parse_all, split_assignment
from effnotes.runner.pdf import find_chromium, print_book
from effnotes.runner.plan import plan_chapter
from effnotes.runner.progress import Reporter
from effnotes.runner.project import PROFILES, Project
from effnotes.runner.records import check_folder, copy_run, exclusive
from effnotes.runner.runs import compare_runs, latest_own, list_runs
from effnotes.runner.sweep import SweepRun, batch_script, plan_sweep
from effnotes.runner.watch import PATIENCE_MIN


class _Command(TyperGroup):
    """Says what was refused or has failed in one message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (UsageError, BuildError, DataError, OSError) as error:
            typer.echo(f"effnotes: {describe_os_error(error) if isinstance(error, OSError) else error}", err=True)
            raise typer.Exit(2 if isinstance(error, UsageError | DataError) else 1) from None


_ABOUT = "Run the chapters of the effnotes book with parameters, keep records of the runs, and render the pages."
app = typer.Typer(cls=_Command, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=_ABOUT)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"effnotes {effnotes.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Say which version this is.")
    ] = False,
) -> None:
    pass


def _in_home(path: Path | None) -> Path | None:
    return path and user_path(path)


ProfileOption = Annotated[str, typer.Option(help="Which parameter values: smoke, quick, full or paper.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Runs at once.", show_default="one a core")]
SchedulerOption = Annotated[str | None, typer.Option(metavar="ADDR", help="Run on this dask.distributed scheduler.")]
GpusOption = Annotated[int, typer.Option(min=0, metavar="N", help="GPUs a run, on workers that offer them as the resource GPU.")]
AssignmentsOption = Annotated[
    list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter's value, as YAML (repeatable).")
]
BuildDirOption = Annotated[
    Path | None,
    typer.Option(help="Where records and pages go, instead of _build in the checkout.", show_default=False, callback=_in_home),
]
PatienceOption = Annotated[
    float, typer.Option(min=0.001, metavar="MINUTES", help="End a chapter in which nothing has happened for so long.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run again what is recorded already.")]


@app.command()
def build(
    only: Annotated[list[str] | None, typer.Option(help="Run only this chapter (repeatable).")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("-p", metavar="CHAPTER.NAME=VALUE", help="A parameter's value, as YAML (repeatable).")
    ] = None,
    profile: ProfileOption = "quick",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    gpus: GpusOption = 0,
    force: ForceOption = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also print the whole book to one PDF, with Chromium.")] = False,
    patience: PatienceOption = PATIENCE_MIN,
    build_dir: BuildDirOption = None,
) -> None:
    """Run the chapters that have no record yet, then render the pages."""
    browser, cluster = find_chromium() if pdf else None, _cluster(scheduler, gpus)
    project = Project.find(build_dir=build_dir)
    selected = [project.chapter(name).name for name in only] if only else list(project.chapters)
    overrides = _overrides_by_chapter(project, assignments or [], selected)
    plans = [plan_chapter(project, name, profile, overrides.get(name, {})) for name in dict.fromkeys(selected)]
    with Reporter(Console(soft_wrap=True)) as reporter:
        options = {"slots": workers, "cluster": cluster, "force": force, "patience_min": patience}
        index = build_book(project, plans, reporter, profile, **options)
        reporter.say(f"pages: {_relative(index)}")
        if browser:
            print_book(index.parent, project.staged_pages(), printed := project.build_dir / "effnotes.pdf", browser)
            reporter.say(f"PDF: {_relative(printed)}")


@app.command()
def run(
    chapter: Annotated[str, typer.Argument(help="Name of the chapter, or of a page that is drawn from a kept record.")],
    assignments: AssignmentsOption = None,
    profile: ProfileOption = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Also put the executed notebook and its record here, over nothing else.", callback=_in_home)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the record of the full profile, for the scoreboard.")] = False,
    keep_as: Annotated[str | None, typer.Option(metavar="NAME", help="Keep the record of this run by a name, for a page.")] = None,
    reuse: Annotated[bool, typer.Option("--reuse", help="Take for a kept record what is computed already, not all anew.")] = False,
    force: ForceOption = False,
    patience: PatienceOption = PATIENCE_MIN,
    build_dir: BuildDirOption = None,
) -> None:
    """Run one chapter, or a page that is drawn from a kept record, and record the run."""
    project = Project.find(build_dir=build_dir)
    values = parse_all(map(split_assignment, assignments or []), project.chapter(chapter).parameters, chapter)
    if keep and keep_as is not None:
        raise UsageError("--keep and --keep-as make two different records; give one of them.")
    keeping = keep or keep_as is not None
    plan = plan_chapter(project, chapter, profile, values)
    if keeping:
        kept.check_request(project, plan, keep_as)
    if out is not None:
        check_folder(out, chapter, plan.key)
        _ = project.repository  # one that cannot be used is refused before anything runs
    with Reporter(Console(soft_wrap=True)) as reporter:
        results = run_plans(project, [plan], reporter, force=force or (keeping and not reuse), patience_min=patience)
        results.raise_problems()
        finished = results.finished[chapter]
        if out is not None:
            copy_run(finished, leaving_notebook(project, finished.notebook_path), out)
        if keeping:
            reporter.say(f"kept: {_relative(kept.keep(project, plan, finished.record, keep_as))}")
        reporter.say(f"notebook: {_relative(out / f'{chapter}.ipynb' if out else finished.notebook_path)}")


@app.command()
def sweep(
    chapter: Annotated[str, typer.Argument(help="Name of the chapter.")],
    grids: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="NAME=A,B,C", help="Values as YAML, or lo:hi:step, or a YAML file of points (repeatable)."),
    ] = None,
    assignments: AssignmentsOption = None,
    profile: ProfileOption = "quick",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    gpus: GpusOption = 0,
    name: Annotated[str | None, typer.Option(help="Of the sweep, and of its folder.", show_default="from its points")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a point that fails is run again.")] = 0,
    print_commands: Annotated[bool, typer.Option("--print-commands", help="Run nothing; print a script for sbatch.")] = False,
    patience: PatienceOption = PATIENCE_MIN,
    build_dir: BuildDirOption = None,
) -> None:
    """Run a chapter at every point of a grid, and keep one table of all of them."""
    if workers is not None and scheduler is not None:
        raise UsageError("--workers is for this machine and --scheduler for others; give one of them.")
    cluster = _cluster(scheduler, gpus)
    project = Project.find(build_dir=build_dir)
    fixed = parse_all(map(split_assignment, assignments or []), project.chapter(chapter).parameters, chapter)
    planned = plan_sweep(project, chapter, grids or [], fixed, profile, name)
    if print_commands:
        typer.echo(batch_script(planned, project.root))
        return
    lock = exclusive(
        project.build_dir / f"sweep-{planned.name}.lock",
        f"{planned.name}: another process runs this sweep; waiting for it.",
        typer.echo,
    )
    with lock, Reporter(Console(soft_wrap=True)) as reporter:
        failed = SweepRun(project, planned, reporter, workers, retries, patience).run(cluster)
        reporter.say(f"table: {_relative(planned.folder / 'table.parquet')}; 'effnotes build' makes a page of it")
    if failed:
        raise BuildError("\n".join([f"{len(failed)} of {len(planned.points)} points failed; the table says so, too:", *failed]))


@app.command()
def runs(
    chapter: Annotated[str | None, typer.Argument(help="Name of the chapter; all chapters by default.")] = None,
    build_dir: BuildDirOption = None,
) -> None:
    """List recorded and kept runs: when, profile, values that are not the profile's, verdicts, time and status."""
    project = Project.find(build_dir=build_dir)
    for name in [project.chapter(chapter).name] if chapter else project.chapters:
        if (table := list_runs(project, name)).row_count:
            _print(table)


@app.command()
def compare(
    which: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="As 'effnotes runs' lists them, or paths of records.")],
    build_dir: BuildDirOption = None,
) -> None:
    """Put runs side by side: parameters that differ, metrics and claims; write the table and a figure of it."""
    project = Project.find(build_dir=build_dir)
    table, folder = compare_runs(project, which)
    _print(table)
    typer.echo(f"table and figure: {_relative(folder)}")


@app.command()
def params(chapter: Annotated[str | None, typer.Argument(help="Name of the chapter; all chapters by default.")] = None) -> None:
    """List the parameters of a chapter with type, default and help."""
    project = Project.find()
    for item in [project.chapter(chapter)] if chapter else project.chapters.values():
        table = Table("parameter", "type", "default", "help", title=f"{item.name}: {item.title}", title_justify="left")
        for parameter in item.parameters.values():
            table.add_row(parameter.name, parameter.annotation, repr(parameter.default), parameter.help)
        _print(table)


@app.command()
def claims(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a claim, in a list.")] = False,
    build_dir: BuildDirOption = None,
) -> None:
    """List every registered claim with what each chapter's latest finished run of a profile measured.

    Runs with other values than their profile's, by -p or as points of a sweep, do not count; 'effnotes compare' shows them.
    """
    project = Project.find(build_dir=build_dir)
    kept.load_kept(project)  # what is shown elsewhere must not have been made for other claims than those listed here
    latest = {name: run.record for name in project.chapters if (run := latest_own(project, name)) is not None}
    rows = [row | {"profile": latest.get(row["chapter"], {}).get("profile")} for row in project.measured(latest.values())]
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    wide = (Column("claim", ratio=2), Column("published", ratio=1))
    table = Table(*wide, "estimate", "95% interval", "would settle", "verdict", expand=True)
    for row in rows:
        interval = "–" if row["interval"] is None else interval_text(row["interval"])
        numbers = (_number(row["estimate"]), interval, _number(row["smallest_effect"]))
        table.add_row(f"{row['id']}\n{row['statement']}\n{row['unit']}", row["published"] or "–", *numbers, _judged(row))
    _print(table)


@app.command()
def export(
    to: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is missing or empty.", callback=_in_home)],
    chapters: Annotated[list[str] | None, typer.Argument(help="Names of chapters; all that have exercises by default.")] = None,
    teacher: Annotated[bool, typer.Option("--teacher/--student", help="With answers and notes on marking, or with gaps.")] = False,
    form: Annotated[Format, typer.Option("--format", help="Of worksheets; or slides, of each chapter's latest run.")] = "ipynb",
    build_dir: BuildDirOption = None,
) -> None:
    """Write the exercises of chapters as worksheets that check answers, with all that they need; or slides to teach with."""
    for path in export_chapters(Project.find(build_dir=build_dir), chapters or [], to, teacher=teacher, form=form):
        typer.echo(_relative(path))


@app.command()
def power(
    chapter: Annotated[str, typer.Argument(help="Name of a chapter that measures claims.")],
    profile: Annotated[str | None, typer.Option(help="Only runs of this profile.", show_default="all")] = None,
    build_dir: BuildDirOption = None,
) -> None:
    """Say of each claim what runs could have settled: units, their spread, the smallest effect, and units needed.

    A run is a kept record of the chapter, by its name, or the latest finished one of a profile with that profile's own values. To
    look at one with other values, keep it: effnotes run CHAPTER -p NAME=VALUE --keep-as NAME. The smallest effect is settled in
    four of five such runs. The units needed are those with which the effect that it is held against would be: one margin beyond the
    bar of the verdict or, where the margin is 0, the effect that the register names as worth seeing.
    """
    project = Project.find(build_dir=build_dir)
    name = project.chapter(chapter).name
    if not project.register(name):
        raise UsageError(f"'{name}' registers no claims in book/claims.yaml: there is nothing that it could settle.")
    if profile is not None:
        project.profile(profile)
    runs = {f"kept: {record_name}": record for record_name, record in kept.load_all_kept(project, name).items()}
    runs |= {f"run: {each}": run.record for each in PROFILES if (run := latest_own(project, name, each)) is not None}
    runs = {label: record for label, record in runs.items() if profile in (None, record.get("profile", kept.KEPT_PROFILE))}
    if not runs:
        which = f" of the profile '{profile}'" if profile else ""
        where = f"neither finished with its own values in {_relative(project.build_dir / 'runs')} nor kept"
        remedy = f"Run it: effnotes run {name} --profile {profile or 'quick'}"
        raise UsageError(f"there is no run of '{name}'{which}, {where}. {remedy}")
    columns = ("run", "units", "spread", "smallest effect", "held against", "units needed", "verdict")
    title = f"{name}: what runs could have settled, in four of five"
    table = Table(Column("claim", no_wrap=True), *columns, title=title, title_justify="left")
    measured = {label: {row["id"]: row for row in project.measured([record])} for label, record in runs.items()}
    for claim in project.claims.values():
        if claim.chapter == name:
            for label, rows in measured.items():
                row = rows[claim.id]
                against = format_number(beyond_bar(claim, settling_distance(claim)))
                numbers = (_number(row["spread"]), _number(row["smallest_effect"]), against, str(row["units_needed"] or "–"))
                table.add_row(f"{claim.id}\n{claim.unit}", label, independent_text(row), *numbers, _judged(row))
            table.add_section()
    _print(table)


def _cluster(scheduler: str | None, gpus: int) -> Cluster | None:
    if gpus and scheduler is None:
        raise UsageError("--gpus is for --scheduler ADDR: on this machine each of the runs at once gets a GPU where there is one.")
    return Cluster(scheduler, gpus) if scheduler is not None else None


def _number(value: float | None) -> str:
    return "–" if value is None else format_number(value)


def _judged(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']}:\n{row['unsettled']}" if row["unsettled"] else str(row["verdict"])


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)


def _overrides_by_chapter(project: Project, assignments: list[str], selected: list[str]) -> Mapping[str, Mapping[str, Any]]:
    given: dict[str, list[tuple[str, str]]] = {}
    for text in assignments:
        target, value = split_assignment(text)
        chapter, dot, name = target.partition(".")
        if not dot:
            known = ", ".join(project.chapters)
            raise UsageError(f"'-p {text}' names no chapter; write -p CHAPTER.{target}=VALUE. Chapters: {known}.")
        if project.chapter(chapter).name not in selected:
            raise UsageError(f"'-p {text}' is for '{chapter}', which --only leaves out.{nearest(chapter, selected)}")
        given.setdefault(chapter, []).append((name, value))
    return {name: parse_all(pairs, project.chapter(name).parameters, name) for name, pairs in given.items()}


def _relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> None:
    """Run the command line and leave with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every letter of a message
    app()


if __name__ == "__main__":
    main()
