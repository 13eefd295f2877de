"""Parameters of a chapter: read from its source without running it, and checked before anything runs.

A chapter declares its parameters in one cell tagged ``parameters``, one assignment a line with its help as a comment::

    # %% tags=["parameters"]
    seeds: list[int] = [1, 2, 3]  # one model of each sparsity is trained per seed

Where there is no annotation, the type is that of the default. An annotation is checked on the syntax tree before it is made a type.
Allowed are ``int``, ``float``, ``str``, ``bool``, ``None``, ``Any``, ``Literal[...]``, ``list[...]``, ``dict[str, ...]``,
``Optional[...]``, ``Union[...]`` and ``X | Y``.
"""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union, get_args, get_origin

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from effnotes.core.errors import nearest
from effnotes.core.strict_yaml import load_yaml, lost_from
from effnotes.runner.errors import UsageError


class _Literal:
    """`Literal`, in which True is no 1: pydantic takes the one for the other."""

    def __class_getitem__(cls, options: Any) -> Any:
        kinds = set(map(type, options if isinstance(options, tuple) else (options,)))
        return Annotated[Literal[options], BeforeValidator(lambda value: value if type(value) in kinds else object())]


_NAMES: dict[str, Any] = {kind.__name__: kind for kind in (int, float, str, bool, list, dict)} | {"Any": Any}


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
            return TypeAdapter(_type(self.annotation)).validate_python(value, strict=True)
        except ValidationError as error:
            message = f"parameter '{self.name}' is declared as {self.annotation}; given was {value!r} ({type(value).__name__})"
            guess = ""
            if fault := next((fault for fault in error.errors() if fault["type"] == "literal_error"), None):
                options = fault["ctx"]["expected"].replace(" or ", ", ")
                guess = nearest(str(fault["input"]), re.findall(r"'(.*?)'", options))
                message += f"; allowed are {options}"
            raise UsageError(f"{message}.{guess}") from None

    def parse(self, text: str) -> Any:
        """Return what was typed after ``-p name=``: text as it stands where the parameter is text, or else read as YAML.

        A text that begins with a quote is read as YAML too, and so is the null of a parameter that may be None.

        Raises:
            UsageError: as for `parse_value`.
        """
        kind = _type(self.annotation)
        kinds = set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}
        is_null = NoneType in kinds and text.strip() in ("", "~", "null", "Null", "NULL")
        if kinds in ({str}, {str, NoneType}) and not is_null and not text.lstrip().startswith(("'", '"')):
            return check_plain(text, self.name)
        return parse_value(text, self.name)


@cache
def _type(annotation: str) -> Any:
    """Return the type that an annotation means; `_check_annotation` has let it pass."""
    return eval(annotation, {"__builtins__": {}, **_NAMES, "Literal": _Literal, "Optional": Optional, "Union": Union})


