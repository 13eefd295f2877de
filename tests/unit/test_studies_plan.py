"""What the chapter on editing plans from its parameters, before anything is trained."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from effnotes.core.errors import DataError
from effnotes.studies import editing
from effnotes.studies.editing.settings import REFERENCE, Method

WORLDS = Path(__file__).resolve().parents[2] / "data" / "worlds"
RATES = (1e-3, 3e-3)

VALUES: dict[str, Any] = {
    "worlds": (3, 1, 2),
    "world": str(WORLDS / "smoke.yaml"),
    "structured": str(WORLDS / "smoke_structured.yaml"),
    "model": "neox-32x2",
    "ranks": (1, 4),
    "blocks": ("linears", "mlp"),
    "steps": (5, 10),
    "counts": (2, 1),
    "coverages": (0.25, 0.0),
    "suppressed": (4,),
    "unlearn": ("npo",),
    **dict.fromkeys(("full_rates", "lora_rates", "unlearn_full_rates", "unlearn_lora_rates"), RATES),
    **{"facts": "", "checkpoint": "", "pretraining": {}, "device": "cpu", "closed_forms": (), "truncations": (1,)},
    **{"extensions": 0, "tune_worlds": 2, "tune_draws": 1, "test_draws": 2, "structured_draws": 3, "draw_seed": 7},
    **{"unlearn_share": 0.1, "unlearn_steps": 5, "demo_worlds": 1, "gold_models": 1},
}


def test_the_first_count_and_coverage_are_the_main_setting_and_all_others_stand_beside_it() -> None:
    plan = editing.plan(**VALUES)
    assert (plan.main.setting.n, plan.main.setting.retain_coverage) == (2, 0.25)
    others = [(each.setting.n, each.setting.retain_coverage) for each in plan.further]
    assert others == [(2, 0.0), (1, 0.25), (1, 0.0)]
    assert [(each.setting.kind, each.setting.n) for each in plan.suppressions] == [("suppress", 4)]
    assert plan.ripple.setting == dataclasses.replace(plan.main.setting, name="structured", nested_class="changed")
    assert len({each.setting.name for each in plan.comparisons}) == len(plan.comparisons) == 6


def test_every_setting_has_all_worlds_and_chooses_rates_in_the_first() -> None:
    plan = editing.plan(**VALUES)
    for each in plan.comparisons:
        assert [base.world_seed for base in each.bases] == [3, 1, 2]
        assert each.tuned_on == 2
    assert (plan.main.draws.test, plan.ripple.draws.test) == (2, 3)
    assert {base.world.graph.has_nested for base in plan.ripple.bases} == {True}
    assert plan.forgetful == plan.main.bases[:1]


def test_blocks_are_varied_in_the_main_setting_only_and_ranks_in_all() -> None:
    plan = editing.plan(**VALUES)
    linears = {REFERENCE, Method("linears", 1), Method("linears", 4)}
    assert set(plan.main.grids) == linears | {Method("mlp"), Method("mlp", 1), Method("mlp", 4)}
    assert all(set(each.grids) == linears for each in plan.comparisons[1:])
    assert plan.low_rank == ["LoRA 1 linears", "LoRA 4 linears"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": ()}, r"counts=\(\): must be at least 1 long"),
        ({"coverages": ()}, r"coverages=\(\): must be at least 1 long"),
        ({"tune_worlds": 0}, "tuned_on=0: must be at least 1"),
        ({"worlds": (1, 1)}, "worlds=.*each once"),
        ({"counts": (400,)}, "n=400"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        editing.plan(**VALUES | changes)


@pytest.mark.parametrize("name", ["facts", "edits"])
def test_a_table_that_is_missing_is_named_with_its_parameter(name: str) -> None:
    """The parameter, the path as it was given, and what it takes."""
    facts = {"facts": str(Path(__file__).parents[1] / "fixtures" / "facts.csv"), "counts": [1], "suppressed": []}
    with pytest.raises(
        DataError, match=rf"^{name}='nowhere.csv': .*CSV file with the columns subject.*nowhere.csv: this file is missing"
    ):
        editing.plan(**VALUES | facts | {name: "nowhere.csv"})
