"""Many edits of a tiny model: the same in any process and order, kept, and honest about what was drawn for what."""

import contextlib
import dataclasses
import math
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from effnotes.core import jobs as parallel
from effnotes.core.errors import DataError
from effnotes.core.jobs import JobError, WorkerPool
from effnotes.core.settings import from_json, to_json
from effnotes.datasets.worlds import World, edit_task, read_facts
from effnotes.finetuning import ClosedFormRecipe, EditRecipe, Evaluator, edit
from effnotes.models.answers import answer
from effnotes.models.language import LANGUAGE_MODELS, build_language_model, save_language_model, weights_digest
from effnotes.studies import protocol
from effnotes.studies.editing import bases as base_module
from effnotes.studies.editing import edits as module
from effnotes.studies.editing.bases import load_base, loaded, prepare_base, pretrain_bases, read_checkpoint
from effnotes.studies.editing.edits import EditRun, change_of, make_edits, run_edits
from effnotes.studies.editing.own import own_edits
from effnotes.studies.editing.settings import MOST_ASKED, REFERENCE, Base, DrawPlan, Method, Setting
from effnotes.training.recipes import PretrainingRecipe

pytestmark = pytest.mark.usefixtures("cache")

SETTINGS = {"n_subjects": 48, "n_relations": 2, "n_objects": 8, "repeats": 40}
RECIPE = PretrainingRecipe(batch_size=16, passes=3, most_extensions=1)
BASE = Base(SETTINGS, "neox-32x2", RECIPE)
ONE = Setting("one", checkpoints=(3, 6))
DRAWS = DrawPlan(tune=1, test=2, seed=0)
LORA = Method("mlp", 2)


@pytest.fixture(scope="module")
def prepared(cache) -> dict:
    return prepare_base(BASE.sealed())["rows"][0]


def job(base: Base = BASE, setting: Setting = ONE, draws: DrawPlan = DRAWS, split: str = "test", draw: int = 0, **other) -> EditRun:
    """A job of `make_edits`."""
    rest = {"method": REFERENCE, "learning_rates": (1e-3,), "truncations": ()} | other
    return EditRun(base.sealed(), setting, draws, split, draw=draw, **rest)


def untimed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="cpu_s").reset_index(drop=True)


def no_process(*_: object) -> None:
    raise AssertionError("a process was started")


# --- what is to be done -------------------------------------------------------------------------------------------------------


def test_settings_draws_and_bases_survive_json() -> None:
    setting = Setting("many", "remap_same", 3, relation=1, retain_coverage=0.25, nested_class="any", checkpoints=(1, 7))
    written = SETTINGS | {"templates": {"sro": 0.5, "rso": 0.5}, "seed": 3}
    base = Base(written, "llama-64x2", PretrainingRecipe(betas=(0.8, 0.9)), seed=4, device="cpu", forgets=(setting, DRAWS))
    assert base.world.n_subjects == 48  # what a base keeps in memory is no part of it
    runs = [
        EditRun(base, setting, DRAWS, "tune", each, rates)
        for each, rates in ((LORA, (1e-3,)), (ClosedFormRecipe("memit", (0, 1)), ()))
    ]
    for each in (setting, base, BASE, *runs):
        text = to_json(each)
        again = from_json(type(each), text)
        assert again == each
        assert to_json(again) == text
    assert base.recipe.betas == (0.8, 0.9)


@pytest.mark.parametrize("field", ["tune", "test", "seed"])
def test_draws_refuse_numbers_out_of_range(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}=-1: must be at least"):
        DrawPlan(**{"tune": 1, "test": 1, "seed": 0} | {field: -1})


@pytest.mark.parametrize(
    ("kind", "n"), [("remap", 2), ("remap_same", 2), ("remap_subject", 2), ("suppress", 3), ("refusal", 2), ("unlearn_subject", 4)]
)
@pytest.mark.parametrize("relation", [0, 1])
def test_no_edited_subject_is_in_two_draws(kind: str, n: int, relation: int) -> None:
    draws, setting = DrawPlan(tune=2, test=3, seed=5), Setting("some", kind, n, relation)
    tasks = {split: draws.tasks(BASE.world, setting, split) for split in ("tune", "test")}
    assert {split: len(tasks[split]) for split in tasks} == {"tune": 2, "test": 3}
    subjects = [set(task.old.subject.tolist()) for split in tasks for task in tasks[split]]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 5 * n
    if kind not in ("remap_subject", "unlearn_subject"):
        assert all(set(task.old.relation.tolist()) == {relation} for split in tasks for task in tasks[split])


