"""The key of a record: a SHA-256 over everything that decides what a run of a chapter computes.

In the key are the executed source (prose, display tags and the defaults that parameters override left out), the parameter values,
the chapter's entries in the claim register, the code that the chapter depends on (`effnotes.core.digests`: a docstring, a comment
and what the chapter does not import are left out), the versions of the packages that this code and the chapter import, the Python
version and, for each parameter that names a path, a fingerprint of what lies there. Nothing else decides what is re-run.
"""

import contextlib
import functools
import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from effnotes.core.digests import Closure, code_closure, json_digest
from effnotes.core.files import files_under, user_path
from effnotes.runner.parameters import texts
from effnotes.runner.project import Chapter

RECORD_FORMAT = 3

# Of a cell's tags only these change what is executed; the others say how it is displayed.
_EXECUTION_TAGS = {"raises-exception", "skip-execution"}

# Files up to this size are fingerprinted by content, larger ones by size and time of change.
_CONTENT_LIMIT_BYTES = 8 * 2**20


def record_key(
    chapter: Chapter, claims: list[dict[str, Any]], directory: Path
) -> Callable[[Mapping[str, Any]], tuple[str, dict[str, str]]]:
    """Return what gives the key of a run of `chapter`, as it is now, from every parameter's value by name.

    Args:
        chapter: the chapter's source.
        claims: the chapter's entries of the claim register.
        directory: the directory that relative paths among the values start from. What lies at each is looked at once.

    Returns:
        A function that returns the key, 64 hexadecimal digits, and the digests that it is made of by name, for saying what changed.
    """
    closure = chapter_closure(chapter)
    same = {"source": source_digest(chapter), "claims": json_digest(claims), "format": str(RECORD_FORMAT)}
    same |= {"library": closure.digest, "packages": json_digest(_versions(closure))}
    fingerprint = functools.cache(lambda text: _fingerprint(text, directory, _CONTENT_LIMIT_BYTES))

    def of(values: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        parts = same | {"parameters": json_digest(dict(values)), "data": json_digest(_fingerprints(values, fingerprint))}
        return json_digest(parts), parts

    return of


def surroundings(chapter: Chapter, values: Mapping[str, Any], directory: Path) -> dict[str, dict[str, str]]:
    """Return what a run of `chapter` finds here and its key depends on, by name, so that two machines can be told apart.

    Returns:
        Digests of ``modules`` of this package, versions of other ``packages`` and of Python, and digests of the ``data`` that
        parameters name, see `record_key`.
    """
    closure = chapter_closure(chapter)
    data = {name: json_digest(found) for name, found in data_fingerprints(values, directory).items()}
    return {"modules": dict(closure.modules), "packages": _versions(closure), "data": data}


def _versions(closure: Closure) -> dict[str, str]:
    return {**closure.versions, "python": platform.python_version()}


def source_digest(chapter: Chapter) -> str:
    """Return a digest of the code cells of `chapter`, as the kernel gets them and as far as they decide what is computed."""
    cells = [(source, tags) for source, tags in chapter.code if "parameters" not in tags]
    return json_digest([{"source": source, "tags": sorted(_EXECUTION_TAGS.intersection(tags))} for source, tags in cells])


def chapter_closure(chapter: Chapter) -> Closure:
    """Return the modules of this package that the code cells of a chapter depend on, and the packages they import."""
    return code_closure(text for text, _ in chapter.code)


def data_fingerprints(
    values: Mapping[str, Any], directory: Path, content_limit_bytes: float = _CONTENT_LIMIT_BYTES
) -> dict[str, Any]:
    """Return a fingerprint of the files and directories that each parameter names, where one exists.

    Args:
        values: parameters by name; texts are looked at, also those within lists and mappings.
        directory: the directory that relative paths start from.
        content_limit_bytes: larger files are told by their size and time of change, in place of their content.
    """
    return _fingerprints(values, lambda text: _fingerprint(text, directory, content_limit_bytes))


def _fingerprints(values: Mapping[str, Any], fingerprint: Callable[[str], list[Any] | None]) -> dict[str, Any]:
    found = {name: {text: at for text in texts(value) if (at := fingerprint(text))} for name, value in values.items()}
    return {name: each[values[name]] if isinstance(values[name], str) else each for name, each in found.items() if each}


def _fingerprint(text: str, directory: Path, content_limit_bytes: float) -> list[Any] | None:
    try:
        path = user_path(text, directory)
        if directory.resolve().is_relative_to(path.resolve()):
            return None  # "." or "/" is a marker or a separator: what holds the checkout is nobody's data
        if path.is_file():
            return _file_fingerprint(path, content_limit_bytes)
    except (OSError, RuntimeError, ValueError):
        return None  # no path at all: the chapter will say what it lacks
    if not path.is_dir():
        return None
    listed = sorted(files_under(path), key=lambda item: item[0].split("/"))
    return [[shown, _file_fingerprint(Path(item), content_limit_bytes) if item else []] for shown, item in listed]


def _file_fingerprint(path: Path, content_limit_bytes: float) -> list[Any]:
    status = path.stat()
    with contextlib.suppress(OSError):  # what may not be read is told by size and time, too
        if status.st_size <= content_limit_bytes:
            with path.open("rb") as file:
                return [status.st_size, hashlib.file_digest(file, "sha256").hexdigest()]
    return [status.st_size, status.st_mtime_ns]
