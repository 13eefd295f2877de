"""The protocol, with scores that are known: what is tried, extended, chosen and reported, and on which draws."""

import dataclasses
import itertools
import math

import pandas as pd
import pytest

from effnotes.studies import protocol
from effnotes.studies.editing import edits as module
from effnotes.studies.editing.edits import EditRun, run_protocol
from effnotes.studies.editing.rates import at_rates, choose_rates
from effnotes.studies.editing.settings import REFERENCE, Base, Comparison, DrawPlan, Method, Setting
from effnotes.studies.editing.statistics import compare, paired_differences
from effnotes.training.recipes import PretrainingRecipe

LORA, ATTENTION, ALL = Method("mlp", 4), Method("attention"), Method("all")
SETTINGS = {"n_subjects": 48, "n_relations": 2, "n_objects": 8, "repeats": 40}
RECIPE = PretrainingRecipe(batch_size=16, most_extensions=0)
BASES = tuple(Base(SETTINGS | {"seed": seed}, "neox-32x2", RECIPE) for seed in (0, 1))
DRAWS = DrawPlan(tune=2, test=3, seed=0)
GRIDS = {REFERENCE: (1e-4, 3e-4, 1e-3), LORA: (1e-3, 3e-3, 1e-2)}


def comparison(name: str = "one", **other) -> Comparison:
    rest = {"setting": Setting(name, checkpoints=(5, 10)), "bases": BASES, "draws": DRAWS, "grids": GRIDS}
    return Comparison(**rest | other)


class StandIn:
    """Makes the rows of edits without editing: the nearer a rate to the best of its method, the higher H."""

    def __init__(self, best: dict) -> None:
        self.best = best  # by method, or by method and step
        self.calls: list[list[EditRun]] = []

    def __call__(self, runs, *, workers) -> pd.DataFrame:
        assert workers == 7
        self.calls.append(list(runs))
        rows = []
        for run in runs:
            named = {"world": run.base.settings["seed"], "setting": run.setting.name, "split": run.split}
            named |= {"method": run.method.name, "blocks": run.method.blocks, "rank": run.method.rank or math.nan}
            for draw, rate, step in itertools.product(
                range(getattr(run.draws, run.split)), run.learning_rates, run.setting.checkpoints
            ):
                best = self.best.get((run.method, step), self.best.get(run.method))
                h = 1 - 0.1 * abs(math.log10(rate / best))
                # On draws to report the order is the reverse: whoever looks there chooses otherwise.
                h = h if run.split == "tune" else 1 - h
                rows.append(named | {"draw": draw, "learning_rate": rate, "step": step, "edited_exact": 1.0, "H": h})
        return pd.DataFrame(rows)

    def tried(self, split: str, method: Method, setting: str = "one") -> list[tuple[float, ...]]:
        """Rates of a method, call by call."""
        found = []
        for runs in self.calls:
            own = {run.learning_rates for run in runs if (run.split, run.method, run.setting.name) == (split, method, setting)}
            assert len(own) <= 1
            found += own
        return found


def chosen(found: tuple[pd.DataFrame, pd.DataFrame], rule: str) -> pd.DataFrame:
    return found[1][found[1]["rule"] == rule]


def run(
    monkeypatch, best: dict, *comparisons: Comparison, extensions: int = 1
) -> tuple[StandIn, tuple[pd.DataFrame, pd.DataFrame]]:
    stand_in = StandIn(best)
    monkeypatch.setattr(module, "run_edits", stand_in)
    return stand_in, run_protocol(comparisons or (comparison(),), extensions=extensions, workers=7)


