"""The key of a record: a SHA-256 over everything that decides what a run of a chapter computes.

In the key are the executed source (prose, display tags and the defaults that parameters override left out), the parameter values,
the chapter's entries in the claim register, the library's own source, the versions of the packages that it and the chapter import,
the Python version and, for each parameter that names a path, a fingerprint of what lies there. Nothing else decides what is re-run.
"""

import ast
import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from effnotes.runner.project import Chapter

RECORD_FORMAT = 2

# Of a cell's tags only these change what is executed; the others say how it is displayed.
_EXECUTION_TAGS = {"raises-exception", "skip-execution"}

# Files up to this size are fingerprinted by content, larger ones by size and time of change.
_CONTENT_LIMIT_BYTES = 8 * 2**20


def record_key(
    chapter: Chapter, values: Mapping[str, Any], claims: list[dict[str, Any]], directory: Path
) -> tuple[str, dict[str, str]]:
    """Return the key of a run of `chapter` with `values`, and what each part of it is a digest of.

    Args:
        chapter: the chapter's source.
        values: every parameter's value by name.
        claims: the chapter's entries of the claim register.
        directory: the directory that relative paths among the values start from.

    Returns:
        The key, 64 hexadecimal digits, and the digests that it is made of by name, for saying what changed.
    """
    parts = {
        "source": source_digest(chapter),
        "parameters": _digest(dict(values)),
        "claims": _digest(claims),
        "library": library_digest(),
        "packages": _digest({**computing_packages(chapter), "python": platform.python_version()}),
        "data": _digest(data_fingerprints(values, directory)),
        "format": str(RECORD_FORMAT),
    }
    return _digest(parts), parts


def source_digest(chapter: Chapter) -> str:
    """Return a digest of the code cells of `chapter`, as the kernel gets them and as far as they decide what is computed."""
    import jupytext

    cells = [cell for cell in jupytext.reads(chapter.source, fmt="py:percent").cells if cell.cell_type == "code"]
    tagged = [(cell.source, cell.metadata.get("tags", [])) for cell in cells]
    return _digest(
        [
            {"source": source, "tags": sorted(_EXECUTION_TAGS.intersection(tags))}
            for source, tags in tagged
            if "parameters" not in tags
        ]
    )


def library_digest() -> str:
    """Return a SHA-256 over the library's Python source, the runner left out: it computes nothing."""
    return _digest({name: text for name, text in _library_source() if not name.startswith("runner/")})


def computing_packages(chapter: Chapter) -> dict[str, str]:
    """Return name and version of every installed distribution that the library or `chapter` imports directly."""
    modules = _library_imports() | _imported_modules(cell.source for cell in chapter.cells if cell.kind == "code")
    distributions = metadata.packages_distributions()
    names = {name for module in modules for name in distributions.get(module, ())} - {"effnotes"}
    return {name: metadata.version(name) for name in sorted(names)}


def data_fingerprints(
    values: Mapping[str, Any], directory: Path, content_limit_bytes: float = _CONTENT_LIMIT_BYTES
) -> dict[str, Any]:
    """Return a fingerprint of the file or directory that each text parameter names, where one exists.

    Args:
        values: parameters by name; only texts are looked at.
        directory: the directory that relative paths start from.
        content_limit_bytes: larger files are told by their size and time of change, in place of their content.
    """
    fingerprints: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            continue
        try:
            path = directory / Path(value).expanduser()
            if directory.resolve().is_relative_to(path.resolve()):
                continue  # "." or "/" is a marker or a separator: what holds the checkout is nobody's data
            if path.is_file():
                fingerprints[name] = _file_fingerprint(path, content_limit_bytes)
            elif path.is_dir():
                files = sorted(item for item in path.rglob("*") if item.is_file())
                fingerprints[name] = [
                    [item.relative_to(path).as_posix(), _file_fingerprint(item, content_limit_bytes)] for item in files
                ]
        except (OSError, RuntimeError, ValueError):
            # No path at all, "~name" of no user, or not to be read: the chapter will say what it lacks.
            continue
    return fingerprints


def _file_fingerprint(path: Path, content_limit_bytes: float) -> list[Any]:
    status = path.stat()
    if status.st_size <= content_limit_bytes:
        with path.open("rb") as file:
            return [status.st_size, hashlib.file_digest(file, "sha256").hexdigest()]
    return [status.st_size, status.st_mtime_ns]


def _library_source() -> tuple[tuple[str, str], ...]:
    package = Path(__file__).parents[1]
    return tuple((path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py")))


@cache
def _library_imports() -> frozenset[str]:
    return _imported_modules(text for name, text in _library_source() if not name.startswith("runner/"))


def _imported_modules(sources: Iterable[str]) -> frozenset[str]:
    """Return the top-level names that `sources` import absolutely, the standard library left out."""
    modules: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            # A cell with notebook magic; running it will tell whether it is sound.
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    return frozenset(modules - sys.stdlib_module_names)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
