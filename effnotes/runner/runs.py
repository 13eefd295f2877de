"""Recorded runs as people look at them: a list, and some of them side by side."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from effnotes.core.digests import json_digest
from effnotes.core.files import user_path
from effnotes.reporting.claims import format_number, interval_text
from effnotes.reporting.comparison import STATUS
from effnotes.reporting.kept import RecordError, format_duration, read_record
from effnotes.reporting.metrics import NAME
from effnotes.runner.errors import UsageError
from effnotes.runner.kept import KEPT_PROFILE, kept_path
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore, StoredRun, run_order, write_atomically

_SHORT = 8  # letters of a key that are shown


def list_runs(project: Project, chapter: str) -> Table:
    """Return a table of the recorded and the kept runs of a chapter, in the order in which they were made."""
    runs = sorted(RecordStore(project.build_dir / "runs").runs(chapter), key=run_order)
    labelled: list[tuple[str, Mapping[str, Any]]] = [(run.record["key"][:_SHORT], run.record) for run in runs]
    kept = sorted(kept_path(project, chapter).parent.glob("*.json"))
    labelled += [(f"{chapter}/{path.stem}", read_record(path).content) for path in kept]
    columns = ("verdicts", "time", "status")
    table = Table("run", "when (UTC)", "profile", Column("values", overflow="fold"), *columns, title=chapter, title_justify="left")
    for label, record in labelled:
        when, took = record["started"][:16].replace("T", " "), format_duration(record["duration_s"])
        profile, status = record.get("profile", KEPT_PROFILE), record.get("status", "finished")
        cells = (when, profile, _changed(project, chapter, profile, record), _verdicts(record), took)
        table.add_row(label, *cells, STATUS.get(status, status))
    return table


def latest_own(project: Project, chapter: str, profile: str | None = None) -> StoredRun | None:
    """Return the run that was finished last with its profile's own values: no point of a sweep, nothing given by -p."""

    def is_own(record: Mapping[str, Any]) -> bool:
        return bool(record["key_parts"]["parameters"] == json_digest(project.values(chapter, record["profile"], {})))

    return RecordStore(project.build_dir / "runs").latest(chapter, profile, is_own)


def compare_runs(project: Project, which: Sequence[str]) -> tuple[Table, Path]:
    """Put runs side by side, and write the table of them and a figure.

    Args:
        project: the checkout.
        which: two or more runs: the first letters of a key, CHAPTER/NAME of a kept record, or the path of a record or its folder.

    Returns:
        The table, with the parameters that differ, all metrics and all claims; the folder of ``table.csv`` and ``figure.svg``.

    Raises:
        UsageError: there is no such run, more than one, or one is given twice or alone.
    """
    found = dict(_find(project, text) for text in which)
    if len(found) < 2 or len(found) < len(which):
        raise UsageError("give two or more different runs to compare; 'effnotes runs' lists them.")
    from effnotes.reporting.claims.figure import figure_bytes
    from effnotes.reporting.comparison import draw_comparison, tidy_row, tidy_table

    rows: dict[tuple[str, str], dict[str, str]] = {}
    for label, record in found.items():
        for item in record["parameters"]:
            rows.setdefault(("parameter", item["name"]), {})[label] = json.dumps(item["value"], ensure_ascii=False)
    rows = {name: values for name, values in rows.items() if len(values) < len(found) or len(set(values.values())) > 1}
    for label, record in found.items():
        for name, metric in record.get("metrics", {}).items():
            value = "–" if metric["value"] is None else format_number(metric["value"])
            rows.setdefault(("metric", f"{name} ({metric['unit']})"), {})[label] = value
        for claim in record["claims"]:
            estimate = "–" if claim["estimate"] is None else format_number(claim["estimate"])
            interval = f" {interval_text(claim['interval'])}" if claim["interval"] else ""
            rows.setdefault(("claim", f"{claim['id']} ({claim['unit']})"), {})[label] = f"{estimate}{interval}\n{claim['verdict']}"
    table = Table("what", Column("name", ratio=2), *(Column(label, ratio=1) for label in found), expand=True)
    for (kind, name), values in rows.items():
        table.add_row(kind, name, *(values.get(label, "–") for label in found))
    frame = tidy_table(tidy_row(record) for record in found.values())
    frame.insert(0, "run", [*found])
    folder = project.build_dir / "compared" / "-".join(re.sub(r"\W+", "_", label) for label in found)
    write_atomically(folder / "table.csv", frame.to_csv(index=False).encode(errors="backslashreplace"))
    if (figure := draw_comparison(frame, ["run"])) is not None:
        write_atomically(folder / "figure.svg", figure_bytes(figure))
    return table, folder


def _find(project: Project, text: str) -> tuple[str, Mapping[str, Any]]:
    """Return a run by the start of its key, the name of a kept record or the path of any, under a short name."""
    chapter, _, name = text.partition("/")
    kept = kept_path(project, chapter, name) if chapter in project.chapters and NAME.fullmatch(name) else user_path(text)
    if kept.exists():
        try:
            return text, read_record(kept).content
        except RecordError as error:
            raise UsageError(str(error)) from None
    runs = RecordStore(project.build_dir / "runs").find(text) if re.fullmatch(r"[0-9a-f]{4,64}", text) else []
    if len(runs) != 1:
        what = f"'{text}' is the start of {len(runs)} keys; give more letters" if runs else f"there is no run '{text}'"
        raise UsageError(f"{what}. Give a name that 'effnotes runs' lists, or the path of a record.")
    return runs[0].record["key"][:_SHORT], runs[0].record


def _changed(project: Project, chapter: str, profile: str, record: Mapping[str, Any]) -> str:
    """Say which values of a run are not what its profile gives today."""
    own = project.values(chapter, profile, {})
    given = {item["name"]: item["value"] for item in record["parameters"]}
    return "\n".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items() if own.get(name) != value)


def _verdicts(record: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{count} {verdict}" for verdict, count in sorted(Counter(each["verdict"] for each in record["claims"]).items())
    )
