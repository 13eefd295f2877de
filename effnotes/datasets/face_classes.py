"""Procedural faces of ten exclusive classes: each shows one attribute of ten, and the pixels that show it are known."""

import numpy as np
import torch
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.datasets.attributes import SPLITS, ClassData, ClassSplit, RegionData
from effnotes.datasets.drawing import IMAGE_SIZES, bits_of, uniform
from effnotes.datasets.face_drawing import draw_images, draw_nuisances
from effnotes.datasets.faces import NAMES

_LABELS, _EVIDENCE, _NUISANCES, _PIXEL_NOISE = range(4)  # what each independent random stream is for, as in `faces`
_LEAST, _MOST = 2.0, 3.5  # of the evidence's size; beyond the second the drawn properties stay as they are
_CHANGED = 16  # levels of 255, about twice the standard deviation of the pixel noise

FACE_CLASSES = tuple(name for name in NAMES if name not in ("Round", "Oval"))
"""Names of the ten classes, in the order of their indices: the attributes that show in one part of the face."""


def make_face_classes(num_train: int, num_val: int, num_test: int, *, seed: int, image_size: int = 32) -> RegionData:
    """Draw training, validation and test faces that show one attribute each, from one seed.

    The class of a face, each as likely as the others, is the one attribute of `FACE_CLASSES` that it clearly has: its evidence is
    drawn from U(2, 3.5), that of the nine others from U(-3.5, -2), and that of "Round" and "Oval", which move the whole face, from
    U(-3.5, 3.5) whatever the class. All else is as in `make_faces`. Each split has random streams of its own: its images do not
    change with the size of another split, and a larger one extends a smaller one.

    Args:
        num_train: Number of training images, at least 1.
        num_val: Number of validation images, at least 1.
        num_test: Number of test images, at least 1.
        seed: Seed of everything, at least 0.
        image_size: Height and width in pixels, from 32 to 64.

    Returns:
        The images with their classes, and regions: the pixels of which a channel changes by more than 16 of 255 levels, about
        twice the standard deviation of the pixel noise, where the same face is drawn with the same noise and the evidence for its
        class turned into the same evidence against it.

    Raises:
        ValueError: A number is out of range, or no integer.
    """
    sizes = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    check_range(1, whole=True, **sizes)
    check_range(0, whole=True, seed=seed)
    check_range(*IMAGE_SIZES, whole=True, image_size=image_size)
    drawn = {name: _split(n, seed, split, image_size) for split, (name, n) in enumerate(zip(SPLITS, sizes.values(), strict=True))}
    source = "procedural faces of one attribute each, drawn from a seed"
    data = ClassData({name: images for name, (images, _) in drawn.items()}, FACE_CLASSES, source)
    return RegionData(data, {name: regions for name, (_, regions) in drawn.items()})


def _split(n: int, seed: int, split: int, image_size: int) -> tuple[ClassSplit, Tensor]:
    labels = (len(FACE_CLASSES) * uniform(bits_of(seed, split, _LABELS), n, 1)[:, 0]).astype(np.int64)
    shares = uniform(bits_of(seed, split, _EVIDENCE), n, len(NAMES)).astype(np.float32)
    local = np.array([NAMES.index(name) for name in FACE_CLASSES])
    evidence = _MOST * (2 * shares - 1)
    evidence[:, local] = (_LEAST - _MOST) * shares[:, local] - _LEAST
    own = np.arange(n), local[labels]
    flipped = evidence.copy()
    evidence[own] *= -1
    nuisances = draw_nuisances(bits_of(seed, split, _NUISANCES), n)
    images, without = (draw_images(each, nuisances, image_size, bits_of(seed, split, _PIXEL_NOISE)) for each in (evidence, flipped))
    # Subtracted on the side where the difference is not negative: bytes wrap around.
    change = torch.maximum(images, without) - torch.minimum(images, without)
    return ClassSplit(images, torch.from_numpy(labels)), (change > _CHANGED).any(1)
