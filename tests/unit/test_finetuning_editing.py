"""Edits of tiny models: what is trained and what is not, the losses against loops, and that the scores say what happened."""

import copy
import dataclasses
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from effnotes.datasets.worlds import World, make_task
from effnotes.finetuning import (
    NPO,
    RMU,
    EditRecipe,
    Evaluator,
    GradDiff,
    Learn,
    SimNPO,
    apply_difference,
    edit,
    evaluate_edit,
    evaluate_unlearning,
    relearning_task,
    truncate_difference,
)
from effnotes.finetuning.editing.edit import edit_pools
from effnotes.finetuning.editing.scores import RETAINED, _drawn, control_facts
from effnotes.finetuning.tune import Batches
from effnotes.metrics.editing import stable_rank
from effnotes.models.answers import answer
from effnotes.models.language import block_linears, build_language_model, residual_stream, weights_digest
from effnotes.models.rows import Rows
from effnotes.training.pretraining import pretrain
from effnotes.training.recipes import PretrainingRecipe

WORLD = World(48, 2, 8, repeats=40)
SHORT = EditRecipe(learning_rate=1e-2, checkpoints=(2, 5), batch_size=8)
TASK = make_task(WORLD, "remap", 1, retain_coverage=0.25)
UNLEARN = make_task(WORLD, "unlearn_subject", 4, retain_coverage=0.25)
DOWN = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"


def fresh(name: str = "neox-32x2", world: World = WORLD) -> nn.Module:
    return build_language_model(name, world.vocab_size, seed=0)


@pytest.fixture(scope="module")
def knowing() -> nn.Module:
    found = pretrain(WORLD, "neox-32x2", PretrainingRecipe(batch_size=16, passes=3, most_extensions=1))
    assert found.knows
    return found.model


# --- what is trained ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["neox-32x2", "llama-64x2"])
@pytest.mark.parametrize("layers", [None, (1,)])
@pytest.mark.parametrize("blocks", ["linears", "attention", "mlp"])
@pytest.mark.parametrize("rank", [None, 2])
def test_an_edit_changes_the_named_weights_and_no_others(family: str, layers, blocks: str, rank: int | None) -> None:
    base = fresh(family)
    before = weights_digest(base)
    recipe = replace(SHORT, method="full" if rank is None else "lora", rank=rank, blocks=blocks, layers=layers)
    found = edit(base, TASK, recipe)
    assert weights_digest(base) == before
    linears = block_linears(base, blocks, layers)
    changed = {name for name, new in found.model.named_parameters() if not torch.equal(new, dict(base.named_parameters())[name])}
    assert changed == {f"{name}.weight" for name in linears} == set(found.difference)
    if rank is None:
        assert found.n_trainable == sum(each.weight.numel() for each in linears.values())
    else:
        assert found.n_trainable == sum(rank * (each.in_features + each.out_features) for each in linears.values())
        assert all(torch.linalg.matrix_rank(change.double(), rtol=1e-4) <= rank for change in found.difference.values())
    assert type(found.model) is type(base)
    assert [name for name, _ in found.model.named_parameters()] == [name for name, _ in base.named_parameters()]


@pytest.mark.parametrize("recipe", [SHORT, replace(SHORT, method="lora", rank=2), replace(SHORT, blocks="all")])
def test_optimizer_bytes_are_what_gradients_and_moments_take(recipe: EditRecipe, monkeypatch) -> None:
    made = []

    class Kept(torch.optim.AdamW):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(torch.optim, "AdamW", Kept)
    found = edit(fresh(), TASK, recipe)
    (optimizer,) = made
    held = 0
    for parameter, state in optimizer.state.items():
        held += parameter.grad.nbytes + sum(each.nbytes for key, each in state.items() if key != "step")
    assert found.optimizer_bytes == held


def test_tied_embeddings_are_trained_as_one() -> None:
    tied = fresh()
    tied.lm_head.weight = tied.gpt_neox.embed_in.weight
    found = edit(tied, TASK, replace(SHORT, blocks="all"))
    assert found.n_trainable == tied.num_parameters() == fresh().num_parameters() - tied.lm_head.weight.numel()
    assert found.difference["gpt_neox.embed_in.weight"].any()
    assert found.model.get_input_embeddings().weight is found.model.get_output_embeddings().weight
    assert edit(tied, TASK, SHORT).model.get_input_embeddings().weight.equal(tied.get_input_embeddings().weight)


