"""Procedural faces: drawn images whose attributes, and how hard each is to see, are known exactly.

A face is drawn from a vector of *evidence*, one real number per attribute. The generative model:

    y_0 ~ Bernoulli(.42)                        the protected attribute "Round"
    y_k | y_0 ~ Bernoulli(rate of k given y_0)  the other attributes, independent given y_0
    z_k = (2 y_k - 1) d_k / 2 + N(0, 1)         evidence; d_k is the separability of attribute k
    image = render(z, nuisances)                each z_k moves one visible property monotonically

Real face attributes are correlated with one another, differ in how hard they are to see, and have no known truth behind the
annotation. Here correlation and difficulty are set, and because the evidence is kept, the posterior of every label has a
closed form: by Bayes' rule, logit P(y_k = 1 | z_k, y_0) = logit P(y_k = 1 | y_0) + d_k z_k. How much bias or uncertainty no
model can avoid is therefore a number and not a guess.

The faces are drawings of nobody. "Round", skin shade and every other property carry no demographic meaning;
the data card, `data/faces/CARD.md`, says what follows from that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from torch import Tensor

__all__ = [
    "ATTRIBUTES",
    "Attribute",
    "FaceSplits",
    "Faces",
    "Nuisances",
    "make_face_splits",
    "make_faces",
    "render_faces",
    "skewed_attributes",
]

_Array = NDArray[np.floating[Any]]  # float32; the stubs lose that where a Python float takes part


@dataclass(frozen=True)
class Attribute:
    """One binary attribute of the generator.

    Attributes:
        name: What the attribute is called.
        rate_if_round: P(y_k = 1 | Round = 1), in (0, 1). For "Round" itself, which conditions on nothing,
            both rates are its base rate.
        rate_if_not: P(y_k = 1 | Round = 0), in (0, 1).
        separability: d_k >= 0, the distance between the means of the two classes' evidence in standard
            deviations. With equal classes the best possible accuracy is Φ(d/2): .945 for d = 3.2, .999 for d
            = 6, and chance for d = 0.
        drawn_as: The visible property that the evidence moves, in words.

    Raises:
        ValueError: If a rate lies outside (0, 1), or the separability is negative or not finite.
    """

    name: str
    rate_if_round: float
    rate_if_not: float
    separability: float
    drawn_as: str

    def __post_init__(self) -> None:
        for which in ("rate_if_round", "rate_if_not"):
            rate = getattr(self, which)
            if not 0.0 < rate < 1.0:
                raise ValueError(
                    f"{which} of {self.name} is {rate}, but a rate must lie strictly between 0 and 1; "
                    "use .001 or .999 for an attribute that one group almost never or almost always has."
                )
        if not (math.isfinite(self.separability) and self.separability >= 0.0):
            raise ValueError(f"separability of {self.name} is {self.separability}, but it must be finite and at least 0.")

    @property
    def relative_skew(self) -> float:
        """Relative difference of the two rates, |q1 - q0| / min(q1, q0); 0 if independent of "Round"."""
        low, high = sorted((self.rate_if_round, self.rate_if_not))
        return (high - low) / low


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("Round", 0.42, 0.42, 6.0, "wider head, longer hair, shoulders from blue to orange"),
    Attribute("Smile", 0.50, 0.50, 5.0, "corners of the mouth from down to up"),
    Attribute("Glasses", 0.20, 0.10, 5.0, "two dark rings and a bridge, from invisible to solid"),
    Attribute("Hat", 0.16, 0.10, 5.0, "hat of a random colour, from invisible to solid"),
    Attribute("Light_Hair", 0.06, 0.30, 4.5, "hair from dark brown to light yellow"),
    Attribute("Big_Nose", 0.44, 0.12, 3.2, "wider nose"),
    Attribute("Oval", 0.20, 0.38, 3.0, "taller head"),
    Attribute("Bushy_Brows", 0.32, 0.10, 3.2, "thicker brows"),
    Attribute("Rosy", 0.06, 0.28, 3.2, "redder cheeks"),
    Attribute("Stubble", 0.36, 0.04, 4.0, "darker speckles on the chin"),
    Attribute("Earrings", 0.08, 0.38, 4.0, "turquoise dots beside the head, from invisible to solid"),
    Attribute("Narrow_Eyes", 0.20, 0.20, 3.2, "less open eyes"),
)
"""The twelve attributes in column order, with default rates and separabilities; column 0 is protected."""

PROTECTED = 0
_NAMES = tuple(attribute.name for attribute in ATTRIBUTES)
_IMAGE_SIZES = (32, 64)

# What each independent random stream is for: changing one (say, the label noise) leaves the others as they
# were.
_LABELS, _EVIDENCE, _LABEL_NOISE, _NUISANCES, _PIXEL_NOISE = range(5)
_WHOLE, _TRAIN, _VALIDATION, _TEST = range(4)

_PIXEL_NOISE_SD = 0.03
# Pixels drawn at a time: small enough that the layers stay in the CPU's cache, which also bounds the memory.
_CHUNK_PIXELS = 2**18


def skewed_attributes(attributes: Sequence[Attribute] = ATTRIBUTES, *, min_relative_skew: float = 0.1) -> tuple[int, ...]:
    """Return the columns whose true rate differs between the groups: those that can have bias to amplify.

    The rule |q1 - q0| / min(q1, q0) >= `min_relative_skew` (Iofinova, Peste & Alistarh, CVPR 2023, official
    code) is applied to the rates of the generator and not to a sample's, so that the set of attributes is the
    same for every draw.

    Args:
        attributes: The generator's attributes.
        min_relative_skew: Threshold on the relative difference of the two rates.

    Returns:
        Column indices in ascending order, without the protected column.
    """
    return tuple(
        column
        for column, attribute in enumerate(attributes)
        if column != PROTECTED and attribute.relative_skew >= min_relative_skew
    )


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

    def take(self, indices: Sequence[int] | Tensor) -> Nuisances:
        """Return the nuisances of the given faces; `take([i] * m)` repeats those of face `i` `m` times."""
        return self._rows(torch.as_tensor(indices, dtype=torch.int64))

    def _rows(self, rows: slice | Tensor) -> Nuisances:
        return Nuisances(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Faces:
    """A set of drawn faces with labels, evidence and the nuisances they were drawn with.

    Works as a map-style dataset for `torch.utils.data.DataLoader`: item `i` is `(images[i], labels[i])`.

    Attributes:
        images: (n, 3, size, size) uint8, RGB.
        labels: (n, 12) int64 in {0, 1}; what an annotator would hand over, so with label noise where that was
            asked for.
        clean_labels: (n, 12) int64 in {0, 1}; the labels before noise.
        evidence: (n, 12) float32; the z that the images were drawn from.
        nuisances: What else the images were drawn from, but for the pixel noise.
        attributes: The generator's attributes, in column order.
    """

    images: Tensor
    labels: Tensor
    clean_labels: Tensor
    evidence: Tensor
    nuisances: Nuisances
    attributes: tuple[Attribute, ...]

    protected = PROTECTED
    """Column of the protected attribute, "Round"."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return tuple(attribute.name for attribute in self.attributes)

    def posterior_logits(self, *, group_aware: bool = True) -> Tensor:
        """Return the log-odds that each clean label is 1 given its evidence: the most that a model could know.

        With equal unit variances in both classes, logit P(y_k = 1 | z_k, y_0) = logit P(y_k = 1 | y_0) + d_k
        z_k.

        Args:
            group_aware: True uses the rate of the face's own group, P(y_k = 1 | y_0). False knows nothing of
                groups and uses the marginal rate P(y_k = 1). For the protected column both use its base rate.

        Returns:
            (n, 12) float64. What a network can reach from the image is at most this good: pixel noise,
            rounding and the end of a drawn property's range (|z| > 3.5, or less where an object has become
            invisible) hide a little of the evidence.
        """
        base_rate = self.attributes[self.protected].rate_if_round
        if_round = torch.tensor([a.rate_if_round for a in self.attributes], dtype=torch.float64)
        if_not = torch.tensor([a.rate_if_not for a in self.attributes], dtype=torch.float64)
        separability = torch.tensor([a.separability for a in self.attributes], dtype=torch.float64)
        if group_aware:
            is_round = self.clean_labels[:, self.protected, None] == 1
            prior = torch.where(is_round, if_round, if_not)
        else:
            prior = base_rate * if_round + (1.0 - base_rate) * if_not
        return torch.logit(prior) + separability * self.evidence.double()

    def posterior(self, *, group_aware: bool = True) -> Tensor:
        """Return P(clean label = 1 | evidence), the sigmoid of `posterior_logits`.

        Args:
            group_aware: As for `posterior_logits`.

        Returns:
            (n, 12) float64 in [0, 1]. With label noise η the probability that the *noisy* label is 1 is (1 -
            2η) p + η.
        """
        return torch.sigmoid(self.posterior_logits(group_aware=group_aware))