@pytest.mark.parametrize("checkpoints", [(), (5, 2), (0, 5), (5, 5)])
def test_looks_that_do_not_rise_are_refused(checkpoints: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"checkpoints=\(.*must be numbers of steps from 1 on"):
        Setting("wrong", checkpoints=checkpoints)


def test_methods_train_what_they_are_named_for() -> None:
    assert [method.name for method in (REFERENCE, LORA, Method("all"))] == ["full linears", "LoRA 2 mlp", "full all"]
    assert REFERENCE.recipe(1e-3, (2, 4)) == EditRecipe(learning_rate=1e-3, checkpoints=(2, 4))
    expected = EditRecipe("lora", "mlp", rank=2, learning_rate=1e-2, checkpoints=(1,))
    assert LORA.recipe(1e-2, (1,)) == expected
    with pytest.raises(ValueError, match="blocks='all'"):
        Method("all", 2)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"learning_rates": ()}, r"learning_rates=\(\): fine-tuning needs some"),
        ({"method": ClosedFormRecipe(), "learning_rates": (1e-3,)}, "a closed form has none"),
        ({"learning_rates": (1e-3, 0.0)}, r"learning_rates.1=0.0: must be above 0"),
        ({"setting": Setting("gone", "unlearn_subject", 2)}, "'gone' is of the kind 'unlearn_subject'"),
    ],
)
def test_runs_that_cannot_work_are_refused_at_once(run: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EditRun(
            **{"base": BASE, "setting": ONE, "draws": DRAWS, "split": "test", "method": REFERENCE, "learning_rates": (1e-3,)} | run
        )


@pytest.mark.parametrize(
    "other",
    [
        {"base": dataclasses.replace(BASE, seed=1)},  # another model of the same world
        {"base": dataclasses.replace(BASE, settings=SETTINGS | {"n_subjects": 52})},
        {"setting": dataclasses.replace(ONE, n=2)},
        {"draws": dataclasses.replace(DRAWS, seed=9)},
    ],
)
def test_rows_that_could_not_be_told_apart_are_refused(other: dict, monkeypatch) -> None:
    monkeypatch.setattr(protocol, "run_jobs", lambda *_args, **_kwargs: no_process())
    runs = [
        EditRun(**{"base": BASE, "setting": ONE, "draws": DRAWS} | each, split="test", method=REFERENCE, learning_rates=(1e-3,))
        for each in ({}, other)
    ]
    with pytest.raises(ValueError, match=r"setting 'one', world 0: .* cannot be told apart"):
        run_edits(runs)


# --- bases --------------------------------------------------------------------------------------------------------------------


def test_a_prepared_base_knows_its_world(prepared) -> None:
    assert prepared["knows"]
    assert prepared["facts"] == 96
    model = load_base(BASE)
    assert prepared["parameters"] == sum(each.numel() for each in model.parameters())
    assert prepared["bits_per_parameter"] == pytest.approx(48 * 2 * 3 / prepared["parameters"])  # log2 of 8 objects
    world = BASE.world
    for form in world.templates:
        exact = answer(model, world.encode(world.facts("so"), form)).exact
        assert prepared[f"known, {form}"] == pytest.approx(exact.mean(), abs=1e-9)
    assert prepared["steps"] >= 1


def test_bases_are_pretrained_longest_first_and_given_in_order(monkeypatch) -> None:
    asked = []

    def stand_in(function, jobs, **_):
        assert function is prepare_base
        asked.append([each.settings["repeats"] for each in jobs])
        return [{"rows": [{"n_parameters": each.settings["repeats"], "knows": False}]} for each in jobs]

    monkeypatch.setattr(protocol, "run_jobs", stand_in)
    bases = [dataclasses.replace(BASE, settings=SETTINGS | {"repeats": repeats, "seed": 90}) for repeats in (10, 30, 20)]
    found = pretrain_bases(bases)
    assert asked == [[30, 20, 10]]
    assert found["n_parameters"].tolist() == [10, 30, 20]
    assert found["world"].tolist() == [90] * 3


def test_a_base_that_was_never_pretrained_is_so_before_its_edits_and_once(monkeypatch, tmp_path) -> None:
    calls = []

    def stand_in(function, jobs, **_):
        calls.append((function.__name__, [getattr(each, "base", each).settings["seed"] for each in jobs]))
        return [{"rows": [{"step": 1}]} for _ in jobs]

    monkeypatch.setattr(protocol, "run_jobs", stand_in)
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(tmp_path))
    bases = [dataclasses.replace(BASE, settings=SETTINGS | {"seed": seed}) for seed in (71, 72)]
    folder = dataclasses.replace(bases[0], settings=SETTINGS | {"seed": 73}, checkpoint=str(checkpoint_of(tmp_path, BASE.world)))
    runs = [EditRun(base, ONE, DRAWS, "tune", method, (1e-3,)) for base in (*bases, folder) for method in (REFERENCE, LORA)]
    run_edits(runs)
    run_edits(runs)
    trainings = [call for call in calls if call[0] == "prepare_base" and call[1]]
    assert trainings == [("prepare_base", [71, 72])]
    assert [sorted(seeds) for name, seeds in calls if name == "make_edits"] == [[71, 71, 72, 72, 73, 73]] * 2
    assert next(name for name, seeds in calls if seeds) == "prepare_base"


