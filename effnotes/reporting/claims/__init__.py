"""Published claims, what a chapter measures for them, and the verdict.

`book/claims.yaml` registers each published claim once, before any run: what one effect is, in which direction it should go and by
how much (the margin m >= 0), and how the interval is made. A chapter hands the effects of independent units to `measure` and shows
what comes back, a card that also carries its numbers as JSON.

**The verdict rule.** Let [lo, hi] be the 95% interval of the mean effect and m the margin of the register.

| direction      | shown              | contradicted      | claim about the mean effect |
|----------------|--------------------|-------------------|-----------------------------|
| increase       | lo > m             | hi < m            | effect > m                  |
| decrease       | hi < -m            | lo > -m           | effect < -m                 |
| equivalence    | -m < lo and hi < m | lo > m or hi < -m | abs(effect) < m             |
| noninferiority | lo > -m            | hi < -m           | effect > -m                 |

Everything else is **not settled**, and so is every claim with fewer than two independent units, or without a range in the
register where at least half of the units gave the same effect. The equivalence row is the pair of one-sided tests of Schuirmann
(1987, J. Pharmacokinet. Biopharm. 15, 657-680) at 2.5% each. The noninferiority row is for claims that something is at least as
good: the effect is the new minus the reference, of a measure of which more is better, and only a loss of m or more speaks against
the claim (Wellek 2010, "Testing Statistical Hypotheses of Equivalence and Noninferiority", 2nd edition, which calls it a one-sided
equivalence problem); it is one one-sided test at 2.5%. Both need a positive margin. No verdict corrects for the number of claims:
each one is wrongly shown in at most 2.5% of repetitions when the truth lies at the margin.

The intervals, their sources and limits: `effnotes.reporting.claims.intervals`. What a run could have settled, and why a claim is
not settled: `effnotes.reporting.claims.power`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from effnotes.reporting.claims import words
from effnotes.reporting.claims.intervals import LEVEL, IntervalMethod, Verdict, as_arrays, cluster_interval, mean_interval, verdict
from effnotes.reporting.claims.power import Unsettled, beyond_bar, power_of, settling_distance
from effnotes.reporting.claims.register import Claim, ClaimError, Source, find_claim, load_register
from effnotes.reporting.claims.words import (
    card_html,
    disagreement,
    format_number,
    independent_text,
    interval_text,
    units_text,
    verdict_sentence,
    what_was_found,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["CLAIM_MIME", "DECIDING", "Claim", "ClaimError", "Measurement", "Source", "beyond_bar", "card_html", "cluster_interval"]
__all__ += ["disagreement", "format_number", "independent_text", "interval_text", "join", "load_register", "measure"]
__all__ += ["settling_distance", "units_text", "verdict_sentence", "what_was_found"]

CLAIM_MIME = "application/vnd.effnotes.claim+json"
"""MIME type under which an executed notebook keeps a measurement."""

DECIDING = ("chapter", "effect", "unit", "range", "unit_of_analysis", "direction", "margin", "method")
"""The fields of `Claim.to_json`, and of `Measurement.to_json`, that a verdict rests on."""


class Measurement(NamedTuple):
    """What a chapter measured for a claim; shows itself as a card."""

    claim: Claim
    estimate: float | None  # mean effect, in claim.unit; None where no effect was defined
    interval: tuple[float, float] | None  # within claim.range; None with fewer than two independent units, or nothing to bound it
    interval_method: IntervalMethod | None  # claim.interval, or "range" where at least half of the units gave the same effect
    level: float  # confidence level of the interval
    n_units: int  # effects in all
    n_seeds: int | None  # for `bootstrap`, seeds or worlds that hold the units; None for `t` where the units are not seeds
    effects: tuple[float, ...] | tuple[tuple[float, ...], ...]  # one per unit; for `bootstrap`, one tuple per seed or world
    verdict: Verdict
    reason: str  # one sentence
    smallest_effect: float | None = None  # settled in four of five such runs (see `power`); None without an interval
    spread: float | None = None  # standard deviation of the effects over independent units
    units_needed: int | None = None  # independent units that would settle so often what `power` says
    unsettled: Unsettled | None = None  # why; None where it is settled
    caution: str = ""  # what another test or a control says against the verdict; empty where nothing does

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values: text, floats, lists, None. `method` is the register's `interval`."""
        measured = {name: value for name, value in self._asdict().items() if name != "claim"}
        return dict(json.loads(json.dumps(self.claim.to_json() | measured)))  # the way there makes lists of tuples

    def __str__(self) -> str:
        return f"{self.claim.id}: {self.verdict}. {words.measured_text(self.to_json())}. {self.reason}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002
        payload = self.to_json()
        return {"text/plain": str(self), "text/html": card_html(payload), CLAIM_MIME: payload}


