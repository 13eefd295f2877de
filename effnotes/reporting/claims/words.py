"""What is said of a measurement: the reason of a verdict, and the card that a page shows."""

import html
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from effnotes.reporting.claims.intervals import Verdict
from effnotes.reporting.claims.register import Claim, Direction, Method

_METHOD_NAMES = {"t": "Student t", "bootstrap": "bootstrap of whole {}s", "range": "bounds over the range of effects"}
# Where the interval lies, seen from what it is held against, if the claim is shown and if it is contradicted.
_SIDES: dict[Direction, tuple[str, str]] = {"increase": ("above", "below"), "noninferiority": ("above", "below")}
_SIDES |= {"decrease": ("below", "above"), "equivalence": ("within", "outside")}


def card_html(payload: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> str:
    """Draw a measurement as an HTML card.

    Args:
        payload: `Measurement.to_json()`, or a row of `join`.
        other: The same claim's of another run, such as the kept record's beside this build's.

    Returns:
        One `<div>` with the classes `effnotes-claim` and `effnotes-claim--<verdict>`, without colours of its own, and the anchor
        `claim-<id>` with the id's dot as a hyphen. All text is escaped.
    """
    name, verdict, direction = html.escape(payload["id"]), html.escape(payload["verdict"]), payload["direction"]
    verdict_class = verdict.replace(" ", "-")
    source = f"{_short_citation(payload['source']['key'])}, {payload['source']['where']}"
    rows = [
        ("Published", f"{payload['published'] or 'no figure given'} ({source})"),
        ("Measured", measured_text(payload)),
        ("Effect", payload["effect"]),
        ("Shown if", f"{direction}: 95% interval {_SIDES[direction][0]} {_bar(direction, payload['margin'])}"),
        ("Units", units_text(payload)),
        # A kept record of old lacks the rest; `join` adds it.
        ("Would have settled", smallest_text(payload)),
        ("Not settled because", unsettled_text(payload)),
        ("But", payload.get("caution", "")),
    ]
    if other is not None and other["verdict"] != "not measured":
        said = f"{other['verdict']}; {measured_text(other)}; {units_text(other)}"
        rows += [("In another run", said), ("The runs disagree", disagreement(payload, other))]
    figures = "".join(f"<div><dt>{term}</dt><dd>{html.escape(text)}</dd></div>" for term, text in rows if text)
    return (
        f'<div class="effnotes-claim effnotes-claim--{verdict_class}" role="group"'
        f' id="claim-{name.replace(".", "-")}" aria-label="Claim {name}: {verdict}">'
        f'<p class="effnotes-claim__verdict">Claim <code>{name}</code>: '
        f'<strong class="effnotes-verdict effnotes-verdict--{verdict_class}">{verdict}</strong></p>'
        f'<p class="effnotes-claim__statement">{html.escape(payload["statement"])}</p>'
        f'<dl class="effnotes-claim__figures">{figures}</dl>'
        f'<p class="effnotes-claim__reason">{html.escape(payload["reason"])}</p>'
        "</div>"
    )


def reason(claim: Claim, verdict: Verdict, bounds: tuple[float, float]) -> str:
    """Say in a sentence why an interval leads to a verdict."""
    shown, contradicted = _SIDES[claim.direction]
    between = "lies neither wholly within nor wholly outside" if claim.direction == "equivalence" else "includes"
    where = {"shown": f"lies wholly {shown}", "contradicted": f"lies wholly {contradicted}"}.get(verdict, between)
    return f"The 95% interval {interval_text(bounds)} {where} the margin, {_bar(claim.direction, claim.margin)}."


def few_values_text(n: int, what: str, limits: tuple[float, float] | None) -> str:
    """Say in a sentence why the interval of n units, of which at least half gave the same effect, is not the register's."""
    why = f"At least half of the {n} units ({what}) gave the same effect, so their spread does not tell how far off others may lie"
    if limits is None:
        return f"{why}; the register gives no range to bound those, so there is no interval."
    return f"{why}; the interval holds whatever they are, from {' to '.join(map(format_number, limits))}."


def _bar(direction: Direction, margin: float) -> str:
    """Say what an interval is held against."""
    if direction == "equivalence":
        return f"{format_number(-margin)} to {format_number(margin)}"
    return format_number(margin if direction == "increase" else -margin)


def _short_citation(key: str) -> str:
    """Read a bibliography key made of author, year and a word as a person would say it: author and year."""
    match = re.match(r"([a-z]+)(\d{4})", key)
    return f"{match.group(1).capitalize()} {match.group(2)}" if match else key


def measured_text(payload: Mapping[str, Any]) -> str:
    """Say estimate, interval and unit of a measurement."""
    if payload["estimate"] is None:
        return "not measured" if payload["n_units"] is None else "no effect defined"
    if payload["interval"] is None:
        return f"{format_number(payload['estimate'])} (no interval), {payload['unit']}"
    bounds = payload["interval"]
    estimate = format_number(payload["estimate"], spread=bounds[1] - bounds[0])
    method = _METHOD_NAMES[payload.get("interval_method", payload["method"])]  # kept records of old have the register's alone
    method = method.format(unit_name(payload["method"], payload["unit_of_analysis"]))
    return f"{estimate}, 95% interval {interval_text(bounds)} ({method}), {payload['unit']}"


def what_was_found(payloads: Mapping[str, Mapping[str, Any]], said: Mapping[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Give a sentence of `verdict_sentence` and the id of each claim that was measured.

    Args:
        payloads: As `Measurement.to_json` gives them and a kept record holds them, by id.
        said: By id, in the order to be told: what is said where the claim is shown, and where it is contradicted. What is shown
            also stands behind "Whether" where it is not settled.
    """
    return [
        (verdict_sentence(payloads[name], shown, contradicted, _lowered(shown)), name)
        for name, (shown, contradicted) in said.items()
        if name in payloads
    ]


def _lowered(sentence: str) -> str:
    """Begin a sentence in lower case, unless its first word has capitals of its own."""
    first = sentence.split()[0]
    return sentence if first[1:] != first[1:].lower() else sentence[0].lower() + sentence[1:]


def verdict_sentence(payload: Mapping[str, Any], shown: str, contradicted: str, question: str) -> str:
    """Say what was found for a claim: in words by its verdict, then the estimate, its interval and the independent units.

    Args:
        payload: As `Measurement.to_json` gives it and a kept record holds it.
        shown: What is said where the claim is shown.
        contradicted: What is said where it is contradicted.
        question: What stands behind "Whether" where it is not settled.
    """
    said = {"shown": shown, "contradicted": contradicted}.get(payload["verdict"], f"Whether {question} is not settled")
    if payload["estimate"] is None:
        return f"{said}: this run has nothing to measure it on."
    bounds = payload["interval"]
    estimate = format_number(payload["estimate"], spread=bounds[1] - bounds[0] if bounds else 0.0)
    interval = f"95% interval {interval_text(bounds)}" if bounds else "no interval"
    return f"{said} (difference in {payload['unit']} {estimate}, {interval}, {independent_text(payload)})."


def interval_text(bounds: Iterable[float]) -> str:
    """Write an interval with two digits of its width."""
    lo, hi = bounds
    return f"[{format_number(lo, spread=hi - lo)}, {format_number(hi, spread=hi - lo)}]"


def units_text(payload: Mapping[str, Any]) -> str:
    """Say how many independent units a verdict rests on, and how many effects they hold where that differs."""
    if payload["n_units"] is None:
        return f"none yet ({payload['unit_of_analysis']})"
    if payload["method"] == "bootstrap":
        return f"{independent_text(payload)}, with {payload['n_units']} effects in all ({payload['unit_of_analysis']})"
    return independent_text(payload)


def independent_text(payload: Mapping[str, Any]) -> str:
    """Say how many independent units there are of a measurement: "5 worlds"; a dash where nothing was measured."""
    return "–" if payload["effects"] is None else _counted(len(payload["effects"]), payload)


def unit_name(method: Method, unit_of_analysis: str) -> str:
    """Name an independent unit: for `bootstrap` what the units lie within."""
    return unit_of_analysis.rpartition(" within ")[2] if method == "bootstrap" else unit_of_analysis


def smallest_text(payload: Mapping[str, Any]) -> str:
    """Say the smallest effect that such a run settles in four of five repetitions; empty where that is not known."""
    least, limits = payload.get("smallest_effect"), payload["range"]
    if least is None:
        return ""
    # To contradict an equivalence there are two sides, to settle another claim at least so often only the one of its direction.
    side = {"decrease": "or less", "equivalence": "in either direction"}.get(payload["direction"], "or more")
    impossible = ", which is beyond what is possible" if limits is not None and not limits[0] <= least <= limits[1] else ""
    spread = f"a spread of {format_number(payload['spread'])} between {independent_text(payload)}"
    return f"{format_number(least)} {side}{impossible}, in four of five such runs ({spread})"


def unsettled_text(payload: Mapping[str, Any]) -> str:
    """Say why a claim is not settled and how many units would do; empty where it is settled or nothing was measured."""
    cause, needed = payload.get("unsettled"), payload.get("units_needed")
    if not cause:
        return ""
    if payload.get("worth_seeing"):
        wanted = f"the effect worth seeing, {format_number(payload['worth_seeing'])}"
    else:
        wanted = f"an effect one margin, {format_number(payload['margin'])}, beyond the bar"
    if cause == "too close to the margin":
        enough = f"{independent_text(payload)} would have settled {wanted}, in four of five such runs"
        return f"{cause}: {enough}" + (f"; one as near to it as this one takes {_counted(needed, payload)}" if needed else "")
    if needed is None:
        return f"{cause}: how many are needed cannot be told from these"
    return f"{cause}: to settle {wanted}, in four of five runs takes {_counted(needed, payload)}"


def disagreement(payload: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say in a sentence how and why two runs disagree on a claim; empty where they do not, or one has not measured it.

    They disagree where one shows what the other contradicts, and where one has not settled it but the intervals lie apart.

    Args:
        payload: `Measurement.to_json()`, or a row of `join`, of the run that a page is about.
        other: The same claim's of another run.
    """
    ours, theirs = payload["verdict"], other["verdict"]
    if ours == theirs or "not measured" in (ours, theirs):
        return ""
    apart = None not in (payload["interval"], other["interval"])
    if apart:
        (a, b), (c, d) = payload["interval"], other["interval"]
        apart = b < c or d < a
    if "not settled" in (ours, theirs) and not apart:
        return ""  # a run that settles nothing speaks against no other
    n, m = len(payload["effects"]), len(other["effects"])
    more = f"this one has as many units, {_counted(n, payload)}"
    if n != m:
        more = f"{'this one' if n > m else 'the other'} has more units, {max(n, m)} against {_counted(min(n, m), payload)}"
    overlap = "the intervals overlap, so chance may part them"
    if apart:
        overlap = "the intervals do not overlap, so chance alone hardly parts them"
    return f"{ours.capitalize()} in this run and {theirs} in the other: {more}; {overlap}; profile or parameters differ, too."


def _counted(n: int, payload: Mapping[str, Any]) -> str:
    return f"{n} {unit_name(payload['method'], payload['unit_of_analysis'])}{'' if n == 1 else 's'}"


def format_number(value: float, spread: float = 0.0) -> str:
    """Text with a true minus sign: two digits of `spread` where there is one, else three significant digits."""
    if value == 0:
        return "0"
    digits = f".{min(max(1 - math.floor(math.log10(spread)), 0), 9)}f" if spread > 0 else ".3g"
    return f"{value:{digits}}".replace("-", "−")
