"""What can be promised of a model: a radius in which no answer changes, a bound of its risk, instructions apart from data."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effnotes.core.checks import check_range


def certified_radius(logits: ArrayLike, labels: ArrayLike, lipschitz: float = 1.0) -> NDArray[np.float64]:
    """Radius of the Euclidean ball around each input in which the right answer cannot change.

    r = (f_y - max_{c != y} f_c) / (sqrt(2) L) (Tsuzuku, Sato & Sugiyama 2018, NeurIPS): the difference of two logits of a network
    that stretches by at most L changes by at most sqrt(2) L times the way that the input has moved. Certified robust accuracy at
    e is the share with r > e.

    Args:
        logits: (n, classes).
        labels: (n,), whole numbers.
        lipschitz: L, above 0.

    Returns:
        (n,); at most 0 where the answer is wrong.
    """
    values, right = np.array(logits, dtype=float), np.asarray(labels)
    rows = np.arange(len(values))
    own = values[rows, right]
    values[rows, right] = -np.inf
    return np.asarray((own - values.max(1)) / (math.sqrt(2) * lipschitz))


def sep_score(in_data: ArrayLike, in_instruction: ArrayLike) -> tuple[float, float]:
    """Separation of instructions from data, and utility (Zverev et al. 2025, ICLR, arXiv 2403.06833).

    A probe is an instruction whose execution leaves a witness in the output. SEP = sum 1[not in_data and in_instruction] /
    sum 1[in_instruction]; utility = mean 1[in_instruction].

    Args:
        in_data: (n,) bool, whether the witness is in the output where the probe stood in the data part of the prompt.
        in_instruction: (n,) bool, the same where it stood in the instruction part.

    Returns:
        Both in [0, 1]; SEP is NaN for a model that executes no probe at all.
    """
    data, instruction = np.asarray(in_data, dtype=bool), np.asarray(in_instruction, dtype=bool)
    executed = instruction.sum()
    return float((~data & instruction).sum() / executed) if executed else math.nan, float(instruction.mean())


def meta_bound(risk: float, kl: float, hyper_kl: float, tasks: int, samples: int, delta: float = 0.05) -> float:
    """PAC-Bayes bound on the risk of a learned learning algorithm on new tasks (Zakerinia, Behjati & Lampert 2024, ICML).

    risk + sqrt((kl + (hyper_kl + log(8 n m / delta) + 1) / n) / (2 m)) + sqrt((hyper_kl + log(2 sqrt(n) / delta)) / (2 n)), as the
    authors' code has it: the first root is for the few samples of a task, the second for the few tasks.

    Args:
        risk: Mean empirical risk of the posteriors, in [0, 1].
        kl: Mean Kullback-Leibler divergence of a task's posterior from its prior, nats.
        hyper_kl: The same of the distribution over algorithms.
        tasks: n, at least 1.
        samples: m of each task, at least 1.
        delta: Probability with which the bound may fail, in (0, 1).

    Returns:
        The bound; above 1 it says nothing.
    """
    check_range(1, whole=True, tasks=tasks, samples=samples)
    within = (kl + (hyper_kl + math.log(8 * tasks * samples / delta) + 1) / tasks) / (2 * samples)
    return risk + math.sqrt(within) + math.sqrt((hyper_kl + math.log(2 * math.sqrt(tasks) / delta)) / (2 * tasks))
