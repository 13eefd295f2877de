"""Checking what a metric is given, and the two readings of a logit: a probability and a decision."""

from collections.abc import Hashable, Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray


def probabilities(logits: ArrayLike) -> FloatArray:
    """Turn logits into probabilities, p = 1 / (1 + exp(-logit)), in float64 and without overflow.

    Args:
        logits: finite, shape (n, K).

    Returns:
        Shape (n, K), in [0, 1]; exactly 0 or 1 where the logit is too large for float64.

    Raises:
        ValueError: the shape is not (n, K), or a logit is NaN or infinite.
    """
    result: FloatArray = expit(as_logits(logits))
    return result


def hard_predictions(logits: ArrayLike, thresholds: ArrayLike | None = None) -> BoolArray:
    """Decide for or against each attribute: positive where the logit lies strictly above the threshold.

    Args:
        logits: finite, shape (n, K).
        thresholds: on the logits, one number or shape (K,); infinite ones are allowed (+inf predicts no
            positive at all). None stands for 0, that is p > 1/2.

    Returns:
        Shape (n, K). A logit equal to its threshold is negative.

    Raises:
        ValueError: a wrong shape, a logit that is not finite, a NaN threshold.
    """
    scores = as_logits(logits)
    decisions: BoolArray = scores > as_thresholds(thresholds, scores.shape[1])
    return decisions


def as_logits(logits: ArrayLike, name: str = "logits") -> FloatArray:
    """Read finite scores (n, K) as float64, or say what is wrong with them."""
    array = _as_matrix(logits, name).astype(np.float64)
    if not np.isfinite(array).all():
        rows, columns = np.nonzero(~np.isfinite(array))
        raise ValueError(
            f"{name} must be finite, but {len(rows)} of {array.size} are NaN or infinite, the first at row "
            f"{rows[0]}, column {columns[0]}; look for a diverged training before measuring it"
        )
    return array


def as_thresholds(thresholds: ArrayLike | None, attributes: int) -> FloatArray:
    """Read thresholds as shape (K,); None stands for zeros."""
    array = np.asarray(0.0 if thresholds is None else thresholds, dtype=np.float64)
    if array.shape not in ((), (attributes,)):
        raise ValueError(f"thresholds must be one number or have shape ({attributes},), not {array.shape}")
    if np.isnan(array).any():
        raise ValueError("thresholds must not be NaN; +inf predicts no positive at all")
    return np.broadcast_to(array, (attributes,))


def as_probabilities(values: ArrayLike) -> FloatArray:
    """Read probabilities (n, K) in [0, 1] as float64, or say what is wrong with them."""
    array = _as_matrix(values, "probabilities").astype(np.float64)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            f"probabilities must lie in [0, 1], but range from {array.min()} to {array.max()}; "
            "turn logits into probabilities with probabilities(logits)"
        )
    return array


def as_binary(values: ArrayLike, name: str) -> BoolArray:
    """Read labels or predictions (n, K) in {0, 1} as booleans, or say what is wrong with them."""
    return _as_booleans(_as_matrix(values, name), name)


def as_attributes(labels: ArrayLike, attributes: int | None, name: str) -> BoolArray:
    """Read labels as attributes (n, K): integer classes (n,) become one column per class."""
    array = np.asarray(labels)
    if array.ndim != 1:
        return as_binary(array, name)
    single = f"for a single binary attribute pass {name}[:, None]"
    if array.dtype.kind not in "iu" or attributes is None:
        raise ValueError(f"{name} of shape (n,) must be the integer classes of a multi-class task, not {array.dtype}; {single}")
    if len(array) and (array.min() < 0 or array.max() >= attributes):
        raise ValueError(
            f"{name} must be classes from 0 to {attributes - 1}, as there are {attributes} logits a sample, "
            f"but range from {array.min()} to {array.max()}; {single}"
        )
    if attributes < 2:
        raise ValueError(f"{name} of shape (n,) beside one logit a sample: {single}")
    classes: BoolArray = array[:, None] == np.arange(attributes)
    return classes