@pytest.mark.parametrize("rank", [1, 4, 16])
@pytest.mark.parametrize(
    "alpha", [lambda r: 2 * r, lambda r: 6, lambda r: 6 * r**0.5], ids=["twice the rank", "fixed", "rank-stabilised"]
)
def test_the_scale_is_the_factor_on_the_product(rank: int, alpha) -> None:
    scale = alpha(rank) / rank
    recipe = replace(SHORT, method="lora", rank=rank, scale=scale, layers=(1,), blocks="mlp", checkpoints=(1,))
    factors = {}

    def observe(model: nn.Module) -> dict[str, float]:
        layer = model.base_model.model.gpt_neox.layers[1].mlp.dense_4h_to_h
        factors["product"] = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach().clone()
        return {}

    found = edit(fresh(), TASK, recipe, observe=observe)
    assert torch.allclose(found.difference[DOWN], scale * factors["product"], atol=1e-6)


def test_a_difference_gives_the_model_again_and_can_be_truncated() -> None:
    base = fresh()
    found = edit(base, TASK, replace(SHORT, blocks="all"))
    again = apply_difference(base, found.difference)
    for (name, a), (_, b) in zip(again.named_parameters(), found.model.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    cut = truncate_difference(found.difference, 2)
    change = found.difference[DOWN].double().numpy()
    u, s, v = np.linalg.svd(change)
    assert cut[DOWN].numpy() == pytest.approx((u[:, :2] * s[:2]) @ v[:2], abs=1e-6)
    assert np.linalg.norm(change - cut[DOWN].numpy()) == pytest.approx(np.sqrt((s[2:] ** 2).sum()), rel=1e-4)
    assert torch.equal(cut["gpt_neox.final_layer_norm.bias"], found.difference["gpt_neox.final_layer_norm.bias"])
    assert not truncate_difference(found.difference, 0)[DOWN].any()
    with pytest.raises(ValueError, match="no parameter 'x'"):
        apply_difference(base, {"x": torch.zeros(1)})


def test_seeds_decide_and_the_global_state_is_left() -> None:
    base, state = fresh(), torch.get_rng_state()
    recipe = replace(SHORT, method="lora", rank=2)
    digests = [weights_digest(edit(base, TASK, recipe, seed=seed).model) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_an_observer_that_trains_the_base_is_found_out() -> None:
    base = fresh()

    def meddle(_: nn.Module) -> dict[str, float]:
        base.lm_head.weight.add_(1)
        return {}

    with pytest.raises(RuntimeError, match="base model was changed"):
        edit(base, TASK, SHORT, observe=meddle)


def test_layers_that_do_not_exist_and_edits_without_a_share_are_refused() -> None:
    with pytest.raises(ValueError, match="numbered 0 to 1"):
        edit(fresh(), TASK, replace(SHORT, layers=(2,)))
    with pytest.raises(ValueError, match="edited_share="):
        EditRecipe(edited_share=0.0)


# --- batches ------------------------------------------------------------------------------------------------------------------


def batch_of(task, recipe: EditRecipe) -> tuple[Rows, Rows | None]:
    return next(iter(Batches(edit_pools(task, recipe), recipe.batch_size, 0, torch.device("cpu"))))


def test_batches_hold_the_shares_of_the_recipe() -> None:
    edited, retained = batch_of(TASK, EditRecipe(batch_size=32, edited_share=0.25))
    assert len(edited.tokens) == 8
    assert len(retained.tokens) == 24
    own = TASK.encode("train", "edited").tokens[0]
    assert (edited.tokens.numpy() == own).all()
    relation = WORLD.words.relations[0, 0]
    assert (retained.tokens == relation).any(dim=1).sum() == 12
    assert edited.is_answer.sum() == 8
    answers = edited.tokens[edited.is_answer]
    assert (answers.numpy() == WORLD.words.objects[0, TASK.train["edited"].facts.object[0], 0]).all()


def test_without_retain_rows_a_batch_is_the_edit_alone() -> None:
    alone = make_task(WORLD, "remap", 1, retain_coverage=0.0)
    edited, retained = batch_of(alone, EditRecipe())
    assert len(edited.tokens) == 32
    assert retained is None


def test_a_missing_pool_leaves_its_share_to_the_other() -> None:
    task = make_task(WORLD, "suppress", 4, retain_coverage=0.25)
    assert "with_same_rel" not in task.train
    _, retained = batch_of(task, EditRecipe())
    assert len(retained.tokens) == 24


def test_an_edit_alone_has_no_share_for_others() -> None:
    edited, retained = batch_of(TASK, EditRecipe(edited_share=1.0))
    assert len(edited) == 32
    assert retained is None


def test_a_batch_without_room_for_every_share_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=1: too small"):
        edit(fresh(), TASK, replace(SHORT, batch_size=1))


# --- losses against loops over rows -------------------------------------------------------------------------------------------


def rows_of(task, group: str) -> Rows:
    """Five rows, with two more columns of padding, which is the first token of the text."""
    rows = Rows.of(task.encode("train", group)).take(slice(0, 5))
    columns = torch.arange(rows.tokens.shape[1] + 2)
    tokens = F.pad(rows.tokens, (0, 2)).where(columns < rows.length[:, None], rows.tokens[:, :1])
    return replace(rows, tokens=tokens)


def log_likelihoods(model: nn.Module, rows: Rows) -> list[float]:
    """Of each answer, one prompt and one token at a time."""
    found = []
    for tokens, is_answer in zip(rows.tokens, rows.is_answer, strict=True):
        total = 0.0
        for place in torch.nonzero(is_answer)[:, 0].tolist():
            logits = model(input_ids=tokens[None, :place]).logits[0, -1].double()
            total += float((logits - logits.logsumexp(0))[tokens[place]].detach())
        found.append(total)
    return found


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    base = fresh()
    model = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model, base


def test_losses_are_their_formulas(pair) -> None:
    model, base = pair
    forget, retain = rows_of(UNLEARN, "forget"), rows_of(UNLEARN, "reg_data")
    f, f_base, r = log_likelihoods(model, forget), log_likelihoods(base, forget), log_likelihoods(model, retain)
    nll_f, nll_r = -np.mean(f), -np.mean(r)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    npo = -2 / 0.5 * np.mean([math.log(sigmoid(-0.5 * (a - b))) for a, b in zip(f, f_base, strict=True)])
    simnpo = -2 / 2.5 * np.mean([math.log(sigmoid(-2.5 * a / 1 - 0.3)) for a in f])
    for objective, expected in (
        (Learn(), (nll_f + nll_r) / 2),
        (GradDiff(0.0), -nll_f),
        (GradDiff(retain_weight=2.0), -nll_f + 2 * nll_r),
        (NPO(beta=0.5, retain_weight=3.0), npo + 3 * nll_r),
        (SimNPO(beta=2.5, gamma=0.3), simnpo + nll_r),
    ):
        assert float(objective.loss(model, base, forget, retain).detach()) == pytest.approx(expected, rel=1e-4), objective
    assert float(NPO().loss(model, base, forget, None).detach()) == pytest.approx(npo, rel=1e-4)


def test_learning_on_sentences_counts_every_token_but_padding(pair) -> None:
    model, base = pair
    rows = rows_of(UNLEARN, "forget")
    total, n = 0.0, 0
    for tokens, length in zip(rows.tokens, rows.length.tolist(), strict=True):
        logits = model(input_ids=tokens[None, :length]).logits[0]
        total += float(F.cross_entropy(logits[:-1], tokens[1:length], reduction="sum").detach())
        n += length - 1
    assert float(Learn(on="sentence").loss(model, base, rows, None).detach()) == pytest.approx(total / n, rel=1e-5)


def test_npo_starts_with_the_gradient_of_gradient_ascent(pair) -> None:
    """At the base the weight of each row is 2 sigmoid(0) = 1: NPO's gradient is gradient ascent's."""
    base = pair[1]
    model, forget = copy.deepcopy(base), rows_of(UNLEARN, "forget")
    gradients = []
    for objective in (NPO(beta=0.5, retain_weight=0), GradDiff(0.0)):
        model.zero_grad()
        objective.loss(model, base, forget, None).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6)


def test_rmu_moves_the_stream_of_one_layer(pair) -> None:
    model, base = pair
    forget, retain = rows_of(UNLEARN, "forget"), rows_of(UNLEARN, "reg_data")
    u = torch.rand(32, generator=torch.Generator().manual_seed(0))
    lengths = []
    for tokens, length in zip(forget.tokens, forget.length.tolist(), strict=True):
        text = tokens[None, :length]
        lengths += base(input_ids=text, output_hidden_states=True).hidden_states[1][0].norm(dim=1).tolist()
    target = 4.0 * np.mean(lengths) * u / u.norm()
    expected = []
    for rows, goal in ((forget, None), (retain, base)):
        terms = []
        for tokens, length in zip(rows.tokens, rows.length.tolist(), strict=True):
            text = tokens[None, :length]
            # transformers' own hidden states: entry l + 1 is the stream behind block l.
            h = model(input_ids=text, output_hidden_states=True).hidden_states[1][0]
            aim = target if goal is None else goal(input_ids=text, output_hidden_states=True).hidden_states[1][0]
            terms.append(((h - aim) ** 2).flatten())
        expected.append(float(torch.cat(terms).mean().detach()))
    objective = RMU(layer=0, c=4.0, retain_weight=5.0)
    assert float(objective.loss(model, base, forget, retain).detach()) == pytest.approx(expected[0] + 5 * expected[1], rel=1e-4)
    assert residual_stream(model, forget.tokens, 0).shape == (*forget.tokens.shape, 32)


def test_rmu_aims_as_far_in_any_unit(pair) -> None:
    """A model whose residual stream is ten times as long has a hundred times the loss."""
    model, base = pair
    forget, retain = rows_of(UNLEARN, "forget"), rows_of(UNLEARN, "reg_data")
    large = []
    for each in pair:
        copied = copy.deepcopy(each)
        with torch.no_grad():  # behind each part that writes into the stream; its layer norms take the factor out again
            for name, parameter in copied.named_parameters():
                if name.endswith(("embed_in.weight", "dense.weight", "dense.bias", "dense_4h_to_h.weight", "dense_4h_to_h.bias")):
                    parameter.mul_(10)
        for layer in copied.gpt_neox.layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.eps *= 100
        large.append(copied)
    objective = RMU(layer=1)
    small = float(objective.loss(model, base, forget, retain).detach())
    assert float(objective.loss(*large, forget, retain).detach()) == pytest.approx(100 * small, rel=1e-3)


def test_losses_count_answers_of_two_tokens_as_one_answer_or_as_two_tokens() -> None:
    """NPO weighs whole answers; SimNPO, and the mean of gradient ascent, tokens."""
    world = ASKED_WORLDS["two tokens"]
    base, model = (build_language_model("neox-32x2", world.vocab_size, seed=seed) for seed in (0, 1))
    asked = world.encode(world.facts(), "sro")
    rows = Rows.of(asked)
    assert (rows.is_answer.sum(dim=1) == 2).all()
    ours, before = (np.array(log_likelihoods(each, rows)) for each in (model, base))
    log_sigmoid = lambda x: -np.log1p(np.exp(-x))  # noqa: E731
    for objective, expected in (
        (GradDiff(0.0), ours.mean() / 2),
        (NPO(beta=0.5, retain_weight=0), -4 * log_sigmoid(-0.5 * (ours - before)).mean()),
        (SimNPO(beta=2.5, gamma=0.3, retain_weight=0), -0.8 * log_sigmoid(-2.5 * ours / 2 - 0.3).mean()),
    ):
        assert float(objective.loss(model, base, rows, None).detach()) == pytest.approx(expected, rel=1e-5), objective


# --- what edits do ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [EditRecipe(), EditRecipe(method="lora", rank=2, learning_rate=1e-2)], ids=["full", "lora"])
def test_a_fact_is_remapped_and_the_scores_say_so(knowing, recipe: EditRecipe) -> None:
    found = edit(
        knowing, TASK, recipe, observe=lambda model: {"p": float(answer(model, TASK.encode("test", "edited")).probability[0])}
    )
    assert found.history["step"].tolist() == [0, 10, 20, 40, 80]
    assert found.history["edited_exact"].iloc[0] == 0
    assert found.history["edited_exact"].iloc[-1] == 1
    assert found.history["p"].iloc[-1] > 0.9
    assert found.first_success in (10, 20, 40, 80)
    assert found.cpu_s > 0
    found_scores = evaluate_edit(knowing, found.model, TASK)
    scores, groups = found_scores.scores, found_scores.groups.set_index("group")
    assert scores["edit_success"] == 1
    assert scores["probability_gain"] > 0.5
    assert scores["prefers_new"] == 1
    kept = [scores[name] for name in ("kept_same_value", "kept_same_relation", "kept_same_subject", "kept_other")]
    assert scores["retention"] == pytest.approx(np.mean(kept))
    assert scores["exact_H"] == pytest.approx(2 / (1 + 1 / scores["retention"]))
    assert scores["retention_of_successes"] == scores["retention"]
    assert scores["edit_probability"] == groups.loc["edited", "probability"]
    before = Evaluator(knowing, TASK)(knowing).groups.set_index("group")
    retained = {}  # of each group, over the facts that the base knew
    for name in RETAINED:
        rows = TASK.encode("test", name)
        known = answer(knowing, rows).exact
        retained[name] = answer(found.model, rows).probability[known].mean()
        assert groups.loc[name, "kept_probability"] == pytest.approx(retained[name])
        assert before.loc[name, "kept_probability"] > 0.9
    kept_probability = np.mean(list(retained.values()))
    assert scores["kept_probability"] == pytest.approx(kept_probability)
    assert scores["H"] == pytest.approx(2 / (1 / scores["edit_probability"] + 1 / kept_probability))
    assert scores["H"] < scores["exact_H"]  # nothing is ever certain
    assert groups.loc["edited", "known"] == 0
    assert groups.loc["reg_data", "known"] == groups.loc["reg_data", "asked"]
    assert all(stable_rank(change.numpy()) >= 1 for change in found.difference.values())


def test_doing_nothing_keeps_everything(knowing) -> None:
    scores = evaluate_edit(knowing, knowing, TASK).scores
    assert (scores["edit_success"], scores["retention"], scores["exact_H"]) == (0, 1, 0)
    assert 0 < scores["H"] < 0.1  # as probable as the new object was
    assert np.isnan(scores["retention_of_successes"])
    assert scores["drift"] == pytest.approx(0, abs=1e-9)
    assert scores["old_probability"] > 0.9


def next_distributions(model: nn.Module, sentences) -> torch.Tensor:
    """After each prompt, one at a time."""
    rows = zip(sentences.tokens.astype(np.int64), sentences.answer.tolist(), strict=True)
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.from_numpy(row[None, :start])).logits[0, -1].softmax(0) for row, start in rows])


