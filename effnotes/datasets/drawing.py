"""What drawn data share: random words that are the same everywhere, a canvas, and the way from drawings to noisy images."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

Array: TypeAlias = NDArray[np.floating[Any]]  # float32; the stubs lose that where a Python float takes part
Number: TypeAlias = Array | float
Box: TypeAlias = tuple[Number, Number, Number, Number]  # x and y of the middle, half the width, half the height
Part: TypeAlias = tuple[Literal["ellipse", "rectangle", "polygon"], tuple[float, ...], Array]  # a box or x, y of corners; colour

IMAGE_SIZES = (32, 64)

_PIXEL_NOISE_SD = 0.03
# Pixels drawn at a time: small enough that the layers stay in the CPU's cache, which also bounds the memory.
_CHUNK_PIXELS = 2**18


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
    uniforms: NDArray[np.float64] = ((raw_words(bits, n * columns) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return uniforms.reshape(n, columns)


def render(n: int, image_size: int, draw: Callable[[slice], Array], noise: np.random.PCG64 | None = None) -> Tensor:
    """Draw n images in chunks, with the pixel noise that the random bits give, or without.

    Args:
        n: Number of images.
        image_size: Height and width in pixels.
        draw: Draws the images of a slice, float32 (m, 3, image_size, image_size), 0 for black and 1 for white.
        noise: Random bits of the pixel noise, of standard deviation .03; None for none.

    Returns:
        (n, 3, image_size, image_size) uint8, RGB, on the CPU.
    """
    images = np.empty((n, 3, image_size, image_size), dtype=np.uint8)
    step = max(1, _CHUNK_PIXELS // image_size**2)
    for rows in (slice(start, min(start + step, n)) for start in range(0, n, step)):
        drawn = draw(rows)
        if noise is not None:
            drawn += pixel_noise(noise, len(drawn), image_size, _PIXEL_NOISE_SD)
        images[rows] = np.rint(255.0 * np.clip(drawn, 0.0, 1.0)).astype(np.uint8)
    return torch.from_numpy(images)


@cache
def _noise_levels(sd: float) -> Array:
    """Quantiles of Gaussian noise at the 65,536 midpoints of (0, 1)."""
    return np.asarray(sd * ndtri((np.arange(2**16) + 0.5) / 2**16), dtype=np.float32)


def pixel_noise(bits: np.random.PCG64, n: int, image_size: int, sd: float) -> Array:
    """Draw Gaussian noise (n, 3, size, size): 16 random bits a value pick a quantile; whole words an image."""
    values = 3 * image_size**2
    codes = raw_words(bits, n * -(-values // 4)).reshape(n, -1).astype("<u8", copy=False).view("<u2")[:, :values]
    noise: Array = _noise_levels(sd)[codes]
    return noise.reshape(n, 3, image_size, image_size)


class Canvas:
    """n images painted layer by layer, on [-1, 1] x [-1, 1] with y pointing down.

    The background is (channels, n) or (channels, 1), and so are colours; `shift`, (2, n), is where the origin lies in each image.
    A fourth channel that starts at 0 and that every colour sets to 1 holds how much of a pixel is painted.
    Arrays hold the image index last, so that one step works on the same pixel of all images and a layer is
    confined to the few rows and columns that it can touch. A shape's edge fades over one pixel. No step but
    arithmetic: IEEE 754 gives the same bits everywhere.
    """

    def __init__(self, background: Array, shift: Array, image_size: int) -> None:
        self.pixel = 2.0 / image_size
        centres = ((np.arange(image_size) + 0.5) * self.pixel - 1.0).astype(np.float32)
        self.x = centres[:, None] - shift[0]  # (size, n)
        self.y = centres[:, None] - shift[1]
        self.image = np.empty((len(background), image_size, image_size, shift.shape[1]), dtype=np.float32)
        self.image[:] = background[:, None, None]

    def ellipse(self, box: Box, colour: Array, alpha: Number = 1.0, *, inside: Array | None = None) -> None:
        """Paint an ellipse, times the weight `inside` where given, which broadcasts to (size, size, n)."""
        across, down = self._ellipse_profiles(*box)
        rows, columns = _touched(down + across.max(axis=0)), _touched(across + down.max(axis=0))
        cover = across[columns] + down[rows, None]
        np.clip(cover, 0.0, 1.0, out=cover)
        if inside is not None:
            cover *= np.broadcast_to(inside, self.image.shape[1:])[rows, columns]
        self._blend(cover, rows, columns, colour, alpha)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Array, alpha: Array) -> None:
        """Paint a circle's outline."""
        across, down = self._ellipse_profiles(x, y, radius, radius)
        reach = 0.5 * width / self.pixel
        rows = _touched(down + across.max(axis=0) + reach + 0.5)
        columns = _touched(across + down.max(axis=0) + reach + 0.5)
        cover = np.abs(across[columns] + down[rows, None] - 0.5)
        np.subtract(reach + 0.5, cover, out=cover)
        np.clip(cover, 0.0, 1.0, out=cover)
        self._blend(cover, rows, columns, colour, alpha)

    def rectangle(self, box: Box, colour: Array, alpha: Number = 1.0) -> None:
        """Paint an upright rectangle; a pixel counts by the share of it that is covered, so thin bars show."""
        x, y, half_width, half_height = box
        across, down = self._overlap(self.x, x, half_width), self._overlap(self.y, y, half_height)
        rows, columns = _touched(down), _touched(across)
        self._blend(across[columns] * down[rows, None], rows, columns, colour, alpha)

    def arc(self, x: float, y: float, half_width: float, rise: Array, thickness: float, colour: Array) -> None:
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

    def polygon(self, corners: Sequence[tuple[Number, Number]], colour: Array) -> None:
        """Paint a convex polygon, from its corners in clockwise order on the screen."""
        xs, ys = (np.array(np.broadcast_arrays(*axis), dtype=np.float32) for axis in zip(*corners, strict=True))
        columns = _touched(np.minimum(self.x - xs.min(axis=0), xs.max(axis=0) - self.x) + self.pixel)
        rows = _touched(np.minimum(self.y - ys.min(axis=0), ys.max(axis=0) - self.y) + self.pixel)
        cover = np.ones((rows.stop - rows.start, columns.stop - columns.start, self.x.shape[1]), dtype=np.float32)
        for x, y, next_x, next_y in zip(xs, ys, np.roll(xs, -1, axis=0), np.roll(ys, -1, axis=0), strict=True):
            run, fall = next_x - x, next_y - y
            scale = 1.0 / (np.sqrt(run * run + fall * fall) * self.pixel)
            across, down = -(self.x[columns] - x) * (fall * scale), (self.y[rows] - y) * (run * scale)
            np.minimum(cover, (across + np.float32(0.5)) + down[:, None], out=cover)  # the distance inwards, in pixels
        np.maximum(cover, 0.0, out=cover)
        self._blend(cover, rows, columns, colour, 1.0)

    def paint(self, parts: Sequence[Part], scale: Number = 1.0) -> None:
        """Paint the parts of a drawing, its numbers times `scale`."""
        for kind, numbers, colour in parts:
            scaled = [scale * number for number in numbers]
            corners = zip(scaled[::2], scaled[1::2], strict=True)
            getattr(self, kind)([*corners] if kind == "polygon" else scaled, colour)

    def above(self, y: float) -> Array:
        """Return the share of each row that lies above `y`, (size, n)."""
        share: Array = np.clip((y - self.y) / self.pixel + 0.5, 0.0, 1.0)
        return share

    def _ellipse_profiles(self, x: Number, y: Number, half_width: Number, half_height: Number) -> tuple[Array, Array]:
        # Near its edge, (1 - q) / 2 with q = (x / a)² + (y / b)² is the distance inwards in units of the
        # radius. It is a sum of a function of x and one of y, so no square root and only one addition a pixel
        # is needed.
        a, b = np.asarray(half_width, dtype=np.float32), np.asarray(half_height, dtype=np.float32)
        steepness = 0.5 * np.minimum(a, b) / self.pixel
        u, v = (self.x - x) / a, (self.y - y) / b
        return 0.5 + steepness * (1.0 - u * u), -steepness * (v * v)

    def _overlap(self, coordinate: Array, centre: Number, half: Number) -> Array:
        right = np.minimum(coordinate + self.pixel / 2, centre + half)
        left = np.maximum(coordinate - self.pixel / 2, centre - half)
        overlap: Array = np.maximum((right - left) / self.pixel, 0.0)
        return overlap

    def _blend(self, cover: Array, rows: slice, columns: slice, colour: Array, alpha: Number) -> None:
        cover *= alpha
        for channel, value in zip(self.image, colour, strict=True):
            region = channel[rows, columns]
            region += cover * (value - region)


def _touched(profile: Array) -> slice:
    """Return the span of rows (or columns) where some image's profile, (size, n), is positive."""
    hit = np.flatnonzero((profile > 0.0).any(axis=1))
    return slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0)


def rgb(red: float, green: float, blue: float) -> Array:
    """Return one colour for all images of a canvas, (3, 1)."""
    return np.array([[red], [green], [blue]], dtype=np.float32)
