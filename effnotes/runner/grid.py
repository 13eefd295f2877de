"""The points of a sweep, read from what was typed: lists, ranges, and files of points; refused before anything runs."""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml

from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.core.strict_yaml import load_yaml
from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import Parameter, fitting, known, parse_value

MOST_POINTS = 100_000
"""The largest sweep that is planned."""

_NUMBER = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
_RANGE = re.compile(f"{_NUMBER}:{_NUMBER}:{_NUMBER}")

Point = dict[str, Any]


def grid_points(grids: Sequence[str], fixed: Mapping[str, Any], declared: Mapping[str, Parameter], chapter: str) -> list[Point]:
    """Return the product of grids: the values of each point over those that all points share.

    Args:
        grids: as typed: ``name=a,b,c`` with values as YAML, ``name=lo:hi:step`` with both ends, where a step leads to the other,
            or the path of a YAML file with a list of points, each a mapping of names to values.
        fixed: the values that all points share, by name.
        declared: the chapter's parameters by name.
        chapter: its name, for messages.

    Raises:
        UsageError: a grid is none of these or has no points, there are too many, a parameter does not exist or is given twice, or a
            value does not fit.
    """
    if not grids:
        raise UsageError("a sweep needs a grid: --grid name=a,b,c, --grid name=lo:hi:step, or --grid points.yaml.")
    axes = [_axis(text, declared, chapter) for text in grids]
    given = [set().union(*points) for points in (*axes, [dict(fixed)])]
    for one, other in itertools.combinations(given, 2):
        if both := sorted(one & other):
            raise UsageError(f"'{both[0]}' is given twice, by two grids or by a grid and -p; give each parameter once.")
    if (size := math.prod(map(len, axes))) > MOST_POINTS:
        raise UsageError(f"these grids make {size:,} points; at most {MOST_POINTS:,} are planned: give fewer values.")
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*axes)]


def describe_point(point: Mapping[str, Any]) -> str:
    """Write the values of a point in one line."""
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in point.items())


def _axis(text: str, declared: Mapping[str, Parameter], chapter: str) -> list[Point]:
    name, separator, values = text.partition("=")
    origin = f"--grid {text}"
    if separator:
        name = known(name.strip(), declared, chapter, origin).name
        points = [{name: value} for value in _values(name, values, origin)]
    else:
        points = _file(text)
    return [{key: fitting(key, value, declared, chapter, origin) for key, value in point.items()} for point in points]


def _values(name: str, text: str, origin: str) -> list[Any]:
    if not (ends := _RANGE.fullmatch(text)):
        if not (values := parse_value(f"[{text}]", name)):
            raise UsageError(f"'{origin}' has no values; write --grid {name}=a,b,c or --grid {name}=lo:hi:step.")
        return list(values)
    # Decimals, as 0.5 + 4 * 0.1 is to be 0.9.
    low, high, step = map(Decimal, ends.groups())
    if step == 0 or (high - low) / step < 0:
        raise UsageError(
            f"'{origin}' never gets from {low} to {high} by steps of {step}; write lo:hi:step, for example 0.5:0.9:0.1."
        )
    if (count := int((high - low) / step) + 1) > MOST_POINTS:
        raise UsageError(f"'{origin}' has {count:,} values; at most {MOST_POINTS:,} points are planned: take a larger step.")
    whole = all(re.fullmatch(r"[-+]?\d+", part) for part in ends.groups())
    return [int(value) if whole else float(value) for value in (low + step * number for number in range(count))]


def _file(text: str) -> list[Point]:
    remedy = "write --grid name=a,b,c, or name a YAML file with a list of points, for example '- {seeds: [1], depth: 3}'."
    try:
        points = load_yaml(user_path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, DataError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"'--grid {text}' is no assignment and no file that can be read ({why}); {remedy}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"'--grid {text}' is no valid YAML ({getattr(error, 'problem', None) or error}); {remedy}") from None
    if not isinstance(points, list) or not points or not all(isinstance(point, dict) and point for point in points):
        raise UsageError(f"'--grid {text}' holds no list of points; {remedy}")
    return [{str(name): value for name, value in point.items()} for point in points]
