"""The experiment, from parameters to tables: coresets of a noisy pool chosen with labels, and of a pool without any."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from effnotes.core import jobs
from effnotes.core.checks import check_range
from effnotes.core.files import fingerprint
from effnotes.core.settings import settings
from effnotes.datasets.attributes import ClassSplit
from effnotes.datasets.cifar10 import load_cifar10
from effnotes.datasets.glyphs import GLYPHS, make_glyphs
from effnotes.metrics import coverage
from effnotes.models.images import normalize
from effnotes.reporting.tables import KeptTable, keep_table
from effnotes.studies.protocol import Workers, tables
from effnotes.training.clustering import Clusters, TemiRecipe, temi
from effnotes.training.dynamics import Dynamics
from effnotes.training.images import predict_logits, train
from effnotes.training.recipes import Recipe

Score = Literal["aum", "forgetting", "forgetting_0", "el2n"]
Share = Annotated[float, Field(ge=0, lt=1)]
MINORITY_CLASS = 2  # squares, and birds of CIFAR-10: some of them have the rare style, light and dark exchanged
SLOW = 0.996  # momentum of the teacher in the clustering that is to fail: right for many steps, too slow for few


@settings
class Parameters:
    """The page's parameters; what each means is said where the page declares it."""

    seeds: tuple[int, ...]
    pool_seeds: tuple[int, ...]
    dataset: Literal["glyphs", "cifar10"]
    data_root: str
    rates: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    scores: Annotated[tuple[Score, ...], Field(min_length=1)]
    cutoffs: Annotated[tuple[Share, ...], Field(min_length=1)]
    sweep_rate: Annotated[float, Field(gt=0, lt=1)]
    pool_cutoff: Share
    num_train: int
    num_pool: int
    num_test: int
    ambiguous: Share
    label_noise: Share
    minority: Share
    score_steps: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    clustering_epochs: Annotated[int, Field(ge=1)]


@settings
class Job:
    """One seed of the experiment; of the parameters, the lists of seeds are empty."""

    seed: Annotated[int, Field(ge=0)]
    p: Parameters
    digest: str = ""  # of what lies in `data_root`


class Arm(NamedTuple):
    """A way to choose a part of the training images."""

    rate: float
    method: str  # "random", "CCS", "full", or a score of which the hardest are kept
    cutoff: float = 0.0


class Result(NamedTuple):
    """What a run gave, as tidy tables."""

    plan: Parameters
    arms: pd.DataFrame  # a row for each seed and `Arm`: accuracies, and what the coreset holds
    scores: pd.DataFrame  # for each seed and kind of image, how many have which AUM
    pools: pd.DataFrame  # a row for each seed of a pool without labels and way to choose from it
    heads: pd.DataFrame  # a row for each seed, clustering and head: loss, accuracy, and whether the loss picked it
    classes: pd.DataFrame  # a row for each seed and class: its share of the coreset of ELFS, and how pure its clusters are

    def keep(self) -> list[KeptTable]:
        """Make the tables ready to be kept with the record of the run."""
        return [keep_table(name, getattr(self, name)) for name in self._fields[1:] if len(getattr(self, name))]


def plan(**parameters: Any) -> Parameters:
    """Check the page's parameters, and refuse what cannot work before anything is trained.

    Raises:
        ValueError: A value is missing, unknown or out of range, or a rate and a cutoff leave too few images.
        DataError: The folder holds no CIFAR-10.
    """
    p = Parameters(**parameters)
    for name, seeds in {"seeds": p.seeds, "pool_seeds": p.pool_seeds}.items():
        if len(set(seeds)) < len(seeds) or any(seed < 0 for seed in seeds) or not p.seeds:
            raise ValueError(f"{name}={list(seeds)}: give each seed once, from 0 on, and `seeds` at least one")
    check_range(100, whole=True, num_train=p.num_train, num_test=p.num_test)
    check_range(100, 1500, whole=True, num_pool=p.num_pool)
    for arm in arms(p):
        coverage.check_budget(p.num_train, round((1 - arm.rate) * p.num_train), arm.cutoff)
    coverage.check_budget(p.num_pool, round((1 - max(p.rates)) * p.num_pool), p.pool_cutoff)
    if (p.dataset == "cifar10") != bool(p.data_root):
        needed = "cifar10 is read from a folder, whose layout data/cifar10/CARD.md says; glyphs are drawn"
        raise ValueError(f"dataset={p.dataset!r}, data_root={p.data_root!r}: {needed}")
    if p.data_root:
        load_cifar10(p.data_root, limit=1)
    return p


