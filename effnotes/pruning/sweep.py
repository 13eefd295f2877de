"""The experiment of the chapter on bias: one classifier for each sparsity and seed, all trained by one recipe on drawn faces.

A seed stands for everything that varies between replicates: the faces, the initial weights and the order of the batches. Within a
seed all sparsities share all three, so a sparse model is compared with the dense one of its own seed, and the differences of
different seeds are independent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from effnotes.datasets import ATTRIBUTES, FaceSplits, make_face_splits
from effnotes.models import build_model
from effnotes.parallel import JobResult, run_jobs
from effnotes.pruning.cost import model_cost
from effnotes.pruning.magnitude import gradual_magnitude
from effnotes.training import Recipe, predict_logits, train


@dataclass(frozen=True)
class FaceExperiment:
    """What all models of a sweep share.

    Raises:
        ValueError: a field is out of range; the message says which and what is allowed.
    """

    num_train: int = 6000  # training faces
    num_val: int = 3000  # validation faces
    num_test: int = 4000  # test faces
    label_noise: float = 0.0  # share of labels flipped in training and validation and test alike, in [0, 0.5)
    image_size: int = 32  # height and width in pixels, 32 to 64
    model: str = "resnet8"  # one of effnotes.models.MODEL_NAMES
    epochs: int = 12  # passes over the training faces, dense and sparse alike
    batch_size: int = 64  # faces a step
    learning_rate: float = 0.2  # peak of the cosine schedule
    prune_start: int = 1  # epoch of the first mask update
    prune_end: int = 7  # the updates come before this epoch; the rest is left for recovery

    def __post_init__(self) -> None:
        for name in ("num_train", "num_val", "num_test", "epochs"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 2")
        if not 0 <= self.prune_start < self.prune_end <= self.epochs:
            raise ValueError(
                f"prune_start={self.prune_start}, prune_end={self.prune_end}: needs 0 <= prune_start < prune_end <= epochs"
                f" ({self.epochs})"
            )
        self.recipe  # noqa: B018 - refuses wrong values of its own fields

    @property
    def recipe(self) -> Recipe:
        """How every model of the sweep is trained."""
        return Recipe(epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)

    def faces(self, seed: int) -> FaceSplits:
        """Draw the training, validation and test faces of a seed."""
        return make_face_splits(
            self.num_train, self.num_val, self.num_test, seed=seed, image_size=self.image_size, label_noise=self.label_noise
        )


@dataclass(frozen=True)
class SparseRun:
    """One trained classifier: what it answered, and what it costs."""

    seed: int
    sparsity: float  # asked for, as a share of the prunable weights
    test_logits: NDArray[np.float32]  # (num_test, K)
    val_logits: NDArray[np.float32]  # (num_val, K)
    effective_sparsity: float  # share of zeros among the prunable weights, counted in the trained network
    remaining_weights: int  # prunable weights that are not zero
    dense_bytes: int  # size of the stored weights, zeros written out
    sparse_bytes: int  # the same with one bit for each prunable weight and the values that are not zero
    latency_ms: float  # fastest of 15 batches of 100 faces, on one thread with PyTorch's dense kernels
    training_s: float  # time of the training loop
    final_loss: float  # mean training loss of the last epoch


def sweep_sparsities(
    experiment: FaceExperiment,
    *,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    workers: int | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> list[SparseRun]:
    """Train one classifier for each seed and sparsity by gradual magnitude pruning from random initialisation (GMP-RI).

    Zhu & Gupta (2017) prune along a cubic schedule while the network trains; Iofinova, Peste & Alistarh (CVPR 2023) start it from
    random weights. Trainings run side by side in single-threaded processes, and each finished one is kept in the cache that
    `effnotes.parallel.run_jobs` describes.

    Args:
        experiment: what all models share.
        sparsities: in [0, 1), each once, 0 (the dense model) among them; otherwise at least the first level of the schedule, 0.05.
        seeds: at least one, each once.
        workers: processes at a time; default: this process's share of the cores.
        on_done: called with the number of finished and of all trainings, after each.

    Returns:
        The runs, seed by seed, sparsities rising.

    Raises:
        ValueError: an argument is out of range; nothing has been trained then.
    """
    levels = _checked_levels(sparsities)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={list(seeds)}: give at least one seed and each only once")
    build_model(experiment.model, len(ATTRIBUTES), image_size=experiment.image_size, seed=0)  # refuses a wrong name or size
    jobs = [{"seed": seed, "sparsity": level, **asdict(experiment)} for seed in seeds for level in levels]
    finished = 0

    def count(_job: Any, _result: JobResult) -> None:
        nonlocal finished
        finished += 1
        if on_done is not None:
            on_done(finished, len(jobs))

    results = run_jobs(train_face_classifier, jobs, workers=workers, on_done=count)
    return [
        SparseRun(seed=int(cast(int, job["seed"])), sparsity=float(cast(float, job["sparsity"])), **cast(dict[str, Any], result))
        for job, result in zip(jobs, results, strict=True)
    ]


def train_face_classifier(*, seed: int, sparsity: float, **experiment: Any) -> JobResult:
    """Train one classifier of a sweep; a job for `effnotes.parallel.run_jobs`, see `sweep_sparsities` and `SparseRun`."""
    settings = FaceExperiment(**experiment)
    faces = settings.faces(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(settings.model, len(ATTRIBUTES), image_size=settings.image_size, seed=seed).to(device)
    plan = gradual_magnitude(sparsity, start=settings.prune_start, end=settings.prune_end) if sparsity > 0 else None
    result = train(model, faces.train.images, faces.train.labels, recipe=settings.recipe, pruning=plan, seed=seed)
    cost = model_cost(model, settings.image_size)
    return {
        "test_logits": predict_logits(model, faces.test.images).cpu().numpy(),
        "val_logits": predict_logits(model, faces.val.images).cpu().numpy(),
        "effective_sparsity": cost.effective_sparsity,
        "remaining_weights": cost.remaining_weights,
        "dense_bytes": cost.dense_bytes,
        "sparse_bytes": cost.sparse_bytes,
        "latency_ms": cost.latency_ms,
        "training_s": float(result.history["seconds"].sum()),
        "final_loss": float(result.history["loss"].iloc[-1]),
    }


def _checked_levels(sparsities: Sequence[float]) -> list[float]:
    levels = sorted(float(level) for level in sparsities)
    wrong = [level for level in levels if not (math.isfinite(level) and 0 <= level < 1)]
    if wrong:
        raise ValueError(f"sparsities={list(sparsities)}: {wrong[0]} is no share of weights; allowed are 0 (dense) to below 1")
    if len(set(levels)) != len(levels):
        raise ValueError(f"sparsities={list(sparsities)}: give each only once")
    if 0.0 not in levels:
        raise ValueError(f"sparsities={list(sparsities)}: add 0, the dense model that the others are compared with")
    return levels
