"""Networks that are pruned for one image by their neurons."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effnotes.interpretation import ATTRIBUTION_METHODS, attribute, critical_neurons
from effnotes.models import build_model
from effnotes.models.images import normalize

IMAGE = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


class Small(nn.Module):
    """One ReLU module that is used twice, the second time in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 4, 5, stride=4), nn.Conv2d(4, 5, 3), nn.Linear(125, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, 32, 32) to (n, 3)."""
        return self.after(self.relu(self.first(images)))

    def after(self, hidden: Tensor) -> Tensor:
        """The rest."""
        logits: Tensor = self.fc(self.relu(self.second(hidden)).flatten(1))
        return logits


@pytest.fixture(name="small")
def _small() -> Small:
    torch.manual_seed(0)
    return Small().eval().double()


def test_the_least_contributing_neurons_go(small: Small) -> None:
    """Against contributions written out by hand, call by call of the ReLU."""
    pixels = normalize(IMAGE[None]).double()
    first = torch.relu(small.first(pixels)).detach().requires_grad_()
    second = torch.relu(small.second(first))
    by_first, by_second = torch.autograd.grad(small.fc(second.flatten(1))[0, 2], [first, second])

    def keep(values: Tensor, slopes: Tensor) -> Tensor:
        scores = [abs(one) for one in (values * slopes).flatten().tolist()]
        kept = sorted(range(len(scores)), key=lambda place: -scores[place])[: round(0.3 * len(scores))]
        mask = torch.zeros(len(scores), dtype=values.dtype)
        mask[kept] = 1
        return mask.view_as(values)

    masks = keep(first, by_first), keep(second, by_second)

    def by_hand(images: Tensor) -> Tensor:
        hidden = torch.relu(small.first(images)) * masks[0]
        return small.fc((torch.relu(small.second(hidden)) * masks[1]).flatten(1))

    before = {name: value.clone() for name, value in small.state_dict().items()}
    pruned = critical_neurons(small, IMAGE, 0.7, target=2)
    images = torch.rand(5, 3, 32, 32, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(pruned(images), by_hand(images))
    assert not torch.allclose(pruned(images), small(images))
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_level_zero_and_groups_without_relus_change_nothing(small: Small) -> None:
    """As for traces: what is in no group stays."""
    images = torch.rand(5, 3, 32, 32, dtype=torch.float64)
    for levels in (0.0, {"fc": 0.9}):
        torch.testing.assert_close(critical_neurons(small, IMAGE, levels)(images), small(images))


def test_the_innermost_group_of_a_residual_network_counts() -> None:
    """Each of the two calls of a block's ReLU keeps the block's share, and the stem keeps all."""
    model = build_model("resnet8", 10, image_size=32, width=4, seed=0).eval()
    pruned = critical_neurons(model, IMAGE, {"blocks": 0.5, "blocks.2": 0.75})
    shares = [float(mask.mean()) for name, mask in pruned.named_buffers() if name.startswith("critical")]
    assert shares == [1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    for method in set(ATTRIBUTION_METHODS) - {"lime"}:
        found = attribute(pruned, IMAGE, method, target=1)
        assert found.shape == (32, 32)
        assert found.abs().sum() > 0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"levels": 1.0}, "at least 0 and below 1"),
        ({"levels": {"fourth": 0.5}}, "fourth"),
        ({"target": 3}, "target=3: must be from 0 to 2"),
        ({"image": IMAGE.float()}, "needed: torch.uint8"),
        ({"model": Small()}, "training mode"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)).eval()}, "no ReLU"),
    ],
)
def test_wrong_arguments_are_refused(small: Small, bad: dict[str, Any], says: str) -> None:
    """One error that says what is allowed."""
    given = {"model": small, "image": IMAGE, "levels": 0.5, "target": None} | bad
    with pytest.raises(ValueError, match=says):
        critical_neurons(given["model"], given["image"], given["levels"], target=given["target"])
