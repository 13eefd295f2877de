"""What decides the chapter's verdicts: an effect for each independent unit of each claim, from tables of edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.editing.experiment import Result
from effnotes.studies.editing.settings import REFERENCE, Blocks, Method
from effnotes.studies.editing.statistics import TIE, by_world, compare, paired_differences

# Effects of edits, as one list a world.
ByWorld: TypeAlias = list[list[float]]


def low_rank_difference(edits: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the H of low rank, mean over the ranks, minus that of full rank, for each edit.

    Args:
        edits: One row for each setting, world, draw and method.
        methods: Names of LoRA on all linears at the ranks, which count alike.

    Returns:
        Columns setting, world, draw, difference, method ("low rank").
    """
    found = paired_differences(edits, REFERENCE.name)
    means = found[found["method"].isin(methods)].groupby(["setting", "world", "draw"], sort=False)["difference"].mean()
    return means.reset_index().assign(method="low rank")


def block_difference(edits: pd.DataFrame, restricted: Blocks, ranks: Sequence[int | None]) -> ByWorld:
    """Return the H of some blocks minus that of all linears at the same rank, mean over the ranks, for each edit.

    Args:
        edits: One row for each world, draw and method, of one setting.
        restricted: The blocks, "mlp" or "attention"; where they were not trained, there is no effect.
        ranks: Of LoRA, and None for full rank.
    """
    pairs = [(Method("linears", rank).name, Method(restricted, rank).name) for rank in ranks]
    parts = [paired_differences(edits, whole).query("method == @part") for whole, part in pairs]
    return by_world(pd.concat(parts).groupby(["world", "draw"])["difference"].mean().reset_index())


def setting_score(edits: pd.DataFrame, methods: Sequence[str]) -> float:
    """Return 1 where low rank is at least as good as full rank in a setting, -1 where it is worse, 0 where that is open.

    At least as good is an interval over worlds that lies above -0.01, one point of H; worse is one that lies below 0.

    Args:
        edits: As for `low_rank_difference`, of one setting.
        methods: As there.
    """
    low, high = compare(low_rank_difference(edits, methods))[["low", "high"]].to_numpy()[0]
    return 1.0 if low > -TIE else -1.0 if high < 0 else 0.0


def per_edit(edits: pd.DataFrame, effect: pd.Series[float]) -> ByWorld:
    """Return an effect for each edit, mean over methods and over settings; edits without one are left out.

    Args:
        edits: With columns world and draw.
        effect: A value for each row of the edits.
    """
    return by_world(edits.assign(effect=effect).groupby(["world", "draw"])["effect"].mean().dropna().reset_index(), "effect")


def effects(result: Result) -> dict[str, ByWorld | list[float]]:
    """Return what each claim is measured by, by the claim's name in the chapter, in the order of the page."""
    plan, best, edits = result.plan, result.endings["budget"], result.at_budget
    main, low_rank = plan.main.setting.name, plan.low_rank
    ranks = [None, *plan.parameters.ranks]
    of_setting = dict(list(edits[edits["setting"] != plan.ripple.setting.name].groupby("setting", sort=False))) | {main: best}
    both = best.merge(result.endings["reference_rate"], on=["setting", "world", "draw", "method"], suffixes=("_own", "_reference"))
    both = both[both["method"].isin(low_rank)]
    full, rippled = best[best["method"] == REFERENCE.name], edits[edits["setting"] == plan.ripple.setting.name]
    spreads = edits[edits["setting"].isin([each.setting.name for each in plan.suppressions])]
    return {
        "low-rank-as-good": by_world(low_rank_difference(best, low_rank)),
        "low-rank-stopped-early": by_world(low_rank_difference(result.endings["first_success"], low_rank)),
        "low-rank-often": [setting_score(part, low_rank) for part in of_setting.values()],
        "mlp-only-improves": block_difference(best, "mlp", ranks),
        "attention-only-improves": block_difference(best, "attention", ranks),
        "one-rate-misleads": per_edit(both, both["H_own"] - both["H_reference"]),
        "neighbours-damaged": per_edit(full, full["kept_same_value"] - full["kept_other"]),
        "linked-fact-suffers": per_edit(rippled, rippled["pair_kept"] - rippled["kept_same_subject"]),
        "entailed-facts-stay": per_edit(rippled, rippled["consequence_followed"] - 0.5),
        "suppression-spreads": per_edit(spreads, spreads["spread"] - 0.5) if len(spreads) else [],
    }


def measure(result: Result) -> list[claims.Measurement]:
    """Measure the chapter's claims; to be displayed."""
    return [claims.measure(f"editing.{name}", found) for name, found in effects(result).items()]
