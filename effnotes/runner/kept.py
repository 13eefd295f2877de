"""Records that are kept in the repository: numbers only, and refused when they no longer fit their chapter.

``data/records/<chapter>/full.json`` is the record of the full profile as it stands, for the scoreboard. Beside it lie named records
of runs with other parameters, ``<name>.json``, for pages that are drawn from them: such a run may need data or a machine that
readers lack. `effnotes.reporting.kept` reads both, without the runner.
"""

import contextlib
import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effnotes.core.digests import json_digest
from effnotes.reporting.claims import DECIDING
from effnotes.reporting.metrics import NAME
from effnotes.runner import keys
from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import parse_value
from effnotes.runner.plan import ChapterPlan
from effnotes.runner.project import PROFILES, Project
from effnotes.runner.records import write_atomically

KEPT_PROFILE = "full"

_KEPT_FIELDS = "format chapter seeds environment commit started duration_s peak_memory_bytes jobs claims metrics tables found"


def kept_path(project: Project, chapter: str, name: str | None = None) -> Path:
    """Return where the kept record of `chapter` lies: the one called `name`, or that of the full profile."""
    return project.root / "data" / "records" / chapter / f"{name or KEPT_PROFILE}.json"


def keep_command(
    chapter: str, name: str | None = None, profile: str = KEPT_PROFILE, overrides: Mapping[str, Any] | None = None
) -> str:
    """Return the command that makes the kept record of `chapter`: the one called `name`, or that of the full profile."""
    return f"{run_command(chapter, profile, overrides or {})} {f'--keep-as {name}' if name else '--keep'}"


def run_command(chapter: str, profile: str, overrides: Mapping[str, Any]) -> str:
    """Return the command that runs `chapter` with these values over the profile's."""
    given = [f"-p {parameter}={shlex.quote(_as_yaml(value))}" for parameter, value in overrides.items()]
    return " ".join(["effnotes run", chapter, *given, "--profile", profile])


def check_request(project: Project, plan: ChapterPlan, name: str | None) -> None:
    """Refuse, before anything runs, what cannot be kept.

    Args:
        project: the checkout.
        plan: of the run.
        name: of a named record, or None for the record of the full profile.

    Raises:
        UsageError: the name is not allowed, the record of the full profile is asked of another run, or the chapter has no claims.
    """
    chapter = plan.chapter.name
    if name is None and (plan.profile != KEPT_PROFILE or plan.overrides):
        remedy = f"{keep_command(chapter)}, with no -p. A run with other values gets a name: --keep-as NAME."
        raise UsageError(f"--keep is for the profile '{KEPT_PROFILE}' as it stands: {remedy}")
    if name is not None and (not NAME.fullmatch(name) or name in PROFILES):
        allowed = f"lower-case words joined by '-' or '_', such as 'cifar10s', and not a profile's ({', '.join(PROFILES)})"
        raise UsageError(f"--keep-as {name}: a record's name is {allowed}.")
    if not project.register(chapter):
        raise UsageError(f"'{chapter}' registers no claims in book/claims.yaml: it measures nothing that could be kept.")


def keep(project: Project, plan: ChapterPlan, record: Mapping[str, Any], name: str | None = None) -> Path:
    """Write a kept record of a chapter from the record of a run.

    Where a path was given for a parameter, the record has the parameter's name in capitals in its place, and a digest of what lies
    there.

    Args:
        project: the checkout.
        plan: of the run.
        record: of the run.
        name: of a named record, or None for the record of the full profile.

    Returns:
        Where the record was written.
    """
    fingerprints = keys.data_fingerprints(plan.values, project.root, content_limit_bytes=math.inf)
    shown = _without_paths(plan, set(fingerprints))
    kept = {field: record[field] for field in _KEPT_FIELDS.split() if field in record} | {
        "profile": plan.profile,
        "parameters": [{**item, "value": shown.get(item["name"], item["value"])} for item in record["parameters"]],
        "overrides": shown,
        "data": {parameter: json_digest(fingerprint) for parameter, fingerprint in fingerprints.items()},
        "command": keep_command(plan.chapter.name, name, plan.profile, shown),
        "made_for": _made_for(project, plan.chapter.name, plan.profile, shown),
    }
    path = kept_path(project, plan.chapter.name, name)
    text = json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True)
    # What is deep within stands on one line, such as each column of a table.
    write_atomically(path, (re.sub(r"\n {5,}|\n {4}(?=[]}])", " ", text) + "\n").encode())
    return path


