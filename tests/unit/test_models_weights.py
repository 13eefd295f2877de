"""Weights that are not what they seem: computed from others, of another type than float32, not numbers, or not there."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)

from effnotes.models.weights import copy_of, in_float32, layer_weight
from effnotes.pruning import apply_masks_, effective_sparsity, global_magnitude, model_cost, prune_, pruning_plan, size_on_disk
from effnotes.training import Recipe, predict_logits, train

IMAGES = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = (torch.arange(40) % 2).reshape(8, 5)
RECIPE = Recipe(epochs=1, batch_size=4, precision="float32")
TYPES = [torch.float16, torch.bfloat16, torch.float64]

# How PyTorch computes a weight, and how it is made a parameter again.
COMPUTED = {
    "prune": (
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        lambda layer: prune.remove(layer, "weight"),
        "prune.remove",
    ),
    "prune twice": (
        lambda layer: prune.random_unstructured(prune.l1_unstructured(layer, "weight", 0.5), "weight", 0.5),
        lambda layer: prune.remove(layer, "weight"),
        "prune.remove",
    ),
    "weight_norm": (weight_norm, remove_weight_norm, "remove_weight_norm"),
    "spectral_norm": (spectral_norm, remove_spectral_norm, "remove_spectral_norm"),
    "parametrized weight_norm": (
        parametrizations.weight_norm,
        lambda layer: parametrize.remove_parametrizations(layer, "weight"),
        "remove_parametrizations",
    ),
    "parametrized spectral_norm": (
        parametrizations.spectral_norm,
        lambda layer: parametrize.remove_parametrizations(layer, "weight"),
        "remove_parametrizations",
    ),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def computed(kind: str) -> nn.Sequential:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        COMPUTED[kind][0](model[0])
    return model


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_weight_is_read_as_the_next_pass_computes_it_and_nothing_changes(kind: str) -> None:
    model = computed(kind)
    with torch.no_grad():  # what a step of an optimizer does: the attribute `weight` is older than what it is computed from
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.01)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = layer_weight(model[0], "0").clone()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model[0].training
    model.eval()(torch.zeros(1, 3, 32, 32))
    assert torch.equal(found, model[0].weight)
    assert effective_sparsity(model) == 1 - sum(int(model[at].weight.count_nonzero()) for at in (0, 4)) / 128


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_weight_costs_what_it_costs_as_a_parameter(kind: str) -> None:
    model = computed(kind).eval()
    size, cost = size_on_disk(model), model_cost(model, 32, batch_size=2, repeats=1)
    COMPUTED[kind][1](model[0])
    assert size == size_on_disk(model) == (cost.dense_bytes, cost.sparse_bytes)
    assert cost.effective_sparsity == effective_sparsity(model)


@pytest.mark.parametrize("kind", COMPUTED)
def test_no_pruning_is_lost_in_the_next_pass(kind: str) -> None:
    """A weight that was set to zero would come back with the next pass, while the masks say that it is pruned."""
    for pruned in (
        lambda model: apply_masks_(model, global_magnitude(model, 0.9)),
        lambda model: prune_(model, pruning_plan("one_shot_untuned", 0.9, epochs=1)),
        lambda model: train(model, IMAGES, LABELS, recipe=RECIPE, seed=0, pruning=pruning_plan("one_shot", 0.5, epochs=1)),
    ):
        with pytest.raises(ValueError, match=rf"0\.weight is computed from other parameters.*{COMPUTED[kind][2]}"):
            pruned(computed(kind))
    model = computed(kind)
    COMPUTED[kind][1](model[0])
    prune_(model, pruning_plan("one_shot_untuned", 0.9, epochs=1))
    model(torch.zeros(1, 3, 32, 32))
    assert effective_sparsity(model) == pytest.approx(0.9, abs=0.01)


def test_what_cannot_be_copied_is_named() -> None:
    with pytest.raises(ValueError, match=r"4\.bias is computed.*prune\.remove\(layer, 'bias'\)"):
        copy_of(nn.Sequential(*network()[:4], prune.l1_unstructured(nn.Linear(4, 5), "bias", 0.5)))
    model = network()
    assert torch.equal(copy_of(model)[0].weight, model[0].weight)


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten())


def without() -> nn.Module:
    model = network()
    model[4].weight = None
    return model


def sparse() -> nn.Module:
    model = network()
    model[4].weight = nn.Parameter(model[4].weight.detach().to_sparse())
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lazy, "0.weight has no shape yet"),
        (without, "4 has no parameter `weight`"),
        (sparse, "4.weight is stored as torch.sparse_coo"),
        (lambda: network().to("meta"), "0.weight is on the device 'meta'"),
        (lambda: nn.Linear(0, 5), "no Conv2d or Linear layer with weights"),
        (lambda: nn.Sequential(nn.Flatten()), "no Conv2d or Linear layer with weights"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_layers_without_weights_are_named(make: Callable[[], nn.Module], message: str) -> None:
    for function in (
        effective_sparsity,
        size_on_disk,
        lambda model: global_magnitude(model, 0.5),
        lambda model: model_cost(model, 32),
    ):
        with pytest.raises(ValueError, match=message):
            function(make())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_model_of_another_type_is_measured_in_its_own_type(dtype: torch.dtype) -> None:
    model = network().eval()
    expected = predict_logits(model, IMAGES)
    other = copy.deepcopy(model).to(dtype)
    logits = predict_logits(other, IMAGES)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=0.02)
    assert not torch.equal(logits, expected)
    cost = model_cost(other, 32, batch_size=2, repeats=1)
    assert cost.latency_ms > 0
    assert cost.dense_bytes - size_on_disk(model).dense == pytest.approx(137 * (dtype.itemsize - 4), abs=64)
    assert all(weight.dtype == dtype for weight in other.parameters())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_training_takes_weights_in_float32_and_says_so(dtype: torch.dtype) -> None:
    model, same = network().to(dtype), network().to(dtype).float()
    with pytest.warns(RuntimeWarning, match=f"weights in {str(dtype).removeprefix('torch.')}; they are taken in float32"):
        made = train(model, IMAGES, LABELS, recipe=RECIPE, seed=0)
    assert made["loss"].tolist() == train(same, IMAGES, LABELS, recipe=RECIPE, seed=0)["loss"].tolist()
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float) -> None:
    model = network()
    with torch.no_grad():
        model[4].weight[0, 0] = value
    for function in (
        in_float32,
        lambda model: model_cost(model, 32, batch_size=2, repeats=1),
        lambda model: predict_logits(model, IMAGES),
        lambda model: train(model, IMAGES, LABELS, recipe=RECIPE, seed=0),
    ):
        with pytest.raises(ValueError, match=r"4\.weight: there are weights that are NaN or infinite"):
            function(model)


def test_a_model_in_float32_stays_itself_and_of_another_type_is_left_as_it_is() -> None:
    model = network()
    assert in_float32(model) is model
    half = network().half()
    half[4].weight = nn.Parameter(half[4].weight.float())  # types may be mixed
    with pytest.warns(RuntimeWarning, match="float16"):
        made = in_float32(half)
    assert {weight.dtype for weight in made.parameters()} == {torch.float32}
    assert half[0].weight.dtype == torch.float16
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).bfloat16()
    tied[1].weight = tied[0].weight
    with pytest.warns(RuntimeWarning, match="bfloat16"):
        made = in_float32(tied)
    assert made[0].weight is made[1].weight
