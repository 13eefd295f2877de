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

Everything else is **not settled**, and so is every claim with fewer than two independent units. The equivalence row is the pair
of one-sided tests of Schuirmann (1987, J. Pharmacokinet. Biopharm. 15, 657-680) at 2.5% each. The noninferiority row is for
claims that something is at least as good: the effect is the new minus the reference, of a measure of which more is better, and
only a loss of m or more speaks against the claim (Wellek 2010, "Testing Statistical Hypotheses of Equivalence and
Noninferiority", 2nd edition, which calls it a one-sided equivalence problem); it is one one-sided test at 2.5%. Both need a
positive margin. No verdict corrects for the number of claims: each one is wrongly shown in at most 2.5% of repetitions when the
truth lies at the margin.

**The intervals.** Both are symmetric about the estimate, and exact, or as good as exact, for effects that are normal across
independent units.

- `t`: one effect per independent unit, mean ± t(n - 1) · s / √n, with s the standard deviation over the n units.
- `bootstrap`: effects of units within seeds. The estimate is the mean of the seed means, so each seed counts the same however many
  units it has. Seeds are drawn with replacement and bring all their units along; the standard error over the resamples is widened
  by √(S / (S - 1)) and multiplied by the t quantile with S - 1 degrees of freedom, where S is the number of seeds.

Why this bootstrap: drawing the units of a drawn seed again counts their noise twice (Davison & Hinkley 1997, "Bootstrap Methods
and their Application", section 3.8, compare the two), and percentiles of the bootstrap distribution are far too narrow for a
handful of seeds; the factor and the t quantile mend that (Hesterberg 2015, The American Statistician 69, 371-386). Simulated with
normal effects, 3, 5 and 10 seeds, 10 to 50 units and intra-class correlations of 0.1 to 0.8, 2,000 data sets each, this interval
covers 94% to 96% and misses 2.5% on either side. The alternatives, 800 data sets each: percentiles cover 73% to 92% when whole
seeds are drawn and 77% to 97% when units are drawn too; the t-calibrated standard error of the latter covers up to 100%; the
studentised bootstrap covers 93% to 98%, but with 3 seeds it is up to five times as wide, and with 5 it misses about 4% on one side.

What to expect of it:

- For a mean it comes to Student t on the seed means, up to the noise of 10,000 resamples (about 1% of the width): more units per
  seed sharpen the seed means, but only more seeds shorten the t quantile (4.3 standard errors for 3 seeds, 2.3 for 10).
- Too narrow for strongly skewed effects, and the `t` interval likewise: with exponential effects and 3 to 10 seeds both cover 89%
  to 94%, and up to 11% of the intervals fall short of the mean, which the long tail pulls away. With few seeds no interval mends
  that: plot the effects.
- Units that are the same in every seed (attributes, a fixed test set) count as fixed: the interval says what another seed would
  give on these units, not what other units would give.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from effnotes.core.errors import nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "CLAIM_MIME",
    "Claim",
    "ClaimError",
    "Measurement",
    "Source",
    "card_html",
    "cluster_interval",
    "format_number",
    "join",
    "load_register",
    "measure",
    "units_text",
]

CLAIM_MIME = "application/vnd.effnotes.claim+json"
"""MIME type under which an executed notebook keeps a measurement."""

Direction = Literal["increase", "decrease", "equivalence", "noninferiority"]
Method = Literal["t", "bootstrap"]
Verdict = Literal["shown", "contradicted", "not settled"]

_LEVEL = 0.95
_RESAMPLES = 10_000
_ID = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_CHAPTER = re.compile(r"[a-z][a-z0-9_]*")
# With a margin of zero no interval could show an equivalence, and a noninferiority would be an increase.
_NEED_A_MARGIN = ("equivalence", "noninferiority")
_METHOD_NAMES = {"t": "Student t", "bootstrap": "bootstrap of whole seeds"}


class ClaimError(ValueError):
    """A register that breaks the rules, or a claim that is not in it."""


@dataclass(frozen=True)
class Source:
    """Where a claim was published."""

    key: str  # of the bibliography, for instance "iofinova2023bias"
    where: str  # abstract, section, table or figure


@dataclass(frozen=True)
class Claim:
    """One published claim, as the register has it."""

    id: str  # topic.kebab-name
    chapter: str  # file stem of the chapter that measures it
    statement: str  # the claim in one sentence
    source: Source
    published: str | None  # the published figure as text; None where none is given
    effect: str  # what one effect is
    unit: str  # of an effect
    range: tuple[float, float] | None  # least and greatest possible mean effect, or None where it has no bounds
    unit_of_analysis: str  # what an independent unit is; for `bootstrap`, what a unit within a seed is
    direction: Direction
    margin: float  # >= 0, in the effect's unit; > 0 for equivalence and noninferiority
    interval: Method


@dataclass(frozen=True)
class Measurement:
    """What a chapter measured for a claim; shows itself as a card."""

    claim: Claim
    estimate: float | None  # mean effect, in claim.unit; None where no effect was defined
    interval: tuple[float, float] | None  # within claim.range; None with fewer than two independent units
    level: float  # confidence level of the interval
    n_units: int  # effects in all
    n_seeds: int | None  # None where the units are not seeds and not nested in them
    effects: tuple[float, ...] | tuple[tuple[float, ...], ...]  # one per unit; for `bootstrap`, one tuple per seed
    verdict: Verdict
    reason: str  # one sentence

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values: text, floats, lists, None. `method` is the register's `interval`."""
        return _registered(self.claim) | {
            "estimate": self.estimate,
            "interval": None if self.interval is None else list(self.interval),
            "level": self.level,
            "n_units": self.n_units,
            "n_seeds": self.n_seeds,
            "effects": [list(e) if isinstance(e, tuple) else e for e in self.effects],
            "verdict": self.verdict,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        payload = self.to_json()
        return f"{self.claim.id}: {self.verdict}. {_measured_text(payload)}. {self.reason}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002
        payload = self.to_json()
        return {"text/plain": str(self), "text/html": card_html(payload), CLAIM_MIME: payload}


def load_register(path: str | os.PathLike[str] | None = None) -> dict[str, Claim]:
    """Read and check the register of claims.

    Looked for, in this order: `path`; the environment variable EFFNOTES_CLAIMS; `book/claims.yaml` of the checkout that holds this
    package; the copy inside the installed package.

    Args:
        path: A YAML file holding a list of entries with the fields of `Claim`, all of them required; `published` and `range`
            may be null.

    Returns:
        Claims by id, in the file's order; empty for an empty file.

    Raises:
        ClaimError: No file, no valid YAML, an unknown, missing, repeated or ill-typed field, a repeated id, or a direction, margin
            or interval that is not allowed. The message names file, entry, field and what is allowed.
    """
    file = _find_register() if path is None else Path(path)
    try:
        entries = yaml.load(file.read_text(encoding="utf-8"), Loader=_RegisterLoader)
    except OSError as error:
        raise ClaimError(f"{file}: the register of claims cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ClaimError(f"{file}: the register of claims is not UTF-8 text.") from error
    except yaml.YAMLError as error:
        raise ClaimError(f"{file}: no valid YAML. {error}") from error
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise ClaimError(f"{file}: a register is a list of entries ('- id: ...'), not {_kind(entries)}.")
    register: dict[str, Claim] = {}
    for number, entry in enumerate(entries, start=1):
        name = f"{file}, entry {number}"
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            name += f" ({entry['id']})"
        claim = _parse_claim(entry, name)
        if claim.id in register:
            first = list(register).index(claim.id) + 1
            raise ClaimError(f"{name}: field 'id': already used by entry {first}; give each claim an id of its own.")
        register[claim.id] = claim
    return register


def measure(
    claim_id: str,
    effects: npt.ArrayLike | Iterable[npt.ArrayLike],
    *,
    unit: str | None = None,
    seed: int = 0,
) -> Measurement:
    """Estimate a registered claim's effect, with a 95% interval and a verdict.

    Module docstring: the intervals, the verdict rule, their sources and limits.

    Args:
        claim_id: Id in the register.
        effects: Finite numbers in the claim's unit. For `interval: t`, shape (units,), one per independent unit. For
            `interval: bootstrap`, one 1-D sequence per seed, shape (seeds, units) or ragged, with at least one unit each.
        unit: The unit that the effects are in, checked against the register's when given.
        seed: Of the bootstrap's resampling; `t` draws nothing.

    Returns:
        The measurement. With a single independent unit (for `bootstrap`: a single seed) it has an estimate, no interval, and the
        verdict "not settled"; with none at all, because no effect was defined, it has no estimate either. Identical effects give
        an interval of zero width, and the reason says so. An interval is cut off where the claim's range ends.

    Raises:
        ClaimError: The claim is not registered.
        ValueError: Effects of the wrong shape, NaN, infinite or with a mean outside the claim's range, or another unit than the
            register's.
    """
    claim = _lookup(claim_id, load_register())
    if unit is not None and unit != claim.unit:
        raise ValueError(f"{claim.id}: effects in {unit!r}, but the register has unit {claim.unit!r}; convert them or mend one.")
    groups = _as_groups(claim, effects)
    import numpy as np

    kept: tuple[float, ...] | tuple[tuple[float, ...], ...]
    n_seeds: int | None
    if not sum(len(group) for group in groups):
        n_seeds = 0 if claim.interval == "bootstrap" or claim.unit_of_analysis == "seed" else None
        reason = "No effect was defined in this run, so there is nothing to judge."
        return Measurement(claim, None, None, _LEVEL, 0, n_seeds, (), "not settled", reason)
    if claim.interval == "t":
        independent, independent_name = groups[0], claim.unit_of_analysis
        kept = tuple(groups[0].tolist())
        n_seeds = len(kept) if claim.unit_of_analysis == "seed" else None
    else:
        independent, independent_name = np.array([group.mean() for group in groups]), "seed"
        kept = tuple(tuple(group.tolist()) for group in groups)
        n_seeds = len(kept)
    estimate = float(independent.mean())

    bounds: tuple[float, float] | None = None
    verdict: Verdict = "not settled"
    reason = f"A single unit ({independent_name}) gives no interval; at least two are needed."
    if len(independent) >= 2:
        if claim.interval == "t":
            lo, hi = map(float, _t_interval(independent))
        else:
            _, lo, hi = cluster_interval(groups, seed=seed)
        least, greatest = claim.range or (-math.inf, math.inf)
        bounds = (max(lo, least), min(hi, greatest))
        verdict = _verdict(claim.direction, claim.margin, *bounds)
        reason = _reason(claim, verdict, bounds)
        if np.ptp(independent) == 0:
            reason += f" It has zero width because all {len(independent)} units ({independent_name}) gave the same effect."
    return Measurement(
        claim=claim,
        estimate=estimate,
        interval=bounds,
        level=_LEVEL,
        n_units=sum(len(group) for group in groups),
        n_seeds=n_seeds,
        effects=kept,
        verdict=verdict,
        reason=reason,
    )


def cluster_interval(groups: Iterable[npt.ArrayLike], *, seed: int = 0) -> tuple[float, float, float]:
    """Estimate a mean with a 95% interval from values that come in independent clusters, such as the units of several seeds.

    The interval that `measure` gives a claim with `interval: bootstrap`, for comparisons that are no registered claim: estimate
    ± t(C - 1) · √(C / (C - 1)) · s*, where C is the number of clusters and s* the standard deviation of the mean over 10,000
    resamples of whole clusters. Module docstring: its sources, what it covers, and what it does not.

    Args:
        groups: One 1-D sequence of finite numbers per cluster, shape (clusters, units) or ragged; at least two clusters, with at
            least one unit each.
        seed: Of the resampling.

    Returns:
        The estimate, which is the mean of the cluster means, so that each cluster counts the same; the lower and the upper bound,
        symmetric about it. All in the unit of the values. Clusters of the same mean give an interval of zero width.

    Raises:
        ValueError: Fewer than two clusters, an empty one, or values that are no finite numbers of that shape.
    """
    import numpy as np

    arrays = _as_arrays(groups, "groups", "cluster_interval takes one 1-D sequence of numbers per cluster", "cluster")
    if len(arrays) < 2:
        raise ValueError(f"cluster_interval needs at least two clusters to tell how they differ; got {len(arrays)}.")
    means = np.array([array.mean() for array in arrays])
    lo, hi = _bootstrap_interval(means, seed=seed)
    return float(means.mean()), float(lo), float(hi)


def join(register: Mapping[str, Claim], payloads: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put what was measured beside the register, for the scoreboard and the command line.

    Args:
        register: Claims by id.
        payloads: `Measurement.to_json()` of each measured claim, in any order.

    Returns:
        One dictionary per registered claim, in the register's order and with the keys of `Measurement.to_json`. Statement,
        published figure and source are the register's of today. A claim without a payload has the verdict "not measured", and None
        for `estimate`, `interval`, `n_units`, `n_seeds` and `effects`; so has one whose effect, unit, direction, margin or method
        in the register has changed since it was measured, as its verdict does not stand. The `reason` says which it is.

    Raises:
        ClaimError: A payload that is not registered, or a claim measured twice.
    """
    rows = {claim.id: _registered(claim) | _NOT_MEASURED for claim in register.values()}
    measured: set[str] = set()
    for payload in payloads:
        claim = _lookup(str(payload["id"]), register)
        if claim.id in measured:
            raise ClaimError(f"Claim {claim.id!r} was measured twice; measure a claim once, with all its effects.")
        measured.add(claim.id)
        now = _registered(claim)
        changes = [f"{f} was {payload[f]!r} and is {now[f]!r}" for f in _DECIDING if payload[f] != now[f]]
        if changes:
            rows[claim.id]["reason"] = f"Measured before the register changed ({'; '.join(changes)}); run its chapter again."
        else:
            rows[claim.id] = dict(payload) | now
    return list(rows.values())


def card_html(payload: Mapping[str, Any]) -> str:
    """Draw a measurement as an HTML card.

    Args:
        payload: `Measurement.to_json()`, or a row of `join`.

    Returns:
        One `<div>` with the classes `effnotes-claim` and `effnotes-claim--<verdict>`, without colours of its own, and the anchor
        `claim-<id>` with the id's dot as a hyphen. All text is escaped.
    """
    verdict = payload["verdict"]
    verdict_class = verdict.replace(" ", "-")
    published = "no figure given" if payload["published"] is None else payload["published"]
    source = f"{_short_citation(payload['source']['key'])}, {payload['source']['where']}"
    rows = [
        ("Published", f"{published} ({source})"),
        ("Measured", _measured_text(payload)),
        ("Effect", payload["effect"]),
        ("Shown if", _criterion(payload["direction"], payload["margin"])),
        ("Units", units_text(payload)),
    ]
    figures = "".join(f"<div><dt>{term}</dt><dd>{html.escape(text)}</dd></div>" for term, text in rows)
    return (
        f'<div class="effnotes-claim effnotes-claim--{verdict_class}" role="group"'
        f' id="claim-{html.escape(payload["id"].replace(".", "-"))}"'
        f' aria-label="Claim {html.escape(payload["id"])}: {verdict}">'
        f'<p class="effnotes-claim__verdict">Claim <code>{html.escape(payload["id"])}</code>: '
        f'<strong class="effnotes-verdict effnotes-verdict--{verdict_class}">{verdict}</strong></p>'
        f'<p class="effnotes-claim__statement">{html.escape(payload["statement"])}</p>'
        f'<dl class="effnotes-claim__figures">{figures}</dl>'
        f'<p class="effnotes-claim__reason">{html.escape(payload["reason"])}</p>'
        "</div>"
    )


# ---- register


class _RegisterLoader(yaml.SafeLoader):
    """A safe loader that refuses a field given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"field {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_FIELDS = tuple(Claim.__dataclass_fields__)
_SOURCE_FIELDS = tuple(Source.__dataclass_fields__)
_CHOICES = {"direction": get_args(Direction), "interval": get_args(Method)}
# The fields of `Measurement.to_json` that a verdict rests on.
_DECIDING = ("chapter", "effect", "unit", "range", "unit_of_analysis", "direction", "margin", "method")
_NOT_MEASURED: dict[str, Any] = {
    "estimate": None,
    "interval": None,
    "level": _LEVEL,
    "n_units": None,
    "n_seeds": None,
    "effects": None,
    "verdict": "not measured",
    "reason": "No run has measured this claim.",
}


def _find_register() -> Path:
    named = os.environ.get("EFFNOTES_CLAIMS")
    if named:
        return Path(named)
    package = Path(__file__).resolve().parents[1]
    candidates = [package.parent / "book" / "claims.yaml", package / "_book" / "claims.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ClaimError(f"No register of claims: neither {candidates[0]} nor {candidates[1]} exists. Name one in EFFNOTES_CLAIMS.")


def _parse_claim(entry: object, name: str) -> Claim:
    fields = _check_fields(entry, _FIELDS, name)
    for field in _FIELDS:
        value = fields[field]
        if field in ("source", "margin", "range") or (field == "published" and value is None):
            continue
        hint = " or null" if field == "published" else ""
        if not isinstance(value, str) or not value.strip():
            raise ClaimError(f"{name}: field {field!r} must be text{hint}, not {_kind(value)}; put it in quotes.")
    for field, allowed in _CHOICES.items():
        if fields[field] not in allowed:
            raise ClaimError(f"{name}: field {field!r} is {_one_of(fields[field], allowed)}")
    if not _ID.fullmatch(fields["id"]):
        raise ClaimError(
            f"{name}: field 'id' must be topic.kebab-name in lower case, such as 'bias.ba-grows'; got {fields['id']!r}."
        )
    if not _CHAPTER.fullmatch(fields["chapter"]):
        raise ClaimError(
            f"{name}: field 'chapter' must be a chapter's file stem, such as 'pruning_bias'; got {fields['chapter']!r}."
        )
    margin = fields["margin"]
    positive = fields["direction"] in _NEED_A_MARGIN
    least = f"> 0 for the direction {fields['direction']!r}" if positive else ">= 0"
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
        raise ClaimError(f"{name}: field 'margin' must be a finite number {least}, such as 0.02; got {_kind(margin)}.")
    if margin < 0 or (margin == 0 and positive):
        raise ClaimError(f"{name}: field 'margin' must be {least}; got {margin}. The direction carries the sign.")
    bounds = _parse_range(fields["range"], name)
    source = _check_fields(fields["source"], _SOURCE_FIELDS, f"{name}: field 'source'")
    for field in _SOURCE_FIELDS:
        if not isinstance(source[field], str) or not source[field].strip():
            raise ClaimError(f"{name}: field 'source.{field}' must be text, not {_kind(source[field])}; put it in quotes.")
    return Claim(**{**fields, "source": Source(**source), "margin": float(margin), "range": bounds})


def _parse_range(value: object, name: str) -> tuple[float, float] | None:
    if value is None:
        return None
    match value:
        case [int() | float() as low, int() | float() as high] if low < high and math.isfinite(low) and math.isfinite(high):
            return float(low), float(high)
    raise ClaimError(f"{name}: field 'range' must be null or two rising finite numbers, such as [-1, 1]; got {_kind(value)}.")


def _check_fields(entry: object, allowed: tuple[str, ...], name: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ClaimError(f"{name}: must be a mapping with the fields {', '.join(allowed)}, not {_kind(entry)}.")
    for field in entry:
        if field not in allowed:
            raise ClaimError(f"{name}: unknown field {_one_of(str(field), allowed)}")
    missing = [field for field in allowed if field not in entry]
    if missing:
        raise ClaimError(f"{name}: missing field {missing[0]!r}. An entry has {', '.join(allowed)}.")
    return entry


def _lookup(claim_id: str, register: Mapping[str, Claim]) -> Claim:
    if claim_id not in register:
        known = ", ".join(register) or "none at all"
        raise ClaimError(f"Claim {claim_id!r} is not registered.{nearest(claim_id, register)} Registered: {known}.")
    return register[claim_id]


def _one_of(given: str, allowed: Iterable[str]) -> str:
    return f"{given!r}.{nearest(given, allowed)} Allowed: {', '.join(allowed)}."


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"


def _registered(claim: Claim) -> dict[str, Any]:
    """The register's part of `Measurement.to_json`."""
    return {
        "id": claim.id,
        "chapter": claim.chapter,
        "statement": claim.statement,
        "published": claim.published,
        "source": {"key": claim.source.key, "where": claim.source.where},
        "effect": claim.effect,
        "unit": claim.unit,
        "range": None if claim.range is None else list(claim.range),
        "unit_of_analysis": claim.unit_of_analysis,
        "direction": claim.direction,
        "margin": claim.margin,
        "method": claim.interval,
    }


# ---- statistics


def _as_groups(claim: Claim, effects: npt.ArrayLike | Iterable[npt.ArrayLike]) -> list[npt.NDArray[np.float64]]:
    """One float array per seed, or a single one for `t`."""
    nested = claim.interval == "bootstrap"
    wanted = "one 1-D sequence of effects per seed" if nested else "a 1-D sequence with one effect per independent unit"
    what = f"{claim.id}: interval {claim.interval!r} takes {wanted}"
    groups = _as_arrays(effects, "effects", what, "seed" if nested else None)
    for number, group in enumerate(groups):
        where = f" at position {number}" if nested else ""
        # A single effect may lie outside, such as one attribute's part in a correlation; rounding must not push a mean of 1 out.
        if claim.range is not None and group.size and not claim.range[0] - 1e-9 <= group.mean() <= claim.range[1] + 1e-9:
            raise ValueError(
                f"{claim.id}: the mean of the effects{where} is {group.mean():g}, but the register has the range "
                f"{list(claim.range)}; mend one."
            )
    return groups


def _as_arrays(
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
        parts = [given] if group is None else list(given)  # type: ignore[arg-type]
        arrays = [np.array(part, dtype=np.float64) for part in parts]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}; these are no such numbers ({error}).") from error
    for number, array in enumerate(arrays):
        where = "" if group is None else f" at position {number}"
        if array.ndim != 1:
            raise ValueError(f"{wanted}; got an array of shape {array.shape}{where}.")
        if group is not None and array.size == 0:
            raise ValueError(f"{wanted}; got none{where}. Leave out a {group} in which nothing is defined, and say so.")
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            place = name if group is None else f"{name}[{number}]"
            shown = ", ".join(f"{place}[{i}] = {array[i]}" for i in bad[:5])
            more = f" and {bad.size - 5} more" if bad.size > 5 else ""
            raise ValueError(
                f"{wanted}, all finite; {shown}{more}. Leave out a unit whose value is undefined"
                f"{'' if group is None else f', in every {group}'}, and say so."
            )
    return arrays


def _t_quantile(df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + _LEVEL) / 2))


def _t_interval(effects: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Student t interval of the mean over the last axis: effects (..., n), bounds (...)."""
    n = effects.shape[-1]
    centre = effects.mean(axis=-1)
    # Centred first, so that identical effects have no spread from the rounding of their mean; likewise below.
    half = _t_quantile(n - 1) * (effects - centre[..., None]).std(axis=-1, ddof=1) / math.sqrt(n)
    return centre - half, centre + half


def _bootstrap_interval(
    seed_means: npt.NDArray[np.float64], *, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """t-calibrated bootstrap interval over the last axis: means of each seed's units (..., S), bounds (...).

    A drawn seed brings all its units, so its mean is all that a resample needs of it.
    """
    import numpy as np

    n_seeds = seed_means.shape[-1]
    centre = seed_means.mean(axis=-1)
    counts = np.random.default_rng(seed).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=_RESAMPLES)
    resampled = (seed_means - centre[..., None]) @ (counts.T / n_seeds)
    half = _t_quantile(n_seeds - 1) * math.sqrt(n_seeds / (n_seeds - 1)) * resampled.std(axis=-1)
    return centre - half, centre + half


def _verdict(direction: Direction, margin: float, lo: float, hi: float) -> Verdict:
    if direction == "equivalence":
        shown, contradicted = -margin < lo and hi < margin, lo > margin or hi < -margin
    elif direction == "increase":
        shown, contradicted = lo > margin, hi < margin
    elif direction == "noninferiority":
        shown, contradicted = lo > -margin, hi < -margin
    else:
        shown, contradicted = hi < -margin, lo > -margin
    return "shown" if shown else "contradicted" if contradicted else "not settled"


# ---- words


def _reason(claim: Claim, verdict: Verdict, bounds: tuple[float, float]) -> str:
    interval = f"The 95% interval {_interval_text(bounds)}"
    if claim.direction == "equivalence":
        band = f"{format_number(-claim.margin)} to {format_number(claim.margin)}"
        ends = {
            "shown": f"lies wholly within the margin, {band}.",
            "contradicted": f"lies wholly outside the margin, {band}.",
            "not settled": f"lies neither wholly within nor wholly outside the margin, {band}.",
        }
    else:
        sides = ("below", "above") if claim.direction == "decrease" else ("above", "below")
        bar = claim.margin if claim.direction == "increase" else -claim.margin
        ends = {
            "shown": f"lies wholly {sides[0]} the margin, {format_number(bar)}.",
            "contradicted": f"lies wholly {sides[1]} the margin, {format_number(bar)}.",
            "not settled": f"includes the margin, {format_number(bar)}.",
        }
    return f"{interval} {ends[verdict]}"


def _short_citation(key: str) -> str:
    """Read a bibliography key made of author, year and a word as a person would say it: author and year."""
    match = re.match(r"([a-z]+)(\d{4})", key)
    return f"{match.group(1).capitalize()} {match.group(2)}" if match else key


def _criterion(direction: Direction, margin: float) -> str:
    if direction == "equivalence":
        return f"equivalence: 95% interval within {format_number(-margin)} to {format_number(margin)}"
    if direction == "increase":
        return f"increase: 95% interval above {format_number(margin)}"
    if direction == "noninferiority":
        return f"noninferiority: 95% interval above {format_number(-margin)}"
    return f"decrease: 95% interval below {format_number(-margin)}"


def _measured_text(payload: Mapping[str, Any]) -> str:
    if payload["estimate"] is None:
        return "not measured" if payload["n_units"] is None else "no effect defined"
    if payload["interval"] is None:
        return f"{format_number(payload['estimate'])} (no interval), {payload['unit']}"
    bounds = payload["interval"]
    estimate = format_number(payload["estimate"], spread=bounds[1] - bounds[0])
    method = _METHOD_NAMES[payload["method"]]
    return f"{estimate}, 95% interval {_interval_text(bounds)} ({method}), {payload['unit']}"


def _interval_text(bounds: Iterable[float]) -> str:
    lo, hi = bounds
    return f"[{format_number(lo, spread=hi - lo)}, {format_number(hi, spread=hi - lo)}]"


def units_text(payload: Mapping[str, Any]) -> str:
    """Say how many independent units a verdict rests on, and how many effects they hold where that differs."""
    if payload["n_units"] is None:
        return f"none yet ({payload['unit_of_analysis']})"
    if payload["method"] == "bootstrap":
        return f"{payload['n_seeds']} seeds, with {payload['n_units']} effects in all ({payload['unit_of_analysis']})"
    return f"{payload['n_units']} ({payload['unit_of_analysis']})"


def format_number(value: float, spread: float = 0.0) -> str:
    """Text with a true minus sign: two digits of `spread` where there is one, else three significant digits."""
    if value == 0:
        return "0"
    digits = f".{min(max(1 - math.floor(math.log10(spread)), 0), 9)}f" if spread > 0 else ".3g"
    return f"{value:{digits}}".replace("-", "−")
