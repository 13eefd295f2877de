"""Records of the full profile that are kept in the repository: numbers only, and refused when they no longer fit the chapter."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import resolve
from effnotes.runner.project import Chapter, Project
from effnotes.runner.records import write_atomically

KEPT_PROFILE = "full"

_KEPT_FIELDS = (
    *("format", "chapter", "profile", "parameters", "seeds", "environment", "commit"),
    *("started", "duration_s", "peak_memory_bytes", "claims"),
)


def kept_path(project: Project, chapter: str) -> Path:
    """Return where the kept record of `chapter` lies."""
    return project.root / "data" / "records" / chapter / f"{KEPT_PROFILE}.json"


def keep_command(chapter: str) -> str:
    """Return the command that makes the kept record of `chapter`."""
    return f"effnotes run {chapter} --profile {KEPT_PROFILE} --keep"


def keep(project: Project, chapter: Chapter, record: Mapping[str, Any]) -> Path:
    """Write the kept record of `chapter` from the record of a run on the full profile."""
    kept = {name: record[name] for name in _KEPT_FIELDS}
    kept["command"] = keep_command(chapter.name)
    kept["made_for"] = _made_for(project, chapter)
    path = kept_path(project, chapter.name)
    write_atomically(path, json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return path


def load_kept(project: Project) -> dict[str, dict[str, Any]]:
    """Return the kept record of each chapter that has one.

    Raises:
        UsageError: a kept record cannot be read, or the chapter's claims or parameters have changed since it was made.
    """
    kept: dict[str, dict[str, Any]] = {}
    for chapter in project.chapters.values():
        path = kept_path(project, chapter.name)
        if not path.is_file():
            continue
        shown = path.relative_to(project.root).as_posix()
        remedy = f"Make it again with '{keep_command(chapter.name)}', or remove it."
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            made_for = record["made_for"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{shown} cannot be read ({type(error).__name__}). {remedy}") from None
        now = _made_for(project, chapter)
        changed = [name for name in now if made_for.get(name) != now[name]]
        if changed:
            raise UsageError(f"{shown} was made with other {' and '.join(changed)} of '{chapter.name}'. {remedy}")
        kept[chapter.name] = record
    return kept


def _made_for(project: Project, chapter: Chapter) -> dict[str, str]:
    """Digest the chapter's claims and its parameters on the full profile, each by itself, so that a message can name it."""
    layer = project.profile(KEPT_PROFILE).values.get(chapter.name, {})
    values = resolve(chapter.parameters, [(f"profile '{KEPT_PROFILE}'", layer)], chapter.name)
    return {
        name: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        for name, content in (("claims", project.register(chapter.name)), ("parameters", values))
    }