def parse_value(text: str, name: str) -> Any:
    """Parse the right-hand side of ``-p name=value`` as YAML and refuse what a notebook cannot be given as plain data.

    Raises:
        UsageError: no YAML, more than its value holds, such as a comment, or not made of finite scalars, lists and mappings with
            text keys.
    """
    try:
        value, lost = load_yaml(text), lost_from(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        remedy = "Give a plain scalar, list or mapping, for example 0.9, '[0.8, 0.9]' or '{a: 1}'."
        raise UsageError(f"the value of '{name}' is no valid YAML ({problem}): {text!r}. {remedy}") from None
    if lost:
        remedy = "Put texts in quotes within the value, for example '[\"a #1\", b]', and leave out comments and line breaks."
        raise UsageError(f"the value of '{name}' was read as {value!r}, which leaves out {lost!r} of {text!r}. {remedy}")
    return check_plain(value, name)


def check_plain(value: Any, name: str) -> Any:
    """Return `value` if it is a finite scalar, a list or a mapping with text keys of such, all the way down.

    Raises:
        UsageError: it holds anything else; parameters are written into records as JSON.
    """
    if isinstance(value, str) and (strange := re.search("[\0\ud800-\udfff]", value)):
        raise UsageError(f"'{name}' holds {strange.group()!r} ({value!r}), which no file can hold; allowed is text in UTF-8.")
    is_scalar = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    is_mapping = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if not (is_scalar or is_mapping or isinstance(value, list)):
        allowed = "plain scalars, lists and mappings; numbers must be finite, keys text"
        raise UsageError(f"'{name}' holds a {type(value).__name__} ({value!r}); allowed are {allowed}.")
    for item in () if is_scalar else value.values() if is_mapping else value:
        check_plain(item, name)
    return value


def texts(value: Any) -> Iterator[str]:
    """Yield each text in a value of plain data, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def split_assignment(text: str) -> tuple[str, str]:
    """Split ``name=value`` at the first ``=``.

    Raises:
        UsageError: there is no ``=`` or no name before it.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise UsageError(f"'-p {text}' is no assignment; write -p name=value, for example -p seeds='[1, 2]'.")
    return name.strip(), value


def parse_all(assignments: Iterable[tuple[str, str]], declared: Mapping[str, Parameter], chapter: str) -> dict[str, Any]:
    """Return the values given with ``-p``, from pairs of a name and a text, each read as its parameter's type wants it.

    Raises:
        UsageError: as for `parse_value`, a name that the chapter does not declare, or one that is given twice.
    """
    values: dict[str, Any] = {}
    for name, text in assignments:
        if name in values:
            raise UsageError(f"'{name}' is given twice with -p; give each parameter once.")
        values[name] = known(name, declared, chapter, "given with -p").parse(text)
    return values


def known(name: str, declared: Mapping[str, Parameter], chapter: str, origin: str) -> Parameter:
    """Return the parameter called `name`; other arguments and errors as for `resolve`."""
    if name not in declared:
        others = f"{nearest(name, declared)} It has: {', '.join(declared) or 'none'}."
        raise UsageError(f"chapter '{chapter}' has no parameter '{name}' ({origin}).{others}")
    return declared[name]


def declared_parameters(cell: str, first_line: int = 1, where: str = "parameters cell") -> dict[str, Parameter]:
    """Read the declarations of a ``parameters`` cell.

    Args:
        cell: Python source of the cell.
        first_line: line of the chapter's file on which the cell's source starts, for messages.
        where: name of the chapter's file, for messages.

    Raises:
        UsageError: a statement that is no assignment of a plain literal to a name, an annotation that is not allowed, a default
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
    annotation: ast.expr | None
    for statement in tree.body:
        at = f"{where}, line {first_line + statement.lineno - 1}"
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
                _check_annotation(statement.annotation, f"{at}: parameter '{name}'")
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                annotation = None
            case _:
                one = "'seeds: list[int] = [1, 2]  # help'"
                raise UsageError(f"{at}: the parameters cell holds only declarations like {one}; found {ast.unparse(statement)!r}.")
        if name in parameters:
            raise UsageError(f"{at}: parameter '{name}' is declared twice.")
        try:
            default = ast.literal_eval(value)
        except (ValueError, TypeError):
            raise UsageError(f"{at}: the default of '{name}' must be a literal; found {ast.unparse(value)!r}.") from None
        help_text = comments.get(statement.end_lineno or statement.lineno, "")
        own = "Any" if default is None else type(default).__name__
        parameter = Parameter(name, ast.unparse(annotation) if annotation else own, default, help_text)
        try:
            check_plain(default, name)
            parameter.check(default)
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
            values[name] = fitting(name, value, declared, chapter, origin)
    return values


def fitting(name: str, value: Any, declared: Mapping[str, Parameter], chapter: str, origin: str) -> Any:
    """Return a value as the parameter called `name` wants it; other arguments and errors as for `resolve`."""
    parameter = known(name, declared, chapter, origin)
    try:
        return parameter.check(check_plain(value, name))
    except UsageError as error:
        raise UsageError(f"chapter '{chapter}': {error} ({origin})") from None


def check_reached(cells: Iterable[str], parameters: Iterable[Mapping[str, Any]]) -> None:
    """Compare what the kernel was given with what the record will say.

    Args:
        cells: source of the cells that declare and override parameters, in the order in which the kernel ran them.
        parameters: ``name`` and ``value`` of each parameter of the run.

    Raises:
        RuntimeError: a value differs.
    """
    statements: list[Any] = [statement for cell in cells for statement in ast.parse(cell).body]
    reached = {ast.unparse(getattr(each, "target", None) or each.targets[0]): each.value for each in statements}
    for name, value in ((item["name"], item["value"]) for item in parameters):
        if json.dumps(ast.literal_eval(reached[name])) != json.dumps(value):
            raise RuntimeError(f"'{name}' was to be {value!r}, but the notebook got {ast.unparse(reached[name])}")


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
