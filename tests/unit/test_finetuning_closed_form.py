"""ROME, MEMIT and AlphaEdit: their equations on random keys, the moments against a loop, and what they do to a model."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from effnotes.datasets.worlds import World, make_task
from effnotes.datasets.worlds.sentences import last_columns
from effnotes.finetuning import ClosedFormRecipe, edit, evaluate_edit
from effnotes.finetuning.editing.closed_form import closed_form, find_deltas, key_moments, null_projection
from effnotes.models.answers import answer
from effnotes.models.language import build_language_model, mlp_output, weights_digest
from effnotes.models.rows import Rows
from effnotes.training.pretraining import pretrain
from effnotes.training.recipes import PretrainingRecipe

WORLD = World(48, 2, 8, repeats=40)
TASK = make_task(WORLD, "remap", 1, retain_coverage=0.25)
RNG = np.random.default_rng(0)
KEYS, RESIDUALS = torch.from_numpy(RNG.normal(size=(3, 8))), torch.from_numpy(RNG.normal(size=(3, 5)))
OTHERS = torch.from_numpy(RNG.normal(size=(40, 8)))
MOMENTS = OTHERS.T @ OTHERS / 40


@pytest.fixture(scope="module")
def knowing() -> nn.Module:
    return pretrain(WORLD, "neox-32x2", PretrainingRecipe(batch_size=16, passes=3, most_extensions=1)).model


def fresh(name: str = "neox-32x2", world: World = WORLD) -> nn.Module:
    return build_language_model(name, world.vocab_size, seed=0)


# --- equations ----------------------------------------------------------------------------------------------------------------


def test_rome_stores_its_fact_and_disturbs_the_others_least() -> None:
    recipe = ClosedFormRecipe("rome", ridge=1e-12)
    change = closed_form(KEYS[:1], RESIDUALS[:1], MOMENTS, recipe)
    assert torch.allclose(change @ KEYS[0], RESIDUALS[0])
    assert torch.linalg.matrix_rank(change) == 1
    # The least of sum_k |D k|^2 under D k* = delta: adding any D0 with D0 k* = 0 makes it larger.
    cost = lambda d: float((OTHERS @ d.T).square().sum())  # noqa: E731
    for seed in range(5):
        other = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 8)))
        other -= torch.outer(other @ KEYS[0], KEYS[0]) / KEYS[0].square().sum()
        assert cost(change + 0.1 * other) > cost(change)
    with pytest.raises(ValueError, match="one fact at a time"):
        closed_form(KEYS, RESIDUALS, MOMENTS, recipe)


def test_rome_is_the_constrained_minimum_that_a_solver_finds() -> None:
    """Row by row: min d' C d subject to d . k = r."""
    change = closed_form(KEYS[:1], RESIDUALS[:1], MOMENTS, ClosedFormRecipe("rome", ridge=1e-12)).numpy()
    c, k = MOMENTS.numpy(), KEYS[0].numpy()
    for row, wanted in enumerate(RESIDUALS[0].tolist()):
        held = {"type": "eq", "fun": lambda d, wanted=wanted: d @ k - wanted, "jac": lambda _: k}
        cost = {"fun": lambda d: d @ c @ d, "jac": lambda d: 2 * c @ d}
        found = minimize(x0=np.zeros(8), constraints=held, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500}, **cost)
        assert found.success
        assert change[row] == pytest.approx(found.x, abs=1e-6)


def test_memit_is_the_minimum_of_its_cost() -> None:
    """sum_edited |D k - r|^2 + weight E|D k|^2, by least squares on stacked rows."""
    recipe = ClosedFormRecipe("memit", covariance_weight=7.0, ridge=1e-12)
    rows = torch.cat([KEYS, OTHERS * (7 / 40) ** 0.5])
    targets = torch.cat([RESIDUALS, torch.zeros(40, 5, dtype=torch.float64)])
    expected = torch.linalg.lstsq(rows, targets).solution.T
    assert torch.allclose(closed_form(KEYS, RESIDUALS, MOMENTS, recipe), expected)