# --- which rates --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "extensions", "tried", "chosen", "edge"),
    [
        (3e-4, 1, [(1e-4, 3e-4, 1e-3)], 3e-4, ""),
        (3e-3, 0, [(1e-4, 3e-4, 1e-3)], 1e-3, "high"),
        (1e-3, 1, [(1e-4, 3e-4, 1e-3), (3e-3,)], 1e-3, ""),
        (3e-3, 1, [(1e-4, 3e-4, 1e-3), (3e-3,)], 3e-3, "high"),
        (3e-3, 2, [(1e-4, 3e-4, 1e-3), (3e-3,), (1e-2,)], 3e-3, ""),
        (1e-2, 5, [(1e-4, 3e-4, 1e-3), (3e-3,), (1e-2,), (3e-2,)], 1e-2, ""),
        (1e-6, 1, [(1e-4, 3e-4, 1e-3), (3e-5,)], 3e-5, "low"),
        (3e-5, 2, [(1e-4, 3e-4, 1e-3), (3e-5,), (1e-5,)], 3e-5, ""),
    ],
)
def test_a_grid_grows_exactly_where_its_best_rate_lies_on_an_edge(monkeypatch, best, extensions, tried, chosen, edge) -> None:
    made, found = run(monkeypatch, {REFERENCE: best, LORA: 3e-3}, extensions=extensions)
    assert made.tried("tune", REFERENCE) == tried
    assert made.tried("tune", LORA) == [GRIDS[LORA]]
    rates = found[1].set_index("method")
    assert rates.loc["full linears", ["learning_rate", "edge"]].tolist() == [chosen, edge]
    assert rates.loc["full linears", "tried"] == sum(map(len, tried))
    assert rates.loc["LoRA 4 mlp", ["learning_rate", "edge", "tried"]].tolist() == [3e-3, "", 3]
    # Only the chosen rates are run on the draws to report.
    assert (made.tried("test", REFERENCE), made.tried("test", LORA)) == ([(chosen,)], [(3e-3,)])


def test_two_rules_can_choose_two_rates_and_grow_a_grid_at_both_ends(monkeypatch) -> None:
    rules = ("budget", "first_success")
    best = {(REFERENCE, 10): 1e-2, (REFERENCE, 5): 1e-5, LORA: 3e-3}  # every edit succeeds at its first checkpoint
    made, found = run(monkeypatch, best, comparison(rules=rules))
    assert [set(rates) for rates in made.tried("tune", REFERENCE)] == [set(GRIDS[REFERENCE]), {3e-5, 3e-3}]
    assert made.tried("test", REFERENCE) == [(3e-5, 3e-3)]
    own = {rule: chosen(found, rule).set_index("method").loc["full linears"] for rule in rules}
    assert {rule: (row["learning_rate"], row["edge"]) for rule, row in own.items()} == {
        "budget": (3e-3, "high"),
        "first_success": (3e-5, "low"),
    }
    for rule, step in (("budget", 10), ("first_success", 5)):
        edits = at_rates(found[0], chosen(found, rule))
        assert set(edits["step"]) == {step}
        assert set(edits.loc[edits["method"] == "full linears", "learning_rate"]) == {own[rule]["learning_rate"]}
        assert len(edits) == 2 * 2 * DRAWS.test  # methods, worlds, draws


def test_each_setting_chooses_for_itself_and_a_single_rate_is_no_grid(monkeypatch) -> None:
    best = {REFERENCE: 1e-2, LORA: 3e-3}
    other = comparison("many", grids={REFERENCE: (3e-3, 1e-2, 3e-2), LORA: (1e-4,)})
    made, found = run(monkeypatch, best, comparison(), other)
    assert made.tried("tune", REFERENCE) == [GRIDS[REFERENCE], (3e-3,)]
    assert made.tried("tune", REFERENCE, "many") == [(3e-3, 1e-2, 3e-2)]
    assert made.tried("tune", LORA, "many") == [(1e-4,)]
    assert len(found[1]) == 4
    rates = found[1].set_index(["setting", "method"])["learning_rate"]
    assert rates.to_dict() == {
        ("one", "full linears"): 3e-3,
        ("one", "LoRA 4 mlp"): 3e-3,
        ("many", "full linears"): 1e-2,
        ("many", "LoRA 4 mlp"): 1e-4,
    }


def test_nothing_is_chosen_on_the_draws_to_report(monkeypatch) -> None:
    made, found = run(monkeypatch, {REFERENCE: 3e-4, LORA: 3e-3})
    assert [{each.split for each in call} for call in made.calls] == [{"tune"}, {"test"}]
    tuned = found[0][found[0]["split"] == "tune"]
    pd.testing.assert_frame_equal(choose_rates(tuned, "budget"), found[1])
    assert found[0].index.is_unique
    assert {(row.world, row.draw) for row in tuned.itertuples()} == set(itertools.product((0, 1), range(DRAWS.tune)))


