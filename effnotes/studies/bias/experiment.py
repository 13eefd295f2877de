"""What is trained in the experiments of the chapter on bias: on which data, by which recipe, how far pruned, from which seed.

A seed stands for everything that varies between replicates. For drawn faces these are the faces, the initial weights and the order
of the batches; for CIFAR-10S the split and which images are grey, weights and order; for other real data, which are what they
are, weights and order. Within a seed all sparsities share them, so a sparse model is compared with the dense one of its own seed,
and the differences of different seeds are independent but for the images that real data share.

What loads torch is imported where data are asked for: wrong settings are told before that.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from effnotes.core.checks import check_choice
from effnotes.core.files import fingerprint
from effnotes.core.settings import settings
from effnotes.pruning.methods import PRUNING_METHODS, pruning_plan, pruning_schedule
from effnotes.training.recipes import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from effnotes.datasets.attributes import AttributeData
    from effnotes.datasets.celeba import CelebADataset
    from effnotes.datasets.faces import Faces, FaceSplits
    from effnotes.pruning.plans import PruningPlan
    from effnotes.pruning.schedules import Schedule

Backdoor = Literal["yellow_square", "greyscale"]
"""Kinds of spurious features that can be planted."""

_NUM_FACES = {"num_train": 6000, "num_val": 3000, "num_test": 4000}
# Shares of the training images with label 0 and with label 1 that are stamped; in validation and test it is half of each. Iofinova,
# Peste & Alistarh (CVPR 2023, official code) have these for labels that are easy to see, and (.35, .65) for subtle ones.
_BACKDOOR_RATES = (0.05, 0.95)
_OF_IMAGES = ("dataset", "data_root", *_NUM_FACES, "label_noise", "image_size")
_SHARED_SEED = 2**40  # of the faces that all seeds share; far from the seeds that people choose

SplitName = Literal["train", "val", "test"]
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Labels(NamedTuple):
    """Labels of the training, validation and test images of a seed, without the images.

    Labels are int64 of shape (n, K) in {0, 1}; groups are those of the protected attribute, int64 of shape (n,) in {0, 1}.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    train_groups: Tensor
    val_groups: Tensor
    test_groups: Tensor
    attribute_names: tuple[str, ...]
    protected: int | None  # column of the protected attribute; None where it is no label


