"""CrAM's gradients against numbers worked out by hand, and what its steps leave alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from effnotes.models import build_model
from effnotes.pruning import CompressionAware, NMMagnitude, compression_aware_gradients_, global_magnitude, masks_in_force
from effnotes.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")


def quadratic(plus, rho):
    """L(w) = (w_0 - 1)² + 3 (w_1 + 2)² at w = (0.5, -0.1), of which the larger one stays."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -0.1]]))
    scale, centre = torch.tensor([1.0, 3.0]), torch.tensor([1.0, -2.0])

    def loss():
        return (scale * (model.weight[0] - centre) ** 2).sum()

    loss().backward()
    compression_aware_gradients_(model, loss, lambda net: global_magnitude(net, 0.5), rho, plus=plus)
    return model


@pytest.mark.parametrize("rho", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("plus", [True, False])
def test_gradients_are_those_worked_out_by_hand(plus, rho):
    model = quadratic(plus, rho)
    weight, scale, centre = [0.5, -0.1], [1.0, 3.0], [1.0, -2.0]
    clean = [2 * scale[i] * (weight[i] - centre[i]) for i in range(2)]
    moved = [weight[i] + rho * clean[i] for i in range(2)]
    stays = 0 if abs(moved[0]) > abs(moved[1]) else 1
    assert stays == (1 if rho == 0.2 else 0)  # the ascent step decides what is compressed
    second = [2 * scale[i] * (moved[i] - centre[i]) if i == stays else 0.0 for i in range(2)]
    wanted = [second[i] + plus * clean[i] for i in range(2)]
    assert model.weight.grad.tolist()[0] == pytest.approx(wanted, rel=1e-5)
    assert torch.equal(model.weight, torch.tensor([weight]))


def test_without_compression_and_ascent_the_gradient_is_doubled():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x, y = torch.randn(8, 5), torch.randint(3, (8,))

    def loss():
        return F.cross_entropy(model(x), y)

    loss().backward()
    clean = [p.grad.clone() for p in model.parameters()]
    compression_aware_gradients_(model, loss, masks_in_force, 0.0)
    for p, g in zip(model.parameters(), clean, strict=True):
        torch.testing.assert_close(p.grad, 2 * g)


def test_statistics_take_in_the_clean_pass_alone_and_only_matrices_are_masked():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16))
    x, y = torch.randn(8, 3, 8, 8), torch.randint(16, (8,))

    def loss():
        return F.cross_entropy(model(x), y)

    loss().backward()
    before = {name: each.clone() for name, each in model.named_buffers()}
    compression_aware_gradients_(model, loss, lambda net: global_magnitude(net, 0.9), 0.1, plus=False)
    assert before["1.num_batches_tracked"] == 1
    assert all(torch.equal(each, before[name]) for name, each in model.named_buffers())
    assert all(each.track_running_stats for each in model if isinstance(each, nn.BatchNorm2d | nn.BatchNorm1d))
    zeros = {name: float((p.grad == 0).float().mean()) for name, p in model.named_parameters()}
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.ndim > 1}
    assert sum(zeros[name] * size for name, size in sizes.items()) / sum(sizes.values()) == pytest.approx(0.9, abs=1e-3)
    assert zeros["1.weight"] == zeros["5.weight"] == zeros["1.bias"] == 0


def digits():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, 3, 12, 12), dtype=torch.uint8, generator=generator), torch.arange(64) % 4


def fitted(*hooks, checkpoint=None, epochs=2):
    images, labels = digits()
    model = build_model("resnet8", 4, image_size=12, seed=0, width=4)
    recipe = Recipe(epochs=epochs, batch_size=32, loss="softmax", warmup_epochs=0)
    train(model, images, labels, recipe=recipe, seed=0, hooks=hooks, checkpoint=checkpoint)
    return model


def test_a_run_is_what_steps_by_hand_give_and_goes_on_from_a_checkpoint(tmp_path):
    compressions = [(global_magnitude, 0.5), (global_magnitude, 0.9), (NMMagnitude(2, 4), 0.5)]
    whole = fitted(CompressionAware(compressions, 0.05, seed=3))
    again = fitted(CompressionAware(compressions, 0.05, seed=3))
    other = fitted(CompressionAware(compressions, 0.05, seed=4))
    plain = fitted()
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(whole.fc.weight, other.fc.weight)
    assert not torch.equal(whole.fc.weight, plain.fc.weight)

    class StopError(Exception):
        pass

    class Stop(CompressionAware):
        def before_part(self, part):
            super().before_part(part)
            if part == 1:
                raise StopError

    with pytest.raises(StopError):
        fitted(Stop(compressions, 0.05, seed=3), checkpoint=tmp_path / "run.safetensors")
    resumed = fitted(CompressionAware(compressions, 0.05, seed=3), checkpoint=tmp_path / "run.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("compressions", "rho", "message"),
    [
        ([], 0.1, "at least one"),
        ([(global_magnitude, 1.0)], 0.1, r"sparsities \[1.0\]"),
        ([(global_magnitude, 0.5)], -0.1, "rho=-0.1"),
        ([(NMMagnitude(2, 5), 0.6)], 0.1, "multiple of 5 input channels"),
    ],
)
def test_what_cannot_work_is_refused(compressions, rho, message):
    with pytest.raises(ValueError, match=message):
        fitted(CompressionAware(compressions, rho))


def test_the_network_can_be_copied_and_trained_on():
    model = copy.deepcopy(fitted(CompressionAware([(global_magnitude, 0.9)], 0.1)))
    assert float((model.fc.weight == 0).float().mean()) == 0  # it stays dense
