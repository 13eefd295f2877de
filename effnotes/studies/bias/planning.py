"""What the chapter on bias will do, checked before anything is trained.

What loads torch is imported where it is needed: wrong values are told before that, but those that networks or data refuse.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from effnotes.metrics.bias.amplification import fixed_attribute_set
from effnotes.metrics.bias.per_attribute import FloatArray
from effnotes.metrics.bias.task import AttributeTask
from effnotes.studies.bias.experiment import Experiment, Labels, trainings


@dataclass(frozen=True, eq=False)
class Plan:
    """Experiments, seeds and levels of a run, and what is known of its data before any model is trained."""

    experiment: Experiment
    seeds: list[int]
    sparsities: list[float]  # rising, 0 first
    moderate: float  # where "no loss" is claimed
    knee_drop: float  # fall of validation accuracy beyond which a sparsity counts as high
    num_single: int  # attributes that get models of their own
    labels: dict[int, Labels]  # by seed
    tasks: dict[int, AttributeTask]  # the test images of each seed
    skewed: list[str]  # attributes whose bias can be measured, in every seed; none where nothing is protected
    exactly_known: bool  # whether the truth behind the labels is known: of drawn faces whose labels are not flipped
    by_method: dict[str, Experiment]  # other pruning methods, if there are further experiments
    second: Experiment | None  # another network; None where no further experiments are part of the run
    planted: Experiment | None  # a spurious feature is planted in its images; None where they are not held in memory, too

    @property
    def without(self) -> str:
        """Why these data have no bias and no interdependence to measure, in half a sentence; empty where they have."""
        return "the classes exclude one another, and no attribute is protected" if self.experiment.exclusive else ""

    @property
    def names(self) -> list[str]:
        """All attributes."""
        return list(self.labels[self.seeds[0]].attribute_names)


def generator_rates() -> FloatArray:
    """Rates of the attributes of drawn faces by group, shape (2, K), as the generator has them."""
    from effnotes.datasets.faces import ATTRIBUTES

    return np.array([[each.rate_if_not for each in ATTRIBUTES], [each.rate_if_round for each in ATTRIBUTES]])


def task_of(own: Labels, *, validation: bool = False, rates: FloatArray | None = None) -> AttributeTask:
    """Give the test images of a seed, or those of validation, as a task; `rates` as in `AttributeTask.of`."""
    labels, groups = (own.val, own.val_groups) if validation else (own.test, own.test_groups)
    known: dict[str, Any] = {"train_labels": own.train, "rates": rates, "names": own.attribute_names}
    if own.protected is not None:
        return AttributeTask.of(labels, protected=own.protected, **known)
    return AttributeTask.of(labels, protected=groups.numpy(), train_groups=own.train_groups.numpy(), **known)


def plan(
    *,
    seeds: Sequence[int],
    sparsities: Sequence[float],
    moderate_sparsity: float,
    knee_drop: float,
    protected: str | None,
    follow_ups: bool | None,
    other_methods: Sequence[str],
    num_single: int,
    num_planted: int | None,
    second_model: str,
    second_width: int | None,
    **of_experiment: Any,
) -> Plan:
    """Check the chapter's parameters and read the labels of its data.

    Args:
        seeds: of the replicates.
        sparsities: 0 and others, in any order.
        moderate_sparsity: where "no loss" is claimed; one of `sparsities` and not 0.
        knee_drop: in (0, 1), a fall of accuracy as a share.
        protected: name of the protected attribute; None for the data's own.
        follow_ups: whether to train the models of the further experiments; None: for faces only.
        other_methods: pruning methods to compare with gmp.
        num_single: attributes that get models of their own, at least 1.
        num_planted: training images with a planted feature; None: as many as `num_train`.
        second_model: name of the second network.
        second_width: channels of its first block, for resnet8.
        **of_experiment: fields of `Experiment`.

    Raises:
        DataError: something on disk is missing or malformed.
        ValueError: a value that cannot work; the message says which and what is allowed.
    """
    if 0 not in sparsities:
        raise ValueError(f"sparsities={sparsities}: add 0, the dense model that the others are compared with")
    if moderate_sparsity not in sparsities or moderate_sparsity == 0:
        raise ValueError(f"moderate_sparsity={moderate_sparsity} must be one of the sparsities {sparsities}, and not 0")
    if not 0 < knee_drop < 1:
        raise ValueError(f"knee_drop={knee_drop} must lie between 0 and 1; it is a fall of accuracy, as a share")
    if num_single < 1:
        raise ValueError(f"num_single={num_single} must be at least 1")
    faces, num_shared = of_experiment["dataset"] == "faces", of_experiment["num_shared"]
    if faces and num_shared < 1:
        raise ValueError(f"num_shared={num_shared} must be at least 1: changed decisions are shown on faces that all seeds share")
    experiment = Experiment(**of_experiment)
    if experiment.exclusive and (protected is not None or follow_ups):
        why = "has classes that exclude one another, and no protected attribute"
        raise ValueError(f"protected={protected!r}, follow_ups={follow_ups}: {experiment.dataset} {why}; leave both at null")
    following_up = faces if follow_ups is None else follow_ups
    by_method = {method: dataclasses.replace(experiment, method=method) for method in other_methods if following_up}
    second = planted = None
    trainings(experiment, sparsities=sparsities, seeds=seeds)
    for each in by_method.values():
        trainings(each, sparsities=[level for level in sparsities if level > 0], seeds=seeds)
    if following_up:
        second = dataclasses.replace(experiment, model=second_model, width=second_width if second_model == "resnet8" else None)
    if following_up and not experiment.stream:
        planted = dataclasses.replace(experiment, num_train=num_planted or experiment.num_train)

    from effnotes.models import build_model

    for other in filter(None, (experiment, second)):
        build_model(other.model, 1, image_size=other.image_size, seed=0, width=other.width)
    labels = {seed: experiment.labels(seed, protected) for seed in seeds}
    exactly_known = faces and experiment.label_noise == 0
    rates = generator_rates() if exactly_known and protected is None else None
    tasks = {seed: task_of(own, rates=rates) for seed, own in labels.items()}
    allowed = [fixed_attribute_set(task.labels, task.protected, rates=task.rates) for task in tasks.values()]
    skewed: list[str] = np.array(labels[seeds[0]].attribute_names)[np.all(allowed, axis=0)].tolist()
    if not skewed and not experiment.exclusive:
        why = "no attribute is skewed between its groups and occurs often enough in both groups of the test images"
        raise ValueError(f"protected={protected!r}: {why}; protect another attribute, or give more test images")
    chosen = (list(seeds), sorted(sparsities), moderate_sparsity, knee_drop, num_single)
    return Plan(experiment, *chosen, labels, tasks, skewed, exactly_known, by_method, second, planted)
