"""One training of the page on sparse training, as a job, and what is measured of the network or networks that come out of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings
from effnotes.datasets.face_classes import make_face_classes
from effnotes.datasets.glyphs import GLYPHS, GlyphData, make_glyphs
from effnotes.datasets.shapes import make_shapes
from effnotes.metrics.bias import bias_amplification
from effnotes.models.images import normalize
from effnotes.models.zoo import build_model
from effnotes.pruning import (
    AlternatingSchedule,
    CompressionAware,
    CourseHook,
    MaskMethod,
    NMMagnitude,
    OneShotSchedule,
    PruningHook,
    PruningPlan,
    apply_masks_,
    global_magnitude,
    prunable_parameters,
    pruning_plan,
    reviving_magnitude,
    sparsity,
)
from effnotes.training.images import predict_logits, train
from effnotes.training.loop import Hook, Loop
from effnotes.training.recipes import Recipe

IMAGE_SIZE = 12
EPSILON = 1e-2  # of batch norms: where all weights of a channel are zero its variance is, and 1e-5 would blow up what comes back
DARK = {name: (0.6, 0.15)[number % 2] for number, name in enumerate(GLYPHS)}
"""Share of each class that is dark on bright: of every other class most, so that the style hangs together with the class."""

SYSTEMS = {
    "acdc": ("dense", "AC/DC", "GMP", "frozen mask"),
    "transfer": ("dense", "AC/DC", "GMP"),
    "cram": ("dense", "SGD", "CrAM", "CrAM+ Multi", "CrAM+ Multi, no ascent", "CrAM+ N:M"),
}
"""The trainings of each system."""

TASKS = ("digits", "shapes", "faces")
MODES = ("linear", "full")


@settings
class Training:
    """One training: which, of what, and what is measured afterwards."""

    seed: int  # of images, initial weights and order
    arm: str  # a name from `SYSTEMS`
    sparsity: float  # of AC/DC, GMP and the frozen mask, of CrAM with one level, and of the ticket that is transferred
    epochs: int
    num_train: int
    num_test: int
    width: int
    learning_rate: float
    rho: float = 0.0  # of CrAM
    multi: tuple[float, ...] = ()  # sparsities that CrAM-Multi draws from
    patterns: tuple[str, ...] = ()  # n:m that CrAM-N:M draws from
    levels: tuple[float, ...] = ()  # one-shot sparsities afterwards
    corrupted: float = 0.0  # share of wrong training labels; above 0 a perceptron learns them, without shifts
    task_train: int = 0  # training images of each downstream task; 0 for no transfer
    task_test: int = 0
    task_epochs: int = 0
    task_rate: float = 0.05  # learning rate of full fine-tuning

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        shift = 0 if self.corrupted else 1
        common: dict[str, Any] = {"batch_size": 64, "weight_decay": 5e-4, "loss": "softmax", "max_shift": shift}
        return Recipe(epochs=self.epochs, learning_rate=self.learning_rate, **common)

    @property
    def schedule(self) -> AlternatingSchedule:
        """AC/DC's phases, those of the published runs on CIFAR: compressed at 5, 25, ..., 85% of the epochs, dense between.

        Raises:
            ValueError: There are fewer than 10 epochs, so that a phase holds no step.
        """
        if self.epochs < 10:
            raise ValueError(f"epochs={self.epochs}: AC/DC's phases take a tenth each and would hold no step; needed: at least 10")
        phase = round(self.epochs / 10)
        return AlternatingSchedule(max(1, round(self.epochs / 20)), phase, 7, min(phase, self.epochs - 8 * phase))


def network(job: Training) -> nn.Module:
    """Build the untrained network of a training."""
    if job.corrupted:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.seed)
            hidden = [nn.Linear(3 * IMAGE_SIZE**2, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU()]
            return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, len(GLYPHS)))
    model = build_model("resnet8", len(GLYPHS), image_size=IMAGE_SIZE, seed=job.seed, width=job.width)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = EPSILON
    return model


@cache
def glyphs(seed: int, num_train: int, num_test: int, corrupted: float) -> GlyphData:
    """Draw the images of a seed; a worker keeps them for the trainings that share them."""
    skew: Mapping[str, float] = {} if corrupted else DARK
    return make_glyphs(num_train, 1, num_test, seed=seed, minority=skew, label_noise=corrupted)


def by_pattern(patterns: tuple[str, ...]) -> dict[str, NMMagnitude]:
    """Read patterns such as "2:4"."""
    return {pattern: NMMagnitude(*map(int, pattern.split(":"))) for pattern in patterns}


def compressions(job: Training) -> list[tuple[MaskMethod, float]]:
    """Give what CrAM draws from: one level, several, or patterns."""
    if job.arm == "CrAM+ N:M":
        return [(method, 1 - method.n / method.m) for method in by_pattern(job.patterns).values()]
    return [(global_magnitude, level) for level in ((job.sparsity,) if job.arm == "CrAM" else job.multi)]


def hook_of(job: Training) -> PruningHook:
    """Give what an arm adds to plain training."""
    if job.arm.startswith("CrAM"):
        rho = 0.0 if job.arm.endswith("no ascent") else job.rho
        return CompressionAware(compressions(job), rho, plus="+" in job.arm, seed=job.seed)
    plan = None
    if job.arm == "AC/DC":
        plan = PruningPlan(reviving_magnitude, job.sparsity, job.schedule, revives=True)
    elif job.arm == "frozen mask":
        plan = PruningPlan(global_magnitude, job.sparsity, OneShotSchedule(job.schedule.warmup))
    elif job.arm == "GMP":
        plan = pruning_plan("gmp", job.sparsity, epochs=job.epochs)
    return CourseHook(plan, IMAGE_SIZE)


class _Memory(Hook):
    """Notes after each epoch which share of the wrong labels is predicted, and of their true ones."""

    def __init__(self, model: nn.Module, data: GlyphData) -> None:
        self._model = model
        split, clean = data.data.splits["train"], data.clean["train"]
        wrong = split.labels != clean
        self._images, self._labels, self._clean = split.images[wrong], split.labels[wrong], clean[wrong]

    def columns(self) -> dict[str, float]:
        predicted = predict_logits(self._model, self._images).argmax(1)
        return {
            f"as_{name}": float((predicted == of).float().mean()) for name, of in (("told", self._labels), ("drawn", self._clean))
        }


def recalibrated(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy whose batch norms have their statistics from these images anew, averaged over all batches."""
    model = copy.deepcopy(model)
    update_bn((normalize(batch) for batch in images.split(128)), model)
    return model.eval()


