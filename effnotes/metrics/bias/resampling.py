"""What other samples would have given: the bootstrap of an audit's changes."""

import numpy as np

from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, ratio
from effnotes.metrics.bias.task import AttributeTask

WITH_INTERVALS = ("accuracy", "bias_amplification", "uncertainty", "false_negative_rate_gap")
"""The metrics whose changes are resampled."""
_RESAMPLES = 999
_LEVELS = (0.025, 0.975)


def change_bounds(
    task: AttributeTask, raw: tuple[tuple[BoolArray, BoolArray], ...], known: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Bound the changes from the dense to the pruned model, and their means, by percentiles of a bootstrap over samples.

    Args:
        task: labels, groups and rates of n samples.
        raw: decisions of the dense and of the pruned model, and of which each was uncertain, each of shape (n, K).
        known: shape (4, K), which attributes both models define, for each of `WITH_INTERVALS`.

    Returns:
        95% bounds of the changes, shape (2, 4, K), and of their means over the known attributes, (2, 4). NaN where nothing is
        known, or where a resample leaves a change undefined.
    """
    n, sign = len(task.labels), np.where(task.rates[1] > task.rates[0], 1, -1)
    order, outside = np.argsort(task.groups, kind="stable"), int((~task.groups).sum())  # so that sums by group are those of slices
    (dense, unsure), (pruned, unsure_pruned) = raw
    both = [dense, dense & task.labels, pruned, pruned & task.labels]
    parts = [task.labels, *both, np.subtract(unsure_pruned, unsure, dtype=np.int8)]
    columns = np.hstack([part[order].astype(np.float32) for part in parts])
    changes, rng, rows = [], np.random.default_rng(0), max(1, min(_RESAMPLES, 12_000_000 // n))
    buffer, draws = np.empty((rows, n), np.float32), np.empty(n, np.intp)  # in memory once: fresh pages take as long as the draws
    for start in range(0, _RESAMPLES, rows):
        # How often each sample is drawn: scipy.stats.bootstrap, which gathers whole samples, takes five times as long.
        counts = buffer[: _RESAMPLES - start]
        for row in counts:
            draws[:] = rng.integers(0, n, n, dtype=np.uint32)
            row[:] = np.bincount(draws, minlength=n)
        sums = [counts[:, part] @ columns[part] for part in (slice(outside), slice(outside, n))]
        (of_other, *other), (of_group, *own) = (each.reshape(len(counts), len(parts), -1).swapaxes(0, 1) for each in sums)
        measured = []
        for at in (0, 2):
            positive, hits = (own[part] + other[part] for part in (at, at + 1))
            # What is the same for both models leaves their difference: the true share of the group, and the true negatives and
            # positives in accuracy, which is right = negatives - positives predicted + 2 hits.
            share, gap = sign * ratio(own[at], positive), np.abs(ratio(own[at + 1], of_group) - ratio(other[at + 1], of_other))
            measured.append([(2 * hits - positive) / n, share, gap])
        accuracy, share, gap = np.diff(measured, axis=0)[0]
        changes.append(np.stack([accuracy, share, (own[-1] + other[-1]) / n, gap]))
    drawn = np.where(known, np.concatenate(changes, axis=1).swapaxes(0, 1), np.nan)  # (resamples, 4, K)
    means = np.where(known, drawn, 0).sum(2) / np.where(known.any(1), known.sum(1), np.nan)
    return np.quantile(drawn, _LEVELS, axis=0), np.quantile(means, _LEVELS, axis=0)
