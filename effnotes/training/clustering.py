"""Clusters of unlabelled examples, found by small heads on features that an encoder gives (TEMI).

Adaloglou, Michels, Kalisch & Kollmann, "Exploring the Limits of Deep Image Clustering using Pretrained Models" (BMVC 2023), as ELFS
uses it to make pseudo-labels.
"""

import copy
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.core.settings import settings
from effnotes.training.loop import Hook, Loop


@settings
class TemiRecipe:
    """How heads are trained; the defaults are for about a thousand examples, and ELFS's values for large data stand behind them.

    Raises:
        ValueError: A field is out of range.
    """

    heads: int = Field(6, ge=1)  # 50
    neighbours: int = Field(20, ge=1)  # of which a partner is drawn; 50
    hidden: int = Field(64, ge=1)  # 512
    epochs: int = Field(50, ge=1)  # 200
    batch_size: int = Field(256, ge=2)  # 1,024
    learning_rate: float = Field(3e-3, gt=0)  # of AdamW; 1e-4
    momentum: float = Field(0.9, ge=0, lt=1)  # of the teacher; .996, at which it hardly moves in a few hundred steps
    gamma: float = Field(0.6, gt=0, le=1)  # below 1, clusters may be of unequal size
    temperature: float = Field(0.1, gt=0)


class Clusters(NamedTuple):
    """What was found."""

    labels: Tensor  # (n,) int64, the cluster of each example by the head of the lowest loss
    every: Tensor  # (heads, n) int64, by each head
    losses: Tensor  # (heads,) of the last epoch; no label has a part in them


class TemiHeads(nn.Module):
    """Heads side by side: a hidden layer with GELU, a bottleneck of half its width, and a unit vector for each cluster.

    `forward` maps features (n, d) to probabilities (heads, n, clusters), the softmax of cosines over the temperature.
    """

    def __init__(self, d: int, n_clusters: int, recipe: TemiRecipe, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (d, recipe.hidden, max(1, recipe.hidden // 2), n_clusters)
        self.weights = nn.ParameterList(
            torch.randn(recipe.heads, m, n, generator=generator) / m**0.5 for m, n in itertools.pairwise(sizes)
        )
        self.temperature = recipe.temperature

    def forward(self, features: Tensor) -> Tensor:
        """Give the probability of each cluster."""
        first, second, clusters = self.weights
        code = F.normalize(F.gelu(features @ first) @ second, dim=2)
        return (code @ F.normalize(clusters, dim=1) / self.temperature).softmax(2)


def temi_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], prior: Tensor, gamma: float) -> Tensor:
    """Return the loss of each head, (H,): minus the weighted mutual information of neighbours' clusters, pointwise.

    Of a pair x, x': -w log sum_c (s_c(x) t_c(x'))^gamma / pi_c and the same with x and x' exchanged, halved; w is the mean over
    heads of sum_c t_c(x) t_c(x'), by which pairs that the teacher puts into different clusters count little.

    Args:
        student: Probabilities (H, n, C) of x and of x'.
        teacher: Those of the teacher, without gradients.
        prior: (H, C), pi, a running mean of the teacher's probabilities.
        gamma: In (0, 1].
    """
    weight = (teacher[0] * teacher[1]).sum(2).mean(0)
    parts = (((s * t) ** gamma / prior[:, None]).sum(2).log() for s, t in zip(student, teacher[::-1], strict=True))
    return -(weight * sum(parts) / 2).mean(1)


class _Teacher(Hook):
    """The teacher's weights and prior, which follow the student's; and what each head loses in an epoch."""

    def __init__(self, student: TemiHeads, recipe: TemiRecipe, n_clusters: int) -> None:
        self.model, self.student, self.recipe = copy.deepcopy(student).requires_grad_(False), student, recipe
        self.prior = torch.full((recipe.heads, n_clusters), 1 / n_clusters)

    def before_part(self, part: int) -> None:  # noqa: ARG002 - part of the contract
        self.losses: list[Tensor] = []

    def loss(self, student: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
        both = torch.cat(pair)
        taught = self.model(both)
        self.prior = 0.9 * self.prior + 0.1 * taught.mean(1)
        found = temi_loss(student(both).chunk(2, 1), taught.chunk(2, 1), self.prior, self.recipe.gamma)
        self.losses.append(found.detach())
        return found.sum()

    @torch.no_grad()
    def after_step(self, step: int, loss: Tensor) -> None:  # noqa: ARG002 - part of the contract
        for mean, new in zip(self.model.parameters(), self.student.parameters(), strict=True):
            mean.lerp_(new, 1 - self.recipe.momentum)


def temi(features: Tensor, n_clusters: int, *, seed: int, recipe: TemiRecipe | None = None) -> Clusters:
    """Cluster examples by heads that agree on neighbours, and pick the head without any label, by the lowest loss.

    ELFS's script picks the checkpoint with the best accuracy against the true labels of the test set, and so uses labels that it
    claims to do without.

    Args:
        features: float32 (n, d), from an encoder that is not trained here.
        n_clusters: Their number, at least 2; as many as there are classes.
        seed: Of weights, order and partners.
        recipe: None for the defaults.

    Raises:
        ValueError: There are too few clusters, or no more examples than neighbours.
    """
    from sklearn.neighbors import NearestNeighbors

    recipe = recipe or TemiRecipe()
    check_range(2, whole=True, n_clusters=n_clusters)
    check_range(1, len(features) - 1, neighbours=recipe.neighbours)
    near = NearestNeighbors(n_neighbors=recipe.neighbours).fit(features.numpy()).kneighbors(return_distance=False)
    generator, near = torch.Generator().manual_seed(seed), torch.from_numpy(np.asarray(near, dtype=np.int64))

    def batches(_: int) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(features), generator=generator).split(recipe.batch_size):
            partner = near[rows, torch.randint(recipe.neighbours, (len(rows),), generator=generator)]
            yield features[rows], features[partner]

    student = TemiHeads(features.shape[1], n_clusters, recipe, generator)
    teacher = _Teacher(student, recipe, n_clusters)
    optimizer = torch.optim.AdamW(student.parameters(), recipe.learning_rate, weight_decay=1e-4)
    Loop(student, optimizer, batches, teacher.loss, parts=recipe.epochs, hooks=[teacher], progress=lambda *_: None).fit()
    losses = torch.stack(teacher.losses).mean(0)
    with torch.inference_mode():
        every = teacher.model(features).argmax(2)
    return Clusters(every[int(losses.argmin())].clone(), every.clone(), losses)
