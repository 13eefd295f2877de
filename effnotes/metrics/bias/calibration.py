"""How sure a model is, whether it has the right to be, and thresholds under which it predicts as many positives as there are."""

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.arrays import as_binary, as_probabilities, as_scored, check_same_shape
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, Reason, ratio

_ECE_BINS = 10


@by_name()
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
    distance = probability - 0.5
    inside: BoolArray = np.abs(distance, out=distance) < half_width
    return inside


@by_name()
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


@by_name()
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
    cells = (_ECE_BINS * probability).astype(np.intp)
    np.minimum(cells, _ECE_BINS - 1, out=cells)
    cells += _ECE_BINS * np.arange(attributes)
    # n_b |mean p - mean y| is |sum of (p - y)|: no division, hence no empty bin to guard.
    sums = np.bincount(cells.ravel(), weights=(probability - true).ravel(), minlength=_ECE_BINS * attributes)
    return PerAttribute.masked(ratio(np.abs(sums.reshape(attributes, _ECE_BINS)).sum(1), n), (Reason.NO_SAMPLES, n == 0))


@by_name()
def calibrated_thresholds(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Threshold of each attribute above which lie as many validation logits as there are true positives.

    With m true positives of attribute k among n validation samples,

        τ_k = (m-th largest logit + (m + 1)-th largest logit) / 2,

    so that `hard_predictions(logits, τ)`, which compares strictly, predicts exactly m positives. Where the
    m-th and the (m + 1)-th largest are tied, no threshold does; τ_k is their common value, and all samples
    tied at it are predicted negative. Without positives τ_k is +inf, with positives only -inf.

    A model pruned far under-predicts the rarer value, and so does a dense one a little: give both their own
    thresholds before comparing them. It takes validation data, never the data that is then reported. Where
    the validation set was resampled (for instance with a planted feature in half of the samples), the
    thresholds fit that distribution.

    Args:
        logits: of the validation samples, finite, shape (n, K).
        labels: of the same samples in {0, 1}, shape (n, K), n >= 1.

    Returns:
        Shape (K,), on the logits.

    Raises:
        ValueError: shapes that differ, logits that are not finite, labels other than 0 and 1, no samples.

    Source:
        Iofinova, Peste & Alistarh (CVPR 2023, arXiv 2304.12622), whose published code takes the m-th largest
        logit itself; under a strict comparison that predicts m - 1 positives.
    """
    scores, true = as_scored(logits, labels)
    n, attributes = scores.shape
    if n == 0:
        raise ValueError("thresholds need at least one validation sample, but logits has none")
    positives = true.sum(0)
    ordered = np.sort(scores, axis=0)
    columns = np.arange(attributes)
    upper = ordered[np.minimum(n - positives, n - 1), columns]
    lower = ordered[np.maximum(n - positives - 1, 0), columns]
    # Half a sum of halves cannot overflow; between neighbouring numbers it may round up to the upper one.
    middle = upper / 2 + lower / 2
    middle = np.where(middle < upper, middle, lower)
    return np.where(positives == 0, np.inf, np.where(positives == n, -np.inf, middle))
