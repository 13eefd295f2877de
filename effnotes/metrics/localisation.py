"""Whether a map of an image shows the pixels that count: against a known region, and against what a model answers without them.

Maps are real numbers (n, H, W), higher where a pixel counts for more; regions are bool (n, H, W), True on the pixels of the object
or patch. Every function returns float64 (n,), a number an image. Tensors may lie on any device.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from effnotes.core.checks import check_choice, check_range
from effnotes.datasets.attributes import check_images
from effnotes.metrics.bias.classification import roc_auc

FloatArray: TypeAlias = NDArray[np.float64]
Predict: TypeAlias = Callable[[Tensor], Tensor]
"""Maps uint8 images (m, 3, H, W) to the probabilities of the classes (m, K): a softmax behind a model, say."""

BASES = ("blur", "mean")
_BLUR = 1 / 8
_PIXELS_AT_A_TIME = 256 * 32 * 32


def pixel_auc(maps: ArrayLike | Tensor, regions: ArrayLike | Tensor) -> FloatArray:
    """Area under the ROC curve of a map as a detector of the region's pixels, in [0, 1]; 1/2 is chance.

    `effnotes.metrics.bias.roc_auc` with pixels as samples, an image at a time: P(pixel inside > pixel outside) + P(equal)/2.

    Args:
        maps: finite (n, H, W).
        regions: bool (n, H, W).

    Returns:
        (n,), NaN where the region is empty or the whole image.

    Raises:
        ValueError: Shapes that differ, maps that are not finite, regions that are not bool.
    """
    scores, (inside,) = _read(maps, regions=regions)
    return roc_auc(scores.reshape(len(scores), -1).T, inside.reshape(len(inside), -1).T).values


def decoy_auc(maps: ArrayLike | Tensor, regions: ArrayLike | Tensor, decoys: ArrayLike | Tensor) -> FloatArray:
    """`pixel_auc` among the pixels of region and decoys alone: whether a map tells what counts from what is merely salient.

    `decoys`, bool (n, H, W), are patches without a meaning; a pixel that is in a region as well counts as the region's. The result
    is (n,), NaN where the region, or what decoys there are beside it, is empty. Errors are those of `pixel_auc`.
    """
    scores, (inside, others) = _read(maps, regions=regions, decoys=decoys)
    each = zip(scores, inside, inside | others, strict=True)
    return np.array([roc_auc(score[kept][:, None], region[kept][:, None]).values[0] for score, region, kept in each])


def pointing_game(maps: ArrayLike | Tensor, regions: ArrayLike | Tensor) -> FloatArray:
    """Whether the highest pixel of a map lies in the region, 0 or 1; where several are highest, the share of them that does.

    The result is (n,), in [0, 1], NaN where the region is empty. Arguments and errors are those of `pixel_auc`.

    Source: Zhang et al. ("Top-down neural attention by excitation backprop", ECCV 2016), without their margin of 15 pixels.
    """
    scores, (inside,) = _read(maps, regions=regions)
    highest = scores == scores.max(axis=(1, 2), keepdims=True)
    return np.where(inside.any(axis=(1, 2)), (highest & inside).sum(axis=(1, 2)) / highest.sum(axis=(1, 2)), np.nan)


def insertion(
    predict: Predict, images: Tensor, maps: ArrayLike | Tensor, targets: Tensor, *, steps: int = 50, base: str = "blur"
) -> FloatArray:
    """Area under the probability of a class while pixels, the highest of the map first, come back into a base image.

    The share of the pixels goes from 0 to 1 in equal steps, and the area is the trapezoids' sum over that share. Pixels of equal
    height come row by row. Score by the dense model: by the pruned copy that made the map, it says how the copy explains itself.

    Source: Petsiuk, Das & Saenko ("RISE", BMVC 2018), section 4.3; the base image and its blur are ours.

    Args:
        predict: The model that judges; it is given many images at a time, all images of a step and then those of the next.
        images: uint8 (n, 3, H, W), n >= 1.
        maps: finite (n, H, W).
        targets: int64 (n,), the class whose probability is taken.
        steps: At least 1 and at most H * W.
        base: `"blur"`: the image under a Gaussian blur of a standard deviation of 1/8 of the shorter side, under which a square a
            quarter of the image wide keeps 47% of its contrast; `"mean"`: the mean colour of the image.

    Returns:
        (n,), in [0, 1]; higher is better.

    Raises:
        ValueError: An argument of another shape, type or range, or `predict` gives no probabilities of the targets.
    """
    return _area(predict, images, maps, targets, steps, base, inserting=True)


def deletion(
    predict: Predict, images: Tensor, maps: ArrayLike | Tensor, targets: Tensor, *, steps: int = 50, base: str = "blur"
) -> FloatArray:
    """Area under the probability of a class while pixels, the highest of the map first, give way to a base image.

    Arguments and errors are those of `insertion`, but the way goes from the image to the base.

    Returns:
        (n,), in [0, 1]; lower is better.
    """
    return _area(predict, images, maps, targets, steps, base, inserting=False)


def _area(
    predict: Predict, images: Tensor, maps: ArrayLike | Tensor, targets: Tensor, steps: int, base: str, *, inserting: bool
) -> FloatArray:
    """The mean probability on the way from one image to another, the two ends counted half."""
    check_images(images)
    check_choice(BASES, base=base)
    scores, _ = _read(maps)
    n, _, height, width = images.shape
    if scores.shape != (n, height, width):
        raise ValueError(f"maps have shape {scores.shape}; needed for these images: {(n, height, width)}")
    check_range(1, height * width, whole=True, steps=steps)
    if targets.dtype != torch.int64 or targets.shape != (n,) or int(targets.min()) < 0:
        raise ValueError(f"targets are {targets.dtype} of shape {tuple(targets.shape)}; needed: classes from 0, torch.int64 ({n},)")
    pixels = images.cpu().numpy().astype(np.float64)
    if base == "blur":
        blurred = ndimage.gaussian_filter(pixels, _BLUR * min(height, width), axes=(2, 3))
    else:
        blurred = np.broadcast_to(pixels.mean(axis=(2, 3), keepdims=True), pixels.shape)
    # The rank of each pixel, 0 for the highest.
    ranks = torch.from_numpy(np.argsort(np.argsort(-scores.reshape(n, -1), axis=1, kind="stable"), axis=1).reshape(scores.shape))
    ends, targets, curve = (torch.from_numpy(blurred.round().astype(np.uint8)), images.cpu()), targets.cpu(), []
    start, end = ends if inserting else ends[::-1]
    # Several steps a call: of few small images, most of a pass's time is what it takes whatever their number.
    for some in torch.arange(steps + 1).split(max(1, _PIXELS_AT_A_TIME // ranks.numel())):
        moved = ranks < some[:, None, None, None] * (height * width / steps)
        predicted = predict(torch.where(moved[:, :, None], end, start).flatten(0, 1).to(images.device)).detach().cpu().double()
        if predicted.ndim != 2 or len(predicted) != n * len(some) or predicted.shape[1] <= int(targets.max()):
            needed = f"needed: ({n * len(some)}, K) with K above the highest target, {int(targets.max())}"
            raise ValueError(f"predict gives shape {tuple(predicted.shape)}; {needed}")
        if not bool(((predicted >= 0) & (predicted <= 1 + 1e-3)).all()):
            raise ValueError("predict gives numbers outside [0, 1]; it must give probabilities: put a softmax behind the logits")
        curve.append(predicted.unflatten(0, (len(some), n))[:, torch.arange(n), targets])
    return np.asarray(np.trapezoid(torch.cat(curve).numpy(), dx=1 / steps, axis=0))


def _read(maps: ArrayLike | Tensor, **regions: ArrayLike | Tensor) -> tuple[FloatArray, list[NDArray[np.bool_]]]:
    """Finite maps in float64 and regions of their shape, or what is wrong with them."""
    scores, *others = (np.asarray(each.detach().cpu() if isinstance(each, Tensor) else each) for each in (maps, *regions.values()))
    if scores.ndim != 3 or not scores.size or scores.dtype.kind not in "fiu":
        raise ValueError(f"maps are {scores.dtype} of shape {scores.shape}; needed: real numbers (n, H, W), n >= 1")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=(1, 2)).argmax())
        raise ValueError(f"maps hold NaN or infinite numbers, first in map {bad}; look at the model or method that made it")
    for name, region in zip(regions, others, strict=True):
        if region.dtype != np.bool_ or region.shape != scores.shape:
            raise ValueError(f"{name} are {region.dtype} of shape {region.shape}; needed: bool of the maps' shape {scores.shape}")
    return scores.astype(np.float64), others
