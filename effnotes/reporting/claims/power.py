"""Power: what a run could have settled, from the spread between its independent units.

Let the bar be what an interval is held against: m for an increase or an equivalence, -m for a decrease or a noninferiority, with m
the margin. A run settles a claim if its whole interval lies on one side of the bar, which an effect beyond the bar by delta brings
about in four of five repetitions.

| direction      | smallest effect that would have been settled | means                                        | held against     |
|----------------|----------------------------------------------|----------------------------------------------|------------------|
| increase       | m + delta                                    | so much more would have been shown           | m + distance     |
| decrease       | -(m + delta)                                 | so much less would have been shown           | -(m + distance)  |
| noninferiority | delta - m                                    | negative: even a small loss would have been  | 0                |
| equivalence    | m + delta                                    | so large a difference would have contradicted | m + distance    |

The distance is the margin, as an effect of twice the margin lies one margin beyond the bar (for a noninferiority no difference at
all does); where the margin is 0 it is the effect that the register names as worth seeing. A claim that is not settled had *too few
units* if delta is more than the distance. Else the run could have settled an effect at that distance, and the true one is likely
to lie *too close to the margin*, or the run was one of the one in five; the units needed are then those for an effect as far from
the bar as the estimate is.

Delta is found by the method that made the interval, in units of which s is the spread (standard deviation over n independent
units, means of seeds for `bootstrap`):

- `t`: delta = λ s / √n with P(T(n - 1; λ) > t(n - 1)) = 0.8, where T is Student's non-central t (Johnson, Kotz & Balakrishnan 1995,
  "Continuous Univariate Distributions 2", chapter 31).
- `bootstrap`: the interval moves with the effects, so delta is the 80% quantile of its half-width minus its error, over simulated
  runs of n normal means, each with the bootstrap's own interval. It comes to `t` up to the noise of the bootstrap's resamples,
  about 1% for few units and less than 0.3% above 12, where delta is that of `t`.
- `range`: n units that all gave the effect x settle the claim if the bound a + (x - a) 0.025^(1/n) passes the bar, so delta =
  r (40^(1/n) - 1), where r is how far the other end a of the range lies from the bar. None without a range.

The spread is an estimate and a handful of units give a rough one: of five normal units it is off by more than a third once in three
times. A smallest effect may lie beyond the claim's range; then no possible effect would have been settled in four of five.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from effnotes.reporting.claims.intervals import LEVEL, IntervalMethod, Verdict, bootstrap_interval, t_quantile
from effnotes.reporting.claims.register import Claim

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Unsettled = Literal["too few units", "too close to the margin"]

POWER = 0.8
_SIMULATED = 12  # most units for which the bootstrap is simulated
_DRAWS = 60_000  # normal means in such a simulation


class Power(NamedTuple):
    """What the spread between units says of a measurement; the fields of `Measurement` of these names."""

    smallest_effect: float | None = None
    spread: float | None = None
    units_needed: int | None = None
    unsettled: Unsettled | None = None


def power_of(claim: Claim, units: npt.NDArray[np.float64], method: IntervalMethod | None, judged: Verdict) -> Power:
    """Say what a run could have settled.

    Args:
        claim: What was measured.
        units: Effects of independent units, shape (n,); means of seeds for `bootstrap`.
        method: By which the interval was made, None where there is none.
        judged: The verdict.
    """
    n = len(units)
    unsettled: Unsettled | None = "too few units" if judged == "not settled" else None
    if n < 2 or method is None:
        return Power(unsettled=unsettled)
    spread, reach, distance = float(units.std(ddof=1)), _reach(claim), settling_distance(claim)
    found = delta(n, spread, method, reach)
    if found is None:
        return Power(None, spread, None, unsettled)
    if unsettled and found <= distance:
        unsettled, mean = "too close to the margin", float(units.mean())
        distance = abs((abs(mean) if claim.direction == "equivalence" else mean) - beyond_bar(claim, 0.0))
    return Power(beyond_bar(claim, found), spread, units_needed(spread, distance, method, reach), unsettled)


def settling_distance(claim: Claim) -> float:
    """How far beyond the bar an effect lies that a run is to settle: the margin, or where that is 0 the effect worth seeing."""
    return claim.margin or claim.worth_seeing or 0.0


def beyond_bar(claim: Claim, distance: float) -> float:
    """The effect so far beyond the bar, on the side that the module's table gives."""
    if claim.direction == "noninferiority":
        return distance - claim.margin
    return -(claim.margin + distance) if claim.direction == "decrease" else claim.margin + distance


def delta(n: int, spread: float, method: IntervalMethod, reach: float | None = None) -> float | None:
    """Distance from the bar at which an effect is settled in four of five repetitions.

    Args:
        n: Independent units, at least two.
        spread: Their standard deviation; `range` does not ask for it.
        method: By which the interval is made.
        reach: For `range`: how far the end of the range on the other side lies from the bar.

    Returns:
        The distance, in the effect's unit; None for `range` without a reach.
    """
    if method == "range":
        return None if reach is None else reach * math.expm1(-math.log((1 - LEVEL) / 2) / n)
    return spread * (_bootstrap_delta(n) if method == "bootstrap" and n <= _SIMULATED else _t_delta(n))


def units_needed(spread: float, distance: float, method: IntervalMethod, reach: float | None = None) -> int | None:
    """Fewest units with a `delta` of at most the distance; None for `range` without a reach, or for no distance.

    Args:
        spread, method, reach: As for `delta`.
        distance: From the bar, in the effect's unit.
    """
    if distance <= 0 or (method == "range" and reach is None):
        return None
    if method == "range":
        least = -math.log((1 - LEVEL) / 2) / math.log1p(distance / reach) if reach else 2.0
    else:  # with the spread known, a normal distribution in place of t: never more than are needed, and few less
        least = (spread / distance * _normal_delta()) ** 2
    n = max(2, math.floor(least))
    while (found := delta(n, spread, method, reach)) is not None and found > distance:
        n += 1
    return n


def _reach(claim: Claim) -> float | None:
    if claim.range is None:
        return None
    bar = beyond_bar(claim, 0.0)
    return claim.range[1] - bar if claim.direction == "decrease" else bar - claim.range[0]


def _normal_delta() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2) + ndtri(POWER))


@cache
def _t_delta(n: int) -> float:
    """For a spread of 1."""
    from scipy.special import nctdtrinc

    return float(nctdtrinc(n - 1, 1 - POWER, t_quantile(n - 1))) / math.sqrt(n)


@cache
def _bootstrap_delta(n: int) -> float:
    """For a spread of 1."""
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr

    lo, hi = bootstrap_interval(np.random.default_rng(0).standard_normal((_DRAWS // n, n)), seed=0)
    # The mean of normal effects does not depend on how they differ, so the chance of its error is known for each half-width.
    return float(brentq(lambda distance: ndtr((distance - (hi - lo) / 2) * math.sqrt(n)).mean() - POWER, 0.0, hi.max() - lo.min()))
