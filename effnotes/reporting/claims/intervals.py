"""Intervals of a mean effect, and the verdict that follows from one.

**The intervals.** The first two are symmetric about the estimate, and exact, or as good as exact, for effects that are normal
across independent units. The third is for effects of few values, for which neither holds.

- `t`: one effect per independent unit, mean ± t(n - 1) · s / √n, with s the standard deviation over the n units.
- `bootstrap`: effects of units within seeds. The estimate is the mean of the seed means, so each seed counts the same however many
  units it has. Seeds are drawn with replacement and bring all their units along; the standard error over the resamples is widened
  by √(S / (S - 1)) and multiplied by the t quantile with S - 1 degrees of freedom, where S is the number of seeds.
- `range`: taken by itself instead of either where at least half of the independent units gave the same effect (means of seeds for
  `bootstrap`), up to rounding. The lower bound is the 2.5% quantile of Σ w_i x_i, where x_0 is the least possible effect, x_1 to
  x_n are the effects, and the weights w are uniform over the simplex, Dirichlet(1, ..., 1); the upper bound is its mirror image.
  Where no range is known, or effects lie outside it, nothing bounds the mean but the range.

Why this bootstrap: drawing the units of a drawn seed again counts their noise twice (Davison & Hinkley 1997, "Bootstrap Methods
and their Application", section 3.8, compare the two), and percentiles of the bootstrap distribution are far too narrow for a
handful of seeds; the factor and the t quantile mend that (Hesterberg 2015, The American Statistician 69, 371-386). Simulated with
normal effects, 3, 5 and 10 seeds, 10 to 50 units and intra-class correlations of 0.1 to 0.8, 2,000 data sets each, this interval
covers 94% to 96% and misses 2.5% on either side. The alternatives, 800 data sets each: percentiles cover 73% to 92% when whole
seeds are drawn and 77% to 97% when units are drawn too; the t-calibrated standard error of the latter covers up to 100%; the
studentised bootstrap covers 93% to 98%, but with 3 seeds it is up to five times as wide, and with 5 it misses about 4% on one side.

Why another one for few values: a coin with heads in nine throws of ten gives ten heads in 35% of repetitions, a spread of zero, and
an interval of no width, beyond the truth. Ties say that effects come in lumps, and n units all miss a lump that holds a share
1 - 0.025^(1/n) of effects (84% for 2 units, 52% for 5) once in forty times, wherever in the range it lies. The bound is that of
Gaffke (2005, Mathematical Methods of Statistics 14, 186-209). For effects at both ends of the range it is the exact binomial
interval of Clopper and Pearson, for n equal effects x it is a + (x - a) · 0.025^(1/n), with a the least possible effect; that it
holds for all effects within the range is a conjecture without a known counterexample (Learned-Miller & Thomas 2019,
arXiv:1905.06208). Of 3,200 random distributions on evenly spaced values with the truth at the margin, all samples enumerated, the
worst is wrongly shown in 2.5% of repetitions on two or three values (2 to 30 units; Student t: in nearly all). Where too few units
are tied to give the lumps away it is more: 2.9% on four values (to 20 units), 3.9% on five (to 13), 9% on seven (to 9), 11% on
eleven (to 6; Student t: over 70%). Effects without ties keep Student t: if all differ, lumps cannot be told from a narrow spread.

What to expect of the bootstrap:

- For a mean it comes to Student t on the seed means, up to the noise of 10,000 resamples (about 1% of the width): more units per
  seed sharpen the seed means, but only more seeds shorten the t quantile (4.3 standard errors for 3 seeds, 2.3 for 10).
- Too narrow for strongly skewed effects, and the `t` interval likewise: with exponential effects and 3 to 10 seeds both cover 89%
  to 94%, and up to 11% of the intervals fall short of the mean, which the long tail pulls away. With few seeds no interval mends
  that: plot the effects.
- Units that are the same in every seed (attributes, a fixed test set) count as fixed: the interval says what another seed would
  give on these units, not what other units would give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from effnotes.reporting.claims.register import Direction, Method

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Verdict = Literal["shown", "contradicted", "not settled"]
IntervalMethod = Literal["t", "bootstrap", "range"]

LEVEL = 0.95
_RESAMPLES = 10_000


def cluster_interval(
    groups: Iterable[npt.ArrayLike], *, limits: tuple[float, float] | None = None, seed: int = 0
) -> tuple[float, float, float]:
    """Estimate a mean with a 95% interval from values that come in independent clusters, such as the units of several seeds.

    The interval that `measure` gives a claim with `interval: bootstrap`, for comparisons that are no registered claim: estimate
    ± t(C - 1) · √(C / (C - 1)) · s*, where C is the number of clusters and s* the standard deviation of the mean over 10,000
    resamples of whole clusters. Module docstring: its sources, what it covers, and what it does not.

    Args:
        groups: One 1-D sequence of finite numbers per cluster, shape (clusters, units) or ragged; at least two clusters, with at
            least one unit each.
        limits: Least and greatest possible value, or None where there are none; a claim's `range`.
        seed: Of the resampling.

    Returns:
        The estimate, which is the mean of the cluster means, so that each cluster counts the same; the lower and the upper bound,
        symmetric about it up to where the limits cut them off. All in the unit of the values. Where at least half of the clusters
        have the same mean, the bounds are those of `range` (module docstring), -inf and inf without limits.

    Raises:
        ValueError: Fewer than two clusters, an empty one, or values that are no finite numbers of that shape.
    """
    import numpy as np

    arrays = as_arrays(groups, "groups", "cluster_interval takes one 1-D sequence of numbers per cluster", "cluster")
    if len(arrays) < 2:
        raise ValueError(f"cluster_interval needs at least two clusters to tell how they differ; got {len(arrays)}.")
    means = np.array([array.mean() for array in arrays])
    return float(means.mean()), *mean_interval(means, "bootstrap", limits, seed=seed)[:2]


def mean_interval(
    units: npt.NDArray[np.float64], method: Method, limits: tuple[float, float] | None, *, seed: int = 0
) -> tuple[float, float, IntervalMethod]:
    """Interval of the mean of at least two independent units (n,), cut off at the limits, and the method that it was made by.

    The method is the given one, or "range" where at least half of the units are the same; then, without limits or with a unit
    outside them, the bounds are the limits themselves, -inf and inf where there are none.
    """
    least, greatest = limits or (-math.inf, math.inf)
    tolerance = max(1e-9 * (greatest - least if limits else float(abs(units).max())), 1e-12)  # rounding tells no units apart
    if not _half_equal(units, tolerance):
        lo, hi = map(float, t_interval(units) if method == "t" else bootstrap_interval(units, seed=seed))
        return max(lo, least), min(hi, greatest), method
    if limits is None or units.min() < least - tolerance or units.max() > greatest + tolerance:
        return least, greatest, "range"
    return *range_interval(units, least, greatest), "range"


def _half_equal(units: npt.NDArray[np.float64], tolerance: float) -> bool:
    """Say whether the shortest half of the units (n,), of at least two, has no width."""
    import numpy as np

    rising, reach = np.sort(units), max(len(units) + 1, 4) // 2 - 1
    return bool((rising[reach:] - rising[: len(units) - reach] <= tolerance).any())


def as_arrays(
    given: npt.ArrayLike | Iterable[npt.ArrayLike], name: str, wanted: str, group: str | None
) -> list[npt.NDArray[np.float64]]:
    """Check numbers and return them as one 1-D float array per group, or as a single one where there are no groups.

    Args:
        given: One sequence per group, or one sequence.
        name: Of the argument, for a message.
        wanted: Says in a message who wants what.
        group: What a group is, for a message; None where there are none. A group must not be empty.

    Raises:
        ValueError: A shape is wrong, a group is empty, or a number is not finite.
    """
    import numpy as np

    try:
        arrays = [np.array(part, dtype=np.float64) for part in ([given] if group is None else list(given))]  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}; these are no such numbers ({error}).") from error
    for number, array in enumerate(arrays):
        where, place = ("", name) if group is None else (f" at position {number}", f"{name}[{number}]")
        if array.ndim != 1:
            raise ValueError(f"{wanted}; got an array of shape {array.shape}{where}.")
        if group is not None and array.size == 0:
            raise ValueError(f"{wanted}; got none{where}. Leave out a {group} in which nothing is defined, and say so.")
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            shown = ", ".join(f"{place}[{i}] = {array[i]}" for i in bad[:5])
            more = f" and {bad.size - 5} more" if bad.size > 5 else ""
            every = f", in every {group}" if group else ""
            raise ValueError(f"{wanted}, all finite; {shown}{more}. Leave out a unit whose value is undefined{every}, and say so.")
    return arrays


def t_quantile(df: int) -> float:
    """How many standard errors wide half an interval is."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + LEVEL) / 2))


