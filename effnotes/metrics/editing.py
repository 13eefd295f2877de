"""How well a model was edited: what it should have learnt, kept and forgotten, from answers and probabilities.

Answers are counted as a whole and over the whole vocabulary (see `effnotes.models.answers`). Averages go from facts to groups to
draws to worlds; groups of one draw count alike, whatever their size (`macro_average`).
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


def macro_average(values: Iterable[float] | Mapping[str, float]) -> float:
    """Return the unweighted mean of the values of groups that have rows: sum_g v_g / G over those that are not NaN.

    A group without rows has the value NaN and is dropped, not counted as 0. NaN where all are.
    """
    numbers = np.asarray(list(values.values() if isinstance(values, Mapping) else values), dtype=np.float64)
    defined = numbers[~np.isnan(numbers)]
    return float(defined.mean()) if len(defined) else math.nan


def harmonic_mean(*values: float) -> float:
    """Return k / sum_i (1 / v_i) of k values in [0, 1]: 0 where one of them is 0, NaN where one is undefined or none is given.

    With edit success and retention it is H; with the success on paraphrases between them, S, the shape of ROME's score (Meng et
    al., NeurIPS 2022).

    Raises:
        ValueError: A value is below 0.
    """
    if any(value < 0 for value in values):
        raise ValueError(f"values={values}: a harmonic mean needs values of at least 0")
    if not values or any(math.isnan(value) for value in values):
        return math.nan
    return 0.0 if min(values) == 0 else float(len(values) / sum(1 / value for value in values))


def consequence(follows: ArrayLike, keeps: ArrayLike) -> dict[str, float]:
    """Return how facts are answered that follow from an edited one: the ripple of an edit, or its portability.

    Args:
        follows: (n,) bool; whether the answer is the one that the edit implies.
        keeps: (n,) bool; whether it is the old one. Never both.

    Returns:
        Shares of the facts, which sum to 1: followed (answered as the edit implies), kept (as before), other (in some third way);
        all NaN where n is 0.

    Raises:
        ValueError: The shapes differ, or an answer is both.
    """
    new, old = np.asarray(follows, dtype=bool), np.asarray(keeps, dtype=bool)
    if new.shape != old.shape or new.ndim != 1:
        raise ValueError(f"follows has shape {new.shape} and keeps {old.shape}: both must be (n,)")
    if (new & old).any():
        raise ValueError(f"{int((new & old).sum())} answers are the implied one and the old one; give only facts that change")
    answers = {"followed": new, "kept": old, "other": ~new & ~old}
    return {name: float(given.mean()) if len(given) else math.nan for name, given in answers.items()}


def truth_ratio(probabilities: ArrayLike, truth: ArrayLike, possible: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return p_wrong / (p_wrong + p_true), with p_wrong the mean probability of the wrong objects of the relation.

    0 for a model that is sure of the right object, 1/2 for one that knows nothing, up to 1. After the truth ratio of TOFU (Maini et
    al., COLM 2024), which has a few wrong answers to go by; here the set of answers is closed.

    Args:
        probabilities: (n, O), in [0, 1]; of each object. O is at least 2.
        truth: (n,) integers in [0, O); the right one.
        possible: (n, O) bool; the objects that the relation has, the right one among them (`World.in_use`). An object that no
            sentence states is no wrong answer: it is improbable whatever the model knows. None counts all.

    Returns:
        (n,) float64; NaN where all objects have probability 0, or there is no wrong one.

    Raises:
        ValueError: The shapes do not go together or a number is out of range.
    """
    table, right = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    if table.ndim != 2 or table.shape[1] < 2 or right.shape != table.shape[:1]:
        raise ValueError(f"probabilities of shape {table.shape} and truth of shape {right.shape}: needed are (n, O >= 2) and (n,)")
    if len(right) and not (right.min() >= 0 and right.max() < table.shape[1]):
        raise ValueError(f"truth must be from 0 to {table.shape[1] - 1}; given were {right.min()} to {right.max()}")
    counted = np.ones(table.shape, dtype=bool) if possible is None else np.array(possible, dtype=bool)
    if counted.shape != table.shape:
        raise ValueError(f"possible has shape {counted.shape}: it must be that of probabilities, {table.shape}")
    rows = np.arange(len(table))
    if not counted[rows, right].all():
        raise ValueError(f"truth is not among the possible objects in {int((~counted[rows, right]).sum())} of {len(table)} rows")
    p_true = table[rows, right]
    counted[rows, right] = False
    with np.errstate(invalid="ignore"):
        p_wrong = np.where(counted, table, 0.0).sum(axis=1) / counted.sum(axis=1)
        ratio: NDArray[np.float64] = p_wrong / (p_wrong + p_true)
    return ratio