def _versions(job: Training, models: dict[str, nn.Module], images: Tensor) -> Iterator[tuple[dict[str, Any], nn.Module]]:
    """Give what came out, dense or as sparse as it is, and the dense network pruned in one step in each way."""
    for name, model in models.items():
        zeros = sparsity({key: weight != 0 for key, weight in prunable_parameters(model).items()})
        yield {"model": name, "level": round(zeros, 3), "pattern": "", "recalibrated": False}, model
    shots: list[tuple[str, MaskMethod, float]] = [("", global_magnitude, level) for level in job.levels]
    shots += [(pattern, method, 1 - method.n / method.m) for pattern, method in by_pattern(job.patterns).items()]
    for pattern, method, level in shots:
        pruned = copy.deepcopy(models[job.arm])
        apply_masks_(pruned, method(pruned, level, generator=torch.Generator()))
        told = {"model": job.arm, "level": level, "pattern": pattern}
        yield told | {"recalibrated": False}, pruned
        yield told | {"recalibrated": True}, recalibrated(pruned, images)


def judged(predicted: Tensor, data: GlyphData) -> dict[str, float]:
    """Measure predictions of test images: accuracy, that of the worst class, and bias amplification, its mean over the classes.

    The classes are read as attributes and the style, dark on bright, is protected; the rates are those that images are drawn by.
    """
    labels, classes = data.data.splits["test"].labels, range(len(GLYPHS))
    share = np.array([DARK[name] for name in GLYPHS])
    rates = np.stack([(1 - share) / (1 - share).sum(), share / share.sum()])
    of_classes = [np.stack([each.numpy() == number for number in classes], axis=1) for each in (predicted, labels)]
    bias = bias_amplification(*of_classes, data.minority["test"].numpy(), rates=rates).values
    right = (predicted == labels).float()
    worst = min(float(right[labels == number].mean()) for number in classes)
    return {"accuracy": float(right.mean()), "worst": worst, "bias": float(np.nanmean(bias))}


