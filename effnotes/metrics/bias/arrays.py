"""Checking what a metric is given, and the two readings of a logit: a probability and a decision."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray


@by_name()
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


@by_name()
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
    return scores > as_thresholds(thresholds, scores.shape[1])


def as_logits(logits: ArrayLike, name: str = "logits") -> FloatArray:
    """Read finite scores (n, K) as float64, or say what is wrong with them."""
    array = _as_matrix(logits, name).astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        bad = f"{(~np.isfinite(array)).sum()} of {array.size} are NaN or infinite, the first at row {row}, column {column}"
        raise ValueError(f"{name} must be finite, but {bad}; look for a diverged training before measuring it")
    return array


def as_scored(logits: ArrayLike, labels: ArrayLike, name: str = "logits") -> tuple[FloatArray, BoolArray]:
    """Read finite scores and labels of one shape (n, K)."""
    scores, true = as_logits(logits, name), as_binary(labels, "labels")
    check_same_shape(scores, true, name)
    return scores, true


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
    array = _as_matrix(values, "probabilities").astype(np.float64, copy=False)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"p must lie in [0, 1], not go from {array.min()} to {array.max()}; of logits take probabilities(logits)")
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
    if array.dtype.kind not in "iu" or attributes is None or attributes < 2:
        raise ValueError(f"{name} of shape (n,) must be integer classes, not {array.dtype}, with a logit for each; {single}")
    if len(array) and (array.min() < 0 or array.max() >= attributes):
        raise ValueError(f"{name} must be classes from 0 to {attributes - 1}, not {array.min()} to {array.max()}; {single}")
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


def as_shares(name: str, values: ArrayLike, shape: tuple[int, ...], remedy: str) -> FloatArray:
    """Read numbers in [0, 1] of a shape as float64; NaN stands for a share of nothing."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape or ((array < 0) | (array > 1)).any():
        raise ValueError(f"{name} must have shape {shape} and lie in [0, 1], not {array.tolist()}; take them from {remedy}")
    return array


def as_rates(rates: ArrayLike, attributes: int) -> FloatArray:
    """Read rates of positives by group, shape (2, K), in [0, 1]; NaN stands for an empty group."""
    return as_shares("rates", rates, (2, attributes), "conditional_rates(train_labels, protected)")


def as_names(names: Sequence[Hashable] | None, attributes: int) -> list[Hashable]:
    """Read the names of K attributes; None numbers them from 0."""
    known = list(range(attributes) if names is None else names)
    if not len(known) == len(set(known)) == attributes:
        raise ValueError(f"names must be {attributes} different ones, one per attribute, not {known}")
    return known


def resolve_protected(protected: int | ArrayLike, labels: BoolArray) -> tuple[BoolArray, int | None]:
    """Read the protected attribute, a column of the labels or an array (n,) of its own.

    Returns:
        The group of each sample, shape (n,), and the column's index (None for an array of its own).
    """
    if np.ndim(protected) > 0:
        return as_groups(protected, len(labels)), None
    column, columns = np.asarray(protected), range(labels.shape[1])
    # 1.0 equals 1, but is a group's number or a rate passed by mistake rather than an index.
    if column.dtype.kind not in "biu" or int(column) not in columns:
        raise ValueError(f"protected must be an array of 0 and 1 or a column's index from 0 to {columns[-1]}, not {protected!r}")
    return labels[:, int(column)], int(column)


def _as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name} is no array ({error}); for a tensor, pass {name}.detach().float().cpu()") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, not {array.dtype}")
    return array


def _as_matrix(values: ArrayLike, name: str) -> NDArray[Any]:
    array = _as_array(values, name)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n, K), K >= 1, not {array.shape}; for a single attribute pass {name}[:, None]")
    return array


def _as_booleans(array: NDArray[Any], name: str) -> BoolArray:
    if array.dtype == np.bool_:
        return array.astype(np.bool_, copy=False)
    positive: BoolArray = array == 1
    if not (positive | (array == 0)).all():
        other = np.unique(array[~positive & (array != 0)])[:5].tolist()
        raise ValueError(f"{name} must be 0 or 1, but hold {other}; map -1/1 by ({name} + 1) // 2, scores by hard_predictions")
    return positive
