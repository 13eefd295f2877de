"""The further experiments of the chapter on bias: one label at a time, other ways to prune, a planted bias, another network."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from effnotes.metrics import bias as metrics
from effnotes.models import build_model
from effnotes.pruning import prunable_parameters
from effnotes.studies.bias.experiment import trainings
from effnotes.studies.bias.results import Result, bias_of, validation_accuracy
from effnotes.studies.bias.sweep import SparseRun, run_trainings


@dataclass(frozen=True, eq=False)
class Further:
    """Networks of the further experiments, and their bias amplification."""

    main: Result
    alone: list[str]  # attributes that got networks of their own, those most at risk first
    subtle: str  # the attribute that the dense networks doubt most, and the one that they doubt least
    easy: str
    weights: int  # prunable weights of the second network
    matched: float  # its sparsity at which it has as many weights left as the first at the high sparsity
    runs: dict[str, list[SparseRun]]  # "single", "planted", "second", and by name of another pruning method

    def __str__(self) -> str:
        return (
            f"most at risk: {', '.join(self.alone)}; planted on {self.subtle} (subtle) and {self.easy} (easy)\n"
            f"second network: {self.weights:,} prunable weights, {100 * self.matched:.1f}% removed, fall of validation accuracy"
            f" {100 * self.fall:.1f} points"
        )

    @cached_property
    def fall(self) -> float:
        """Fall of the second network's validation accuracy from dense to `matched`, as a share."""
        return self._accuracy(0.0) - self._accuracy(self.matched)

    @cached_property
    def joint(self) -> dict[tuple[int, float], pd.Series]:
        """Bias amplification of the main experiment's networks, by seed and sparsity."""
        return {(run.seed, run.sparsity): self._bias(run) for run in self.main.runs}

    @cached_property
    def single(self) -> dict[tuple[int, str | None], float]:
        """Bias amplification of networks of one label, by seed and attribute."""
        return {(run.seed, run.attribute): self._bias(run).iloc[0] for run in self.runs["single"]}

    @cached_property
    def planted(self) -> dict[tuple[str | None, float, int], float]:
        """Bias amplification towards the planted feature, by attribute, sparsity and seed."""
        return {(run.attribute, run.sparsity, run.seed): self._planted_bias(run) for run in self.runs["planted"]}

    @cached_property
    def second(self) -> dict[tuple[int, float], pd.Series]:
        """Bias amplification of the skewed attributes in the second network, by seed and sparsity."""
        return {(run.seed, run.sparsity): self._bias(run).loc[self.main.plan.skewed] for run in self.runs["second"]}

    @cached_property
    def by_method(self) -> dict[str, pd.DataFrame]:
        """Bias amplification of the skewed attributes at the high sparsity: for each method a column a seed."""
        skewed, high = self.main.plan.skewed, self.main.high
        found = {name: {run.seed: self._bias(run).loc[skewed] for run in self.runs[name]} for name in self.main.plan.by_method}
        found["gmp"] = {seed: self.joint[seed, high][skewed] for seed in self.main.plan.seeds}
        return {name: pd.DataFrame(of_method) for name, of_method in found.items()}

    def _bias(self, run: SparseRun) -> pd.Series:
        return bias_of(self.main.plan, metrics.hard_predictions(run.test_logits), run.seed, run.attribute)

    def _planted_bias(self, run: SparseRun) -> float:
        assert run.attribute is not None
        assert run.test_stamped is not None
        true = self.main.plan.tasks[run.seed].labels[:, [self.main.plan.names.index(run.attribute)]]
        amplified = metrics.planted_bias_amplification(metrics.hard_predictions(run.test_logits), true, run.test_stamped)
        return float(amplified.values[0])

    def _accuracy(self, sparsity: float) -> float:
        of_level = [run for run in self.runs["second"] if run.sparsity == sparsity]
        return float(np.mean([validation_accuracy(self.main.plan, run) for run in of_level]))


def follow_up(result: Result) -> Further | None:
    """Train the networks of the further experiments; None where they are no part of the run, or have too few attributes."""
    plan, high = result.plan, result.high
    by_risk = result.criteria.sort_values("uncertainty_times_phi", ascending=False)["attribute"].tolist()
    by_doubt = result.criteria.sort_values("uncertainty", ascending=False)["attribute"].tolist()
    if plan.second is None or len(by_doubt) < 2:
        return None
    subtle, easy = by_doubt[0], by_doubt[-1]
    size, width = plan.experiment.image_size, plan.second.width
    network = build_model(plan.second.model, len(plan.names), image_size=size, seed=0, width=width)
    weights = sum(each.numel() for each in prunable_parameters(network).values())
    matched = max(0.05, 1 - int(result.costs["remaining_weights"][high]) / weights)
    alone, seeds = by_risk[: plan.num_single], plan.seeds
    stamped: dict[str, Any] = {"attributes": [subtle, easy], "backdoor": "yellow_square"}
    groups = {
        "single": trainings(plan.experiment, sparsities=[0.0], seeds=seeds, attributes=alone),
        "planted": trainings(plan.planted, sparsities=[0.0, high], seeds=seeds, **stamped) if plan.planted else [],
        "second": trainings(plan.second, sparsities=[0.0, matched], seeds=seeds),
    }
    groups |= {method: trainings(each, sparsities=[high], seeds=seeds) for method, each in plan.by_method.items()}
    return Further(result, alone, subtle, easy, weights, matched, run_trainings(groups))
