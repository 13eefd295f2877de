"""Where another test or a control says otherwise than a verdict of the chapter on bias, in a sentence that the run computes."""

import math

import pandas as pd
from scipy.stats import ttest_1samp

from effnotes.metrics.bias.criteria import rank_association
from effnotes.reporting import claims
from effnotes.reporting.claims import format_number, interval_text
from effnotes.reporting.claims.intervals import LEVEL
from effnotes.studies.bias.effects import link
from effnotes.studies.bias.further import Further
from effnotes.studies.bias.results import Result

_BIAS = "bias_amplification"
_LINKS = ("ba-follows-uncertainty", "ba-follows-interdependence")
_DOUBTS = {"dense uncertainty": "dense model", "sparse uncertainty": "pruned model itself"}


def main_cautions(result: Result) -> dict[str, str]:
    """Say of the two links whether a permutation test agrees with the interval; empty where it does or nothing is judged."""
    growth = result.mean_growth(result.high, "uncertainty", "interdependence", _BIAS)
    found = {name: rank_caution(name, growth[name.removeprefix("ba-follows-")], growth[_BIAS]) for name in _LINKS}
    return _said_beyond_the_knee(result, found)


def repair_cautions(result: Result) -> dict[str, str]:
    """Say where a noise floor, a permutation test or a control speaks against the verdict on changes, criterion or override."""
    pruned = result.changed[result.changed["sparsity"] == result.high]["dense_uncertain"].mean()
    scores = result.criteria.set_index("attribute")["uncertainty_times_phi"]
    found = {
        "changes-were-uncertain": noise_caution(pruned, result.changed_across_seeds["dense_uncertain"].iloc[0]),
        "dense-criteria-predict": rank_caution("dense-criteria-predict", scores, result.mean_growth(result.high, _BIAS)[_BIAS]),
        "override-beats-random": override_caution(result.by_repair),
    }
    return _said_beyond_the_knee(result, found)


def further_cautions(result: Result, further: Further | None) -> dict[str, str]:
    """Say where the second network is not beyond a knee of its own."""
    if further is None:
        return {}
    falls = (result.knee.fall[result.high], further.fall)
    return _said_beyond_the_knee(result, {"second-network-grows": knee_caution(*falls, result.plan.knee_drop)})


def noise_caution(pruned: float, floor: float) -> str:
    """Compare the doubt behind the decisions that pruning changed with that behind those that differ by chance.

    Args:
        pruned: share of the changed decisions of which the dense twin was uncertain.
        floor: that share among the decisions on which two dense models of different seeds differ; NaN for a single seed.
    """
    if not floor > pruned:
        return ""
    return (
        f"Of the decisions that differ between dense models of two seeds, one of them was unsure of {floor:.0%}; of those that"
        f" pruning changed, the dense model was unsure of {pruned:.0%}. Chance picks doubtful decisions more often than pruning:"
        " the verdict compares with all decisions, not with changes by chance."
    )


def rank_caution(name: str, score: pd.Series, growth: pd.Series) -> str:
    """Say where a permutation test over attributes disagrees with the interval of a rank correlation.

    The test is one-sided; it is held against the share that the interval leaves on one side.

    Args:
        name: of the claim, without `bias.`.
        score: by attribute.
        growth: of bias amplification, by attribute.
    """
    both = pd.DataFrame({"score": score, "growth": growth}).dropna()
    test = rank_association(both["score"], both["growth"])
    measured = claims.measure(f"bias.{name}", link(score, growth))
    rare = not test["reason"] and float(test["p_value"]) < (1 - LEVEL) / 2
    if test["reason"] or rare == (measured.verdict == "shown"):
        return ""
    p = format_number(float(test["p_value"]))
    start = f"A permutation test of the {test['attributes']} attributes gives p = {p} (one-sided)."
    if rare:
        asked = "so good an order of these attributes is hardly chance. The interval asks what other attributes would give"
        return f"{start} It asks about chance alone: {asked}, and for that there are few."
    return f"{start} It does not exclude that chance ordered them so; the interval, which is only roughly right for so few, does."


