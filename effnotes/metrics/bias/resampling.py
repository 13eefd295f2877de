"""What other samples would have given: the bootstrap of an audit's changes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from effnotes.core.processes import available_cores
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
    rows = max(1, min(_RESAMPLES, 12_000_000 // n))

    def resample(start: int) -> FloatArray:
        """Resample up to `rows` times, in a stream of random numbers of its own; changes of shape (4, resamples, K)."""
        # How often each sample is drawn: scipy.stats.bootstrap, which gathers whole samples, takes five times as long.
        rng, counts = np.random.default_rng([0, start]), np.empty((min(rows, _RESAMPLES - start), n), np.float32)
        for row in counts:
            row[:] = np.bincount(rng.integers(0, n, n, dtype=np.uint32).astype(np.intp), minlength=n)
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
        return np.stack([accuracy, share, (own[-1] + other[-1]) / n, gap])

    with ThreadPoolExecutor(available_cores()) as threads:  # NumPy draws and multiplies without the interpreter's lock
        changes = list(threads.map(resample, range(0, _RESAMPLES, rows)))
    drawn = np.where(known, np.concatenate(changes, axis=1).swapaxes(0, 1), np.nan)  # (resamples, 4, K)
    means = np.where(known, drawn, 0).sum(2) / np.where(known.any(1), known.sum(1), np.nan)
    return np.quantile(drawn, _LEVELS, axis=0), np.quantile(means, _LEVELS, axis=0)
