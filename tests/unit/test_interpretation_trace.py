"""Traces: what is pruned and how well, against the outputs of each layer, and that the model comes back as it was."""

import copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from effnotes.interpretation import Trace, TraceRequest, attribute, trace, trace_batch, traces, tracing
from effnotes.interpretation.augmentation import augment
from effnotes.models import build_model
from effnotes.models.images import normalize
from effnotes.pruning import masks_in_force, prunable_parameters, size_on_disk
from effnotes.pruning.gram import gram_matrix, layer_statistics
from effnotes.pruning.layerwise import solve_layer, solve_layer_batch

IMAGE = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def network(seed: int = 0, width: int = 4) -> nn.Module:
    """A model whose answers differ between images, as an untrained one's hardly do."""
    model = build_model("resnet8", 10, image_size=32, seed=seed, width=width).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    return model


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A module in evaluation mode whose random weights leave torch's generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return network()


@pytest.fixture(autouse=True)
def unchanged(model: nn.Module) -> Iterator[None]:
    """No test leaves a trace of a trace in the model, in the image, or in torch's generator."""
    before, objects = copy.deepcopy(model.state_dict()), [id(each) for each in model.parameters()]
    image, state = IMAGE.clone(), torch.get_rng_state()
    yield
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [id(each) for each in model.parameters()] == objects
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any(module.training for module in model.modules())
    assert torch.equal(IMAGE, image)
    assert torch.equal(torch.get_rng_state(), state)