def checkpoint_of(folder: Path, world: World) -> Path:
    """Keep an untrained model of a world's vocabulary."""
    model = build_language_model("neox-32x2", world.vocab_size, seed=0)
    save_language_model(model, folder / "untrained", world.hf_tokenizer())
    return folder / "untrained"


def test_a_model_from_a_folder_is_edited_like_the_one_that_was_pretrained(prepared, cache) -> None:
    folder = next(cache.glob("models/*/model"))
    from_folder = dataclasses.replace(BASE, checkpoint=str(folder))
    (again,) = prepare_base(from_folder.sealed())["rows"]
    same = [name for name in prepared if name not in ("steps", "cpu_s")]
    assert {name: again[name] for name in same} == {name: prepared[name] for name in same}
    assert (again["steps"], again["cpu_s"]) == (0, 0)
    rows = [pd.DataFrame(make_edits(job(base, truncations=(1,)))["rows"]) for base in (BASE, from_folder)]
    pd.testing.assert_frame_equal(untimed(rows[0]), untimed(rows[1]))


@pytest.mark.parametrize("n_subjects", [40, 60])
def test_a_model_with_another_vocabulary_is_refused_wherever_it_is_read(n_subjects: int, tmp_path) -> None:
    folder = checkpoint_of(tmp_path, BASE.world)
    base = Base(SETTINGS | {"n_subjects": n_subjects}, checkpoint=str(folder))
    for read in (read_checkpoint, load_base, prepare_base):
        with pytest.raises(DataError, match=f"{BASE.world.vocab_size} tokens, but the world has {base.world.vocab_size}"):
            read(base)


@pytest.mark.parametrize("context", [3, 16])
def test_a_model_that_cannot_read_the_longest_sentence_is_refused(context: int, tmp_path) -> None:
    shape = dataclasses.replace(LANGUAGE_MODELS["neox-32x1"], context=context)
    save_language_model(build_language_model(shape, BASE.world.vocab_size, seed=0), tmp_path / "short")
    base = dataclasses.replace(BASE, checkpoint=str(tmp_path / "short"))
    longest = BASE.world.encode(BASE.world.facts(), "sro").tokens.shape[1]
    assert 3 < longest <= 16
    with contextlib.nullcontext() if context > longest else pytest.raises(DataError, match=f"reads 3 tokens .* of {longest}"):
        read_checkpoint(base)


def test_missing_files_are_named(tmp_path) -> None:
    for base in (Base(SETTINGS, checkpoint=str(tmp_path)), Base({}, facts=str(tmp_path / "facts.csv"))):
        with pytest.raises(DataError, match=str(tmp_path)):
            base.sealed()
    with pytest.raises(DataError, match=r"config\.json is missing"):
        read_checkpoint(Base(SETTINGS, checkpoint=str(tmp_path)))


