"""Edits, their scores and traces of models that are kept in another type than float32, or whose weights are computed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from effnotes.datasets.worlds import World, make_draws
from effnotes.finetuning import NPO, ClosedFormRecipe, EditRecipe, TuneRecipe, apply_difference, edit, evaluate_edit, finetune
from effnotes.finetuning.tune import Pool
from effnotes.interpretation import causal_trace
from effnotes.models.language import block_linears, build_language_model, weights_digest

WORLD = World(12, 2, 4, seed=1)
TASK = make_draws(WORLD, "remap", 1, n_tune=1, n_test=1, retain_coverage=0.25, seed=0).test[0]
BASE = build_language_model("neox-32x2", WORLD.vocab_size, seed=0)
STEPS = (3,)
RECIPES = [
    EditRecipe(learning_rate=3e-4, checkpoints=STEPS),
    EditRecipe(blocks="all", learning_rate=3e-4, checkpoints=STEPS),
    EditRecipe(method="lora", rank=2, learning_rate=3e-3, checkpoints=STEPS),
    EditRecipe(learning_rate=3e-4, checkpoints=STEPS, objective=NPO()),
    ClosedFormRecipe(delta_steps=3),
    ClosedFormRecipe(method="memit", delta_steps=3),
]
TYPES = [torch.float16, torch.bfloat16, torch.float64]
pytestmark = pytest.mark.filterwarnings("ignore:for 1 of 1 facts")  # the searches are too short, as nobody looks at what they find


def of_type(dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A model in a type, and the same weights in float32."""
    model = copy.deepcopy(BASE).to(dtype)
    return model, copy.deepcopy(model).float()


@pytest.mark.parametrize("recipe", RECIPES, ids=["full", "all", "lora", "npo", "rome", "memit"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_an_edit_is_that_of_the_same_weights_in_float32(dtype: torch.dtype, recipe: EditRecipe | ClosedFormRecipe) -> None:
    model, same = of_type(dtype)
    before = weights_digest(model)
    with pytest.warns(RuntimeWarning, match=f"weights in {str(dtype).removeprefix('torch.')}; they are taken in float32"):
        made = edit(model, TASK, recipe)
    assert weights_digest(model) == before
    expected = edit(same, TASK, recipe)
    assert weights_digest(made.model) == weights_digest(expected.model)
    assert made.difference.keys() == expected.difference.keys()
    assert all(torch.equal(change, expected.difference[name]) for name, change in made.difference.items())
    assert all(torch.isfinite(change).all() for change in made.difference.values())
    assert made.optimizer_bytes == expected.optimizer_bytes


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_differences_scores_and_traces_are_those_in_float32(dtype: torch.dtype) -> None:
    model, same = of_type(dtype)
    small = {name: torch.full_like(weight, 1e-6) for name, weight in BASE.named_parameters() if name.endswith("dense.weight")}
    facts = WORLD.facts().take(slice(0, 4))
    with pytest.warns(RuntimeWarning, match="taken in float32"):
        changed = apply_difference(model, small)
    assert weights_digest(changed) == weights_digest(apply_difference(same, small))
    for before, after in ((model, changed), (changed, model)):
        with pytest.warns(RuntimeWarning, match="taken in float32"):
            scores = evaluate_edit(before, after, TASK).scores
        expected = evaluate_edit(*(same if each is model else each for each in (before, after)), TASK).scores
        assert scores == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
    with pytest.warns(RuntimeWarning, match="taken in float32"):
        trace = causal_trace(model, WORLD, facts, draws=1)
    assert trace.equals(causal_trace(same, WORLD, facts, draws=1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_base_with_weights_that_are_no_numbers_is_refused(value: float) -> None:
    broken = copy.deepcopy(BASE)
    with torch.no_grad():
        broken.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[0, 0] = value
    for function in (
        lambda: edit(broken, TASK, RECIPES[0]),
        lambda: edit(broken, TASK, RECIPES[-1]),
        lambda: finetune(broken, [Pool(TASK.encode("train", "edited"))], TuneRecipe(checkpoints=STEPS)),
        lambda: evaluate_edit(broken, BASE, TASK),
        lambda: causal_trace(broken, WORLD, WORLD.facts().take(slice(0, 2))),
        lambda: apply_difference(broken, {}),
    ):
        with pytest.raises(ValueError, match=r"layers\.1\.mlp\.dense_4h_to_h\.weight: there are weights that are NaN or infinite"):
            function()


def test_an_edit_that_ends_in_weights_that_are_no_numbers_says_so() -> None:
    with pytest.warns(RuntimeWarning, match="NaN or infinite.*lower the learning rate"):
        edit(BASE, TASK, EditRecipe(learning_rate=1e30, checkpoints=STEPS))


@pytest.mark.parametrize("recipe", [*RECIPES[:3], RECIPES[-1]], ids=["full", "all", "lora", "memit"])
def test_weights_that_are_pruned_with_torch_are_refused_by_name(recipe: EditRecipe | ClosedFormRecipe) -> None:
    model = copy.deepcopy(BASE)
    prune.l1_unstructured(model.gpt_neox.layers[0].mlp.dense_4h_to_h, "weight", 0.5)
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.dense_4h_to_h\.weight is computed.*prune\.remove\(layer, 'weight'\)"):
        edit(model, TASK, recipe)
    prune.remove(model.gpt_neox.layers[0].mlp.dense_4h_to_h, "weight")
    assert edit(model, TASK, recipe).difference


def test_a_parametrised_layer_is_refused_where_it_is_to_change_and_nowhere_else() -> None:
    model = copy.deepcopy(BASE)
    parametrizations.weight_norm(model.gpt_neox.layers[0].attention.dense)
    for recipe in (RECIPES[0], RECIPES[2]):
        with pytest.raises(ValueError, match=r"layers\.0\.attention\.dense\.weight is computed.*remove_parametrizations"):
            edit(model, TASK, recipe)
    assert edit(model, TASK, EditRecipe(blocks="mlp", checkpoints=STEPS)).difference
    assert len(block_linears(model, "mlp")) == 4