def layer_inputs(model: nn.Module, views: Tensor) -> dict[str, list[Tensor]]:
    """What each convolution and linear layer is called with, by name."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[0]))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(views)
    for handle in handles:
        handle.remove()
    return seen


def output_error(layer: nn.Module, weight: Tensor, inputs: list[Tensor]) -> float:
    """Squared change of a layer's outputs over their square, biases left out."""

    def outputs(weight: Tensor, one: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return F.linear(one.double(), weight.double())
        assert isinstance(layer, nn.Conv2d)
        return F.conv2d(one.double(), weight.double(), None, layer.stride, layer.padding, layer.dilation, layer.groups)

    with torch.no_grad():
        dense = [outputs(layer.weight, one) for one in inputs]
        changed = [outputs(weight, one) for one in inputs]
    lost = sum((a - b).square().sum() for a, b in zip(dense, changed, strict=True))
    return float(lost / sum(a.square().sum() for a in dense))


@pytest.mark.parametrize("kind", ["paper", "small"])
def test_a_trace_solves_each_layer_for_what_it_gets_from_the_dense_model(model: nn.Module, kind: str) -> None:
    found = trace(model, IMAGE, 0.6, n=5, augment=kind, seed=3)
    views = normalize(augment(IMAGE, 5, kind, generator=torch.Generator().manual_seed(3)))
    seen = layer_inputs(model, views)
    assert list(found.layers["layer"]) == [name.removesuffix(".weight") for name in list(prunable_parameters(model))[1:]]
    for name, level, kept, error, seconds in found.layers.itertuples(index=False):
        layer = model.get_submodule(name)
        expected = solve_layer(layer, gram_matrix(layer, seen[name][0]), 0.6)
        weight, mask = found.weights[f"{name}.weight"], found.masks[f"{name}.weight"]
        assert torch.equal(mask, expected.mask)
        assert torch.allclose(weight, expected.weight, rtol=1e-4, atol=1e-6)
        assert (level, kept) == (0.6, int(mask.sum()))
        assert error == pytest.approx(output_error(layer, weight, seen[name]), rel=1e-3)
        assert seconds > 0
        assert ((weight != 0) <= mask).all()


def test_the_mask_alone_keeps_the_weights_and_loses_more(model: nn.Module) -> None:
    both = traces(model, IMAGE, [TraceRequest(0.6), TraceRequest(0.6, update=False)], n=5)
    views = normalize(augment(IMAGE, 5, "paper", generator=torch.Generator().manual_seed(0)))
    seen = layer_inputs(model, views)
    for name, weight in both[1].weights.items():
        assert torch.equal(both[0].masks[name], both[1].masks[name])
        assert torch.equal(weight, model.get_parameter(name) * both[1].masks[name])
    for name, error in zip(both[1].layers["layer"], both[1].layers["error"], strict=True):
        layer, weight = model.get_submodule(name), both[1].weights[f"{name}.weight"]
        assert error == pytest.approx(output_error(layer, weight, seen[name]), rel=1e-3)
    # The least change for the damped Gram matrix is not quite that for the true one.
    assert (both[1].layers["error"] > 0.99 * both[0].layers["error"]).all()
    assert both[1].layers["error"].mean() > 1.3 * both[0].layers["error"].mean()


def test_masks_follow_the_contract_and_count_the_stem(model: nn.Module) -> None:
    found = trace(model, IMAGE, 0.6, n=3)
    assert found.left_dense == ("stem.0",)
    assert list(found.masks) == list(found.weights) == list(prunable_parameters(model))
    masks_in_force(model, found.masks)
    assert found.masks["stem.0.weight"].all()
    assert found.weights["stem.0.weight"].data_ptr() == model.get_parameter("stem.0.weight").data_ptr()
    sizes = [weight.numel() for weight in found.weights.values()]
    removed = sum(int((~mask).sum()) for mask in found.masks.values())
    assert found.sparsity == pytest.approx(removed / sum(sizes))
    assert 0.57 < found.sparsity < 0.6
    dense = size_on_disk(model)
    with found.applied():
        size = size_on_disk(model)
    assert size.dense == dense.dense
    assert size.sparse < 0.7 * dense.sparse


def test_groups_get_their_own_levels_the_innermost_counts_and_others_stay_dense(model: nn.Module) -> None:
    found = trace(model, IMAGE, {"blocks": 0.5, "blocks.2": 0.0, "blocks.2.conv2": 0.9}, n=3)
    levels = dict(zip(found.layers["layer"], found.layers["level"], strict=True))
    assert levels["fc"] == 0.0
    assert levels["blocks.2.conv1"] == levels["blocks.2.downsample.0"] == 0.0
    assert levels["blocks.2.conv2"] == 0.9
    assert {levels[name] for name in levels if name.startswith(("blocks.0", "blocks.1"))} == {0.5}
    for row in found.layers[found.layers["level"] == 0].itertuples():
        name = f"{row.layer}.weight"
        assert torch.equal(found.weights[name], model.get_parameter(name))
        assert found.masks[name].all()
        assert (row.kept, row.error, row.seconds) == (model.get_parameter(name).numel(), 0.0, 0.0)


def test_level_zero_everywhere_is_the_dense_model(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "layer_statistics", None)  # nothing is solved
    found = trace(model, IMAGE, 0, n=2)
    assert (found.sparsity, found.kl, found.agreement) == (0.0, 0.0, True)
    with found.applied() as same:
        for name, weight in found.weights.items():
            assert torch.equal(same.get_parameter(name), weight)


@pytest.mark.parametrize("level", [0.3, 0.9])
def test_agreement_and_divergence_are_those_of_a_pruned_copy(model: nn.Module, level: float) -> None:
    found = []
    for seed in range(6):
        image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        one = trace(model, image, level, n=4, augment="small", seed=seed)
        pruned = copy.deepcopy(model)
        pruned.load_state_dict({**pruned.state_dict(), **one.weights})
        with torch.no_grad():
            dense, sparse = (each(normalize(image[None]))[0].double().numpy() for each in (model, pruned))
        assert one.target == dense.argmax()
        assert one.agreement == (dense.argmax() == sparse.argmax())
        assert one.kl == pytest.approx(entropy(softmax(dense), softmax(sparse)), rel=1e-3, abs=1e-6)
        found.append(one.agreement)
    assert any(found) if level < 0.5 else not all(found)


def test_seeds_decide_what_is_drawn_and_nothing_else_does(model: nn.Module) -> None:
    def masks(seed: int, solver: str) -> Tensor:
        found = trace(model, IMAGE, 0.5, n=3, solver=solver, seed=seed)
        return torch.cat([mask.flatten() for mask in found.masks.values()])

    for solver in ("sparsegpt", "random"):
        assert torch.equal(masks(0, solver), masks(0, solver))
        assert not torch.equal(masks(0, solver), masks(1, solver))
    drawn = trace(model, IMAGE, 0.5, n=1, solver="random").masks
    assert not torch.equal(drawn["blocks.0.conv1.weight"], drawn["blocks.0.conv2.weight"])


def test_traces_made_together_are_those_made_alone_and_nothing_is_solved_twice(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    mild, strong = {"blocks": 0.5, "fc": 0.5}, {"blocks": 0.8, "fc": 0.5}
    requests = [TraceRequest(mild), TraceRequest(strong), TraceRequest(mild, "magnitude"), TraceRequest(0.5)]
    alone = [trace(model, IMAGE, each.levels, solver=each.solver, n=4) for each in requests]
    grams: list[weakref.ref[Tensor]] = []
    solved: list[float] = []

    def counted(layer: Any, inputs: Tensor) -> Tensor:
        assert not [each for each in grams if each() is not None], "a Gram matrix outlives its layer"
        grams.append(weakref.ref(gram := layer_statistics(layer, inputs)))
        return gram

    def solve(*given: Any, **named: Any) -> Any:
        solved.append(given[2])
        return solve_layer_batch(*given, **named)

    monkeypatch.setattr(tracing, "layer_statistics", counted)
    monkeypatch.setattr(tracing, "solve_layer_batch", solve)
    together = traces(model, IMAGE, requests, n=4)
    assert len(grams) == 9
    assert sorted(solved) == [0.5] * 18 + [0.8] * 8
    for one, other in zip(alone, together, strict=True):
        assert (one.kl, one.sparsity) == (other.kl, other.sparsity)
        for name, weight in one.weights.items():
            assert torch.equal(weight, other.weights[name])
    for stage in ("augment", "forward", "gram"):
        assert len({each.seconds[stage] for each in together}) == 1
    assert together[0].seconds["solve"] == pytest.approx(together[0].layers["seconds"].sum())
    assert all(seconds >= 0 for each in together for seconds in each.seconds.values())
    assert list(together[0].seconds) == ["augment", "forward", "gram", "solve", "judge"]


@pytest.mark.parametrize("at_a_time", [{}, {"_PIXELS_AT_A_TIME": 2 * 3 * 1024}, {"_BYTES_AT_A_TIME": 400_000}])
def test_images_traced_together_are_those_traced_alone(monkeypatch: pytest.MonkeyPatch, at_a_time: dict[str, int]) -> None:
    """Whatever part of them goes through the network, or is solved, at a time."""
    model = network().double()
    model.blocks[1] = seeded(lambda: nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.ReLU())).double()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    rest = ["random", "exact_obs", "wanda", "sparsegpt_mask"]
    requests = [TraceRequest(0.6), TraceRequest({"blocks": 0.8, "fc": 0.5}), *(TraceRequest({"fc": 0.5}, each) for each in rest)]
    requests += [TraceRequest({"blocks.1": 0.5}, "exact_obs_kernel"), TraceRequest(0.6, update=False)]
    alone = [traces(model, image, requests, n=3, augment="small", seed=4) for image in images]
    for name, value in at_a_time.items():
        monkeypatch.setattr(tracing, name, value)
    together = trace_batch(model, images, requests, n=3, augment="small", seed=4)
    assert len({round(one[0].kl, 6) for one in alone}) == 5
    for one, other in zip((each for found in alone for each in found), (each for found in together for each in found), strict=True):
        assert (one.target, one.agreement, one.left_dense) == (other.target, other.agreement, other.left_dense)
        assert one.kl == pytest.approx(other.kl, abs=1e-10)
        np.testing.assert_allclose(one.layers["error"], other.layers["error"], atol=1e-10)
        for name, weight in one.weights.items():
            assert torch.equal(one.masks[name], other.masks[name])
            torch.testing.assert_close(other.weights[name], weight, rtol=0, atol=1e-10)
        assert list(other.seconds) == list(one.seconds)


def test_inputs_that_do_not_come_image_by_image_are_refused() -> None:
    """A layer that sees tokens first would mix the images."""

    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.head = nn.Linear(12, 4), nn.Linear(4, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.inside(images.flatten(2).transpose(0, 1)).mean(0))

    model, images = seeded(TokensFirst), torch.stack([IMAGE[:, :3, :4]] * 2)
    trace(model, images[0], n=2)
    with pytest.raises(ValueError, match=r"inside.weight gets inputs of shape \(3, 4, 12\) for 4 views.*one by one"):
        trace_batch(model, images, [TraceRequest()], n=2)
    with pytest.raises(ValueError, match="images"):
        trace_batch(model, IMAGE, [TraceRequest()])
    with pytest.raises(ValueError, match="beside 2 images"):
        trace_batch(model, images, [TraceRequest()], n=2, views=images)


def test_applied_puts_weights_in_and_back_also_after_an_error(model: nn.Module) -> None:
    found = trace(model, IMAGE, 0.7, n=2)

    def fail() -> None:
        with found.applied() as pruned:
            assert pruned is model
            for name, weight in found.weights.items():
                assert torch.equal(model.get_parameter(name), weight)
                assert model.get_parameter(name).requires_grad
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    # That the model is as it was is what every test ends with.


def test_another_trace_may_be_applied_inside_and_takes_its_place(model: nn.Module) -> None:
    one, other = trace(model, IMAGE, {"blocks": 0.7}, n=2), trace(model, IMAGE, {"fc": 0.7}, n=2)

    def holds(found: Trace) -> bool:
        return all(torch.equal(model.get_parameter(name), weight) for name, weight in found.weights.items())

    with one.applied():
        with other.applied():
            assert holds(other)
            assert not holds(one)
        assert holds(one)


def test_a_graph_made_inside_keeps_the_weights_of_the_trace(model: nn.Module) -> None:
    found = trace(model, IMAGE, 0.8, n=2)
    inputs = normalize(IMAGE[None]).requires_grad_()
    with found.applied() as pruned:
        inside = torch.autograd.grad(pruned(inputs)[0, 0], inputs)[0]
        later = pruned(inputs)[0, 0]
    assert torch.equal(torch.autograd.grad(later, inputs)[0], inside)
    assert not torch.equal(torch.autograd.grad(model(inputs)[0, 0], inputs)[0], inside)


@pytest.mark.parametrize("broken", ["layer_statistics", "solve_layer_batch"])
def test_an_error_in_a_layer_leaves_no_hook(model: nn.Module, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*given: Any, **named: Any) -> Any:
        raise ValueError("singular")

    monkeypatch.setattr(tracing, broken, fail)
    with pytest.raises(ValueError, match="singular"):
        trace(model, IMAGE, n=2)
    # That no hook is left is what every test ends with.


@pytest.mark.parametrize("shared", ["layer", "weight"])
def test_a_weight_that_is_used_twice_is_refused(shared: str) -> None:
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 4), nn.Linear(4, 4)))
    if shared == "layer":
        model[3] = model[2]
    else:
        model[3].weight = model[2].weight
    with pytest.raises(ValueError, match=r"2.weight is used 2 times in a pass; give each use"):
        trace(model, IMAGE[:, :2, :2])


