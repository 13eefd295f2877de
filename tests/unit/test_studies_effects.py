"""What decides the verdicts on editing, on invented tables whose effects and verdicts are known by hand."""

import itertools
import math
from types import SimpleNamespace

import pandas as pd
import pytest

from effnotes.studies.editing.effects import block_difference, effects, low_rank_difference, measure, per_edit, setting_score
from effnotes.studies.editing.statistics import by_world

NAN = math.nan
WORLDS = (1, 2, 3)
APART = 1e-3  # of worlds, as nothing follows from worlds that agree


def edits(h: dict[str, float | list[float]], *, setting: str = "main", draws: int = 2, worlds=WORLDS, **scores) -> pd.DataFrame:
    """A row for each world, draw and method; its H and scores are given for all worlds alike, or for each."""
    rows = []
    for (place, world), draw, (method, value) in itertools.product(enumerate(worlds), range(draws), h.items()):
        own = {name: v[place] if isinstance(v, list) else v for name, v in ({"H": value} | scores).items()}
        rows.append({"setting": setting, "world": world, "draw": draw, "method": method} | own)
    return pd.DataFrame(rows)


# --- low rank against full rank -----------------------------------------------------------------------------------------------


def test_ranks_count_alike_and_no_other_method_counts() -> None:
    found = low_rank_difference(
        edits({"full linears": 0.5, "LoRA 1 linears": 0.6, "LoRA 4 linears": 0.9, "LoRA 1 mlp": 0.1}),
        ["LoRA 1 linears", "LoRA 4 linears"],
    )
    assert found["difference"].tolist() == pytest.approx([0.25] * 6)
    assert by_world(found) == [pytest.approx([0.25, 0.25])] * 3
    assert set(found["method"]) == {"low rank"}


def test_differences_are_taken_edit_by_edit() -> None:
    given = edits({"full linears": [0.1, 0.5, 0.9], "LoRA 1 linears": [0.2, 0.4, 0.9]})
    assert by_world(low_rank_difference(given, ["LoRA 1 linears"])) == [
        pytest.approx([0.1, 0.1]),
        pytest.approx([-0.1, -0.1]),
        [0, 0],
    ]


@pytest.mark.parametrize(
    ("low_rank", "score"),
    [
        ([0.6, 0.61, 0.62], 1.0),  # better in all worlds
        ([0.499, 0.5, 0.501], 1.0),  # as good as the same
        ([0.494, 0.495, 0.496], 1.0),  # worse, by half a point of H: within the tie
        ([0.479, 0.48, 0.481], -1.0),  # worse by two points in each world
        ([0.6, 0.6, 0.6], 0.0),  # that three worlds agree says little of the next
        ([0.7, 0.3, 0.5], 0.0),  # open
        ([0.5, 0.5, 0.4], 0.0),  # the interval reaches above 0 and below -0.01
    ],
)
def test_a_setting_is_worth_one_where_low_rank_is_as_good(low_rank: list[float], score: float) -> None:
    given = edits({"full linears": 0.5, "LoRA 1 linears": low_rank})
    assert setting_score(given, ["LoRA 1 linears"]) == score


def test_a_setting_of_a_single_world_is_open() -> None:
    assert setting_score(edits({"full linears": 0.5, "LoRA 1 linears": 0.9}, worlds=(1,)), ["LoRA 1 linears"]) == 0.0


# --- blocks -------------------------------------------------------------------------------------------------------------------


def test_blocks_are_compared_at_the_same_rank_and_ranks_count_alike() -> None:
    given = edits({"full linears": 0.5, "full mlp": 0.7, "LoRA 1 linears": 0.4, "LoRA 1 mlp": 0.8, "full attention": 0.0})
    assert block_difference(given, "mlp", [None, 1]) == [pytest.approx([0.3, 0.3])] * 3
    assert block_difference(given, "mlp", [None]) == [pytest.approx([0.2, 0.2])] * 3


def test_blocks_that_were_not_trained_have_no_effect() -> None:
    assert block_difference(edits({"full linears": 0.5, "LoRA 1 linears": 0.4}), "attention", [None, 1]) == []


# --- any effect ---------------------------------------------------------------------------------------------------------------