class FaceSplits(NamedTuple):
    """Three independent sets of faces from one seed."""

    train: Faces
    val: Faces
    test: Faces


def make_faces(
    n: int,
    *,
    seed: int,
    image_size: int = 32,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    label_noise: float | Mapping[str, float] = 0.0,
) -> Faces:
    """Draw `n` faces.

    The result depends on the arguments alone and on no global random state. Labels are the same on every machine; evidence and
    images may differ in the last bit of a float32 and, rarely, by one of 255 levels. Face `i` is the same for every `n > i`, so a
    larger set extends a smaller one; labels, evidence and nuisances do not depend on `image_size`, and images do not depend on
    `label_noise`.

    Args:
        n: Number of faces, at least 1.
        seed: Non-negative integer.
        image_size: Height and width in pixels, from 32 to 64.
        attributes: The twelve attributes of `ATTRIBUTES` in that order, with rates and separabilities of your
            own if you like:
            `[dataclasses.replace(a, separability=2.0) if a.name == "Rosy" else a for a in ATTRIBUTES]`.
        label_noise: Probability η in [0, .5) that an observed label is flipped, independently of everything
            else: one number for all attributes (the protected one included), or numbers by name, 0 for the
            names left out.

    Returns:
        The faces. 10,000 of 32 px take 33 MB, and some 10 MB more while they are drawn.

    Raises:
        ValueError: If an argument lies outside the ranges above.
        TypeError: If `n`, `seed` or `image_size` is no integer.
    """
    return _make_faces(n, seed, _WHOLE, image_size, attributes, label_noise)