def test_a_vision_transformer_keeps_its_attention_and_names_what_no_hook_reaches() -> None:
    model = seeded(lambda: VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5))
    found = trace(model, IMAGE, 0.5, n=3)
    stays = [f"encoder.layers.encoder_layer_{i}.self_attention.out_proj" for i in (0, 1)]
    assert found.left_dense == ("conv_proj", *stays)
    mlps = [f"encoder.layers.encoder_layer_{i}.mlp.{j}" for i in (0, 1) for j in (0, 3)]
    assert list(found.layers["layer"]) == [*mlps, "heads.head"]
    assert list(found.layers["kept"]) == [16 * 12] * 4 + [16 * 3]  # half of 5 is rounded up
    assert not [name for name in found.weights if "in_proj" in name]


def test_a_vision_transformer_is_solved_for_all_tokens_and_explained() -> None:
    """The Gram matrix of inputs (views, tokens, c) against a loop over both; maps that follow the trace."""
    model = seeded(lambda: VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5))
    nn.init.normal_(model.heads.head.weight, generator=torch.Generator().manual_seed(1))  # torchvision's is zero
    views = normalize(augment(IMAGE, 3, "paper", generator=torch.Generator().manual_seed(0)))
    name = "encoder.layers.encoder_layer_1.mlp.3"
    inputs = layer_inputs(model, views)[name][0]
    assert inputs.shape == (3, 17, 24)
    gram = sum(torch.outer(token, token) for view in inputs.double() for token in view)
    found = trace(model, IMAGE, 0.5, n=3)
    expected = solve_layer(model.get_submodule(name), gram[None], 0.5)
    torch.testing.assert_close(found.weights[f"{name}.weight"], expected.weight, rtol=1e-4, atol=1e-5)
    (together,) = trace_batch(model, torch.stack([IMAGE, IMAGE.flip(2)]), [TraceRequest(0.5)], n=3)[1]
    assert together.kl == pytest.approx(trace(model, IMAGE.flip(2), 0.5, n=3).kl, rel=1e-3)
    for method in ("saliency", "integrated_gradients"):
        dense = attribute(model, IMAGE, method, target=found.target)
        with found.applied() as pruned:
            explained = attribute(pruned, IMAGE, method, target=found.target)
        assert explained.shape == (32, 32)
        assert explained.isfinite().all()
        assert (explained >= 0).all()
        assert (explained > 0).any()
        assert not torch.allclose(explained, dense)


