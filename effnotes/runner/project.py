"""The checkout: which chapters the book has, in which order, and the parameter values of each profile."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from effnotes.core.errors import nearest
from effnotes.reporting.claims import Claim, ClaimError, load_register
from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import Parameter, declared_parameters, load_yaml, resolve

PROFILES = ("smoke", "quick", "full", "paper")

_CELL_MARKER = re.compile(r"^# ?%%(?!%)(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """A cell of a py:percent source: its kind, its tags, its text and the line on which the text starts (from 1)."""

    kind: Literal["code", "markdown"]
    tags: tuple[str, ...]
    source: str
    first_line: int


@dataclass(frozen=True)
class Chapter:
    """One executable page of the book, a chapter or a page drawn from a kept record, known by its source text alone."""

    name: str
    page: str
    source: str

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the source in order."""
        return tuple(_cells(self.source))

    @cached_property
    def title(self) -> str:
        """The first top-level heading of the chapter's prose, or its name."""
        prose = "\n".join(cell.source for cell in self.cells if cell.kind == "markdown")
        match = re.search(r"^# (?!#)(.+)$", prose, re.MULTILINE)
        return match.group(1).strip() if match else self.name

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The declared parameters by name.

        Raises:
            UsageError: there is more than one parameters cell, or a declaration is not allowed.
        """
        tagged = [cell for cell in self.cells if cell.kind == "code" and "parameters" in cell.tags]
        if len(tagged) > 1:
            raise UsageError(f"{self.page}.py has {len(tagged)} cells tagged 'parameters'; one is allowed.")
        return declared_parameters(tagged[0].source, tagged[0].first_line, f"{self.page}.py") if tagged else {}


@dataclass(frozen=True)
class Project:
    """A checkout of the book, read from `root`; everything made from it goes to `build_dir`."""

    root: Path
    build_dir: Path

    @classmethod
    def find(cls, start: Path | None = None, build_dir: Path | None = None) -> "Project":
        """Find the checkout that holds the directory `start` (default: the working directory).

        Raises:
            UsageError: no parent directory holds ``_toc.yml`` and ``book/``.
        """
        start = (start or Path.cwd()).resolve()
        for candidate in (start, *start.parents):
            if (candidate / "_toc.yml").is_file() and (candidate / "book").is_dir():
                return cls(candidate, (build_dir or candidate / "_build").resolve())
        why = "this directory is not inside a checkout of the book (no _toc.yml beside book/ here or above)"
        raise UsageError(f"{why}; change to the checkout and run the command again.")

    @cached_property
    def chapters(self) -> dict[str, Chapter]:
        """The executable pages by name, in the order of ``_toc.yml``: chapters, and pages that are drawn from a kept record."""
        pages = {page: self.root / f"{page}.py" for page in _toc_pages(_read_yaml(self.root, "_toc.yml"))}
        read = (Chapter(path.stem, page, path.read_text(encoding="utf-8")) for page, path in pages.items() if path.is_file())
        return {chapter.name: chapter for chapter in read}

    def chapter(self, name: str) -> Chapter:
        """Return the chapter called `name`.

        Raises:
            UsageError: there is none; the message names those that exist.
        """
        if name not in self.chapters:
            guess = nearest(name, self.chapters)
            raise UsageError(f"there is no chapter '{name}'.{guess} Chapters: {', '.join(self.chapters) or 'none'}.")
        return self.chapters[name]

    @cached_property
    def claims(self) -> dict[str, Claim]:
        """The registered claims by name.

        Raises:
            UsageError: ``book/claims.yaml`` breaks the rules of a register.
        """
        try:
            return load_register(self.root / "book" / "claims.yaml")
        except ClaimError as error:
            raise UsageError(str(error)) from None

    def register(self, chapter: str | None = None) -> list[dict[str, Any]]:
        """Return the registered claims, of one chapter or of all, as plain data."""
        return [asdict(claim) for claim in self.claims.values() if chapter in (None, claim.chapter)]

    def values(self, name: str, profile: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter's value in a run of a chapter: its default, or what the profile says, or what is given over both.

        Raises:
            UsageError: the chapter, the profile or a parameter does not exist, or a value does not fit.
        """
        parameters = self.chapter(name).parameters
        layers = [(f"profile '{profile}'", self.profile(profile).get(name, {})), ("given with -p", overrides)]
        return resolve(parameters, layers, name)

    def profile(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the values of the profile called `name` by chapter and parameter, from ``book/profiles.yaml``.

        Raises:
            UsageError: the name is unknown, or the file names a chapter, a parameter or a setting that does not exist, or gives a
                parameter a value that does not fit.
        """
        values: dict[str, dict[str, Any]] = self._profile(name).get("chapters") or {}
        if not isinstance(values, dict) or not all(isinstance(item, dict) for item in values.values()):
            raise UsageError(f"book/profiles.yaml, '{name}': chapters maps each chapter to its parameters; found {values!r}.")
        for chapter, parameters in values.items():
            if chapter not in self.chapters:
                raise UsageError(f"book/profiles.yaml, '{name}': there is no chapter '{chapter}'.{nearest(chapter, self.chapters)}")
            resolve(self.chapters[chapter].parameters, [(f"book/profiles.yaml, '{name}'", parameters)], chapter)
        return values

    def cell_timeout_s(self, profile: str) -> int | None:
        """Return for how many seconds a cell may run in a profile, from ``book/profiles.yaml``; None, the default: without limit.

        Raises:
            UsageError: as for `profile`.
        """
        timeout: int | None = self._profile(profile).get("cell_timeout_s")
        if timeout is not None and (type(timeout) is not int or timeout < 1):
            raise UsageError(f"book/profiles.yaml, '{profile}': cell_timeout_s is whole seconds, at least 1; found {timeout!r}.")
        return timeout

    def _profile(self, name: str) -> dict[str, Any]:
        if name not in PROFILES:
            raise UsageError(f"there is no profile '{name}'.{nearest(name, PROFILES)} Profiles: {', '.join(PROFILES)}.")
        declared = (_read_yaml(self.root, "book/profiles.yaml") or {}).get(name)
        if not isinstance(declared, dict):
            raise UsageError(f"book/profiles.yaml has no entry '{name}'; it needs one of each: {', '.join(PROFILES)}.")
        if unknown := set(declared) - {"chapters", "cell_timeout_s"}:
            raise UsageError(
                f"book/profiles.yaml, '{name}': allowed are chapters and cell_timeout_s; found {', '.join(sorted(unknown))}."
            )
        return declared


def _read_yaml(root: Path, shown: str) -> Any:
    try:
        return load_yaml((root / shown).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{shown} is missing from the checkout.") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{shown} is no valid YAML: {error}") from None


def _toc_pages(toc: Any) -> Iterator[str]:
    """Yield the page names of a Jupyter Book table of contents, depth first."""
    for entry in toc if isinstance(toc, list) else []:
        yield from _toc_pages(entry)
    for key, value in toc.items() if isinstance(toc, dict) else []:
        if key in ("root", "file"):
            yield str(value).removesuffix(".py").removesuffix(".md")
        elif key in ("parts", "chapters", "sections"):
            yield from _toc_pages(value)


def _cells(source: str) -> Iterator[Cell]:
    """Split a py:percent source at its markers; a leading YAML header in comments is not a cell."""
    markers = list(_CELL_MARKER.finditer(source))
    for marker, end in zip(markers, [*(each.start() for each in markers[1:]), len(source)], strict=True):
        rest, body = marker.group(1), source[marker.end() + 1 : end].rstrip()
        tags = re.search(r"tags=\[([^\]]*)\]", rest)
        names = tuple(re.findall(r"""["']([^"']+)["']""", tags.group(1))) if tags else ()
        first_line = source.count("\n", 0, marker.end()) + 2
        if "[markdown]" in rest or "[md]" in rest:
            yield Cell("markdown", names, re.sub(r"^# ?", "", body, flags=re.MULTILINE), first_line)
        else:
            yield Cell("code", names, body, first_line)
