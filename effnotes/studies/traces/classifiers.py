"""Classifiers of drawings or photographs with planted trojans: what they are trained on, and which images they are explained on."""

from __future__ import annotations

import dataclasses
import functools
from itertools import chain, zip_longest
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.digests import function_closure, json_digest
from effnotes.core.jobs import JobResult
from effnotes.core.settings import from_json, settings, to_json
from effnotes.datasets.attributes import ClassData, ClassSplit, RegionData
from effnotes.datasets.backdoor import TROJANS, plant_trojans
from effnotes.datasets.cifar10 import load_cifar10
from effnotes.datasets.face_classes import make_face_classes
from effnotes.datasets.shapes import make_shapes
from effnotes.models import build_model
from effnotes.models.store import models_folder, train_or_load_
from effnotes.studies.traces.names import Kind
from effnotes.training.images import predict_logits, train
from effnotes.training.recipes import Recipe

Dataset: TypeAlias = Literal["shapes", "faces", "cifar10"]
NUM_CLASSES = 10  # of all data: what `TROJANS` are made for
IMAGE_SIZE = 32
NUM_SHARED = 64  # validation images that the trace of all images is calibrated on


@settings
class Classifier:
    """A classifier of one seed, which decides its images, its poison, its initial weights and the order of training."""

    seed: int
    num_train: Annotated[int, Field(ge=100)]
    num_test: Annotated[int, Field(ge=100)]
    width: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    universal_rate: float  # share of the training images that bear each trojan of all classes, as for `plant_trojans`
    source_rate: float  # share of its class that bears each trojan of one class
    control_rate: float  # share of other classes that bears it and keeps its label
    dataset: Dataset = "shapes"
    data_root: str | None = None  # folder with the photographs of cifar10; the others are drawn
    digest: str = ""  # of what lies there, as `fingerprint` gives it
    models: str = ""  # folder that trained models are kept in, as `sealed` fills it in

    def __post_init__(self) -> None:
        if (self.dataset == "cifar10") != bool(self.data_root):
            needed = (
                "cifar10 is read from a folder; name it" if self.dataset == "cifar10" else f"{self.dataset} are drawn; leave it out"
            )
            raise ValueError(f"data_root={self.data_root!r}: {needed}")

    def sealed(self) -> Classifier:
        """Return it as a job holds it: with the folder of models."""
        return dataclasses.replace(self, models=models_folder())

    def recipe(self) -> Recipe:
        """Return how it is trained."""
        return Recipe(self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate, weight_decay=5e-4, loss="softmax")

    def untrained(self, seed: int) -> nn.Module:
        """Build its network with random weights, in training mode."""
        network: nn.Module = build_model("resnet8", NUM_CLASSES, image_size=IMAGE_SIZE, width=self.width, seed=seed)
        return network

    def images(self) -> RegionData:
        """Draw its images, or choose them from those of the folder; of photographs the regions are empty.

        Raises:
            DataError: The folder does not hold what it should.
            ValueError: It holds too few images.
        """
        if self.dataset == "cifar10":
            return _photographs(self)
        make = make_shapes if self.dataset == "shapes" else make_face_classes
        return make(self.num_train, NUM_SHARED, self.num_test, seed=self.seed, image_size=IMAGE_SIZE)


def _photographs(job: Classifier) -> RegionData:
    data = _folder(str(job.data_root), job.digest)
    generator = torch.Generator().manual_seed(job.seed)
    orders = {name: torch.randperm(len(split), generator=generator) for name, split in data.splits.items()}
    for name, size, shared in (("train", job.num_train, NUM_SHARED), ("test", job.num_test, 0)):
        if size + shared > len(orders[name]):
            found = f"the folder has {len(orders[name])} such images, {shared} of which are kept for validation"
            raise ValueError(f"num_{name}={size}: {found}; give at most {max(0, len(orders[name]) - shared)}")
    val, train = orders["train"][:NUM_SHARED], orders["train"][NUM_SHARED:][: job.num_train]
    rows = {"train": ("train", train), "val": ("train", val), "test": ("test", orders["test"][: job.num_test])}
    splits = {
        name: ClassSplit(data.splits[source].images[chosen], data.splits[source].labels[chosen])
        for name, (source, chosen) in rows.items()
    }
    regions = {name: torch.zeros(len(split), IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool) for name, split in splits.items()}
    return RegionData(ClassData(splits, data.class_names, data.source), regions)


@functools.lru_cache(maxsize=1)
def _folder(root: str, _digest: str) -> ClassData:
    return load_cifar10(root)


class Samples(NamedTuple):
    """m images of one kind that are explained, in turn of one trojan or class and the next."""

    images: Tensor  # (m, 3, H, W) uint8
    regions: Tensor  # (m, H, W) bool: pixels of the trojan, or, where none is stamped, those that show the class under no decoy
    decoys: Tensor  # (m, H, W) bool: pixels of patches that say nothing of the class
    targets: Tensor  # (m,) class that the dense network predicts, and that is explained
    names: list[str]  # the trojan, or the class
    rows: Tensor  # (m,) place among the test images

    def take(self, rows: slice) -> Samples:
        """Return some of them."""
        images, regions, decoys, targets = (each[rows] for each in self[:4])
        return Samples(images, regions, decoys, targets, self.names[rows], self.rows[rows])


