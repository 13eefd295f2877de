"""Attributes of procedural faces: how often each is there, how hard it is to see, and the random bits that labels come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from effnotes.core.settings import settings

Rate: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
LabelNoise: TypeAlias = float | Mapping[str, float]


@settings
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
        ValueError: If a rate lies outside (0, 1), or the separability is negative or not finite. For an attribute that one group
            almost never or almost always has, take a rate of .001 or .999.
    """

    name: str
    rate_if_round: Rate
    rate_if_not: Rate
    separability: Annotated[float, Field(ge=0)]
    drawn_as: str

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
NAMES = tuple(attribute.name for attribute in ATTRIBUTES)


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


def checked_attributes(attributes: Sequence[Attribute]) -> tuple[Attribute, ...]:
    """Raise ValueError unless these are the generator's attributes, perhaps with other rates and separabilities."""
    names = [attribute.name for attribute in attributes]
    if names != list(NAMES):
        raise ValueError(
            f"attributes are {names}, but must be {list(NAMES)}, in this order: each has its own drawing. Change rates and "
            "separabilities with dataclasses.replace."
        )
    protected = attributes[PROTECTED]
    if protected.rate_if_round != protected.rate_if_not:
        raise ValueError(
            f"{protected.name} is the protected attribute and conditions on nothing, so rate_if_round and rate_if_not must both be "
            f"its base rate; they are {protected.rate_if_round} and {protected.rate_if_not}."
        )
    return tuple(attributes)


def parameters(attributes: Sequence[Attribute]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return rates if "Round", rates if not, and separabilities: (12,) each."""
    table = np.array([(each.rate_if_round, each.rate_if_not, each.separability) for each in attributes])
    return table[:, 0], table[:, 1], table[:, 2]


def flip_rates(label_noise: LabelNoise) -> NDArray[np.float64]:
    """Return the probability of a flip for each attribute, (12,)."""
    if isinstance(label_noise, Mapping):
        unknown = [name for name in label_noise if name not in NAMES]
        if unknown:
            raise ValueError(f"label_noise names {unknown}, but the attributes are {list(NAMES)}.")
        rates = np.array([label_noise.get(name, 0.0) for name in NAMES], dtype=np.float64)
    else:
        rates = np.full(len(NAMES), label_noise, dtype=np.float64)
    if not ((rates >= 0.0) & (rates < 0.5)).all():
        raise ValueError(
            f"label_noise is {label_noise}, but a probability of a flip must be at least 0 and below .5, where labels say nothing."
        )
    return rates


def draw_labels(uniforms: NDArray[np.float64], attributes: Sequence[Attribute]) -> NDArray[np.int64]:
    """Return which uniforms, (n, 12), lie below the rate of their attribute in their face's group: labels (n, 12)."""
    if_round, if_not, _ = parameters(attributes)
    is_round = uniforms[:, [PROTECTED]] < if_round[PROTECTED]
    return (uniforms < np.where(is_round, if_round, if_not)).astype(np.int64)


def bits_of(seed: int, split: int, purpose: int) -> np.random.PCG64:
    """Return the random bits of one purpose; NumPy promises that they never change."""
    return np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(split, purpose)))


def raw_words(bits: np.random.PCG64, n: int) -> NDArray[np.uint64]:
    """Draw n words of 64 random bits."""
    return np.asarray(bits.random_raw(n), dtype=np.uint64)


def uniform(bits: np.random.PCG64, n: int, columns: int = len(ATTRIBUTES)) -> NDArray[np.float64]:
    """Draw (n, columns) uniforms in the open interval (0, 1).

    One raw word a number, and not `Generator.normal` and the like: a rejection sampler uses more words for
    some numbers, so that one rounding difference between two platforms would shift all numbers after it.
    """
    drawn = raw_words(bits, n * columns) >> np.uint64(12)
    uniforms: NDArray[np.float64] = (drawn.astype(np.float64) + 0.5) * 2.0**-52
    return uniforms.reshape(n, columns)
