"""Bringing what carries names into one order, before anything reads it by position.

Frames and series say which sample and which attribute a number is of. Functions that are `by_name` look at that: what they are
given is put in the order of the names, else of the labels, else of what is given first. Arrays without names are read by position,
and so are rows or columns with numbers beside others with names, and a single attribute, whatever it is called; but 0, 1, 2, ...
beside the same numbers in another order are refused: they may be names or places, unless they are the `names` of an array.
"""

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

P = ParamSpec("P")
R = TypeVar("R")

# What the axes of each argument are, whichever function takes it.
_OF_SAMPLES = (
    *("labels", "predictions", "logits", "p", "values", "scores", "before", "after", "replacements", "selected"),
    *("dense", "sparse", "dense_logits", "pruned_logits", "sparse_logits"),
)
AXES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_OF_SAMPLES, ("samples", "attributes")),
    **dict.fromkeys(("protected", "groups", "planted"), ("samples",)),
    **dict.fromkeys(("thresholds", "train_rate", "train_shares", "counts", "score", "target", "growth"), ("attributes",)),
    "train_labels": ("training samples", "attributes"),
    "train_groups": ("training samples",),
    "validation": ("validation samples", "attributes"),
    "rates": ("groups", "attributes"),
}
# Arguments that name what stands along an axis, and are filled in from frames where nothing is given.
_NAMES = {"names": "attributes", "sample_names": "samples"}


