"""Parameters of a chapter: read from its source without running it, and checked before anything runs.

A chapter declares its parameters in one cell tagged ``parameters``, one annotated assignment a line with its help as a comment::

    # %% tags=["parameters"]
    seeds: list[int] = [1, 2, 3]  # one model of each sparsity is trained per seed

Annotations are read from the syntax tree, never evaluated. Allowed are ``int``, ``float``, ``str``, ``bool``, ``None``, ``Any``,
``Literal[...]``, ``list[...]``, ``dict[str, ...]``, ``Optional[...]``, ``Union[...]`` and ``X | Y``.
"""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from effnotes.core.errors import nearest
from effnotes.runner.errors import UsageError

_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


class _CoreSchemaLoader(yaml.SafeLoader):
    """YAML 1.2 core schema: ``1e-3`` is a number, ``no`` and ``2024-01-01`` are text."""


_CoreSchemaLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _CoreSchemaLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_CoreSchemaLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


# The constructor of YAML 1.1 would read 010 as eight.
_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", _decimal)


def load_yaml(text: str) -> Any:
    """Read YAML by the core schema of YAML 1.2.

    Raises:
        yaml.YAMLError: the text is no valid YAML.
    """
    return yaml.load(text, Loader=_CoreSchemaLoader)


@dataclass(frozen=True)
class Parameter:
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
            return _conform(ast.parse(self.annotation, mode="eval").body, value)
        except _MismatchError as mismatch:
            message = (
                f"parameter '{self.name}' is declared as {self.annotation}; given was {value!r} ({type(value).__name__})"
                f"{mismatch.detail}"
            )
            raise UsageError(message if message.endswith("?") else f"{message}.") from None


class _MismatchError(Exception):
    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


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
        raise UsageError(
            f"the value of '{name}' is no valid YAML ({problem}): {text!r}."
            " Give a plain scalar, list or mapping, for example 0.9, '[0.8, 0.9]' or '{a: 1}'."
        ) from None
    return check_plain(value, name)


def check_plain(value: Any, name: str) -> Any:
    """Return `value` if it is a finite scalar, a list or a mapping with text keys of such, all the way down.

    Raises:
        UsageError: it holds anything else; parameters are written into records as JSON.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UsageError(f"'{name}' holds a mapping with the key {key!r}; keys must be text.")
            check_plain(item, name)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"'{name}' holds {value!r}; numbers must be finite.")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise UsageError(f"'{name}' holds a {type(value).__name__} ({value!r}); allowed are plain scalars, lists and mappings.")
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
    comments = _trailing_comments(cell)
    parameters: dict[str, Parameter] = {}
    for statement in tree.body:
        at = f"{where}, line {first_line + statement.lineno - 1}"
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is not None):
            raise UsageError(
                f"{at}: the parameters cell holds only declarations like 'seeds: list[int] = [1, 2, 3]  # help';"
                f" found {ast.unparse(statement)!r}."
            )
        name = statement.target.id
        if name in parameters:
            raise UsageError(f"{at}: parameter '{name}' is declared twice.")
        try:
            default = ast.literal_eval(statement.value)
        except (ValueError, TypeError):
            raise UsageError(f"{at}: the default of '{name}' must be a literal; found {ast.unparse(statement.value)!r}.") from None
        help_text = comments.get(statement.end_lineno or statement.lineno, "")
        parameter = Parameter(name, ast.unparse(statement.annotation), default, help_text)
        _check_annotation(statement.annotation, f"{at}: parameter '{name}'")
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
                raise UsageError(
                    f"chapter '{chapter}' has no parameter '{name}' ({origin}).{nearest(name, declared)}"
                    f" It has: {', '.join(declared) or 'none'}."
                )
            try:
                values[name] = declared[name].check(check_plain(value, name))
            except UsageError as error:
                raise UsageError(f"chapter '{chapter}': {error} ({origin})") from None
    return values


def _trailing_comments(source: str) -> dict[int, str]:
    """Map line numbers to the text of the comment that ends them."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _subscript(node: ast.expr) -> tuple[str, list[ast.expr]] | None:
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice
        return node.value.id, list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    return None


def _is_literal(node: ast.expr) -> bool:
    """Whether `node` is a constant, or a negative number."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))


def _check_annotation(node: ast.expr, where: str) -> None:
    """Refuse an annotation outside the documented grammar."""
    if isinstance(node, ast.Constant) and node.value is None:
        return
    if isinstance(node, ast.Name) and (node.id in _SCALARS or node.id in {"list", "dict", "Any"}):
        return
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        _check_annotation(node.left, where)
        _check_annotation(node.right, where)
        return
    subscript = _subscript(node)
    if subscript is not None:
        head, arguments = subscript
        if head == "Literal" and all(_is_literal(argument) for argument in arguments):
            return
        if (head, len(arguments)) in {("list", 1), ("Optional", 1), ("dict", 2)} or head == "Union":
            for argument in arguments:
                _check_annotation(argument, where)
            return
    raise UsageError(
        f"{where} is annotated {ast.unparse(node)!r}; allowed are int, float, str, bool, None, Any, Literal[...], list[...],"
        " dict[str, ...], Optional[...], Union[...] and X | Y."
    )


def _conform(node: ast.expr, value: Any) -> Any:
    """Return `value` if the annotation `node` admits it, with ``int`` widened to ``float`` where only that is admitted."""
    if isinstance(node, ast.Constant):
        if value is None:
            return value
        raise _MismatchError
    if isinstance(node, ast.Name):
        return _conform_name(node.id, value)
    if isinstance(node, ast.BinOp):
        return _conform_any([node.left, node.right], value)
    subscript = _subscript(node)
    assert subscript is not None, "annotations are checked when they are read"
    head, arguments = subscript
    if head == "Literal":
        allowed = [ast.literal_eval(argument) for argument in arguments]
        if any(value == option and type(value) is type(option) for option in allowed):
            return value
        guess = nearest(value, [str(option) for option in allowed]) if isinstance(value, str) else ""
        raise _MismatchError(f"; allowed are {', '.join(map(repr, allowed))}.{guess}".rstrip("."))
    if head in {"Optional", "Union"}:
        options = [*arguments, ast.Constant(None)] if head == "Optional" else arguments
        return _conform_any(options, value)
    if head == "list" and isinstance(value, list):
        return [_conform(arguments[0], item) for item in value]
    if head == "dict" and isinstance(value, dict):
        return {_conform(arguments[0], key): _conform(arguments[1], item) for key, item in value.items()}
    raise _MismatchError


def _conform_any(options: list[ast.expr], value: Any) -> Any:
    detail = ""
    # An exact fit wins over a widened one: 3 given for `float | int` stays an int.
    widened: list[Any] = []
    for option in options:
        try:
            conformed = _conform(option, value)
        except _MismatchError as mismatch:
            detail = detail or mismatch.detail
            continue
        if type(conformed) is type(value):
            return conformed
        widened.append(conformed)
    if widened:
        return widened[0]
    raise _MismatchError(detail)


def _conform_name(name: str, value: Any) -> Any:
    if name == "Any":
        return value
    if name in {"list", "dict"}:
        if type(value).__name__ == name:
            return value
        raise _MismatchError
    # bool is a subclass of int in Python; as a parameter it is not a number.
    if name == "float" and type(value) is int:
        return float(value)
    if type(value) is _SCALARS[name]:
        return value
    raise _MismatchError
