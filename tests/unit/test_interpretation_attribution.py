import copy
import itertools
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from effnotes.interpretation import ATTRIBUTION_METHODS, attribute, attribute_batch, edge_map
from effnotes.interpretation.rebuilding import one_module_a_call
from effnotes.models import build_model
from effnotes.models.images import normalize

REBUILDING = ["deep_lift", "lrp", "guided_backprop", "guided_grad_cam"]


def stirred(model):
    """Give a network the statistics and biases that training would: without, it is homogeneous and methods coincide."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return stirred(build_model("resnet8", 5, image_size=32, seed=0, width=8))


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    """Activations as functions, methods and one module called twice; what a rebuilt network must give modules to."""

    def __init__(self, activation=F.relu):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc, self.relu, self.activation = nn.Linear(6, 4), nn.ReLU(inplace=True), activation

    def forward(self, images):
        x = self.activation(self.first(images))
        x = self.relu(self.second(x)) + x
        x = self.relu(self.second(x).sub(0.1)).relu_()
        return self.fc(F.relu(x - 0.1, True).mean((2, 3)))


def gradient(model, images, targets):
    inputs = normalize(images).requires_grad_()
    model(inputs).gather(1, targets[:, None]).sum().backward()
    result = inputs.grad, inputs.detach()
    model.zero_grad(set_to_none=True)
    return result


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_one_image_is_the_single_case_of_a_batch(model, images, method):
    batch = attribute_batch(model, images, method, torch.tensor([0, 1, 4]))
    assert batch.shape == (3, 32, 32)
    for image, target, expected in zip(images, (0, 1, 4), batch, strict=True):
        torch.testing.assert_close(attribute(model, image, method, target=target), expected, rtol=1e-3, atol=1e-6)


def test_deep_lift_of_a_batch_is_that_of_each_image_behind_max_pooling(images):
    network = stirred(build_model("resnet18", 4, image_size=32, seed=0))
    found = attribute_batch(network, images, "deep_lift", torch.tensor([0, 1, 2]))
    for image, target, expected in zip(images, range(3), found, strict=True):
        torch.testing.assert_close(attribute(network, image, "deep_lift", target=target), expected, rtol=1e-3, atol=1e-6)


def test_gradient_methods_are_those_of_autograd_summed_over_channels(model, images):
    targets = model(normalize(images)).argmax(1)
    slope, inputs = gradient(model, images, targets)
    torch.testing.assert_close(attribute_batch(model, images, "saliency"), slope.abs().sum(1))
    torch.testing.assert_close(attribute_batch(model, images, "input_x_gradient"), (slope * inputs).abs().sum(1))
    path = torch.linspace(0.5 / 400, 1 - 0.5 / 400, 400)
    scaled = (inputs[:1] * path[:, None, None, None]).requires_grad_()
    mean = torch.autograd.grad(model(scaled)[:, targets[0]].sum(), scaled)[0].mean(0)
    found = attribute(model, images[0], "integrated_gradients")
    torch.testing.assert_close(found, (mean * inputs[0]).abs().sum(0), rtol=0.05, atol=2e-4)


def test_guided_backprop_clamps_the_gradient_at_every_relu(images):
    torch.manual_seed(0)
    model = Functional().eval()

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad):
            return grad.clamp(min=0) * (ctx.saved_tensors[0] > 0)

    inputs = normalize(images).requires_grad_()
    x = Guided.apply(model.first(inputs))
    x = Guided.apply(model.second(x)) + x
    x = Guided.apply(Guided.apply(model.second(x).sub(0.1)))
    model.fc(Guided.apply(x - 0.1).mean((2, 3)))[:, 2].sum().backward()
    found = attribute_batch(model, images, "guided_backprop", torch.tensor([2, 2, 2]))
    torch.testing.assert_close(found, inputs.grad.abs().sum(1))


@pytest.mark.parametrize(
    "make", [Functional, lambda: Functional(F.gelu), lambda: Functional(nn.ReLU6()), lambda: Functional(F.hardswish)]
)
def test_deep_lift_adds_up_to_the_difference_from_its_baseline(images, make):
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    model = make().double().eval()
    with torch.no_grad():
        model.first.weight.mul_(20)  # so that ReLU6 reaches its ceiling
    inputs = normalize(images).double()
    rebuilt = one_module_a_call(copy.deepcopy(model), inputs, model(inputs))
    torch.testing.assert_close(rebuilt(inputs), model(inputs))
    with warnings.catch_warnings(action="ignore"):
        parts = captum.DeepLift(rebuilt).attribute(inputs, target=1)
    difference = model(inputs)[:, 1] - model(torch.zeros_like(inputs))[:, 1]
    torch.testing.assert_close(parts.sum((1, 2, 3)), difference)
    torch.testing.assert_close(attribute_batch(model, images, "deep_lift", torch.tensor([1, 1, 1])), parts.abs().sum(1))


def test_lrp_hands_the_whole_logit_on_through_sums_and_batch_normalisation(images):
    pytest.importorskip("zennit")
    model = stirred(build_model("resnet8", 5, image_size=32, seed=0, width=8))
    with torch.no_grad():
        # Nothing takes up relevance itself: no bias, and something positive behind every output.
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.in_channels > 3:
                module.weight.abs_()
            if isinstance(module, nn.BatchNorm2d):
                module.bias.copy_(module.running_mean * module.weight / (module.running_var + module.eps).sqrt())
        model.fc.bias.zero_()
    relevance = attribute_batch(model, images, "lrp", torch.tensor([0, 1, 2])).sum((1, 2))
    torch.testing.assert_close(relevance, torch.ones(3), rtol=1e-3, atol=1e-3)


def test_lrp_merges_batch_normalisation_as_torch_does(model, images):
    pytest.importorskip("zennit")
    merged = copy.deepcopy(model)
    pairs = [(merged.stem, "0", "1")]
    for block in merged.blocks:
        pairs += [(block, "conv1", "bn1"), (block, "conv2", "bn2")]
        pairs += [] if block.downsample is None else [(block.downsample, "0", "1")]
    for parent, convolution, norm in pairs:
        parent._modules[convolution] = fuse_conv_bn_eval(parent._modules[convolution], parent._modules[norm])
        parent._modules[norm] = nn.Identity().eval()
    found = attribute_batch(model, images, "lrp", torch.tensor([0, 1, 2]))
    torch.testing.assert_close(found, attribute_batch(merged, images, "lrp", torch.tensor([0, 1, 2])), rtol=1e-3, atol=1e-5)


def test_lrp_without_zennit_says_what_to_install(model, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "zennit", None)
    with pytest.raises(ImportError, match=r"pip install 'effnotes\[lrp\]'"):
        attribute(model, images[0], "lrp")


def test_guided_grad_cam_takes_the_last_residual_block(model, images):
    found = attribute(model, images[0], "guided_grad_cam", target=1)
    assert found.max() > 0
    features = {}
    handle = model.blocks.register_forward_hook(lambda module, inputs, output: features.setdefault("last", output))
    inputs = normalize(images[:1])
    logit = model(inputs)[0, 1]
    handle.remove()
    weights = torch.autograd.grad(logit, features["last"])[0].mean((2, 3), keepdim=True)
    cam = F.interpolate((weights * features["last"]).sum(1, keepdim=True).relu(), (32, 32))[0, 0]
    guided = attribute(model, images[0], "guided_backprop", target=1)
    torch.testing.assert_close(found, (cam * guided).detach())


def test_occlusion_agrees_with_a_loop_over_windows(model, images):
    inputs = normalize(images[:1])
    whole, total, count = model(inputs)[0, 3].item(), torch.zeros(32, 32), torch.zeros(32, 32)
    for row in range(0, 29, 2):
        for column in range(0, 29, 2):
            hidden, window = inputs.clone(), (slice(row, row + 5), slice(column, column + 5))
            hidden[0][(slice(None), *window)] = 0
            total[window] += whole - model(hidden)[0, 3].item()
            count[window] += 1
    expected = 3 * (total / count.clamp(min=1)).abs()
    torch.testing.assert_close(attribute(model, images[0], "occlusion", target=3), expected, rtol=1e-3, atol=1e-5)


def test_lime_finds_the_cells_of_a_linear_model(images):
    weights = torch.zeros(3, 32, 32)
    weights[:, :8, 8:16] = 0.05  # the second of 16 cells
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros(3072), weights.flatten()]))
    image = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    found = attribute(model, image, "lime", target=1)
    assert set(map(tuple, (found > 0).nonzero().tolist())) == {(row, column) for row in range(8) for column in range(8, 16)}


@pytest.mark.parametrize("method", ["lime", "gradient_shap"])
def test_random_methods_follow_the_seed_and_leave_the_global_states(model, images, method):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.fc.weight.mul_(50)  # logits that stand above LIME's penalty
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = attribute_batch(model, images, method, seed=3)
    assert torch.equal(first, attribute_batch(model, images, method, seed=3))
    assert not torch.equal(first, attribute_batch(model, images, method, seed=4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1][1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_a_model_stays_as_it_is_and_its_present_weights_count(model, images, method):
    model = copy.deepcopy(model)
    kept = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        before = attribute(model, images[0], method, target=0)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    with torch.no_grad():
        model.fc.weight.zero_()
    after = attribute(model, images[0], method, target=0)
    assert method == "lime" or not torch.equal(before, after)  # an untrained network's logits are below LIME's penalty
    assert after.abs().max() < 1e-6


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_an_error_inside_leaves_no_hook_and_no_attribute(model, images, method):
    during = []

    def hooked():
        return [
            module
            for module in network.modules()
            if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        ]

    class Failing(nn.Module):
        calls = 0

        def forward(self, x):
            Failing.calls += 1
            during.extend(hooked())
            if x.requires_grad or (Failing.calls > 1 and method in ("lime", "occlusion")):
                raise RuntimeError("inside")
            return x * 1

    network = nn.Sequential(
        copy.deepcopy(model.stem), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3), Failing()
    ).eval()
    network[5].__module__ = "torch.nn"
    with pytest.raises((RuntimeError, ValueError), match="inside"):
        attribute(network, images[0], method)
    assert not during  # what is hooked is another network
    assert not hooked()
    assert not any({"input", "output", "input_ref"} & vars(module).keys() for module in network.modules())


@pytest.mark.parametrize(
    ("name", "method"),
    [*itertools.product(["resnet18", "mobilenet_v2"], REBUILDING), ("resnet50", "deep_lift")],  # one is enough of the slowest
)
def test_torchvision_networks_can_be_rebuilt(name, method):
    network = stirred(build_model(name, 4, image_size=64, seed=0))
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        [*network.modules()][-1].weight.abs_()  # positive evidence somewhere, as Grad-CAM keeps nothing else
    inputs = normalize(image[None])
    rebuilt = one_module_a_call(copy.deepcopy(network), inputs, network(inputs))
    torch.testing.assert_close(rebuilt(inputs), network(inputs), rtol=1e-4, atol=1e-5)
    relus = [module for module in rebuilt.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    calls = sum(
        node.op == "call_module" and isinstance(rebuilt.get_submodule(node.target), nn.ReLU) for node in rebuilt.graph.nodes
    )
    assert calls == len(relus) > 0
    found = attribute_batch(network, image.expand(4, -1, -1, -1), method, torch.arange(4))
    assert found.isfinite().all()
    assert found.abs().max() > 0


def test_guided_methods_refuse_networks_without_relu(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 2)).eval()
    for method in ("guided_backprop", "guided_grad_cam"):
        with pytest.raises(ValueError, match="the network has none"):
            attribute(network, images[0], method)


def test_a_network_that_cannot_be_traced_is_refused_where_it_must_be(images):
    class Deciding(nn.Sequential):
        def forward(self, x):
            return super().forward(x if x.mean() > 0 else -x)

    network = Deciding(nn.Flatten(), nn.Linear(3072, 2), nn.ReLU()).eval()
    for method in REBUILDING:
        with pytest.raises(ValueError, match=r"Deciding cannot be traced by torch.fx.*work on every network: saliency"):
            attribute(network, images[0], method)
    assert attribute(network, images[0]).shape == (32, 32)


def test_a_network_that_needs_its_activation_in_place_is_refused(images):
    class InPlace(nn.Sequential):
        def forward(self, x):
            x = self[0](x)
            F.relu(x, inplace=True)
            return self[1](x.mean((2, 3)))

    network = InPlace(nn.Conv2d(3, 8, 3), nn.Linear(8, 2)).eval()
    with pytest.raises(ValueError, match="use what they return instead"):
        attribute(network, images[0], "deep_lift")


def with_nan(model):
    model = copy.deepcopy(model)
    model.fc.bias.data[0] = np.nan
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "salience"}, "Did you mean 'saliency'"),
        ({"image": torch.zeros(3, 32, 32)}, "the image is torch.float32 .* needed: torch.uint8 of shape"),
        ({"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, "needed: torch.uint8 of shape"),
        ({"target": 5}, "targets go from 5 to 5; the model has classes 0 to 4"),
        ({"target": -1}, "the model has classes 0 to 4"),
        ({"seed": -1}, "seed=-1"),
        ({"model": lambda model: copy.deepcopy(model).train()}, "training mode"),
        ({"model": lambda model: nn.Sequential(model, nn.Flatten(0)).eval()}, "puts out shape"),
        ({"model": with_nan}, "NaN or infinite"),
    ],
)
def test_bad_input_gets_a_clear_error(model, images, change, message):
    given = {"model": model, "image": images[0]} | change
    if change.get("model"):
        given["model"] = change["model"](model)
    with pytest.raises(ValueError, match=message):
        attribute(**given)


def test_the_narrow_resnet_can_be_traced_copied_and_still_refuses_other_sizes(model):
    traced = torch.fx.symbolic_trace(model)
    for network in (model, traced, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(network(torch.ones(1, 3, 32, 32)), model(torch.ones(1, 3, 32, 32)))
        with pytest.raises(ValueError, match="this network was built for"):
            network(torch.ones(1, 3, 31, 32))


def test_edges_are_sobels_of_each_channel():
    image = torch.zeros(1, 3, 5, 5, dtype=torch.uint8)
    image[0, 0, :, 3:] = 10
    image[0, 1, 2:, :] = 1
    expected = torch.zeros(5, 5)
    expected[:, 2:4] += 40  # 10 * (1 + 2 + 1)
    expected[1:3] += 4
    torch.testing.assert_close(edge_map(image)[0], expected)
