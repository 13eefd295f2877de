"""The procedural shapes: what is drawn against point sampling, the regions of the objects, and reproducibility."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from effnotes.datasets import SHAPES, RegionData, drawing, make_shapes, shapes

N = 3000
Points = NDArray[np.float64]


@pytest.fixture(scope="module")
def drawn() -> RegionData:
    return make_shapes(N, 20, 30, seed=2024)


def _cross(x: Points, y: Points) -> NDArray[np.bool_]:
    along, across = np.abs(x + y) / 2**0.5, np.abs(x - y) / 2**0.5
    long, half = 1.58 / 2**0.5, 0.42 / 2**0.5
    return ((along <= long) & (across <= half)) | ((along <= half) & (across <= long))


# Whether a point belongs to an object of half width 1, written without the canvas.
INSIDE: dict[str, Callable[[Points, Points], NDArray[np.bool_]]] = {
    "disc": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.9,
    "diamond": lambda x, y: np.abs(x) + np.abs(y) <= 1.1,
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.55**2),
    "plus": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) <= 0.3) & (np.maximum(np.abs(x), np.abs(y)) <= 1),
    "cross": _cross,
    "triangle": lambda x, y: (y <= 0.85) & (np.abs(x) <= 1.05 * (y + 1) / 1.85),
    "horizontal stripes": lambda x, y: (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.floor((y + 1) / 0.4) % 2 == 0),
    "vertical stripes": lambda x, y: (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.floor((x + 1) / 0.4) % 2 == 0),
    "checker": lambda x, y: (np.abs(x) < 1) & (np.abs(y) < 1) & ((np.floor((x + 1) / 0.5) + np.floor((y + 1) / 0.5)) % 2 == 0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_pixel_is_covered_by_the_share_of_it_that_lies_inside(name: str) -> None:
    size, samples = 40, 16
    radii, places = np.array([0.35, 0.46], dtype=np.float32), np.array([[-0.31, 0.13], [0.2, -0.45]], dtype=np.float32)
    cover = shapes._cover(np.full(2, SHAPES.index(name)), radii, places, size)
    at = (np.arange(size * samples) + 0.5) * 2 / (size * samples) - 1
    for image, radius in enumerate(radii):
        points = np.meshgrid((at - places[0, image]) / radius, (at - places[1, image]) / radius)
        share = INSIDE[name](*points).reshape(size, samples, size, samples).mean((1, 3))
        error = np.abs(cover[..., image] - share)
        assert error.max() < 0.36  # an edge fades over one pixel, which rounds corners
        assert error.mean() < 0.006
        clear = np.abs(share - 0.5) > 0.2
        assert np.array_equal((cover[..., image] >= 0.5)[clear], (share >= 0.5)[clear])


def test_shapes_and_types(drawn: RegionData) -> None:
    for (name, split), n in zip(drawn.data.splits.items(), (N, 20, 30), strict=True):
        assert split.images.shape == (n, 3, 32, 32)
        assert split.images.dtype == torch.uint8
        assert drawn.regions[name].shape == (n, 32, 32)
        assert drawn.regions[name].dtype == torch.bool
    assert list(drawn.data.splits) == list(drawn.regions) == ["train", "val", "test"]
    assert drawn.data.class_names == SHAPES == tuple(INSIDE)


def test_classes_are_equally_likely(drawn: RegionData) -> None:
    assert stats.chisquare(drawn.data.splits["train"].labels.bincount(minlength=10).numpy()).pvalue > 1e-3


def test_the_object_has_one_colour_that_is_not_the_backgrounds(drawn: RegionData) -> None:
    images, regions = drawn.data.splits["train"].images.double() / 255, drawn.regions["train"]
    for image, region in zip(images[:500], regions[:500], strict=True):
        colour = image[:, region].median(dim=1).values
        like = ((image - colour[:, None, None]).abs() < 0.15).all(dim=0)
        assert like[region].double().mean() > 0.45  # of a thin bar most pixels lie on its edge
        assert like[~region].double().mean() < 0.12
        assert ((colour - image[:, ~region].mean(dim=1)).abs() > 0.1).all()


def test_the_object_lies_inside_the_image_and_has_the_size_asked_for(drawn: RegionData) -> None:
    labels, regions = drawn.data.splits["train"].labels, drawn.regions["train"]
    for name, low, high in (("disc", 5, 7.5), ("square", 4.5, 6.75)):
        members = regions[labels == SHAPES.index(name)]
        widths, heights = (members.any(dim=axis).sum(dim=1) for axis in (1, 2))
        assert int((widths - heights).abs().max()) <= 1
        assert int(widths.min()) >= 2 * low - 1
        assert int(widths.max()) <= 2 * high + 1
        assert float(widths.double().std()) > 1


def test_colour_and_place_say_nothing_of_the_class(drawn: RegionData) -> None:
    split, regions = drawn.data.splits["train"], drawn.regions["train"].double()
    left = (regions.sum(dim=1) * torch.arange(32)).sum(dim=1) / regions.sum(dim=(1, 2))
    inside = (split.images.double() * regions[:, None]).sum(dim=(2, 3)) / regions.sum(dim=(1, 2))[:, None]
    corner = split.images[:, :, 0, 0].double()
    for values in (left, *inside.T, *corner.T):
        assert stats.f_oneway(*(values[split.labels == k].numpy() for k in range(10))).pvalue > 1e-3


def test_a_split_depends_on_the_seed_alone(drawn: RegionData) -> None:
    again, other = make_shapes(300, 7, 30, seed=2024), make_shapes(300, 7, 30, seed=2025)
    for name, n in (("train", 300), ("val", 7), ("test", 30)):
        assert torch.equal(again.data.splits[name].images, drawn.data.splits[name].images[:n])
        assert torch.equal(again.data.splits[name].labels, drawn.data.splits[name].labels[:n])
        assert torch.equal(again.regions[name], drawn.regions[name][:n])
        assert not torch.equal(other.data.splits[name].images, again.data.splits[name].images)
    assert not torch.equal(drawn.data.splits["train"].images[:7], again.data.splits["val"].images)


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_shapes(20, 1, 1, seed=3, image_size=33)
    monkeypatch.setattr(drawing, "_CHUNK_PIXELS", 7 * 33**2)
    parts = make_shapes(20, 1, 1, seed=3, image_size=33)
    assert torch.equal(whole.data.splits["train"].images, parts.data.splits["train"].images)
    assert torch.equal(whole.regions["train"], parts.regions["train"])


def test_labels_have_a_fixed_hash() -> None:
    labels = make_shapes(200, 1, 1, seed=0).data.splits["train"].labels.numpy().astype(np.uint8)
    assert hashlib.sha256(labels.tobytes()).hexdigest() == "ed45dd68e1c9602fb5a4043dd88b2fa046835727e9cde3939b9c26990d95b83a"


def test_wrong_numbers_are_refused() -> None:
    for numbers, change, message in (
        ((0, 1, 1), {}, "num_train=0: must be at least 1"),
        ((1, 1, 2.5), {}, "num_test=2.5"),
        ((1, 1, 1), {"seed": -1}, "seed=-1"),
        ((1, 1, 1), {"image_size": 31}, "image_size=31: must be from 32 to 64"),
    ):
        with pytest.raises(ValueError, match=message):
            make_shapes(*numbers, **{"seed": 0, **change})
