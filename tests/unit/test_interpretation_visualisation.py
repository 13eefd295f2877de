"""Pictures of what excites a class neuron."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effnotes.interpretation import visualise
from effnotes.models import build_model
from effnotes.models.images import normalize


class Colour(nn.Module):
    """A logit for the mean of each colour, so that what excites it most is known."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        nn.init.eye_(self.fc.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, H, W) to (n, 3)."""
        logits: Tensor = self.fc(images.mean((2, 3)))
        return logits


def test_the_picture_excites_its_neuron_far_more_than_images_do() -> None:
    """Beside hundreds of images of noise, of one colour, and of smooth blobs; the model stays as it is."""
    model = build_model("resnet8", 10, image_size=32, width=8, seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = visualise(model, [3, 7, 3], size=32, steps=48, seed=1)
    assert found.shape == (3, 3, 32, 32)
    assert found.dtype == torch.uint8
    generator = torch.Generator().manual_seed(0)
    others = [torch.randint(0, 256, (200, 3, side, side), dtype=torch.uint8, generator=generator) for side in (1, 4, 32)]
    images = torch.cat([nn.functional.interpolate(each, 32) for each in others])
    with torch.no_grad():
        logits, theirs = model(normalize(found)), model(normalize(images))
    far = theirs.mean(0) + 3 * theirs.std(0)
    for row, target in enumerate((3, 7, 3)):
        assert logits[row, target] > max(theirs[:, target].max(), far[target])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_neuron_for_a_colour_is_shown_in_that_colour() -> None:
    """Class by class, the mean of the wanted colour is highest."""
    means = visualise(Colour().eval(), [0, 1, 2], size=16, steps=60).float().mean((2, 3))
    assert means.argmax(1).tolist() == [0, 1, 2]


def test_starts_hang_on_the_seed_and_on_no_other_class() -> None:
    """The same call gives the same bytes; the first picture of a class is the one that it has alone, and the second another one."""
    model = Colour().eval().double()
    with torch.inference_mode():
        found = visualise(model, [1, 2, 2], size=12, steps=5, seed=4)
    assert torch.equal(found, visualise(model, [1, 2, 2], size=12, steps=5, seed=4))
    assert torch.equal(found[1:2], visualise(model, [2], size=12, steps=5, seed=4))
    assert not torch.equal(found[1], found[2])
    assert not torch.equal(found, visualise(model, [1, 2, 2], size=12, steps=5, seed=5))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"targets": [3]}, "target=3: must be from 0 to 2"),
        ({"targets": []}, "targets=0"),
        ({"steps": 0}, "steps=0"),
        ({"size": 0}, "size=0"),
        ({"prepare": lambda images: normalize(images.byte())}, "no gradient comes back"),
    ],
)
def test_wrong_arguments_are_refused(bad: dict[str, Any], says: str) -> None:
    """One error that says what is allowed."""
    with pytest.raises(ValueError, match=says):
        visualise(Colour().eval(), **{"targets": [0], "size": 8, "steps": 2} | bad)


def test_a_model_that_trains_is_refused() -> None:
    """Statistics of a batch would mix pictures."""
    with pytest.raises(ValueError, match="training mode"):
        visualise(Colour(), [0], size=8)
