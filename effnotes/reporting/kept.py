"""Records of runs: read one, draw a page from it, say what made it.

A chapter that needs data, a machine or a time that readers lack is run once, and the numbers of that run are kept as a small JSON
file under `data/records/<chapter>/`. `read_record` reads it without the runner, so that a page can show its tables and claims; it
reads as well what every run records under `_build/runs/`, and what `effnotes run --out` writes.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnotes.core.files import user_path
from effnotes.reporting.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

_FIELDS = ("chapter", "claims", "duration_s", "environment", "parameters", "started")


class RecordError(ValueError):
    """A file that is missing or is no record of a run."""


@dataclass(frozen=True)
class KeptRecord:
    """The numbers of one run, as the file has them."""

    content: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that makes the record again, with a name in capitals where a path belongs; empty in old records of runs."""
        return str(self.content.get("command", ""))

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter's value in the run, by name."""
        return {item["name"]: item["value"] for item in self.content["parameters"]}

    @property
    def claims(self) -> dict[str, Mapping[str, Any]]:
        """What was measured for each claim, by id, as `effnotes.reporting.claims.card_html` takes it."""
        return {payload["id"]: payload for payload in self.content["claims"]}

    @property
    def metrics(self) -> dict[str, float | None]:
        """The numbers that the chapter reported, by name; their units are in `content`."""
        return {name: metric["value"] for name, metric in self.content.get("metrics", {}).items()}

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the tables that the chapter kept; see `effnotes.reporting.tables.read_table`.

        Raises:
            TableError: the record has no such table.
        """
        return read_table(self.content, name)

    def verdicts_html(self, *ids: str) -> str:
        """Say in one line how claims came out, each with a link to its card, which the page shows elsewhere.

        Args:
            ids: Of claims; those that the run did not measure are left out.
        """
        found = [(html.escape(name), html.escape(self.claims[name]["verdict"])) for name in ids if name in self.claims]
        verdicts = [
            f'<a href="#claim-{name.replace(".", "-")}"><code>{name}</code></a> '
            f'<span class="effnotes-verdict effnotes-verdict--{verdict.replace(" ", "-")}">{verdict}</span>'
            for name, verdict in found
        ]
        return f'<p class="effnotes-note">In this run: {", ".join(verdicts) or "not measured"}.</p>'

    def provenance_html(self) -> str:
        """Say in an HTML table what made the record: command, machine, versions, commit, time and data. All text is escaped."""
        content, packages = self.content, self.content["environment"]["packages"]
        parameters = [f"<code>{html.escape(f'{name} = {value!r}')}</code>" for name, value in self.parameters.items()]
        facts = {"Command": f"<code>{html.escape(self.command)}</code>"}
        facts |= {name: html.escape(text) for name, text in run_facts(content)}
        facts["Packages"] = html.escape(", ".join(f"{name} {version}" for name, version in packages.items()))
        facts["Parameters"] = ", ".join(parameters) or "none"
        for name, digest in content.get("data", {}).items():
            facts[f"Data in {name.upper()}"] = f"SHA-256 <code>{html.escape(digest[:16])}…</code>"
        rows = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{value}</td></tr>' for name, value in facts.items())
        return f'<table class="effnotes-provenance"><caption>What made the kept record</caption><tbody>{rows}</tbody></table>'


def read_record(path: str | os.PathLike[str]) -> KeptRecord:
    """Read the record of a run, kept or not.

    Args:
        path: The file, for instance "data/records/CHAPTER/NAME.json", or a folder with a "record.json", which `effnotes run --out`
            makes. A relative path starts from the working directory or, where nothing is there, from the checkout that holds this
            package.

    Raises:
        RecordError: There is no such file, or it is no record; the message says how one is made.
    """
    given = user_path(path)
    places = (place / "record.json" if place.is_dir() else place for place in (given, Path(__file__).parents[2] / given))
    found = next((place for place in places if place.is_file()), None)
    chapter, name = given.parent.name or "CHAPTER", given.stem
    option = "--keep" if name == "full" else f"--keep-as {name}"
    remedy = f"A record is made by 'effnotes run {chapter} --profile full {option}', with the values (-p) that it is to have."
    if found is None:
        raise RecordError(f"{given}: there is no record here. {remedy}")
    try:
        content = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{given} cannot be read as JSON ({error}). {remedy}") from None
    missing = [field for field in _FIELDS if not isinstance(content, dict) or field not in content]
    if missing:
        raise RecordError(f"{given} is no record of a run: it lacks {', '.join(missing)}. {remedy}")
    return KeptRecord(content)


def run_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what made a record, of a run or kept: pairs of a name and a text, to be escaped."""
    surroundings, commit = record["environment"], record.get("commit")
    machine = [surroundings["device"] or "not known"]
    machine += [f"{surroundings[what]} {what}" for what in ("cores", "threads") if surroundings.get(what)]
    machine += [f"{format_memory(surroundings['memory_bytes'])} of memory"] if surroundings.get("memory_bytes") else []
    state = "" if commit is None else ", clean tree" if commit["clean"] else ", with uncommitted changes"
    return [
        ("Run on", record["started"].replace("T", " ").replace("+00:00", " UTC")),
        ("Time", format_duration(record["duration_s"])),
        ("Computed", jobs_text(record)),
        ("Peak memory", f"{format_memory(record.get('peak_memory_bytes'))}, kernel and its workers"),
        ("Machine", ", ".join(machine)),
        ("Platform", f"Python {surroundings.get('python')}, {surroundings.get('platform')}"),
        ("Commit", "not known" if commit is None else f"{commit['revision'][:12]}{state}"),
    ]


def run_text(record: Mapping[str, Any]) -> str:
    """Say which profile a run had, how many seeds, worlds or personas, and how long it took where it computed its jobs itself."""
    values = {item["name"]: item["value"] for item in record["parameters"]}
    lists = {name: len(values[f"{name}s"]) for name in ("seed", "world", "persona") if isinstance(values.get(f"{name}s"), list)}
    units = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in lists.items()]
    reused = (record.get("jobs") or {"reused": 0})["reused"]
    return ", ".join([f"profile {record['profile']}", *units, *([] if reused else [format_duration(record["duration_s"])])])


def jobs_text(record: Mapping[str, Any]) -> str:
    """Say how much of a record its run has computed and how much came from the cache, and when and where that was made."""
    jobs = record.get("jobs")
    if jobs is None:  # records have said so since November 2026
        return "not known"
    if not jobs["computed"] + jobs["reused"]:
        return "all of it in this run"
    noun = "job" if jobs["computed"] == 1 else "jobs"
    computed = f"{jobs['computed']} {noun} in this run, in {format_duration(jobs['computed_s'])} of their own"
    if not jobs["reused"]:
        return computed
    made = " to ".join(dict.fromkeys(jobs[end][:16].replace("T", " ") for end in ("reused_from", "reused_to")))
    return f"{computed}; {jobs['reused']} from the cache, made {made} UTC on {', '.join(jobs['reused_on'])}"


def format_duration(seconds: float) -> str:
    """Write a duration in the two largest units that matter: ``8.4 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_memory(size: int | None) -> str:
    """Write a size in bytes as MiB or GiB; a dash where it is not known."""
    if size is None:
        return "–"
    mebibytes = size / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"