def override_effects(by_repair: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Compare overrides by doubt with as many on random images, decisions being the dense model's and thresholds raw.

    Args:
        by_repair: of `Result`: means over attributes, by `calibrated`, `override`, `selection` and `seed`.

    Returns:
        For the selections "dense uncertainty" and "sparse uncertainty" the difference from random ones in bias amplification and
        accuracy, a row for each seed in which all are defined.
    """
    rows = by_repair.reset_index()
    wide = rows[~rows["calibrated"] & (rows["override"] == "dense")].pivot(index="seed", columns="selection")
    found = {}
    for selection in _DOUBTS:
        more = {metric: wide[metric, selection] - wide[metric, "random"] for metric in (_BIAS, "accuracy")}
        found[selection] = pd.DataFrame(more).dropna()
    return found


def override_sentence(by_repair: pd.DataFrame) -> str:
    """Say what overrides by the dense and by the pruned model's doubt are worth beside random ones, in bias and in accuracy.

    Args:
        by_repair: as for `override_effects`.
    """
    found = override_effects(by_repair)
    if any(table.empty for table in found.values()):
        return "What overrides are worth was not measured: bias amplification is not defined in these data."
    parts = [
        f"where the {whose} was in doubt, bias amplification ends {_difference(found[selection][_BIAS])} and accuracy"
        f" {_difference(100 * found[selection]['accuracy'], ' points')}"
        for selection, whose in _DOUBTS.items()
    ]
    return f"Against as many overrides on random images: {'; '.join(parts)}."


def override_caution(by_repair: pd.DataFrame) -> str:
    """Say where overrides by the pruned model's own doubt do better than those by the dense model's, in bias or in accuracy.

    Args:
        by_repair: as for `override_effects`.
    """
    found = override_effects(by_repair)
    more = found["sparse uncertainty"] - found["dense uncertainty"]
    if not (_interval(more[_BIAS])[1] < 0 or _interval(more["accuracy"])[0] > 0):
        return ""
    said = "Against them, as many overrides by the pruned model's own doubt leave bias amplification"
    return f"{said} {_difference(more[_BIAS])} and accuracy {_difference(100 * more['accuracy'], ' points')}."


def knee_caution(first: float, second: float, drop: float) -> str:
    """Say that the second network is not at high sparsity by the rule that found the first one's.

    Args:
        first: fall of validation accuracy of the first network at the high sparsity, as a share.
        second: that of the second network with as many weights left.
        drop: fall beyond which a level is high.
    """
    if second > drop:
        return ""
    lost = f"{format_number(100 * second)} points of validation accuracy there, the first {format_number(100 * first)}"
    rule = f"more than {format_number(100 * drop)} points"
    return f"The second network has lost {lost}; by the rule of the knee, {rule}, it is not yet at high sparsity."


def _interval(values: pd.Series) -> tuple[float, float]:
    """Student t interval of a mean over seeds; NaN for fewer than two."""
    low, high = ttest_1samp(values, 0).confidence_interval(LEVEL) if len(values) > 1 else (math.nan, math.nan)
    return float(low), float(high)


def _difference(values: pd.Series, unit: str = "") -> str:
    """Say how a paired difference fell out, with its interval over seeds."""
    mean, (low, high) = values.mean(), _interval(values)
    side = "lower" if mean < 0 else "higher"
    if math.isnan(low):
        return f"{format_number(abs(mean))}{unit} {side} in the one seed"
    if low <= 0 <= high:
        return f"not settled to either side ({format_number(mean, spread=high - low)}{unit}, interval {interval_text((low, high))})"
    bounds = interval_text((-high, -low) if mean < 0 else (low, high))
    return f"{format_number(abs(mean), spread=high - low)}{unit} {side} (interval {bounds})"


def _said_beyond_the_knee(result: Result, cautions: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in cautions.items() if text} if result.knee.passed else {}
