"""Decision thresholds under which a model predicts as many positives as there are."""

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias.arrays import as_scored
from effnotes.metrics.bias.per_attribute import FloatArray


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