def arms(p: Parameters) -> list[Arm]:
    """Return what is compared: at each rate, at the highest the other scores and CCS without a cutoff, and the sweep of cutoffs."""
    made = [Arm(0.0, "full")]
    for rate in p.rates:
        made += [Arm(rate, "random"), Arm(rate, p.scores[0]), Arm(rate, "CCS", coverage.published_cutoff(rate))]
    made += [Arm(max(p.rates), score) for score in p.scores[1:]] + [Arm(max(p.rates), "CCS", 0.0)]
    made += [Arm(p.sweep_rate, "random"), *(Arm(p.sweep_rate, "CCS", cutoff) for cutoff in p.cutoffs)]
    return list(dict.fromkeys(made))


def run(plan: Parameters, *, workers: Workers = None) -> Result:
    """Score, select and train, each seed in a job of its own.

    Raises:
        JobError: A job failed.
    """
    digest = fingerprint(plan.data_root) if plan.data_root else ""
    alone = dataclasses.replace(plan, seeds=(), pool_seeds=())

    with jobs.pool_of(workers) as pool:

        def of_seeds(function: Any, seeds: Sequence[int], *names: str) -> dict[str, pd.DataFrame]:
            found = jobs.run_jobs(function, [Job(seed, alone, digest) for seed in seeds], workers=pool)
            return tables(({"seed": seed} for seed in seeds), found, *names)

        with_labels = of_seeds(select_and_train, plan.seeds, "arms", "scores")
        return Result(plan, **with_labels, **of_seeds(cluster_and_train, plan.pool_seeds, "pools", "heads", "classes"))


class Pool(NamedTuple):
    """Training images with what is true of each, and test images."""

    train: ClassSplit
    kinds: dict[str, NDArray[np.bool_]]  # (n,) by kind: "wrong label", "minority style", "ambiguous"
    test: ClassSplit
    rare: Tensor  # test images of the minority's class, all in the rare style
    usual: Tensor  # the same in the usual one


def draw(job: Job) -> Pool:
    """Draw the glyphs of a seed, or read photographs and make some of their labels wrong and some of a class rare in style."""
    p, seed = job.p, job.seed
    if p.dataset == "glyphs":
        sizes, name = (p.num_train, 1, p.num_test), GLYPHS[MINORITY_CLASS]
        own = make_glyphs(*sizes, seed=seed, ambiguous=p.ambiguous, label_noise=p.label_noise, minority={name: p.minority})
        plain, rare = (make_glyphs(1, 1, p.num_test, seed=seed, minority={name: share}).data.splits["test"] for share in (0.0, 1.0))
        train, clean = own.data.splits["train"], own.clean["train"]
        kinds = {"minority style": own.minority["train"].numpy(), "ambiguous": own.ambiguous["train"].numpy()}
    else:
        rng, data = np.random.default_rng(seed), photographs(p.data_root, job.digest, p.num_train, p.num_test)
        rows = torch.from_numpy(rng.permutation(len(data["train"]))[: p.num_train])
        images, clean = data["train"].images[rows], data["train"].labels[rows]
        chance = rng.random((3, len(rows)))
        swapped = (clean.numpy() == MINORITY_CLASS) & (chance[0] < p.minority)
        images[swapped] = 255 - images[swapped]
        moved = (clean + 1 + torch.from_numpy((9 * chance[2]).astype(np.int64))) % 10
        train = ClassSplit(images, torch.where(torch.from_numpy(chance[1] < p.label_noise), moved, clean))
        kinds = {"minority style": swapped}
        rows = torch.from_numpy(rng.permutation(len(data["test"]))[: p.num_test])
        plain = ClassSplit(data["test"].images[rows], data["test"].labels[rows])
        rare = ClassSplit(255 - plain.images, plain.labels)
    member = plain.labels == MINORITY_CLASS
    kinds["wrong label"] = (train.labels != clean).numpy()
    return Pool(train, kinds, plain, rare.images[member], plain.images[member])