def t_interval(effects: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Student t interval of the mean over the last axis: effects (..., n), bounds (...)."""
    n = effects.shape[-1]
    centre = effects.mean(axis=-1)
    # Centred first, so that identical effects have no spread from the rounding of their mean; likewise below.
    half = t_quantile(n - 1) * (effects - centre[..., None]).std(axis=-1, ddof=1) / math.sqrt(n)
    return centre - half, centre + half


def bootstrap_interval(
    seed_means: npt.NDArray[np.float64], *, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """t-calibrated bootstrap interval over the last axis: means of each seed's units (..., S), bounds (...).

    A drawn seed brings all its units, so its mean is all that a resample needs of it.
    """
    import numpy as np

    n_seeds = seed_means.shape[-1]
    centre = seed_means.mean(axis=-1)
    away = seed_means - centre[..., None]
    # The variance of the resampled means, without listing them: they are sums over the seeds, weighted by how often each is drawn.
    variance = ((away @ _drawn_covariance(n_seeds, seed)) * away).sum(axis=-1) / n_seeds**2
    half = t_quantile(n_seeds - 1) * math.sqrt(n_seeds / (n_seeds - 1)) * np.sqrt(variance.clip(0))
    return centre - half, centre + half


@lru_cache(maxsize=64)
def _drawn_covariance(n_seeds: int, seed: int) -> npt.NDArray[np.float64]:
    """Covariance (S, S), over the resamples, of how often each seed is drawn."""
    import numpy as np

    counts = np.random.default_rng(seed).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=_RESAMPLES)
    return np.cov(counts, rowvar=False, bias=True)


def range_interval(effects: npt.NDArray[np.float64], least: float, greatest: float) -> tuple[float, float]:
    """Gaffke's bounds of the mean: effects (n,) from `least` to `greatest`."""
    shares = ((effects - least) / (greatest - least)).clip(0, 1)
    return least + (greatest - least) * _gaffke_bound(shares), greatest - (greatest - least) * _gaffke_bound(1 - shares)


def _gaffke_bound(shares: npt.NDArray[np.float64]) -> float:
    """Lower bound of the mean of values (n,) in [0, 1]: the 2.5% quantile of their and a zero's mean under random weights."""
    import numpy as np
    from scipy.interpolate import BSpline
    from scipy.optimize import brentq

    knots = np.sort(np.append(shares, 0.0))
    if knots[-1] == 0:
        return 0.0
    # Its density is a B-spline (Curry & Schoenberg 1966, J. Anal. Math. 17, 71-107), log-concave: 1/e of it lies below its mean.
    spline, area = BSpline.basis_element(knots), knots[-1] / len(shares)
    return float(brentq(lambda bound: spline.integrate(0.0, bound) / area - (1 - LEVEL) / 2, 0.0, knots.mean(), xtol=1e-15))


def verdict(direction: Direction, margin: float, lo: float, hi: float) -> Verdict:
    """Judge an interval by the rule of `effnotes.reporting.claims`."""
    if direction == "decrease":
        return verdict("increase", margin, -hi, -lo)
    if direction == "equivalence":
        shown, contradicted = -margin < lo and hi < margin, lo > margin or hi < -margin
    else:
        bar = -margin if direction == "noninferiority" else margin
        shown, contradicted = lo > bar, hi < bar
    return "shown" if shown else "contradicted" if contradicted else "not settled"
