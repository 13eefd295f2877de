"""Noise for private training that later steps partly take back: the banded square root (BSR) of Kalinin & Lampert (2024, NeurIPS).

SGD with momentum beta and weight decay alpha (weights are multiplied by alpha each step; constant rate) sums the gradients X by
a lower-triangular Toeplitz matrix A. With A = B C, releasing A (X + C^-1 Z) is as private as Z is against the sensitivity of C,
and errs by B Z. DP-SGD is C = 1. All that is Toeplitz is told by its first column.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, signal, stats

from effnotes.core.checks import check_range

Column = NDArray[np.float64]


def workload(steps: int, alpha: float = 1.0, beta: float = 0.0) -> Column:
    """First column (steps,) of A: a_k = sum over l <= k of alpha^(k - l) beta^l, for 0 <= beta < alpha <= 1."""
    powers = np.arange(steps)
    return np.asarray(np.convolve(alpha**powers, beta**powers)[:steps])


def banded_root(steps: int, band: int, alpha: float = 1.0, beta: float = 0.0) -> Column:
    """First column (steps,) of C, the square root of A cut after `band` coefficients.

    c_j = sum over i <= j of alpha^(j - i) r_(j - i) r_i beta^i with r_i = binom(2 i, i) / 4^i. A band of all steps is the root
    itself, and of 1 it is DP-SGD.

    Raises:
        ValueError: `band` is below 1 or above `steps`.
    """
    check_range(1, steps, whole=True, band=band)
    index = np.arange(band)
    r = np.concatenate([[1.0], np.cumprod((2 * index[1:] - 1) / (2 * index[1:]))])
    found = np.zeros(steps)
    found[:band] = np.convolve(alpha**index * r, beta**index * r)[:band]
    return found


def sensitivity(column: Column, epochs: int, apart: int) -> float:
    """How far one example moves C X in the Frobenius norm, with gradients of norm at most 1.

    It takes part at most `epochs` times, at least `apart` steps apart: use the same order of batches in every epoch, without
    shuffling, and add no amplification by sampling on top. sens = ||sum over i < epochs of C[:, i apart]||, right for coefficients
    that are not negative and do not rise.
    """
    steps = len(column)
    if (np.diff(column) > 1e-12).any() or (column < 0).any():
        raise ValueError(
            "the coefficients must not be negative and must not rise; with weight decay and momentum in [0, 1] they do not"
        )
    parts = [
        np.concatenate([np.zeros(start), column[: steps - start]]) for start in range(0, epochs * apart, apart) if start < steps
    ]
    return float(np.linalg.norm(np.sum(parts, axis=0)))


def expected_error(of_workload: Column, column: Column, sens: float) -> float:
    """Root mean square error of the released sums at noise multiplier 1: ||A C^-1||_F sens / sqrt(steps)."""
    steps = len(column)
    b = signal.lfilter([1.0], column, of_workload)
    return float(np.sqrt(np.sum(np.arange(steps, 0, -1) * b**2) / steps) * sens)


def correlated(noise: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    """Give C^-1 Z for independent noise Z (steps, numbers): each step takes back a part of those before it, within the band."""
    return np.asarray(signal.lfilter([1.0], np.trim_zeros(column, "b"), noise, axis=0))


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Give the standard deviation, in sensitivities, with which Gaussian noise is (epsilon, delta)-private (Balle & Wang 2018)."""

    def excess(sigma: float) -> float:
        below, above = stats.norm.cdf([0.5 / sigma - epsilon * sigma, -0.5 / sigma - epsilon * sigma])
        return float(below - np.exp(epsilon) * above - delta)

    return float(optimize.brentq(excess, 1e-2, 1e3))
