"""How images become what the networks take."""

from torch import Tensor


def normalize(images: Tensor) -> Tensor:
    """Map uint8 images 0..255 to float32 in [-1, 1] (mean 0.5 and standard deviation 0.5 on the scale of 0 to 1)."""
    return images.float().sub_(127.5).div_(127.5)
