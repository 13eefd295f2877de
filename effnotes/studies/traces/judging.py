"""How explanations of a network and of its traces are judged, image by image: jobs of the chapter on traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings
from effnotes.interpretation.attribution import attribute_batch, edge_map
from effnotes.interpretation.augmentation import Augmentation
from effnotes.interpretation.contribution import critical_neurons
from effnotes.interpretation.tracing import Trace, TraceRequest, trace_batch, traces
from effnotes.metrics.localisation import decoy_auc, deletion, insertion, pixel_auc, pointing_game
from effnotes.pruning.masks import prunable_parameters
from effnotes.studies.traces.classifiers import NUM_SHARED, Classifier, Samples, choose_samples, loaded
from effnotes.studies.traces.names import PLAIN, Kind
from effnotes.studies.traces.neurons import facet_margin, facets, logits_of

Levels = dict[str, float]
# Solvers whose masks depend on the weights alone: one pruned network for all images.
OF_WEIGHTS = ("magnitude", "random")
NEURONS = "contribution"  # no solver of layers: removes neurons; see `critical_neurons`


@settings
class Judging:
    """Some of the images of a classifier that are explained, and by what."""

    classifier: Classifier
    kind: Kind
    samples: Annotated[int, Field(ge=2)]  # in all
    first: Annotated[int, Field(ge=0)]  # of those that this job judges
    count: Annotated[int, Field(ge=2)]
    n: Annotated[int, Field(ge=1)]  # augmented images that a trace is calibrated on
    augment: Augmentation
    levels: dict[str, Levels]  # sets of levels by name
    methods: tuple[str, ...]  # of attribution
    solvers: tuple[str, ...]  # besides sparsegpt; `NEURONS` counts as one
    exact: Annotated[int, Field(ge=0)]  # images, of the first of this job, that are traced by exact OBS as well


@settings
class Timing:
    """A classifier, an image of which is traced by the fast and by the exact solver."""

    classifier: Classifier
    n: int
    augment: Augmentation
    levels: Levels


def judge(job: Judging) -> JobResult:
    """Explain some images by the dense network and by pruned ones, and judge the maps; for `run_jobs`.

    The rows of "rows" hold seed, kind, sample, name, variant, levels, method, auc, decoy_auc, pointing, agreement, kl, and for
    the dense network and the own trace of clean images insertion and deletion. Variants are "dense", "own" (the image's own
    trace), "other" (that of the next image, which has another trojan or class), "global" (of validation images), a solver's name
    (with that solver in place of sparsegpt), and the baselines "untrained" and "another class" (the dense network's map of the
    class that it finds least probable), and "edges". The methods of "other" and "magnitude" are those of `PLAIN`, and all that is
    neither these nor "dense" nor "own" is explained by Saliency alone. Those of "costs" hold sample, levels, the seconds of its
    trace by stage, and its sparsity; those of "overlaps" levels, alike (whether two images have the same trojan or class) and
    jaccard (of the weights that their traces keep). Those of "facets" hold, for images whose class a trojan makes, sample, variant
    ("dense", "own", "global"), levels and margin, as `facet_margin` gives it.
    """
    model, all_images = loaded(job.classifier)
    samples = choose_samples(job.classifier, job.kind, job.samples).take(slice(job.first, job.first + job.count))
    seed, m = job.classifier.seed, len(samples.names)
    rows: list[dict[str, Any]] = []
    dense = logits_of(model, samples.images)
    held, margins = facets(job.classifier, job.samples), list[dict[str, Any]]()

    def enter(variant: str, levels: str, maps: Mapping[str, Tensor], logits: Tensor, chosen: list[int]) -> None:
        rows.extend(_judged(job, model, samples, dense, chosen, variant, levels, maps, logits))

    def explain(network: nn.Module, chosen: list[int], targets: Tensor, methods: Sequence[str]) -> dict[str, Tensor]:
        images, classes = samples.images[chosen], targets[chosen]
        return {method: attribute_batch(network, images, method, classes, seed=seed) for method in methods}

    def ask(network: nn.Module, variant: str, levels: str, chosen: list[int]) -> None:
        targets = {number: target for number in chosen if (target := int(samples.targets[number])) in held}
        margin = {target: facet_margin(network, held[target], target, job.kind) for target in {*targets.values()}}
        for number, target in targets.items():
            margins.append({"sample": job.first + number, "variant": variant, "levels": levels, "margin": margin[target]})

    everyone, short = list(range(m)), ["saliency"]
    plain, rest = ([method for method in job.methods if (method in PLAIN) == yes] for yes in (True, False))
    enter("dense", "", explain(model, everyone, samples.targets, job.methods), dense, everyone)
    ask(model, "dense", "", everyone)
    enter("another class", "", explain(model, everyone, dense.argmin(1), short), dense, everyone)
    enter("edges", "", {"edges": edge_map(samples.images)}, dense, everyone)
    untrained = job.classifier.untrained(seed + 1).eval()
    maps = explain(untrained, everyone, samples.targets, short)
    enter("untrained", "", maps, logits_of(untrained, samples.images), everyone)

    by_weights = [solver for solver in job.solvers if solver in OF_WEIGHTS]
    asked = [(name, solver) for name in job.levels for solver in by_weights]
    shared = traces(model, samples.images[0], [TraceRequest(job.levels[name], solver) for name, solver in asked], n=1, seed=seed)
    many = all_images.data.splits["val"].images[:NUM_SHARED]
    shared += traces(model, samples.images[0], [TraceRequest(levels) for levels in job.levels.values()], views=many)
    for (name, variant), trace in zip([*asked, *((name, "global") for name in job.levels)], shared, strict=True):
        with trace.applied() as pruned:
            maps = explain(pruned, everyone, samples.targets, plain if variant == "magnitude" else short)
            enter(variant, name, maps, logits_of(pruned, samples.images), everyone)
            if variant == "global":
                ask(pruned, variant, name, everyone)

    costs: list[dict[str, Any]] = []
    own: dict[str, list[Trace]] = {name: [] for name in job.levels}
    solvers = ["sparsegpt", *(each for each in job.solvers if each not in (*OF_WEIGHTS, NEURONS))]
    traced = _traced(job, model, samples.images, solvers)
    for number, exact in enumerate(_traced(job, model, samples.images[: job.exact], ["exact_obs_kernel"])):
        traced[number] += exact
    for number in everyone:
        for name, solver, trace in traced[number]:
            # The image before it is judged by the same pruned network: its other trace.
            chosen = [number, (number - 1) % m] if solver == "sparsegpt" else [number]
            with trace.applied() as pruned:
                maps = explain(pruned, chosen, samples.targets, plain if solver == "sparsegpt" else short)
                logits = logits_of(pruned, samples.images[chosen])
                if solver == "sparsegpt":
                    more = explain(pruned, [number], samples.targets, rest)
                    ask(pruned, "own", name, [number])
            # Outside, as the dense network is the judge of insertion and deletion.
            if solver != "sparsegpt":
                enter(solver, name, maps, logits, chosen)
                continue
            mine, others = ({method: found[[place]] for method, found in maps.items()} for place in (0, 1))
            enter("own", name, mine | more, logits[[0]], chosen[:1])
            enter("other", name, others, logits[[1]], chosen[1:])
            own[name].append(trace)
            costs.append({"sample": job.first + number, "levels": name, **trace.seconds, "sparsity": trace.sparsity})
        for name, levels in job.levels.items() if NEURONS in job.solvers else ():
            pruned = critical_neurons(model, samples.images[number], levels, target=int(samples.targets[number]))
            logits = logits_of(pruned, samples.images[[number]])
            enter(NEURONS, name, explain(pruned, [number], samples.targets, short), logits, [number])
    told = {"seed": seed, "kind": job.kind}
    overlaps = [told | row for name, each in own.items() for row in _overlaps(name, each, samples.names)]
    costs, margins = ([told | row for row in each] for each in (costs, margins))
    return {"rows": rows, "costs": costs, "overlaps": overlaps, "facets": margins}


def time_solvers(job: Timing) -> JobResult:
    """Trace one image by both solvers: rows of seed, solver, columns (of the layer's matrix) and `Trace.layers`; for `run_jobs`."""
    model, _ = loaded(job.classifier)
    image = choose_samples(job.classifier, "clean", 1).images[0]
    solvers = ["sparsegpt", "exact_obs_kernel"]
    requests = [TraceRequest(job.levels, each) for each in solvers]
    found = traces(model, image, requests, n=job.n, augment=job.augment, seed=job.classifier.seed)
    columns = {name: weight[0].numel() for name, weight in prunable_parameters(model).items()}
    told = [trace.layers.assign(solver=solver, seed=job.classifier.seed) for trace, solver in zip(found, solvers, strict=True)]
    table = pd.concat(told).assign(columns=lambda rows: [columns[f"{layer}.weight"] for layer in rows["layer"]])
    return {"rows": table[table["level"] > 0].to_dict("records")}


def _traced(job: Judging, model: nn.Module, images: Tensor, solvers: list[str]) -> list[list[tuple[str, str, Trace]]]:
    """Traces of each image, with the name of their levels and their solver."""
    if not len(images):
        return []
    asked = [(name, solver) for solver in solvers for name in job.levels]
    requests = [TraceRequest(job.levels[name], solver) for name, solver in asked]
    found = trace_batch(model, images, requests, n=job.n, augment=job.augment, seed=job.classifier.seed)
    return [[(*told, trace) for told, trace in zip(asked, each, strict=True)] for each in found]


def _judged(
    job: Judging,
    model: nn.Module,
    samples: Samples,
    dense: Tensor,
    chosen: list[int],
    variant: str,
    levels: str,
    maps: Mapping[str, Tensor],
    logits: Tensor,
) -> Iterator[dict[str, Any]]:
    regions, decoys = samples.regions[chosen], samples.decoys[chosen]
    agreement = logits.argmax(1) == dense[chosen].argmax(1)
    kl = F.kl_div(logits.log_softmax(1), dense[chosen].log_softmax(1), reduction="none", log_target=True).sum(1)
    for method, found in maps.items():
        scores = {
            "auc": pixel_auc(found, regions),
            "decoy_auc": decoy_auc(found, regions, decoys),
            "pointing": pointing_game(found, regions),
            "agreement": agreement.float().numpy(),
            "kl": kl.numpy(),
        }
        if job.kind == "clean" and variant in ("dense", "own"):
            for score in (insertion, deletion):
                scores[score.__name__] = score(
                    lambda images: logits_of(model, images).softmax(1), samples.images[chosen], found, samples.targets[chosen]
                )
        for place, number in enumerate(chosen):
            told = {"seed": job.classifier.seed, "kind": job.kind, "sample": job.first + number, "name": samples.names[number]}
            numbers = {name: float(values[place]) for name, values in scores.items() if not np.isnan(values[place])}
            yield told | {"variant": variant, "levels": levels, "method": method} | numbers


def _overlaps(levels: str, found: list[Trace], names: list[str]) -> Iterator[dict[str, Any]]:
    kept = [torch.cat([mask.flatten() for mask in trace.masks.values()]) for trace in found]
    for one in range(len(kept)):
        for other in range(one):
            jaccard = float((kept[one] & kept[other]).sum() / (kept[one] | kept[other]).sum())
            yield {"levels": levels, "alike": names[one] == names[other], "jaccard": jaccard}
