"""Procedural glyphs: ten exclusive classes of small grey shapes, some of them ambiguous, mislabelled or in a rare style, all known.

What sparse training and the choice of training examples do to a model shows within seconds on images of 12 pixels, where it
is known which examples are hard, wrong or rare.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effnotes.core.checks import check_choice, check_range
from effnotes.datasets.attributes import SPLITS, ClassData, ClassSplit
from effnotes.datasets.drawing import Array, Canvas, bits_of, pixel_noise, render, uniform

_LABELS, _SCENE, _FACTS, _PIXEL_NOISE = range(4)  # what each independent random stream is for
_NOISE_SD = 0.07
_TURN = 0.15  # half the tangent of the largest angle's half: plus and cross, 45 degrees apart, stay apart
_INK, _NONE = np.ones((1, 1), dtype=np.float32), np.zeros((1, 1), dtype=np.float32)


def _bar(half_width: float, half_height: float, y: float = 0.0) -> tuple[tuple[float, float], ...]:
    return (
        (-half_width, y - half_height),
        (half_width, y - half_height),
        (half_width, y + half_height),
        (-half_width, y + half_height),
    )


def _around(*polar: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Give corners by radius and degrees clockwise from the top."""
    return tuple((r * float(np.sin(np.radians(angle))), -r * float(np.cos(np.radians(angle)))) for r, angle in polar)


# What each class consists of, in units of the glyph's radius: circles by their radius, polygons by their corners, clockwise.
_PARTS: Mapping[str, Sequence[tuple[float | tuple[tuple[float, float], ...], Array]]] = MappingProxyType(
    {
        "disc": [(0.9, _INK)],
        "ring": [(1.0, _INK), (0.55, _NONE)],
        "square": [(_bar(0.8, 0.8), _INK)],
        "frame": [(_bar(0.9, 0.9), _INK), (_bar(0.5, 0.5), _NONE)],
        "triangle": [(_around((1.1, 0), (1.1, 120), (1.1, 240)), _INK)],
        "plus": [(_bar(1.0, 0.25), _INK), (_bar(0.25, 1.0), _INK)],
        "cross": [(_around(*((1.03, turn + side) for side in (31, 59, 211, 239))), _INK) for turn in (0, 90)],
        "two bars": [(_bar(1.0, 0.25, y), _INK) for y in (-0.6, 0.6)],
        "bar": [(_bar(1.1, 0.3), _INK)],
        "star": [(0.5, _INK), *((_around((1.2, turn), (0.5, turn + 36), (0.5, turn - 36)), _INK) for turn in range(0, 360, 72))],
    }
)
GLYPHS = tuple(_PARTS)
"""Names of the ten classes, in the order of their indices."""


class GlyphData(NamedTuple):
    """Images of glyphs with the labels to train on, and what is true of each image; the dictionaries are by split.

    Attributes:
        data: Images and labels of the splits "train", "val" and "test".
        clean: (n,) int64, the class that was drawn.
        ambiguous: (n,) bool, whether the image is blended with another class.
        minority: (n,) bool, whether the image has the rare style, dark on bright.
    """

    data: ClassData
    clean: dict[str, Tensor]
    ambiguous: dict[str, Tensor]
    minority: dict[str, Tensor]


