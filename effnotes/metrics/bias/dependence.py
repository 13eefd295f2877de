"""How far the decisions on one attribute can be told from the decisions on all others."""

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.arrays import as_binary
from effnotes.metrics.bias.per_attribute import PerAttribute, Reason

# The correlation matrix comes from exact integer counts, so only rounding separates a zero eigenvalue from 0,
# while two columns that differ in one of a million samples still leave one of about 1e-6.
_ZERO_EIGENVALUE = 1e-10
_ZERO_WEIGHT = 1e-8


@by_name()
def interdependence(values: ArrayLike, *, adjusted: bool = True) -> PerAttribute:
    """R² of predicting each attribute's hard decision from those on all other attributes, by least squares.

    For each k, column k is regressed in sample on the other columns, with an intercept. With n samples and r
    linearly independent other columns:

        R²_k = 1 - RSS_k / TSS_k, in [0, 1],
        adjusted R²_k = 1 - (1 - R²_k) (n - 1) / (n - r - 1), at most 1 and possibly negative.

    For unrelated columns the adjusted value is about 0, the plain one about r / n. All K regressions come from
    one pseudo-inverse of the correlation matrix C, R²_k = 1 - 1 / (C⁺)_kk; a column that is an exact linear
    combination of others has 1.

    True labels are related too: give them to the same function, and read predictions against labels.

    Args:
        values: predictions or labels in {0, 1}, shape (n, K).
        adjusted: for the number of predictors.

    Returns:
        K values; undefined for a constant column, where no other column varies, and, adjusted, with no more
        than r + 1 samples.

    Raises:
        ValueError: not of shape (n, K), or entries other than 0 and 1.

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622), which use the plain R².
    """
    columns = as_binary(values, "values").astype(np.float64)
    n, attributes = columns.shape
    totals = columns.sum(0)
    constant = (totals == 0) | (totals == n)
    varying = np.flatnonzero(~constant)
    r_squared = np.full(attributes, np.nan)
    too_few = np.zeros(attributes, dtype=bool)
    if len(varying) > 1:
        used = columns[:, varying]
        covariance = n * (used.T @ used) - np.outer(totals[varying], totals[varying])
        scale = np.sqrt(np.diag(covariance))
        eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
        null = eigenvalues < _ZERO_EIGENVALUE
        rank = int((~null).sum())
        dependent = np.square(vectors[:, null]).sum(1) > _ZERO_WEIGHT
        unexplained = np.where(dependent, 0.0, 1 / (np.square(vectors[:, ~null]) / eigenvalues[~null]).sum(1))
        if adjusted:
            predictors = np.where(dependent, rank, rank - 1)
            too_few[varying] = n <= predictors + 1
            unexplained *= (n - 1) / np.maximum(n - predictors - 1, 1)
        r_squared[varying] = 1 - unexplained
    few = (Reason.NO_OTHER_COLUMN, len(varying) < 2), (Reason.TOO_FEW_SAMPLES, too_few)
    return PerAttribute.masked(r_squared, (Reason.NO_SAMPLES, n == 0), (Reason.CONSTANT_COLUMN, constant), *few)