def test_alphaedit_leaves_the_directions_of_the_world_alone() -> None:
    others = OTHERS.clone()
    others[:, 4:] = 0  # the world's keys have four directions
    moments = others.T @ others / 40
    recipe = ClosedFormRecipe("alphaedit", regulariser=1e-9, ridge=1e-12)
    change = closed_form(KEYS, RESIDUALS, moments, recipe)
    assert torch.allclose(change @ others.T, torch.zeros(5, 40, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(change @ KEYS.T, RESIDUALS.T, atol=1e-5)


def test_alphaedit_is_the_published_formula() -> None:
    recipe = ClosedFormRecipe("alphaedit", regulariser=0.3, null_energy=0.4, ridge=1e-12)
    p = null_projection(MOMENTS, 0.4)
    k, r = KEYS.T, RESIDUALS.T
    unit = MOMENTS.trace() / 8
    expected = r @ k.T @ p @ torch.linalg.inv(k @ k.T @ p + 0.3 * unit * torch.eye(8, dtype=torch.float64))
    assert torch.allclose(closed_form(KEYS, RESIDUALS, MOMENTS, recipe), expected, atol=1e-8)


def test_alphaedit_is_the_minimum_of_its_cost() -> None:
    """|D P K - R|^2 + a |D P|^2 over all D, by least squares on the stacked equations for all entries of D."""
    p = null_projection(MOMENTS, 0.4).numpy()
    k, r, a = KEYS.T.numpy(), RESIDUALS.T.numpy(), 0.3 * float(MOMENTS.trace()) / 8
    equations = np.concatenate([np.kron(np.eye(5), (p @ k).T), a**0.5 * np.kron(np.eye(5), p)])
    found = np.linalg.lstsq(equations, np.concatenate([r.ravel(), np.zeros(40)]), rcond=None)[0].reshape(5, 8) @ p
    recipe = ClosedFormRecipe("alphaedit", regulariser=0.3, null_energy=0.4)
    assert closed_form(KEYS, RESIDUALS, MOMENTS, recipe).numpy() == pytest.approx(found, abs=1e-9)


def test_alphaedit_writes_into_what_is_empty_however_little_it_may_disturb() -> None:
    moments = torch.diag(torch.tensor([1.0] * 4 + [0.0] * 4, dtype=torch.float64))
    recipe = ClosedFormRecipe("alphaedit", null_energy=1e-9, regulariser=1e-9)
    assert torch.allclose(closed_form(KEYS, RESIDUALS, moments, recipe) @ KEYS.T, RESIDUALS.T, atol=1e-5)
    with pytest.raises(ValueError, match="raise it"):
        closed_form(KEYS, RESIDUALS, torch.eye(8, dtype=torch.float64), recipe)


def test_the_null_projection_takes_the_weakest_directions_up_to_their_share() -> None:
    values = torch.tensor([0.1, 0.2, 0.3, 0.4, 9.0], dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.from_numpy(RNG.normal(size=(5, 5))))
    p = null_projection(basis @ torch.diag(values) @ basis.T, 0.065)  # of 10: 0.1 + 0.2 + 0.3 fit, 0.4 no more
    assert torch.allclose(p @ p, p)
    assert p.trace() == pytest.approx(3)
    assert torch.allclose(p @ basis[:, :3], basis[:, :3])
    assert torch.allclose(p @ basis[:, 3:], torch.zeros(5, 2, dtype=torch.float64), atol=1e-9)


# --- keys and places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["neox-32x2", "llama-64x2"])
def test_moments_are_those_of_all_tokens_of_all_facts(family: str) -> None:
    world = World(12, 2, 4, templates={"sro": 0.75, "rso": 0.25}, repeats=1)
    model = fresh(family, world)
    total, weight = 0.0, 0.0
    inputs: list[Tensor] = []
    handle = mlp_output(model, 1)[1].register_forward_hook(lambda _m, args, _o: inputs.append(args[0]))
    for name, share in world.templates.items():
        for row in Rows.of(world.encode(world.facts(), name)).tokens:
            inputs.clear()
            with torch.no_grad():
                model(input_ids=row[None])
            for key in inputs[0][0].double():
                total = total + share * torch.outer(key, key)
                weight += share
    handle.remove()
    assert torch.allclose(key_moments(model, world, 1), total / weight, rtol=1e-4, atol=1e-9)


def test_the_site_is_the_last_token_of_subject_or_prompt() -> None:
    world = World(30, 2, 4, tokens_per_subject=2)
    for form in ("sro", "rso", "question"):
        asked = world.encode(world.facts().take(slice(5, 9)), form)
        subjects = world.words.subjects[asked.facts.subject, 1]
        columns = last_columns(asked, world.words, "subject")
        assert asked.tokens[np.arange(4), columns].tolist() == subjects.tolist()
        relations = world.words.relations[asked.facts.relation, 0]
        assert asked.tokens[np.arange(4), last_columns(asked, world.words, "relation")].tolist() == relations.tolist()
        assert (last_columns(asked, world.words, "last") == asked.answer - 1).all()


def test_a_delta_makes_the_answer_probable_and_leaves_the_weights(knowing) -> None:
    before = weights_digest(knowing)
    rows = Rows.of(TASK.encode("train", "edited"))
    asked = TASK.encode("test", "edited")
    places = torch.from_numpy(last_columns(asked, WORLD.words, "last"))
    delta, found = find_deltas(knowing, rows, places, 1, ClosedFormRecipe(site="last"))
    assert weights_digest(knowing) == before
    assert all(parameter.requires_grad for parameter in knowing.parameters())
    # In the last block's bias it is added everywhere, but only the last place has a say in the answer.
    changed = copy.deepcopy(knowing)
    with torch.no_grad():
        mlp_output(changed, 1)[1].bias += delta[0]
    assert answer(knowing, asked).probability[0] < 0.1
    assert answer(changed, asked).probability[0] == pytest.approx(float(found[0]), rel=1e-3)
    assert found[0] >= 0.99


def test_what_is_found_for_a_fact_does_not_depend_on_the_others(knowing) -> None:
    task = make_task(WORLD, "remap", 3, retain_coverage=0.25)
    asked = task.encode("train", "edited")
    rows = Rows.of(asked)
    places = torch.from_numpy(last_columns(asked, WORLD.words, "last"))
    recipe = ClosedFormRecipe(site="last")
    together, _ = find_deltas(knowing, rows, places, 1, recipe)
    steps = []
    for row in range(3):
        part = slice(row, row + 1)
        alone, found = find_deltas(knowing, rows.take(part), places[part], 1, recipe)
        assert found >= recipe.enough
        assert torch.allclose(together[part], alone, atol=1e-4)
        steps.append(float(alone.norm()))
    assert max(steps) > 1.05 * min(steps)  # some take longer than others


# --- models -------------------------------------------------------------------------------------------------------------------


def test_rome_changes_one_matrix_by_one_outer_product(knowing) -> None:
    before = weights_digest(knowing)
    found = edit(knowing, TASK, ClosedFormRecipe("rome", site="last"))
    assert weights_digest(knowing) == before
    assert list(found.difference) == ["gpt_neox.layers.1.mlp.dense_4h_to_h.weight"]
    (change,) = found.difference.values()
    assert torch.linalg.matrix_rank(change.double(), rtol=1e-4) == 1
    assert (found.n_trainable, found.optimizer_bytes) == (32, 3 * 4 * 32)
    assert found.history["edited_exact"].tolist() == [0, 1]
    assert found.first_success == 1
    assert evaluate_edit(knowing, found.model, TASK).scores["edit_success"] == 1


def test_a_fact_that_cannot_be_written_is_told() -> None:
    # Untrained, the head is too small for any answer to become probable.
    with pytest.warns(RuntimeWarning, match="for 1 of 1 facts the search") as told:
        found = edit(fresh(), TASK, ClosedFormRecipe(delta_steps=5))
    assert told[0].filename == __file__
    assert all(change.any() for change in found.difference.values())
    assert list(found.difference) == ["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"]


@pytest.mark.parametrize("method", ["rome", "memit", "alphaedit"])
def test_several_facts_are_written(knowing, method: str) -> None:
    task = make_task(WORLD, "remap", 2, retain_coverage=0.25)
    found = edit(knowing, task, ClosedFormRecipe(method, site="last", covariance_weight=0.1))
    assert found.n_trainable == 2 * 32
    assert found.optimizer_bytes == 12 * 32 * (1 if method == "rome" else 2)  # ROME seeks one fact's change at a time
    assert evaluate_edit(knowing, found.model, task).scores["edit_success"] == 1


def test_layers_share_the_work(knowing) -> None:
    found = edit(knowing, TASK, ClosedFormRecipe("memit", layers=(0, 1), site="last", covariance_weight=0.01))
    assert len(found.difference) == 2
    assert all(change.any() for change in found.difference.values())
    assert found.history["edited_exact"].iloc[-1] == 1


def test_what_cannot_reach_the_answer_is_refused(knowing) -> None:
    with pytest.raises(ValueError, match="cannot reach the answer"):
        edit(knowing, TASK, ClosedFormRecipe(layers=(1,), site="subject"))
    with pytest.raises(ValueError, match="at least two blocks"):
        edit(fresh("neox-32x1"), TASK, ClosedFormRecipe())
    with pytest.raises(ValueError, match="unlearning objective"):
        edit(knowing, make_task(WORLD, "unlearn_subject", 1), ClosedFormRecipe())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "mend"}, "method='mend'"),
        ({"layers": (0, 1)}, "changes one layer"),
        ({"site": "first"}, "site='first'"),
        ({"enough": 1.0}, "enough"),
        ({"ridge": 0.0}, "ridge"),
        ({"delta_steps": 0}, "delta_steps"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ClosedFormRecipe(), **changes)