def as_pair(predictions: ArrayLike, labels: ArrayLike) -> tuple[BoolArray, BoolArray]:
    """Read predictions and labels of one shape (n, K)."""
    predicted, true = as_binary(predictions, "predictions"), as_binary(labels, "labels")
    check_same_shape(predicted, true, "predictions")
    return predicted, true


def check_same_shape(array: NDArray[Any], labels: BoolArray, name: str) -> None:
    """Refuse an array whose shape differs from that of the labels."""
    if array.shape != labels.shape:
        raise ValueError(f"{name} and labels must have one shape, not {array.shape} and {labels.shape}")


def as_groups(groups: ArrayLike, samples: int) -> BoolArray:
    """Read group membership (n,) in {0, 1} as booleans."""
    array = _as_array(groups, "groups")
    if array.shape != (samples,):
        raise ValueError(f"groups must have shape ({samples},), one entry per sample, not {array.shape}")
    return _as_booleans(array, "groups")


def as_rates(rates: ArrayLike, attributes: int) -> FloatArray:
    """Read rates of positives by group, shape (2, K), in [0, 1]; NaN stands for an empty group."""
    q = np.asarray(rates, dtype=np.float64)
    if q.shape != (2, attributes):
        raise ValueError(
            f"rates must have shape (2, {attributes}), one row per group, not {q.shape}; "
            "take them from conditional_rates(train_labels, protected)"
        )
    if ((q < 0) | (q > 1)).any():
        raise ValueError(f"rates must lie in [0, 1], but range from {np.nanmin(q)} to {np.nanmax(q)}")
    return q


def as_names(names: Sequence[Hashable] | None, attributes: int) -> list[Hashable]:
    """Read the names of K attributes; None numbers them from 0."""
    if names is None:
        return list(range(attributes))
    if len(names) != attributes or len(set(names)) != attributes:
        raise ValueError(f"names must be {attributes} different ones, one per attribute, not {list(names)}")
    return list(names)


def position(name: str, names: list[Hashable]) -> int:
    """Find the protected attribute by its name."""
    if name not in names:
        raise ValueError(f"protected names no attribute: {name!r}; there are {names}")
    return names.index(name)


def resolve_protected(protected: int | ArrayLike, labels: BoolArray) -> tuple[BoolArray, int | None]:
    """Read the protected attribute, a column of the labels or an array (n,) of its own.

    Returns:
        The group of each sample, shape (n,), and the column's index (None for an array of its own).
    """
    if np.ndim(protected) > 0:
        return as_groups(protected, len(labels)), None
    try:
        column = index(protected)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"protected must be a column's index or an array (n,) in {{0, 1}}, not {protected!r}") from None
    attributes = labels.shape[1]
    if not 0 <= column < attributes:
        raise ValueError(f"protected must be a column's index from 0 to {attributes - 1}, not {column}")
    return labels[:, column], column


def _as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be read as an array ({error}); for a tensor, pass {name}.detach().float().cpu()"
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, not {array.dtype}")
    return array


def _as_matrix(values: ArrayLike, name: str) -> NDArray[Any]:
    array = _as_array(values, name)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name} must have shape (n, K), samples by attributes with K >= 1, not {array.shape}; "
            f"for a single attribute pass {name}[:, None]"
        )
    return array


def _as_booleans(array: NDArray[Any], name: str) -> BoolArray:
    if array.dtype == np.bool_:
        return array.astype(np.bool_, copy=False)
    positive: BoolArray = array == 1
    other = ~positive & (array != 0)
    if other.any():
        raise ValueError(
            f"{name} must be 0 or 1, but hold {np.unique(array[other])[:5].tolist()}; "
            f"map -1/1 by ({name} + 1) // 2, and scores by hard_predictions(logits)"
        )
    return positive