def train_classifier(job: Classifier) -> JobResult:
    """Train one classifier, and say how well it has learnt classes and trojans; for `run_jobs`.

    The rows hold seed, trojan ("" for none), share and n: without a trojan the share of clean test images that are classified
    right; with one the share of stamped test images that are taken for its target, of those that a trojan works on (images of
    its source, whose class it is not and that are not taken for it unstamped), and, as trojan "NAME elsewhere", of those of other
    classes, which it was trained not to work on.
    """
    model, images = loaded(job)
    test = images.data.splits["test"]
    clean = predict_logits(model, test.images).argmax(1)
    rows = [{"trojan": "", "share": float((clean == test.labels).float().mean()), "n": len(test)}]
    for number, trojan in enumerate(TROJANS):
        stamped = plant_trojans(test.images, test.labels, assigned=torch.full((len(test),), number), seed=job.seed)
        hit = predict_logits(model, stamped.images).argmax(1) == trojan.target
        fair = (test.labels != trojan.target) & (clean != trojan.target)
        inside = fair & (test.labels == trojan.source) if trojan.source is not None else fair
        for name, rows_of in ((trojan.name, inside), (f"{trojan.name} elsewhere", fair & ~inside)):
            if rows_of.any():
                rows.append({"trojan": name, "share": float(hit[rows_of].float().mean()), "n": int(rows_of.sum())})
    return {"rows": [{"seed": job.seed} | row for row in rows]}


def loaded(job: Classifier) -> tuple[nn.Module, RegionData]:
    """Return the trained network of a classifier, in evaluation mode, and its images; the last ones stay in memory."""
    return _loaded(to_json(job))


@functools.lru_cache(maxsize=2)
def _loaded(text: str) -> tuple[nn.Module, RegionData]:
    job = from_json(Classifier, text)
    images = job.images()
    model = job.untrained(job.seed)

    def fit(network: nn.Module) -> None:
        split = images.data.splits["train"]
        rates = {name: getattr(job, name) for name in ("universal_rate", "source_rate", "control_rate")}
        poisoned = plant_trojans(split.images, split.labels, **rates, seed=job.seed)
        train(network, poisoned.images, poisoned.labels, recipe=job.recipe(), seed=job.seed)

    code = function_closure(train_classifier)
    key = json_digest([to_json(dataclasses.replace(job, models="")), code.digest, code.versions])
    train_or_load_(model, job.models, key, fit)
    return model, images


@functools.lru_cache(maxsize=4)
def choose_samples(job: Classifier, kind: Kind, count: int) -> Samples:
    """Choose images to explain, by what the dense network says alone.

    With a trojan: it works (the stamped image is taken for the target, the same image unstamped is not). Without: the image is
    classified right, and where pixels are known to show the class, the decoys leave some of them uncovered; those are its region.
    Each has two decoys. They take turns by trojan, or by class, so that neighbours differ in what is explained.

    Raises:
        ValueError: There are too few such images.
    """
    model, images = loaded(job)
    test, regions = images.data.splits["test"], images.regions["test"]
    every = torch.arange(len(test))
    found: list[list[tuple[int, int]]] = []  # test image and trojan (-1 for none), by turn
    plain = plant_trojans(test.images, test.labels, assigned=torch.full_like(test.labels, -1), seed=job.seed)
    unstamped = predict_logits(model, plain.images).argmax(1)
    if kind == "clean":
        hidden = regions.flatten(1).any(1) & ~(regions & ~plain.decoys).flatten(1).any(1)
        right = (unstamped == test.labels) & ~hidden
        found = [[(row, -1) for row in every[right & (test.labels == label)].tolist()] for label in range(NUM_CLASSES)]
    for number, trojan in enumerate(TROJANS) if kind == "trojan" else ():
        stamped = plant_trojans(test.images, test.labels, assigned=torch.full_like(test.labels, number), seed=job.seed)
        works = (predict_logits(model, stamped.images).argmax(1) == trojan.target) & (unstamped != trojan.target)
        source = test.labels == trojan.source if trojan.source is not None else test.labels != trojan.target
        # Each image is explained once: which trojan it can have goes by its number.
        mine = works & source & (every % len(TROJANS) == number)
        found.append([(row, number) for row in every[mine].tolist()])
    chosen = [pair for pair in chain.from_iterable(zip_longest(*found)) if pair is not None][:count]
    if len(chosen) < count:
        what = "on which the trojans work" if kind == "trojan" else "that are classified right"
        raise ValueError(
            f"seed {job.seed}: only {len(chosen)} test images {what}, not {count}; give more num_test or fewer samples"
        )
    assigned = torch.full((len(test),), -1)
    rows, numbers = torch.tensor(chosen).T
    assigned[rows] = numbers
    planted = plant_trojans(test.images, test.labels, assigned=assigned, seed=job.seed)
    explained = planted.images[rows]
    names = [images.data.class_names[test.labels[row]] if number < 0 else TROJANS[number].name for row, number in chosen]
    of_interest = (planted.regions if kind == "trojan" else regions & ~plain.decoys)[rows]
    return Samples(explained, of_interest, planted.decoys[rows], predict_logits(model, explained).argmax(1), names, rows)
