"""The settings of a world: what each may be, what they must satisfy together, and the names that Behemoth has for them."""

import dataclasses
import math
from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field

from effnotes.core.errors import nearest
from effnotes.core.settings import settings
from effnotes.datasets.worlds.forms import PROMPTABLE, STATEMENTS

_MOST = 10**6

Number: TypeAlias = Annotated[int, Field(ge=1, le=_MOST)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]

_TEMPLATES = f"give a share to some of {', '.join(STATEMENTS)}, summing to 1, as in {{sro: 0.75, rso: 0.25}}"


@settings
class WorldSettings:
    """The settings of a world; `World` says what each means.

    Raises:
        ValueError: A setting has the wrong type, is out of range, or does not go with another; the message names it and says what
            is allowed.
    """

    n_subjects: Number = 100_000
    n_relations: Annotated[int, Field(ge=1, le=999)] = 6
    n_objects: Number = 400
    n_nested: Annotated[int, Field(ge=0, le=_MOST)] = 0
    correlation: Share | None = None
    binarize: bool = False
    minority_frac: Share = 0.0
    minority_p: Share = 0.1
    templates: dict[str, Share] = dataclasses.field(default_factory=lambda: {"sro": 0.75, "rso": 0.25})
    qa_frac: Annotated[float, Field(ge=0)] = 0.0
    qa_subject_frac: Share = 0.5
    zipf: Annotated[float, Field(ge=0, le=4)] | None = None
    withheld_frac: Share = 0.0
    repeats: Number = 500
    ono_upweight: Number = 1
    shuffle: bool = True
    tokens_per_subject: Literal[1, 2] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    def __post_init__(self) -> None:
        for name in self.templates:
            if name not in STATEMENTS:
                raise ValueError(f"templates has no form {name!r}.{nearest(name, STATEMENTS)} Allowed: {_TEMPLATES}")
        if not math.isclose(sum(self.templates.values()), 1, abs_tol=1e-9):
            raise ValueError(f"templates sum to {sum(self.templates.values()):g}; {_TEMPLATES}")
        if self.n_nested and self.n_objects % self.n_nested:
            divisors = [str(m) for m in range(1, min(self.n_objects, 10**4) + 1) if self.n_objects % m == 0]
            shown = ", ".join(divisors if len(divisors) <= 12 else [*divisors[:12], "..."])
            why = f"does not divide n_objects={self.n_objects}, but all nested objects have equally many objects"
            raise ValueError(f"n_nested={self.n_nested} {why}; allowed are 0 (none), {shown}")
        if self.minority_frac > 0 and self.n_nested:
            raise ValueError(f"minority_frac={self.minority_frac} does not go with n_nested={self.n_nested}; set one of them to 0")
        for name in ("minority_frac", "correlation"):
            if getattr(self, name) and self.n_objects < 2:
                raise ValueError(f"{name}={getattr(self, name)} needs n_objects of at least 2, not {self.n_objects}")
        if self.binarize and self.correlation is None:
            raise ValueError("binarize=True needs a correlated world; set correlation as well, or binarize to false")
        correlation, chance = self.correlation, 0.5 if self.binarize else 1 / self.n_objects
        if correlation is not None and self.n_relations < 2:
            raise ValueError(f"correlation={correlation} needs n_relations of at least 2, a pair, not {self.n_relations}")
        if correlation is not None and self.minority_frac > 0:
            raise ValueError(f"correlation={correlation} does not go with minority_frac={self.minority_frac}; drop one of them")
        if correlation is not None and correlation <= chance:
            other = "binarize" if self.binarize else f"n_objects={self.n_objects}"
            allowed = f"above {chance:g} up to 1, or none"
            raise ValueError(f"correlation={correlation} is no more than chance, {chance:g} with {other}; allowed is {allowed}")
        if self.qa_frac > 0 and self.n_asked == 0:
            given = f"qa_subject_frac={self.qa_subject_frac} of n_subjects={self.n_subjects} is no subject"
            raise ValueError(f"{given}, but qa_frac={self.qa_frac} asks for questions; it must be at least {1 / self.n_subjects:g}")
        written, withheld = {name for name, share in self.templates.items() if share > 0}, self.withheld_frac
        if withheld > 0 and len(written) < 2:
            needed = "two templates with a share above 0, one to withhold and one to write in"
            raise ValueError(f"withheld_frac={withheld} needs {needed}; templates is {self.templates}")
        if withheld > 0 and not written.intersection(PROMPTABLE):
            raise ValueError(f"withheld_frac={withheld} needs a template that ends with the object: {', '.join(PROMPTABLE)}")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make a world from settings by name; Behemoth's command-line names are known too, with hyphens or underscores.

        Raises:
            ValueError: A name is unknown or given twice, or as for the class itself.
        """
        return cls(**rename_settings(settings))

    def settings(self) -> dict[str, Any]:
        """Return the settings by name, in plain Python types."""
        return {name: copy(getattr(self, name)) for name in SETTINGS}

    @property
    def n_asked(self) -> int:
        """Number of subjects that questions are asked about."""
        return n_of(self.qa_subject_frac, self.n_subjects) if self.qa_frac > 0 else 0


def n_of(share: float, n: int) -> int:
    """Return how many of n a share is, rounded down, but not for the sake of a last binary digit: 0.29 of 100 is 29."""
    return math.floor(round(share * n, 6))


SETTINGS = tuple(field.name for field in dataclasses.fields(WorldSettings))
"""Names of the settings of a world."""

ALIASES = {
    "n_subjects": ("subjects", "s"),
    "n_relations": ("relationships", "r"),
    "n_objects": ("objects", "o"),
    "n_nested": ("num_nested_objects",),
    "binarize": ("binarize_first_correlated", "b"),
    "minority_frac": ("minority_position_entity_frac", "m"),
    "minority_p": ("minority_position_frac", "p"),
    "qa_frac": ("questions_frac", "q"),
    "qa_subject_frac": ("questions_entity_frac", "e"),
    "repeats": ("n",),
    "ono_upweight": ("obj_nested_obj_edges_upweight",),
    "phrase_creator": ("c",),
    "inversion_frac": ("i",),
}
"""Behemoth's other names for settings."""
COMPOSED = {"correlation": ("correlated_pair", "correlation_strength"), "templates": ("phrase_creator", "inversion_frac")}
"""Settings that Behemoth composes of two."""
NAME_OF = {alias: name for name, aliases in ALIASES.items() for alias in aliases}


