"""Experts of an FFN: groups, gates, losses and the gathered pass, against loops and brute force."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effnotes.finetuning import Pool, TuneRecipe, finetune, lte
from effnotes.finetuning.objectives import Learn
from effnotes.models.language import LanguageModelShape, build_language_model
from effnotes.models.rows import Rows

ROWS = Rows(torch.arange(24).reshape(6, 4) % 9 + 2, torch.full((6,), 4), torch.full((6,), 3), torch.ones(6, dtype=torch.int64))


def tiny(family: str = "gpt_neox") -> Any:
    return build_language_model(LanguageModelShape(width=8, layers=2, heads=2, mlp_width=16, family=family, context=4), 20, seed=3)  # type: ignore[arg-type]


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ROWS.tokens).logits


def test_balanced_groups_are_of_one_size_and_as_good_as_any_for_four_points() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(24, 3)) + np.repeat(np.eye(3) * 9, 8, axis=0)
    groups = lte.balanced_groups(vectors, 3)
    assert np.bincount(groups).tolist() == [8, 8, 8]
    assert all(len(set(groups[start : start + 8])) == 1 for start in (0, 8, 16)), "three clouds that lie far apart"
    points = np.array([[0.0], [0.1], [5.0], [5.1]])
    pairs = lte.balanced_groups(points, 2)
    scatter = {
        split: sum(points[[*part]].var() for part in (split, set(range(4)) - set(split)))
        for split in itertools.combinations(range(4), 2)
    }
    assert tuple(np.flatnonzero(pairs == pairs[0]).tolist()) == min(scatter, key=lambda split: scatter[split])
    with pytest.raises(ValueError, match="n_experts=5 does not divide the 24 hidden units"):
        lte.balanced_groups(vectors, 5)


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_grouping_and_full_gates_leave_the_function_as_it_is(family: str) -> None:
    model = tiny(family)
    grouped = lte.with_experts(model, 4)
    ways = [grouped, lte.routed(grouped, "top"), lte.routed(grouped, "oracle", keep=4), lte.routed(grouped, "hard", threshold=1e-9)]
    for way in ways:
        torch.testing.assert_close(logits(way), logits(model), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="have experts already"):
        lte.with_experts(grouped, 4)


@pytest.mark.parametrize("rule", ["soft", "hard", "top", "oracle", "static"])
def test_each_rule_gives_the_sum_of_gated_experts(rule: lte.Rule) -> None:
    grouped = lte.with_experts(tiny(), 4, seed=1)
    lte.weigh_experts_(grouped, ROWS)
    part = lte.expert_mlps(lte.routed(grouped, rule, keep=2))[0]
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    first: Any = part.mlp.get_submodule("dense_h_to_4h")
    second: Any = part.mlp.get_submodule("dense_4h_to_h")
    hidden = nn.functional.gelu(first(x))
    groups: Any = part.router.groups
    scores = (x @ part.router.weight).detach()
    energy = torch.stack([hidden[:, groups == i].square().sum(dim=1) for i in range(4)], dim=1)
    static = part.router.importance
    for n in range(5):
        best = {"top": scores[n], "oracle": energy[n], "static": static}.get(rule, scores[n]).argsort(descending=True)[:2]
        gate = {"soft": scores[n].sigmoid(), "hard": (scores[n] > 0).float()}.get(rule, torch.zeros(4).index_fill(0, best, 1.0))
        by_hand = second.bias + sum(gate[i] * hidden[n, groups == i] @ second.weight[:, groups == i].T for i in range(4))
        torch.testing.assert_close(part(x[n]), by_hand)


def test_static_weighs_experts_by_their_mean_energy_where_a_next_token_is_predicted() -> None:
    grouped = lte.with_experts(tiny(), 4)
    seen: list[torch.Tensor] = []
    for part in lte.expert_mlps(grouped):
        part.router.register_forward_hook(lambda _router, given, _gates: seen.append(given[1]))
    lte.weigh_experts_(grouped, ROWS)
    for part, hidden in zip(lte.expert_mlps(grouped), seen, strict=True):
        for expert in range(4):
            energies = [hidden[row, place, part.router.groups == expert].square().sum() for row in range(6) for place in range(3)]
            assert float(part.router.importance[expert]) == pytest.approx(float(torch.stack(energies).mean()), rel=1e-5)


def test_sparsity_is_that_of_the_hard_gates_at_places_that_predict() -> None:
    grouped = lte.with_experts(tiny(), 4)
    assert [1 - float(gates.mean()) for gates in lte.gates_of(lte.routed(grouped, "top", keep=1), ROWS)] == [0.75, 0.75]
    assert [tuple(gates.shape) for gates in lte.gates_of(grouped, ROWS)] == [(18, 4), (18, 4)]


def test_the_loss_of_lte_is_the_task_and_two_means() -> None:
    soft, objective = lte.routed(lte.with_experts(tiny(), 4), "soft"), lte.LTE(eta=0.7, separability=0.2, guard=0.05, threshold=0.4)
    gates = [g for of_block in lte.gates_of(soft, ROWS) for g in of_block.flatten().tolist()]
    expected = 0.7 * np.mean(np.square(gates)) + 0.2 * np.mean([1 / ((g - 0.4) ** 2 + 0.05) for g in gates])
    found = objective.loss(soft, soft, ROWS, None) - Learn().loss(soft, soft, ROWS, None)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)
    assert bool(torch.isfinite(objective.penalty(torch.full((3,), 0.4)))), "at the threshold itself"


def test_routers_learn_in_the_first_stage_and_stay_to_the_bit_in_the_second() -> None:
    grouped = lte.with_experts(tiny(), 4)
    before = [part.router.weight.clone() for part in lte.expert_mlps(grouped)]
    made = lte.learn_to_be_efficient(grouped, [Pool(ROWS)], lte.Stages(steps=3, batch_size=4), lte.LTE(eta=1.0))
    parts = zip(before, *map(lte.expert_mlps, (grouped, made.soft, made.switched, made.adapted)), strict=True)
    for old, dense, soft, switched, adapted in parts:
        assert torch.equal(old, dense.router.weight), "the model that was given"
        assert not torch.equal(old, soft.router.weight)
        assert torch.equal(soft.router.weight, switched.router.weight)
        assert torch.equal(soft.router.weight, adapted.router.weight)
        output = adapted.mlp.get_submodule("dense_4h_to_h").weight
        assert not torch.equal(output, switched.mlp.get_submodule("dense_4h_to_h").weight)


def test_a_predictor_learns_which_neurons_are_most_active_and_nothing_else_learns() -> None:
    neurons = lte.with_experts(tiny(), 16)
    made = lte.Stages(steps=60, batch_size=6, learning_rate=0.1).train(neurons, [Pool(ROWS)], lte.Predict(keep=4))
    torch.testing.assert_close(logits(made), logits(neurons), atol=0, rtol=0)

    def agreement(model: Any) -> float:
        chosen = [lte.gates_of(lte.routed(model, rule, keep=4), ROWS)[0] for rule in ("top", "oracle")]
        return float((chosen[0] * chosen[1]).sum() / chosen[1].sum())

    assert agreement(made) > max(0.8, agreement(neurons))


def test_an_edit_within_experts_changes_their_weights_alone() -> None:
    grouped = lte.routed(lte.with_experts(tiny(), 4), "top", keep=3)
    chosen = [torch.tensor([True, False, False, True]), torch.tensor([False, True, False, False])]
    places = lte.expert_places(grouped, chosen)
    made = finetune(
        grouped, [Pool(ROWS)], TuneRecipe(blocks="mlp", checkpoints=(2,), objective=lte.Within(places), learning_rate=0.01)
    )
    for block, part in enumerate(lte.expert_mlps(grouped)):
        groups: Any = part.router.groups
        units = [bool(chosen[block][group]) for group in groups.tolist()]
        rows = made.difference[f"gpt_neox.layers.{block}.mlp.mlp.dense_h_to_4h.weight"].abs().sum(dim=1)
        columns = made.difference[f"gpt_neox.layers.{block}.mlp.mlp.dense_4h_to_h.weight"].abs().sum(dim=0)
        for unit, inside in enumerate(units):
            assert inside or not rows[unit]
            assert inside or not columns[unit]
        assert rows.any()
        assert columns.any()


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
@pytest.mark.parametrize("rule", ["hard", "top"])
def test_the_gathered_pass_is_the_masked_one(family: str, rule: lte.Rule) -> None:
    for part in lte.expert_mlps(lte.routed(lte.with_experts(tiny(family), 4, seed=2), rule, keep=1)):
        gathered = lte.GatheredMLP(part)
        for x in torch.randn(6, 8, generator=torch.Generator().manual_seed(1)):
            torch.testing.assert_close(gathered(x), part(x), atol=1e-6, rtol=1e-5)


def test_union_sparsity_is_the_mean_over_all_batches() -> None:
    used = np.random.default_rng(0).random((6, 5)) < 0.4
    for batch in (1, 2, 4, 6):
        every = [~used[list(rows)].any(axis=0) for rows in itertools.combinations(range(6), batch)]
        assert lte.union_sparsity(used, batch) == pytest.approx(np.mean(every))
    with pytest.raises(ValueError, match="batch=7"):
        lte.union_sparsity(used, 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": 1.0}, "threshold=1.0"),
        ({"keep": 0}, "keep=0"),
        ({"keep": 5}, "keep=5"),
    ],
)
def test_routers_that_cannot_work_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lte.routed(lte.with_experts(tiny(), 4), "hard", **given)  # type: ignore[arg-type]
