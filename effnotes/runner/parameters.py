"""Parameters of a chapter: read from its source without running it, and checked before anything runs.

A chapter declares its parameters in one cell tagged ``parameters``, one annotated assignment a line with its help as a comment::

    # %% tags=["parameters"]
    seeds: list[int] = [1, 2, 3]  # one model of each sparsity is trained per seed

An annotation is checked on the syntax tree before it is made a type. Allowed are ``int``, ``float``, ``str``, ``bool``, ``None``,
``Any``, ``Literal[...]``, ``list[...]``, ``dict[str, ...]``, ``Optional[...]``, ``Union[...]`` and ``X | Y``.
"""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from effnotes.core.errors import nearest
from effnotes.runner.errors import UsageError


class _Literal:
    """`Literal`, in which True is no 1: pydantic takes the one for the other."""

    def __class_getitem__(cls, options: Any) -> Any:
        kinds = set(map(type, options if isinstance(options, tuple) else (options,)))
        return Annotated[Literal[options], BeforeValidator(lambda value: value if type(value) in kinds else object())]


_NAMES: dict[str, Any] = {kind.__name__: kind for kind in (int, float, str, bool, list, dict)} | {"Any": Any}


class _CoreSchemaLoader(yaml.SafeLoader):
    """YAML 1.2 core schema: ``1e-3`` is a number, ``no`` and ``2024-01-01`` are text."""


_CoreSchemaLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
):
    _CoreSchemaLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])
# The constructor of YAML 1.1 would read 010 as eight.
_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value))


def load_yaml(text: str) -> Any:
    """Read YAML by the core schema of YAML 1.2.

    Raises:
        yaml.YAMLError: the text is no valid YAML.
    """
    return yaml.load(text, Loader=_CoreSchemaLoader)


class Parameter(NamedTuple):
    """One declared parameter: its name, annotation as written, default value and help text."""

    name: str
    annotation: str
    default: Any
    help: str

    def check(self, value: Any) -> Any:
        """Return `value` as the annotation wants it (an ``int`` given for a ``float`` becomes one).

        Raises:
            UsageError: the value does not fit; the message says what was given and what is allowed.
        """
        try:
            return _adapter(self.annotation).validate_python(value, strict=True)
        except ValidationError as error:
            message = f"parameter '{self.name}' is declared as {self.annotation}; given was {value!r} ({type(value).__name__})"
            guess = ""
            if fault := next((fault for fault in error.errors() if fault["type"] == "literal_error"), None):
                options = fault["ctx"]["expected"].replace(" or ", ", ")
                guess = nearest(str(fault["input"]), re.findall(r"'(.*?)'", options))
                message += f"; allowed are {options}"
            raise UsageError(f"{message}.{guess}") from None


@cache
def _adapter(annotation: str) -> TypeAdapter[Any]:
    """Return what checks values of an annotation that `_check_annotation` has let pass."""
    return TypeAdapter(eval(annotation, {"__builtins__": {}, **_NAMES, "Literal": _Literal, "Optional": Optional, "Union": Union}))


def parse_value(text: str, name: str) -> Any:
    """Parse the right-hand side of ``-p name=value`` as YAML and refuse what a notebook cannot be given as plain data.

    Raises:
        UsageError: no YAML, or not made of finite scalars, lists and mappings with text keys.
    """
    try:
        value = load_yaml(text)
        json.dumps(value, default=str)  # refuses a value that holds itself
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # the last three: explicit tags, and depth
        problem = getattr(error, "problem", None) or str(error)
        remedy = "Give a plain scalar, list or mapping, for example 0.9, '[0.8, 0.9]' or '{a: 1}'."
        raise UsageError(f"the value of '{name}' is no valid YAML ({problem}): {text!r}. {remedy}") from None
    return check_plain(value, name)


def check_plain(value: Any, name: str) -> Any:
    """Return `value` if it is a finite scalar, a list or a mapping with text keys of such, all the way down.

    Raises:
        UsageError: it holds anything else; parameters are written into records as JSON.
    """
    is_scalar = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    is_mapping = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if not (is_scalar or is_mapping or isinstance(value, list)):
        allowed = "plain scalars, lists and mappings; numbers must be finite, keys text"
        raise UsageError(f"'{name}' holds a {type(value).__name__} ({value!r}); allowed are {allowed}.")
    for item in () if is_scalar else value.values() if is_mapping else value:
        check_plain(item, name)
    return value


