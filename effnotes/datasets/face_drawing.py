"""How a procedural face is drawn: from its evidence, which moves one visible property each, and from what says nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from torch import Tensor

from effnotes.core.checks import check_range

_Array: TypeAlias = NDArray[np.floating[Any]]  # float32; the stubs lose that where a Python float takes part
_Number: TypeAlias = _Array | float
_Box: TypeAlias = tuple[_Number, _Number, _Number, _Number]  # x and y of the middle, half the width, half the height

IMAGE_SIZES = (32, 64)
_ATTRIBUTES = 12

_PIXEL_NOISE_SD = 0.03
# Pixels drawn at a time: small enough that the layers stay in the CPU's cache, which also bounds the memory.
_CHUNK_PIXELS = 2**18


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
        return cls(
            shift=torch.zeros(n, 2),
            background=torch.full((n, 3), 0.35),
            skin=torch.full((n,), 0.75),
            brightness=torch.ones(n),
            hat_colour=torch.tensor([0.55, 0.15, 0.6]).repeat(n, 1),
        )

    def take(self, faces: slice | Sequence[int] | Tensor) -> Nuisances:
        """Return the nuisances of the given faces; `take([i] * m)` repeats those of face `i` `m` times."""
        rows = faces if isinstance(faces, slice) else torch.as_tensor(faces, dtype=torch.int64)  # a tuple would name one number
        return Nuisances(*(getattr(self, field.name)[rows] for field in fields(self)))


def bits_of(seed: int, split: int, purpose: int) -> np.random.PCG64:
    """Return the random bits of one purpose; NumPy promises that they never change."""
    return np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(split, purpose)))


def raw_words(bits: np.random.PCG64, n: int) -> NDArray[np.uint64]:
    """Draw n words of 64 random bits."""
    return np.asarray(bits.random_raw(n), dtype=np.uint64)


def uniform(bits: np.random.PCG64, n: int, columns: int) -> NDArray[np.float64]:
    """Draw (n, columns) uniforms in the open interval (0, 1).

    One raw word a number, and not `Generator.normal` and the like: a rejection sampler uses more words for
    some numbers, so that one rounding difference between two platforms would shift all numbers after it.
    """
    drawn = raw_words(bits, n * columns) >> np.uint64(12)
    uniforms: NDArray[np.float64] = (drawn.astype(np.float64) + 0.5) * 2.0**-52
    return uniforms.reshape(n, columns)


def draw_nuisances(bits: np.random.PCG64, n: int) -> Nuisances:
    """Draw the nuisances of n faces."""
    low = np.repeat([-0.06, 0.1, 0.65, 0.85, 0.0], [2, 3, 1, 1, 3])
    high = np.repeat([0.06, 0.6, 0.85, 1.1, 1.0], [2, 3, 1, 1, 3])
    values = torch.from_numpy((low + (high - low) * uniform(bits, n, len(low))).astype(np.float32))
    return Nuisances(
        shift=values[:, 0:2], background=values[:, 2:5], skin=values[:, 5], brightness=values[:, 6], hat_colour=values[:, 7:10]
    )


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


def draw_images(evidence: _Array, nuisances: Nuisances, image_size: int, noise: np.random.PCG64 | None = None) -> Tensor:
    """Draw faces in chunks, with the pixel noise that the random bits give, or without: (n, 3, image_size, image_size) uint8."""
    images = np.empty((len(evidence), 3, image_size, image_size), dtype=np.uint8)
    step = max(1, _CHUNK_PIXELS // image_size**2)
    for rows in (slice(start, start + step) for start in range(0, len(evidence), step)):
        drawn = _draw(evidence[rows], nuisances.take(rows), image_size)
        if noise is not None:
            drawn += _pixel_noise(noise, len(drawn), image_size)
        images[rows] = np.rint(255.0 * np.clip(drawn, 0.0, 1.0)).astype(np.uint8)
    return torch.from_numpy(images)


@cache
def _noise_levels() -> _Array:
    """Quantiles of the pixel noise at the 65,536 midpoints of (0, 1)."""
    return np.asarray(_PIXEL_NOISE_SD * ndtri((np.arange(2**16) + 0.5) / 2**16), dtype=np.float32)


def _pixel_noise(bits: np.random.PCG64, n: int, image_size: int) -> _Array:
    """Draw Gaussian noise (n, 3, size, size): 16 random bits a value pick a quantile; whole words an image."""
    values = 3 * image_size**2
    drawn = raw_words(bits, n * -(-values // 4)).reshape(n, -1)
    codes = drawn.astype("<u8", copy=False).view("<u2")[:, :values]
    noise: _Array = _noise_levels()[codes]
    return noise.reshape(n, 3, image_size, image_size)


class _Canvas:
    """n images painted layer by layer, on [-1, 1] x [-1, 1] with y pointing down.

    Arrays hold the image index last, so that one step works on the same pixel of all images and a layer is
    confined to the few rows and columns that it can touch. A shape's edge fades over one pixel. No step but
    arithmetic: IEEE 754 gives the same bits everywhere.
    """

    def __init__(self, background: _Array, shift: _Array, image_size: int) -> None:
        self.pixel = 2.0 / image_size
        centres = ((np.arange(image_size) + 0.5) * self.pixel - 1.0).astype(np.float32)
        self.x = centres[:, None] - shift[0]  # (size, n)
        self.y = centres[:, None] - shift[1]
        self.image = np.empty((3, image_size, image_size, shift.shape[1]), dtype=np.float32)
        self.image[:] = background[:, None, None]

    def ellipse(self, box: _Box, colour: _Array, alpha: _Number = 1.0, *, inside: _Array | None = None) -> None:
        """Paint an ellipse, times the weight `inside` where given, which broadcasts to (size, size, n)."""
        across, down = self._ellipse_profiles(*box)
        rows, columns = _touched(down + across.max(axis=0)), _touched(across + down.max(axis=0))
        cover = across[columns] + down[rows, None]
        np.clip(cover, 0.0, 1.0, out=cover)
        if inside is not None:
            cover *= np.broadcast_to(inside, self.image.shape[1:])[rows, columns]
        self._blend(cover, rows, columns, colour, alpha)

    def ring(self, x: float, y: float, radius: float, width: float, colour: _Array, alpha: _Array) -> None:
        """Paint a circle's outline."""
        across, down = self._ellipse_profiles(x, y, radius, radius)
        reach = 0.5 * width / self.pixel
        rows = _touched(down + across.max(axis=0) + reach + 0.5)
        columns = _touched(across + down.max(axis=0) + reach + 0.5)
        cover = np.abs(across[columns] + down[rows, None] - 0.5)
        np.subtract(reach + 0.5, cover, out=cover)
        np.clip(cover, 0.0, 1.0, out=cover)
        self._blend(cover, rows, columns, colour, alpha)

    def rectangle(self, box: _Box, colour: _Array, alpha: _Number = 1.0) -> None:
        """Paint an upright rectangle; a pixel counts by the share of it that is covered, so thin bars show."""
        x, y, half_width, half_height = box
        across, down = self._overlap(self.x, x, half_width), self._overlap(self.y, y, half_height)
        rows, columns = _touched(down), _touched(across)
        self._blend(across[columns] * down[rows, None], rows, columns, colour, alpha)

    def arc(self, x: float, y: float, half_width: float, rise: _Array, thickness: float, colour: _Array) -> None:
        """Paint the parabola y + rise (1/2 - u²), u from -1 to 1 across; for rise > 0 its ends point up."""
        across = self._overlap(self.x, x, half_width)
        columns = _touched(across)
        u = (self.x[columns] - x) / half_width
        curve = y + rise * (0.5 - np.minimum(u * u, 1.0))
        half = 0.5 * thickness
        top, bottom = curve.min(axis=0), curve.max(axis=0)
        reach = half + self.pixel
        rows = _touched(np.minimum(self.y - top + reach, bottom + reach - self.y))
        cover = np.abs(self.y[rows, None] - curve)
        np.subtract(half / self.pixel + 0.5, cover / self.pixel, out=cover)
        np.clip(cover, 0.0, 1.0, out=cover)
        cover *= across[columns]
        self._blend(cover, rows, columns, colour, 1.0)

    def above(self, y: float) -> _Array:
        """Return the share of each row that lies above `y`, (size, n)."""
        share: _Array = np.clip((y - self.y) / self.pixel + 0.5, 0.0, 1.0)
        return share

    def _ellipse_profiles(self, x: _Number, y: _Number, half_width: _Number, half_height: _Number) -> tuple[_Array, _Array]:
        # Near its edge, (1 - q) / 2 with q = (x / a)² + (y / b)² is the distance inwards in units of the
        # radius. It is a sum of a function of x and one of y, so no square root and only one addition a pixel
        # is needed.
        a, b = np.asarray(half_width, dtype=np.float32), np.asarray(half_height, dtype=np.float32)
        steepness = 0.5 * np.minimum(a, b) / self.pixel
        u, v = (self.x - x) / a, (self.y - y) / b
        return 0.5 + steepness * (1.0 - u * u), -steepness * (v * v)

    def _overlap(self, coordinate: _Array, centre: _Number, half: _Number) -> _Array:
        right = np.minimum(coordinate + self.pixel / 2, centre + half)
        left = np.maximum(coordinate - self.pixel / 2, centre - half)
        overlap: _Array = np.maximum((right - left) / self.pixel, 0.0)
        return overlap

    def _blend(self, cover: _Array, rows: slice, columns: slice, colour: _Array, alpha: _Number) -> None:
        cover *= alpha
        for channel, value in zip(self.image, colour, strict=True):
            region = channel[rows, columns]
            region += cover * (value - region)


