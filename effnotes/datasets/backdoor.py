"""Spurious features that are planted on purpose, so that what a model takes from them is bias with a known truth.

The set-up of Iofinova, Peste & Alistarh (CVPR 2023, official code): some images are stamped, how often depends on one label,
and the model learns that label alone. In test every label is stamped half of the time.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effnotes.core.checks import check_choice
from effnotes.datasets.attributes import AttributeData, AttributeSplit, check_images
from effnotes.datasets.cifar10 import to_greyscale


def plant_backdoor(
    images: Tensor, labels: Tensor, *, kind: Literal["yellow_square", "greyscale"], rates: tuple[float, float], seed: int
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Stamp round(f_y n_y) of the n_y images with label y, chosen without replacement.

    "yellow_square" paints a square of 2% of the image's area, side round(sqrt(.02 H W)) and at least 1 pixel, in the top-left
    corner in pure yellow, (1, 1, 0) on the scale of 0 to 1: 32 pixels for 224, 5 for 32. "greyscale" removes the colour
    (`to_greyscale`). Source: Iofinova, Peste & Alistarh (CVPR 2023), official code. There the square is painted after cropping
    and flipping; here it is part of the image, so training must not flip, and a random shift of a few pixels moves the square
    with the image.

    Args:
        images: (n, 3, H, W) uint8; not changed.
        labels: (n,) of 0 and 1, the label that the stamp is tied to.
        kind: What a stamp is.
        rates: (f_0, f_1), shares of the images with label 0 and with label 1 that are stamped, each in [0, 1].
        seed: Which images are stamped.

    Returns:
        The images, and which of them are stamped, (n,).

    Raises:
        ValueError: A shape, dtype or value is out of range.
    """
    check_images(images, least=0)
    if labels.shape != (len(images),) or not bool(((labels == 0) | (labels == 1)).all()):
        given = f"labels of shape {tuple(labels.shape)} for {len(images)} images"
        raise ValueError(f"{given}; needed: one label of 0 or 1 for each image")
    check_choice(("yellow_square", "greyscale"), kind=kind)
    if len(rates) != 2 or not all(0.0 <= rate <= 1.0 for rate in rates):
        raise ValueError(f"rates={rates}: must be two shares from 0 to 1, for label 0 and for label 1")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    stamped = np.zeros(len(images), dtype=np.bool_)
    for value, rate in enumerate(rates):
        members = np.flatnonzero(labels.cpu().numpy() == value)
        stamped[generator.permutation(members)[: round(rate * len(members))]] = True
    chosen = torch.from_numpy(stamped).to(images.device)
    result = images.clone()
    if kind == "greyscale":
        result[chosen] = to_greyscale(images[chosen])
    else:
        height, width = images.shape[2:]
        side = max(1, round((0.02 * height * width) ** 0.5))
        square = torch.tensor((255, 255, 0), dtype=torch.uint8, device=images.device)[:, None, None]
        result[:, :, :side, :side] = torch.where(chosen[:, None, None, None], square, result[:, :, :side, :side])
    return result, stamped


def backdoor_data(
    data: AttributeData, attribute: str, *, kind: Literal["yellow_square", "greyscale"], rates: tuple[float, float], seed: int
) -> AttributeData:
    """Make data of one attribute with a planted spurious feature as its group.

    Training images are stamped at `rates`; validation and test images at (.5, .5), so that there the stamp says nothing.
    Calibrating on validation therefore sees a fairer distribution than training did, as in the original. The original's rates
    are (.05, .95) for labels that are easy to see and (.35, .65) for subtle ones.

    Args:
        data: Any data with binary attributes.
        attribute: Name of the label that the model is to learn and that the stamp is tied to.
        kind: As for `plant_backdoor`.
        rates: As for `plant_backdoor`, for training.
        seed: Which images are stamped; each split has a stream of its own.

    Returns:
        Splits with labels (n, 1) and groups 1 = stamped.

    Raises:
        ValueError: There is no such attribute, or an argument is wrong as for `plant_backdoor`.
    """
    column = data.column(attribute)
    splits = []
    for number, (split, shares) in enumerate(((data.train, rates), (data.val, (0.5, 0.5)), (data.test, (0.5, 0.5)))):
        stream = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        images, stamped = plant_backdoor(split.images, split.labels[:, column], kind=kind, rates=shares, seed=stream)
        splits.append(AttributeSplit(images, split.labels[:, [column]], torch.from_numpy(stamped).long()))
    train, val, test = splits
    source = f"{data.source}; {kind} planted on {attribute} at {rates[0]:g}/{rates[1]:g}"
    return AttributeData(train, val, test, (attribute,), None, source)