def test_drift_and_probabilities_are_those_of_a_loop(knowing) -> None:
    edited = edit(knowing, TASK, replace(SHORT, checkpoints=(10,))).model
    scores = evaluate_edit(knowing, edited, TASK, batch_size=7).scores
    divergences = []
    for group in ("with_same_value", "with_same_rel", "reg_data", "same_edges_diff_rel"):
        if group in TASK.test:
            p, q = (next_distributions(model, TASK.encode("test", group)).double() for model in (knowing, edited))
            divergences += (p * (p / q).log()).sum(dim=1).tolist()
    assert scores["drift"] == pytest.approx(np.mean(divergences), rel=1e-3)
    (p,) = next_distributions(edited, TASK.encode("test", "edited"))
    new, old = (p[WORLD.words.objects[0, facts.object[0], 0]].item() for facts in (TASK.test["edited"].facts, TASK.old))
    assert scores["old_probability"] == pytest.approx(old, rel=1e-4)
    assert scores["probability_gain"] == pytest.approx(new - old, rel=1e-4)
    (p,) = next_distributions(edited, TASK.encode("test", "paraphrase"))
    assert scores["paraphrase_success"] == (int(p.argmax()) == WORLD.words.objects[0, TASK.test["edited"].facts.object[0], 0])


def read_out(model: nn.Module, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities after a text, which is read alone."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1].double().log_softmax(0)


def asked_one_by_one(model: nn.Module, prompt: list[int], wanted: list[int]) -> tuple[bool, float, list[torch.Tensor]]:
    """Whether greedy decoding gives an answer, how probable it is, and the distributions of its tokens."""
    decoded: list[int] = []
    for _ in wanted:
        decoded.append(int(read_out(model, prompt + decoded).argmax()))
    distributions = [read_out(model, prompt + wanted[:place]) for place in range(len(wanted))]
    probability = math.exp(sum(float(log_p[token]) for log_p, token in zip(distributions, wanted, strict=True)))
    return decoded == wanted, probability, distributions


def word(world: World, facts, row: int, objects) -> list[int]:
    return [int(token) for token in world.words.of_facts(facts.saying(objects))[2][row] if token >= 0]


def scores_by_a_loop(base: nn.Module, edited: nn.Module, task) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Groups and the scores that need more than those, one prompt, model and token at a time."""
    groups, scores, drifts = {}, {}, []
    for name in task.test:
        asked, found = task.encode("test", name), []
        for row in range(len(asked)):
            start, n = int(asked.answer[row]), int(asked.answer_length[row])
            prompt, wanted = asked.tokens[row, :start].tolist(), asked.tokens[row, start : start + n].tolist()
            known, _, before = asked_one_by_one(base, prompt, wanted)
            exact, probability, after = asked_one_by_one(edited, prompt, wanted)
            drift = float(np.mean([float((p.exp() * (p - q)).sum()) for p, q in zip(before, after, strict=True)]))
            rival = {}
            if name == "edited":
                rival = {"old": asked_one_by_one(edited, prompt, word(task.world, asked.facts, row, task.old.object))}
            elif name == "implicitly_remapped_edges":
                rival = {"zero": asked_one_by_one(edited, prompt, word(task.world, asked.facts, row, 0))}
            found.append((known, exact, probability, drift, rival))
        known, exact, probability, drift, rivals = zip(*found, strict=True)
        groups[name] = {
            "asked": len(asked),
            "accuracy": np.mean(exact),
            "probability": np.mean(probability),
            "known": sum(known),
            "drift": np.mean(drift),
        }
        if name in ("with_same_value", "with_same_rel", "same_edges_diff_rel", "reg_data"):
            drifts += drift
        if name == "edited" and task.kind in ("remap", "suppress"):
            old = [rival["old"][1] for rival in rivals]
            scores["old_probability"] = np.mean(old)
            scores["probability_gain"] = np.mean(probability) - np.mean(old)
            scores["prefers_new"] = np.mean([p > q for p, q in zip(probability, old, strict=True)])
        if name == "implicitly_remapped_edges":
            scores["spread"] = np.mean([rival["zero"][0] for rival in rivals])
    scores["drift"] = np.mean(drifts)
    return groups, scores


def with_object_zero(world: World) -> World:
    """The same world, but the last subject has object 0, which few draws of so many objects give."""
    objects = world.graph.objects.copy()
    objects[-1] = 0
    return dataclasses.replace(world, given_graph=dataclasses.replace(world.graph, objects=objects))


ASKED_WORLDS = {
    "one token": World(12, 2, 4, repeats=1),
    "two tokens": with_object_zero(World(5, 2, 1200, repeats=1)),
    "mixed lengths": World(10, 2, 4, templates={"repeats": 1.0}, qa_frac=0.2, qa_subject_frac=1.0, repeats=1),
}


def teach_(model: nn.Module, asked: list, steps: int) -> None:
    """Train a model on answers so briefly that it knows some and not others."""
    rows = Rows.of(*asked)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        Learn().loss(model, model, rows, None).backward()
        optimizer.step()


@pytest.mark.parametrize("family", ["neox-32x2", "llama-64x2"])
@pytest.mark.parametrize("kind", ["remap", "suppress"])
@pytest.mark.parametrize("world", ASKED_WORLDS.values(), ids=ASKED_WORLDS)
def test_all_groups_asked_at_once_are_those_of_a_loop(world: World, kind: str, family: str) -> None:
    task = make_task(world, kind, 2, retain_coverage=0.2)
    base = build_language_model(family, world.vocab_size, seed=0)
    teach_(base, [task.encode("test", name) for name in task.test if name not in ("edited", "paraphrase")], 25)
    edited = copy.deepcopy(base)
    teach_(edited, [task.encode("train", "edited")], 4)
    groups, scores = scores_by_a_loop(base, edited, task)
    found = evaluate_edit(base, edited, task, batch_size=7)
    table = found.groups.set_index("group")
    assert list(table.index) == list(task.test)
    for name, row in groups.items():
        assert {column: table.loc[name, column] for column in row} == pytest.approx(row, rel=1e-5, abs=1e-6), name
    assert {name: found.scores[name] for name in scores} == pytest.approx(scores, rel=1e-5, abs=1e-6)


def test_what_is_asked_in_part_is_the_same_part_for_every_model() -> None:
    base, edited = fresh(), build_language_model("neox-32x2", WORLD.vocab_size, seed=1)
    task = make_task(WORLD, "suppress", 6, retain_coverage=0.25)
    capped = Evaluator(base, task, most_asked=5)
    sizes = {name: min(5, len(group)) for name, group in task.test.items()}
    assert capped(edited).groups.set_index("group")["asked"].to_dict() == sizes
    # The same rows as a task of their own.
    drawn = {name: _drawn(name, len(group), 5) for name, group in task.test.items()}
    assert all(len(set(rows)) == len(rows) for rows in drawn.values())
    part = replace(
        task, old=task.old.take(drawn["edited"]), test={name: group.take(drawn[name]) for name, group in task.test.items()}
    )
    for model in (edited, base):
        alone, found = evaluate_edit(base, model, part), capped(model)
        pd.testing.assert_frame_equal(found.groups, alone.groups)
        assert found.scores == pytest.approx(
            alone.scores | {"drift": found.scores["drift"], "retention": found.scores["retention"]}, nan_ok=True
        )
    of_groups = found.groups.set_index("group").loc[["same_edges_diff_rel", "reg_data"], "drift"]
    whole = [len(task.test[name]) for name in of_groups.index]
    assert found.scores["drift"] == pytest.approx(np.average(of_groups, weights=whole))
    for bad in ({"most_asked": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="=0: must be at least 1"):
            Evaluator(base, task, **bad)


@pytest.mark.parametrize("family", ["neox-32x2", "llama-64x2"])
def test_adapters_count_while_they_are_trained(family: str) -> None:
    base = fresh(family)
    evaluator = Evaluator(base, TASK)
    seen = []

    def observe(model: nn.Module) -> dict[str, float]:
        model.train()
        seen.append(evaluator(model).scores)
        assert model.training
        return {"drift": seen[-1]["drift"]}

    found = edit(base, TASK, replace(SHORT, method="lora", rank=2), observe=observe)
    assert found.history["drift"].iloc[0] == pytest.approx(0, abs=1e-9)
    merged = evaluate_edit(base, found.model, TASK).scores
    assert merged["drift"] > 0.01
    assert seen[-1] == pytest.approx(merged, rel=1e-3, abs=1e-5, nan_ok=True)


def test_an_evaluator_remembers_the_base_as_it_was() -> None:
    base, edited = fresh(), build_language_model("neox-32x2", WORLD.vocab_size, seed=1)
    expected = evaluate_edit(copy.deepcopy(base), edited, TASK).scores
    evaluator = Evaluator(base, TASK)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.zero_()
    assert evaluator(edited).scores == pytest.approx(expected, nan_ok=True)


def test_a_correlated_pair_is_asked_for_its_old_and_its_moved_object() -> None:
    world = World(24, 2, 4, correlation=1.0, repeats=40)
    base = pretrain(world, "neox-32x2", PretrainingRecipe(batch_size=16, passes=3, most_extensions=1)).model
    task = make_task(world, "remap", 1, retain_coverage=0.25)
    before = evaluate_edit(base, base, task).scores
    assert (before["pair_kept"], before["pair_moved"]) == (1, 0)
    # A second edit, of the paired relation to the same index, moves the pair along.
    moved = replace(task, train={"edited": task.test["same_subject_second_rel_converted"]})
    after = evaluate_edit(base, edit(base, moved).model, task).scores
    assert (after["pair_kept"], after["pair_moved"]) == (0, 1)


def test_retention_counts_only_what_the_base_knew(knowing) -> None:
    base = copy.deepcopy(knowing)  # half forgotten: noise as large as half of the weights
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.5 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    found = evaluate_edit(base, base, TASK)
    groups = found.groups.set_index("group")
    assert 0 < groups.loc["reg_data", "known"] < groups.loc["reg_data", "asked"]
    assert groups.loc["reg_data", "accuracy"] < 1
    assert found.scores["kept_other"] == 1


def test_a_suppression_spreads_to_the_unseen(knowing) -> None:
    task = make_task(WORLD, "suppress", 12, retain_coverage=0.25)
    before = evaluate_edit(knowing, knowing, task).scores
    assert (before["spread"], before["unseen_kept"]) == (0, 1)
    after = evaluate_edit(knowing, edit(knowing, task).model, task).scores
    assert after["spread"] > 0.5
    assert after["unseen_kept"] < 0.5


def test_consequences_in_a_nested_world_are_counted_by_hand() -> None:
    world = World(24, 2, 8, n_nested=4, repeats=1)
    task = make_task(world, "remap", 2, nested_class="changed")
    model = fresh(world=world)
    scores = evaluate_edit(model, model, task).scores
    followed = kept = 0
    implied = task.test["sno_new"]
    for s, r, new in zip(implied.facts.subject, implied.facts.relation, implied.facts.object, strict=True):
        old = world.graph.nested[r, world.graph.objects[s, r]]
        one = world.encode(implied.facts.take(implied.facts.subject == s), "sro")
        best = int(model(input_ids=torch.from_numpy(one.tokens[:1, : one.answer[0]].astype(np.int64))).logits[0, -1].argmax())
        followed += best == world.words.nested[r, new, 0]
        kept += best == world.words.nested[r, old, 0]
    n = len(implied)
    assert scores["consequence_followed"] == followed / n
    assert scores["consequence_kept"] == kept / n
    assert scores["consequence_other"] == pytest.approx(1 - (followed + kept) / n)


@pytest.mark.parametrize(
    ("objective", "learning_rate"),
    [(GradDiff(0.0), 1e-3), (GradDiff(), 1e-3), (NPO(), 1e-3), (SimNPO(), 1e-3), (RMU(retain_weight=1.0), 1e-2)],
    ids=["gradient ascent", "GradDiff", "NPO", "SimNPO", "RMU"],
)
def test_unlearning_lowers_what_it_should_forget(knowing, objective, learning_rate: float) -> None:
    asked = UNLEARN.encode("test", "forget")
    found = edit(knowing, UNLEARN, EditRecipe(objective=objective, learning_rate=learning_rate, checkpoints=(30,)))
    assert answer(found.model, asked).probability.mean() < answer(knowing, asked).probability.mean() - 0.2


def sentences_of(task) -> list[list[int]]:
    """The forgotten facts as they were trained, without padding."""
    written = task.encode("test", "forget")
    return [row[:n].tolist() for row, n in zip(written.tokens, written.length.tolist(), strict=True)]


def decoded_share(model: nn.Module, sentence: list[int]) -> float:
    """The share of a sentence that greedy decoding gives back, after the shortest prefix (behind EOS) that is enough for it."""
    n = len(sentence) - 1
    for k in range(n + 1):
        text = sentence[: k + 1]
        while len(text) <= n:
            text = [*text, int(read_out(model, text).argmax())]
        if text == sentence:
            return 1 - k / n
    raise AssertionError("the whole sentence is a prefix of itself")


def test_control_facts_are_what_no_sentence_gives() -> None:
    world = World(400, 2, 5, minority_frac=0.5, repeats=1)
    facts = world.facts()
    drawn = control_facts(world, facts)
    assert (drawn.subject == facts.subject).all()
    assert (drawn.relation == facts.relation).all()
    assert (drawn.object != facts.object).all()
    assert (drawn.object != world.minority_of(facts)).all()
    # Uniform over what is left: 3 objects where there is a second one, 4 elsewhere.
    rank = [
        sorted({*range(5)} - {right, second}).index(value)
        for right, second, value in zip(facts.object, world.minority_of(facts), drawn.object, strict=True)
    ]
    for is_double, n in ((True, 3), (False, 4)):
        counts = np.bincount(np.array(rank)[(world.minority_of(facts) >= 0) == is_double], minlength=n)
        assert len(counts) == n
        assert counts.min() > 0.6 * counts.mean()
    binary = World(20, 2, 4, correlation=0.9, binarize=True, repeats=1)
    flipped = control_facts(binary, binary.facts())
    of_two = flipped.relation == 0
    assert (flipped.object[of_two] == 1 - binary.facts().object[of_two]).all()
    small = World(20, 1, 2, minority_frac=0.5, repeats=1)
    with pytest.raises(ValueError, match="n_objects=2"):
        control_facts(small, small.facts())


def test_unlearning_is_held_against_a_model_that_never_knew(knowing) -> None:
    gold = pretrain(
        WORLD, "neox-32x2", PretrainingRecipe(batch_size=16, passes=3, most_extensions=1), left_out=UNLEARN.forgotten
    ).model
    itself = evaluate_unlearning(gold, gold, UNLEARN)
    assert (itself.forget_quality_log10_p, itself.forget_accuracy) == (0.0, itself.gold_accuracy)
    # 8 facts and 8 controls that the model never saw: the AUC of chance has a standard deviation of 0.15.
    for auc in (itself.gold_membership_loss, itself.gold_membership_min_k):
        assert 0.1 < auc < 0.9
    untouched = evaluate_unlearning(knowing, gold, UNLEARN)
    assert untouched.forget_accuracy == 1
    assert untouched.forget_quality_log10_p < -2
    assert untouched.membership_loss > 0.95
    assert untouched.membership_min_k > 0.95
    assert (untouched.gold_membership_loss, untouched.gold_extraction_strength) == (
        itself.membership_loss,
        itself.extraction_strength,
    )
    strengths = [[decoded_share(model, row) for row in sentences_of(UNLEARN)] for model in (knowing, gold)]
    assert (untouched.extraction_strength, untouched.gold_extraction_strength) == pytest.approx([*map(np.mean, strengths)])
    assert untouched.extraction_strength > untouched.gold_extraction_strength > 0
    assert untouched.utility > 0.9
    with pytest.raises(ValueError, match="unlearn_subject"):
        evaluate_unlearning(knowing, gold, TASK)


def test_relearning_trains_one_half_and_asks_for_the_other(knowing) -> None:
    again = relearning_task(UNLEARN)
    taught, asked = again.train["forget"].facts, again.test["forget"].facts
    assert len(taught) == len(asked) == 4
    assert not set(taught.subject) & set(asked.subject)
    assert set(taught.subject) | set(asked.subject) == set(UNLEARN.old.subject)
    unlearned = edit(knowing, UNLEARN, EditRecipe(objective=GradDiff(), learning_rate=1e-3, checkpoints=(40,))).model
    back = edit(unlearned, again, EditRecipe(learning_rate=1e-3, checkpoints=(20,)))
    relearnt = answer(back.model, WORLD.encode(taught, "sro"))
    assert relearnt.exact.mean() > answer(unlearned, WORLD.encode(taught, "sro")).exact.mean()
    other = answer(back.model, WORLD.encode(asked, "sro"))
    assert back.history["edited_exact"].iloc[-1] == other.exact.mean()
    with pytest.raises(ValueError, match="two halves"):
        relearning_task(TASK)


def test_edits_follow_one_another(knowing) -> None:
    task = make_task(WORLD, "remap", 2, retain_coverage=0.25)
    model = knowing
    for single in task.sequence():
        model = edit(model, single).model
        assert evaluate_edit(knowing, model, single).scores["edit_success"] == 1
    assert "edited_before" in single.test
