"""Edits of facts that a reader names, one at a time, by each method at the learning rate that was chosen for it on other edits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings, to_json
from effnotes.datasets.worlds.draws import edit_task
from effnotes.datasets.worlds.forms import FORMS
from effnotes.datasets.worlds.graph import SO, Facts, Integers
from effnotes.finetuning.editing.edit import edit
from effnotes.finetuning.editing.scores import evaluate_edit
from effnotes.models.answers import answer
from effnotes.studies.editing.bases import loaded
from effnotes.studies.editing.settings import Base, Method, Rate
from effnotes.studies.editing.tables import GROUPS
from effnotes.studies.protocol import Workers, run_table


@settings
class OwnEdit:
    """One fact that gets a named new object, in one model by one method."""

    base: Base
    subject: int
    relation: int
    object: int  # the new one
    method: Method
    learning_rate: Rate
    steps: int = Field(ge=1)
    retain_coverage: float = Field(ge=0, le=0.5)
    seed: int = Field(ge=0)


def make_own_edit(run: OwnEdit) -> JobResult:
    """Make the edit and ask; for `run_jobs`, see `own_edits`."""
    world, model = loaded(run.base)
    old = int(world.graph.objects[run.subject, run.relation])
    fact = Facts.of(SO, np.array([run.subject]), run.relation, old)
    task = edit_task(world, fact, np.array([run.object]), retain_coverage=run.retain_coverage, seed=run.seed)
    made = edit(model, task, run.method.recipe(run.learning_rate, (run.steps,)), seed=run.seed)
    scores = evaluate_edit(model, made.model, task).scores
    # Of all objects that sentences give the relation, which is the most probable answer to the prompt of the edit?
    known, form = np.flatnonzero(world.in_use[run.relation]), FORMS[task.test["edited"].form[0]]
    every = Facts.of(SO, np.full_like(known, run.subject), run.relation, known)
    probability = answer(made.model, world.encode(every, form)).probability
    row: dict[str, float] = {"relation": run.relation, "old": old, "new": run.object, "answered": int(known[probability.argmax()])}
    row |= {"probability": float(probability[known == run.object][0]), **{name: scores.get(name, math.nan) for name in GROUPS}}
    return {"rows": [row]}


def own_edits(
    edits: tuple[Facts, Integers], bases: Sequence[Base], rates: Mapping[Method, float], *, workers: Workers = None, **how: Any
) -> pd.DataFrame:
    """Make each edit of a reader by itself, in every model and by every method.

    Args:
        edits: The facts as they are, and their new objects, as `read_edits` gives them.
        bases: Models that know the facts.
        rates: Learning rates by method.
        workers: As for `run_jobs`.
        how: steps, retain_coverage and seed, as for `OwnEdit`.

    Returns:
        A row for each edit, method and model: subject, method, world (seed of the model), relation, old, new and answered
        (numbers of objects; the most probable one after the edit), probability (of the new object), and the share kept in each of
        `GROUPS`.
    """
    triples = [(int(s), int(r), int(new)) for (_, s, r, _), new in zip(edits[0].rows(), edits[1], strict=True)]
    sealed = [base.sealed() for base in bases]
    jobs = [OwnEdit(base, *triple, method, rates[method], **how) for triple in triples for method in rates for base in sealed]

    def names(job: OwnEdit) -> dict[str, Any]:
        return {"subject": job.subject, "method": job.method.name, "world": job.base.world_seed}

    return run_table(make_own_edit, jobs, names=names, order=lambda job: to_json(job.base), workers=workers)
