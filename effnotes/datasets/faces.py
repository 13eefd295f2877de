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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.core.settings import settings
from effnotes.datasets.attributes import AttributeData, AttributeSplit, Images
from effnotes.datasets.drawing import IMAGE_SIZES, bits_of, uniform
from effnotes.datasets.face_drawing import Nuisances, draw_images, draw_nuisances

# What each independent random stream is for: changing one (say, the label noise) leaves the others as they
# were.
_LABELS, _EVIDENCE, _LABEL_NOISE, _NUISANCES, _PIXEL_NOISE = range(5)

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
    rates = [sorted((each.rate_if_round, each.rate_if_not)) for each in attributes]
    skewed = (k for k, (low, high) in enumerate(rates) if (high - low) / low >= min_relative_skew)
    return tuple(k for k in skewed if k != PROTECTED)


@dataclass(frozen=True, eq=False)
class Faces(Images):
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

    clean_labels: Tensor
    evidence: Tensor
    nuisances: Nuisances
    attributes: tuple[Attribute, ...]

    protected = PROTECTED
    """Column of the protected attribute, "Round"."""

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
        if_round, if_not, separability = map(torch.from_numpy, _parameters(self.attributes))
        if group_aware:
            prior = torch.where(self.clean_labels[:, self.protected, None] == 1, if_round, if_not)
        else:
            base_rate = self.attributes[self.protected].rate_if_round
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
    label_noise: LabelNoise = 0.0,
    split: int = 0,
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
        split: Which of several independent sets of one seed; 1 to 3 are those of `make_face_splits`.

    Returns:
        The faces. 10,000 of 32 px take 33 MB, and some 10 MB more while they are drawn.

    Raises:
        ValueError: If an argument lies outside the ranges above, or is no integer where one is needed.
    """
    check_range(1, whole=True, n=n)
    check_range(0, whole=True, seed=seed, split=split)
    check_range(*IMAGE_SIZES, whole=True, image_size=image_size)
    names = [attribute.name for attribute in attributes]
    if names != list(NAMES):
        remedy = "each has its own drawing. Change rates and separabilities with dataclasses.replace."
        raise ValueError(f"attributes are {names}, but must be {list(NAMES)}, in this order: {remedy}")
    protected = attributes[PROTECTED]
    if protected.rate_if_round != protected.rate_if_not:
        raise ValueError(f"rate_if_round and rate_if_not must both be the base rate of what is protected, not {protected}")
    if_round, if_not, separability = _parameters(attributes)
    flips = _flip_rates(label_noise)

    def drawn(purpose: int) -> NDArray[np.float64]:
        return uniform(bits_of(seed, split, purpose), n, len(NAMES))

    uniforms = drawn(_LABELS)
    is_round = uniforms[:, [PROTECTED]] < if_round[PROTECTED]
    clean = (uniforms < np.where(is_round, if_round, if_not)).astype(np.int64)
    evidence = ((2 * clean - 1) * separability / 2 + ndtri(drawn(_EVIDENCE))).astype(np.float32)
    flipped = drawn(_LABEL_NOISE) < flips
    nuisances = draw_nuisances(bits_of(seed, split, _NUISANCES), n)
    return Faces(
        images=draw_images(evidence, nuisances, image_size, bits_of(seed, split, _PIXEL_NOISE)),
        labels=torch.from_numpy(np.where(flipped, 1 - clean, clean)),
        clean_labels=torch.from_numpy(clean),
        evidence=torch.from_numpy(evidence),
        nuisances=nuisances,
        attributes=tuple(attributes),
    )


def make_face_splits(
    n_train: int,
    n_val: int,
    n_test: int,
    *,
    seed: int,
    image_size: int = 32,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    label_noise: LabelNoise = 0.0,
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
    """
    draw = partial(make_faces, seed=seed, image_size=image_size, attributes=attributes, label_noise=label_noise)
    return FaceSplits(*(draw(n, split=split) for split, n in enumerate((n_train, n_val, n_test), start=1)))


def face_data(splits: FaceSplits) -> AttributeData:
    """Return the three splits of drawn faces in the common shape, with "Round" as the protected column."""
    train, val, test = (AttributeSplit(faces.images, faces.labels) for faces in splits)
    return AttributeData(train, val, test, splits.train.attribute_names, PROTECTED, "procedural faces, drawn from a seed")


def _parameters(attributes: Sequence[Attribute]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return rates if "Round", rates if not, and separabilities: (12,) each."""
    table = np.array([(each.rate_if_round, each.rate_if_not, each.separability) for each in attributes])
    return table[:, 0], table[:, 1], table[:, 2]


def _flip_rates(label_noise: LabelNoise) -> NDArray[np.float64]:
    """Return the probability of a flip for each attribute, (12,)."""
    by_name = label_noise if isinstance(label_noise, Mapping) else dict.fromkeys(NAMES, label_noise)
    unknown = [name for name in by_name if name not in NAMES]
    if unknown:
        raise ValueError(f"label_noise names {unknown}, but the attributes are {list(NAMES)}.")
    rates = np.array([by_name.get(name, 0.0) for name in NAMES], dtype=np.float64)
    if not ((rates >= 0.0) & (rates < 0.5)).all():
        raise ValueError(f"label_noise is {label_noise}, but must be at least 0 and below .5, where labels say nothing")
    return rates
