"""Train the models of an experiment side by side: for each sparsity and seed, for one label or all, with or without a backdoor."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from effnotes.core.jobs import JobResult, run_jobs
from effnotes.core.processes import granted_cores
from effnotes.datasets import CelebADataset
from effnotes.datasets.files import limited
from effnotes.models import build_model
from effnotes.pruning.cost import model_cost
from effnotes.pruning.methods import PRUNING_METHODS, prune_
from effnotes.studies.bias.experiment import (
    Experiment,
    SplitName,
    Training,
    check_attribute,
    child_seed,
    fingerprint,
    training_data,
    trainings,
)
from effnotes.training.images import celeba_transforms, predict_logits, train


@dataclass(frozen=True)
class SparseRun:
    """One trained classifier: what it answered, and what it costs. K is 1 for a model of one attribute."""

    seed: int
    sparsity: float  # asked for, as a share of the prunable weights
    test_logits: NDArray[np.float32]  # (num_test, K)
    val_logits: NDArray[np.float32]  # (num_val, K)
    shared_logits: NDArray[np.float32]  # (m, K), on images that are the same for all seeds; `test_logits` where the data are real
    effective_sparsity: float  # share of zeros among the prunable weights, counted in the trained network
    remaining_weights: int  # prunable weights that are not zero
    dense_bytes: int  # size of the stored weights, zeros written out
    sparse_bytes: int  # the same with one bit for each prunable weight and the values that are not zero
    latency_ms: float  # fastest of 15 batches of 100 images, on one thread with PyTorch's dense kernels
    training_s: float  # time of the training loop, that of a parent included
    final_loss: float  # mean training loss of the last epoch
    attribute: str | None = None  # the one label of the model; None for all
    train_stamped: NDArray[np.bool_] | None = None  # (num_train,), which training images have the backdoor; None for none planted
    val_stamped: NDArray[np.bool_] | None = None  # (num_val,)
    test_stamped: NDArray[np.bool_] | None = None  # (num_test,)


def run_trainings(
    groups: Mapping[str, Sequence[Training]],
    *,
    workers: int | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> dict[str, list[SparseRun]]:
    """Train all models of several groups in one pool of single-threaded processes.

    Each finished job is kept in the cache that `effnotes.core.jobs.run_jobs` describes. A job is one model, or a parent and all
    models of its group that are pruned from it.

    Args:
        groups: lists of trainings by a name of your choice, such as `{"joint": trainings(...), "single": trainings(...)}`.
        workers: processes at a time; default: this process's share of the cores.
        on_done: called with the number of finished and of all trainings, after each job.

    Returns:
        The runs of each group, in the order of its trainings.

    Raises:
        ValueError: there is nothing to train, a folder or an attribute does not exist; nothing has been trained then.
        JobError: a training failed.
    """
    members = [(name, place) for name, group in groups.items() for place in range(len(group))]
    if not members:
        raise ValueError("there is nothing to train; give at least one training")
    # Models from one parent go into one job, and jobs of one seed follow one another: a worker keeps the data of the last seeds.
    gathered: dict[tuple[str, Training | tuple[Any, ...]], list[tuple[str, int]]] = {}
    for name, place in members:
        training = groups[name][place]
        same = training if not training.experiment.starts_trained else _family(training)
        gathered.setdefault((name, same), []).append((name, place))
    batches = sorted(gathered.values(), key=lambda batch: (groups[batch[0][0]][batch[0][1]].seed, -len(batch)))
    folders = {training.experiment.data_root for group in groups.values() for training in group}
    for experiment in {training.experiment for group in groups.values() for training in group}:
        build_model(experiment.model, 1, image_size=experiment.image_size, seed=0, width=experiment.width)  # refuses wrong names
    digests = {folder: fingerprint(folder) for folder in folders}
    for training in {
        (t.experiment.dataset, t.experiment.data_root, t.attribute): t for group in groups.values() for t in group
    }.values():
        check_attribute(training)

    jobs = []
    for batch in batches:
        trained = [groups[name][place] for name, place in batch]
        job = asdict(trained[0])
        del job["sparsity"]
        job["backdoor_rates"] = list(trained[0].backdoor_rates)
        digest = digests[trained[0].experiment.data_root]
        jobs.append({**job, "sparsities": [each.sparsity for each in trained], "data_digest": digest})
    finished = 0

    def count(job: Mapping[str, Any], _result: JobResult) -> None:
        nonlocal finished
        finished += len(job["sparsities"])
        if on_done is not None:
            on_done(finished, len(members))

    found: dict[tuple[str, int], SparseRun] = {}
    for batch, result in zip(batches, run_jobs(train_classifiers, jobs, workers=workers, on_done=count), strict=True):
        for number, (name, place) in enumerate(batch):
            training = groups[name][place]
            prefix = f"{number}/"
            own = {key.removeprefix(prefix): value for key, value in result.items() if key.startswith(prefix)}
            shared = {key: value for key, value in result.items() if "/" not in key}
            found[name, place] = SparseRun(
                seed=training.seed, sparsity=training.sparsity, attribute=training.attribute, **cast(dict[str, Any], own | shared)
            )
    return {name: [found[name, place] for place in range(len(group))] for name, group in groups.items()}


def sweep_sparsities(
    experiment: Experiment,
    *,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    workers: int | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> list[SparseRun]:
    """Train one classifier of all labels for each seed and sparsity, the dense ones among them.

    By default by gradual magnitude pruning from random initialisation (GMP-RI): Zhu & Gupta (2017) prune along a cubic schedule
    while the network trains; Iofinova, Peste & Alistarh (CVPR 2023) start it from random weights.

    Args:
        experiment: what all models share.
        sparsities: in [0, 1), each once, 0 (the dense model) among them; otherwise at least the first level of the schedule, 0.05.
        seeds: at least one, each once.
        workers: as for `run_trainings`.
        on_done: as for `run_trainings`.

    Returns:
        The runs, seed by seed, sparsities rising.

    Raises:
        ValueError: an argument is out of range; nothing has been trained then.
    """
    wrong = [level for level in sparsities if not (math.isfinite(level) and 0 <= level < 1)]
    if wrong:
        raise ValueError(f"sparsities={list(sparsities)}: {wrong[0]} is no share of weights; allowed are 0 (dense) to below 1")
    if 0.0 not in sparsities:
        raise ValueError(f"sparsities={list(sparsities)}: add 0, the dense model that the others are compared with")
    group = trainings(experiment, sparsities=sparsities, seeds=seeds)
    return run_trainings({"": group}, workers=workers, on_done=on_done)[""]


def train_classifiers(
    *,
    experiment: dict[str, Any],
    seed: int,
    sparsities: list[float],
    attribute: str | None,
    backdoor: str | None,
    backdoor_rates: list[float],
    data_digest: str,  # noqa: ARG001 - tells kept results from those of other data in the same folder
) -> JobResult:
    """Train the models of one job; for `effnotes.core.jobs.run_jobs`, see `run_trainings` and `SparseRun`."""
    settings = Experiment(**experiment)
    rates = (backdoor_rates[0], backdoor_rates[1])
    training = Training(settings, seed, sparsities[0], attribute, backdoor, rates)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = _streamed(training) if settings.stream else _in_memory(training)
    # Beside a GPU one job runs at a time, and the cores are free to decode; elsewhere each core has a training of its own.
    loaders = granted_cores() if settings.stream and device.type == "cuda" else 0
    method = PRUNING_METHODS[settings.method]

    model = build_model(settings.model, data.outputs, image_size=settings.image_size, seed=seed, width=settings.width).to(device)
    parent_s, parent_loss = 0.0, math.nan
    if method.starts_trained:
        parent = train(model, data.train, data.train_labels, recipe=settings.parent_recipe, seed=seed, loader_workers=loaders)
        parent_s, parent_loss = float(parent.history["seconds"].sum()), float(parent.history["loss"].iloc[-1])
    outcome: JobResult = {**data.stamped}
    for number, level in enumerate(sparsities):
        own = copy.deepcopy(model)
        plan = settings.plan(level, seed)
        seconds, loss = parent_s, parent_loss
        if method.trains:
            recipe = settings.tuning_recipe if method.starts_trained else settings.recipe
            order = child_seed(seed) if method.starts_trained else seed
            result = train(own, data.train, data.train_labels, recipe=recipe, pruning=plan, seed=order, loader_workers=loaders)
            seconds, loss = seconds + float(result.history["seconds"].sum()), float(result.history["loss"].iloc[-1])
        elif plan is not None:
            prune_(own, plan)
        cost = model_cost(own, settings.image_size)
        test_logits = predict_logits(own, data.test, loader_workers=loaders).numpy()
        values: JobResult = {
            "test_logits": test_logits,
            "shared_logits": test_logits if data.shared is None else predict_logits(own, data.shared).numpy(),
            "val_logits": predict_logits(own, data.val, loader_workers=loaders).numpy(),
            "effective_sparsity": cost.effective_sparsity,
            "remaining_weights": cost.remaining_weights,
            "dense_bytes": cost.dense_bytes,
            "sparse_bytes": cost.sparse_bytes,
            "latency_ms": cost.latency_ms,
            "training_s": seconds,
            "final_loss": loss,
        }
        outcome |= {f"{number}/{key}": value for key, value in values.items()}
    return outcome


@dataclass(frozen=True)
class _Material:
    """What one model is trained on and asked: images in memory with labels, or datasets that hold their own."""

    train: Tensor | Dataset[Any]
    train_labels: Tensor | None
    val: Tensor | Dataset[Any]
    test: Tensor | Dataset[Any]
    shared: Tensor | None  # the same for all seeds; None where `test` is
    outputs: int
    stamped: dict[str, NDArray[np.bool_]]


def _in_memory(training: Training) -> _Material:
    data = training_data(training)
    stamped = {}
    if training.backdoor is not None:
        for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
            assert split.groups is not None
            stamped[f"{name}_stamped"] = split.groups.numpy().astype(np.bool_)
    settings = training.experiment
    shared = settings.shared_faces().images if settings.dataset == "faces" and settings.num_shared else None
    train, val, test = data.train, data.val, data.test
    return _Material(train.images, train.labels, val.images, test.images, shared, len(data.attribute_names), stamped)


def _streamed(training: Training) -> _Material:
    experiment = training.experiment

    def split(name: SplitName, limit: int | None) -> "_Some":
        transform = celeba_transforms(train=name == "train", image_size=experiment.image_size)
        return _Some(CelebADataset(experiment.data_root, name, transform), limit, training.attribute)

    train_split = split("train", experiment.num_train)
    outputs = train_split[0][1].numel()
    return _Material(train_split, None, split("val", experiment.num_val), split("test", experiment.num_test), None, outputs, {})


class _Some(Dataset[tuple[Any, Tensor]]):
    """At most `limit` images of a split (None: all), the same as `load_celeba` takes, with all labels or one."""

    def __init__(self, dataset: CelebADataset, limit: int | None, attribute: str | None) -> None:
        self.dataset, self.rows = dataset, limited(len(dataset), limit, "split")
        names = list(dataset.attribute_names)
        self.columns = list(range(len(names))) if attribute is None else [names.index(attribute)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        image, label = self.dataset[int(self.rows[index])]
        return image, label[self.columns]


def _family(training: Training) -> tuple[Any, ...]:
    """Give what models of one parent have in common: everything but the sparsity."""
    return (training.experiment, training.seed, training.attribute, training.backdoor, training.backdoor_rates)