def make_glyphs(
    num_train: int,
    num_val: int,
    num_test: int,
    *,
    seed: int,
    image_size: int = 12,
    ambiguous: float = 0.1,
    label_noise: float = 0.0,
    minority: Mapping[str, float] = MappingProxyType({}),
) -> GlyphData:
    """Draw training, validation and test images of glyphs from one seed.

    Each image holds one bright glyph on a dark ground, of a random class, each as likely as the others, of random place, size
    (radius 2.8 to 4.6 of 12 pixels), angle (up to 17 degrees) and levels (.3 or more apart), and Gaussian noise of standard
    deviation .07; the three channels are equal. A share of the training images is ambiguous: the ink of a second class at the
    same place takes 30 to 50% of it, and the label stays that of the first. A share of the training labels is wrong, each wrong
    class as likely. Validation and test images are neither. Each split has random streams of its own: its images do not change
    with the size of another split, a larger one extends a smaller one, and the shares change no other image or label.

    Args:
        num_train: Number of training images, at least 1.
        num_val: Number of validation images, at least 1.
        num_test: Number of test images, at least 1.
        seed: Seed of everything, at least 0.
        image_size: Height and width in pixels, from 8 to 64.
        ambiguous: Expected share of ambiguous training images, 0 to 1.
        label_noise: Expected share of wrong training labels, 0 to 1.
        minority: Expected share of images with levels swapped, dark on bright, by class and in all splits; none by default.

    Returns:
        The images with their labels, and what is true of each; 10,000 of 12 px take 4 MB.

    Raises:
        ValueError: A number is out of range or no integer where one is needed, or a class is unknown.
    """
    sizes = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    check_range(1, whole=True, **sizes)
    check_range(0, whole=True, seed=seed)
    check_range(8, 64, whole=True, image_size=image_size)
    for name in minority:
        check_choice(GLYPHS, minority=name)
        check_range(0, 1, whole=False, **{f"minority[{name!r}]": minority[name]})
    check_range(0, 1, ambiguous=ambiguous, label_noise=label_noise)
    rare = np.array([minority.get(name, 0.0) for name in GLYPHS])
    splits, clean, blended, swapped = {}, {}, {}, {}
    for number, (name, n) in enumerate(zip(SPLITS, sizes.values(), strict=True)):
        drawn = (len(GLYPHS) * uniform(bits_of(seed, number, _LABELS), n, 1)[:, 0]).astype(np.int64)
        facts = uniform(bits_of(seed, number, _FACTS), n, 6).T
        hard, wrong = (share * (number == 0) for share in (ambiguous, label_noise))
        is_blended, is_rare = facts[0] < hard, facts[3] < rare[drawn]
        labels = np.where(facts[4] < wrong, _another(drawn, facts[5]), drawn)
        weight = np.where(is_blended, 0.3 + 0.2 * facts[2], 0.0).astype(np.float32)
        images = _images(drawn, _another(drawn, facts[1]), weight, is_rare, (seed, number), image_size)
        splits[name] = ClassSplit(images, torch.from_numpy(labels))
        clean[name], blended[name], swapped[name] = (torch.from_numpy(each) for each in (drawn, is_blended, is_rare))
    return GlyphData(ClassData(splits, GLYPHS, "procedural glyphs, drawn from a seed"), clean, blended, swapped)


def _another(labels: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give each label another class, each as likely."""
    others: NDArray[np.int64] = (labels + 1 + ((len(GLYPHS) - 1) * uniforms).astype(np.int64)) % len(GLYPHS)
    return others


def _images(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    weight: Array,
    swapped: NDArray[np.bool_],
    origin: tuple[int, int],
    image_size: int,
) -> Tensor:
    """Draw the images of a split, (n, 3, size, size) uint8; origin is the seed and the number of the split."""
    scenes = uniform(bits_of(*origin, _SCENE), len(first), 6).astype(np.float32)
    noise = bits_of(*origin, _PIXEL_NOISE)

    def draw(rows: slice) -> Array:
        scene = scenes[rows].T
        radius = (2.8 + 1.8 * scene[0]) / 6
        place = (2.0 * scene[1:3] - 1.0) * np.maximum(0.0, 0.9 - radius)
        tangent = (2.0 * scene[3] - 1.0) * np.float32(_TURN)  # of half the angle: no step but arithmetic, as on the canvas
        turn = (1.0 - tangent**2) / (1.0 + tangent**2), 2.0 * tangent / (1.0 + tangent**2)
        cover = _cover(first[rows], radius, place, turn, image_size)
        blended = np.flatnonzero(weight[rows])
        at = radius[blended], place[:, blended], (turn[0][blended], turn[1][blended])
        cover[..., blended] += weight[rows][blended] * (_cover(second[rows][blended], *at, image_size) - cover[..., blended])
        dark = 0.05 + 0.3 * scene[4]
        bright = dark + 0.3 + 0.3 * scene[5]
        ground, ink = (np.where(swapped[rows], one, other) for one, other in ((bright, dark), (dark, bright)))
        grey = (ground + cover * (ink - ground)).transpose(2, 0, 1)[:, None]
        grey = grey + pixel_noise(noise, len(grey), image_size, _NOISE_SD)[:, :1]
        return np.repeat(grey, 3, axis=1)

    return render(len(first), image_size, draw)


def _cover(labels: NDArray[np.int64], radius: Array, place: Array, turn: tuple[Array, Array], image_size: int) -> Array:
    """Return how much of each pixel the glyphs cover, (size, size, n); turn is the cosine and the sine of the angle."""
    cover = np.zeros((image_size, image_size, len(labels)), dtype=np.float32)
    for index in np.unique(labels):
        members = np.flatnonzero(labels == index)
        canvas = Canvas(_NONE, place[:, members], image_size)
        size, cosine, sine = radius[members], turn[0][members], turn[1][members]
        for part, ink in _PARTS[GLYPHS[index]]:
            if isinstance(part, float):
                canvas.ellipse((0.0, 0.0, part * size, part * size), ink)
            else:
                canvas.polygon([(size * (x * cosine - y * sine), size * (x * sine + y * cosine)) for x, y in part], ink)
        cover[..., members] = canvas.image[0]
    return cover
