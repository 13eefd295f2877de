"""One constructor for every image classifier that the book trains."""

import torch
from torch import nn

from effnotes.core.checks import check_range
from effnotes.core.errors import nearest
from effnotes.models.resnet import NarrowResNet

MODEL_NAMES = ("resnet8", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")

_MIN_IMAGE_SIZE = 32  # of torchvision's networks


def build_model(name: str, num_outputs: int, *, image_size: int, seed: int, width: int | None = None) -> nn.Module:
    """Build an untrained classifier whose initial weights depend on `seed` only.

    `"resnet8"` is `NarrowResNet`, for images of 8 to 64 pixels. The others are torchvision's networks without pretrained weights;
    they shrink the image 32 times, so they are made for about 224 pixels. MobileNetV1, which the CVPR 2023 study of bias in pruned
    models used, is not part of torchvision: `"mobilenet_v2"` is its nearest relative there.

    Args:
        name: One of `MODEL_NAMES`.
        num_outputs: Number of logits K, at least 1.
        image_size: Height and width of the square RGB images in pixels; 8 to 64 for `"resnet8"`, at least 32 for the others.
        seed: Seed of the initialisation. The global random state is left as it was.
        width: Channels of the first block, for `"resnet8"` only (default 16).

    Returns:
        A module in training mode, float32 on the CPU, that maps images (n, 3, image_size, image_size) to logits (n, K).

    Raises:
        ValueError: The name is unknown, a number is out of range, or `width` is given for a network of fixed width.
    """
    if name not in MODEL_NAMES:
        is_v1 = name.lower().replace("_", "") in {"mobilenet", "mobilenetv1"}
        hint = " MobileNetV1 is not part of torchvision; use 'mobilenet_v2'" if is_v1 else nearest(name, MODEL_NAMES)
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODEL_NAMES)}.{hint}")
    check_range(1, num_outputs=num_outputs)
    if image_size < _MIN_IMAGE_SIZE and name != "resnet8":
        raise ValueError(f"image_size={image_size}: {name!r} needs at least {_MIN_IMAGE_SIZE} pixels; enlarge the images")
    if width is not None and name != "resnet8":
        raise ValueError(f"width={width}: {name!r} has a fixed width; leave `width` out or build 'resnet8'")
    with torch.random.fork_rng(devices=[]):
        # Seeds the CPU generator only; torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        if name == "resnet8":
            return NarrowResNet(num_outputs, image_size=image_size, width=16 if width is None else width)
        from torchvision import models  # brings PyTorch's compiler with it, which takes seconds

        model: nn.Module = models.get_model(name, weights=None, num_classes=num_outputs)
        return model
