"""What masks do in the course of a run: how much they change between compressions, and what computing with them costs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from effnotes.models.modes import evaluating
from effnotes.models.weights import like_weights
from effnotes.pruning.masks import Masks, prunable_parameters
from effnotes.pruning.plans import PruningHook, PruningPlan


def mask_churn(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Give the share of weights that one of two masks keeps and the other does not, in [0, 1].

    Raises:
        ValueError: The masks are not of the same weights.
    """
    if {name: mask.shape for name, mask in before.items()} != {name: mask.shape for name, mask in after.items()}:
        raise ValueError(f"masks of {', '.join(before)} and of {', '.join(after)}: they must be of the same weights")
    return sum(int((before[name] ^ after[name]).sum()) for name in before) / sum(mask.numel() for mask in after.values())


def layer_flops(model: nn.Module, image_size: int) -> dict[str, int]:
    """Count what each prunable layer computes for one image, in floating-point operations, by the name of its weight.

    Args:
        model: Maps images (n, 3, image_size, image_size) to a tensor; its mode and its statistics stay as they were.
        image_size: Height and width in pixels.
    """
    names = [name.removesuffix("weight").removesuffix(".") for name in prunable_parameters(model)]
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(like_weights(model, torch.zeros(1, 3, image_size, image_size)))
    counts = counter.get_flop_counts()
    return {f"{name}.weight": sum(counts[f"{type(model).__name__}.{name}"].values()) for name in names}


def flop_share(flops: Mapping[str, int], masks: Mapping[str, Tensor]) -> float:
    """Give the floating-point operations of a masked network as a share of the dense network's, in [0, 1].

    Each layer counts by the share of its weights that stay: Σ_l kept_l / n_l · F_l over Σ_l F_l. With global magnitude this is more
    than one minus the sparsity, as the early layers of a convolutional network compute much with few weights and keep more of
    them. It is what sparse kernels could save, not what dense ones do.

    Args:
        flops: As `layer_flops` gives them.
        masks: One for each of these layers.
    """
    return sum(count * float(masks[name].float().mean()) for name, count in flops.items()) / sum(flops.values())


class CourseHook(PruningHook):
    """A plan's hook that also notes what the masks of each epoch cost, and how they differ from the compressed ones before.

    To the history of a run it adds `cost`, the epoch's share of a dense epoch's operations (`flop_share`), and `churn`, the
    `mask_churn` since the compression before, NaN where the epoch has no further one. The mean of `cost` over all epochs is the
    run in dense-epoch equivalents, by which methods are to be compared.

    Args:
        plan: As for `PruningHook`.
        image_size: Height and width of the images, in pixels.
        masks: As for `PruningHook`.
    """

    def __init__(self, plan: PruningPlan | None, image_size: int, masks: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(plan, masks)
        self._image_size, self._compressed = image_size, Masks()

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> None:
        """Count operations, and start as the plan's hook does."""
        super().start(model, optimizer, parts)
        self._flops = layer_flops(model, self._image_size)

    def before_part(self, part: int) -> None:
        """Update the masks, and note what has changed."""
        super().before_part(part)
        self._cost, self._churn = flop_share(self._flops, self.masks), float("nan")
        if self._plan is not None and self._plan.levels.get(part):
            if self._compressed:
                self._churn = mask_churn(self._compressed, self.masks)
            self._compressed = self.masks

    def columns(self) -> dict[str, float]:
        """Give sparsity, cost and churn of the epoch."""
        return super().columns() | {"cost": self._cost, "churn": self._churn}
