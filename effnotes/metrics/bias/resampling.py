"""What other samples would have given: the bootstrap of an audit's changes."""

import numpy as np

from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, ratio
from effnotes.metrics.bias.task import AttributeTask

WITH_INTERVALS = ("accuracy", "bias_amplification", "uncertainty", "false_negative_rate_gap")
"""The metrics whose changes are resampled."""
_RESAMPLES = 999
_BLOCKS = 10_000
_LEVELS = (0.025, 0.975)


def change_bounds(
    task: AttributeTask, raw: tuple[tuple[BoolArray, BoolArray], ...], known: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Bound the changes from the dense to the pruned model, and their means, by percentiles of a bootstrap over samples.

    Of more than 10,000 samples, 10,000 random blocks are drawn, whose sizes differ by one sample at most. Sums over blocks vary as
    those over independent samples do; 10,000 blocks tell their standard deviation to 0.7%, 999 resamples to 2.2% (1 / sqrt(2 n)).

    Args:
        task: labels, groups and rates of n samples.
        raw: decisions of the dense and of the pruned model, and of which each was uncertain, each of shape (n, K).
        known: shape (4, K), which attributes both models define, for each of `WITH_INTERVALS`.

    Returns:
        95% bounds of the changes, shape (2, 4, K), and of their means over the known attributes, (2, 4). NaN where nothing is
        known, or where a resample leaves a change undefined.
    """
    n, sign, rng = len(task.labels), np.where(task.rates[1] > task.rates[0], 1, -1), np.random.default_rng(0)
    (dense, unsure), (pruned, unsure_pruned) = raw
    blocks, order = min(n, _BLOCKS), rng.permutation(n)
    starts = np.arange(blocks) * n // blocks
    both = [task.labels, dense, dense & task.labels, pruned, pruned & task.labels]
    parts = [part & groups[:, None] for groups in (~task.groups, task.groups) for part in both]
    parts += [np.subtract(unsure_pruned, unsure, dtype=np.int8), np.ones((n, 1), np.int8)]
    columns = np.hstack([np.add.reduceat(part[order], starts, dtype=np.float32) for part in parts])
    # How often each block is drawn: scipy.stats.bootstrap, which gathers whole samples, takes many times as long.
    counts = np.empty((_RESAMPLES, blocks), np.float32)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, blocks, blocks), minlength=blocks)
    sums = counts @ columns
    drawn = sums[:, -1:]
    *by_group, doubts = np.split(sums[:, :-1], len(parts) - 1, axis=1)
    (of_other, *other), (of_group, *own) = by_group[: len(both)], by_group[len(both) :]
    measured = []
    for at in (0, 2):
        positive, hits = (own[part] + other[part] for part in (at, at + 1))
        # What is the same for both models leaves their difference: the true share of the group, and the true negatives and
        # positives in accuracy, which is right = negatives - positives predicted + 2 hits.
        share, gap = sign * ratio(own[at], positive), np.abs(ratio(own[at + 1], of_group) - ratio(other[at + 1], of_other))
        measured.append([(2 * hits - positive) / drawn, share, gap])
    accuracy, share, gap = np.diff(measured, axis=0)[0]
    found = np.where(known, np.stack([accuracy, share, doubts / drawn, gap], axis=1), np.nan)  # (resamples, 4, K)
    means = np.where(known, found, 0).sum(2) / np.where(known.any(1), known.sum(1), np.nan)
    return np.quantile(found, _LEVELS, axis=0), np.quantile(means, _LEVELS, axis=0)
