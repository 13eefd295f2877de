"""N:M sparsity: of every m consecutive input channels at most n keep their weight, the pattern that some hardware can use."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.settings import settings
from effnotes.pruning.magnitude import kept_magnitudes
from effnotes.pruning.masks import Masks, masks_in_force, prunable_parameters


@settings
class NMMagnitude:
    """Keep the n weights of largest magnitude in each group of m consecutive input channels; 2:4 by default.

    Mishra et al., "Accelerating Sparse Deep Neural Networks" (2021): NVIDIA's sparse tensor cores take 2:4 along the dimension that
    a matrix product sums over. For a convolution (out, in, height, width) that is a group of input channels at one output channel
    and one position of the kernel, for a linear layer (out, in) a group of inputs. Their workflow prunes a trained model in one
    step and trains it again by the same recipe. PyTorch's dense kernels get no faster by it.

    The pattern fixes the sparsity: 1 - n/m of every layer whose input channels are a multiple of m. The others, such as a first
    layer that takes RGB and the depthwise convolutions of a MobileNet, stay dense, as hardware would run them: `left_dense`
    names them, and the sparsity over all prunable weights lies that much below 1 - n/m.

    Raises:
        ValueError: Not 1 <= n < m.
    """

    n: int = Field(2, ge=1)  # weights that stay in a group
    m: int = 4  # consecutive input channels of a group

    def __post_init__(self) -> None:
        if not self.n < self.m:
            raise ValueError(f"n={self.n}, m={self.m}: needs 1 <= n < m, for instance 2 of 4")

    def left_dense(self, model: nn.Module) -> list[str]:
        """Name the prunable weights whose input channels are no multiple of m, and which therefore stay dense."""
        return [name for name, weight in prunable_parameters(model).items() if weight.shape[1] % self.m]

    @torch.no_grad()
    def __call__(self, model: nn.Module, level: float, masks: Mapping[str, Tensor] | None = None, **_: Any) -> Masks:
        """Give the masks of the pattern; among equal magnitudes the first channel stays.

        Args:
            model: The network; it is not changed.
            level: 1 - n/m, the only sparsity that the pattern has.
            masks: Masks in force, None for a dense network; the new ones are nested in them.
            _: The generator of the contract, for nothing is drawn.

        Returns:
            Masks, bool, on the devices of their weights; all True for a layer that was dense and stays so.

        Raises:
            ValueError: `level` is another, no layer fits the pattern, a mask does not fit or leaves fewer than n weights in a
                group, or a weight is not finite.
        """
        if abs(level - (1 - self.n / self.m)) > 1e-9:
            raise ValueError(f"sparsity {level}: the pattern {self.n}:{self.m} has sparsity {1 - self.n / self.m} and no other")
        result = masks_in_force(model, masks)
        magnitudes = kept_magnitudes(model, masks).items()
        fitting = {name: magnitude for name, magnitude in magnitudes if magnitude.shape[1] % self.m == 0}
        if not fitting:
            raise ValueError(f"no layer of the model has a multiple of {self.m} input channels; {self.n}:{self.m} fits none")
        for name, magnitude in fitting.items():
            score = magnitude.movedim(1, -1).unflatten(-1, (-1, self.m))  # (out, ..., in / m, m)
            order = score.argsort(dim=-1, descending=True, stable=True)[..., : self.n]
            if (score.gather(-1, order) < 0).any():
                few = f"fewer than {self.n} weights in some groups of {self.m}"
                raise ValueError(f"the masks leave {few} of {name}; start from a denser model")
            kept = torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)
            result[name] = torch.empty_like(result[name]).copy_(kept.flatten(-2).movedim(-1, 1))
        return result
