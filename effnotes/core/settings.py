"""Settings that check themselves: frozen dataclasses by pydantic, with messages that say what was given and what is allowed.

    @settings
    class Recipe:
        epochs: int = Field(12, ge=1)
        decay: Literal["cosine", "constant"] = "cosine"

        def __post_init__(self) -> None:  # what fields must satisfy together
            ...

Types are taken strictly: True is no number, 1.0 no whole number, and a list no tuple, but 1 is a float. `to_json` and `from_json`
bring settings to text and back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from effnotes.core.errors import nearest

__all__ = ["explained", "from_json", "settings", "to_json"]

T = TypeVar("T")

# Kinds of pydantic's errors, and what they say of the value that is allowed.
_ALLOWED = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "finite_number": "finite",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a tuple",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "too_short": "at least {min_length} long",
}


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked when it is made; a wrong one raises a ValueError.

    `dataclasses.replace`, `asdict` and `fields` work on it; instances of equal fields are equal and hash alike.
    """
    made: Any = pydantic.dataclasses.dataclass(
        frozen=True, config=ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    )(cls)
    checked = made.__init__
    names = [field.name for field in dataclasses.fields(made) if field.init]

    def __init__(self: Any, *positional: Any, **named: Any) -> None:
        try:
            # By name, for pydantic tells where a fault is by what it was given.
            checked(self, *positional[len(names) :], **dict(zip(names, positional, strict=False)), **named)
        except ValidationError as error:
            raise explained(error, names) from None

    __init__.__doc__ = checked.__doc__
    __init__.__wrapped__ = checked  # type: ignore[attr-defined]  # what shows signatures looks there
    made.__init__ = __init__
    result: type[T] = made
    return result


def explained(error: ValidationError, names: list[str]) -> ValueError:
    """Return the first fault of a validation in plain words, such as ``epochs=0: must be at least 1``.

    Args:
        error: What pydantic found.
        names: Names that exist, for a name that does not.
    """
    fault = error.errors(include_url=False)[0]
    context: Mapping[str, Any] = fault.get("ctx", {})
    if fault["type"] == "value_error" and isinstance(context.get("error"), ValueError):
        own: ValueError = context["error"]  # raised by a check of ours, with words of its own
        return own
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return ValueError(f"there is no setting {where!r}.{nearest(where, names)} The settings are: {', '.join(names)}.")
    if fault["type"] in ("missing", "missing_argument"):
        return ValueError(f"{where} is missing; the settings are: {', '.join(names)}")
    given = fault["input"]
    if fault["type"] == "literal_error":
        options = str(context["expected"]).replace(" or ", ", ")
        guess = nearest(given, [option.strip(" '") for option in options.split(",")]) if isinstance(given, str) else ""
        return ValueError(f"{where}={given!r}: must be one of {options}{'.' if guess else ''}{guess}")
    allowed = _ALLOWED.get(fault["type"])
    wanted = f"must be {allowed.format(**context)}" if allowed else fault["msg"][0].lower() + fault["msg"][1:]
    return ValueError(f"{where}={given!r}: {wanted}")


def to_json(value: Any) -> str:
    """Return settings, also nested ones, as JSON text, of which `from_json` makes the same again."""
    return TypeAdapter(type(value)).dump_json(value).decode()


def from_json(kind: type[T], text: str) -> T:
    """Undo `to_json`.

    Raises:
        ValueError: The text is not that of such settings.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        raise explained(error, names) from None
