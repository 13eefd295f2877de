"""Experiments with unlearning: models that are to forget some subjects, held against models that never knew them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import nn

from effnotes.core.errors import nearest
from effnotes.core.jobs import JobResult, run_jobs
from effnotes.datasets.worlds import FORMS, Group, Task
from effnotes.finetuning.editing.edit import EditRecipe, edit
from effnotes.finetuning.editing.scores import Evaluator, evaluate_unlearning, relearning_task
from effnotes.finetuning.objectives import NPO, RMU, GradAscent, GradDiff, Learn, Objective, SimNPO
from effnotes.metrics.editing import harmonic_mean
from effnotes.studies.editing.edits import (
    MOST_ASKED,
    Base,
    DrawPlan,
    Method,
    Setting,
    Split,
    Workers,
    check_apart,
    loaded,
    models_folder,
    pretrain_missing,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNLEARNING: Mapping[str, Objective] = {
    "grad_ascent": GradAscent(),
    "grad_diff": GradDiff(),
    "npo": NPO(),
    "simnpo": SimNPO(),
    "rmu": RMU(),
    "refusal": Learn(),
}
"""Losses by name. "refusal" learns to answer with a refusal where the forgotten object was."""

RELEARNING = EditRecipe(learning_rate=3e-4, checkpoints=(20,))
"""How half of what was forgotten is taught again, after every method alike."""


def unlearning_objective(name: str) -> Objective:
    """Return one of `UNLEARNING`.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in UNLEARNING:
        raise ValueError(f"there is no unlearning {name!r}.{nearest(name, UNLEARNING)} There are: {', '.join(UNLEARNING)}.")
    return UNLEARNING[name]


@dataclass(frozen=True)
class UnlearningRun:
    """One loss and one method on the first draw of a split, at several learning rates.

    Raises:
        ValueError: The setting forgets no subjects, or a single one, which has no half to relearn; there are no learning rates; the
            gold model knows what is forgotten; or as for `EditRecipe`.
    """

    base: Base
    setting: Setting  # of the kind "unlearn_subject"
    draws: DrawPlan
    split: Split
    loss: str  # a name in `UNLEARNING`
    method: Method
    learning_rates: tuple[float, ...]
    gold: Base | None = None  # trained without what is forgotten; None skips what needs it

    def __post_init__(self) -> None:
        unlearning_objective(self.loss)
        if self.setting.kind != "unlearn_subject":
            raise ValueError(f"setting {self.setting.name!r} is of the kind {self.setting.kind!r}; needed is 'unlearn_subject'")
        if self.setting.n < 2:
            raise ValueError(f"n={self.setting.n}: at least 2 subjects have to be forgotten, as half of them is taught again")
        if not self.learning_rates:
            raise ValueError("learning_rates=(): needed is at least one")
        for rate in self.learning_rates:
            self.method.recipe(rate, self.setting.checkpoints)
        if self.gold is not None:
            if self.split != "test":
                raise ValueError(
                    "a gold model has never seen the first draw to report, but knows those to tune on; leave it out there"
                )
            _check_gold(self.gold, self.base, self.setting, self.draws)


