"""A ResNet small enough to be trained on one processor core in seconds, for images of 8 to 64 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.fx
from torch import Tensor, nn

from effnotes.core.checks import check_range

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock

MIN_IMAGE_SIZE = 8
MAX_IMAGE_SIZE = 64


class NarrowResNet(nn.Module):
    """ResNet-8 with a stride-2 stem: three basic blocks, a 2x2 average pool and one linear layer.

    The layers are those of He et al. ("Deep Residual Learning for Image Recognition", CVPR 2016): a 3x3 convolution of
    stride 2, basic blocks of `width`, 2 `width` and 4 `width` channels with strides 1, 2 and 2 and a 1x1 projection where the
    shape changes. Pooling to 2x2 instead of 1x1 keeps coarse position, which attributes such as a hat or a beard
    depend on. At `width=16` and 12 outputs the convolutions and the linear layer hold 79,792 weights.

    The weights start from PyTorch's default (uniform, variance 1 / (3 fan-in)), not from torchvision's larger Kaiming values.
    Global magnitude pruning compares layers by their scale, and in a network this narrow the Kaiming convolutions would outrank
    the linear layer: at 90% sparsity that costs 2.6 points of accuracy on the book's faces, and 0.8 points without pruning.

    Args:
        num_outputs: Number of logits K, at least 1.
        image_size: Height and width of the square RGB images in pixels, 8 to 64.
        width: Channels of the first block, at least 1.

    Raises:
        ValueError: `num_outputs`, `image_size` or `width` is out of range, or `forward` gets images of another shape.
    """

    def __init__(self, num_outputs: int, *, image_size: int = 32, width: int = 16) -> None:
        super().__init__()
        check_range(1, num_outputs=num_outputs, width=width)
        if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
            allowed = f"the narrow ResNet takes {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels"
            raise ValueError(f"image_size={image_size}: {allowed}; resize the images, or build 'resnet18' for larger ones")
        self.image_size = image_size
        first = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(_block(width, width, 1), _block(width, 2 * width, 2), _block(2 * width, 4 * width, 2))
        final = -(-image_size // 8)
        # The same function where the map halves evenly; the adaptive kernel's backward pass is several times slower in bf16.
        self.pool: nn.Module = nn.AvgPool2d(final // 2) if final % 2 == 0 else nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(4 * width * 4, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (n, 3, image_size, image_size) to logits (n, K)."""
        _check_size(images, self.image_size)
        features = self.pool(self.blocks(self.stem(images)))  # (n, 4 width, 2, 2)
        logits: Tensor = self.fc(torch.flatten(features, 1))
        return logits


# A leaf for torch.fx, which cannot trace a decision on shapes but keeps the call in the graph.
@torch.fx.wrap
def _check_size(images: Tensor, size: int) -> None:
    if images.shape[1:] != (3, size, size):
        given = f"images of shape {tuple(images.shape)}: this network was built for (n, 3, {size}, {size})"
        raise ValueError(f"{given}; resize the images or build it with another image_size")


def _block(channels_in: int, channels_out: int, stride: int) -> BasicBlock:
    from torchvision.models.resnet import BasicBlock  # brings PyTorch's compiler with it, which takes seconds

    projection = None
    if stride != 1 or channels_in != channels_out:
        projection = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out))
    return BasicBlock(channels_in, channels_out, stride=stride, downsample=projection)