def test_rates_are_chosen_in_the_first_worlds_and_reported_in_all(monkeypatch) -> None:
    made, _ = run(monkeypatch, {REFERENCE: 1e-3, LORA: 3e-3}, comparison(tuned_on=1))
    worlds = [{(each.split, each.base.settings["seed"]) for each in call} for call in made.calls]
    assert worlds == [{("tune", 0)}, {("tune", 0)}, {("test", 0), ("test", 1)}]  # the second call extends a grid


def test_all_methods_are_also_run_at_the_rate_of_the_reference(monkeypatch) -> None:
    best = {(REFERENCE, 10): 3e-4, (REFERENCE, 5): 1e-3, LORA: 3e-3}
    made, _ = run(monkeypatch, best, comparison(at_reference_rate=True))
    assert (made.tried("test", REFERENCE), made.tried("test", LORA)) == ([(3e-4,)], [(3e-4, 3e-3)])
    made, _ = run(monkeypatch, best, comparison(at_reference_rate=True, rules=("first_success", "budget")), extensions=0)
    assert made.tried("test", LORA) == [(1e-3, 3e-3)]  # of the first rule
    assert made.tried("tune", LORA) == [GRIDS[LORA]]


def test_only_full_rank_changes_that_are_reported_are_cut_down(monkeypatch) -> None:
    grids = GRIDS | {ATTENTION: (1e-3,), ALL: (1e-3,)}
    best = {REFERENCE: 3e-4, LORA: 3e-3, ATTENTION: 1e-3, ALL: 1e-3}
    made, _ = run(monkeypatch, best, comparison(grids=grids, truncations=(1, 4)))
    found = {(each.split, each.method): each.truncations for call in made.calls for each in call}
    assert found == {(split, method): () for split in ("tune", "test") for method in grids} | {
        ("test", REFERENCE): (1, 4),
        ("test", ATTENTION): (1, 4),
    }


# --- what is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"grids": {LORA: (1e-3,)}}, "'full linears' is not among the methods"),
        ({"grids": GRIDS | {LORA: ()}}, r"grids.*=\(\): must be at least 1 long"),
        ({"grids": GRIDS | {LORA: (0.0,)}}, r"grids.*=0.0: must be above 0"),
        ({"bases": ()}, r"bases=\(\): must be at least 1 long"),
        ({"rules": ()}, r"rules=\(\): must be at least 1 long"),
        ({"bases": (BASES[0], dataclasses.replace(BASES[0], seed=1))}, "world 0: .* cannot be told apart"),
        ({"setting": Setting("gone", "unlearn_subject", 2)}, "'gone' is of the kind 'unlearn_subject'"),
    ],
)
def test_comparisons_that_cannot_work_are_refused(other: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_protocol([comparison(**other)])


def test_a_world_that_is_too_small_for_the_draws_is_refused_before_training() -> None:
    DrawPlan(2, 2, 0).tasks(BASES[0].world, Setting("many", "remap_same", 3), "test")
    with pytest.raises(ValueError, match="n=3"):
        DrawPlan(30, 30, 0).tasks(BASES[0].world, Setting("many", "remap_same", 3), "test")


def test_settings_of_one_name_are_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"\['one', 'one'\]: each needs a name of its own"):
        run(monkeypatch, {}, comparison(), comparison())


# --- with real edits ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore:after .* the model knows too little")
def test_the_whole_protocol_in_this_process(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(protocol, "run_jobs", lambda function, jobs, **_: [function(each) for each in jobs])
    grids = {REFERENCE: (3e-4, 3e-3), LORA: (1e-2,)}
    for bases in (BASES, BASES[:1]):
        given = comparison(bases=bases, grids=grids, draws=DrawPlan(1, 2, 0), rules=("budget", "first_success"), truncations=(1,))
        found = run_protocol([given], extensions=1)
        for rule in given.rules:
            edits = at_rates(found[0], chosen(found, rule))
            assert len(edits) == 2 * 2 * len(bases)
            table = compare(paired_differences(edits, REFERENCE.name))
            assert table[["setting", "method", "worlds", "edits"]].to_numpy().tolist() == [
                ["one", "LoRA 4 mlp", len(bases), 2 * len(bases)]
            ]
            assert table["low"].isna().all() == (len(bases) == 1)
        at_end = found[0][(found[0]["split"] == "test") & (found[0]["step"] == 10)]
        assert (at_end["truncated_1_H"].notna() == (at_end["method"] == REFERENCE.name)).all()