def by_name(**axes: tuple[str, ...]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function on arrays: frames, series and masked arrays become plain arrays in one order.

    Args:
        **axes: of arguments for which `AXES` does not hold.

    The function then raises a ValueError where names contradict one another, or an array is masked.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def ordered(*args: P.args, **kwargs: P.kwargs) -> R:
            if not any(map(_carries_more, (*args, *kwargs.values()))):
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.arguments |= align(bound.arguments, AXES | axes, [name for name in _NAMES if name in signature.parameters])
            return function(*bound.args, **bound.kwargs)

        return ordered

    return decorate


def plain(values: Any, name: str) -> Any:
    """Give values without names or a mask; numbers that pandas may lack become NaN.

    Raises:
        ValueError: the mask hides something.
    """
    if np.ma.is_masked(values):
        remedy = "leave those samples or attributes out, or fill them in: .filled(...)"
        raise ValueError(f"{name} hides {np.ma.count_masked(values)} of {np.size(values)} entries behind a mask; {remedy}")
    if not isinstance(values, pd.DataFrame | pd.Series):
        return np.asarray(values)
    array = values.to_numpy()
    if array.dtype == object and all(map(pd.api.types.is_numeric_dtype, pd.DataFrame(values).dtypes)):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return array


def _is_named(value: Any) -> bool:
    # Tables of polars, xarray and others say themselves how they become a frame.
    return isinstance(value, pd.DataFrame | pd.Series) or (hasattr(value, "to_pandas") and getattr(value, "ndim", 2) in (1, 2))


def _as_pandas(value: Any) -> Any:
    if isinstance(value, pd.DataFrame | pd.Series):
        return value
    try:
        return value.to_pandas()
    except ImportError:  # polars wants pyarrow for this, which it does not install; its numbers need none
        array = np.asarray(value)
        return pd.Series(array) if array.ndim == 1 else pd.DataFrame(array, columns=value.columns)


def _carries_more(value: Any) -> bool:
    """Tell whether there are names or a mask, or lists and mappings of what has them."""
    if isinstance(value, list | tuple | Mapping):
        return any(_is_named(each) or isinstance(each, np.ma.MaskedArray) for each in _items(value).values())
    return _is_named(value) or isinstance(value, np.ma.MaskedArray)


def _items(value: Any) -> dict[Any, Any]:
    return dict(value) if isinstance(value, Mapping) else dict(enumerate(value))


def align(given: Mapping[str, Any], axes: Mapping[str, tuple[str, ...]] = AXES, unnamed: Sequence[str] = ()) -> dict[str, Any]:
    """Bring arguments into one order, as `by_name` does with all of a function.

    Args:
        given: by name; `names`, `sample_names` and `task` say the order where they are there.
        axes: of the arguments.
        unnamed: which of `names` and `sample_names` to fill in from the frames.

    Returns:
        The arguments that have axes, and those that were filled in.

    Raises:
        ValueError: names that contradict one another, a masked array.
    """
    orders: dict[str, tuple[str, pd.Index]] = {"groups": ("0 and 1", pd.RangeIndex(2))}
    if "loader" in given:
        orders["samples"] = "the loader", pd.RangeIndex(np.size(given.get("protected", ())))
    if (task := given.get("task")) is not None:
        orders["samples"] = "task", pd.RangeIndex(len(task.labels))
    for argument, axis in _NAMES.items():
        names = given.get(argument) if task is None else getattr(task, argument)
        if names is not None:
            orders[axis] = argument, pd.Index(list(names), tupleize_cols=False)
    classes = any(np.ndim(given.get(labels, 0)) == 1 for labels in ("labels", "train_labels"))
    column = np.ndim(given.get("protected", "")) == 0 and not isinstance(given.get("protected", ""), str | None)

    def put(value: Any, name: str, dimensions: tuple[str, ...]) -> Any:
        if isinstance(value, list | tuple | Mapping) and _carries_more(value):
            parts = {key: put(each, f"{name}[{key!r}]", dimensions) for key, each in _items(value).items()}
            return parts if isinstance(value, Mapping) else list(parts.values())
        if named := _is_named(value):
            value = _as_pandas(value)
        shape = getattr(value, "shape", (len(value),) if isinstance(value, list | tuple) else ())[-2:]
        for number, (axis, own) in enumerate(zip(dimensions, value.axes if named else map(pd.RangeIndex, shape), strict=False)):
            source, order = orders.setdefault(axis, (name, own))
            if not named and source in _NAMES:
                continue  # The names are given for what stands in the array, place by place, even if they are numbers.
            if _says(own) > _says(order) and set(own) != set(order):
                orders[axis] = name, own
            places = _places(name, own, source, order, axis, axis == "attributes" and (classes or (column and name == "labels")))
            value = value if places is None else value.take(places, axis=number)
        return plain(value, name) if _carries_more(value) else value

    # The labels come first: results without names are in their order.
    arrays = sorted((name for name in given if name in axes), key=lambda name: name != "labels")
    aligned = {name: put(given[name], name, axes[name]) for name in arrays}
    found = {name: orders[_NAMES[name]][1] for name in unnamed if given.get(name) is None and _NAMES[name] in orders}
    return aligned | {name: list(index) for name, index in found.items() if _says(index)}


def _says(index: pd.Index) -> int:
    """How much an index says: 0 where it merely counts, as pandas has it by default, 1 for other integers, 2 for names."""
    return 0 if index.equals(pd.RangeIndex(len(index))) else 1 if pd.api.types.is_integer_dtype(index) else 2


def _places(name: str, own: pd.Index, source: str, order: pd.Index, axis: str, counted: bool) -> list[int] | None:
    """Say where in `own` stands what `order` names; None where nothing is to be moved."""
    if own.equals(order) or list(own) == list(order) or (axis == "attributes" and len(own) == len(order) == 1):
        return None
    where: dict[Hashable, int] = {label: place for place, label in enumerate(own)}
    same, numbered = len(own) == len(order) and set(order) == set(where), not (_says(own) and _says(order))
    if not same and (numbered or _says(own) != _says(order)):
        return None
    if same and own.is_unique and not numbered and not counted:
        return [where[label] for label in order]
    remedy = "or pass .to_numpy() of them if they correspond as they stand"
    if same:
        cause = "numbers that count may be names or mere places" if numbered else "some are there twice"
        cause = "and classes or the protected attribute are given by their place" if counted else cause
        shown = f"{list(own[:3])}... against {list(order[:3])}..."
        raise ValueError(f"{name} has its {axis} in another order than {source} ({shown}), {cause}; bring them into one, {remedy}")
    rest = [[label for label in these if label not in set(those)][:3] for these, those in ((own, order), (order, own))]
    twice = ", some twice" if own.has_duplicates or order.has_duplicates else ""
    shown = f"{name} alone has {rest[0]}, {source} alone {rest[1]}{twice}"
    raise ValueError(f"{name} names other {axis} than {source}: {shown} (of {len(own)} and {len(order)}); rename them, {remedy}")
