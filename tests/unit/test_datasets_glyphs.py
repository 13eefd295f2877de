"""The procedural glyphs: what is drawn against point sampling, and what is said of each image against the images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.path import Path
from numpy.typing import NDArray
from scipy import stats

from effnotes.datasets import GLYPHS, GlyphData, glyphs, make_glyphs

N = 4000
Points = NDArray[np.float64]


def _star(x: Points, y: Points) -> Any:
    angles, radii = np.radians(np.arange(10) * 36), np.tile([1.2, 0.5], 5)
    outline = Path(np.column_stack([radii * np.sin(angles), -radii * np.cos(angles)]))
    return outline.contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)


def _plus(x: Points, y: Points) -> NDArray[np.bool_]:
    return (np.minimum(np.abs(x), np.abs(y)) <= 0.25) & (np.maximum(np.abs(x), np.abs(y)) <= 1)


def _cross(x: Points, y: Points) -> NDArray[np.bool_]:
    along, across = np.abs(x + y) / 2**0.5, np.abs(x - y) / 2**0.5
    long, half = 1.03 * np.cos(np.radians(14)), 1.03 * np.sin(np.radians(14))
    return (np.minimum(along, across) <= half) & (np.maximum(along, across) <= long)


# Whether a point belongs to a glyph of radius 1, written without the canvas.
INSIDE: dict[str, Callable[[Points, Points], Any]] = {
    "disc": lambda x, y: x**2 + y**2 <= 0.81,
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.55**2),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.8,
    "frame": lambda x, y: (np.maximum(np.abs(x), np.abs(y)) <= 0.9) & (np.maximum(np.abs(x), np.abs(y)) >= 0.5),
    "triangle": lambda x, y: (y <= 0.55) & (np.abs(x) * 3**0.5 <= y + 1.1),
    "plus": _plus,
    "cross": _cross,
    "two bars": lambda x, y: (np.abs(x) <= 1) & (np.abs(np.abs(y) - 0.6) <= 0.25),
    "bar": lambda x, y: (np.abs(x) <= 1.1) & (np.abs(y) <= 0.3),
    "star": _star,
}


@pytest.fixture(scope="module")
def drawn() -> GlyphData:
    return make_glyphs(N, 20, 200, seed=2024, ambiguous=0.15, label_noise=0.04, minority={"ring": 0.5})


@pytest.mark.parametrize("name", GLYPHS)
def test_a_pixel_is_covered_by_the_share_of_it_that_lies_inside(name: str) -> None:
    size, samples, radius, angle, (left, down) = 48, 12, 0.5, 0.25, (-0.2, 0.1)
    as_given = [np.array([value], dtype=np.float32) for value in (radius, np.cos(angle), np.sin(angle))]
    place = np.array([[left], [down]], dtype=np.float32)
    cover = glyphs._cover(np.array([GLYPHS.index(name)]), as_given[0], place, (as_given[1], as_given[2]), size)[..., 0]
    at = (np.arange(size * samples) + 0.5) * 2 / (size * samples) - 1
    x, y = np.meshgrid((at - left) / radius, (at - down) / radius)
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    share = INSIDE[name](*turned).reshape(size, samples, size, samples).mean((1, 3))
    assert np.abs(cover - share).max() < 0.5  # an edge fades over one pixel, which rounds corners
    assert np.abs(cover - share).mean() < 0.01


def test_shapes_types_and_equally_likely_classes(drawn: GlyphData) -> None:
    assert tuple(INSIDE) == GLYPHS
    for (name, split), n in zip(drawn.data.splits.items(), (N, 20, 200), strict=True):
        assert split.images.shape == (n, 3, 12, 12)
        assert split.images.dtype == torch.uint8
        assert torch.equal(split.images[:, 0], split.images[:, 2])
        assert len(drawn.clean[name]) == len(drawn.ambiguous[name]) == len(drawn.minority[name]) == n
    assert stats.chisquare(drawn.clean["train"].bincount(minlength=10).numpy()).pvalue > 1e-3


def test_shares_are_as_asked_and_only_training_images_are_hard_or_wrong(drawn: GlyphData) -> None:
    wrong = drawn.data.splits["train"].labels != drawn.clean["train"]
    rings = drawn.clean["train"] == GLYPHS.index("ring")
    for flags, share in ((wrong, 0.04), (drawn.ambiguous["train"], 0.15), (drawn.minority["train"][rings], 0.5)):
        assert stats.binomtest(int(flags.sum()), len(flags), share).pvalue > 1e-3
    assert stats.chisquare(((drawn.data.splits["train"].labels - drawn.clean["train"])[wrong] % 10).bincount()[1:]).pvalue > 1e-3
    assert not drawn.minority["train"][~rings].any()
    assert drawn.minority["test"].any()
    for name in ("val", "test"):
        assert not drawn.ambiguous[name].any()
        assert torch.equal(drawn.data.splits[name].labels, drawn.clean[name])


def test_the_rare_style_is_dark_on_bright(drawn: GlyphData) -> None:
    images, rare = drawn.data.splits["train"].images[:, 0].double(), drawn.minority["train"]
    rings = drawn.clean["train"] == GLYPHS.index("ring")
    rim = torch.cat([images[:, 0], images[:, -1]], dim=1).mean(dim=1)
    assert bool((rim > images.mean(dim=(1, 2)))[rare].double().mean() > 0.9)
    assert bool((rim < images.mean(dim=(1, 2)))[rings & ~rare].double().mean() > 0.9)


def test_a_larger_split_extends_a_smaller_one_and_shares_change_nothing_else(drawn: GlyphData) -> None:
    small = make_glyphs(300, 5, 7, seed=2024, ambiguous=0.15, minority={"ring": 0.5})
    assert torch.equal(small.data.splits["train"].images, drawn.data.splits["train"].images[:300])
    assert torch.equal(small.data.splits["train"].labels, drawn.clean["train"][:300])
    plain = make_glyphs(300, 5, 7, seed=2024, ambiguous=0.0)
    same = ~(small.ambiguous["train"] | small.minority["train"])
    assert torch.equal(plain.data.splits["train"].images[same], small.data.splits["train"].images[same])
    assert not torch.equal(plain.data.splits["train"].images[~same], small.data.splits["train"].images[~same])
    assert not torch.equal(make_glyphs(300, 5, 7, seed=2025).clean["train"], plain.clean["train"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_val": 0}, "num_val=0"),
        ({"image_size": 7}, "image_size=7"),
        ({"ambiguous": 1.2}, "ambiguous=1.2"),
        ({"minority": {"rign": 0.1}}, "Did you mean 'ring'"),
        ({"minority": {"ring": 2.0}}, r"minority\['ring'\]=2.0"),
    ],
)
def test_bad_input_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_glyphs(**({"num_train": 5, "num_val": 5, "num_test": 5, "seed": 0} | given))