@settings
class Experiment:
    """What all models of a sweep share: data, architecture, recipe and pruning method.

    A method that starts from random weights trains for `epochs`. One that starts from a trained model (`gmp_post`, `one_shot`,
    `n_of_4`) divides the same number: `parent_epochs` dense by the recipe, one parent for each seed, and the rest with masks by
    Adam at the constant rate `tuning_rate` without weight decay, the optimizer of GMP-PT in Iofinova, Peste & Alistarh (CVPR 2023,
    official code), who give post-training runs 80 epochs on top of the dense model's 100. Equal totals are needed to compare. A
    third of the epochs for the parent and a rate of 3e-3 were chosen by accuracy, on a seed of faces that the chapter does not use.

    Raises:
        ValueError: a field is out of range; the message says which and what is allowed.
    """

    dataset: Literal["faces", "cifar10s", "celeba", "awa2", "waterbirds", "iwildcam"] = "faces"  # as in `datasets.load.DATASETS`
    data_root: str = ""  # folder with the data; empty for faces, which are drawn
    # Training, validation and test images: so many faces, of real data at most so many. None: 6000, 3000 and 4000 faces, of real
    # data all (of cifar10s 5000 for validation). Test images of cifar10s come in colour and in grey, so their number must be even.
    num_train: int | None = Field(None, ge=2)
    num_val: int | None = Field(None, ge=2)
    num_test: int | None = Field(None, ge=2)
    num_shared: int = Field(0, ge=0)  # faces: so many more for testing, the same for all seeds; real test images are so anyway
    label_noise: float = 0.0  # faces: share of labels flipped in training, validation and test alike, in [0, 0.5)
    image_size: int = 32  # height and width in pixels
    stream: bool = False  # celeba: decode images when they are needed and prepare them as published (`celeba_transforms`)
    model: str = "resnet8"  # one of effnotes.models.MODEL_NAMES
    width: int | None = None  # channels of the first block, for resnet8 only; None for its default, 16
    epochs: int = 12  # passes over the training images, dense and sparse alike
    batch_size: int = 64  # images a step
    learning_rate: float = 0.2  # peak of the cosine schedule
    momentum: float = 0.9  # of SGD
    weight_decay: float = 1e-4  # L2 penalty on all parameters
    warmup_epochs: float = 1.0  # linear rise of the learning rate
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of activations; see `effnotes.training.resolve_precision`
    method: str = "gmp"  # one of effnotes.pruning.PRUNING_METHODS
    prune_start: int = Field(1, ge=0)  # epoch of the first mask update, for gradual methods from random weights
    prune_end: int = 7  # their updates come before this epoch; the rest is left for recovery
    parent_epochs: int = 4  # dense epochs among `epochs`, for methods that start from a trained model
    tuning_rate: float = Field(3e-3, gt=0)  # Adam's learning rate after them

    def __post_init__(self) -> None:
        check_choice(list(PRUNING_METHODS), method=self.method)
        is_drawn = self.dataset == "faces"
        if is_drawn != (self.data_root == ""):
            needed = "is drawn and takes no folder" if is_drawn else "is read from a folder; name it"
            raise ValueError(f"data_root={self.data_root!r}: {self.dataset} {needed}")
        if self.stream and self.dataset != "celeba":
            raise ValueError(f"stream=True: only celeba is decoded as it goes; {self.dataset} is held in memory")
        if self.label_noise and not is_drawn:
            raise ValueError(f"label_noise={self.label_noise}: labels are flipped in drawn faces only, not in {self.dataset}")
        if not self.prune_start < self.prune_end <= self.epochs:
            needed = f"needs prune_start < prune_end <= epochs={self.epochs}"
            raise ValueError(f"prune_start={self.prune_start}, prune_end={self.prune_end}: {needed}")
        if self.starts_trained and not 1 <= self.parent_epochs < self.epochs:
            needed = f"needs at least 1 epoch and must leave some of the {self.epochs} epochs for training with masks"
            raise ValueError(f"parent_epochs={self.parent_epochs}: {self.method} starts from a trained model, which {needed}")
        # What is wrong with other fields, the recipes refuse.
        self.recipe, self.parent_recipe, self.tuning_recipe if self.starts_trained else None  # noqa: B018

    @property
    def exclusive(self) -> bool:
        """Whether the attributes are classes that exclude one another, learned by their softmax; none is protected then."""
        return self.dataset == "iwildcam"

    @property
    def starts_trained(self) -> bool:
        """Whether the method prunes a trained model, with training after it."""
        method = PRUNING_METHODS[self.method]
        return method.starts_trained and method.trains

    @property
    def recipe(self) -> Recipe:
        """How dense models, and those pruned from random weights, are trained."""
        same = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "warmup_epochs", "precision")
        recipe = Recipe(**{name: getattr(self, name) for name in same}, loss="softmax" if self.exclusive else "binary")
        return dataclasses.replace(recipe, max_shift=0) if self.stream else recipe

    @property
    def parent_recipe(self) -> Recipe:
        """How the dense parent of models that are pruned after training is trained: for all epochs where none follow."""
        return dataclasses.replace(self.recipe, epochs=self.parent_epochs) if self.starts_trained else self.recipe

    @property
    def tuning_recipe(self) -> Recipe:
        """How a trained model is trained on with masks."""
        adam: dict[str, Any] = {"optimizer": "adam", "learning_rate": self.tuning_rate, "weight_decay": 0.0, "decay": "constant"}
        return dataclasses.replace(self.recipe, epochs=self.epochs - self.parent_epochs, warmup_epochs=0.0, **adam)

    def schedule(self, sparsity: float) -> Schedule | None:
        """Say when a model is pruned how far; None for 0, the dense model.

        Raises:
            ValueError: the method cannot reach the sparsity.
        """
        return pruning_schedule(self.method, sparsity, **self._length)

    def plan(self, sparsity: float, seed: int) -> PruningPlan | None:
        """Give the pruning plan for a sparsity; None and errors as for `schedule`."""
        return pruning_plan(self.method, sparsity, seed=seed, **self._length)

    @property
    def _length(self) -> dict[str, int]:
        """How long the training with masks is, and which of its epochs have updates."""
        from_random = {"epochs": self.epochs, "start": self.prune_start, "end": self.prune_end}
        return {"epochs": self.epochs - self.parent_epochs} if self.starts_trained else from_random

    def data(self, seed: int) -> AttributeData:
        """Draw or load the training, validation and test images of a seed, in memory.

        The last ones are kept, so asking again costs nothing.

        Raises:
            DataError: something on disk is missing or malformed.
            ValueError: the folder does not exist, or a number does not suit the data.
        """
        return _data(self._images_alone, seed if self.dataset in ("faces", "cifar10s") else 0, fingerprint(self.data_root))

    def faces(self, seed: int) -> FaceSplits:
        """Draw the training, validation and test faces of a seed with all that is known of them.

        Raises:
            ValueError: the data are no faces.
        """
        if self.dataset != "faces":
            raise ValueError(f"dataset={self.dataset!r}: only drawn faces have known evidence; use data(seed)")
        return _faces(self._images_alone, seed)

    def shared_faces(self) -> Faces:
        """Draw the test faces that are the same for all seeds, on which models of different seeds can be compared.

        Raises:
            ValueError: the data are no faces, or `num_shared` is 0.
        """
        if self.dataset != "faces" or not self.num_shared:
            raise ValueError(f"dataset={self.dataset!r}, num_shared={self.num_shared}: only drawn faces have some, if wanted")
        from effnotes.datasets.faces import make_faces

        return make_faces(self.num_shared, seed=_SHARED_SEED, image_size=self.image_size, label_noise=self.label_noise)

    def labels(self, seed: int, protected: str | None = None) -> Labels:
        """Give the labels of a seed's images and their groups; images that are decoded as they are needed are not read.

        Args:
            seed: of the data.
            protected: name of the protected attribute, one of the label columns; None for the data's own: "Round" of faces, grey
                of cifar10s (which is no label), "Male" of celeba, "water" of awa2, the place of waterbirds (no label either). Of
                iwildcam, where nothing is protected, all images are in group 0.

        Raises:
            DataError: something on disk is missing or malformed.
            ValueError: there is no such attribute; the message names those that exist.
        """
        from effnotes.datasets.attributes import column_of

        if self.stream:
            datasets = [self.streamed(split) for split in _SPLITS]
            names, labels = datasets[0][0].attribute_names, [dataset.labels[rows] for dataset, rows in datasets]
            column: int | None = column_of(protected or "Male", names, "attribute to protect")
            groups = [of_split[:, column] for of_split in labels]
        else:
            data = self.data(seed)
            splits, names = (data.train, data.val, data.test), data.attribute_names
            column = data.protected if protected is None else column_of(protected, names, "attribute to protect")
            labels = [split.labels for split in splits]
            # Where nothing is protected, all images are in one group.
            own = [split.labels[:, 0] * 0 if split.groups is None else split.groups for split in splits]
            groups = own if column is None else [of_split[:, column] for of_split in labels]
        (train, val, test), (of_train, of_val, of_test) = labels, groups
        return Labels(train, val, test, of_train, of_val, of_test, names, column)

    def images(self, split: SplitName | Literal["shared"], rows: Sequence[int], seed: int) -> Tensor:
        """Give some images to look at.

        Args:
            split: "train", "val" or "test" of the seed, or "shared": those that are the same for all seeds.
            rows: which ones, from 0.
            seed: of the data.

        Returns:
            uint8, RGB, shape (len(rows), 3, S, S), with S = `image_size`; for `stream` the middle square at 96 pixels.
        """
        if self.dataset == "faces" and split == "shared":
            return self.shared_faces().images[list(rows)]
        name: SplitName = "test" if split == "shared" else split
        if not self.stream:
            return getattr(self.data(seed), name).images[list(rows)]  # type: ignore[no-any-return]
        import torch
        from torchvision.transforms import v2

        dataset, chosen = self.streamed(name, v2.Compose([v2.Resize(96), v2.CenterCrop(96), v2.PILToTensor()]))
        return torch.stack([dataset[int(chosen[row])][0] for row in rows])

    def streamed(self, split: SplitName, transform: Callable[[Image], Any] = lambda image: image) -> tuple[CelebADataset, Tensor]:
        """Give a split whose images are decoded when they are needed, and the rows of it that are taken."""
        import torch

        from effnotes.datasets.celeba import CelebADataset
        from effnotes.datasets.files import limited

        dataset = CelebADataset(self.data_root, split, transform)
        return dataset, torch.from_numpy(limited(len(dataset), getattr(self, f"num_{split}"), split))

    @property
    def _images_alone(self) -> Experiment:
        """An experiment that differs from the default in nothing but what decides which images it has."""
        return Experiment(**{name: getattr(self, name) for name in _OF_IMAGES})


