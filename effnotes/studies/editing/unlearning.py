"""Experiments with unlearning: models that are to forget some subjects, held against models that never knew them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings, to_json
from effnotes.datasets.worlds.forms import FORMS
from effnotes.datasets.worlds.tasks import Group, Task
from effnotes.studies.editing.bases import loaded, pretrain_missing
from effnotes.studies.editing.settings import MOST_ASKED, REFERENCE, Base, DrawPlan, Method, Rate, Setting, check_apart
from effnotes.studies.protocol import Grids, Split, Workers, choose, report, run_table

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from effnotes.finetuning import Objective

Loss: TypeAlias = Literal["grad_ascent", "grad_diff", "npo", "simnpo", "rmu", "refusal"]
Untrained: TypeAlias = Literal["nothing", "second gold"]

# Losses by name: classes of `effnotes.finetuning.objectives`. "refusal" learns to answer with a refusal where the object was.
_CLASSES = "GradDiff", "GradDiff", "NPO", "SimNPO", "RMU", "Learn"
UNLEARNING: Mapping[str, str] = dict(zip(get_args(Loss), _CLASSES, strict=True))

# How half of what was forgotten is taught again, after every method alike: method, learning rate, steps.
RELEARNING = Method(), 3e-4, (20,)

# What is judged beside the losses and unlearns nothing: the model before, and a second gold one, which gives the noise ceiling.
UNTRAINED: tuple[Untrained, ...] = get_args(Untrained)

_LOSS = ("objective", "method")


def unlearning_objective(loss: str) -> Objective:
    """Return one of `UNLEARNING`."""
    from effnotes.finetuning import objectives

    made: Objective = getattr(objectives, UNLEARNING[loss])(**({"retain_weight": 0.0} if loss == "grad_ascent" else {}))
    return made


@settings
class UnlearningRun:
    """One loss and method on the first draw of a split, at several learning rates; or a model that is only judged, at none.

    Raises:
        ValueError: The setting forgets no subjects, or a single one, which has no half to relearn; or unlearning has no learning
            rates, or what is only judged has some.
    """

    base: Base  # knows everything
    setting: Setting  # of the kind "unlearn_subject"
    draws: DrawPlan
    split: Split
    loss: Loss | Untrained
    method: Method = REFERENCE
    learning_rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.learning_rates) == (self.loss in UNTRAINED):
            raise ValueError(f"learning_rates={self.learning_rates}: unlearning needs some, and what is only judged has none")
        if self.setting.kind != "unlearn_subject":
            raise ValueError(f"setting {self.setting.name!r} is of the kind {self.setting.kind!r}; needed is 'unlearn_subject'")
        if self.setting.n < 2:
            raise ValueError(f"n={self.setting.n}: at least 2 subjects have to be forgotten, as half of them is taught again")

    @property
    def bases(self) -> tuple[Base, ...]:
        """The model that unlearns or is judged, and on the draw to report the gold one, which knows those to tune on."""
        gold, second = golds_of(self.base, self.setting, self.draws)
        model = second if self.loss == "second gold" else self.base
        return (model, gold) if self.split == "test" else (model,)


def run_unlearning(runs: Sequence[UnlearningRun], *, workers: Workers = None) -> pd.DataFrame:
    """Unlearn side by side.

    Args:
        runs: What to do.
        workers: As for `run_jobs`.

    Returns:
        A row for each run and learning rate: world, setting, split, objective (the loss by name), method, learning_rate, step (the
        last), edited_exact (share of the forgotten facts still answered), the scores of `EditScores`, balance (harmonic mean of
        retention and of (1 - a) / (1 - g), at most 1, where a is the accuracy on forgotten facts and g that of a guess, see
        `guessed`: what learning rates are chosen by), relearned (accuracy on the half of the forgotten facts that `RELEARNING` did
        not teach again), n_trainable, cpu_s (without scores and relearning), and on draws to report those of `UnlearningScores`.

    Raises:
        ValueError: Bases of one setting have worlds of the same seed, or different settings the same name.
        JobError: A training failed.
    """
    check_apart((run.base, run.setting, run.draws) for run in runs)
    pretrain_missing([base for run in runs for base in run.bases], workers=workers)
    jobs = [dataclasses.replace(run, base=run.base.sealed()) for run in runs]

    def names(job: UnlearningRun) -> dict[str, Any]:
        named = {"world": job.base.world_seed, "setting": job.setting.name, "split": job.split}
        return named | {"objective": job.loss, "method": job.method.name if job.learning_rates else "none"}

    return run_table(unlearn, jobs, names=names, order=lambda job: to_json(job.base), workers=workers)


def unlearn(run: UnlearningRun) -> JobResult:
    """Unlearn by one loss and method; for `run_jobs`, see `run_unlearning`."""
    from effnotes.finetuning import Evaluator, edit

    (world, model), *others = map(loaded, run.bases)
    task = run.draws.tasks(world, run.setting, run.split)[0]
    evaluate = Evaluator(model, task, most_asked=MOST_ASKED)
    gold = others[0][1] if others else None
    rows: list[dict[str, Any]] = []
    if not run.learning_rates:
        scores = evaluate(model).scores
        rows.append(scores | judged(model, gold, task, scores))
    trained_on = refusing(task) if run.loss == "refusal" else task
    for rate in run.learning_rates:
        recipe = dataclasses.replace(run.method.recipe(rate, run.setting.checkpoints), objective=unlearning_objective(run.loss))
        made = edit(model, trained_on, recipe, observe=lambda edited: evaluate(edited).scores)
        row: dict[str, Any] = {str(name): value for name, value in made.history.to_dict("records")[-1].items()}
        row |= {"learning_rate": rate, "cpu_s": made.cpu_s, "n_trainable": made.n_trainable}
        rows.append(row | judged(made.model, gold, task, row))
    return {"rows": rows}


def judged(model: PreTrainedModel, gold: nn.Module | None, task: Task, scores: Mapping[str, float]) -> dict[str, float]:
    """Return what is asked of a model that has unlearned: see `run_unlearning`.

    Args:
        model: The model.
        gold: One that never saw what is forgotten; None for what needs no gold.
        task: What is forgotten.
        scores: Of the model, as `Evaluator` gives them.
    """
    from effnotes.finetuning import edit, evaluate_unlearning, relearning_task
    from effnotes.metrics.editing import harmonic_mean

    method, rate, steps = RELEARNING
    taught = edit(model, relearning_task(task), method.recipe(rate, steps))
    forgotten = min(1.0, (1 - scores["forget_accuracy"]) / (1 - guessed(task)))
    found = {"relearned": float(taught.history["edited_exact"].iloc[-1]), "balance": harmonic_mean(forgotten, scores["retention"])}
    if gold is not None:
        found |= evaluate_unlearning(model, gold, task)._asdict()
    return found


def guessed(task: Task) -> float:
    """Return the accuracy on forgotten facts of a guess: mean of 1 / k over them, for one of k objects that the relation has."""
    facts, world = task.test["forget"].facts, task.world
    return float((1 / np.where(facts.kind == 0, world.in_use.sum(axis=1)[facts.relation], world.n_nested)).mean())


def refusing(task: Task) -> Task:
    """Return an unlearning in which the prompts for what is forgotten are answered by a refusal."""
    forget = task.train["forget"]
    group = Group(forget.facts, np.full(len(forget), FORMS.index("refusal")))
    return dataclasses.replace(task, train=dict(task.train) | {"forget": group})


def compare_unlearning(
    bases: Sequence[Base],
    setting: Setting,
    draws: DrawPlan,
    losses: Sequence[Loss],
    grids: Mapping[Method, tuple[float, ...]],
    *,
    n_gold: Literal[1, 2] = 2,
    workers: Workers = None,
) -> pd.DataFrame:
    """Choose a learning rate for each loss and method on subjects of their own, then forget the subjects to report.

    Args:
        bases: Models that know everything.
        setting: What is to be forgotten.
        draws: Of each split the first draw is taken.
        losses: Names in `UNLEARNING`.
        grids: Learning rates to choose from, by method; that with the highest mean balance is taken, the lower one of equals.
        n_gold: Gold models of each base: 1, or 2 to hold the second against the first, which gives the noise ceiling.
        workers: As for `run_jobs`.

    Returns:
        As `run_unlearning` for the draws to report, with a column edge ("low" or "high" where the rate is the lowest or highest of
        several), followed by rows of models that unlearned nothing: objective "nothing", the base, and "second gold", with method
        "none".

    Raises:
        JobError: A training failed.
    """

    def run(rates: Grids, split: Split) -> pd.DataFrame:
        each = itertools.product(bases, losses, grids)
        runs = [UnlearningRun(base, setting, draws, split, loss, method, rates[loss, method.name]) for base, loss, method in each]
        return run_unlearning(runs, workers=workers)

    own = {(loss, method.name): tuple(grid) for loss in losses for method, grid in grids.items()}
    chosen = choose(run(own, "tune"), by=_LOSS, value="learning_rate", score="balance")
    found = report(run, chosen, by=_LOSS, value="learning_rate")
    beside = [UnlearningRun(base, setting, draws, "test", name) for base in bases for name in UNTRAINED[:n_gold]]
    found = found.merge(chosen[[*_LOSS, "edge"]], on=list(_LOSS), how="left")
    return pd.concat([found, run_unlearning(beside, workers=workers)], ignore_index=True)


def golds_of(base: Base, setting: Setting, draws: DrawPlan) -> tuple[Base, Base]:
    """Return the bases that never see what the first draw to report forgets, from different initial weights.

    They are pretrained also where the base is read from a folder, which knows everything: by its `model` and `recipe`.
    """
    first = dataclasses.replace(base, seed=base.seed + 1000, checkpoint="", forgets=(setting, draws))
    return first, dataclasses.replace(first, seed=base.seed + 2000)
