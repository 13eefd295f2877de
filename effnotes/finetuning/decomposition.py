"""Cut the change that fine-tuning made to low rank, to few entries, or to the sum of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.finetuning.rosa import n_entries
from effnotes.finetuning.tune import truncate_difference


class Decomposition(NamedTuple):
    """A part of low rank and a sparse part by name, and how much of the difference both leave out.

    `error` has a number for each round: the root of the summed squares of what is left out, in that of the whole difference, in
    [0, 1]. It never grows.
    """

    low_rank: dict[str, Tensor]
    sparse: dict[str, Tensor]
    error: list[float]

    @property
    def difference(self) -> dict[str, Tensor]:
        """The sum of both parts, which `apply_difference` takes."""
        return {name: self.low_rank[name] + self.sparse[name] for name in self.low_rank}


def decompose(difference: Mapping[str, Tensor], rank: int, density: float, *, rounds: int = 20) -> Decomposition:
    """Approximate each matrix of a difference by L + S, with L of a rank and S of int(density m n) entries.

    In turns L is the best for what S leaves, and S the best for what L leaves (GoDec without its random projections; Zhou & Tao,
    ICML 2011). With a density of 0 this is the truncated singular value decomposition, and with a rank of 0 the largest entries:
    the best of their kind. With both it is a local optimum, which starts from L alone. The numbers that it has are those
    that LoRA, RoSA or a sparse change would train (`equal_budget`).

    Args:
        difference: Changes by name; vectors stay whole, in `low_rank`.
        rank: Of L, at least 0.
        density: Of S, in [0, 1].
        rounds: How often both are improved; one is enough where either is 0.

    Raises:
        ValueError: A number is out of range, or rank and density are both 0.
    """
    check_range(0, rank=rank)
    check_range(0, 1, density=density)
    check_range(1, whole=True, rounds=rounds)
    if not rank and not density:
        raise ValueError("rank=0, density=0: nothing would be kept; give one of them")
    sparse = {name: torch.zeros_like(change) for name, change in difference.items()}
    low_rank, error = dict[str, Tensor](), list[float]()
    whole = sum(float(change.double().square().sum()) for change in difference.values())
    for _ in range(rounds if rank and density else 1):
        low_rank = truncate_difference({name: change - sparse[name] for name, change in difference.items()}, rank)
        left = 0.0
        for name, change in difference.items():
            rest = (change - low_rank[name]).flatten()
            places = rest.abs().topk(n_entries(rest.numel(), density) if change.ndim == 2 else 0).indices
            sparse[name] = torch.zeros_like(rest).scatter(0, places, rest[places]).view_as(change)
            left += float((rest.view_as(change) - sparse[name]).double().square().sum())
        error.append((left / whole) ** 0.5 if whole else 0.0)
    return Decomposition(low_rank, sparse, error)