@cache
def task_data(task: str, seed: int, n_train: int, n_test: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give a downstream task, shrunk or enlarged to 12 pixels: training images and labels, test images and labels."""
    if task == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(seed).permutation(len(digits.target))[: n_train + n_test]
        images = torch.from_numpy(digits.images[order]).float()[:, None].expand(-1, 3, -1, -1) * (255 / 16)
        labels = torch.from_numpy(digits.target[order]).long()
    else:
        drawn = (make_shapes if task == "shapes" else make_face_classes)(n_train, 1, n_test, seed=seed).data.splits
        images = torch.cat([drawn[split].images for split in ("train", "test")]).float()
        labels = torch.cat([drawn[split].labels for split in ("train", "test")])
    sized = F.interpolate(images, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True, align_corners=False)
    pixels = sized.round().clamp(0, 255).to(torch.uint8)
    return pixels[:n_train], labels[:n_train], pixels[n_train:], labels[n_train:]


def transferred(model: nn.Module, job: Training) -> Iterator[dict[str, Any]]:
    """Fine-tune a network on each task: a linear classifier on its features, and all weights that are not zero.

    The mask is frozen, and only the new classifier is dense. Batch norms keep their statistics in the first case, and go on in
    the second.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    masks = {name: weight != 0 for name, weight in prunable_parameters(model).items() if not name.startswith("fc.")}
    for task in TASKS:
        images, labels, test_images, test_labels = task_data(task, job.seed, job.task_train, job.task_test)
        trunk = copy.deepcopy(model)
        trunk.fc = nn.Identity()
        features = [predict_logits(trunk, each).numpy() for each in (images, test_images)]
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features[0], labels.numpy())
        yield {"task": task, "mode": "linear", "error": 1 - float(head.score(features[1], test_labels.numpy()))}
        tuned = copy.deepcopy(model)
        tuned.fc = network(job).fc  # all tasks have ten classes
        recipe = Recipe(epochs=job.task_epochs, batch_size=64, learning_rate=job.task_rate, weight_decay=5e-4, loss="softmax")
        train(tuned, images, labels, recipe=recipe, seed=job.seed, hooks=[PruningHook(masks=masks)])
        right = predict_logits(tuned, test_images).argmax(1) == test_labels
        yield {"task": task, "mode": "full", "error": 1 - float(right.float().mean())}


def train_and_judge(job: Training) -> JobResult:
    """Train, and measure what comes out.

    Returns:
        "outcomes", a row for each network: model, level (its sparsity), pattern, recalibrated, what `judged` gives, and emptied,
        the number of layers without a weight; none of a training on wrong labels; "course", a row for each epoch; "predictions",
        the classes of the test images by model; "transfer", a row for each model, task and way.
    """
    data = glyphs(job.seed, job.num_train, job.num_test, job.corrupted)
    splits, model, hook = data.data.splits, network(job), hook_of(job)
    models = {job.arm: model}

    def both(loop: Loop[Any]) -> None:
        if job.arm == "AC/DC":
            loop.fit(max(job.schedule.levels(job.sparsity)))
            twin = loop.fork()
            twin.fit()
            models["AC/DC, dense finish"] = twin.model
        loop.fit()

    hooks: list[Hook] = [hook]
    if job.corrupted:
        hooks.append(_Memory(model, data))
    images = splits["train"].images
    history = train(model, images, splits["train"].labels, recipe=job.recipe, seed=job.seed, hooks=hooks, fit=both)
    outcomes: list[dict[str, Any]] = []
    predictions: dict[str, list[int]] = {}
    for told, version in _versions(job, models, images) if not job.corrupted else ():
        predicted = predict_logits(version, splits["test"].images).argmax(1)
        emptied = sum(not weight.any() for weight in prunable_parameters(version).values())
        outcomes.append(told | judged(predicted, data) | {"emptied": emptied})
        predictions.setdefault(told["model"], predicted.tolist())
    transfer: list[dict[str, Any]] = []
    if job.task_train:
        to_transfer = {job.arm: model}
        if job.arm == "dense":  # the lottery ticket: the dense network's largest weights, not trained again
            ticket = copy.deepcopy(model)
            apply_masks_(ticket, global_magnitude(ticket, job.sparsity))
            to_transfer["ticket"] = ticket
        transfer = [{"model": name} | row for name, each in to_transfer.items() for row in transferred(each, job)]
    course = history.drop(columns=["seconds", "cpu_seconds"]).astype(object).where(history.notna(), None)
    classes = [{"model": name, "classes": each} for name, each in predictions.items()]
    return {"outcomes": outcomes, "course": course.to_dict("records"), "predictions": classes, "transfer": transfer}
