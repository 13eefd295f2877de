"""How sure a model is, and whether it has the right to be."""

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias.arrays import as_binary, as_probabilities, check_same_shape
from effnotes.metrics.bias.per_attribute import BoolArray, PerAttribute, Reason, ratio

_ECE_BINS = 10


def uncertain(p: ArrayLike, *, half_width: float = 0.4) -> BoolArray:
    """Mark the predictions that are uncertain: |p - 1/2| < half_width, strictly, wherever decision thresholds lie.

    The default is 0.1 < p < 0.9; a half-width of 0.1 gives the band 0.4 < p < 0.6 of high uncertainty.

    Args:
        p: probabilities in [0, 1], shape (n, K), e.g. `probabilities(logits)`.
        half_width: of the band, > 0.

    Returns:
        Shape (n, K). A probability on the edge of the band is not uncertain.

    Raises:
        ValueError: probabilities outside [0, 1], a wrong shape, a half-width that is not positive.

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
    """
    probability = as_probabilities(p)
    if not half_width > 0:
        raise ValueError(f"half_width must be positive, not {half_width}")
    return np.abs(probability - 0.5) < half_width


def uncertainty(p: ArrayLike, *, half_width: float = 0.4) -> PerAttribute:
    """Share of samples whose prediction is uncertain, mean(|p - 1/2| < half_width), in [0, 1].

    Args:
        p: probabilities in [0, 1], shape (n, K).
        half_width: as in `uncertain`.

    Returns:
        K values; undefined without samples.

    Raises:
        ValueError: as in `uncertain`.

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
    """
    inside = uncertain(p, half_width=half_width)
    return PerAttribute.masked(ratio(inside.sum(0), len(inside)), (Reason.NO_SAMPLES, len(inside) == 0))


def expected_calibration_error(p: ArrayLike, labels: ArrayLike) -> PerAttribute:
    """Expected calibration error of P(y = 1), Σ_b (n_b / n) · |mean_b p - mean_b y|, in [0, 1].

    Ten bins of equal width; p falls into bin min(⌊10 p⌋, 9), so that p = 1 joins the last one. Empty bins
    count nothing. This is the error of the probability of the positive class, not of the confidence in the
    predicted class.

    Args:
        p: probabilities in [0, 1], shape (n, K).
        labels: in {0, 1}, shape (n, K).

    Returns:
        K values; undefined without samples.

    Raises:
        ValueError: shapes that differ, probabilities outside [0, 1], labels other than 0 and 1.

    Source:
        Binned estimator of Naeini, Cooper & Hauskrecht (AAAI 2015), eq. for ECE, on the positive class as in
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622).
    """
    probability, true = as_probabilities(p), as_binary(labels, "labels")
    check_same_shape(probability, true, "p")
    n, attributes = probability.shape
    bins = np.minimum((_ECE_BINS * probability).astype(np.int64), _ECE_BINS - 1)
    cells = bins + _ECE_BINS * np.arange(attributes)
    # n_b |mean p - mean y| is |sum of (p - y)|: no division, hence no empty bin to guard.
    sums = np.bincount(cells.ravel(), weights=(probability - true).ravel(), minlength=_ECE_BINS * attributes)
    error = np.abs(sums.reshape(attributes, _ECE_BINS)).sum(1)
    return PerAttribute.masked(ratio(error, n), (Reason.NO_SAMPLES, n == 0))
