"""The claims of the chapter on bias: which effects each is judged by."""

import math
from collections.abc import Mapping

import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.bias.effects import by_seed, change, differences, link
from effnotes.studies.bias.further import Further
from effnotes.studies.bias.results import Result

Effects = list[float] | list[list[float]]

# What classes that exclude one another can tell something of, and how; nothing is protected there, and they hang together anyway.
_OF_CLASSES = {
    **dict.fromkeys(("accuracy-flat", "uncertainty-grows"), "of the most probable class of each image"),
    **dict.fromkeys(
        ("rare-value-underpredicted", "changes-were-uncertain", "changes-turn-negative"), "of classes against the rest"
    ),
}


def measure(
    effects: Mapping[str, Effects], without: str = "", cautions: Mapping[str, str] | None = None
) -> list[claims.Measurement]:
    """Judge claims by their effects.

    Args:
        effects: by the claim's name in the register without `bias.`.
        without: why the data have no bias to measure, as in `Plan.without`; the claims that need one have this for their reason,
            the others say what they are about.
        cautions: of `main_cautions`, `repair_cautions` or `further_cautions`, by the same names; empty where there is none.
    """
    said = cautions or {}
    found = {name: claims.measure(f"bias.{name}", values, caution=said.get(name, "")) for name, values in effects.items()}
    for name, each in found.items() if without else ():
        how = _OF_CLASSES.get(name)
        found[name] = each._replace(reason=f"{each.reason} Here {how}." if how else f"Not measured with these data: {without}.")
    return list(found.values())


def main_effects(result: Result) -> dict[str, Effects]:
    """Effects of the claims on accuracy, doubt, interdependence and bias at the moderate and the high sparsity."""
    high, moderate, bias = result.high, result.plan.moderate, "bias_amplification"
    growth = result.mean_growth(high, "uncertainty", "interdependence", bias)
    bias_growth = result.mean_growth(high, bias)[bias]
    at_high: dict[str, Effects] = {
        "uncertainty-grows": change(result.averages, "uncertainty", high),
        "interdependence-grows": change(result.averages, "interdependence", high),
        "ba-grows": by_seed(result.growth_to(high, bias)[bias]),
        "ba-follows-uncertainty": link(growth["uncertainty"], bias_growth),
        "ba-follows-interdependence": link(growth["interdependence"], bias_growth),
    }
    at_moderate = by_seed(result.growth_to(moderate, bias)[bias])
    flat: dict[str, Effects] = {"accuracy-flat": change(result.averages, "accuracy", moderate), "ba-flat": at_moderate}
    return flat | _if_beyond_the_knee(result, at_high)


def repair_effects(result: Result) -> dict[str, Effects]:
    """Effects of the claims on repairs, changed decisions and what the dense model knows."""
    high = result.high
    at_high = result.changed[result.changed["sparsity"] == high].dropna()
    with_raw_thresholds = result.repaired_bias[~result.repaired_bias["calibrated"]]
    repaired = with_raw_thresholds.set_index(["override", "selection", "seed", "attribute"])["value"].sort_index()
    calibrated = result.calibrated.xs(high, level=1)
    seeds = [] if repaired.empty else result.plan.seeds
    by_threshold = {seed: calibrated.loc[seed] - repaired["none", "none", seed] for seed in seeds}
    by_override = {seed: repaired["dense", "dense uncertainty", seed] - repaired["dense", "random", seed] for seed in seeds}
    criterion = result.criteria.set_index("attribute")["uncertainty_times_phi"]
    effects: dict[str, Effects] = {
        "rare-value-underpredicted": change(result.averages, "rare_value_ratio", high),
        "calibration-lowers-ba": differences(by_threshold),
        "changes-were-uncertain": at_high["excess_uncertain"].tolist(),
        "changes-turn-negative": (at_high["positive_to_negative"] - 0.5).tolist(),
        "dense-criteria-predict": link(criterion, result.mean_growth(high, "bias_amplification")["bias_amplification"]),
        "override-beats-random": differences(by_override),
    }
    return _if_beyond_the_knee(result, effects)


def further_effects(result: Result, further: Further | None) -> dict[str, Effects]:
    """Effects of the claims of the further experiments; none where they were no part of the run."""
    names = ("single-label-more-biased", "post-training-alike", "planted-grows", "planted-subtle", "second-network-grows")
    effects: dict[str, Effects] = {name: [] for name in names}
    if further is not None:
        seeds, single, joint, second, planted = result.plan.seeds, further.single, further.joint, further.second, further.planted
        of_single = {seed: {name: single[seed, name] - joint[seed, 0.0][name] for name in further.alone} for seed in seeds}
        effects["single-label-more-biased"] = differences({seed: pd.Series(values) for seed, values in of_single.items()})
        if "gmp_post" in further.by_method:
            post, gmp = further.by_method["gmp_post"], further.by_method["gmp"]
            effects["post-training-alike"] = differences({seed: post[seed] - gmp[seed] for seed in seeds})
        if planted:
            subtle = [planted[further.subtle, 0.0, seed] for seed in seeds]
            pruned = [planted[further.subtle, result.high, seed] for seed in seeds]
            easy = [planted[further.easy, 0.0, seed] for seed in seeds]
            for name, first, other in (("planted-grows", pruned, subtle), ("planted-subtle", subtle, easy)):
                effects[name] = [a - b for a, b in zip(first, other, strict=True) if math.isfinite(a - b)]
        effects["second-network-grows"] = differences({seed: second[seed, further.matched] - second[seed, 0.0] for seed in seeds})
    at_high = {name: effects[name] for name in ("post-training-alike", "planted-grows", "second-network-grows")}
    return effects | _if_beyond_the_knee(result, at_high)


def _if_beyond_the_knee(result: Result, effects: dict[str, Effects]) -> dict[str, Effects]:
    """No effects where no level lies beyond the knee, as the claims on high sparsity are not judged then."""
    return effects if result.knee.passed else {name: [] for name in effects}