def test_a_model_without_convolutions_and_in_float64_has_no_stem() -> None:
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).double())
    found = trace(model, IMAGE[:, :2, :2], {"1": 0.5}, n=3, prepare=lambda images: images.double() / 255)
    assert found.left_dense == ()
    assert found.weights["1.weight"].dtype == torch.float64
    assert list(found.layers["kept"]) == [48, 32]


def with_nan(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.get_parameter("fc.weight")[0, 0] = np.nan
    return model


def half_training(model: nn.Module) -> nn.Module:
    model.get_submodule("blocks.1").train()
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nn.Module.train, r"training mode, .*; call model.eval\(\)"),
        (half_training, r"the model, or a part of it, is in training mode"),
        (with_nan, r"fc.weight: there are weights that are NaN or infinite"),
        (nn.Module.half, r"stem.0.weight is torch.float16; .* call model.float\(\)"),
        (lambda model: nn.Sequential(model, nn.Flatten(0)).eval(), r"no finite logits of shape \(n, K\)"),
        (
            lambda _: seeded(lambda: nn.Sequential(nn.Conv2d(3, 2, 32), nn.Flatten())),
            r"no Conv2d or Linear layer after its first convolution",
        ),
    ],
)
def test_a_model_that_cannot_be_traced_is_refused(change: Callable[[nn.Module], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trace(change(network()), IMAGE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": IMAGE.float()}, r"the image is torch.float32 of shape \(3, 32, 32\); needed: torch.uint8 of shape \(3, H, W\)"),
        ({"image": IMAGE[None]}, r"of a batch take one"),
        ({"levels": 1.0}, r"levels=1.0: must be a number of at least 0 and below 1"),
        ({"levels": {"fc": 1.2}}, r"levels\['fc'\]=1.2: must be"),
        ({"levels": {"fc": "a lot"}}, r"levels\['fc'\]='a lot': must be"),
        ({"levels": {"block": 0.5}}, r"'block' is no module with layers to prune .*stem.0\).* Did you mean 'blocks'\?"),
        (
            {"levels": {"blocks.2": 0.5, "stem.0": 0.5}},
            r"'stem.0' is no module with layers to prune \(these layers stay dense: stem.0",
        ),
        ({"n": 0}, r"n=0: must be at least 1"),
        ({"n": 1.5}, r"n=1.5: must be a whole number"),
        ({"solver": "sparsgpt"}, r"solver='sparsgpt': must be one of .* Did you mean 'sparsegpt'\?"),
        ({"augment": "papre"}, r"augment='papre': must be one of paper, small. Did you mean 'paper'\?"),
    ],
)
def test_bad_arguments_are_refused_before_any_layer_is_solved(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(tracing, "layer_statistics", None)
    with pytest.raises(ValueError, match=message):
        trace(model, **{"image": IMAGE, **given})
