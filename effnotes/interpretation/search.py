"""Which levels to prune a trace to, by what its explanations are worth on images where that is known."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.datasets.attributes import check_images
from effnotes.interpretation.augmentation import Augmentation
from effnotes.interpretation.tracing import Prepare, TraceRequest, holding, trace_batch
from effnotes.models.images import normalize
from effnotes.models.weights import like_weights

Score = Callable[[nn.Module, int], float]
"""Maps a pruned model, and the number of the image that it was pruned for, to a number: the higher the better."""

GRID = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


class FoundLevels(NamedTuple):
    """Levels that were searched for."""

    levels: dict[str, float]  # by group
    score: float  # mean over the images
    agreement: float  # share of the images for which the trace keeps the dense model's top class, in [0, 1]
    path: pd.DataFrame  # a row for each thing tried: group, level, score (NaN where agreement is too low), agreement


class SolvedLevels:
    """Traces of a few images at every level, from which those at any levels of groups of layers are put together.

    Layers are solved independently, so a layer is solved once for an image and a level, and a search takes no more than its scores,
    whatever it searches for. Held are all solutions: a copy of the pruned layers' weights for each image and level above 0.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        groups: Sequence[str],
        *,
        grid: Sequence[float] = GRID,
        n: int = 32,
        augment: Augmentation = "paper",
        prepare: Prepare = normalize,
        seed: int = 0,
    ) -> None:
        """Solve every layer of the groups for each image at each level.

        Args:
            model, n, augment, prepare, seed: As for `trace`, as are errors; the model must stay as it is.
            images: uint8 (m, 3, H, W), m at least 1. Keep them apart from those that the levels are judged on.
            groups: Names of modules, in the order in which the image goes through them; none may lie in another.
            grid: Levels to choose from, in [0, 1); 0 is always among them.

        Raises:
            ValueError: Besides, images of another shape or type, no group, one that is given twice or holds another, or no level
                above 0.
        """
        check_images(images)
        for level in grid:
            check_range(0.0, 1.0, grid=level)
        if not groups or not any(grid):
            raise ValueError(f"groups={list(groups)}, grid={list(grid)}: give names of modules, such as 'fc', and a level above 0")
        for one, other in itertools.permutations(groups, 2):
            if f"{other}.".startswith(f"{one}."):
                raise ValueError(f"groups={list(groups)}: {one!r} holds {other!r}, and a layer has one level; leave one out")
        self.model, self.groups, self.grid = model, tuple(groups), tuple(sorted({0.0, *grid}))
        requests = [TraceRequest(dict.fromkeys(groups, level)) for level in self.grid[1:]]
        found = trace_batch(model, images, requests, n=n, augment=augment, prepare=prepare, seed=seed)
        self._inputs, self._targets = like_weights(model, prepare(images)), [each[0].target for each in found]
        self._weights = [
            {
                (group, level): {name: weight for name, weight in one.weights.items() if name.startswith(f"{group}.")}
                for level, one in zip(self.grid[1:], each, strict=True)
                for group in groups
            }
            for each in found
        ]

    def search(self, score: Score, min_agreement: float = 0.9) -> FoundLevels:
        """Choose the level of each group so that the mean score is highest, with an agreement that is not too low.

        One pass of coordinate search: from the dense model, the last group first, each group gets the level with the best score,
        the groups before it still dense, those after it as chosen; of equal scores the lowest level. So it is exact for one group.
        The published levels of SPADE are listed from the last group to the first, which suggests such a search; how its authors
        searched is not known. Levels tuned on a truth that an explanation is to find are an oracle: report untuned ones as well.

        Args:
            score: What is to be high, such as the pixel AUC of the pruned model's map of the image of that number.
            min_agreement: Least agreement, in [0, 1]; 0 for a search that only looks at the score.

        Raises:
            ValueError: `min_agreement` is out of range, or a score is not finite.
        """
        check_range(0.0, 1.0, min_agreement=min_agreement)
        chosen, agreement, path = dict.fromkeys(self.groups, 0.0), 1.0, []
        best = self._mean(chosen, score)
        for group in reversed(self.groups):
            path.append((group, 0.0, best, agreement))
            for level in self.grid[1:]:
                tried = chosen | {group: level}
                agrees = self._mean(tried, self._agrees)
                value = self._mean(tried, score) if agrees >= min_agreement else math.nan
                path.append((group, level, value, agrees))
                if value > best:
                    best, agreement, chosen = value, agrees, tried
        return FoundLevels(chosen, best, agreement, pd.DataFrame(path, columns=["group", "level", "score", "agreement"]))

    @torch.no_grad()
    def _agrees(self, model: nn.Module, number: int) -> float:
        return float(model(self._inputs[number, None]).argmax() == self._targets[number])

    def _mean(self, levels: Mapping[str, float], score: Score) -> float:
        """The mean of a score over the images, each with its own trace in the model."""
        values = []
        for number, solved in enumerate(self._weights):
            weights = {name: weight for at in levels.items() for name, weight in solved.get(at, {}).items()}
            with holding(self.model, weights):
                values.append(float(score(self.model, number)))
            if not math.isfinite(values[-1]):
                raise ValueError(
                    f"the score of image {number} is {values[-1]} at levels {dict(levels)}; it must be a finite number"
                )
        return sum(values) / len(values)
