"""Procedural shapes: ten exclusive classes of drawn objects, with the pixels of each object known exactly.

An explanation of a classifier can be judged only against what the classifier used. Here nothing but the object tells the class:
its colour, size and place, the background and the blobs are drawn independently of it.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.datasets.attributes import SPLITS, ClassData, ClassSplit, RegionData
from effnotes.datasets.drawing import IMAGE_SIZES, Array, Canvas, Part, bits_of, render, uniform

_LABELS, _SCENE, _BACKGROUND, _PIXEL_NOISE = range(4)  # what each independent random stream is for, as in `faces`
_BLOBS = 3
_GRIDS = ((3, 0.16), (6, 0.1), (12, 0.06))  # cells a side and amplitude of the background at each scale
_INK, _NONE = np.ones((1, 1), dtype=np.float32), np.zeros((1, 1), dtype=np.float32)

# What each class consists of, in units of half the object's width.
_PARTS: Mapping[str, Sequence[Part]] = MappingProxyType(
    {
        "disc": [("ellipse", (0, 0, 1, 1), _INK)],
        "square": [("rectangle", (0, 0, 0.9, 0.9), _INK)],
        "diamond": [("polygon", (0, -1.1, 1.1, 0, 0, 1.1, -1.1, 0), _INK)],
        "ring": [("ellipse", (0, 0, 1, 1), _INK), ("ellipse", (0, 0, 0.55, 0.55), _NONE)],
        "plus": [("rectangle", (0, 0, 1, 0.3), _INK), ("rectangle", (0, 0, 0.3, 1), _INK)],
        "cross": [
            ("polygon", (-1, -0.58, -0.58, -1, 1, 0.58, 0.58, 1), _INK),
            ("polygon", (-1, 0.58, 0.58, -1, 1, -0.58, -0.58, 1), _INK),
        ],
        "triangle": [("polygon", (0, -1, 1.05, 0.85, -1.05, 0.85), _INK)],
        "horizontal stripes": [("rectangle", (0, y, 1, 0.2), _INK) for y in (-0.8, 0, 0.8)],
        "vertical stripes": [("rectangle", (x, 0, 0.2, 1), _INK) for x in (-0.8, 0, 0.8)],
        "checker": [
            ("rectangle", (x / 4, y / 4, 0.25, 0.25), _INK) for y in (-3, -1, 1, 3) for x in (-3, -1, 1, 3) if (x + y) % 4 == 2
        ],
    }
)
SHAPES = tuple(_PARTS)
"""Names of the ten classes, in the order of their indices."""


def make_shapes(num_train: int, num_val: int, num_test: int, *, seed: int, image_size: int = 32) -> RegionData:
    """Draw training, validation and test images of shapes from one seed.

    Each image holds one object of a random class, each as likely as the others, wholly inside the image: half its width is 5 to
    7.5 pixels of 32, and every channel of its colour is .35 or more from the mean of the background. Behind it lie noise that is
    smooth at three scales and three small blobs of random colours; pixel noise of standard deviation .03 is added. Each split has
    random streams of its own: its images do not change with the size of another split, and a larger one extends a smaller one.

    Args:
        num_train: Number of training images, at least 1.
        num_val: Number of validation images, at least 1.
        num_test: Number of test images, at least 1.
        seed: Seed of everything, at least 0.
        image_size: Height and width in pixels, from 32 to 64.

    Returns:
        The images with their classes, and as regions the pixels that the object covers by half or more. 10,000 of 32 px take 31 MB,
        and their regions 10 MB.

    Raises:
        ValueError: A number is out of range, or no integer.
    """
    sizes = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    check_range(1, whole=True, **sizes)
    check_range(0, whole=True, seed=seed)
    check_range(*IMAGE_SIZES, whole=True, image_size=image_size)
    drawn = {name: _split(n, seed, split, image_size) for split, (name, n) in enumerate(zip(SPLITS, sizes.values(), strict=True))}
    data = ClassData({name: images for name, (images, _) in drawn.items()}, SHAPES, "procedural shapes, drawn from a seed")
    return RegionData(data, {name: regions for name, (_, regions) in drawn.items()})


def _split(n: int, seed: int, split: int, image_size: int) -> tuple[ClassSplit, Tensor]:
    labels = (len(SHAPES) * uniform(bits_of(seed, split, _LABELS), n, 1)[:, 0]).astype(np.int64)
    scenes = uniform(bits_of(seed, split, _SCENE), n, 9 + 6 * _BLOBS).astype(np.float32)
    backgrounds = bits_of(seed, split, _BACKGROUND)
    regions = np.empty((n, image_size, image_size), dtype=np.bool_)

    def draw(rows: slice) -> Array:
        scene = scenes[rows].T
        mean = 0.2 + 0.6 * scene[:3]
        canvas = Canvas(mean, np.zeros((2, scene.shape[1]), dtype=np.float32), image_size)
        canvas.image += _smooth_noise(backgrounds, scene.shape[1], image_size)
        for blob in scene[9:].reshape(_BLOBS, 6, -1):
            radius = (1.0 + blob[5]) / 16
            canvas.ellipse((1.8 * blob[3] - 0.9, 1.8 * blob[4] - 0.9, radius, radius), blob[:3])
        colour = (mean + 0.35 + 0.3 * scene[3:6]) % 1.0
        radius = (5.0 + 2.5 * scene[6]) / 16
        place = (2.0 * scene[7:9] - 1.0) * (1.0 - 1.1 * radius)
        cover = _cover(labels[rows], radius, place, image_size)
        regions[rows] = (cover >= 0.5).transpose(2, 0, 1)
        canvas.image += cover * (colour[:, None, None] - canvas.image)
        return np.ascontiguousarray(canvas.image.transpose(3, 0, 1, 2))

    images = render(n, image_size, draw, bits_of(seed, split, _PIXEL_NOISE))
    return ClassSplit(images, torch.from_numpy(labels)), torch.from_numpy(regions)


def _cover(labels: NDArray[np.int64], radius: Array, place: Array, image_size: int) -> Array:
    """Return how much of each pixel the objects cover, (size, size, n)."""
    cover = np.zeros((image_size, image_size, len(labels)), dtype=np.float32)
    for index in np.unique(labels):
        members = np.flatnonzero(labels == index)
        canvas = Canvas(_NONE, place[:, members], image_size)
        canvas.paint(_PARTS[SHAPES[index]], radius[members])
        cover[..., members] = canvas.image[0]
    return cover


def _smooth_noise(bits: np.random.PCG64, n: int, image_size: int) -> Array:
    """Draw noise that is smooth at several scales, (3, size, size, n): grids of uniforms, interpolated linearly between points."""
    noise = np.zeros((3, image_size, image_size, n), dtype=np.float32)
    # All grids of an image from one row of words, so that an image does not depend on the chunk that it is drawn in.
    values = uniform(bits, n, sum(3 * (cells + 1) ** 2 for cells, _ in _GRIDS)).astype(np.float32)
    for cells, amplitude in _GRIDS:
        points = cells + 1
        grid, values = values[:, : 3 * points**2].T.reshape(3, points, points, n), values[:, 3 * points**2 :]
        at = ((np.arange(image_size) + 0.5) * (cells / image_size)).astype(np.float32)
        low = at.astype(np.int64)
        share = (at - low)[:, None]
        rows = grid[:, low] + (grid[:, low + 1] - grid[:, low]) * share[..., None]
        noise += np.float32(2 * amplitude) * (rows[:, :, low] + (rows[:, :, low + 1] - rows[:, :, low]) * share - np.float32(0.5))
    return noise
