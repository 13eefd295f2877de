"""Many random views of one image, as one tensor operation."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from effnotes.core.checks import check_choice, check_range

Augmentation = Literal["paper", "small"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
"""`paper` is the paper's; `small` crops less, keeps the colours, and holds the image itself."""

_LEAST_AREA = {"paper": 0.2, "small": 0.5}
_RATIO = 3 / 4  # of width to height at the least; its inverse at the most
_BRIGHTNESS, _HUE = 0.5, 0.3
_ATTEMPTS = 10  # at a crop that lies within the image, as in torchvision's RandomResizedCrop
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def check_image(image: Tensor) -> None:
    """Raise ValueError unless an image is uint8 (3, H, W)."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        what = f"the image is {image.dtype} of shape {tuple(image.shape)}; needed: torch.uint8 of shape (3, H, W), values 0 to 255"
        raise ValueError(f"{what}; of a batch take one, such as images[0]")


def augment(image: Tensor, n: int, kind: Augmentation = "paper", *, generator: torch.Generator) -> Tensor:
    """Draw random views of an image: crops, mirrored or not, in other colours.

    `"paper"` is the augmentation of SPADE's published code: a crop of 0.2 to 1 of the area, width to height 3/4 to 4/3
    (log-uniform), resized to the image's size; mirrored with probability 1/2; brightness times 0.5 to 1.5; hue shifted by up to 0.3
    of the colour circle either way. The hue turns in the I-Q plane of YIQ, which is linear; torchvision turns it in HSV.

    `"small"` is for images of about 32 pixels, where a small crop often misses what the answer rests on: crops of 0.5 to 1 of the
    area, no change of colour, and every fourth view, the first among them, is the image itself.

    Args:
        image: uint8 (3, H, W).
        n: Number of views, at least 1.
        kind: One of `AUGMENTATIONS`.
        generator: What is drawn from, on the CPU.

    Returns:
        uint8 (n, 3, H, W), on the image's device.

    Raises:
        ValueError: The image has another shape or type, `n` is below 1, or the kind is unknown.
    """
    check_image(image)
    check_range(1, whole=True, n=n)
    check_choice(AUGMENTATIONS, augment=kind)
    height, width = image.shape[1:]
    boxes = _crops(n, height, width, _LEAST_AREA[kind], generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    views = _resized(image.float(), boxes.to(image.device), mirrored.to(image.device))
    if kind == "small":
        views[::4] = image.float()
    else:
        # Matrices (n, 3, 3) that map RGB to RGB of other brightness and hue.
        brightness = torch.empty(n, 1, 1).uniform_(1 - _BRIGHTNESS, 1 + _BRIGHTNESS, generator=generator)
        angle = 2 * math.pi * torch.empty(n).uniform_(-_HUE, _HUE, generator=generator)
        turn = torch.eye(3).repeat(n, 1, 1)
        turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
        turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
        colours = (brightness * (torch.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ)).to(image.device)
        views = (colours @ views.flatten(2)).view_as(views)
    return views.round_().clamp_(0, 255).to(torch.uint8)


def _crops(n: int, height: int, width: int, least_area: float, generator: torch.Generator) -> Tensor:
    """Boxes (n, 4), whole pixels: top, left, height, width. The whole image where no attempt lies within it."""
    area = torch.empty(n, _ATTEMPTS).uniform_(least_area, 1, generator=generator) * height * width
    ratio = torch.empty(n, _ATTEMPTS).uniform_(math.log(_RATIO), -math.log(_RATIO), generator=generator).exp()
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (widths >= 1) & (heights >= 1) & (widths <= width) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    some = fits.any(dim=1)
    h = torch.where(some, heights.gather(1, first)[:, 0], float(height))
    w = torch.where(some, widths.gather(1, first)[:, 0], float(width))
    place = torch.rand(2, n, generator=generator)
    return torch.stack([(place[0] * (height - h + 1)).floor(), (place[1] * (width - w + 1)).floor(), h, w], dim=1)


def _resized(image: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Views (n, 3, H, W) of the boxes of an image, each resized to its size (bilinear) and mirrored where it says so."""
    size = torch.tensor(image.shape[:0:-1], device=image.device)  # width, height
    low, extent = boxes[:, [1, 0]], boxes[:, [3, 2]]
    # Coordinates run from -1 to 1 between the outer edges of the image.
    scale, centre = extent / size, (2 * low + extent) / size - 1
    theta = torch.zeros(len(boxes), 2, 3, device=image.device)
    theta[:, 0, 0] = torch.where(mirrored, -scale[:, 0], scale[:, 0])
    theta[:, 1, 1] = scale[:, 1]
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta, [len(boxes), *image.shape], align_corners=False)
    # No point lies beyond the middle of the box's outermost pixels: what is outside the crop must not show.
    inner = (extent - 1) / size
    grid = torch.minimum(torch.maximum(grid, (centre - inner)[:, None, None]), (centre + inner)[:, None, None])
    return F.grid_sample(image.expand(len(boxes), *image.shape), grid, mode="bilinear", align_corners=False)
