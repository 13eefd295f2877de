"""From parameters to tables: what is planned and refused before anything runs, and what a run gives."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
from pydantic import Field

from effnotes.core.checks import check_choice
from effnotes.core.jobs import run_jobs
from effnotes.core.settings import settings
from effnotes.pruning import kept_count, prunable_parameters
from effnotes.reporting.tables import KeptTable, keep_table
from effnotes.studies.protocol import Workers, tables
from effnotes.studies.sparse_training.training import SYSTEMS, Training, by_pattern, hook_of, network, train_and_judge

Level = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=2)]


@settings
class Parameters:
    """The page's parameters; what each means is said where the page declares it."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    sparsity: Level
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    multi: Annotated[tuple[Level, ...], Field(min_length=1)]
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    rho: Annotated[float, Field(ge=0)]
    epochs: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    width: Annotated[int, Field(ge=1)]
    num_train: Count
    num_test: Annotated[int, Field(ge=500)]
    corrupted: Level
    memory_sparsity: Level
    task_train: Annotated[int, Field(ge=20)]
    task_test: Count
    task_epochs: Annotated[int, Field(ge=1)]
    task_rate: Annotated[float, Field(gt=0)]
    published: str


class Plan(NamedTuple):
    """The trainings of a run; those on wrong labels by themselves."""

    jobs: list[Training]
    memory: list[Training]
    parameters: Parameters