def load_kept(project: Project) -> dict[str, dict[str, Any]]:
    """Check all kept records; return that of the full profile of each chapter that has one.

    Raises:
        UsageError: a kept record cannot be read, or what decides the chapter's claims, or its parameters, has changed since it was
            made.
    """
    records = {name: load_all_kept(project, name) for name in project.chapters}
    return {name: kept[KEPT_PROFILE] for name, kept in records.items() if KEPT_PROFILE in kept}


def load_all_kept(project: Project, chapter: str) -> dict[str, dict[str, Any]]:
    """Check the kept records of a chapter and return them by name; that of the full profile is called so.

    Raises:
        UsageError: as for `load_kept`.
    """
    return {path.stem: _load(project, chapter, path) for path in sorted(kept_path(project, chapter).parent.glob("*.json"))}


def _load(project: Project, chapter: str, path: Path) -> dict[str, Any]:
    name = None if path.stem == KEPT_PROFILE else path.stem
    command = keep_command(chapter, name)
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # Records of the full profile have said neither for as long as there were no others.
        profile, overrides = record.get("profile", KEPT_PROFILE), record.get("overrides", {})
        command = keep_command(chapter, name, profile, overrides)
        now = _made_for(project, chapter, profile, overrides)
        changed = " and ".join(part for part in now if dict(record["made_for"]).get(part) != now[part])
        fault = f"was made with other {changed} of '{chapter}'." if changed else None
    except UsageError as error:
        fault = f"was made with other parameters of '{chapter}': {error}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"cannot be read ({type(error).__name__})."
    if fault:
        raise UsageError(f"{path.relative_to(project.root).as_posix()} {fault} Make it again with '{command}', or remove it.")
    return record


def _without_paths(plan: ChapterPlan, existing: set[str]) -> dict[str, Any]:
    """Return what is given over the profile with the parameter's name in capitals for each path.

    Args:
        plan: of the run.
        existing: names of the parameters whose values are paths of something that exists.
    """
    shown = dict(plan.overrides)
    for name, value in plan.overrides.items():
        # What is a choice among words, one of which is the name of a file by chance, stays.
        with contextlib.suppress(UsageError):
            shown[name] = plan.chapter.parameters[name].check(_without_path(value, name, name in existing))
    return shown


def _without_path(value: Any, name: str, is_path: bool) -> Any:
    """Put the parameter's name in place of a path, also within lists and mappings, where only what starts at the top is one."""
    if isinstance(value, str):
        return name.upper() if is_path or Path(os.path.expanduser(value)).is_absolute() else value  # noqa: PTH111
    if isinstance(value, dict):
        return {key: _without_path(item, name, is_path=False) for key, item in value.items()}
    return [_without_path(item, name, is_path=False) for item in value] if isinstance(value, list) else value


def _made_for(project: Project, chapter: str, profile: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Digest what decides the chapter's claims and its parameters in such a run, each by itself, so that a message can name it."""
    values = project.values(chapter, profile, overrides)
    claims = [claim.to_json() for claim in project.claims.values() if claim.chapter == chapter]
    deciding = [{field: claim[field] for field in ("id", *DECIDING)} for claim in claims]
    return {"claims": json_digest(deciding), "parameters": json_digest(values)}


def _as_yaml(value: Any) -> str:
    """Write a parameter's value as it would be typed after ``-p name=``."""
    with contextlib.suppress(UsageError):  # it needs quotes
        if isinstance(value, str) and parse_value(value, "") == value:
            return value
    return json.dumps(value, ensure_ascii=False)
