"""Classes that exclude one another: read against the rest, as attributes are, and what is said of the most probable one."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.calibration import expected_calibration_error, uncertainty
from effnotes.metrics.bias.per_attribute import FloatArray
from effnotes.metrics.bias.task import AttributeTask


@by_name()
def log_odds(logits: FloatArray) -> FloatArray:
    """Log-odds of each class's softmax probability against the rest, z_c - log Σ_{j≠c} exp z_j, from logits (n, C), C >= 2."""
    most = np.arange(logits.shape[1]) == logits.argmax(1)[:, None]
    whole = logsumexp(logits, axis=1, keepdims=True)
    # Leaving the most probable class out of the sum keeps the digits that 1 - p would lose where p is near 1.
    others = logsumexp(np.where(most, -np.inf, logits), axis=1, keepdims=True)
    rest: FloatArray = np.where(most, others, whole + np.log1p(-np.exp(np.where(most, -np.inf, logits - whole))))
    return logits - rest


@by_name()
def class_metrics(scores: ArrayLike, task: AttributeTask) -> dict[str, float]:
    """Measure how often the most probable class is right, and how sure the model is of it.

    Args:
        scores: log-odds of each class, finite, shape (n, C), n >= 1; see `log_odds`.
        task: labels (n, C), of which each row has a single 1, and the classes' rates in training.

    Returns:
        `accuracy`, the share of images whose most probable class is theirs (top-1); `majority_accuracy`, that of always naming the
        class that is the most frequent in training; `uncertainty` and `expected_calibration_error` of the probability of the most
        probable class, which for the second is top-label calibration. All in [0, 1]. `interdependence` and `label_interdependence`
        are NaN: what excludes one another hangs together by definition.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.

    Source:
        Top-label calibration error: Guo, Pleiss, Sun & Weinberger (ICML 2017), with the ten bins of `expected_calibration_error`.
    """
    odds, true = arrays.as_scored(scores, task.labels)
    right = np.take_along_axis(true, odds.argmax(1)[:, None], axis=1)
    p = arrays.probabilities(odds.max(1, keepdims=True))
    found = {"accuracy": right.mean(), "majority_accuracy": true[:, task.train_rate.argmax()].mean()}
    found |= {"uncertainty": uncertainty(p).values[0], "expected_calibration_error": expected_calibration_error(p, right).values[0]}
    found |= dict.fromkeys(("interdependence", "label_interdependence"), np.nan)
    return {name: float(value) for name, value in found.items()}


@by_name(groups=("attributes",))
def macro_f1(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> pd.Series:
    """Average the F1 of single classes over groups of classes, such as those that are about equally frequent in training.

    The F1 of a class is 2 TP / (2 TP + FP + FN) of the most probable class, so 0 for a class that is never named.

    Args:
        scores: logits or log-odds, finite, shape (n, C).
        labels: shape (n, C), of which each row has a single 1.
        groups: group of each class, shape (C,).

    Returns:
        In [0, 1], by group, rising. A class that no label names has no F1, as in WILDS; a group of such classes is left out.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.

    Source:
        Koh et al., "WILDS" (ICML 2021), macro F1 of iWildCam.
    """
    from sklearn.metrics import f1_score

    odds, true = arrays.as_scored(scores, labels)
    if np.shape(groups) != true.shape[1:]:
        raise ValueError(f"groups must have shape {true.shape[1:]}, one entry per class, not {np.shape(groups)}")
    present = np.flatnonzero(true.any(0))
    each = f1_score(true.argmax(1), odds.argmax(1), labels=present, average=None, zero_division=0)
    return pd.Series(each).groupby(np.asarray(groups)[present]).mean()
