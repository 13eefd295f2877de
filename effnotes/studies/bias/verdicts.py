"""The claims of the chapter on bias: which effects each is judged by."""

import math

import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.bias.effects import by_seed, change, differences, link
from effnotes.studies.bias.further import Further
from effnotes.studies.bias.results import Result

Effects = list[float] | list[list[float]]


def measure(effects: dict[str, Effects]) -> list[claims.Measurement]:
    """Judge claims by their effects, given by the claim's name in the register without `bias.`."""
    return [claims.measure(f"bias.{name}", values) for name, values in effects.items()]


def main_effects(result: Result) -> dict[str, Effects]:
    """Effects of the claims on accuracy, doubt, interdependence and bias at the moderate and the high sparsity."""
    high, bias = result.high, "bias_amplification"
    growth = result.mean_growth(high, "uncertainty", "interdependence", bias)
    bias_growth = result.mean_growth(high, bias)[bias]
    return {
        "accuracy-flat": change(result.averages, "accuracy", result.plan.moderate),
        "ba-flat": by_seed(result.growth_to(result.plan.moderate, bias)[bias]),
    } | _at_high_sparsity(
        result,
        {
            "uncertainty-grows": change(result.averages, "uncertainty", high),
            "interdependence-grows": change(result.averages, "interdependence", high),
            "ba-grows": by_seed(result.growth_to(high, bias)[bias]),
            "ba-follows-uncertainty": link(growth["uncertainty"], bias_growth),
            "ba-follows-interdependence": link(growth["interdependence"], bias_growth),
        },
    )


def repair_effects(result: Result) -> dict[str, Effects]:
    """Effects of the claims on repairs, changed decisions and what the dense model knows."""
    high, seeds = result.high, result.plan.seeds
    at_high = result.changed[result.changed["sparsity"] == high].dropna()
    with_raw_thresholds = result.repaired_bias[~result.repaired_bias["calibrated"]]
    repaired = with_raw_thresholds.set_index(["override", "selection", "seed", "attribute"])["value"].sort_index()
    by_threshold = {seed: result.calibrated.loc[(seed, high)] - repaired["none", "none", seed] for seed in seeds}
    by_override = {seed: repaired["dense", "dense uncertainty", seed] - repaired["dense", "random", seed] for seed in seeds}
    criterion = result.criteria.set_index("attribute")["uncertainty_times_phi"]
    bias_growth = result.mean_growth(high, "bias_amplification")["bias_amplification"]
    return _at_high_sparsity(
        result,
        {
            "rare-value-underpredicted": change(result.averages, "rare_value_ratio", high),
            "calibration-lowers-ba": differences(by_threshold),
            "changes-were-uncertain": at_high["excess_uncertain"].tolist(),
            "changes-turn-negative": (at_high["positive_to_negative"] - 0.5).tolist(),
            "dense-criteria-predict": link(criterion, bias_growth),
            "override-beats-random": differences(by_override),
        },
    )


def further_effects(result: Result, further: Further | None) -> dict[str, Effects]:
    """Effects of the claims of the further experiments; none where they were no part of the run."""
    names = ("single-label-more-biased", "post-training-alike", "planted-grows", "planted-subtle", "second-network-grows")
    effects: dict[str, Effects] = {name: [] for name in names}
    if further is not None:
        high, seeds, alone, planted = result.high, result.plan.seeds, further.alone, further.planted
        subtle, easy = further.subtle, further.easy
        effects["single-label-more-biased"] = differences(
            {
                seed: pd.Series({name: further.single[seed, name] - further.joint[seed, 0.0][name] for name in alone})
                for seed in seeds
            }
        )
        if "gmp_post" in further.by_method:
            methods = further.by_method
            effects["post-training-alike"] = differences({seed: methods["gmp_post"][seed] - methods["gmp"][seed] for seed in seeds})
        if planted:
            grown = [planted[subtle, high, seed] - planted[subtle, 0.0, seed] for seed in seeds]
            gaps = [planted[subtle, 0.0, seed] - planted[easy, 0.0, seed] for seed in seeds]
            effects["planted-grows"] = [effect for effect in grown if math.isfinite(effect)]
            effects["planted-subtle"] = [effect for effect in gaps if math.isfinite(effect)]
        second = further.second
        effects["second-network-grows"] = differences({seed: second[seed, further.matched] - second[seed, 0.0] for seed in seeds})
    judged_at_high = ("post-training-alike", "planted-grows", "second-network-grows")
    return effects | _at_high_sparsity(result, {name: effects[name] for name in judged_at_high})


def _at_high_sparsity(result: Result, effects: dict[str, Effects]) -> dict[str, Effects]:
    """No effects where no level lies beyond the knee, as the claims on high sparsity are not judged then."""
    return effects if result.knee.passed else {name: [] for name in effects}