@settings
class Training:
    """One model to train.

    Raises:
        ValueError: the sparsity cannot be reached, or the fields do not go together.
    """

    experiment: Experiment
    seed: Annotated[int, Field(ge=0)]
    sparsity: Annotated[float, Field(ge=0, lt=1)]  # share of the prunable weights that are removed, 0 for a dense model
    attribute: str | None = None  # name of the one label that the model learns; None for all together
    backdoor: Backdoor | None = None  # spurious feature planted on that label; None for none

    def __post_init__(self) -> None:
        self.experiment.schedule(self.sparsity)  # refuses what the method cannot reach
        if self.attribute is not None and self.experiment.exclusive:
            raise ValueError(f"attribute={self.attribute!r}: the classes of {self.experiment.dataset} are learned together")
        if self.backdoor is None:
            return
        if self.attribute is None:
            raise ValueError(f"backdoor={self.backdoor!r}: name the attribute that it is planted on")
        if self.experiment.stream:
            raise ValueError(f"backdoor={self.backdoor!r}: needs images in memory; use an experiment with stream=False")


def trainings(
    experiment: Experiment,
    *,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    attributes: Sequence[str] | None = None,
    backdoor: Backdoor | None = None,
) -> list[Training]:
    """List one training for each seed, attribute and sparsity.

    Args:
        experiment: what all models share.
        sparsities: each once, in [0, 1); 0 is the dense model. For a method that starts from a trained model, 0 trains that model
            on without masks.
        seeds: at least one, each once, 0 or more.
        attributes: names of the labels that get a model of their own each; None for one model of all labels.
        backdoor: spurious feature to plant on each of `attributes`, "yellow_square" or "greyscale"; see
            `effnotes.datasets.backdoor_data`.

    Returns:
        Trainings, seed by seed, attribute by attribute, sparsities rising.

    Raises:
        ValueError: an argument is out of range.
    """
    chosen: Sequence[str | None] = [None] if attributes is None else attributes
    for name, values in (("sparsities", sparsities), ("seeds", seeds), ("attributes", chosen)):
        if isinstance(values, str) or len(values) == 0 or len(set(values)) != len(values):
            raise ValueError(f"{name}={values!r}: give a list of at least one, and each only once")
    each = itertools.product(seeds, chosen, sorted(sparsities))
    return [Training(experiment, seed, float(level), attribute, backdoor) for seed, attribute, level in each]


