"""How a procedural face is drawn: from its evidence, which moves one visible property each, and from what says nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.datasets.drawing import IMAGE_SIZES, Array, Canvas, Number, raw_words, render, rgb, uniform

_ATTRIBUTES = 12


@dataclass(frozen=True)
class Nuisances:
    """What varies between faces and carries no information on any attribute.

    Attributes:
        shift: (n, 2) offset of the face to the right and down, in half image widths; drawn from U(-.06, .06).
        background: (n, 3) RGB of the background, from U(.1, .6).
        skin: (n,) lightness of the skin, from U(.65, .85).
        brightness: (n,) factor on the whole image, from U(.85, 1.1).
        hat_colour: (n, 3) RGB of the hat, from U(0, 1).

    All are float32.
    """

    shift: Tensor
    background: Tensor
    skin: Tensor
    brightness: Tensor
    hat_colour: Tensor

    def __len__(self) -> int:
        return len(self.skin)

    @classmethod
    def typical(cls, n: int) -> Nuisances:
        """Return one centred face on mid-grey `n` times, for figures in which only the attributes vary."""
        shift, background, hat_colour = torch.zeros(n, 2), torch.full((n, 3), 0.35), torch.tensor([0.55, 0.15, 0.6]).repeat(n, 1)
        return cls(shift, background, torch.full((n,), 0.75), torch.ones(n), hat_colour)

    def take(self, faces: slice | Sequence[int] | Tensor) -> Nuisances:
        """Return the nuisances of the given faces; `take([i] * m)` repeats those of face `i` `m` times."""
        rows = faces if isinstance(faces, slice) else torch.as_tensor(faces, dtype=torch.int64)  # a tuple would name one number
        return Nuisances(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw_nuisances(bits: np.random.PCG64, n: int) -> Nuisances:
    """Draw the nuisances of n faces."""
    low = np.repeat([-0.06, 0.1, 0.65, 0.85, 0.0], [2, 3, 1, 1, 3])
    high = np.repeat([0.06, 0.6, 0.85, 1.1, 1.0], [2, 3, 1, 1, 3])
    values = torch.from_numpy((low + (high - low) * uniform(bits, n, len(low))).astype(np.float32))
    return Nuisances(values[:, 0:2], values[:, 2:5], values[:, 5], values[:, 6], values[:, 7:10])


def render_faces(evidence: Tensor, nuisances: Nuisances, *, image_size: int = 32) -> Tensor:
    """Draw faces from evidence and nuisances, without pixel noise.

    The drawing behind `make_faces`, as a pure function: vary one column of the evidence and keep the rest to
    see one attribute alone, or change one attribute of an existing face
    (`nuisances=faces.nuisances.take([i])`). The property that attribute k moves is a monotone function of t =
    clip((z_k + 3.5) / 7, 0, 1), or of sigmoid(3 z_k) for glasses and hat.

    Args:
        evidence: (n, 12) float, one column for each of `ATTRIBUTES`.
        nuisances: Nuisances of n faces.
        image_size: Height and width in pixels, from 32 to 64.

    Returns:
        (n, 3, image_size, image_size) uint8, RGB, on the CPU.

    Raises:
        ValueError: If the shapes do not fit, the evidence is not finite, or the image size is no integer or outside its range.
    """
    check_range(*IMAGE_SIZES, whole=True, image_size=image_size)
    if evidence.ndim != 2 or evidence.shape[1] != _ATTRIBUTES:
        wanted = f"(n, {_ATTRIBUTES}): one row a face, one column for each of ATTRIBUTES"
        raise ValueError(f"evidence has shape {tuple(evidence.shape)}, but must be {wanted}")
    if len(nuisances) != len(evidence):
        given = f"evidence is for {len(evidence)} faces and nuisances for {len(nuisances)}"
        raise ValueError(f"{given}; nuisances.take([i] * n) repeats those of face i")
    if not torch.isfinite(evidence).all():
        raise ValueError("evidence must be finite; it holds NaN or infinity.")
    return draw_images(evidence.detach().cpu().numpy().astype(np.float32), nuisances, image_size)


def draw_images(evidence: Array, nuisances: Nuisances, image_size: int, noise: np.random.PCG64 | None = None) -> Tensor:
    """Draw faces, with the pixel noise that the random bits give, or without: (n, 3, image_size, image_size) uint8."""
    return render(len(evidence), image_size, lambda rows: _draw(evidence[rows], nuisances.take(rows), image_size), noise)


@cache
def _speckle(image_size: int) -> Array:
    """Return the fixed stubble texture, (size, size) in {.4, 1}, half the pixels each."""
    order = np.argsort(raw_words(np.random.PCG64(11), image_size**2))
    return np.where(order < image_size**2 // 2, 1.0, 0.4).astype(np.float32).reshape(image_size, image_size)


def _draw(evidence: Array, nuisances: Nuisances, image_size: int) -> Array:
    """Draw (n, 12) evidence as float32 images (n, 3, size, size), before pixel noise and rounding."""
    t = np.clip((evidence.T + 3.5) / 7.0, 0.0, 1.0)
    alpha = expit(3.0 * evidence.T.astype(np.float64)).astype(np.float32)
    (round_, smile, _, _, light_hair, big_nose, oval, brows, rosy, stubble, earrings, narrow_eyes) = t
    glasses, hat = alpha[2], alpha[3]

    def between(low: Number, high: Number, at: Array) -> Array:
        return low + (high - low) * at

    background, hat_colour, shift = (value.numpy().T for value in (nuisances.background, nuisances.hat_colour, nuisances.shift))
    skin = rgb(1.0, 0.86, 0.74) * nuisances.skin.numpy()
    hair = between(rgb(0.16, 0.09, 0.05), rgb(0.98, 0.86, 0.45), light_hair)
    dark = rgb(0.06, 0.05, 0.07)
    head_width, head_height = between(0.46, 0.66, round_), between(0.52, 0.82, oval)
    hair_top, hair_bottom = -0.94, between(0.05, 0.95, round_)
    eyes, eye_y, middle = (-0.24, 0.24), -0.08, 0.04

    head = (0.0, middle, head_width, head_height)
    canvas = Canvas(background, shift, image_size)
    canvas.ellipse((0.0, (hair_bottom + hair_top) / 2, head_width + 0.14, (hair_bottom - hair_top) / 2), hair)
    canvas.ellipse((0.0, 1.2, 0.9, 0.45), between(rgb(0.15, 0.25, 0.65), rgb(0.85, 0.45, 0.1), round_))
    canvas.ellipse(head, skin)
    # The fringe reaches a little over the edge of the face, or the skin would shine through as an outline.
    canvas.ellipse((0.0, middle, head_width + 0.06, head_height + 0.06), hair, inside=canvas.above(-0.46)[:, None])
    cheek_alpha = np.maximum(between(-0.1, 0.6, rosy), 0.0)
    for side in (-1.0, 1.0):
        canvas.ellipse((side * 0.36, 0.2, 0.13, 0.13), rgb(0.95, 0.1, 0.15), cheek_alpha)
    chin = (1.0 - canvas.above(0.26))[:, None] * _speckle(image_size)[..., None]
    canvas.ellipse(head, dark, np.maximum(between(-0.1, 0.5, stubble), 0.0), inside=chin)
    for x in eyes:
        half_height = between(0.15, 0.03, narrow_eyes)
        canvas.ellipse((x, eye_y, 0.15, half_height + 0.04), skin * 0.55)
        canvas.ellipse((x, eye_y, 0.12, half_height), rgb(0.95, 0.95, 0.95))
        canvas.ellipse((x, eye_y, 0.06, half_height), dark)
    for x in eyes:
        canvas.rectangle((x, -0.35, 0.14, between(0.0, 0.065, brows)), dark)
    canvas.ellipse((0.0, 0.14, between(0.03, 0.2, big_nose), 0.13), skin * rgb(0.72, 0.58, 0.5))
    canvas.arc(0.0, 0.4, 0.24, between(-0.18, 0.22, smile), 0.07, rgb(0.5, 0.08, 0.1))
    for x in eyes:
        canvas.ring(x, eye_y, 0.19, 0.06, dark, glasses)
    canvas.rectangle((0.0, eye_y, 0.06, 0.03), dark, glasses)
    canvas.rectangle((0.0, -0.72, 0.44, 0.22), hat_colour, hat)
    canvas.rectangle((0.0, -0.5, 0.66, 0.06), hat_colour * 0.6, hat)
    dots = np.clip(between(-0.25, 1.0, earrings), 0.0, 1.0)
    for side in (-1.0, 1.0):
        canvas.ellipse((side * (head_width + 0.03), 0.24, 0.08, 0.1), rgb(0.1, 0.95, 0.95), dots)
    images = np.ascontiguousarray(canvas.image.transpose(3, 0, 1, 2))
    images *= nuisances.brightness.numpy()[:, None, None, None]
    return images