def split_assignment(text: str) -> tuple[str, str]:
    """Split ``name=value`` at the first ``=``.

    Raises:
        UsageError: there is no ``=`` or no name before it.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise UsageError(f"'-p {text}' is no assignment; write -p name=value, for example -p seeds='[1, 2]'.")
    return name.strip(), value


def declared_parameters(cell: str, first_line: int = 1, where: str = "parameters cell") -> dict[str, Parameter]:
    """Read the declarations of a ``parameters`` cell.

    Args:
        cell: Python source of the cell.
        first_line: line of the chapter's file on which the cell's source starts, for messages.
        where: name of the chapter's file, for messages.

    Raises:
        UsageError: a statement that is no annotated assignment of a plain literal, an annotation that is not allowed, a default
            that does not fit its annotation, or a name declared twice.
    """
    try:
        tree = ast.parse(cell)
    except SyntaxError as error:
        raise UsageError(f"{where}, line {first_line + (error.lineno or 1) - 1}: {error.msg}.") from None
    # What ends a line, by its number.
    tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
    comments = {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}
    parameters: dict[str, Parameter] = {}
    for statement in tree.body:
        at = f"{where}, line {first_line + statement.lineno - 1}"
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is not None):
            found = f"found {ast.unparse(statement)!r}"
            raise UsageError(
                f"{at}: the parameters cell holds only declarations like 'seeds: list[int] = [1, 2]  # help'; {found}."
            )
        name = statement.target.id
        if name in parameters:
            raise UsageError(f"{at}: parameter '{name}' is declared twice.")
        try:
            default = ast.literal_eval(statement.value)
        except (ValueError, TypeError):
            raise UsageError(f"{at}: the default of '{name}' must be a literal; found {ast.unparse(statement.value)!r}.") from None
        _check_annotation(statement.annotation, f"{at}: parameter '{name}'")
        help_text = comments.get(statement.end_lineno or statement.lineno, "")
        parameter = Parameter(name, ast.unparse(statement.annotation), default, help_text)
        try:
            parameter.check(check_plain(default, name))
        except UsageError as error:
            raise UsageError(f"{at}: {error}") from None
        parameters[name] = parameter
    return parameters


def resolve(declared: Mapping[str, Parameter], layers: list[tuple[str, Mapping[str, Any]]], chapter: str) -> dict[str, Any]:
    """Return every declared parameter's value: its default, overridden by each of `layers` in turn.

    Args:
        declared: the chapter's parameters by name.
        layers: pairs of where the values come from (for messages) and the values by name, later ones win.
        chapter: name of the chapter, for messages.

    Raises:
        UsageError: a name that the chapter does not declare, or a value that does not fit.
    """
    values = {name: parameter.check(parameter.default) for name, parameter in declared.items()}
    for origin, layer in layers:
        for name, value in layer.items():
            if name not in declared:
                known = f"{nearest(name, declared)} It has: {', '.join(declared) or 'none'}."
                raise UsageError(f"chapter '{chapter}' has no parameter '{name}' ({origin}).{known}")
            try:
                values[name] = declared[name].check(check_plain(value, name))
            except UsageError as error:
                raise UsageError(f"chapter '{chapter}': {error} ({origin})") from None
    return values


def _check_annotation(node: ast.expr, where: str) -> None:
    """Refuse an annotation outside the documented grammar."""
    parts: list[ast.expr] | None = None
    match node:
        case ast.Constant() | ast.Name() if ast.unparse(node) in {*_NAMES, "None"}:
            parts = []
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            parts = [left, right]
        case ast.Subscript(value=ast.Name(id=head), slice=inner):
            arguments = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            # The operand: of a negative number.
            if head == "Literal" and all(isinstance(getattr(each, "operand", each), ast.Constant) for each in arguments):
                parts = []
            elif (head, len(arguments)) in {("list", 1), ("Optional", 1), ("dict", 2)} or head == "Union":
                parts = arguments
    if parts is None:
        allowed = "int, float, str, bool, None, Any, Literal[...], list[...], dict[str, ...], Optional[...], Union[...] and X | Y"
        raise UsageError(f"{where} is annotated {ast.unparse(node)!r}; allowed are {allowed}.")
    for part in parts:
        _check_annotation(part, where)