def measure(
    claim_id: str, effects: npt.ArrayLike | Iterable[npt.ArrayLike], *, caution: str = "", unit: str | None = None, seed: int = 0
) -> Measurement:
    """Estimate a registered claim's effect, with a 95% interval and a verdict.

    The verdict rule is in this module's docstring; the intervals, their sources and limits in that of `intervals`, what the run
    could have settled in that of `power`.

    Args:
        claim_id: Id in the register.
        effects: Finite numbers in the claim's unit. For `interval: t`, shape (units,), one per independent unit. For
            `interval: bootstrap`, one 1-D sequence per seed, shape (seeds, units) or ragged, with at least one unit each.
        caution: A computed sentence where another test or a control disagrees with the verdict; shown with it.
        unit: The unit that the effects are in, checked against the register's when given.
        seed: Of the bootstrap's resampling; `t` draws nothing.

    Returns:
        The measurement. With a single independent unit (for `bootstrap`: a single seed) it has an estimate, no interval, and the
        verdict "not settled"; with none at all, because no effect was defined, it has no estimate either. Where at least half of
        the independent units gave the same effect, the interval is that which holds for any effects within the claim's range, or
        none for a claim without one, and the reason says so. An interval is cut off where the claim's range ends.

    Raises:
        ClaimError: The claim is not registered.
        ValueError: Effects of the wrong shape, NaN, infinite or with a mean outside the claim's range, or another unit than the
            register's.
    """
    claim = find_claim(claim_id, load_register())
    if unit is not None and unit != claim.unit:
        raise ValueError(f"{claim.id}: effects in {unit!r}, but the register has unit {claim.unit!r}; convert them or mend one.")
    groups = _as_groups(claim, effects)
    n_units = sum(len(group) for group in groups)
    independent, what = _independent(claim, groups), words.unit_name(claim.interval, claim.unit_of_analysis)
    kept: tuple[Any, ...] = tuple(tuple(group.tolist()) for group in groups)
    kept = kept if claim.interval == "bootstrap" else kept[0]
    estimate = float(independent.mean()) if n_units else None
    bounds: tuple[float, float] | None = None
    method: IntervalMethod | None = None
    judged: Verdict = "not settled"
    if not n_units:
        why = "No effect was defined in this run, so there is nothing to judge."
    elif len(independent) < 2:
        why = f"A single unit ({what}) gives no interval; at least two are needed."
    else:
        lo, hi, method = mean_interval(independent, claim.interval, claim.range, seed=seed)
        bounds = (lo, hi) if math.isfinite(hi - lo) else None
        judged = verdict(claim.direction, claim.margin, lo, hi)
        parts = [words.reason(claim, judged, bounds)] if bounds else []
        why = " ".join([*parts, words.few_values_text(len(independent), what, claim.range)] if method == "range" else parts)
    n_seeds = len(kept) if claim.interval == "bootstrap" or what == "seed" else None
    could = power_of(claim, independent, method, judged)
    return Measurement(claim, estimate, bounds, method, LEVEL, n_units, n_seeds, kept, judged, why, *could, caution)


def join(register: Mapping[str, Claim], payloads: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put what was measured beside the register, for the scoreboard and the command line.

    Args:
        register: Claims by id.
        payloads: `Measurement.to_json()` of each measured claim, in any order.

    Returns:
        One dictionary per registered claim, in the register's order and with the keys of `Measurement.to_json`. Statement,
        published figure and source are the register's of today. A claim without a payload has the verdict "not measured", and None
        for all that is measured; so has one whose effect, unit, direction, margin or method
        in the register has changed since it was measured, as its verdict does not stand. The `reason` says which it is.

    Raises:
        ClaimError: A payload that is not registered, or a claim measured twice.
    """
    blank: dict[str, Any] = dict.fromkeys(field for field in Measurement._fields if field != "claim")
    blank |= {"level": LEVEL, "verdict": "not measured", "reason": "No run has measured this claim.", "caution": ""}
    rows = {claim.id: claim.to_json() | blank for claim in register.values()}
    measured: set[str] = set()
    for payload in payloads:
        claim = find_claim(str(payload["id"]), register)
        if claim.id in measured:
            raise ClaimError(f"Claim {claim.id!r} was measured twice; measure a claim once, with all its effects.")
        measured.add(claim.id)
        now = claim.to_json()
        changes = [f"{f} was {payload[f]!r} and is {now[f]!r}" for f in DECIDING if payload[f] != now[f]]
        if changes:
            rows[claim.id]["reason"] = f"Measured before the register changed ({'; '.join(changes)}); run its chapter again."
        else:
            rows[claim.id] |= _completed(claim, payload) | now
    return list(rows.values())


def _completed(claim: Claim, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a payload what records of old lack, and what follows from the effect that is worth seeing today."""
    full = {"interval_method": payload["method"], "caution": "", **payload}
    if "smallest_effect" not in payload or payload["worth_seeing"] != claim.worth_seeing:
        method = full["interval_method"] if full["interval"] else None
        full |= power_of(claim, _independent(claim, _as_groups(claim, payload["effects"])), method, payload["verdict"])._asdict()
    return full


def _independent(claim: Claim, groups: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Effects of the independent units (n,): means of seeds for `bootstrap`."""
    import numpy as np

    return np.array([group.mean() for group in groups]) if claim.interval == "bootstrap" else groups[0]


def _as_groups(claim: Claim, effects: npt.ArrayLike | Iterable[npt.ArrayLike]) -> list[npt.NDArray[np.float64]]:
    """One float array per seed, or a single one for `t`."""
    nested = claim.interval == "bootstrap"
    wanted = "one 1-D sequence of effects per seed" if nested else "a 1-D sequence with one effect per independent unit"
    groups = as_arrays(effects, "effects", f"{claim.id}: interval {claim.interval!r} takes {wanted}", "seed" if nested else None)
    least, greatest = claim.range or (-math.inf, math.inf)
    for number, group in enumerate(groups):
        where = f" at position {number}" if nested else ""
        # A single effect may lie outside, such as one attribute's part in a correlation; rounding must not push a mean of 1 out.
        if group.size and not least - 1e-9 <= group.mean() <= greatest + 1e-9:
            mean = f"the mean of the effects{where} is {group.mean():g}"
            raise ValueError(f"{claim.id}: {mean}, but the register has the range {[least, greatest]}; mend one.")
    return groups
