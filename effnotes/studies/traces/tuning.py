"""What levels that are tuned on known trojans are worth on other images: a job of the chapter on traces."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field
from torch import nn

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings
from effnotes.interpretation.attribution import attribute_batch
from effnotes.interpretation.augmentation import Augmentation
from effnotes.interpretation.search import SolvedLevels
from effnotes.interpretation.tracing import Trace, TraceRequest, trace_batch
from effnotes.metrics.localisation import pixel_auc
from effnotes.studies.traces.classifiers import Classifier, Samples, choose_samples, loaded
from effnotes.studies.traces.judging import Levels
from effnotes.studies.traces.names import GROUPS

MIN_AGREEMENTS = {"tuned": 0.9, "tuned freely": 0.0}


@settings
class Tuning:
    """A classifier whose levels are tuned on as many images with a trojan as they are then judged on, and others."""

    classifier: Classifier
    samples: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=1)]
    augment: Augmentation
    levels: dict[str, Levels]  # that nobody tuned, by name


def tune(job: Tuning) -> JobResult:
    """Search levels for the pixel AUC of Saliency on images with a trojan, and judge them on others; for `run_jobs`.

    Judged are the same images as by `judge`, each on its own trace. The rows hold seed, levels ("dense", the names of the given
    ones, and those of `MIN_AGREEMENTS`), auc and agreement; for tuned levels also the level of each of `GROUPS`, and tuned_auc and
    tuned_agreement, on the images that they were tuned on.
    """
    model, _ = loaded(job.classifier)
    both = choose_samples(job.classifier, "trojan", 2 * job.samples)
    judged, others = both.take(slice(job.samples)), both.take(slice(job.samples, None))
    seed = job.classifier.seed
    solved = SolvedLevels(model, others.images, GROUPS, n=job.n, augment=job.augment, seed=seed)
    found = {
        name: solved.search(lambda pruned, number: _auc(pruned, others, number), least) for name, least in MIN_AGREEMENTS.items()
    }
    levels: dict[str, float | Levels] = {"dense": 0.0, **job.levels, **{name: each.levels for name, each in found.items()}}
    requests = [TraceRequest(each) for each in levels.values()]
    made = trace_batch(model, judged.images, requests, n=job.n, augment=job.augment, seed=seed)
    measured = np.array([[_measured(each, judged, number) for each in own] for number, own in enumerate(made)]).mean(axis=0)
    rows: list[dict[str, Any]] = []
    for name, (auc, agreement) in zip(levels, measured.tolist(), strict=True):
        rows.append({"seed": seed, "levels": name, "auc": auc, "agreement": agreement})
        if name in found:
            rows[-1] |= {"tuned_auc": found[name].score, "tuned_agreement": found[name].agreement, **found[name].levels}
    return {"rows": rows}


def _auc(model: nn.Module, samples: Samples, number: int) -> float:
    """Pixel AUC of Saliency of one image."""
    maps = attribute_batch(model, samples.images[number, None], "saliency", samples.targets[number, None])
    return float(pixel_auc(maps, samples.regions[number, None])[0])


def _measured(trace: Trace, samples: Samples, number: int) -> tuple[float, float]:
    with trace.applied() as pruned:
        return _auc(pruned, samples, number), float(trace.agreement)