@cache
def photographs(data_root: str, digest: str, num_train: int, num_test: int) -> dict[str, ClassSplit]:  # noqa: ARG001 - of a key
    """Read twice as many photographs as a seed takes, so that seeds differ; the digest tells another content of the folder."""
    return load_cifar10(data_root, limit={"train": 2 * num_train, "test": 2 * num_test}).splits


def network(image_size: int, seed: int) -> nn.Sequential:
    """Build two convolutions of 12 and 24 channels and a hidden layer of 64, on halved images from 24 pixels on; no batch norm.

    Images of 8 pixels get a hidden layer of 128 alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if image_size < 12:
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 128), nn.ReLU(), nn.Linear(128, 10))
        side = image_size // (8 if image_size >= 24 else 4)
        first = [nn.AvgPool2d(2)] if image_size >= 24 else []
        blocks = [(nn.Conv2d(m, n, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for m, n in ((3, 12), (12, 24))]
        hidden = [nn.Flatten(), nn.Linear(24 * side**2, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(*first, *blocks[0], *blocks[1], *hidden)


def fit(images: Tensor, labels: Tensor, steps: int, seed: int, dynamics: Dynamics | None = None) -> nn.Sequential:
    """Train for about so many steps, however many images there are: all parts of the data get the same compute."""
    model, epochs = network(images.shape[-1], seed), max(1, round(steps / -(-len(images) // 64)))
    recipe = Recipe(epochs, batch_size=64, learning_rate=0.05, weight_decay=5e-4, warmup_epochs=epochs / 20, loss="softmax")
    train(model, images, labels, recipe=recipe, seed=seed, hooks=[] if dynamics is None else [dynamics])
    return model


def accuracy(model: nn.Module, images: Tensor, labels: Tensor | int) -> float:
    """Return the share of images whose largest logit is that of their label."""
    return float((predict_logits(model, images).argmax(1) == labels).float().mean())


def select_and_train(job: Job) -> dict[str, Any]:
    """Score the images of a seed in one training run, then train on what each arm keeps of them."""
    p, data = job.p, draw(job)
    images, labels = data.train.images, data.train.labels
    dynamics = Dynamics(len(images))
    scored = fit(images, labels, p.score_steps, job.seed, dynamics)
    with torch.inference_mode():
        features = scored[:-1](normalize(images)).numpy()
    margins, margin = dynamics.margins.numpy(), coverage.aum(dynamics.margins.numpy())
    hardness = {"aum": -margin, "forgetting": coverage.forgetting(margins), "el2n": coverage.el2n(dynamics.errors.numpy())}
    hardness["forgetting_0"] = coverage.forgetting(margins, never_learned="least")
    rows = []
    for arm in arms(p):
        keep = round((1 - arm.rate) * len(images))
        if arm.method in ("random", "full"):
            chosen = np.random.default_rng(job.seed).permutation(len(images))[:keep]
        elif arm.method == "CCS":
            chosen = coverage.stratified_coreset(margin, margin, keep, cutoff=arm.cutoff, seed=job.seed)
        else:
            chosen = coverage.hardest(hardness[arm.method], keep)
        model = fit(images[chosen], labels[chosen], p.steps, job.seed)
        row = arm._asdict() | {"kept": keep, "accuracy": accuracy(model, data.test.images, data.test.labels)}
        row |= {"minority": accuracy(model, data.rare, MINORITY_CLASS), "usual": accuracy(model, data.usual, MINORITY_CLASS)}
        row |= {kind: float(flags[chosen].mean()) for kind, flags in data.kinds.items()}
        rows.append(row | {"coverage": coverage.auc_pr(features, chosen), "least_class": least_share(labels[chosen])})
    plain = ~np.any([*data.kinds.values()], axis=0)
    edges, bins = np.linspace(-1, 1, 41), []
    for kind, flags in ({"plain": plain} | data.kinds).items():
        counts, _ = np.histogram(margin[flags] / len(margins), edges)
        bins += [{"kind": kind, "margin": float(at), "images": int(n)} for at, n in zip(edges[:-1], counts, strict=True)]
    return {"arms": rows, "scores": bins}


def least_share(labels: Tensor) -> float:
    """Return the share of the rarest of ten classes, as a multiple of an even share: 1 where all are equally frequent."""
    return float(np.bincount(labels.numpy(), minlength=10).min() * 10 / len(labels))


def pool_of(job: Job) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give images and labels of a pool, and of its test: handwritten digits, or photographs."""
    p, rng = job.p, np.random.default_rng(job.seed)
    if p.dataset == "cifar10":
        data = photographs(p.data_root, job.digest, p.num_train, p.num_test)
        rows = [torch.from_numpy(rng.permutation(len(data[k]))[:n]) for k, n in (("train", p.num_pool), ("test", p.num_test))]
        train, test = ((data[k].images[r], data[k].labels[r]) for k, r in zip(("train", "test"), rows, strict=True))
        return *train, *test
    from sklearn.datasets import load_digits

    found, order = load_digits(), torch.from_numpy(rng.permutation(1797))
    images = torch.from_numpy(found.images * 255 / 16).to(torch.uint8)[order, None].repeat(1, 3, 1, 1)
    labels = torch.from_numpy(found.target)[order].long()
    return images[: p.num_pool], labels[: p.num_pool], images[p.num_pool :], labels[p.num_pool :]