def test_what_a_base_is_depends_on_the_contents_of_its_files(tmp_path) -> None:
    folder = checkpoint_of(tmp_path, BASE.world)
    base = Base(SETTINGS, checkpoint=str(folder))
    before = base.sealed()
    assert from_json(Base, to_json(before)) == before != base
    weights = folder / "model.safetensors"
    contents = bytearray(weights.read_bytes())
    contents[-1] ^= 1
    weights.write_bytes(contents)
    after = base.sealed()
    assert len(before.digests) == 2
    assert before != after == dataclasses.replace(before, digests=after.digests)
    assert to_json(job(base)) == to_json(job(after))
    assert to_json(job(base)) != to_json(dataclasses.replace(job(base), base=before))


# --- given facts --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def facts(tmp_path) -> Path:
    lines = ["subject,relation,object"]
    for number in range(16):
        lines += [f"s{number},lives in,c{number % 6}", f"s{number},speaks,l{number % 2}"]
    path = tmp_path / "facts.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_given_facts_are_the_world_of_a_base(facts, monkeypatch) -> None:
    base = Base({"repeats": 30, "seed": 2}, "neox-32x2", RECIPE, facts=str(facts))
    known = read_facts(facts, repeats=30, seed=2).world
    assert np.array_equal(base.world.graph.objects, known.graph.objects)
    assert base.world.settings() == known.settings()
    before = base.sealed()
    tasks = [
        DRAWS.tasks(base.world, dataclasses.replace(ONE, relation=1, kind="remap_same"), split)[0] for split in ("tune", "test")
    ]
    assert not set(tasks[0].old.subject) & set(tasks[1].old.subject)
    facts.write_text(facts.read_text().replace("s3,lives in,c3", "s3,lives in,c4"))
    assert base.sealed() != before
    # Two models of the same facts are two bases of one world, unless the way of writing the facts is drawn anew.
    runs = [EditRun(each, ONE, DRAWS, "test", REFERENCE, (1e-3,)) for each in (base, dataclasses.replace(base, seed=1))]
    monkeypatch.setattr(protocol, "run_jobs", lambda *_args, **_kwargs: no_process())
    with pytest.raises(ValueError, match="setting 'one', world 2"):
        run_edits(runs)