class ForgetQuality(NamedTuple):
    """A two-sample Kolmogorov-Smirnov test of truth ratios, unlearned against gold."""

    statistic: float  # D, the largest distance of the two distribution functions, in [0, 1]: the effect, whatever n
    log10_p: float  # of its probability: 0 is indistinguishable; -inf where p is below the smallest number. Depends on n


def forget_quality(unlearned: ArrayLike, gold: ArrayLike) -> ForgetQuality:
    """Compare the truth ratios of forgotten facts in an unlearned model and in one that never saw them (TOFU, Maini et al. 2024).

    D = sup_x |F_unlearned(x) - F_gold(x)|, and p its two-sided probability if both were one distribution. Two gold models of
    different seeds give the ceiling.

    Args:
        unlearned: (n,) truth ratios.
        gold: (m,) truth ratios of the model trained without these facts.

    Raises:
        ValueError: One of them is empty or has NaN.
    """
    from scipy import stats

    test = stats.ks_2samp(_sample("unlearned", unlearned), _sample("gold", gold))
    p = float(test.pvalue)
    return ForgetQuality(float(test.statistic), math.log10(p) if p > 0 else -math.inf)


def model_utility(groups: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> float:
    """Return the harmonic mean, over retain groups g and three scores, of mean accuracy, mean p(true) and mean 1 - truth ratio.

    In [0, 1]; after TOFU's model utility, the harmonic mean of three scores on three sets.

    Args:
        groups: For each group (n_g,) right or wrong, (n_g,) probability of the right answer, and (n_g,) truth ratios.

    Returns:
        The mean over the groups that have rows; NaN where none has.
    """
    scores: list[float] = []
    for columns in groups:
        right, probability, ratio = (np.asarray(column, dtype=np.float64) for column in columns)
        if len(right):
            scores += [right.mean(), probability.mean(), 1 - ratio.mean()]
    return harmonic_mean(*scores)


def loss_score(log_p: ArrayLike, inside: ArrayLike) -> NDArray[np.float64]:
    """Return the mean log-probability of the tokens of each text, minus its loss: the LOSS attack's score of membership.

    The higher, the likelier it was trained on (Yeom et al., CSF 2018).

    Args:
        log_p: (n, T); log-probability of each token after those before it, at most 0.
        inside: (n, T) bool; whether there is a token.

    Returns:
        (n,) float64.

    Raises:
        ValueError: The shapes differ, or a text has no token.
    """
    values, mask = _texts(log_p, inside)
    scores: NDArray[np.float64] = np.where(mask, values, 0.0).sum(axis=1) / mask.sum(axis=1)
    return scores


def min_k_score(log_p: ArrayLike, inside: ArrayLike, *, share: float = 0.2) -> NDArray[np.float64]:
    """Return the mean log-probability of the least probable tokens of each text: the Min-K% score of membership.

    The higher, the likelier it was trained on: what was never seen has a few very improbable tokens (Shi et al., ICLR 2024).

    Args:
        log_p: As for `loss_score`.
        inside: As for `loss_score`.
        share: K, share of the tokens that count, in (0, 1]; rounded down, but at least one token.

    Returns:
        (n,) float64.

    Raises:
        ValueError: As for `loss_score`, or `share` is out of range.
    """
    values, mask = _texts(log_p, inside)
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: must be above 0 and at most 1")
    ranked = np.sort(np.where(mask, values, np.inf), axis=1)
    counts = np.maximum(1, np.floor(np.round(share * mask.sum(axis=1), 6))).astype(np.int64)
    scores: NDArray[np.float64] = np.where(np.arange(values.shape[1]) < counts[:, None], ranked, 0.0).sum(axis=1) / counts
    return scores


def membership_auc(members: ArrayLike, controls: ArrayLike) -> float:
    """Return how well scores tell texts that a model was trained on from texts that it never saw: area under the ROC curve.

    P(score of a member > score of a control) + P(equal) / 2: 1/2 for a model that tells nothing, 1 for one that gives all away;
    below 1/2 the members look *less* known than what was never seen, which is as telling.

    Args:
        members: (n,) scores, as of `loss_score` or `min_k_score`.
        controls: (m,) scores of texts alike, but never trained on.

    Raises:
        ValueError: One of them is empty or has NaN.
    """
    from sklearn.metrics import roc_auc_score

    scores = [_sample("members", members), _sample("controls", controls)]
    return float(roc_auc_score(np.repeat([1, 0], [len(sample) for sample in scores]), np.concatenate(scores)))


def extraction_strength(is_greedy: ArrayLike, inside: ArrayLike) -> NDArray[np.float64]:
    """Return 1 - k / |x| for each text x, where k is the shortest prefix after which greedy decoding gives all the rest.

    1 for a text that comes without a prefix, 0 for one whose last token is wrong even after all others (Carlini et al., USENIX
    Security 2021; as a score in OpenUnlearning, Dorna et al. 2025, where the least is 1 / |x|). One pass of teacher forcing is
    enough: decoding gives the rest if and only if each of its tokens is the most probable one after the true ones before it.

    Args:
        is_greedy: (n, T) bool; whether a token is the most probable one after those before it.
        inside: (n, T) bool; whether there is a token.

    Returns:
        (n,) float64 in [0, 1].

    Raises:
        ValueError: The shapes differ, or a text has no token.
    """
    greedy, mask = _texts(is_greedy, inside)
    missed = (greedy == 0) & mask
    strength: NDArray[np.float64] = 1 - (missed * np.arange(1, missed.shape[1] + 1)).max(axis=1, initial=0) / mask.sum(axis=1)
    return strength


def _texts(values: ArrayLike, inside: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    table, mask = np.asarray(values, dtype=np.float64), np.asarray(inside, dtype=bool)
    if table.shape != mask.shape or table.ndim != 2:
        raise ValueError(f"values of shape {table.shape} and inside of shape {mask.shape}: both must be (n, T)")
    if not mask.any(axis=1).all():
        raise ValueError(f"{int((~mask.any(axis=1)).sum())} texts have no token; leave them out")
    return table, mask


def _sample(name: str, values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(sample) or np.isnan(sample).any():
        raise ValueError(f"{name} has {len(sample)} values, {int(np.isnan(sample).sum())} of them NaN; needed: some, and none NaN")
    return sample


def stable_rank(matrix: ArrayLike) -> float:
    """Return the squared Frobenius norm over the squared spectral norm, sum_i s_i^2 / max_i s_i^2, from 1 to the rank.

    A change of a weight matrix with a stable rank near 1 is nearly one outer product, whatever its rank. NaN for a zero matrix.

    Raises:
        ValueError: It is no matrix.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"matrix has shape {array.shape}: needed is (rows, columns)")
    largest = float(np.linalg.norm(array, 2)) if array.size else 0.0
    return float((array**2).sum() / largest**2) if largest > 0 else math.nan