def make_face_splits(
    n_train: int,
    n_val: int,
    n_test: int,
    *,
    seed: int,
    image_size: int = 32,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    label_noise: float | Mapping[str, float] = 0.0,
) -> FaceSplits:
    """Draw independent training, validation and test faces from one seed.

    Each split has random streams of its own: its faces do not change with the size of another split.

    Args:
        n_train: Number of training faces, at least 1.
        n_val: Number of validation faces, at least 1.
        n_test: Number of test faces, at least 1.
        seed: As for `make_faces`.
        image_size: As for `make_faces`.
        attributes: As for `make_faces`.
        label_noise: As for `make_faces`; all three splits get it. Test against `clean_labels` to judge
            without it.

    Returns:
        The splits `train`, `val` and `test`.

    Raises:
        ValueError: As for `make_faces`.
        TypeError: As for `make_faces`.
    """
    return FaceSplits(
        *(
            _make_faces(n, seed, split, image_size, attributes, label_noise)
            for n, split in ((n_train, _TRAIN), (n_val, _VALIDATION), (n_test, _TEST))
        )
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
        ValueError: If the shapes do not fit, the evidence is not finite, or the image size lies outside its
            range.
        TypeError: If `image_size` is no integer.
    """
    _check_image_size(image_size)
    if evidence.ndim != 2 or evidence.shape[1] != len(ATTRIBUTES):
        raise ValueError(
            f"evidence has shape {tuple(evidence.shape)}, but must be (n, {len(ATTRIBUTES)}): "
            "one row a face, one column for each of ATTRIBUTES."
        )
    if len(nuisances) != len(evidence):
        raise ValueError(
            f"evidence is for {len(evidence)} faces and nuisances for {len(nuisances)}; "
            "nuisances.take([i] * n) repeats those of face i."
        )
    if not torch.isfinite(evidence).all():
        raise ValueError("evidence must be finite; it holds NaN or infinity.")
    values = evidence.detach().cpu().numpy().astype(np.float32)
    images = np.empty((len(values), 3, image_size, image_size), dtype=np.uint8)
    for rows in _chunks(len(values), image_size):
        images[rows] = _to_levels(_draw(values[rows], nuisances._rows(rows), image_size))
    return torch.from_numpy(images)


def _make_faces(
    n: int,
    seed: int,
    split: int,
    image_size: int,
    attributes: Sequence[Attribute],
    label_noise: float | Mapping[str, float],
) -> Faces:
    _check_integer("n", n, minimum=1)
    _check_integer("seed", seed, minimum=0)
    _check_image_size(image_size)
    attributes = _checked_attributes(attributes)
    flip_rates = _flip_rates(label_noise)

    clean = _draw_labels(_uniform(_stream(seed, split, _LABELS), n), attributes)
    separability = np.array([attribute.separability for attribute in attributes])
    noise = ndtri(_uniform(_stream(seed, split, _EVIDENCE), n))
    evidence = ((2 * clean - 1) * separability / 2 + noise).astype(np.float32)
    flipped = _uniform(_stream(seed, split, _LABEL_NOISE), n) < flip_rates
    nuisances = _draw_nuisances(_stream(seed, split, _NUISANCES), n)

    pixel_noise = _stream(seed, split, _PIXEL_NOISE)
    images = np.empty((n, 3, image_size, image_size), dtype=np.uint8)
    for rows in _chunks(n, image_size):
        drawn = _draw(evidence[rows], nuisances._rows(rows), image_size)
        drawn += _pixel_noise(pixel_noise, len(drawn), image_size)
        images[rows] = _to_levels(drawn)
    return Faces(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(np.where(flipped, 1 - clean, clean)),
        clean_labels=torch.from_numpy(clean),
        evidence=torch.from_numpy(evidence),
        nuisances=nuisances,
        attributes=attributes,
    )


def _check_integer(name: str, value: int, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, not {value!r} ({type(value).__name__}).")
    if value < minimum:
        raise ValueError(f"{name} is {value}, but must be at least {minimum}.")


def _check_image_size(image_size: int) -> None:
    low, high = _IMAGE_SIZES
    _check_integer("image_size", image_size, minimum=low)
    if image_size > high:
        raise ValueError(
            f"image_size is {image_size}, but must lie from {low} to {high}; upscale the images if a model needs larger ones."
        )


def _checked_attributes(attributes: Sequence[Attribute]) -> tuple[Attribute, ...]:
    attributes = tuple(attributes)
    names = tuple(attribute.name for attribute in attributes)
    if names != _NAMES:
        raise ValueError(
            f"attributes are {list(names)}, but must be {list(_NAMES)}, in this order: each has its own "
            "drawing. Change rates and separabilities with dataclasses.replace."
        )
    protected = attributes[PROTECTED]
    if protected.rate_if_round != protected.rate_if_not:
        raise ValueError(
            f"{protected.name} is the protected attribute and conditions on nothing, so rate_if_round and "
            f"rate_if_not must both be its base rate; they are {protected.rate_if_round} and "
            f"{protected.rate_if_not}."
        )
    return attributes


def _flip_rates(label_noise: float | Mapping[str, float]) -> NDArray[np.float64]:
    if isinstance(label_noise, Mapping):
        unknown = [name for name in label_noise if name not in _NAMES]
        if unknown:
            raise ValueError(f"label_noise names {unknown}, but the attributes are {list(_NAMES)}.")
        rates = np.array([label_noise.get(name, 0.0) for name in _NAMES], dtype=np.float64)
    else:
        rates = np.full(len(_NAMES), label_noise, dtype=np.float64)
    if not ((rates >= 0.0) & (rates < 0.5)).all():
        raise ValueError(
            f"label_noise is {label_noise}, but a probability of a flip must be at least 0 and below .5; "
            "at .5 the label says nothing."
        )
    return rates


def _stream(seed: int, split: int, purpose: int) -> np.random.PCG64:
    """Return the random bits of one purpose; NumPy promises that they never change."""
    return np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(split, purpose)))


def _words(bits: np.random.PCG64, n: int) -> NDArray[np.uint64]:
    return np.asarray(bits.random_raw(n), dtype=np.uint64)


def _uniform(bits: np.random.PCG64, n: int, columns: int = len(ATTRIBUTES)) -> NDArray[np.float64]:
    """Draw (n, columns) uniforms in the open interval (0, 1).

    One raw word a number, and not `Generator.normal` and the like: a rejection sampler uses more words for
    some numbers, so that one rounding difference between two platforms would shift all numbers after it.
    """
    words = _words(bits, n * columns) >> np.uint64(12)
    uniforms: NDArray[np.float64] = (words.astype(np.float64) + 0.5) * 2.0**-52
    return uniforms.reshape(n, columns)


def _draw_labels(uniforms: NDArray[np.float64], attributes: tuple[Attribute, ...]) -> NDArray[np.int64]:
    if_round = np.array([attribute.rate_if_round for attribute in attributes])
    if_not = np.array([attribute.rate_if_not for attribute in attributes])
    is_round = uniforms[:, [PROTECTED]] < if_round[PROTECTED]
    return (uniforms < np.where(is_round, if_round, if_not)).astype(np.int64)


def _draw_nuisances(bits: np.random.PCG64, n: int) -> Nuisances:
    low = np.repeat([-0.06, 0.1, 0.65, 0.85, 0.0], [2, 3, 1, 1, 3])
    high = np.repeat([0.06, 0.6, 0.85, 1.1, 1.0], [2, 3, 1, 1, 3])
    values = torch.from_numpy((low + (high - low) * _uniform(bits, n, len(low))).astype(np.float32))
    return Nuisances(
        shift=values[:, 0:2],
        background=values[:, 2:5],
        skin=values[:, 5],
        brightness=values[:, 6],
        hat_colour=values[:, 7:10],
    )


@cache
def _noise_levels() -> _Array:
    """Quantiles of the pixel noise at the 65,536 midpoints of (0, 1)."""
    quantiles: NDArray[np.float64] = ndtri((np.arange(2**16) + 0.5) / 2**16)
    return (_PIXEL_NOISE_SD * quantiles).astype(np.float32)


def _pixel_noise(bits: np.random.PCG64, n: int, image_size: int) -> _Array:
    """Draw Gaussian noise (n, 3, size, size): 16 random bits a value pick a quantile; whole words an image."""
    values = 3 * image_size**2
    words = _words(bits, n * -(-values // 4)).reshape(n, -1)
    codes = words.astype("<u8", copy=False).view("<u2")[:, :values]
    noise: _Array = _noise_levels()[codes]
    return noise.reshape(n, 3, image_size, image_size)


def _chunks(n: int, image_size: int) -> list[slice]:
    step = max(1, _CHUNK_PIXELS // image_size**2)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _to_levels(images: _Array) -> NDArray[np.uint8]:
    levels: _Array = np.rint(255.0 * np.clip(images, 0.0, 1.0))
    return levels.astype(np.uint8)


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

    def ellipse(
        self,
        x: _Array | float,
        y: _Array | float,
        half_width: _Array | float,
        half_height: _Array | float,
        colour: _Array,
        alpha: _Array | float = 1.0,
        *,
        inside: _Array | None = None,
    ) -> None:
        """Paint an ellipse, times the weight `inside` where given, which broadcasts to (size, size, n)."""
        across, down = self._ellipse_profiles(x, y, half_width, half_height)
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

    def rectangle(
        self,
        x: float,
        y: float,
        half_width: _Array | float,
        half_height: _Array | float,
        colour: _Array,
        alpha: _Array | float = 1.0,
    ) -> None:
        """Paint an upright rectangle; a pixel counts by the share of it that is covered, so thin bars show."""
        across = self._overlap(self.x, x, half_width)
        down = self._overlap(self.y, y, half_height)
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

    def _ellipse_profiles(
        self, x: _Array | float, y: _Array | float, half_width: _Array | float, half_height: _Array | float
    ) -> tuple[_Array, _Array]:
        # Near its edge, (1 - q) / 2 with q = (x / a)² + (y / b)² is the distance inwards in units of the
        # radius. It is a sum of a function of x and one of y, so no square root and only one addition a pixel
        # is needed.
        a, b = np.asarray(half_width, dtype=np.float32), np.asarray(half_height, dtype=np.float32)
        steepness = 0.5 * np.minimum(a, b) / self.pixel
        u, v = (self.x - x) / a, (self.y - y) / b
        return 0.5 + steepness * (1.0 - u * u), -steepness * (v * v)

    def _overlap(self, coordinate: _Array, centre: float, half: _Array | float) -> _Array:
        right = np.minimum(coordinate + self.pixel / 2, centre + half)
        left = np.maximum(coordinate - self.pixel / 2, centre - half)
        overlap: _Array = np.maximum((right - left) / self.pixel, 0.0)
        return overlap

    def _blend(self, cover: _Array, rows: slice, columns: slice, colour: _Array, alpha: _Array | float) -> None:
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
    order = np.argsort(_words(np.random.PCG64(11), image_size**2))
    return np.where(order < image_size**2 // 2, 1.0, 0.4).astype(np.float32).reshape(image_size, image_size)


def _colour(red: float, green: float, blue: float) -> _Array:
    return np.array([[red], [green], [blue]], dtype=np.float32)


def _draw(evidence: _Array, nuisances: Nuisances, image_size: int) -> _Array:
    """Draw (n, 12) evidence as float32 images (n, 3, size, size), before pixel noise and rounding."""
    t = np.clip((evidence.T + 3.5) / 7.0, 0.0, 1.0)
    alpha = expit(3.0 * evidence.T.astype(np.float64)).astype(np.float32)
    (round_, smile, _, _, light_hair, big_nose, oval, brows, rosy, stubble, earrings, narrow_eyes) = t
    glasses, hat = alpha[2], alpha[3]

    def between(low: float, high: float, at: _Array) -> _Array:
        return low + (high - low) * at

    def mixed(start: _Array, end: _Array, at: _Array) -> _Array:
        return start + (end - start) * at

    background, hat_colour, shift = (value.numpy().T for value in (nuisances.background, nuisances.hat_colour, nuisances.shift))
    skin = _colour(1.0, 0.86, 0.74) * nuisances.skin.numpy()
    hair = mixed(_colour(0.16, 0.09, 0.05), _colour(0.98, 0.86, 0.45), light_hair)
    dark = _colour(0.06, 0.05, 0.07)
    head_width, head_height = between(0.46, 0.66, round_), between(0.52, 0.82, oval)
    hair_top, hair_bottom = -0.94, between(0.05, 0.95, round_)
    eyes, eye_y, middle = (-0.24, 0.24), -0.08, 0.04

    canvas = _Canvas(background, shift, image_size)
    canvas.ellipse(0.0, (hair_bottom + hair_top) / 2, head_width + 0.14, (hair_bottom - hair_top) / 2, hair)
    shoulders = mixed(_colour(0.15, 0.25, 0.65), _colour(0.85, 0.45, 0.1), round_)
    canvas.ellipse(0.0, 1.2, 0.9, 0.45, shoulders)
    canvas.ellipse(0.0, middle, head_width, head_height, skin)
    # The fringe reaches a little over the edge of the face, or the skin would shine through as an outline.
    fringe_width, fringe_height = head_width + 0.06, head_height + 0.06
    canvas.ellipse(0.0, middle, fringe_width, fringe_height, hair, inside=canvas.above(-0.46)[:, None])
    cheek_alpha = np.maximum(between(-0.1, 0.6, rosy), 0.0)
    for side in (-1.0, 1.0):
        canvas.ellipse(side * 0.36, 0.2, 0.13, 0.13, _colour(0.95, 0.1, 0.15), cheek_alpha)
    chin = (1.0 - canvas.above(0.26))[:, None] * _speckle(image_size)[..., None]
    stubble_alpha = np.maximum(between(-0.1, 0.5, stubble), 0.0)
    canvas.ellipse(0.0, middle, head_width, head_height, dark, stubble_alpha, inside=chin)
    for x in eyes:
        half_height = between(0.15, 0.03, narrow_eyes)
        canvas.ellipse(x, eye_y, 0.15, half_height + 0.04, skin * 0.55)
        canvas.ellipse(x, eye_y, 0.12, half_height, _colour(0.95, 0.95, 0.95))
        canvas.ellipse(x, eye_y, 0.06, half_height, dark)
    for x in eyes:
        canvas.rectangle(x, -0.35, 0.14, between(0.0, 0.065, brows), dark)
    canvas.ellipse(0.0, 0.14, between(0.03, 0.2, big_nose), 0.13, skin * _colour(0.72, 0.58, 0.5))
    canvas.arc(0.0, 0.4, 0.24, between(-0.18, 0.22, smile), 0.07, _colour(0.5, 0.08, 0.1))
    for x in eyes:
        canvas.ring(x, eye_y, 0.19, 0.06, dark, glasses)
    canvas.rectangle(0.0, eye_y, 0.06, 0.03, dark, glasses)
    canvas.rectangle(0.0, -0.72, 0.44, 0.22, hat_colour, hat)
    canvas.rectangle(0.0, -0.5, 0.66, 0.06, hat_colour * 0.6, hat)
    dots = np.clip(between(-0.25, 1.0, earrings), 0.0, 1.0)
    for side in (-1.0, 1.0):
        canvas.ellipse(side * (head_width + 0.03), 0.24, 0.08, 0.1, _colour(0.1, 0.95, 0.95), dots)
    images = np.ascontiguousarray(canvas.image.transpose(3, 0, 1, 2))
    images *= nuisances.brightness.numpy()[:, None, None, None]
    return images
