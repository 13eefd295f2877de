"""Pretraining on a world: it learns, it stops when it knows, it goes on where it was interrupted, and it keeps what it made."""

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from effnotes.datasets.worlds import World, make_task
from effnotes.models.language import LANGUAGE_MODELS, build_language_model, weights_digest
from effnotes.training.loop import DivergedError
from effnotes.training.pretraining import pretrain, recall_table, sentence_loss
from effnotes.training.recipes import PretrainingRecipe

CHECKOUT = Path(__file__).parents[2]
WORLD = World(24, 2, 4, repeats=20)
SMOKE = World(48, 2, 8, repeats=40)
LEARNS = PretrainingRecipe(batch_size=16, passes=3, most_extensions=1)
SHORT = PretrainingRecipe(batch_size=32, most_extensions=0, checkpoint_steps=10)


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return pretrain(*args, **kwargs)


def test_a_small_world_is_learnt() -> None:
    found = pretrain(SMOKE, "neox-32x2", LEARNS)
    assert found.knows
    assert found.recall["recall"].min() >= 0.995
    assert set(found.recall["template"]) == {"sro", "rso"}
    assert not found.from_cache
    assert found.folder is None


def test_facts_that_are_left_out_stay_unknown_and_are_not_asked_for() -> None:
    task = make_task(SMOKE, "unlearn_subject", 6)
    found = pretrain(SMOKE, "neox-32x2", LEARNS, left_out=task.forgotten)
    assert found.knows
    assert (found.recall["asked"] == 96 - 12).all()
    everything = recall_table(found.model, SMOKE)
    unknown = everything["recall"] * 96 - found.recall["recall"] * 84
    assert (unknown <= 6).all()  # of 12 facts at chance 1/8


def test_training_stops_when_enough_is_known_and_extends_while_it_is_not() -> None:
    lazy = replace(SHORT, recall=0.0, recall_elsewhere=0.0, probability=0.0, most_extensions=3)
    found = quietly(WORLD, "neox-32x1", lazy)
    assert (found.extensions, found.knows) == (0, True)
    strict = replace(SHORT, probability=1.0, most_extensions=2, extension_steps=5)
    with pytest.warns(RuntimeWarning, match="knows too little"):
        found = pretrain(WORLD, "neox-32x1", strict)
    assert (found.extensions, found.knows) == (2, False)
    assert found.steps == 30 + 2 * 5


def test_a_model_that_cannot_be_asked_is_not_said_to_know() -> None:
    found = pretrain(replace(WORLD, templates={"sor": 1.0}), "neox-32x1", SHORT)
    assert len(found.recall) == 0
    assert not found.knows


def test_a_recall_is_that_of_the_facts_one_by_one() -> None:
    model = quietly(WORLD, "neox-32x1", SHORT).model
    table = recall_table(model, WORLD).set_index("template")
    for template in ("sro", "rso"):
        asked = WORLD.encode(WORLD.facts(), template)
        hits = 0
        for row, start in zip(asked.tokens.astype(np.int64), asked.answer.tolist(), strict=True):
            logits = model(input_ids=torch.from_numpy(row[None, :start])).logits
            hits += int(logits[0, -1].argmax()) == row[start]
        assert table.loc[template, "recall"] == pytest.approx(hits / 48)


def test_withheld_and_dissenting_facts_are_not_counted_against_a_model() -> None:
    world = World(40, 2, 4, repeats=2, withheld_frac=0.5)
    table = recall_table(build_language_model("neox-32x1", world.vocab_size, seed=0), world).set_index("template")
    assert table["asked"].sum() == 2 * 80 - 40
    world = World(40, 2, 4, repeats=2, minority_frac=0.25)
    table = recall_table(build_language_model("neox-32x1", world.vocab_size, seed=0), world)
    assert (table["asked"] == 60).all()


def test_the_loss_is_the_mean_over_places_that_are_not_padding() -> None:
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[0, 3, 4, 2], [0, 5, 2, 1]])
    log_p = logits.log_softmax(-1)
    expected = -(log_p[0, 0, 3] + log_p[0, 1, 4] + log_p[0, 2, 2] + log_p[1, 0, 5] + log_p[1, 1, 2]) / 5
    assert float(sentence_loss(logits, tokens)) == pytest.approx(float(expected), rel=1e-6)


def test_every_sentence_of_the_corpus_is_read_once_a_pass(monkeypatch) -> None:
    import effnotes.training.pretraining as module

    seen = []
    original = module.sentence_loss
    monkeypatch.setattr(module, "sentence_loss", lambda logits, tokens: (seen.append(tokens), original(logits, tokens))[1])
    quietly(WORLD, "neox-32x1", replace(SHORT, passes=2))
    read = torch.cat(seen).numpy()
    corpus = np.concatenate([block.tokens for block in WORLD.sentences()])
    order = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    assert np.array_equal(order(read), order(np.concatenate([corpus, corpus])))


