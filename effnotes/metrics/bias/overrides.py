"""Acting on doubt: replace a pruned model's decisions where the dense model was unsure, and see what it buys."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.amplification import bias_amplification
from effnotes.metrics.bias.attribute_table import tidy
from effnotes.metrics.bias.calibration import calibrated_thresholds, uncertain
from effnotes.metrics.bias.classification import accuracy, positive_rate
from effnotes.metrics.bias.per_attribute import BoolArray
from effnotes.metrics.bias.task import AttributeTask


@by_name()
def override(predictions: ArrayLike, replacements: ArrayLike, selected: ArrayLike) -> BoolArray:
    """Replace the selected decisions: by a dense model's, or by the true labels, standing for a human's.

    Args:
        predictions: in {0, 1}, shape (n, K).
        replacements: in {0, 1}, shape (n, K).
        selected: 1 where a decision is replaced, shape (n, K), for instance `uncertain(p_dense)`.

    Returns:
        Shape (n, K).

    Raises:
        ValueError: shapes that differ, entries other than 0 and 1.
    """
    first, second = arrays.as_binary(predictions, "predictions"), arrays.as_binary(replacements, "replacements")
    chosen = arrays.as_binary(selected, "selected")
    if not first.shape == second.shape == chosen.shape:
        raise ValueError(f"all three arrays must have one shape, not {first.shape}, {second.shape} and {chosen.shape}")
    return np.where(chosen, second, first)


@by_name()
def select_randomly(counts: ArrayLike, samples: int, *, seed: int) -> BoolArray:
    """Select that many samples of each attribute at random, without replacement: the control of every selection.

    Args:
        counts: of the samples to select, shape (K,), from 0 to `samples`.
        samples: n.
        seed: of the selection.

    Returns:
        Shape (n, K), with `counts[k]` times True in column k.

    Raises:
        ValueError: counts out of range or of another form.
    """
    wanted = _as_counts(counts, samples)
    return _smallest(np.random.default_rng(seed).random((samples, len(wanted))), wanted)


@by_name()
def select_least_certain(logits: ArrayLike, counts: ArrayLike) -> BoolArray:
    """Select that many samples of each attribute whose probability is nearest to 1/2, by |logit|.

    Args:
        logits: finite, shape (n, K).
        counts: of the samples to select, shape (K,), from 0 to n.

    Returns:
        Shape (n, K), with `counts[k]` times True in column k; of tied samples, the earlier ones.

    Raises:
        ValueError: logits that are not finite, counts out of range or of another length.
    """
    scores = arrays.as_logits(logits)
    wanted = _as_counts(counts, len(scores))
    if len(wanted) != scores.shape[1]:
        raise ValueError(f"counts must have shape ({scores.shape[1]},), one per attribute, not ({len(wanted)},)")
    # Of the logit, since distinct logits can round to one probability.
    return _smallest(np.abs(scores), wanted)


@by_name()
def override_study(
    dense_logits: ArrayLike,
    sparse_logits: ArrayLike,
    task: AttributeTask,
    *,
    validation: tuple[ArrayLike, ArrayLike, ArrayLike],
    seed: int = 0,
) -> pd.DataFrame:
    """Calibration of the thresholds, override of doubtful samples, and both: bias, accuracy and cost.

    The sparse model decides, at threshold 0 or at thresholds calibrated on the validation samples. Then, per
    attribute, the decisions on S_k = {i : 0.1 < p_dense,ik < 0.9} are replaced by those of the dense model
    (at 0 or at its own calibrated thresholds, respectively) or by the true labels, standing for a human. Two
    controls replace as many decisions of each attribute: on random samples, and on those where the sparse
    model is least certain; with human labels that needs no dense model at run time. S_k does not move with the
    thresholds.

    Args:
        dense_logits: finite, shape (n, K), on the test samples.
        sparse_logits: likewise.
        task: the test samples' labels, groups and names, and what the training set says of them.
        validation: dense logits, sparse logits and labels of validation samples, each of shape (v, K).
        seed: of the random control.

    Returns:
        A tidy table with the columns `calibrated` (bool), `override` ("none", "dense" or "label"), `selection`
        ("none", "dense uncertainty", "random" or "sparse uncertainty"), `attribute`, `metric`, `value` and
        `reason`. Metrics: bias_amplification, accuracy and share_overridden (of the samples, in [0, 1]; what
        a human would have to look at). `summarise` averages it.

    Raises:
        ValueError: shapes that differ, values out of range.

    Source:
        That acting on samples found by the dense model attenuates bias, and the calibration: Iofinova, Peste &
        Alistarh (CVPR 2023, arXiv 2304.12622). The controls are this book's own.
    """
    dense, true = arrays.as_scored(dense_logits, task.labels, "dense_logits")
    sparse, _ = arrays.as_scored(sparse_logits, true, "sparse_logits")
    *of_validation, validation_labels = validation
    calibrated_cuts = [calibrated_thresholds(logits, validation_labels) for logits in of_validation]
    doubtful = uncertain(arrays.probabilities(dense))
    at_random = select_randomly(doubtful.sum(0), len(true), seed=seed)
    selections = {"dense uncertainty": doubtful, "random": at_random}
    selections["sparse uncertainty"] = select_least_certain(sparse, doubtful.sum(0))
    tables = []
    for calibrated, (dense_cut, sparse_cut) in ((False, (None, None)), (True, calibrated_cuts)):
        own = arrays.hard_predictions(sparse, sparse_cut)
        cases = [("none", "none", own, np.zeros_like(true))]
        for name, replacements in (("dense", arrays.hard_predictions(dense, dense_cut)), ("label", true)):
            cases += [(name, how, override(own, replacements, chosen), chosen) for how, chosen in selections.items()]
        for name, how, decisions, chosen in cases:
            results = {"bias_amplification": bias_amplification(decisions, true, task.protected, rates=task.rates)}
            results |= {"accuracy": accuracy(decisions, true), "share_overridden": positive_rate(chosen)}
            tables.append(tidy(results, task.names, calibrated=calibrated, override=name, selection=how))
    return pd.concat(tables, ignore_index=True)


def _as_counts(counts: ArrayLike, samples: int) -> NDArray[np.int64]:
    array = np.asarray(counts)
    if array.ndim != 1 or array.dtype.kind not in "iu" or ((array < 0) | (array > samples)).any():
        raise ValueError(f"counts must be integers from 0 to {samples}, one per attribute, not {counts!r}")
    return array.astype(np.int64)


def _smallest(values: NDArray[np.float64], counts: NDArray[np.int64]) -> BoolArray:
    """Mark the `counts[k]` smallest entries of each column, the earlier ones of tied entries."""
    order = np.argsort(values, axis=0, kind="stable")
    chosen = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.arange(len(values))[:, None] < counts, axis=0)
    return chosen