def training_data(training: Training) -> AttributeData:
    """Give the images and labels that one model is trained and judged on, in memory.

    Returns:
        The data of the experiment; with the one label column of `attribute` where that is named; and with a backdoor stamped, its
        `groups` being 1 for the stamped images of each split.

    Raises:
        ValueError: the data have no such attribute.
    """
    from effnotes.datasets.attributes import AttributeData
    from effnotes.datasets.backdoor import backdoor_data

    data = training.experiment.data(training.seed)
    if training.attribute is None:
        return data
    if training.backdoor is not None:
        return backdoor_data(data, training.attribute, kind=training.backdoor, rates=_BACKDOOR_RATES, seed=training.seed)
    column = data.column(training.attribute)
    every = (data.train, data.val, data.test)
    train, val, test = (dataclasses.replace(s, labels=s.labels[:, [column]], groups=data.groups_of(s)) for s in every)
    return AttributeData(train, val, test, (training.attribute,), None, data.source)


@lru_cache(maxsize=2)
def _data(experiment: Experiment, seed: int, _fingerprint: str) -> AttributeData:
    from effnotes.datasets.faces import face_data
    from effnotes.datasets.load import load_data

    if experiment.dataset == "faces":
        return face_data(_faces(experiment, seed))
    sizes = {name: getattr(experiment, name) for name in (*_NUM_FACES, "image_size")}
    return load_data(experiment.dataset, experiment.data_root, seed=seed, **sizes)


@lru_cache(maxsize=2)
def _faces(experiment: Experiment, seed: int) -> FaceSplits:
    from effnotes.datasets.faces import make_face_splits

    sizes = (getattr(experiment, name) or default for name, default in _NUM_FACES.items())
    return make_face_splits(*sizes, seed=seed, image_size=experiment.image_size, label_noise=experiment.label_noise)


def child_seed(seed: int) -> int:
    """Give the seed by which a model is trained on: other than its parent's, or it would see the same batches again."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