def test_an_effect_is_the_mean_over_methods_of_each_edit() -> None:
    given = edits({"a": [0.0, 0.2, NAN], "b": [0.4, 0.4, NAN]})
    assert per_edit(given, given["H"] - 0.1) == [pytest.approx([0.1, 0.1]), pytest.approx([0.2, 0.2])]  # the third has none


# --- all claims ---------------------------------------------------------------------------------------------------------------


def invented(**changes) -> SimpleNamespace:
    """A result in which every effect is known, up to what sets worlds apart: see the test below."""

    def around(value: float) -> list[float]:
        return [value, value + APART, value - APART]

    main = {
        "full linears": 0.5,
        "LoRA 1 linears": around(0.6),
        "LoRA 4 linears": 0.8,
        "full mlp": 0.6,
        "LoRA 1 mlp": 0.6,
        "LoRA 4 mlp": 0.8,
    }
    budget = edits(main, kept_same_value=0.3, kept_other=0.9)
    side = {"full linears": 0.5, "LoRA 1 linears": around(0.4)}
    ripple = edits(side, setting="structured", worlds=(8, 9), pair_kept=0.4, kept_same_subject=0.9, consequence_followed=0.2)
    spread = edits(side, setting="relation to one object by 8 facts", spread=around(0.9))
    at_budget = pd.concat([budget[budget["method"].isin(side)], edits(side, setting="1 fact, 0% retained"), spread, ripple])
    names = {"main": "main", "ripple": "structured"}
    comparisons = {key: SimpleNamespace(setting=SimpleNamespace(name=name)) for key, name in names.items()}
    plan = SimpleNamespace(
        **comparisons,
        suppressions=[SimpleNamespace(setting=SimpleNamespace(name="relation to one object by 8 facts"))],
        parameters=SimpleNamespace(ranks=(1, 4)),
        low_rank=["LoRA 1 linears", "LoRA 4 linears"],
    )
    endings = {
        "budget": budget,
        "first_success": edits(main | {"LoRA 1 linears": around(0.1), "LoRA 4 linears": 0.3}),
        "reference_rate": edits(main | {"LoRA 1 linears": 0.0, "LoRA 4 linears": 0.4}),
    }
    return SimpleNamespace(**{"plan": plan, "endings": endings, "at_budget": at_budget} | changes)


def test_the_effects_of_every_claim() -> None:
    found = effects(invented())
    in_each = {
        "low-rank-as-good": (0.2, 3),  # mean of 0.1 and 0.3
        "low-rank-stopped-early": (-0.3, 3),  # mean of -0.4 and -0.2
        "mlp-only-improves": (0.1 / 3, 3),  # 0.1 at full rank, 0 at rank 1 and 4
        "one-rate-misleads": (0.5, 3),  # of LoRA on linears: 0.6 - 0.0 and 0.8 - 0.4
        "neighbours-damaged": (-0.6, 3),
        "linked-fact-suffers": (-0.5, 2),
        "entailed-facts-stay": (-0.3, 2),
        "suppression-spreads": (0.4, 3),
    }
    for name, (effect, worlds) in in_each.items():
        assert found[name] == [pytest.approx([effect, effect], abs=1.1 * APART)] * worlds, name
    # Low rank is better in the main setting, by all of its ranks, and worse in both others; the structured one does not count.
    assert found["low-rank-often"] == [1.0, -1.0, -1.0]
    assert found["attention-only-improves"] == []
    assert len(found) == 10


def test_without_suppressions_nothing_spreads() -> None:
    run = invented(at_budget=invented().at_budget.drop(columns="spread"))
    run.plan.suppressions = []
    assert effects(run)["suppression-spreads"] == []


def test_verdicts_of_the_invented_run() -> None:
    verdicts = {claim.claim.id.removeprefix("editing."): claim.verdict for claim in measure(invented())}
    assert list(verdicts) == list(effects(invented()))
    assert verdicts["low-rank-as-good"] == "shown"
    assert verdicts["low-rank-stopped-early"] == "contradicted"
    assert verdicts["low-rank-often"] == "not settled"
    assert verdicts["attention-only-improves"] == "not settled"
    assert verdicts["suppression-spreads"] == "shown"