def _check_gold(gold: Base, base: Base, setting: Setting, draws: DrawPlan) -> None:
    if (dict(gold.settings), gold.facts) != (dict(base.settings), base.facts):
        raise ValueError("the gold model is of another world than the base; take the base itself, with `forgets`")
    # What decides which subjects the first draw to report forgets.
    wanted = (setting.kind, setting.n, draws.tune, draws.seed)
    found = None if gold.forgets is None else (gold.forgets[0].kind, gold.forgets[0].n, gold.forgets[1].tune, gold.forgets[1].seed)
    if found != wanted:
        raise ValueError(
            f"the gold model has to leave out the first draw to report of setting {setting.name!r} with {draws}, but its `forgets` "
            f"is {gold.forgets}"
        )


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
        not teach again), n_trainable, cpu_s (scores included, relearning not), and with a gold model those of `UnlearningScores`.

    Raises:
        ValueError: Bases of one setting have worlds of the same seed, or different settings the same name.
        JobError: A training failed.
    """
    check_apart((run.base, run.setting, run.draws) for run in runs)
    jobs = [
        {
            "base": run.base.to_json(),
            "setting": run.setting.to_json(),
            "draws": dataclasses.asdict(run.draws),
            "split": run.split,
            "loss": run.loss,
            "method": dataclasses.asdict(run.method),
            "learning_rates": list(run.learning_rates),
            "gold": None if run.gold is None else run.gold.to_json(),
            "models": models_folder(),
        }
        for run in runs
    ]
    pretrain_missing([base for run in runs for base in (run.base, run.gold) if base is not None], workers=workers)
    order = sorted(range(len(jobs)), key=lambda index: json.dumps(jobs[index]["base"], sort_keys=True))
    results = run_jobs(unlearn, [jobs[index] for index in order], workers=workers)
    rows: dict[int, list[dict[str, Any]]] = {}
    for index, result in zip(order, results, strict=True):
        run = runs[index]
        names = {"world": run.base.settings.get("seed", 0), "setting": run.setting.name, "split": run.split}
        names |= {"objective": run.loss, "method": run.method.name}
        rows[index] = [names | row for row in result["rows"]]  # type: ignore[union-attr, operator]
    return pd.DataFrame([row for index in range(len(jobs)) for row in rows[index]])


def unlearn(
    *,
    base: dict[str, Any],
    setting: dict[str, Any],
    draws: dict[str, int],
    split: Split,
    loss: str,
    method: dict[str, Any],
    learning_rates: list[float],
    gold: dict[str, Any] | None,
    models: str,
) -> JobResult:
    """Unlearn by one loss and method; for `run_jobs`, see `run_unlearning`."""
    world, model = loaded(base, models)
    own = Setting.from_json(setting)
    task = DrawPlan(**draws).tasks(world, own, split)[0]
    trained_on = refusing(task) if loss == "refusal" else task
    evaluate = Evaluator(model, task, most_asked=MOST_ASKED)
    never_knew = None if gold is None else loaded(gold, models)[1]
    rows = []
    for rate in learning_rates:
        recipe = dataclasses.replace(Method(**method).recipe(rate, own.checkpoints), objective=unlearning_objective(loss))
        made = edit(model, trained_on, recipe, observe=lambda edited: evaluate(edited).scores)
        row: dict[str, Any] = {str(name): value for name, value in made.history.to_dict("records")[-1].items()}
        row |= {"learning_rate": rate, "cpu_s": made.cpu_s, "n_trainable": made.n_trainable}
        rows.append(row | judged(made.model, never_knew, task, row))
    return {"rows": rows}


def judged(model: PreTrainedModel, gold: nn.Module | None, task: Task, scores: Mapping[str, float]) -> dict[str, float]:
    """Return what is asked of a model that has unlearned: see `run_unlearning`.

    Args:
        model: The model.
        gold: One that never saw what is forgotten; None for what needs no gold.
        task: What is forgotten.
        scores: Of the model, as `Evaluator` gives them.
    """
    taught = edit(model, relearning_task(task), RELEARNING)
    forgotten = min(1.0, (1 - scores["forget_accuracy"]) / (1 - guessed(task)))
    found = {
        "relearned": float(taught.history["edited_exact"].iloc[-1]),
        "balance": harmonic_mean(forgotten, scores["retention"]),
    }
    if gold is not None:
        held = evaluate_unlearning(model, gold, task)
        plain = {each.name: getattr(held, each.name) for each in dataclasses.fields(held)}
        quality = plain.pop("quality")
        found |= {"ks_statistic": quality.statistic, "forget_quality_log10_p": quality.log10_p}
        found |= {name: float(value) for name, value in plain.items()}
    return found


def guessed(task: Task) -> float:
    """Return the accuracy on forgotten facts of a guess: mean of 1 / k over them, for one of k objects that the relation has."""
    facts, world = task.test["forget"].facts, task.world
    k = np.where(facts.kind == 0, world.in_use.sum(axis=1)[facts.relation], world.n_nested)
    return float((1 / k).mean())


def judge_bases(
    bases: Mapping[str, Base], gold: Base, setting: Setting, draws: DrawPlan, *, workers: Workers = None
) -> pd.DataFrame:
    """Judge models that have unlearned nothing, such as the model before and a second gold one, which gives the noise ceiling.

    Args:
        bases: Models by name, all of one world.
        gold: The model that they are held against.
        setting: What is to be forgotten, its first draw to report.
        draws: As for `run_unlearning`.
        workers: As for `run_jobs`.

    Returns:
        A row for each: world, setting, objective (its name), and the scores of `run_unlearning` that need no training but
        relearning.

    Raises:
        ValueError: A model is of another world than the gold one, or the gold one knows what is to be forgotten.
        JobError: A training failed.
    """
    for base in bases.values():
        _check_gold(gold, base, setting, draws)
    jobs = [
        {
            "base": base.to_json(),
            "gold": gold.to_json(),
            "setting": setting.to_json(),
            "draws": dataclasses.asdict(draws),
            "models": models_folder(),
        }
        for base in bases.values()
    ]
    pretrain_missing([*bases.values(), gold], workers=workers)
    results = run_jobs(judge_base, jobs, workers=workers)
    names = [{"world": base.settings.get("seed", 0), "setting": setting.name, "objective": name} for name, base in bases.items()]
    return pd.DataFrame([name | dict(result) for name, result in zip(names, results, strict=True)])


def judge_base(
    *, base: dict[str, Any], gold: dict[str, Any], setting: dict[str, Any], draws: dict[str, int], models: str
) -> JobResult:
    """Judge one model; for `run_jobs`, see `judge_bases`."""
    world, model = loaded(base, models)
    never_knew = loaded(gold, models)[1]
    task = DrawPlan(**draws).tasks(world, Setting.from_json(setting), "test")[0]
    scores = dict(Evaluator(model, task, most_asked=MOST_ASKED)(model).scores)
    return {**scores, **judged(model, never_knew, task, scores)}


def refusing(task: Task) -> Task:
    """Return an unlearning in which the prompts for what is forgotten are answered by a refusal."""
    forget = task.train["forget"]
    group = Group(forget.facts, np.full(len(forget), FORMS.index("refusal")))
    return dataclasses.replace(task, train=dict(task.train) | {"forget": group})


def compare_unlearning(
    bases: Sequence[Base],
    setting: Setting,
    draws: DrawPlan,
    losses: Sequence[str],
    grids: Mapping[Method, tuple[float, ...]],
    *,
    n_gold: int = 2,
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
    golds = [golds_of([base], setting, draws, n_gold) for base in bases]

    def runs(split: Split, rates: Mapping[tuple[str, str], tuple[float, ...]]) -> list[UnlearningRun]:
        return [
            UnlearningRun(
                base,
                setting,
                draws,
                split,
                loss,
                method,
                rates[loss, method.name],
                gold if split == "test" else None,
            )
            for base, (gold, *_) in zip(bases, golds, strict=True)
            for loss in losses
            for method in grids
        ]

    tuned = run_unlearning(
        runs("tune", {(loss, method.name): grid for loss in losses for method, grid in grids.items()}), workers=workers
    )
    # Rounded, as means of the same values in another order differ in their last bits.
    means = tuned.groupby(["objective", "method", "learning_rate"])["balance"].mean().round(12).reset_index()
    ordered = means.sort_values(["balance", "learning_rate"], ascending=[False, True], kind="stable")
    best = ordered.drop_duplicates(["objective", "method"])
    chosen = zip(best["objective"], best["method"], best["learning_rate"].astype(float), strict=True)
    rates = {(loss, method): (rate,) for loss, method, rate in chosen}
    found = run_unlearning(runs("test", rates), workers=workers)
    ends = {method.name: (min(grid), max(grid)) for method, grid in grids.items()}
    found["edge"] = [
        "" if low == high else "low" if rate == low else "high" if rate == high else ""
        for rate, (low, high) in zip(found["learning_rate"], found["method"].map(ends), strict=True)
    ]
    judged_bases = []
    for base, (gold, *second) in zip(bases, golds, strict=True):
        beside = {"nothing": base, **({"second gold": second[0]} if second else {})}
        judged_bases.append(judge_bases(beside, gold, setting, draws, workers=workers))
    return pd.concat([found, *(frame.assign(method="none", split="test") for frame in judged_bases)], ignore_index=True)


def golds_of(bases: Sequence[Base], setting: Setting, draws: DrawPlan, n_gold: int = 2) -> list[Base]:
    """Return the bases that never see what the first draw to report forgets: `n_gold` of each, from different initial weights.

    They are pretrained also where the base is read from a folder, which knows everything: by its `model` and `recipe`.

    Raises:
        ValueError: `n_gold` is neither 1 nor 2.
    """
    if n_gold not in (1, 2):
        raise ValueError(f"n_gold={n_gold}: must be 1, or 2 for a noise ceiling")
    return [
        dataclasses.replace(base, seed=base.seed + 1000 * (number + 1), checkpoint="", forgets=(setting, draws))
        for base in bases
        for number in range(n_gold)
    ]