def encode(images: Tensor) -> Tensor:
    """Give features (n, 32) that no label had a part in: principal components of the pixels, scaled to norm 4."""
    from sklearn.decomposition import PCA

    found = PCA(32, random_state=0).fit_transform(images.flatten(1).numpy() / 255)
    return torch.from_numpy(4 * found / np.linalg.norm(found, axis=1, keepdims=True)).float()


def cluster_and_train(job: Job) -> dict[str, Any]:
    """Choose from a pool by clusters in place of labels, train on the true labels of what is chosen, and compare."""
    from scipy.stats import spearmanr
    from sklearn.cluster import KMeans

    p, (images, labels, test_images, test_labels) = job.p, pool_of(job)
    features, n = encode(images), len(images)

    def margin(targets: Tensor) -> NDArray[np.floating[Any]]:
        dynamics = Dynamics(n)  # as above
        fit(images, targets, p.score_steps, job.seed, dynamics)
        return coverage.aum(dynamics.margins.numpy())

    found: dict[str, Clusters] = {}
    for name, momentum in (("ELFS", TemiRecipe().momentum), ("ELFS, slow teacher", SLOW)):
        found[name] = temi(features, 10, seed=job.seed, recipe=TemiRecipe(epochs=p.clustering_epochs, momentum=momentum))
    pseudo, true = {name: margin(each.labels) for name, each in found.items()}, margin(labels)
    keep, rate = round((1 - max(p.rates)) * n), max(p.rates)
    centroids = KMeans(10, n_init=4, random_state=job.seed).fit(features.numpy()).transform(features.numpy()).min(1)
    chosen = {
        "random": np.random.default_rng(job.seed).permutation(n)[:keep],
        "far from centroids": coverage.hardest(centroids, keep),
    }
    chosen["pseudo-labels, hardest"] = coverage.hardest(-pseudo["ELFS"], keep)
    chosen |= {name: coverage.double_end(each, keep, p.pool_cutoff) for name, each in pseudo.items()}
    chosen["CCS, all labels"] = coverage.stratified_coreset(true, true, keep, cutoff=coverage.published_cutoff(rate), seed=job.seed)
    pools = []
    for method, rows in chosen.items():
        model = fit(images[rows], labels[rows], p.steps, job.seed)
        row = {"rate": rate, "method": method, "accuracy": accuracy(model, test_images, test_labels)}
        pools.append(row | {"labels": n if method.startswith("CCS") else keep, "least_class": least_share(labels[rows])})
    heads = []
    for name, each in found.items():
        best, alike = int(each.losses.argmin()), float(spearmanr(true, pseudo[name]).statistic)
        for head, (clusters, loss) in enumerate(zip(each.every, each.losses.tolist(), strict=True)):
            row = {"clustering": name, "loss": loss, "accuracy": coverage.cluster_accuracy(labels, clusters)}
            heads.append(row | {"picked": head == best, "spearman": alike})
    of_elfs, clusters = labels[chosen["ELFS"]], found["ELFS"].labels
    stands_for = torch.stack([torch.bincount(labels[clusters == c], minlength=10) for c in range(10)]).argmax(1)[clusters]
    classes = [
        {
            "class": c,
            "share": float((of_elfs == c).float().mean() * 10),
            "purity": float((stands_for == c)[labels == c].float().mean()),
        }
        for c in range(10)
    ]
    return {"pools": pools, "heads": heads, "classes": classes}
