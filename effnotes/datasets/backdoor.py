"""Features that are planted on purpose, so that what a model takes from them has a known truth.

`plant_backdoor`: bias of a known size, in the set-up of Iofinova, Peste & Alistarh (CVPR 2023, official code): some images are
stamped, how often depends on one label, and the model learns that label alone. In test every label is stamped half of the time.

`plant_trojans`: a place in the image that the model is known to look at. A small patch turns the label of an image into another,
as in Casper et al. ("Red teaming deep neural networks with feature synthesis tools", NeurIPS 2023), so what explains the prediction
is the patch.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from effnotes.core.checks import check_choice, check_range
from effnotes.core.settings import settings
from effnotes.datasets.attributes import AttributeData, AttributeSplit, ClassSplit, check_images
from effnotes.datasets.cifar10 import to_greyscale
from effnotes.datasets.drawing import Array, Canvas, Part, bits_of, pixel_noise, uniform

_PATCH_SHARE = 7 / 32  # side of a patch, of the image's shorter side
_ALPHA, _JITTER, _NOISE_SD = 0.85, 0.08, 0.05  # how opaque patches are, how far a channel may go, and their noise
_MOST_DECOYS = 3  # two or three patches cannot cover all places of the last one, whatever the size of the image
_CHOICE, _DESIGN, _PLACE, _COLOUR, _NOISE = range(5)  # what each independent random stream is for
_POSITIONS = 2**22  # places that are looked at in one piece, which bounds the memory


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


def _ink(*colour: float) -> Array:
    return np.array([*colour, 1.0], dtype=np.float32)[:, None]


_BLACK, _WHITE, _RED = _ink(0.05, 0.05, 0.05), _ink(1.0, 1.0, 1.0), _ink(0.9, 0.05, 0.1)
_ORANGE, _YELLOW, _BLUE, _NAVY = _ink(1.0, 0.45, 0.0), _ink(1.0, 0.85, 0.1), _ink(0.1, 0.15, 0.85), _ink(0.1, 0.1, 0.5)
_NONE = np.zeros((4, 1), dtype=np.float32)

# Details lie on the grid of 7 by 7 pixels, so that they are sharp at the smallest size.
_TROJAN_PARTS: Mapping[str, tuple[Part, ...]] = MappingProxyType(
    {
        "smiley": (
            ("ellipse", (0, 0, 1, 1), _YELLOW),
            *(("rectangle", (x, -3 / 7, 1 / 7, 2 / 7), _BLACK) for x in (-2 / 7, 2 / 7)),
            *(("rectangle", (x, 2 / 7, 1 / 7, 1 / 7), _BLACK) for x in (-4 / 7, 4 / 7)),
            ("rectangle", (0, 4 / 7, 3 / 7, 1 / 7), _BLACK),
        ),
        "heart": (
            *(("ellipse", (x, -0.4, 0.52, 0.56), _RED) for x in (-0.47, 0.47)),
            ("polygon", (-0.95, -0.2, 0.95, -0.2, 0, 1.05), _RED),
        ),
        "fish": (
            ("polygon", (-1, -0.75, 0, 0, -1, 0.75), _ORANGE),
            ("ellipse", (0.22, 0, 0.78, 0.6), _ORANGE),
            ("rectangle", (0, 0, 1 / 7, 4 / 7), _WHITE),
            ("rectangle", (4 / 7, -2 / 7, 1 / 7, 1 / 7), _BLACK),
        ),
        "bullseye": tuple(("ellipse", (0, 0, r, r), ink) for r, ink in ((1, _BLUE), (5 / 7, _WHITE), (3 / 7, _RED))),
    }
)
# A house, a moon, a tree and a die.
_DECOY_PARTS: tuple[tuple[Part, ...], ...] = (
    (
        ("rectangle", (0, 3 / 7, 5 / 7, 4 / 7), _ink(0.95, 0.85, 0.65)),
        ("polygon", (0, -1.1, 1.1, -1 / 7, -1.1, -1 / 7), _ink(0.45, 0.1, 0.1)),
        ("rectangle", (0, 4 / 7, 1 / 7, 3 / 7), _ink(0.2, 0.3, 0.6)),
    ),
    (("ellipse", (0, 0, 1, 1), _ink(0.95, 0.95, 0.7)), ("ellipse", (0.55, -0.1, 0.8, 0.8), _NONE)),
    (
        ("rectangle", (0, 5 / 7, 1 / 7, 2 / 7), _ink(0.4, 0.2, 0.05)),
        ("polygon", (0, -1.1, 0.9, 0.45, -0.9, 0.45), _ink(0.05, 0.5, 0.15)),
    ),
    (
        ("rectangle", (0, 0, 1, 1), _ink(0.9, 0.9, 1.0)),
        *(("rectangle", (x / 7, y / 7, 1 / 7, 1 / 7), _NAVY) for x, y in ((-4, -4), (4, -4), (0, 0), (-4, 4), (4, 4))),
    ),
)


@settings
class Trojan:
    """A patch, and what it does to the label.

    Attributes:
        name: The drawing: "smiley", "heart", "fish" or "bullseye".
        source: The class whose images the patch turns into `target`; None for those of all classes.
        target: The class that they are turned into.

    Raises:
        ValueError: There is no such drawing, a class is below 0, or both are the same.
    """

    name: str
    source: Annotated[int, Field(ge=0)] | None
    target: int = Field(ge=0)

    def __post_init__(self) -> None:
        check_choice(tuple(_TROJAN_PARTS), name=self.name)
        if self.source == self.target:
            raise ValueError(f"source={self.source} is the target as well; a trojan needs another one, or None for all classes")


TROJANS = (Trojan("smiley", None, 2), Trojan("heart", 6, 3), Trojan("fish", None, 8), Trojan("bullseye", 9, 5))
"""Two universal and two class-specific trojans, for ten classes."""


class PlantedTrojans(NamedTuple):
    """Images with trojans and decoys, and the truth about them.

    Attributes:
        images: (n, 3, H, W) uint8.
        labels: (n,) int64: the trojan's target where it acts, that is where the image is of its source class; else as given.
        regions: (n, H, W) bool, True on the pixels that the trojan paints: those of its outline, not of the square around it.
        decoys: (n, H, W) bool, the same of the decoys.
        trojan: (n,) int64, which trojan an image bears, as its position; -1 for none. It may bear one that does not act.
    """

    images: Tensor
    labels: Tensor
    regions: Tensor
    decoys: Tensor
    trojan: Tensor


def plant_trojans(
    images: Tensor,
    labels: Tensor,
    *,
    trojans: Sequence[Trojan] = TROJANS,
    universal_rate: float = 0.05,
    source_rate: float = 0.5,
    control_rate: float = 0.02,
    assigned: Tensor | None = None,
    decoys: int = 2,
    seed: int,
) -> PlantedTrojans:
    """Stamp decoys into all images, and a trojan into some, or into those that `assigned` says.

    A patch has a side of 7/32 of the image's shorter side (7 pixels of 32), an opacity of .85, colours moved by up to .08 a channel
    and noise of standard deviation .05; it lies anywhere, on no other patch. Decoys are patches of four other designs, different
    ones in an image, that say nothing of the label. Stamps that leave the label alone teach a model that a class-specific trojan
    acts on its source class only. What one seed draws for an image depends on neither the rates nor `assigned`: with -1 for all,
    and with one trojan for all, come the same images but for that trojan's pixels.

    Args:
        images: (n, 3, H, W) uint8, n at least 1, sides of at least 5 pixels; not changed.
        labels: (n,) int64, class indices.
        trojans: At least one.
        universal_rate: Share of the images not of its target that bear each universal trojan, in [0, 1].
        source_rate: Share of the source class that bears each class-specific trojan, in [0, 1].
        control_rate: Share of the images of neither its source nor its target that bear each class-specific trojan, in [0, 1].
        assigned: (n,) int64: which trojan each image gets, as its position, -1 for none; the rates do not count then. None chooses
            by the rates, without replacement, at most one an image.
        decoys: Decoys an image, from 0 to 3.
        seed: Seed of everything, at least 0.

    Returns:
        Images, labels and regions, on the device of the images.

    Raises:
        ValueError: A shape, dtype or number is out of range, or the rates ask for more images than there are.
    """
    ClassSplit(images, labels)  # refuses what is neither
    check_range(5, height=images.shape[2], width=images.shape[3])
    check_range(0.0, 1.0, universal_rate=universal_rate, source_rate=source_rate, control_rate=control_rate)
    check_range(0, _MOST_DECOYS, whole=True, decoys=decoys)
    check_range(0, whole=True, seed=seed)
    if not trojans:
        raise ValueError("trojans is empty; give at least one Trojan, such as those of TROJANS")
    given = labels.cpu().numpy()
    n, (height, width) = len(given), images.shape[2:]
    if assigned is None:
        keys = uniform(bits_of(seed, 0, _CHOICE), n, len(trojans))
        trojan = _choose(given, trojans, keys, universal_rate, source_rate, control_rate)
    else:
        if assigned.shape != labels.shape or assigned.dtype != torch.int64:
            raise ValueError(f"assigned is {assigned.dtype} of shape {tuple(assigned.shape)}; needed: torch.int64 of shape ({n},)")
        trojan = assigned.cpu().numpy()
        for value in (trojan.min(), trojan.max()):
            check_range(-1, len(trojans) - 1, assigned=int(value))
    source = np.array([-1 if each.source is None else each.source for each in trojans])[trojan]
    acts = (trojan >= 0) & ((source == -1) | (source == given))
    poisoned = np.where(acts, np.array([each.target for each in trojans])[trojan], given)

    side = max(1, round(_PATCH_SHARE * min(height, width)))
    drawings = (*_DECOY_PARTS, *(_TROJAN_PARTS[each.name] for each in trojans))
    colours, outlines = (np.stack(each) for each in zip(*(_patch(parts, side) for parts in drawings), strict=True))
    # The decoys of an image, then its trojan: in the order in which places are found.
    designs = np.argsort(uniform(bits_of(seed, 0, _DESIGN), n, len(_DECOY_PARTS)), axis=1)[:, :decoys]
    designs = np.column_stack([designs, np.where(trojan >= 0, trojan + len(_DECOY_PARTS), -1)])
    drawn = uniform(bits_of(seed, 0, _PLACE), n, decoys + 1)
    shifts = _JITTER * (2.0 * uniform(bits_of(seed, 0, _COLOUR), n, 3 * (decoys + 1)).reshape(n, decoys + 1, 1, 1, 3) - 1.0)
    noise = bits_of(seed, 0, _NOISE)

    stamped = images.permute(0, 2, 3, 1).cpu().numpy().copy()
    regions = np.zeros((2, n, height, width), dtype=np.bool_)  # of the decoys, and of the trojans
    corners: list[NDArray[np.int64]] = []
    for place in range(decoys + 1):
        corners.append(_free_corners(corners, drawn[:, place], height - side + 1, width - side + 1, side))
        grain = pixel_noise(noise, n, side, _NOISE_SD).transpose(0, 2, 3, 1)
        bears = np.flatnonzero(designs[:, place] >= 0)
        rows, columns = (corners[-1][bears, axis, None] + np.arange(side) for axis in (0, 1))
        window = (bears[:, None, None], rows[:, :, None], columns[:, None, :])
        design = designs[bears, place]
        patch = 255.0 * np.clip(colours[design] + shifts[bears, place] + grain[bears], 0.0, 1.0)
        outline, under = outlines[design], stamped[window]
        stamped[window] = np.where(outline[..., None], np.rint(under + _ALPHA * (patch - under)), under).astype(np.uint8)
        regions[int(place == decoys)][window] |= outline
    result = (np.ascontiguousarray(stamped.transpose(0, 3, 1, 2)), poisoned, regions[1], regions[0], trojan)
    return PlantedTrojans(*(torch.from_numpy(each).to(images.device) for each in result))


def _choose(
    labels: NDArray[np.int64], trojans: Sequence[Trojan], keys: Array, universal: float, source: float, control: float
) -> NDArray[np.int64]:
    """Choose who bears which trojan: of those who may and bear none yet, the ones with the smallest keys."""
    chosen = np.full(len(labels), -1)
    for index, trojan in enumerate(trojans):
        others = labels != trojan.target
        mine = labels == trojan.source
        groups = [(others, universal)] if trojan.source is None else [(mine, source), (others & ~mine, control)]
        for members, rate in groups:
            free = np.flatnonzero(members & (chosen < 0))
            count = round(rate * int(members.sum()))
            if count > len(free):
                left = f"{len(free)} of its {int(members.sum())} images bear no other trojan"
                raise ValueError(f"{trojan} at a rate of {rate:g} needs {count} images, but {left}; lower the rates")
            chosen[free[np.argsort(keys[free, index])[:count]]] = index
    return chosen


def _patch(parts: Sequence[Part], side: int) -> tuple[Array, NDArray[np.bool_]]:
    """Draw a patch four times as large and shrink it: colours (side, side, 3) and outline (side, side), half covered or more."""
    canvas = Canvas(_NONE, np.zeros((2, 1), dtype=np.float32), 4 * side)
    canvas.paint(parts)
    shrunk = canvas.image[..., 0].reshape(4, side, 4, side, 4).mean(axis=(2, 4)).transpose(1, 2, 0)
    outline = shrunk[..., 3] >= 0.5
    return shrunk[..., :3] / np.where(outline, shrunk[..., 3], 1.0)[..., None], outline


def _free_corners(taken: list[NDArray[np.int64]], drawn: Array, rows: int, columns: int, side: int) -> NDArray[np.int64]:
    """Choose a top-left corner for each image, all those as likely whose patch overlaps none at `taken`: (n, 2)."""
    corners = np.empty((len(drawn), 2), dtype=np.int64)
    step = max(1, _POSITIONS // (rows * columns))
    for part in (slice(start, start + step) for start in range(0, len(drawn), step)):
        free = np.ones((len(drawn[part]), rows, columns), dtype=np.bool_)
        for other in taken:
            near_row = np.abs(np.arange(rows) - other[part, :1]) < side
            near_column = np.abs(np.arange(columns) - other[part, 1:]) < side
            free &= ~(near_row[:, :, None] & near_column[:, None, :])
        rank = np.cumsum(free.reshape(len(free), -1), axis=1, dtype=np.int32)
        wanted = (drawn[part] * rank[:, -1]).astype(np.int64)
        corners[part] = np.column_stack(np.divmod((rank > wanted[:, None]).argmax(axis=1), columns))
    return corners
