"""Settings that check themselves: frozen dataclasses by pydantic, with messages that say what was given and what is allowed.

    @settings
    class Recipe:
        seed: Annotated[int, Field(ge=0)]  # must be given
        epochs: int = Field(12, ge=1)
        decay: Literal["cosine", "constant"] = "cosine"

        def __post_init__(self) -> None:  # what fields must satisfy together
            ...

Types are taken strictly: True is no number, 1.0 no whole number, and text no list, but 1 is a float. Three things that readers have
at hand are brought into form first, for they say the same: a list or an array where a tuple is wanted (what is frozen holds no
list), a number of NumPy's, and text where a path is wanted. `to_json` and `from_json` bring settings to text and back.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, dataclass_transform, get_args, get_origin

import pydantic.dataclasses
from pydantic import ConfigDict, TypeAdapter, ValidationError

from effnotes.core.errors import nearest

T = TypeVar("T")

# Kinds of pydantic's errors, and what they say of the value that is allowed.
_ALLOWED = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "finite_number": "finite",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list or a tuple",
    "dict_type": "a mapping",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
    "string_too_long": "at most {max_length} long",
    "is_instance_of": "of type {class}",
    "dataclass_type": "{class_name}(...)",
    "dataclass_exact_type": "{class_name}(...)",
}
_NO_SUCH = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
# A field that takes these alone takes no array.
_PLAIN = frozenset({tuple, list, dict, Mapping, int, float, bool, str, NoneType})


# `Field` is no specifier here: type checkers know no default by position, and would ask for every field that has one.
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked when it is made; a wrong one raises a ValueError.

    `dataclasses.replace`, `asdict` and `fields` work on it, and so do copies and pickles; instances of equal fields are equal and
    hash alike. A class that inherits from it is decorated anew.
    """
    config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=config)(cls)
    checked = made.__init__
    names = [field.name for field in dataclasses.fields(made) if field.init]

    @functools.wraps(checked)
    def __init__(self: Any, *positional: Any, **named: Any) -> None:
        # By name, for pydantic tells where a fault is by what it was given.
        by_position = dict(zip(names, positional, strict=False))
        if len(positional) > len(names) or by_position.keys() & named.keys():
            raise TypeError(f"{cls.__name__} takes each of its settings once: {', '.join(names)}")
        wanted = _wanted(made)
        given = {name: _plain(value, wanted.get(name, frozenset())) for name, value in (by_position | named).items()}
        try:
            checked(self, **given)
        except ValidationError as error:
            raise explained(error, names, given) from None

    made.__init__ = __init__
    return cast(type[T], made)


@functools.cache
def _wanted(made: Any) -> dict[str, frozenset[type]]:
    """Return the classes that the annotation of each field names."""

    def classes(annotation: Any) -> set[type]:
        found = {kind for kind in (annotation, get_origin(annotation)) if isinstance(kind, type)}
        return found.union(*map(classes, get_args(annotation))) - {UnionType}

    return {name: frozenset(classes(field.annotation)) for name, field in made.__pydantic_fields__.items()}


def _plain(value: Any, wanted: frozenset[type]) -> Any:
    """Bring a value into the form that its field takes where it says the same; pydantic refuses the rest."""
    if hasattr(value, "tolist") and wanted <= _PLAIN:  # NumPy's scalars and arrays
        value = value.tolist()
    if isinstance(value, str) and Path in wanted and str not in wanted:
        return Path(value)
    if type(value) is dict:
        return {key: _plain(item, wanted) for key, item in value.items()}
    if type(value) in (list, tuple):
        return (tuple if tuple in wanted and list not in wanted else type(value))(_plain(item, wanted) for item in value)
    return value


def explained(error: ValidationError, names: list[str], given: Any = None) -> ValueError:
    """Return the first fault of a validation in plain words, such as ``epochs=0: must be at least 1``.

    Args:
        error: What pydantic found.
        names: Names that exist, for a name that does not.
        given: What was validated: pydantic's places also name the alternatives of a union, which lead nowhere in it.
    """
    faults = error.errors(include_url=False)
    fault, value = faults[0], faults[0]["input"]
    own = fault.get("ctx", {}).get("error")
    if isinstance(own, ValueError):  # raised by a check of ours, with words of its own
        return own
    where = _place(fault, given)
    known = f" The settings are: {', '.join(names)}." if "." not in where else ""
    if fault["type"] in _NO_SUCH:
        return ValueError(f"there is no setting {where!r}.{nearest(where, names) if known else ''}{known}")
    if fault["type"] in _MISSING:
        return ValueError(f"{where} is missing.{known}")
    options = list(dict.fromkeys(option for other in faults if _place(other, given) == where for option in _options(other)))
    texts = [option.strip("'") for option in options if option.startswith("'")]
    guess = nearest(value, texts) if isinstance(value, str) else ""
    several = len(options) > 2 or fault["type"] == "literal_error"
    allowed = "must be one of " + ", ".join(options) if several else "must be " + " or ".join(options)
    wanted = allowed if options else fault["msg"][0].lower() + fault["msg"][1:]
    return ValueError(f"{where}={value!r}: {wanted}{'.' if guess else ''}{guess}".removeprefix("="))


def _place(fault: Any, given: Any) -> str:
    """Name the place of a fault, such as ``grid.0.rate``, by those parts that lead somewhere in what was given."""
    kept = []
    for part in fault["loc"]:
        with contextlib.suppress(LookupError, TypeError):
            given = given[part]
            kept.append(part)
    if fault["type"] in _MISSING or not kept:
        kept += fault["loc"][-1:]
    return ".".join(map(str, kept))


def _options(fault: Any) -> list[str]:
    """Return what a fault says may stand there."""
    context = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in fault.get("ctx", {}).items()}
    if fault["type"] == "literal_error":
        return str(context["expected"]).replace(" or ", ", ").split(", ")
    return [_ALLOWED[fault["type"]].format(**context)] if fault["type"] in _ALLOWED else []


def to_json(value: Any) -> str:
    """Return settings, also nested ones, as JSON text, of which `from_json` makes the same again."""
    # As what a value is, and not as its field is annotated: of a derived class's, what it adds would silently be left out.
    return TypeAdapter(type(value)).dump_json(value, serialize_as_any=True).decode()


def from_json(kind: type[T], text: str) -> T:
    """Undo `to_json`.

    Raises:
        ValueError: The text is not that of such settings.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        raise explained(error, names, None if error.errors()[0]["type"] == "json_invalid" else json.loads(text)) from None
