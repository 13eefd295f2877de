"""The chapter's experiment, from parameters to tables: what is planned and refused before anything runs, and what a run gives."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, cast

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.checks import check_choice
from effnotes.core.files import fingerprint
from effnotes.core.jobs import pool_of, run_jobs
from effnotes.core.settings import settings
from effnotes.interpretation.attribution import ATTRIBUTION_METHODS, attribute_batch
from effnotes.interpretation.augmentation import Augmentation
from effnotes.interpretation.tracing import Trace, trace
from effnotes.interpretation.visualisation import visualise
from effnotes.pruning.layerwise import LAYER_SOLVERS
from effnotes.reporting.tables import KeptTable, keep_table
from effnotes.studies.protocol import Workers, run_table
from effnotes.studies.traces.classifiers import IMAGE_SIZE, Classifier, Dataset, Samples, loaded, train_classifier
from effnotes.studies.traces.judging import NEURONS, Judging, Levels, Timing, judge, time_solvers
from effnotes.studies.traces.names import KINDS, SCORES
from effnotes.studies.traces.neurons import STEPS, Picturing, picture
from effnotes.studies.traces.tuning import Tuning, tune

_AT_A_TIME = 8  # images a job: what an interrupted run loses at most
# What a record of many networks has no room for.
_NOT_OF = {"trojan": ["insertion", "deletion"], "clean": ["decoy_auc", "pointing", "kl"]}


@settings
class Parameters:
    """The chapter's parameters; what each means is said where the chapter declares it."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    samples: Annotated[int, Field(ge=2)]
    n: Annotated[int, Field(ge=1)]
    mild: Levels
    strong: Levels
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    solvers: tuple[str, ...]
    exact_samples: Annotated[int, Field(ge=0)]
    timed_seeds: Annotated[int, Field(ge=0)]
    visualised: Annotated[int, Field(ge=0)]
    tuned_seeds: Annotated[int, Field(ge=0)]
    augment: Augmentation
    dataset: Dataset
    data_root: str | None
    num_train: int
    num_test: int
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    universal_rate: float
    source_rate: float
    control_rate: float


class Plan(NamedTuple):
    """What the chapter does with some values of its parameters."""

    classifiers: tuple[Classifier, ...]  # one a seed
    judged: tuple[Judging, ...]
    timed: tuple[Timing, ...]
    pictured: tuple[Picturing, ...]
    tuned: tuple[Tuning, ...]
    parameters: Parameters


def plan(**parameters: Any) -> Plan:
    """Make a plan of the chapter's parameters, and refuse what cannot work before anything is trained.

    Args:
        parameters: Those of `Parameters`, by name.

    Raises:
        ValueError: A value is missing, out of range, or unknown; the message says which and what is allowed.
    """
    p = Parameters(**parameters)
    if len(set(p.seeds)) < len(p.seeds):
        raise ValueError(f"seeds={list(p.seeds)}: give each once")
    if not 0 < 2 * p.universal_rate + p.source_rate <= 0.9:
        given = f"universal_rate={p.universal_rate}, source_rate={p.source_rate}"
        raise ValueError(f"{given}: an image bears one trojan at most; twice the first plus the second must be at most 0.9")
    names = [field.name for field in dataclasses.fields(Classifier) if hasattr(p, field.name)]
    classifiers = tuple(Classifier(seed, **{name: getattr(p, name) for name in names}) for seed in p.seeds)
    if p.data_root:
        digest = fingerprint(p.data_root)
        classifiers = tuple(dataclasses.replace(each, digest=digest) for each in classifiers)
        classifiers[0].images()  # a folder that holds something else, or too little, is refused here

    for method in p.methods:
        check_choice(list(ATTRIBUTION_METHODS), methods=method)
    for solver in p.solvers:
        check_choice([*(name for name in LAYER_SOLVERS if name != "sparsegpt"), NEURONS], solvers=solver)
    for name, levels in (("mild", p.mild), ("strong", p.strong)):
        try:
            _try(classifiers[0], levels)
        except ValueError as error:
            raise ValueError(f"{name}={levels}: {error}") from None
    sets, sizes = {"mild": p.mild, "strong": p.strong}, _chunks(p.samples)
    common: dict[str, Any] = {"n": p.n, "augment": p.augment}
    judged = tuple(
        Judging(each, kind, p.samples, first, size, levels=sets, methods=p.methods, solvers=p.solvers, exact=exact, **common)
        for each in classifiers
        for kind in KINDS
        for first, size, exact in ((at, size, min(size, max(0, p.exact_samples - at))) for at, size in sizes)
    )
    timed = tuple(Timing(each, levels=p.strong, **common) for each in classifiers[: p.timed_seeds])
    of_neurons = [(each, p.samples, p.visualised) for each in classifiers if p.visualised]
    pictured = tuple(Picturing(*each, levels=p.strong, **common) for each in of_neurons)
    tuned = tuple(Tuning(each, p.samples, levels=sets, **common) for each in classifiers[: p.tuned_seeds])
    return Plan(classifiers, judged, timed, pictured, tuned, p)