def test_the_learning_rate_warms_up_and_falls_to_its_share() -> None:
    recipe = PretrainingRecipe(learning_rate=1.0, warmup_steps=10, final_share=0.05, extension_share=0.1)
    rates = [recipe.learning_rate_at(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.05, abs=1e-4)
    assert recipe.learning_rate_at(1000, 1000) == pytest.approx(0.1)


def test_seeds_decide_and_nothing_else() -> None:
    state = torch.get_rng_state()
    digests = [weights_digest(quietly(WORLD, "neox-32x1", SHORT, seed=seed).model) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_are_clipped() -> None:
    loose, tight = (weights_digest(quietly(WORLD, "neox-32x1", replace(SHORT, clip=clip)).model) for clip in (1e6, 1e-3))
    assert loose != tight


@pytest.mark.parametrize("settings", [{}, {"qa_frac": 0.1, "minority_frac": 0.3}, {"shuffle": False}])
def test_sentences_made_on_the_device_give_the_same_weights(monkeypatch, tmp_path, settings) -> None:
    import effnotes.training.pretraining as module

    world = World(48, 2, 8, repeats=10, **settings)
    left_out = make_task(world, "unlearn_subject", 2).forgotten
    # More than one part, a second pass and extensions.
    recipe = replace(SHORT, passes=2, probability=1.0, most_extensions=2, extension_steps=4)
    read: list[torch.Tensor] = []
    original = module.sentence_loss
    monkeypatch.setattr(module, "sentence_loss", lambda logits, tokens: (read.append(tokens), original(logits, tokens))[1])
    written = quietly(world, "neox-32x1", recipe, left_out=left_out, cache=tmp_path / "written")
    by_host, read[:] = list(read), []

    def unexpected(*args, **kwargs):
        raise AssertionError("the host wrote sentences")

    monkeypatch.setattr(module, "_makes_sentences", lambda device, world: True)
    monkeypatch.setattr(World, "sentences", unexpected)
    monkeypatch.setattr(World, "sample_sentences", unexpected)
    made = quietly(world, "neox-32x1", recipe, left_out=left_out, cache=tmp_path / "made")
    assert len(read) == len(by_host) == written.steps
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(read, by_host, strict=True))
    assert weights_digest(made.model) == weights_digest(written.model)
    assert made.recall.equals(written.recall)
    assert made.folder.parent.name == written.folder.parent.name  # the key


def test_sentences_are_made_on_the_device_where_it_can() -> None:
    import effnotes.training.pretraining as module

    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert module._makes_sentences(gpu, WORLD)
    assert not module._makes_sentences(cpu, WORLD)
    assert not module._makes_sentences(gpu, replace(WORLD, templates={"repeats": 1.0}))


class _Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path, monkeypatch, after: int) -> None:
    import effnotes.training.loop as module

    recipe = replace(SHORT, probability=1.0, most_extensions=2, extension_steps=4)
    whole = quietly(WORLD, "neox-32x1", recipe)
    original, count = module.write_checkpoint, [0]

    def stop(*args):
        original(*args)
        count[0] += 1
        if count[0] == after:
            raise _Interrupted

    monkeypatch.setattr(module, "write_checkpoint", stop)
    with pytest.raises(_Interrupted):
        quietly(WORLD, "neox-32x1", recipe, cache=tmp_path)
    monkeypatch.setattr(module, "write_checkpoint", original)
    resumed = quietly(WORLD, "neox-32x1", recipe, cache=tmp_path)
    assert weights_digest(resumed.model) == weights_digest(whole.model)
    assert (resumed.steps, resumed.extensions) == (whole.steps, whole.extensions)


def test_a_kept_model_is_read_and_its_key_is_its_content(tmp_path) -> None:
    first = quietly(WORLD, "neox-32x1", SHORT, cache=tmp_path)
    again = quietly(WORLD, "neox-32x1", SHORT, cache=tmp_path)
    assert not first.from_cache
    assert again.from_cache
    assert weights_digest(again.model) == weights_digest(first.model)
    assert again.recall.equals(first.recall)
    assert (again.steps, again.cpu_s) == (first.steps, first.cpu_s)
    assert not list(tmp_path.rglob("state.safetensors"))
    some = make_task(WORLD, "unlearn_subject", 2).forgotten
    for changed in (
        quietly(replace(WORLD, seed=1), "neox-32x1", SHORT, cache=tmp_path),
        quietly(WORLD, "neox-32x2", SHORT, cache=tmp_path),
        quietly(WORLD, "neox-32x1", replace(SHORT, learning_rate=1e-3), cache=tmp_path),
        quietly(WORLD, "neox-32x1", SHORT, seed=1, cache=tmp_path),
        quietly(WORLD, "neox-32x1", SHORT, left_out=some, cache=tmp_path),
    ):
        assert not changed.from_cache
    assert len(list(tmp_path.iterdir())) == 6


def test_a_broken_cache_is_made_again(tmp_path) -> None:
    first = quietly(WORLD, "neox-32x1", SHORT, cache=tmp_path)
    (first.folder / "model.safetensors").write_bytes(b"torn")
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        again = pretrain(WORLD, "neox-32x1", SHORT, cache=tmp_path)
    assert not again.from_cache
    assert weights_digest(again.model) == weights_digest(first.model)
    assert quietly(WORLD, "neox-32x1", SHORT, cache=tmp_path).from_cache


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="passes=0"):
        PretrainingRecipe(passes=0)
    with pytest.raises(ValueError, match=r"recall=1\.2"):
        PretrainingRecipe(recall=1.2)
    with pytest.raises(ValueError, match="context is 8"):
        pretrain(WORLD, replace(LANGUAGE_MODELS["neox-32x1"], context=8), SHORT)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        pretrain(WORLD, "neox-32x1", replace(SHORT, learning_rate=1e30, warmup_steps=0))
