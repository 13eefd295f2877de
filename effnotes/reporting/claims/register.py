"""The register: every published claim that the book tests, read and checked."""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field

from effnotes.core.errors import nearest
from effnotes.core.files import user_path
from effnotes.core.settings import settings
from effnotes.core.strict_yaml import load_yaml

Direction = Literal["increase", "decrease", "equivalence", "noninferiority"]
Method = Literal["t", "bootstrap"]
SourceKind = Literal["table", "text", "code", "addition"]

T = TypeVar("T")

_ID = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_CHAPTER = re.compile(r"[a-z][a-z0-9_]*")


class ClaimError(ValueError):
    """A register that breaks the rules, or a claim that is not in it."""


@settings
class Source:
    """Where a claim was published."""

    key: str  # of the bibliography, for instance "iofinova2023bias"
    where: str  # abstract, section, table or figure
    kind: SourceKind  # what stands there: a number in a table or figure, a sentence, code or a notebook, or this book's addition


@settings
class Claim:
    """One published claim, as the register has it."""

    id: str  # topic.kebab-name
    chapter: str  # file stem of the chapter that measures it
    statement: str  # the claim in one sentence
    published: str | None  # the published figure as text; None where none is given
    source: Source
    effect: str  # what one effect is
    unit: str  # of an effect
    range: tuple[float, float] | None  # least and greatest possible mean effect, or None where it has no bounds
    unit_of_analysis: str  # what an independent unit is; for `bootstrap`, what a unit within a seed is
    direction: Direction
    margin: Annotated[float, Field(ge=0)]  # in the effect's unit; the direction carries the sign
    interval: Method
    # In the effect's unit, where the margin is 0 and gives no size; chosen before any run, and no part of the verdict.
    worth_seeing: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        for field, value in (vars(self) | vars(self.source)).items():
            if isinstance(value, str) and not value.strip():
                raise ValueError(f"{field}={value!r}: must be text that says something")
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id={self.id!r}: must be topic.kebab-name in lower case, such as 'bias.ba-grows'")
        if not _CHAPTER.fullmatch(self.chapter):
            raise ValueError(f"chapter={self.chapter!r}: must be a chapter's file stem, such as 'pruning_bias'")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range={list(self.range)}: must rise")
        # With a margin of zero no interval could show an equivalence, and a noninferiority would be an increase.
        if self.direction in ("equivalence", "noninferiority") and not self.margin:
            raise ValueError(f"margin={self.margin:g}: must be above 0 for the direction {self.direction!r}")
        if (self.worth_seeing is None) == (self.margin == 0):
            wanted = "null, as the margin says what is worth seeing" if self.margin else "a number above 0 where the margin is 0"
            raise ValueError(f"worth_seeing={self.worth_seeing}: must be {wanted}")

    def to_json(self) -> dict[str, Any]:
        """The register's part of `Measurement.to_json`: `interval` is called `method` there."""
        fields = asdict(self) | {"range": self.range and list(self.range), "method": self.interval}
        del fields["interval"]
        return fields


def load_register(path: str | os.PathLike[str] | None = None) -> dict[str, Claim]:
    """Read and check the register of claims.

    Looked for, in this order: `path`; the environment variable EFFNOTES_CLAIMS; `book/claims.yaml` of the checkout that holds this
    package; the copy inside the installed package.

    Args:
        path: A YAML file holding a list of entries with the fields of `Claim`, all of them required but `worth_seeing`, which an
            entry has if its margin is 0; `published` and `range` may be null.

    Returns:
        Claims by id, in the file's order; empty for an empty file.

    Raises:
        ClaimError: No file, no valid YAML, an unknown, missing, repeated or ill-typed field, a repeated id, or a direction, margin
            or interval that is not allowed. The message names file, entry, field, what was given and what is allowed.
    """
    file = _find_register() if path is None else user_path(path)
    try:
        return dict(_parse(file, file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClaimError(f"{file}: the register of claims cannot be read as YAML in UTF-8. {error}") from error


@functools.lru_cache(maxsize=4)  # each claim that is measured looks into the register, which takes long to read
def _parse(file: Path, text: str) -> dict[str, Claim]:
    entries = load_yaml(text)
    if not isinstance(entries, list | None):
        raise ClaimError(f"{file}: a register is a list of entries ('- id: ...'), not {entries!r}.")
    register: dict[str, Claim] = {}
    for number, entry in enumerate(entries or (), start=1):
        name = f"{file}, entry {number}"
        if isinstance(entry, dict):
            name += f" ({entry.get('id', 'without id')})"
            if "source" in entry:
                entry = entry | {"source": _read(Source, entry["source"], f"{name}: source")}
        claim = _read(Claim, entry, name)
        if claim.id in register:
            first = list(register).index(claim.id) + 1
            raise ClaimError(f"{name}: id: already used by entry {first}; give each claim an id of its own.")
        register[claim.id] = claim
    return register


def find_claim(claim_id: str, register: Mapping[str, Claim]) -> Claim:
    """Return a claim of the register.

    Raises:
        ClaimError: It is not registered; the message names the nearest that is.
    """
    if claim_id not in register:
        known = ", ".join(register) or "none at all"
        raise ClaimError(f"Claim {claim_id!r} is not registered.{nearest(claim_id, register)} Registered: {known}.")
    return register[claim_id]


def _find_register() -> Path:
    if named := os.environ.get("EFFNOTES_CLAIMS"):
        return user_path(named)
    package = Path(__file__).resolve().parents[2]
    candidates = [package.parent / "book" / "claims.yaml", package / "_book" / "claims.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ClaimError(f"No register of claims: neither {candidates[0]} nor {candidates[1]} exists. Name one in EFFNOTES_CLAIMS.")


def _read(kind: type[T], entry: object, name: str) -> T:
    if not isinstance(entry, dict):
        fields = ", ".join(kind.__annotations__)
        raise ClaimError(f"{name}: must be a mapping with the fields {fields}, not {entry!r} ({type(entry).__name__}).")
    try:
        return kind(**{str(field): value for field, value in entry.items()})
    except ValueError as error:
        said = str(error).replace("there is no setting", "there is no field").replace("The settings are:", "An entry has:")
        hint = "; put it in quotes" if said.endswith("must be text") else ""
        if said.startswith("range"):
            hint = "; a range is null or two rising finite numbers, such as [-1, 1]"
        elif said.startswith("published="):
            hint += ", or give null"
        raise ClaimError(f"{name}: {said}{hint}") from None