def _touched(profile: _Array) -> slice:
    """Return the span of rows (or columns) where some image's profile, (size, n), is positive."""
    hit = np.flatnonzero((profile > 0.0).any(axis=1))
    return slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0)


@cache
def _speckle(image_size: int) -> _Array:
    """Return the fixed stubble texture, (size, size) in {.4, 1}, half the pixels each."""
    order = np.argsort(raw_words(np.random.PCG64(11), image_size**2))
    return np.where(order < image_size**2 // 2, 1.0, 0.4).astype(np.float32).reshape(image_size, image_size)


def _colour(red: float, green: float, blue: float) -> _Array:
    return np.array([[red], [green], [blue]], dtype=np.float32)


def _draw(evidence: _Array, nuisances: Nuisances, image_size: int) -> _Array:
    """Draw (n, 12) evidence as float32 images (n, 3, size, size), before pixel noise and rounding."""
    t = np.clip((evidence.T + 3.5) / 7.0, 0.0, 1.0)
    alpha = expit(3.0 * evidence.T.astype(np.float64)).astype(np.float32)
    (round_, smile, _, _, light_hair, big_nose, oval, brows, rosy, stubble, earrings, narrow_eyes) = t
    glasses, hat = alpha[2], alpha[3]

    def between(low: _Number, high: _Number, at: _Array) -> _Array:
        return low + (high - low) * at

    background, hat_colour, shift = (value.numpy().T for value in (nuisances.background, nuisances.hat_colour, nuisances.shift))
    skin = _colour(1.0, 0.86, 0.74) * nuisances.skin.numpy()
    hair = between(_colour(0.16, 0.09, 0.05), _colour(0.98, 0.86, 0.45), light_hair)
    dark = _colour(0.06, 0.05, 0.07)
    head_width, head_height = between(0.46, 0.66, round_), between(0.52, 0.82, oval)
    hair_top, hair_bottom = -0.94, between(0.05, 0.95, round_)
    eyes, eye_y, middle = (-0.24, 0.24), -0.08, 0.04

    head = (0.0, middle, head_width, head_height)
    canvas = _Canvas(background, shift, image_size)
    canvas.ellipse((0.0, (hair_bottom + hair_top) / 2, head_width + 0.14, (hair_bottom - hair_top) / 2), hair)
    shoulders = between(_colour(0.15, 0.25, 0.65), _colour(0.85, 0.45, 0.1), round_)
    canvas.ellipse((0.0, 1.2, 0.9, 0.45), shoulders)
    canvas.ellipse(head, skin)
    # The fringe reaches a little over the edge of the face, or the skin would shine through as an outline.
    canvas.ellipse((0.0, middle, head_width + 0.06, head_height + 0.06), hair, inside=canvas.above(-0.46)[:, None])
    cheek_alpha = np.maximum(between(-0.1, 0.6, rosy), 0.0)
    for side in (-1.0, 1.0):
        canvas.ellipse((side * 0.36, 0.2, 0.13, 0.13), _colour(0.95, 0.1, 0.15), cheek_alpha)
    chin = (1.0 - canvas.above(0.26))[:, None] * _speckle(image_size)[..., None]
    stubble_alpha = np.maximum(between(-0.1, 0.5, stubble), 0.0)
    canvas.ellipse(head, dark, stubble_alpha, inside=chin)
    for x in eyes:
        half_height = between(0.15, 0.03, narrow_eyes)
        canvas.ellipse((x, eye_y, 0.15, half_height + 0.04), skin * 0.55)
        canvas.ellipse((x, eye_y, 0.12, half_height), _colour(0.95, 0.95, 0.95))
        canvas.ellipse((x, eye_y, 0.06, half_height), dark)
    for x in eyes:
        canvas.rectangle((x, -0.35, 0.14, between(0.0, 0.065, brows)), dark)
    canvas.ellipse((0.0, 0.14, between(0.03, 0.2, big_nose), 0.13), skin * _colour(0.72, 0.58, 0.5))
    canvas.arc(0.0, 0.4, 0.24, between(-0.18, 0.22, smile), 0.07, _colour(0.5, 0.08, 0.1))
    for x in eyes:
        canvas.ring(x, eye_y, 0.19, 0.06, dark, glasses)
    canvas.rectangle((0.0, eye_y, 0.06, 0.03), dark, glasses)
    canvas.rectangle((0.0, -0.72, 0.44, 0.22), hat_colour, hat)
    canvas.rectangle((0.0, -0.5, 0.66, 0.06), hat_colour * 0.6, hat)
    dots = np.clip(between(-0.25, 1.0, earrings), 0.0, 1.0)
    for side in (-1.0, 1.0):
        canvas.ellipse((side * (head_width + 0.03), 0.24, 0.08, 0.1), _colour(0.1, 0.95, 0.95), dots)
    images = np.ascontiguousarray(canvas.image.transpose(3, 0, 1, 2))
    images *= nuisances.brightness.numpy()[:, None, None, None]
    return images
