"""Random views of an image, against torchvision's crops and what a view shows of where it was taken."""

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from effnotes.interpretation.augmentation import AUGMENTATIONS, _crops, _resized, augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int = 20, width: int = 28) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=seeded(1))


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_views_are_images_and_depend_on_the_generator_alone(kind: str) -> None:
    image, state = noise(), torch.get_rng_state()
    before = image.clone()
    views = augment(image, 6, kind, generator=seeded())
    assert views.dtype == torch.uint8
    assert views.shape == (6, 3, 20, 28)
    assert torch.equal(views, augment(image, 6, kind, generator=seeded()))
    assert not torch.equal(views, augment(image, 6, kind, generator=seeded(2)))
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_resized_as_by_torchvision(mirrored: bool) -> None:
    image = noise().float()
    boxes = torch.tensor([[0, 0, 20, 28], [3, 5, 9, 12], [19, 27, 1, 1], [0, 26, 20, 2]])
    found = _resized(image, boxes.float(), torch.full((4,), mirrored))
    for view, (top, left, height, width) in zip(found, boxes.tolist(), strict=True):
        expected = tv.resized_crop(image, top, left, height, width, [20, 28], antialias=False)
        expected = tv.horizontal_flip(expected) if mirrored else expected
        assert view.numpy() == pytest.approx(expected.numpy(), abs=0.02)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (60, 90)])
def test_crops_are_drawn_like_those_of_torchvision(height: int, width: int) -> None:
    n = 1500
    boxes = _crops(n, height, width, 0.2, seeded()).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = v2.RandomResizedCrop(8, scale=(0.2, 1))
        params = [drawn.make_params([torch.empty(3, height, width)]) for _ in range(n)]
    theirs = torch.tensor([[each[key] for key in ("top", "left", "height", "width")] for each in params]).double()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    for statistic in (torch.mean, torch.std):
        assert statistic(boxes, dim=0).numpy() == pytest.approx(statistic(theirs, dim=0).numpy(), abs=2.0)


def test_where_no_crop_fits_the_view_is_the_whole_image() -> None:
    assert _crops(3, 2, 100, 0.9, seeded()).tolist() == [[0, 0, 2, 100]] * 3


def test_small_keeps_the_colours_crops_less_and_holds_the_image() -> None:
    # Red tells the column and green the row, so that a view says where it was taken.
    image = torch.zeros(3, 200, 200, dtype=torch.uint8)
    image[0], image[1], image[2] = torch.arange(200), torch.arange(200)[:, None], 77
    views = augment(image, 400, "small", generator=seeded())
    assert torch.equal(views[::4], image.expand(100, 3, 200, 200))
    drawn = views[torch.arange(400) % 4 != 0].long()
    assert (drawn[:, 2] == 77).all()
    width, height = drawn[:, 0, 0, -1] - drawn[:, 0, 0, 0], drawn[:, 1, -1, 0] - drawn[:, 1, 0, 0] + 1
    assert 0.4 < (width < 0).double().mean() < 0.6
    width = width.abs() + 1
    area, ratio = width * height / 200**2, width / height
    assert 0.48 < area.min() < 0.55
    assert 0.9 < area.max() <= 1
    assert 0.73 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.37
    assert torch.equal(augment(image, 1, "small", generator=seeded())[0], image)


def test_paper_changes_brightness_within_its_range_and_leaves_grey_grey() -> None:
    views = augment(torch.full((3, 8, 8), 100, dtype=torch.uint8), 500, "paper", generator=seeded()).long()
    assert (views - views[:, :1]).abs().max() <= 1
    level = views[:, 0, 0, 0]
    assert 50 <= level.min() < 55
    assert 145 < level.max() <= 150


def test_paper_turns_the_hue_by_up_to_three_tenths_either_way() -> None:
    colour = (120, 90, 100)
    image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    views = augment(image, 500, "paper", generator=seeded())[:, :, 0, 0].double()
    yiq = np.array([colorsys.rgb_to_yiq(*view) for view in views.tolist()])
    luminance, i, q = colorsys.rgb_to_yiq(*colour)
    turned = np.angle((yiq[:, 1] + 1j * yiq[:, 2]) / complex(i, q)) / (2 * np.pi)
    assert turned.min() == pytest.approx(-0.3, abs=0.05)
    assert turned.max() == pytest.approx(0.3, abs=0.05)
    assert abs(turned.mean()) < 0.03
    # Chroma and luminance keep their ratio: only the brightness scales them.
    chroma = np.hypot(yiq[:, 1], yiq[:, 2]) / yiq[:, 0]
    assert chroma == pytest.approx(np.full(500, np.hypot(i, q) / luminance), rel=0.2)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"torch.float32 of shape \(3, 8, 8\); needed: torch.uint8 of shape \(3, H, W\)"):
        augment(torch.zeros(3, 8, 8), 1, generator=seeded())
    with pytest.raises(ValueError, match=r"of a batch take one, such as images\[0\]"):
        augment(noise()[None], 1, generator=seeded())
    with pytest.raises(ValueError, match=r"n=0: must be at least 1"):
        augment(noise(), 0, generator=seeded())
    with pytest.raises(ValueError, match=r"augment='smal': must be one of paper, small. Did you mean 'small'\?"):
        augment(noise(), 1, "smal", generator=seeded())  # type: ignore[arg-type]
