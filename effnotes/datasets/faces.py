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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.datasets.face_attributes import (
    ATTRIBUTES,
    PROTECTED,
    Attribute,
    LabelNoise,
    bits_of,
    checked_attributes,
    draw_labels,
    flip_rates,
    parameters,
    uniform,
)
from effnotes.datasets.face_drawing import IMAGE_SIZES, Nuisances, draw_images, draw_nuisances

# What each independent random stream is for: changing one (say, the label noise) leaves the others as they
# were.
_LABELS, _EVIDENCE, _LABEL_NOISE, _NUISANCES, _PIXEL_NOISE = range(5)
_WHOLE, _TRAIN, _VALIDATION, _TEST = range(4)


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
        if_round, if_not, separability = map(torch.from_numpy, parameters(self.attributes))
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
    n: int, *, seed: int, image_size: int = 32, attributes: Sequence[Attribute] = ATTRIBUTES, label_noise: LabelNoise = 0.0
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
        ValueError: If an argument lies outside the ranges above, or is no integer where one is needed.
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
    sizes = ((n_train, _TRAIN), (n_val, _VALIDATION), (n_test, _TEST))
    return FaceSplits(*(_make_faces(n, seed, split, image_size, attributes, label_noise) for n, split in sizes))


def _make_faces(n: int, seed: int, split: int, image_size: int, attributes: Sequence[Attribute], label_noise: LabelNoise) -> Faces:
    check_range(1, whole=True, n=n)
    check_range(0, whole=True, seed=seed)
    check_range(*IMAGE_SIZES, whole=True, image_size=image_size)
    attributes = checked_attributes(attributes)
    flips = flip_rates(label_noise)

    clean = draw_labels(uniform(bits_of(seed, split, _LABELS), n), attributes)
    noise = ndtri(uniform(bits_of(seed, split, _EVIDENCE), n))
    evidence = ((2 * clean - 1) * parameters(attributes)[2] / 2 + noise).astype(np.float32)
    flipped = uniform(bits_of(seed, split, _LABEL_NOISE), n) < flips
    nuisances = draw_nuisances(bits_of(seed, split, _NUISANCES), n)
    return Faces(
        images=draw_images(evidence, nuisances, image_size, bits_of(seed, split, _PIXEL_NOISE)),
        labels=torch.from_numpy(np.where(flipped, 1 - clean, clean)),
        clean_labels=torch.from_numpy(clean),
        evidence=torch.from_numpy(evidence),
        nuisances=nuisances,
        attributes=attributes,
    )
