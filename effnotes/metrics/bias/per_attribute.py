"""What a metric returns: one number per attribute, and the reason wherever there is none."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Reason(StrEnum):
    """Why a metric has no value; each member equals its text."""

    NO_SAMPLES = "no samples"
    NO_TRAINING_SAMPLES = "no training samples"
    TOO_FEW_SAMPLES = "too few samples"
    NO_POSITIVES = "no positives"
    NO_NEGATIVES = "no negatives"
    NO_RARE_VALUES = "rare value absent"
    CONSTANT_COLUMN = "constant column"
    NO_OTHER_COLUMN = "no other varying column"
    UNDEFINED_IN_GROUP = "undefined in a group"
    PROTECTED_ITSELF = "protected attribute itself"
    EMPTY_GROUP = "empty group"
    EMPTY_TRAINING_GROUP = "empty training group"
    NO_TRAINING_POSITIVES = "no training positives"
    CONSTANT_TRAINING_LABEL = "constant training label"
    SMALL_SKEW = "skew too small"
    FEW_TEST_POSITIVES = "too few test positives"
    NO_PREDICTED_POSITIVES = "no predicted positives"
    NO_EXEMPLARS = "no exemplars"
    ONE_KIND_OF_SAMPLE = "all or no samples are exemplars or uncertain"
    TOO_FEW_ATTRIBUTES = "too few attributes"
    CONSTANT_CRITERION = "constant criterion"
    CONSTANT_GROWTH = "constant growth"


@dataclass(frozen=True, eq=False)
class PerAttribute:
    """One value per attribute, NaN where undefined, with the reason beside it.

    NumPy functions take it as the array of its values: `np.nanmean(result)` works, and arithmetic goes through
    the values, `sparse.values - dense.values`.

    Attributes:
        values: float64, shape (K,); NaN exactly where a reason is given.
        reasons: K entries, `None` where the value is defined.
    """

    values: FloatArray
    reasons: tuple[Reason | None, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or not np.array_equal(np.isnan(self.values), [reason is not None for reason in self.reasons]):
            raise ValueError("a value must be NaN exactly where a reason is given, in one dimension")

    @classmethod
    def masked(cls, values: FloatArray, *undefined: tuple[Reason, BoolArray | bool]) -> "PerAttribute":
        """Blank out `values` (K,) wherever a condition, (K,) or one for all, holds; the first that holds gives the reason."""
        known = [(reason, np.broadcast_to(where, len(values))) for reason, where in undefined]
        reasons = tuple(next((reason for reason, where in known if where[k]), None) for k in range(len(values)))
        return cls(np.where([reason is not None for reason in reasons], np.nan, values), reasons)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.reasons)


def ratio(numerator: NDArray[Any] | float, denominator: NDArray[Any] | float) -> FloatArray:
    """Divide in silence: x/0 becomes NaN or infinite, for the caller to blank out with a reason."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: FloatArray = np.asarray(np.true_divide(numerator, denominator), dtype=np.float64)
    return quotient
