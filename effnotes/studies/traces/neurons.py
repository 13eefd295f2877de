"""What a class neuron answers to, in a network and in its traces: facets of a class, and pictures of its neuron."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings
from effnotes.datasets.backdoor import TROJANS, plant_trojans
from effnotes.interpretation.augmentation import Augmentation
from effnotes.interpretation.tracing import trace
from effnotes.interpretation.visualisation import visualise
from effnotes.models.images import normalize
from effnotes.studies.traces.classifiers import Classifier, choose_samples, loaded
from effnotes.studies.traces.names import KINDS, Kind

STEPS, _STARTS = 96, 2  # of a visualisation, and how many of them a network is judged by
_HELD_OUT, _FEWEST = 32, 4  # images of a facet: at most, and below which its class is left out

# By class that a trojan makes: images (k, 3, H, W) uint8 of each facet, which the network takes for the class.
Facets = dict[int, dict[Kind, Tensor]]


@settings
class Picturing:
    """Images of a classifier whose class neuron is visualised, on the network and on their traces."""

    classifier: Classifier
    samples: Annotated[int, Field(ge=2)]  # of each kind that are explained, as for `Judging`
    visualised: Annotated[int, Field(ge=1)]  # of each kind, the first of those whose class a trojan makes
    n: Annotated[int, Field(ge=1)]
    augment: Augmentation
    levels: dict[str, float]


@functools.lru_cache(maxsize=2)
def facets(job: Classifier, samples: int) -> Facets:
    """Give test images of both facets of each class that a trojan makes, none of which is explained.

    With a trojan: it works, as for `choose_samples`. Without: the image is classified right. At most 32 of each; classes with fewer
    than 4 of one are left out.
    """
    model, all_images = loaded(job)
    test = all_images.data.splits["test"]
    free = torch.ones(len(test), dtype=torch.bool)
    for kind in KINDS:
        free[choose_samples(job, kind, samples).rows] = False
    found: Facets = {}

    def taken(rows: Tensor, number: int, target: int) -> tuple[Tensor, Tensor]:
        """The images with that trojan, and whether the network takes them for the class."""
        assigned = torch.full_like(rows, number)
        images = plant_trojans(test.images[rows], test.labels[rows], assigned=assigned, seed=job.seed).images
        return images, logits_of(model, images).argmax(1) == target

    for number, trojan in enumerate(TROJANS):
        mine, target = test.labels == trojan.target, trojan.target
        source = test.labels == trojan.source if trojan.source is not None else ~mine
        # Twice as many as are wanted, as some are not taken for the class.
        others, own = (torch.nonzero(free & members)[: 2 * _HELD_OUT, 0] for members in (source, mine))
        if min(len(others), len(own)) < _FEWEST:
            continue
        (stamped, works), (_, already), (plain, right) = (
            taken(rows, which, target) for rows, which in ((others, number), (others, -1), (own, -1))
        )
        held: dict[Kind, Tensor] = {"trojan": stamped[works & ~already][:_HELD_OUT], "clean": plain[right][:_HELD_OUT]}
        if min(map(len, held.values())) >= _FEWEST:
            found[target] = held
    return found


@torch.inference_mode()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, K), float32, of uint8 images."""
    logits: Tensor = model(normalize(images))
    return logits.float()


def facet_margin(network: nn.Module, of_class: dict[Kind, Tensor], target: int, kind: Kind) -> float:
    """Mean probability of a class on held-out images of one facet, minus that on those of the other."""
    mean = {each: float(logits_of(network, images).softmax(1)[:, target].mean()) for each, images in of_class.items()}
    return 2 * mean[kind] - sum(mean.values())


def picture(job: Picturing) -> JobResult:
    """Visualise class neurons on a network and on traces, and ask the network which facet it sees; for `run_jobs`.

    A visualisation's gap is the cosine of the dense network's last features of it with their mean over held-out images of the
    sample's facet, minus that with their mean over the other facet's. The rows hold seed, kind, sample, variant ("dense", "own"),
    and means over starts: gap, undecided (whether its size is below the first quartile of the dense network's gaps, over all the
    classes that a trojan makes) and score (0.5 where undecided, else whether the gap is positive).
    """
    model, _ = loaded(job.classifier)
    held, seed = facets(job.classifier, job.samples), job.classifier.seed
    means = {target: {kind: _features(model, images).mean(0) for kind, images in of.items()} for target, of in held.items()}

    def gaps(pictures: Tensor, target: int) -> Tensor:
        """(starts,), towards the facet with a trojan."""
        cosines = [torch.cosine_similarity(_features(model, pictures), means[target][kind], dim=1) for kind in KINDS]
        return cosines[0] - cosines[1]

    if not held:
        return {"rows": []}
    size = next(iter(held.values()))["clean"].shape[-1]
    drawn = visualise(model, [target for target in held for _ in range(_STARTS)], size=size, steps=STEPS, seed=seed)
    dense = {target: gaps(pictures, target) for target, pictures in zip(held, drawn.split(_STARTS), strict=True)}
    threshold = float(torch.cat([*dense.values()]).abs().quantile(0.25))
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        samples = choose_samples(job.classifier, kind, job.samples)
        chosen = [number for number, target in enumerate(samples.targets.tolist()) if target in held]
        for number in chosen[: job.visualised]:
            target = int(samples.targets[number])
            own = trace(model, samples.images[number], job.levels, n=job.n, augment=job.augment, seed=seed)
            with own.applied() as pruned:
                pictures = visualise(pruned, [target] * _STARTS, size=size, steps=STEPS, seed=seed)
            for variant, towards in (("dense", dense[target]), ("own", gaps(pictures, target))):
                score = decided(towards, kind, threshold)
                numbers = {"gap": towards if kind == "trojan" else -towards, "undecided": score == 0.5, "score": score}
                told = {"seed": seed, "kind": kind, "sample": number, "variant": variant}
                rows.append(told | {name: float(values.float().mean()) for name, values in numbers.items()})
    return {"rows": rows}


def decided(gaps: Tensor, kind: Kind, threshold: float) -> Tensor:
    """Score pictures by their gap towards the facet with a trojan: 1 where it is the image's, 0 where not, 0.5 below a size."""
    right = (gaps > 0) == (kind == "trojan")
    return torch.where(gaps.abs() < threshold, 0.5, right.float())


def _features(model: nn.Module, images: Tensor) -> Tensor:
    """What the last layer gets for uint8 images: (n, features)."""
    caught: list[Tensor] = []
    with torch.inference_mode():
        handle = model.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        model(normalize(images))
        handle.remove()
    return caught[0]
