"""The checkout: which chapters the book has, in which order, and the parameter values of each profile."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from effnotes.core.errors import nearest
from effnotes.core.settings import settings
from effnotes.reporting.claims import Claim, ClaimError, join, load_register
from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import Parameter, declared_parameters, load_yaml, resolve

PROFILES = ("smoke", "quick", "full", "paper")

_CODE_MARKER = re.compile(r"# ?%%+(?!\S)(?!.*\[(markdown|md|raw)\])")


@settings
class Profile:
    """What ``book/profiles.yaml`` says of a profile.

    Attributes:
        chapters: values by chapter and parameter.
        cell_timeout_s: for how many seconds a cell may run; None: without limit.
    """

    chapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    cell_timeout_s: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class Chapter:
    """One executable page of the book, a chapter or a page drawn from a kept record, known by its source text alone."""

    name: str
    page: str
    source: str

    def notebook(self) -> Any:
        """Read the source as a notebook without outputs."""
        import jupytext

        return jupytext.reads(self.source, fmt="py:percent")

    @cached_property
    def prose(self) -> str:
        """The text of all Markdown cells."""
        return "\n".join(cell.source for cell in self.notebook().cells if cell.cell_type == "markdown")

    @cached_property
    def code(self) -> list[tuple[str, list[str]]]:
        """The text and the tags of each code cell, as the kernel gets them."""
        return [(cell.source, cell.metadata.get("tags", [])) for cell in self.notebook().cells if cell.cell_type == "code"]

    def first_line(self, number: int) -> int | None:
        """Return the line on which the text of a code cell starts, both from 1; None where markers do not tell the cells apart."""
        starts = [line for line, text in enumerate(self.source.splitlines(), start=2) if _CODE_MARKER.match(text)]
        return starts[number - 1] if len(starts) == len(self.code) else None

    @cached_property
    def title(self) -> str:
        """The first top-level heading of the chapter's prose, or its name."""
        match = re.search(r"^# (?!#)(.+)$", self.prose, re.MULTILINE)
        return match.group(1).strip() if match else self.name

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The declared parameters by name.

        Raises:
            UsageError: there is more than one parameters cell, or a declaration is not allowed.
        """
        tagged = [(text, self.first_line(i)) for i, (text, tags) in enumerate(self.code, start=1) if "parameters" in tags]
        if len(tagged) > 1:
            raise UsageError(f"{self.page}.py has {len(tagged)} cells tagged 'parameters'; one is allowed.")
        return declared_parameters(tagged[0][0], tagged[0][1] or 1, f"{self.page}.py") if tagged else {}


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
        raise UsageError(
            "not inside a checkout of the book (no _toc.yml beside book/, here or above): change to one and try again."
        )

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

    def measured(self, records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Join the registered claims with what records hold for them; what is registered no more is left out."""
        return join(self.claims, [claim for record in records for claim in record["claims"] if claim["id"] in self.claims])

    def register(self, chapter: str | None = None) -> list[dict[str, Any]]:
        """Return the registered claims, of one chapter or of all, as plain data."""
        return [asdict(claim) for claim in self.claims.values() if chapter in (None, claim.chapter)]

    def values(self, name: str, profile: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter's value in a run of a chapter: its default, or what the profile says, or what is given over both.

        Raises:
            UsageError: the chapter, the profile or a parameter does not exist, or a value does not fit.
        """
        parameters = self.chapter(name).parameters
        layers = [(f"profile '{profile}'", self.profile(profile).chapters.get(name, {})), ("given with -p", overrides)]
        return resolve(parameters, layers, name)

    def profile(self, name: str) -> Profile:
        """Return what ``book/profiles.yaml`` says of the profile called `name`.

        Raises:
            UsageError: the name is unknown, or the file names a chapter, a parameter or a setting that does not exist, or gives one
                a value that does not fit.
        """
        if name not in PROFILES:
            raise UsageError(f"there is no profile '{name}'.{nearest(name, PROFILES)} Profiles: {', '.join(PROFILES)}.")
        declared = (_read_yaml(self.root, "book/profiles.yaml") or {}).get(name)
        where = f"book/profiles.yaml, '{name}'"
        if not isinstance(declared, dict):
            raise UsageError(f"book/profiles.yaml has no entry '{name}'; it needs one of each: {', '.join(PROFILES)}.")
        try:
            profile = Profile(**{str(field): value for field, value in declared.items()})
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
        for chapter, values in profile.chapters.items():
            if chapter not in self.chapters:
                raise UsageError(f"{where}: there is no chapter '{chapter}'.{nearest(chapter, self.chapters)}")
            resolve(self.chapters[chapter].parameters, [(where, values)], chapter)
        return profile


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