def test_given_facts_are_edited(facts) -> None:
    base = Base({"repeats": 30}, "neox-32x2", dataclasses.replace(RECIPE, passes=1, most_extensions=0), facts=str(facts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a model that knows too little is told by a flag
        rows = make_edits(job(base))["rows"]
    assert [row["step"] for row in rows] == [3, 6]
    assert not prepare_base(base.sealed())["rows"][0]["knows"]


def test_the_order_of_templates_is_part_of_a_world() -> None:
    orders = []
    for names in (("sro", "rso"), ("rso", "sro")):
        base = dataclasses.replace(BASE, settings=SETTINGS | {"templates": dict.fromkeys(names, 0.5)})
        orders.append(list(from_json(Base, to_json(base.sealed())).world.templates))
    assert orders == [["sro", "rso"], ["rso", "sro"]]


# --- edits --------------------------------------------------------------------------------------------------------------------


def test_an_edit_gives_the_rows_that_it_gives_by_hand(prepared) -> None:
    world, model = loaded(BASE.sealed())
    before = weights_digest(model)
    found = make_edits(job(draw=1, learning_rates=(1e-3, 1e-2), method=LORA, truncations=(1, 0, 32)))["rows"]
    assert weights_digest(model) == before == weights_digest(load_base(BASE))
    assert [(row["learning_rate"], row["step"]) for row in found] == [(1e-3, 3), (1e-3, 6), (1e-2, 3), (1e-2, 6)]
    task = DRAWS.tasks(world, ONE, "test")[1]
    evaluate = Evaluator(model, task, most_asked=MOST_ASKED)
    seed = int(np.random.SeedSequence([world.seed, DRAWS.seed, 1, 1]).generate_state(1)[0])
    made = edit(model, task, LORA.recipe(1e-2, (3, 6)), seed=seed)
    scores = evaluate(made.model).scores
    last = found[-1]
    for name, score in scores.items():
        assert last[name] == pytest.approx(score, abs=1e-5, nan_ok=True)
    assert (last["method"], last["blocks"], last["rank"]) == ("LoRA 2 mlp", "mlp", 2.0)
    assert (last["n_trainable"], last["optimizer_bytes"]) == (made.n_trainable, 12 * made.n_trainable)
    assert last["loss"] == pytest.approx(float(made.history["loss"].iloc[-1]))
    assert last["cpu_s"] > 0
    assert last["change_norm"] == pytest.approx(change_of(made.difference)["change_norm"], rel=1e-6)
    assert "change_norm" not in found[-2]
    assert not set(last) & {"world", "setting", "split", "draw"}  # names that `run_edits` puts beside it


def test_a_named_edit_is_made_and_asked_as_by_hand(prepared) -> None:
    world, model = loaded(BASE.sealed())
    fact = world.facts("so").take(slice(3, 4))
    new = (fact.object + 1) % 8
    found = own_edits((fact, new), [BASE], {REFERENCE: 1e-2}, steps=6, retain_coverage=0.2, seed=3, workers=1)
    assert list(found["method"]) == [REFERENCE.name]
    row = found.iloc[0]
    task = edit_task(world, fact, new, retain_coverage=0.2, seed=3)
    made = edit(model, task, REFERENCE.recipe(1e-2, (6,)), seed=3)
    probable = [answer(made.model, world.encode(fact.saying(other), "sro")).probability[0] for other in range(8)]
    assert (row["old"], row["new"], row["answered"]) == (fact.object[0], new[0], int(np.argmax(probable)))
    assert row["probability"] == pytest.approx(probable[int(new[0])])
    scores = Evaluator(model, task)(made.model).scores
    assert row["kept_other"] == scores["kept_other"]


def test_scores_are_not_among_the_costs(monkeypatch, prepared) -> None:
    class Slow(Evaluator):
        def __call__(self, edited):
            started = time.process_time()
            while time.process_time() - started < 0.5:
                pass
            return super().__call__(edited)

    monkeypatch.setattr(module, "Evaluator", Slow)
    (*_, row) = make_edits(job())["rows"]
    assert 0 < row["cpu_s"] < 0.5  # three times half a second was spent on scores


def test_cutting_nothing_off_changes_nothing_and_cutting_all_leaves_the_base(prepared) -> None:
    row = make_edits(job(truncations=(32, 0), learning_rates=(3e-3,)))["rows"][-1]
    for name in ("edit_success", "retention", "H"):
        assert row[f"truncated_32_{name}"] == pytest.approx(row[name], abs=1e-6)
    assert row["edit_success"] == 1
    assert (row["truncated_0_edit_success"], row["truncated_0_retention"]) == (0, 1)
    assert row["truncated_0_H"] < 0.01  # as probable as the new object was before


@pytest.mark.filterwarnings("error")
def test_a_closed_form_has_one_row_without_rate_and_rank(prepared) -> None:
    (row,) = make_edits(job(method=ClosedFormRecipe(), learning_rates=()))["rows"]
    assert (row["step"], row["method"], row["blocks"]) == (1, "rome at the subject", "mlp")
    assert math.isnan(row["rank"])
    assert math.isnan(row["learning_rate"])


def test_batches_are_shared_by_methods_and_rates_but_not_by_worlds_splits_and_draws(monkeypatch, prepared) -> None:
    seeds = []

    def recorded(model, task, recipe, *, seed, observe):
        seeds.append(seed)
        return edit(model, task, dataclasses.replace(recipe, checkpoints=(1,)), seed=seed, observe=observe)

    monkeypatch.setattr(module, "edit", recorded)
    short = dataclasses.replace(ONE, checkpoints=(1,))
    make_edits(job(setting=short, learning_rates=(1e-3, 1e-2)))
    make_edits(job(setting=short, method=Method("mlp", 1)))
    assert len(seeds) == 3
    assert len(set(seeds)) == 1
    # The same model will do for another world: only its seed counts here.
    other = (World.from_settings(SETTINGS | {"seed": 1}), load_base(BASE))
    make_edits(job(setting=short, draw=1))
    make_edits(job(setting=short, split="tune"))
    make_edits(job(setting=short, draws=dataclasses.replace(DRAWS, seed=1)))
    monkeypatch.setattr(module, "loaded", lambda *_: other)
    make_edits(job(setting=short))
    assert len(set(seeds)) == 5


@pytest.mark.parametrize("family", ["neox-32x2", "llama-64x2"])
def test_the_size_and_shape_of_a_change_against_singular_values(family: str) -> None:
    model = build_language_model(family, BASE.world.vocab_size, seed=0)
    generator = torch.Generator().manual_seed(0)
    change = {name: torch.randn(each.shape, generator=generator) for name, each in model.named_parameters()}
    found = change_of(change)
    assert found["change_norm"] == pytest.approx(math.sqrt(sum(float((each**2).sum()) for each in change.values())), rel=1e-5)
    ranks = {"": [], "attention": [], "mlp": []}
    for name, each in change.items():
        if each.ndim == 2 and "embed" not in name and "lm_head" not in name:
            s = np.linalg.svd(each.numpy(), compute_uv=False)
            value = float((s**2).sum() / s[0] ** 2)
            ranks[""].append(value)
            ranks["mlp" if ".mlp." in name else "attention"].append(value)
    for kind, values in ranks.items():
        assert values
        assert found[f"stable_rank_{kind}".rstrip("_")] == pytest.approx(np.mean(values), rel=1e-4)
    outer = {"gpt_neox.layers.0.mlp.dense_h_to_4h.weight": torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4))}
    alone = change_of(outer)
    assert (alone["stable_rank"], alone["stable_rank_mlp"]) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(alone["stable_rank_attention"])
    assert math.isnan(change_of({name: torch.zeros_like(each) for name, each in outer.items()})["stable_rank"])


