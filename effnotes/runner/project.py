"""The checkout: which chapters the book has, in which order, and the parameter values of each profile."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import Field

from effnotes.core.errors import nearest
from effnotes.core.settings import settings
from effnotes.core.strict_yaml import load_yaml
from effnotes.reporting.claims import Claim, ClaimError, join, load_register
from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import Parameter, declared_parameters, resolve

PROFILES = ("smoke", "quick", "full", "paper")

INJECTED = "injected-parameters"

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
        """Read the source as a notebook without outputs.

        Raises:
            UsageError: it is none, for instance as the tags of a cell are a text.
        """
        import jupytext
        from nbformat.validator import NotebookValidationError

        try:
            return jupytext.reads(self.source, fmt="py:percent")
        except (ValueError, yaml.YAMLError, NotebookValidationError) as error:
            said = f"cannot be read as py:percent ({str(error).strip().splitlines()[0]})"
            raise UsageError(f"{self.page}.py {said}; a cell begins with '# %% tags=[\"a-tag\"]'.") from None

    @cached_property
    def _cells(self) -> list[Any]:
        """The cells of the notebook, to be read alone: to read a long source takes a tenth of a second."""
        return list(self.notebook().cells)

    @cached_property
    def prose(self) -> str:
        """The text of all Markdown cells."""
        return "\n".join(cell.source for cell in self._cells if cell.cell_type == "markdown")

    @cached_property
    def code(self) -> list[tuple[str, list[str]]]:
        """The text and the tags of each code cell, as the kernel gets them."""
        return [(cell.source, cell.metadata.get("tags", [])) for cell in self._cells if cell.cell_type == "code"]

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
            UsageError: there is more than one parameters cell, a tag that papermill would read otherwise, or a declaration that is
                not allowed.
        """
        for cell in self._cells:
            tags, start = cell.metadata.get("tags", []), cell.source.split("\n")[0]
            # papermill looks at the tags of all cells.
            if "parameters" in tags and cell.cell_type != "code":
                kind = f"{cell.cell_type} cell {start!r}"
                raise UsageError(f"{self.page}.py: the {kind} is tagged 'parameters'; tag the code cell that declares them, alone.")
            if reserved := set(tags) & {INJECTED, "papermill-error-cell-tag"}:
                name = min(reserved)
                raise UsageError(f"{self.page}.py: cell {start!r} is tagged {name!r}, which is for what papermill adds; remove it.")
        tagged = [(text, self.first_line(i)) for i, (text, tags) in enumerate(self.code, start=1) if "parameters" in tags]
        if len(tagged) > 1:
            raise UsageError(f"{self.page}.py has {len(tagged)} cells tagged 'parameters'; one is allowed.")
        of_cell = {tag for _, tags in self.code if "parameters" in tags for tag in tags}
        for tag in sorted(of_cell & {"skip-execution", "raises-exception"}):
            raise UsageError(f"{self.page}.py: the parameters cell is tagged {tag!r}, too; it has to run, so remove that tag.")
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
        raise UsageError("not inside a checkout of the book (no _toc.yml beside book/, here or above): change to one, try again.")

    @cached_property
    def chapters(self) -> dict[str, Chapter]:
        """The executable pages by name, in the order of ``_toc.yml``: chapters, and pages that are drawn from a kept record.

        Raises:
            UsageError: the table of contents names a page of code that could not be run, or two of one name.
        """
        chapters: dict[str, Chapter] = {}
        for page in self.pages:
            if (path := self.root / f"{page}.py").is_file():
                chapter = Chapter(path.stem, page, self.read_text(f"{page}.py"))
                if own := chapters.get(chapter.name):
                    why = "records go by the name of the file alone; rename one of them"
                    raise UsageError(f"_toc.yml lists {own.page}.py and {page}.py, two chapters of the name '{path.stem}': {why}.")
                chapters[chapter.name] = chapter
        return chapters

    @cached_property
    def pages(self) -> list[str]:
        """The pages that ``_toc.yml`` lists, without the endings of their files.

        Raises:
            UsageError: one has no file in ``book/``, two files or a file of code that is never run, or is listed by a pattern.
        """
        pages = list(_toc_pages(self.read_yaml("_toc.yml")))
        for page in pages:
            parts = PurePosixPath(page).parts
            if parts[:1] != ("book",) or ".." in parts:
                raise UsageError(f"_toc.yml lists '{page}', which is not in book/, and no other pages are built; move it there.")
            found = [suffix for suffix in (".py", ".md", ".ipynb", ".rst") if (self.root / f"{page}{suffix}").is_file()]
            if not found:
                near = nearest(parts[-1], [path.stem for path in (self.root / page).parent.glob("*.*")])
                raise UsageError(f"_toc.yml lists '{page}', but there is neither {page}.py nor {page}.md.{near}")
            if len(set(found) - {".ipynb"}) > 1 or found == [".md", ".ipynb"]:
                raise UsageError(f"_toc.yml lists '{page}', which is {' and '.join(page + end for end in found)}; keep one.")
            if found == [".ipynb"]:
                raise UsageError(code_page(f"{page}.ipynb"))
        return pages

    def staged_pages(self) -> list[str]:
        """Return the pages of the last build in the order of the book, those of sweeps included."""
        return list(_toc_pages(yaml.safe_load((self.build_dir / "stage" / "_toc.yml").read_bytes())))

    @cached_property
    def repository(self) -> tuple[str, str] | None:
        """Address and branch of the book's repository; None where ``_config.yml`` names none.

        Raises:
            UsageError: the address is not one that Binder and pip can be given.
        """
        config = self.read_yaml("_config.yml") or {}
        options = ((config.get("sphinx") or {}).get("config") or {}).get("html_theme_options") or {}
        url = options.get("repository_url") or None
        if url and not re.fullmatch(r"https://(github|gitlab)\.com/[\w.-]+/[\w.-]+(?<!\.git)", str(url)):
            allowed = "https://github.com/OWNER/NAME, or the same of gitlab.com"
            raise UsageError(f"_config.yml, repository_url: '{url}' is not allowed; write {allowed}, or '' for none.")
        return (str(url), str(options.get("repository_branch") or "main")) if url else None

    def markdown(self) -> dict[str, list[str]]:
        """Return the Markdown of each page, cell by cell, by the name of its file."""
        found = {f"{page}.md": [self.read_text(f"{page}.md")] for page in self.pages if (self.root / f"{page}.md").is_file()}
        for chapter in self.chapters.values():
            found[f"{chapter.page}.py"] = [cell.source for cell in chapter.notebook().cells if cell.cell_type == "markdown"]
        return dict(sorted(found.items(), key=lambda item: self.pages.index(item[0].rpartition(".")[0])))

    def read_text(self, name: str) -> str:
        """Return the text of a file of the checkout.

        Raises:
            UsageError: it is missing or no text.
        """
        try:
            return (self.root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UsageError(f"{name} is missing from the checkout.") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8.") from None

    def read_yaml(self, name: str) -> Any:
        """Return the content of a YAML file of the checkout.

        Raises:
            UsageError: it is missing or no valid YAML.
        """
        try:
            return load_yaml(self.read_text(name))
        except yaml.YAMLError as error:
            raise UsageError(f"{name} is no valid YAML: {error}") from None

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
        profiles = self.read_yaml("book/profiles.yaml")
        declared = profiles.get(name) if isinstance(profiles, dict) else None
        where = f"book/profiles.yaml, '{name}'"
        if not isinstance(declared, dict):
            raise UsageError(f"book/profiles.yaml has no entry '{name}'; it needs one of each: {', '.join(PROFILES)}.")
        try:
            profile = Profile(**{str(field): value for field, value in declared.items() if value is not None})
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
        for chapter, values in profile.chapters.items():
            if chapter not in self.chapters:
                raise UsageError(f"{where}: there is no chapter '{chapter}'.{nearest(chapter, self.chapters)}")
            resolve(self.chapters[chapter].parameters, [(where, values)], chapter)
        return profile


def code_page(name: str) -> str:
    """Say that a page holds code that would not be run."""
    convert = f"Convert it with 'jupytext --to py:percent {name}', and remove {name}"
    return f"{name} holds code, and only chapters in .py are run. {convert}."


def _toc_pages(toc: Any) -> Iterator[str]:
    """Yield the page names of a Jupyter Book table of contents, depth first."""
    for entry in toc if isinstance(toc, list) else []:
        yield from _toc_pages(entry)
    for key, value in toc.items() if isinstance(toc, dict) else []:
        if key in ("root", "file"):
            yield re.sub(r"\.(py|md|ipynb|rst)$", "", str(value))
        elif key == "glob":
            raise UsageError(f"_toc.yml lists pages by a pattern ('glob: {value}'), which would not be run; name each by 'file:'.")
        elif isinstance(value, list):  # parts, chapters, sections, and their names in other formats of the file
            yield from _toc_pages(value)
