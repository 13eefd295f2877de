"""Train the models of an experiment side by side: for each sparsity and seed, for one label or all, with or without a backdoor."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from effnotes.core.files import fingerprint
from effnotes.core.jobs import JobResult, run_jobs, unfinished_folder
from effnotes.core.processes import granted_cores
from effnotes.core.settings import settings
from effnotes.models import build_model
from effnotes.pruning.cost import model_cost
from effnotes.pruning.methods import PRUNING_METHODS, prune_
from effnotes.pruning.plans import PruningPlan
from effnotes.studies.bias.experiment import Training, child_seed, training_data
from effnotes.training.images import celeba_transforms, predict_logits, train
from effnotes.training.recipes import Recipe


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
    attribute: str | None = None  # the one label of the model; None for all
    test_stamped: NDArray[np.bool_] | None = None  # (num_test,), which test images have the backdoor; None for none planted


def run_trainings(groups: Mapping[str, Sequence[Training]], *, workers: int | None = None) -> dict[str, list[SparseRun]]:
    """Train all models of several groups in one pool of single-threaded processes.

    Each finished job is kept in the cache that `effnotes.core.jobs.run_jobs` describes. A job is one model, or a parent and all
    models of its group that are pruned from it.

    Args:
        groups: lists of trainings by a name of your choice, such as `{"joint": trainings(...), "single": trainings(...)}`.
        workers: processes at a time; default: this process's share of the cores.

    Returns:
        The runs of each group, in the order of its trainings.

    Raises:
        ValueError: there is nothing to train, or a folder does not exist; nothing has been trained then.
        JobError: a training failed, for instance because there is no such attribute; `planning.plan` has seen to that.
    """
    everything = [(name, training) for name, group in groups.items() for training in group]
    if not everything:
        raise ValueError("there is nothing to train; give at least one training")
    digests = {folder: fingerprint(folder) for folder in {training.experiment.data_root for _, training in everything}}
    # Models from one parent go into one job, and jobs of one seed follow one another: a worker keeps the data of the last seeds.
    families: dict[tuple[str, Training], list[int]] = {}
    for place, (name, training) in enumerate(everything):
        same = dataclasses.replace(training, sparsity=0.0) if training.experiment.starts_trained else training
        families.setdefault((name, same), []).append(place)
    batches = sorted(families.values(), key=lambda batch: (everything[batch[0]][1].seed, -len(batch)))
    members = [tuple(everything[place][1] for place in batch) for batch in batches]
    jobs = [TrainingJob(each, digests[each[0].experiment.data_root]) for each in members]
    found: dict[int, SparseRun] = {}
    for batch, job, result in zip(batches, jobs, run_jobs(train_classifiers, jobs, workers=workers), strict=True):
        shared = {key: value for key, value in result.items() if "/" not in key}
        for number, (place, training) in enumerate(zip(batch, job.trainings, strict=True)):
            own: dict[str, Any] = {key.split("/")[1]: value for key, value in result.items() if key.startswith(f"{number}/")}
            found[place] = SparseRun(training.seed, training.sparsity, attribute=training.attribute, **own | shared)
    in_order = iter(sorted(found))
    return {name: [found[next(in_order)] for _ in group] for name, group in groups.items()}


@settings
class TrainingJob:
    """What one process trains: one model, or all that are pruned from one parent, and differ in their sparsity alone."""

    trainings: tuple[Training, ...]
    data_digest: str  # tells kept results from those of other data in the same folder


def train_classifiers(job: TrainingJob) -> JobResult:
    """Train the models of one job; for `effnotes.core.jobs.run_jobs`, see `run_trainings` and `SparseRun`.

    A job that is killed goes on from the last epoch of each of its trainings when it is run again.
    """
    training = job.trainings[0]
    experiment, seed = training.experiment, training.seed
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = _streamed(training) if experiment.stream else _in_memory(training)
    # Beside a GPU one job runs at a time, and the cores are free to decode; elsewhere each core has a training of its own.
    loaders = granted_cores() if experiment.stream and device.type == "cuda" else 0
    method = PRUNING_METHODS[experiment.method]
    unfinished = unfinished_folder()

    def trained(model: nn.Module, name: str, recipe: Recipe, seed: int, plan: PruningPlan | None = None) -> float:
        """Train in place; give the seconds that it took."""
        file = None if unfinished is None else unfinished / f"{name}.safetensors"
        given: dict[str, Any] = {"recipe": recipe, "pruning": plan, "seed": seed, "checkpoint": file, "loader_workers": loaders}
        return float(train(model, *data.train, **given)["seconds"].sum())

    def logits(model: nn.Module, images: Tensor | Dataset[Any]) -> NDArray[np.float32]:
        return predict_logits(model, images, loader_workers=0 if isinstance(images, Tensor) else loaders).numpy()

    size = experiment.image_size
    model = build_model(experiment.model, data.outputs, image_size=size, seed=seed, width=experiment.width).to(device)
    parent_s = trained(model, "parent", experiment.parent_recipe, seed) if method.starts_trained else 0.0
    outcome: JobResult = {} if data.stamped is None else {"test_stamped": data.stamped}
    for number, level in enumerate(each.sparsity for each in job.trainings):
        own = copy.deepcopy(model)
        plan = experiment.plan(level, seed)
        seconds = 0.0
        if not method.trains:
            if plan is not None:
                prune_(own, plan)
        elif method.starts_trained:
            seconds = trained(own, str(number), experiment.tuning_recipe, child_seed(seed), plan)
        else:
            seconds = trained(own, str(number), experiment.recipe, seed, plan)
        values: JobResult = {**model_cost(own, size)._asdict(), "training_s": parent_s + seconds}
        values |= {"test_logits": logits(own, data.test), "val_logits": logits(own, data.val)}
        values["shared_logits"] = values["test_logits"] if data.shared is None else logits(own, data.shared)
        outcome |= {f"{number}/{key}": value for key, value in values.items()}
    return outcome


@dataclass(frozen=True)
class _Material:
    """What one model is trained on and asked: images in memory with labels, or datasets that hold their own."""

    train: tuple[Tensor, Tensor] | tuple[Dataset[Any]]
    val: Tensor | Dataset[Any]
    test: Tensor | Dataset[Any]
    shared: Tensor | None  # the same for all seeds; None where `test` is
    outputs: int
    stamped: NDArray[np.bool_] | None  # which test images have the backdoor; None where none is planted


def _in_memory(training: Training) -> _Material:
    data, experiment = training_data(training), training.experiment
    stamped = np.asarray(data.test.groups, dtype=np.bool_) if training.backdoor else None
    shared = experiment.shared_faces().images if experiment.dataset == "faces" and experiment.num_shared else None
    train = (data.train.images, data.train.labels.argmax(1) if experiment.exclusive else data.train.labels)
    return _Material(train, data.val.images, data.test.images, shared, len(data.attribute_names), stamped)


def _streamed(training: Training) -> _Material:
    """Those images that an experiment takes, the same as `load_celeba` takes, with all labels or one."""
    splits: list[Dataset[Any]] = []
    for name in ("train", "val", "test"):
        transform = celeba_transforms(train=name == "train", image_size=training.experiment.image_size)
        dataset, rows = training.experiment.streamed(name, transform)
        if training.attribute is not None:
            dataset.labels = dataset.labels[:, [dataset.attribute_names.index(training.attribute)]]
        splits.append(Subset(dataset, rows.tolist()))
    train, val, test = splits
    return _Material((train,), val, test, None, dataset.labels.shape[1], None)