# --- side by side -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_depend_on_neither_workers_nor_order_and_are_kept(prepared, cache, monkeypatch, tmp_path) -> None:
    base_module._pretrained.add(to_json(BASE.sealed()))
    both = (REFERENCE, (1e-3, 1e-2)), (LORA, (1e-2,))
    tune, (full, lora) = (
        (EditRun(BASE, ONE, DRAWS, "tune", ClosedFormRecipe())),
        (EditRun(BASE, ONE, DRAWS, "test", *each) for each in both),
    )
    with WorkerPool(2) as pool:
        found = run_edits([full, lora, tune], workers=pool)
        assert found.groupby(["split", "method"], sort=False).size().to_dict() == {
            ("test", "full linears"): 8,
            ("test", "LoRA 2 mlp"): 4,
            ("tune", "rome at the subject"): 1,
        }
        assert found["world"].tolist() == [0] * 13
        assert found["draw"].tolist() == [0] * 4 + [1] * 4 + [0] * 2 + [1] * 2 + [0]
        # One process, the other way round, and interrupted: what was finished is kept.
        for kept in cache.glob("*.npz"):
            kept.rename(tmp_path / kept.name)
        pool.workers = 1
        wrong = dataclasses.replace(full, truncations=(-1,))
        with pytest.raises(JobError, match="rank=-1: must be at least 0"):
            run_edits([tune, lora, wrong, full], workers=pool)
        assert len(list(cache.glob("*.npz"))) == 3
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "_start_worker", no_process)
            first = run_edits([tune, lora], workers=1)
            with pytest.raises(AssertionError, match="a process was started"):
                run_edits([tune, lora, full], workers=1)
        second = run_edits([full], workers=pool)
    pd.testing.assert_frame_equal(
        untimed(found), untimed(pd.concat([second, first.iloc[1:], first.iloc[:1]]))[untimed(found).columns]
    )
    monkeypatch.setattr(parallel, "_start_worker", no_process)
    pd.testing.assert_frame_equal(run_edits([full, lora, tune])[second.columns].iloc[:8], second)
    here = pd.DataFrame(make_edits(job(draw=1, learning_rates=(1e-3, 1e-2)))["rows"])
    pd.testing.assert_frame_equal(untimed(here), untimed(found.iloc[4:8])[untimed(here).columns], rtol=1e-3, atol=1e-5)