@settings
class _Composed:
    """What Behemoth composes correlation and templates of."""

    correlated_pair: bool = False
    correlation_strength: float | None = None
    phrase_creator: Literal["inverted", "simplerepeats", "nonsense"] = "inverted"
    inversion_frac: Share = 0.0

    @property
    def correlation(self) -> float | None:
        strength = self.correlation_strength
        if strength is not None and not self.correlated_pair:
            raise ValueError(f"correlation_strength={strength} needs correlated_pair: true; or set correlation: {strength} alone")
        return (1.0 if strength is None else strength) if self.correlated_pair else None

    @property
    def templates(self) -> dict[str, float]:
        share = self.inversion_frac
        if self.phrase_creator == "nonsense":
            return {"nonsense_sro": 1.0 - share, "nonsense_rso": share}
        if self.phrase_creator == "inverted":
            return {"sro": 1.0 - share} | (dict.fromkeys(("sor", "osr", "rso"), share / 3) if share else {})
        if share > 0:
            raise ValueError(f"inversion_frac={share} does not go with phrase_creator=simplerepeats, which has one order; set 0")
        return {"repeats": 1.0}


def rename_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their own names, from these or Behemoth's command-line names.

    Raises:
        ValueError: A name is unknown, or two names of one setting are given.
    """
    parts = [part for of in COMPOSED.values() for part in of]
    renamed: dict[str, Any] = {}
    given: dict[str, str] = {}
    for key, value in settings.items():
        plain = str(key).lstrip("-").replace("-", "_")
        name = NAME_OF.get(plain, plain)
        if name not in (*SETTINGS, *parts):
            guess = nearest(plain, (*SETTINGS, *parts, *NAME_OF))
            raise ValueError(f"there is no setting {key!r}.{guess} The settings are: {', '.join(SETTINGS)}.")
        if name in given:
            raise ValueError(f"{key!r} and {given[name]!r} are two names of one setting, {name}; give one of them")
        given[name], renamed[name] = str(key), value
    composed = _Composed(**{part: renamed.pop(part) for part in parts if part in renamed})
    for name, (first, second) in COMPOSED.items():
        if first in given or second in given:
            if name in given:
                raise ValueError(f"{name} and {first} (with {second}) say the same; give one of them")
            renamed[name] = getattr(composed, name)
    return renamed
