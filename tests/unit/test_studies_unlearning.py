"""Unlearning a tiny model: against one that never knew, by formulas written out, and with nothing let in from other draws."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from effnotes.datasets.worlds import FORMS, World
from effnotes.finetuning import Evaluator, Learn, edit
from effnotes.finetuning.editing.scores import object_probabilities
from effnotes.metrics.editing import truth_ratio
from effnotes.models.answers import answer
from effnotes.models.language import weights_digest
from effnotes.studies import protocol
from effnotes.studies.editing import unlearning as module
from effnotes.studies.editing.bases import loaded
from effnotes.studies.editing.settings import MOST_ASKED, REFERENCE, Base, DrawPlan, Method, Setting
from effnotes.studies.editing.unlearning import (
    RELEARNING,
    UNLEARNING,
    UnlearningRun,
    compare_unlearning,
    golds_of,
    guessed,
    refusing,
    run_unlearning,
    unlearn,
    unlearning_objective,
)
from effnotes.training.recipes import PretrainingRecipe

SETTINGS = {"n_subjects": 48, "n_relations": 2, "n_objects": 8, "repeats": 40}
SETTING = Setting("gone", "unlearn_subject", 4, retain_coverage=0.25, checkpoints=(5, 15))
DRAWS = DrawPlan(tune=1, test=2, seed=0)  # the second draw to report is never used
BASE = Base(SETTINGS, "neox-32x2", PretrainingRecipe(batch_size=16, passes=3, most_extensions=1))
GOLD, SECOND = golds_of(BASE, SETTING, DRAWS)


@pytest.fixture(scope="module")
def base(cache):
    return loaded(BASE.sealed())[1]


@pytest.fixture(scope="module")
def gold(cache):  # the first that loads it pretrains it in this process
    return loaded(GOLD.sealed())[1]


def forgotten(split: str = "test"):
    return DRAWS.tasks(BASE.world, SETTING, split)[0]


def job(loss: str = "grad_diff", *, split: str = "test", rates: tuple[float, ...] = (1e-3,), method: Method = REFERENCE):
    """A job of `unlearn`."""
    return UnlearningRun(BASE.sealed(), SETTING, DRAWS, split, loss, method, rates)


# --- the gold model -----------------------------------------------------------------------------------------------------------


def test_a_gold_model_knows_all_but_what_it_forgot(base, gold) -> None:
    task = forgotten()
    assert set(task.old.subject) == set(GOLD.left_out.subject)
    assert BASE.left_out is None
    facts = BASE.world.facts("so")
    is_gone = np.isin(facts.subject, task.old.subject)
    assert is_gone.sum() == 4 * 2
    knows = {name: answer(model, BASE.world.encode(facts, "sro")).exact for name, model in (("base", base), ("gold", gold))}
    assert knows["base"].all()
    assert knows["gold"][~is_gone].all()
    assert knows["gold"][is_gone].mean() <= 0.5  # 8 guesses among 8 objects
    tuned = np.isin(facts.subject, forgotten("tune").old.subject)
    assert not (tuned & is_gone).any()


def test_the_base_and_the_gold_model_judged(base, gold, cache) -> None:
    nothing, ceiling = (unlearn(job(name, rates=()))["rows"][0] for name in ("nothing", "second gold"))
    second = loaded(SECOND.sealed())[1]
    sentences = BASE.world.encode(forgotten().test["forget"].facts, "sro")
    assert nothing["forget_accuracy"] == nothing["retention"] == ceiling["retention"] == 1
    assert nothing["balance"] == 0
    assert nothing["relearned"] == 1 or nothing["relearned"] > ceiling["relearned"]
    assert nothing["gold_accuracy"] == ceiling["gold_accuracy"] == answer(gold, sentences).exact.mean() <= 0.5
    assert ceiling["forget_accuracy"] == answer(second, sentences).exact.mean() <= 0.5
    assert ceiling["ks_statistic"] < nothing["ks_statistic"]
    assert ceiling["forget_quality_log10_p"] > -1
    assert nothing["forget_quality_log10_p"] < -1
    assert nothing["membership_loss"] > 0.9


def test_a_gold_model_is_trained_for_the_draw_to_report_alone() -> None:
    assert [each.bases for each in (job(split="tune"), job(), job("nothing", rates=()), job("second gold", rates=()))] == [
        (BASE.sealed(),),
        *((model.sealed(), GOLD.sealed()) for model in (BASE, BASE, SECOND)),
    ]
    assert GOLD.forgets == SECOND.forgets == (SETTING, DRAWS)


def test_runs_that_would_tell_nothing_are_refused() -> None:
    fine = {"base": BASE, "setting": SETTING, "draws": DRAWS, "split": "test", "loss": "npo", "method": REFERENCE}
    fine |= {"learning_rates": (1e-3,)}
    UnlearningRun(**fine)
    for other, message in (
        ({"learning_rates": ()}, r"learning_rates=\(\)"),
        ({"learning_rates": (-1.0,)}, r"learning_rates.0=-1.0"),
        ({"setting": dataclasses.replace(SETTING, n=1)}, "n=1: at least 2 subjects"),
        ({"setting": Setting("one")}, "of the kind 'remap'; needed is 'unlearn_subject'"),
        ({"loss": "nop"}, r"loss='nop': must be one of .*'npo'"),
    ):
        with pytest.raises(ValueError, match=message):
            UnlearningRun(**fine | other)
    UnlearningRun(**fine | {"loss": "nothing", "learning_rates": ()})
    with pytest.raises(ValueError, match="what is only judged has none"):
        UnlearningRun(**fine | {"loss": "nothing"})


@pytest.mark.parametrize("name", UNLEARNING)
def test_what_draws_leave_out_is_the_same_whatever_else_a_setting_says(name: str) -> None:
    assert type(unlearning_objective(name)).__name__ == UNLEARNING[name]
    wide = dataclasses.replace(SETTING, name="wide", retain_coverage=0.5, checkpoints=(1,))
    more = dataclasses.replace(DRAWS, test=3)
    assert np.array_equal(more.tasks(BASE.world, wide, "test")[0].old.subject, forgotten().old.subject)


# --- unlearning ---------------------------------------------------------------------------------------------------------------


def test_a_row_is_what_unlearning_by_hand_gives(base, gold, cache) -> None:
    before = weights_digest(base), weights_digest(gold)
    rows = unlearn(job("npo", rates=(1e-4, 3e-3)))["rows"]
    assert (weights_digest(base), weights_digest(gold)) == before
    assert [row["learning_rate"] for row in rows] == [1e-4, 3e-3]
    task = forgotten()
    recipe = dataclasses.replace(REFERENCE.recipe(3e-3, SETTING.checkpoints), objective=unlearning_objective("npo"))
    made = edit(base, task, recipe)
    scores = Evaluator(base, task, most_asked=MOST_ASKED)(made.model).scores
    row = rows[1]
    assert type(row["step"]) is int
    assert row["step"] == 15
    for name, score in scores.items():
        assert row[name] == pytest.approx(score, abs=1e-5, nan_ok=True)
    assert row["edited_exact"] == row["forget_accuracy"]
    share = min(1.0, (1 - row["forget_accuracy"]) / (1 - 1 / 8))
    assert row["balance"] == pytest.approx(0 if share * row["retention"] == 0 else 2 / (1 / share + 1 / row["retention"]))
    asked = task.test["forget"].facts
    sentences = BASE.world.encode(asked, "sro")
    assert row["gold_accuracy"] == pytest.approx(answer(gold, sentences).exact.mean())
    ratios = [truth_ratio(object_probabilities(model, BASE.world, asked, "sro"), asked.object) for model in (made.model, gold)]
    test = stats.ks_2samp(*ratios)
    assert row["ks_statistic"] == pytest.approx(test.statistic)
    assert row["forget_quality_log10_p"] == pytest.approx(math.log10(test.pvalue))
    assert rows[0]["forget_accuracy"] > row["forget_accuracy"]
    assert not set(row) & {"world", "setting", "split", "objective", "method"}  # names that `run_unlearning` puts beside it


@pytest.mark.parametrize("rate", [3e-3, 1e-2])
def test_half_is_relearned_and_the_other_half_asked_for(rate: float, base, cache) -> None:
    (row,) = unlearn(job("npo", rates=(rate,)))["rows"]
    task = forgotten()
    recipe = dataclasses.replace(REFERENCE.recipe(rate, SETTING.checkpoints), objective=unlearning_objective("npo"))
    made = edit(base, task, recipe)
    subjects = np.unique(task.old.subject)
    facts = task.test["forget"].facts
    again, other = facts.take(np.isin(facts.subject, subjects[:2])), facts.take(np.isin(facts.subject, subjects[2:]))
    assert len(again) == len(other) == 4
    # Twenty steps on the first half alone.
    group = dataclasses.replace(task.train["forget"].take(slice(4)), facts=again)
    first = dataclasses.replace(task, old=again, train={"forget": group})
    taught = edit(made.model, first, RELEARNING[0].recipe(*RELEARNING[1:]))
    exact = answer(taught.model, BASE.world.encode(other, "sro")).exact
    assert row["relearned"] == pytest.approx(exact.mean())


@pytest.mark.parametrize("loss", UNLEARNING)
def test_every_loss_forgets_something_at_a_rate_that_is_large_enough(loss: str, cache) -> None:
    run = job(loss, rates=(3e-2 if loss == "rmu" else 1e-2,), split="tune")  # RMU retains a hundred times more
    (row,) = unlearn(run)["rows"]
    assert row["forget_accuracy"] < 1
    assert "ks_statistic" not in row
    assert "gold_accuracy" not in row


def test_low_rank_unlearning_is_relearned_in_the_whole_model(cache) -> None:
    (row,) = unlearn(job("grad_diff", rates=(1e-2,), method=Method("linears", 2)))["rows"]
    assert row["n_trainable"] < 24576  # of full rank
    assert 0 <= row["relearned"] <= 1


def test_a_refusal_is_trained_where_the_object_was() -> None:
    task = forgotten()
    trained = refusing(task)
    assert unlearning_objective("refusal") == Learn()
    group = trained.train["forget"]
    assert set(group.form.tolist()) == {FORMS.index("refusal")}
    assert np.array_equal(group.facts.subject, task.train["forget"].facts.subject)
    assert {name: trained.train[name] for name in trained.train if name != "forget"} == {
        name: task.train[name] for name in task.train if name != "forget"
    }
    assert trained.test is task.test
    assert task.train["forget"].form[0] != FORMS.index("refusal")


def test_a_guess_is_among_the_objects_that_there_are(tmp_path) -> None:
    assert guessed(forgotten()) == pytest.approx(1 / 8)
    path = tmp_path / "facts.csv"
    lines = [f"s{n},lives in,c{n % 5}\ns{n},speaks,l{n % 2}" for n in range(20)]
    path.write_text("\n".join(["subject,relation,object", *lines]) + "\n")
    task = DRAWS.tasks(Base({}, facts=str(path)).world, SETTING, "test")[0]
    assert guessed(task) == pytest.approx((1 / 5 + 1 / 2) / 2)
    nested = World(48, 2, 8, n_nested=4, repeats=2)
    task = DRAWS.tasks(nested, SETTING, "test")[0]
    expected = [1 / (8 if kind == 0 else 4) for kind in task.test["forget"].facts.kind]
    assert set(expected) == {1 / 8, 1 / 4}
    assert guessed(task) == pytest.approx(sum(expected) / len(expected))


# --- side by side -------------------------------------------------------------------------------------------------------------


def test_runs_come_back_in_their_order_with_their_names(monkeypatch) -> None:
    bases = [dataclasses.replace(BASE, settings=SETTINGS | {"seed": seed}) for seed in (9, 1, 5)]
    seen = []

    def stand_in(function, jobs, **_):
        assert function is unlearn
        seen.extend(each.base.settings["seed"] for each in jobs)
        known = [(each.base.settings["seed"], each.learning_rates) for each in jobs]
        return [{"rows": [{"learning_rate": r, "mark": seed + r} for r in rates]} for seed, rates in known]

    trained = []
    monkeypatch.setattr(protocol, "run_jobs", stand_in)
    monkeypatch.setattr(module, "pretrain_missing", lambda bases, **_: trained.extend(bases))
    runs = [
        UnlearningRun(each, SETTING, DRAWS, split, loss, REFERENCE, (0.1, 0.2))
        for loss in ("npo", "rmu")
        for each in bases
        for split in ("tune", "test")
    ]
    found = run_unlearning(runs)
    seeds = [run.base.settings["seed"] for run in runs]
    named = [(seed, "gone", run.split, run.loss, "full linears") for seed, run in zip(seeds, runs, strict=True)]
    expected = [(*names, r, names[0] + r) for names in named for r in (0.1, 0.2)]
    assert list(found.itertuples(index=False, name=None)) == expected
    assert list(found.columns) == ["world", "setting", "split", "objective", "method", "learning_rate", "mark"]
    assert seen == [1] * 4 + [5] * 4 + [9] * 4  # models of one world one after another
    assert len(trained) == 12 + 6
    with pytest.raises(ValueError, match="cannot be told apart"):
        run_unlearning([runs[0], dataclasses.replace(runs[0], base=dataclasses.replace(bases[0], seed=3))])


def test_losses_are_compared_at_rates_that_other_subjects_chose(cache, monkeypatch) -> None:
    done, tuned = [], {}

    def in_this_process(function, jobs, **_):
        done.extend((each.split, each.loss, len(each.bases) == 2) for each in jobs)
        results = [function(each) for each in jobs]
        tuned.update({each.loss: result["rows"] for each, result in zip(jobs, results, strict=True) if each.split == "tune"})
        return results

    monkeypatch.setattr(protocol, "run_jobs", in_this_process)
    monkeypatch.setattr(module, "pretrain_missing", lambda *_args, **_kwargs: None)
    found = compare_unlearning([BASE], SETTING, DRAWS, ["npo", "simnpo"], {REFERENCE: (1e-4, 1e-2, 3e-2)}, n_gold=1)
    assert found["objective"].tolist() == ["npo", "simnpo", "nothing"]
    assert found["method"].tolist() == ["full linears", "full linears", "none"]
    assert found["split"].tolist() == ["test"] * 3
    expected = [(split, loss, split == "test") for split in ("tune", "test") for loss in ("npo", "simnpo")]
    assert done == [*expected, ("test", "nothing", True)]
    assert found["ks_statistic"].notna().all()
    for loss, row in found.iloc[:2].set_index("objective").iterrows():
        assert [each["learning_rate"] for each in tuned[loss]] == [1e-4, 1e-2, 3e-2]
        best = max(tuned[loss], key=lambda each: (each["balance"], -each["learning_rate"]))["learning_rate"]
        assert row["learning_rate"] == best
        assert row["edge"] == {1e-4: "low", 1e-2: "", 3e-2: "high"}[best]


def test_gold_models_are_trained_even_where_the_base_is_read_from_a_folder() -> None:
    first, second = golds_of(dataclasses.replace(BASE, checkpoint="somewhere"), SETTING, DRAWS)
    assert first == GOLD == dataclasses.replace(BASE, seed=1000, forgets=(SETTING, DRAWS))
    assert second == SECOND == dataclasses.replace(GOLD, seed=2000)


def test_judged_models_are_named(monkeypatch) -> None:
    monkeypatch.setattr(
        protocol, "run_jobs", lambda _function, jobs, **_: [{"rows": [{"mark": each.bases[0].seed}]} for each in jobs]
    )
    monkeypatch.setattr(module, "pretrain_missing", lambda *_args, **_kwargs: None)
    found = run_unlearning([UnlearningRun(BASE, SETTING, DRAWS, "test", name) for name in ("nothing", "second gold")])
    named = {"world": 0, "setting": "gone", "split": "test", "objective": ["nothing", "second gold"], "method": "none"}
    pd.testing.assert_frame_equal(found, pd.DataFrame(named | {"mark": [0, 2000]}))
