"""Networks that change their output by no more than their input changes, in the Euclidean norm: 1-Lipschitz layers.

Prach, Brau, Buttazzo and Lampert (2024, "1-Lipschitz Layers Compared", CVPR) compare them. What a margin of such a network
certifies is said by `effnotes.metrics.guarantees.certified_radius`. Each constraint is a parametrisation: the layer stays an
`nn.Linear`, whose `weight` is computed from the trained numbers. The Cayley map and spectral norms are PyTorch's own.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from effnotes.core.checks import check_choice

Constraint = Literal["none", "spectral", "aol", "bjorck", "cayley"]


class AOL(nn.Module):
    """Almost-orthogonal layer: W diag(sum_j |W^T W|_ij)^(-1/2), of spectral norm at most 1 for every W (Prach & Lampert 2022)."""

    def forward(self, weight: Tensor) -> Tensor:
        """Rescale the columns of a weight (out, in)."""
        return weight * (weight.T @ weight).abs().sum(1).clamp_min(1e-12).rsqrt()


class Bjorck(nn.Module):
    """Iterate W <- 1.5 W - 0.5 W W^T W from a weight of norm at most 1, which drives all singular values towards 1 from below."""

    def forward(self, weight: Tensor, iterations: int = 8) -> Tensor:
        """Orthogonalise a weight (out, in)."""
        magnitudes = weight.abs()
        weight = weight / (magnitudes.sum(0).max() * magnitudes.sum(1).max()).sqrt()  # at least the spectral norm
        for _ in range(iterations):
            weight = 1.5 * weight - 0.5 * weight @ weight.T @ weight
        return weight


def constrain(layer: nn.Linear, constraint: Constraint) -> nn.Linear:
    """Parametrise the weight of a linear layer in place, and return the layer.

    Args:
        layer: Any for "aol", "bjorck" and "spectral"; "cayley" wants it square.
        constraint: "none" leaves it free. "spectral" estimates the norm by a power iteration a training step, so that it is near 1
            and may exceed it: certify with `lipschitz_bound`, which computes it.
    """
    check_choice(get_args(Constraint), constraint=constraint)
    if constraint == "cayley":
        if layer.in_features != layer.out_features:
            raise ValueError(f"constraint='cayley': the layer must be square, not {tuple(layer.weight.shape)}; take 'bjorck'")
        parametrizations.orthogonal(layer, orthogonal_map="cayley")
    elif constraint == "spectral":
        parametrizations.spectral_norm(layer)
    elif constraint != "none":
        parametrize.register_parametrization(layer, "weight", AOL() if constraint == "aol" else Bjorck())
    return layer


class MaxMin(nn.Module):
    """Sort each pair of neighbouring units (n, 2 m): 1-Lipschitz, and it keeps the norm of the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger ones of all pairs, then the smaller ones."""
        pairs = x.unflatten(-1, (-1, 2))
        return torch.cat([pairs.amax(-1), pairs.amin(-1)], -1)


class NActivation(nn.Module):
    """Slope 1, then -1, then 1, with two trained thresholds a unit (Prach & Lampert 2023, arXiv 2311.06103).

    N(x) = x - 2 a for x <= a, -x for a < x <= b and x - 2 b for x > b, with a <= b. Half of the units begin as the identity
    (a = b = 0) and half as the absolute value (a = -100), as the authors have it: without that start training stalls.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        start = torch.zeros(2, width)
        start[0, ::2] = -100.0
        self.thresholds = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each unit of x (n, width)."""
        low, high = self.thresholds.amin(0), self.thresholds.amax(0)
        return torch.where(x <= low, x - 2 * low, torch.where(x > high, x - 2 * high, -x))


def lipschitz_bound(model: nn.Module) -> float:
    """Give the product of the spectral norms of all linear layers, exact: how much the network between them stretches at most.

    It bounds a chain of linear layers and 1-Lipschitz activations, and no other network.
    """
    norms = [torch.linalg.matrix_norm(each.weight.detach(), ord=2) for each in model.modules() if isinstance(each, nn.Linear)]
    return float(torch.stack(norms).double().prod())