def plan(**parameters: Any) -> Plan:
    """Make a plan of the page's parameters, and refuse what cannot work before anything is trained.

    Args:
        parameters: Those of `Parameters`, by name.

    Raises:
        ValueError: A value is missing, out of range, or unknown; the epochs leave a phase of AC/DC without a step; a sparsity
            leaves fewer weights than layers; or the width is no multiple of a pattern's group.
    """
    p = Parameters(**parameters)
    for name in p.methods:
        check_choice(list(SYSTEMS), methods=name)
    if len(set(p.seeds)) < len(p.seeds):
        raise ValueError(f"seeds={list(p.seeds)}: give each once, for a seed is a unit")
    if {p.sparsity, max(p.levels)} - set(p.levels):
        raise ValueError(f"levels={list(p.levels)}: sparsity={p.sparsity} must be one of them, for networks are compared there")
    for pattern, method in by_pattern(p.patterns).items():
        if p.width % method.m:
            raise ValueError(
                f"patterns={list(p.patterns)}, width={p.width}: {pattern} needs a width that is a multiple of {method.m}"
            )
    base = {name: getattr(p, name) for name in ("num_train", "num_test", "width", "learning_rate")}
    jobs, memory = [], []
    for seed in p.seeds:
        arms = dict.fromkeys(arm for name in p.methods for arm in SYSTEMS[name])
        for arm in arms:
            short = arm in SYSTEMS["cram"] and arm != "dense"
            how = base | {"seed": seed, "arm": arm, "sparsity": p.sparsity, "epochs": p.epochs // 2 if short else p.epochs}
            if "cram" in p.methods and arm in SYSTEMS["cram"]:
                how |= {"levels": p.levels, "rho": p.rho, "multi": p.multi}
                how |= {"patterns": p.patterns} if arm in ("SGD", "CrAM+ N:M") else {}
            if "transfer" in p.methods and arm in SYSTEMS["transfer"]:
                how |= {name: getattr(p, name) for name in ("task_train", "task_test", "task_epochs", "task_rate")}
            jobs.append(Training(**how))
        if "acdc" in p.methods:
            wrong = base | {"seed": seed, "sparsity": p.memory_sparsity, "epochs": 2 * p.epochs, "corrupted": p.corrupted}
            memory += [Training(**wrong, arm=arm) for arm in ("dense", "AC/DC")]
    first: dict[str, Training] = {}
    for job in [*jobs, *memory]:
        first.setdefault(f"{job.arm} {job.corrupted}", job)
    for job in first.values():
        hook_of(job)  # refuses a schedule that does not fit
        sizes = [weight.numel() for weight in prunable_parameters(network(job)).values()]
        for level in (job.sparsity, *job.levels, *job.multi):
            if (kept := kept_count(sum(sizes), level)) < len(sizes):
                given = f"sparsity {level} leaves {kept} weights to {len(sizes)} layers at width={p.width}"
                raise ValueError(f"{given}, so that one would be pruned whole; take a lower one, or a wider network")
    return Plan(jobs, memory, p)


class Result(NamedTuple):
    """What a run gave, as tidy tables; those of a system that was left out are empty."""

    plan: Plan
    outcomes: pd.DataFrame  # seed, arm, epochs, and what `train_and_judge` says of each network
    course: pd.DataFrame  # seed, arm, epoch, sparsity, cost and churn
    memory: pd.DataFrame  # the same of trainings on wrong labels, with as_told and as_drawn
    pairs: pd.DataFrame  # seed, pair, agreement
    transfer: pd.DataFrame  # seed, model, task, mode, error, and increase: relative to the dense network's

    def keep(self) -> list[KeptTable]:
        """Make the tables ready to be kept with the record of the run; courses have many epochs, so means over seeds are kept."""
        means = {
            name: course.drop(columns="seed").groupby(["arm", "epoch"], as_index=False).mean()
            for name, course in {"course": self.course, "memory": self.memory}.items()
            if len(course)
        }
        tables = {"outcomes": self.outcomes, "pairs": self.pairs, "transfer": self.transfer, **means}
        return [keep_table(name, table.reset_index(drop=True)) for name, table in tables.items() if len(table)]


def run(plan: Plan, *, workers: Workers = None) -> Result:
    """Train and judge.

    Raises:
        JobError: A training failed.
    """
    every = [*plan.jobs, *plan.memory]
    heads, found = (
        [{"seed": job.seed, "arm": job.arm, "epochs": job.epochs} for job in every],
        run_jobs(train_and_judge, every, workers=workers),
    )
    n = len(plan.jobs)
    of = tables(heads[:n], found[:n], "outcomes", "course", "predictions", "transfer")
    memory = tables(heads[n:], found[n:], "course")["course"]
    course = of["course"].dropna(axis=1, how="all")
    return Result(plan, of["outcomes"], course, memory, _pairs(of["predictions"]), _increases(of["transfer"]))


def _pairs(predictions: pd.DataFrame) -> pd.DataFrame:
    """Compute how often two networks of a seed predict the same class: those of one AC/DC run, and of runs by themselves."""
    rows = []
    for seed, own in predictions.groupby("seed"):
        classes = own.drop_duplicates("model").set_index("model")["classes"].map(torch.tensor)
        if "AC/DC" in classes:
            pairs = {"one AC/DC run": ("AC/DC", "AC/DC, dense finish"), "AC/DC and dense run": ("AC/DC", "dense")}
            pairs |= {"GMP and dense run": ("GMP", "dense")} if "GMP" in classes else {}
            for name, (one, other) in pairs.items():
                rows.append({"seed": seed, "pair": name, "agreement": float((classes[one] == classes[other]).float().mean())})
    return pd.DataFrame(rows, columns=["seed", "pair", "agreement"])


def _increases(transfer: pd.DataFrame) -> pd.DataFrame:
    """Add the error's increase relative to that of the dense network of the same seed, on the same task in the same way."""
    if transfer.empty:
        return pd.DataFrame(columns=["seed", "model", "task", "mode", "error", "increase"])
    keys = ["seed", "task", "mode"]
    dense = transfer.loc[transfer["model"] == "dense", [*keys, "error"]].rename(columns={"error": "dense"})
    joined = transfer.merge(dense, on=keys)
    increase = (joined["error"] - joined["dense"]) / joined["dense"]
    return joined.assign(increase=increase)[["seed", "model", "task", "mode", "error", "increase"]]