def _try(classifier: Classifier, levels: Levels) -> None:
    """Prune an untrained network for an image of nothing, so that levels that it cannot have are refused."""
    trace(
        classifier.untrained(0).eval(), torch.zeros(3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8), levels, n=1, solver="magnitude"
    )


def _chunks(samples: int) -> list[tuple[int, int]]:
    """Cut images into jobs (first, count) of at least two, as each is also judged by the trace of another one."""
    firsts = list(range(0, samples - 1, _AT_A_TIME))
    return [(at, end - at) for at, end in zip(firsts, [*firsts[1:], samples], strict=True)]


class Result(NamedTuple):
    """What a run of the chapter gave, as tidy tables."""

    plan: Plan
    learned: pd.DataFrame  # as `train_classifier` gives it
    rows: pd.DataFrame  # as `judge` gives them: a row for each image, variant, set of levels and method
    costs: pd.DataFrame
    overlaps: pd.DataFrame
    layers: pd.DataFrame  # as `time_solvers` gives it
    facets: pd.DataFrame  # as `judge` gives them
    pictures: pd.DataFrame  # as `picture` gives it
    tuning: pd.DataFrame  # as `tune` gives it

    @property
    def means(self) -> pd.DataFrame:
        """Means over the images of a seed: a row for each seed, kind, variant, set of levels and method."""
        return self.rows.groupby(["seed", "kind", "variant", "levels", "method"], sort=False)[SCORES].mean().reset_index()

    def keep(self) -> list[KeptTable]:
        """Make the tables ready to be kept with the record of the run."""
        stages = self.costs.groupby(["seed", "kind", "levels"], sort=False).mean().drop(columns="sample").reset_index()
        alike = self.overlaps.groupby(["seed", "kind", "levels", "alike"], sort=False)["jaccard"].mean().reset_index()
        tables = {"learned": self.learned, "costs": stages, "overlaps": alike, "layers": self.layers, "tuning": self.tuning}
        for name, of_neurons in (("facets", self.facets), ("pictures", self.pictures)):
            if len(of_neurons):
                by = [key for key in ("seed", "kind", "variant", "levels") if key in of_neurons]
                tables[name] = of_neurons.groupby(by, sort=False).mean().drop(columns="sample").reset_index()
        for kind, group in self.means.groupby("kind"):
            tables[str(kind)] = group.drop(columns=["kind", *_NOT_OF[str(kind)]]).reset_index(drop=True)
        return [keep_table(name, table) for name, table in tables.items() if len(table)]


def run(plan: Plan, *, workers: Workers = None) -> Result:
    """Train the classifiers of a plan, trace and explain their images, time both solvers and tune levels.

    Raises:
        JobError: A training or a judgement failed, such as where the trojans work on too few images.
    """
    sealed = {each: each.sealed() for each in plan.classifiers}

    def of_sealed(jobs: Sequence[Any]) -> list[Any]:
        return [dataclasses.replace(job, classifier=sealed[job.classifier]) for job in jobs]

    with pool_of(workers) as pool:
        table = functools.partial(run_table, names=lambda _: {}, workers=pool)
        learned = table(train_classifier, list(sealed.values()))
        results = run_jobs(judge, of_sealed(plan.judged), workers=pool)
        layers = table(time_solvers, of_sealed(plan.timed))
        pictures = table(picture, of_sealed(plan.pictured))
        tuning = table(tune, of_sealed(plan.tuned))
    rows, costs, overlaps, facets = (
        pd.DataFrame([row for each in results for row in cast(list[dict[str, Any]], each[name])])
        for name in ("rows", "costs", "overlaps", "facets")
    )
    return Result(plan, learned, rows, costs, overlaps, layers, facets, pictures, tuning)


def trace_of(plan: Plan, image: Tensor, levels: Literal["mild", "strong"]) -> Trace:
    """Return the trace of an image (3, H, W) of the plan's first network, as its runs make it."""
    model, _ = loaded(plan.classifiers[0].sealed())
    p = plan.parameters
    return trace(model, image, getattr(p, levels), n=p.n, augment=p.augment, seed=p.seeds[0])


def example_maps(plan: Plan, samples: Samples) -> dict[str, Tensor]:
    """Return Saliency maps (m, H, W) of m images on the first network and its traces, by what the network is called on the page."""
    model, _ = loaded(plan.classifiers[0].sealed())
    found = {name: [trace_of(plan, image, name) for image in samples.images] for name in ("mild", "strong")}
    maps = {"dense network": attribute_batch(model, samples.images, "saliency", samples.targets)}
    columns = {"own trace, mild": ("mild", 0), "own trace, strong": ("strong", 0), "other trace, strong": ("strong", 1)}
    for title, (name, shift) in columns.items():
        each = [*found[name][shift:], *found[name][:shift]]
        explained = zip(each, samples.images, samples.targets, strict=True)
        maps[title] = torch.cat([_saliency(*one) for one in explained])
    return maps


def _saliency(own: Trace, image: Tensor, target: Tensor) -> Tensor:
    with own.applied() as pruned:
        return attribute_batch(pruned, image[None], "saliency", target[None])


def example_pictures(plan: Plan, with_trojan: Samples, without: Samples) -> dict[str, Tensor]:
    """Return images (k, 3, H, W) for up to two classes that a trojan makes, by what they are called on the page.

    For each class: an image with the trojan and one without, and visualisations of its neuron on the first network, on the trace of
    the one, and on that of the other, at the strong levels.
    """
    model, _ = loaded(plan.classifiers[0].sealed())
    of_clean = {int(target): number for number, target in reversed([*enumerate(without.targets)])}
    pairs = {int(target): number for number, target in reversed([*enumerate(with_trojan.targets)]) if int(target) in of_clean}
    rows: list[list[Tensor]] = []
    for target, number in sorted(pairs.items())[:2]:
        images = [with_trojan.images[number], without.images[of_clean[target]]]
        shown = [_picture(model, target, plan)]
        for image in images:
            with trace_of(plan, image, "strong").applied() as pruned:
                shown.append(_picture(pruned, target, plan))
        rows.append([*images, *shown])
    titles = ("with a trojan", "without", "dense network", "trace, with", "trace, without")
    return {title: torch.stack(column) for title, column in zip(titles, zip(*rows, strict=True), strict=True)} if rows else {}


def _picture(network: nn.Module, target: int, plan: Plan) -> Tensor:
    return visualise(network, [target], size=IMAGE_SIZE, steps=STEPS, seed=plan.parameters.seeds[0])[0]
