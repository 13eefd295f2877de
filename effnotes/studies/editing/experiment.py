"""The chapter's experiment, from parameters to tables: what is planned and refused before anything runs, and what a run gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from effnotes.datasets.worlds.named import NamedWorld, read_facts
from effnotes.datasets.worlds.storage import load_world
from effnotes.studies.editing.bases import pretrain_bases, read_checkpoint
from effnotes.studies.editing.settings import REFERENCE, Base, Comparison, DrawPlan, Method, Setting, pretraining_recipe
from effnotes.studies.editing.statistics import at_rates, compare, paired_differences, stopped
from effnotes.studies.editing.tables import average_by_world, course_table
from effnotes.studies.editing.unlearning import check_loss, compare_unlearning, golds_of
from effnotes.studies.protocol import Workers


@dataclass(frozen=True)
class Plan:
    """What the chapter does with some values of its parameters."""

    named: NamedWorld | None  # the facts of a reader
    main: Comparison
    further: tuple[Comparison, ...]  # in other settings of the same kind
    suppressions: tuple[Comparison, ...]
    ripple: Comparison  # in worlds whose facts hang together
    forgetting: Setting
    forgetful: tuple[Base, ...]  # that are to forget
    parameters: Mapping[str, Any]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All that are compared, in the order of the page."""
        return (self.main, *self.further, *self.suppressions, self.ripple)

    @property
    def order(self) -> list[str]:
        """Names of the methods of the main setting."""
        return [method.name for method in self.main.grids]

    def low_rank(self, setting: str) -> list[str]:
        """Names of LoRA on all linears that are run in a setting."""
        grids = self.main.grids if setting == self.main.setting.name else self.ripple.grids
        return [method.name for method in grids if method.blocks == "linears" and method.rank is not None]


def plan(**parameters: Any) -> Plan:
    """Make a plan of the chapter's parameters, and refuse what cannot work before anything is trained.

    Args:
        parameters: All of the chapter's parameters, by name.

    Raises:
        ValueError: A value is out of range, or does not go with another; or the world cannot have so many edits.
        DataError: A file or folder is not what it should be.
    """
    p = SimpleNamespace(**parameters)
    if "linears" not in p.blocks:
        raise ValueError(
            f"blocks={p.blocks}: 'linears' must be among them, because methods are compared with full rank on all linears"
        )
    if p.checkpoint and len(p.worlds) != 1:
        raise ValueError(f"worlds={p.worlds}: a checkpoint knows one world; give its seed alone, such as -p worlds='[1]'")
    for name in ("worlds", "structured_worlds", "ranks"):
        if not parameters[name] or len(set(parameters[name])) < len(parameters[name]):
            raise ValueError(f"{name}={parameters[name]}: give at least one, and each once")
    if p.pretraining:
        pretraining_recipe(p.pretraining)
    described = load_world(p.world).settings()
    told = {key: described[key] for key in ("templates", "repeats")}
    named = read_facts(p.facts, **told) if p.facts else None
    same = {"model": p.model, "pretraining": p.pretraining, "device": p.device}
    read = same | {"facts": p.facts, "checkpoint": p.checkpoint}
    bases = tuple(Base(dict(told if p.facts else described, seed=seed), seed=seed, **read) for seed in p.worlds)
    linked = load_world(p.structured).settings()
    structured = tuple(Base(dict(linked, seed=seed), seed=seed, **same) for seed in p.structured_worlds)
    if p.checkpoint:
        read_checkpoint(bases[0])

    methods = [Method(each) for each in p.blocks] + [Method(each, rank) for rank in p.ranks for each in p.blocks if each != "all"]
    grids = {method: tuple(p.full_rates if method.rank is None else p.lora_rates) for method in methods}
    side_grids = {REFERENCE: tuple(p.full_rates)} | {Method("linears", rank): tuple(p.lora_rates) for rank in p.side_ranks}
    draws, steps = DrawPlan(p.tune_draws, p.test_draws, p.draw_seed), tuple(p.steps)
    structured_draws = DrawPlan(p.tune_draws, p.structured_draws, p.draw_seed)

    def remap(n: int, share: float) -> Setting:
        name = f"{n} fact{'s' if n > 1 else ''}, {share:.1%} retained".replace(".0%", "%")
        return Setting(name, n=n, retain_coverage=share, checkpoints=steps)

    def suppress(n: int) -> Setting:
        name, steps = f"relation to one object by {n} facts", tuple(p.suppress_steps)
        return Setting(name, "suppress", n, retain_coverage=p.coverage, checkpoints=steps)

    def beside(setting: Setting) -> Comparison:
        return Comparison(setting, bases[: p.side_worlds], draws, side_grids)

    main = remap(1, p.coverage)
    further = dict.fromkeys(remap(n, share) for n in [1, *p.counts] for share in [p.coverage, *p.coverages])
    ripple = Setting("structured", nested_class="changed", retain_coverage=p.coverage, checkpoints=steps)
    n_forgotten = max(2, round(p.unlearn_share * bases[0].world.n_subjects))
    made = Plan(
        named,
        Comparison(main, bases, draws, grids, ("budget", "first_success"), True, tuple(p.truncations)),
        tuple(beside(setting) for setting in further if setting != main),
        tuple(beside(suppress(n)) for n in p.suppressed),
        Comparison(ripple, structured, structured_draws, side_grids),
        Setting("forget subjects", "unlearn_subject", n_forgotten, retain_coverage=0.25, checkpoints=(p.unlearn_steps,)),
        # A checkpoint has no twin that never saw what is forgotten.
        () if p.checkpoint or not p.unlearn else bases[: p.unlearn_worlds],
        parameters,
    )
    for comparison in made.comparisons:
        comparison.check()
    for loss in p.unlearn:
        check_loss(loss)
    for base in made.forgetful:
        draws.tasks(base.world, made.forgetting, "test")
    return made


def pretrain(plan: Plan, *, workers: Workers = None) -> pd.DataFrame:
    """Pretrain all models of a plan, those that never see what is to be forgotten among them.

    Returns:
        As `pretrain_bases`, after a column kind: what the world is like.
    """
    golds = golds_of(plan.forgetful, plan.forgetting, plan.main.draws, plan.parameters["gold_models"])
    kinds = {"independent": plan.main.bases, "structured": plan.ripple.bases, "independent, some left out": golds}
    found = pretrain_bases([base for bases in kinds.values() for base in bases], workers=workers)
    found.insert(0, "kind", [kind for kind, bases in kinds.items() for _ in bases])
    return found


@dataclass(frozen=True)
class Result:
    """What a run of the chapter gave: edits, and the tables that figures are drawn from, by `summarise`."""

    plan: Plan
    rows: pd.DataFrame  # all edits, as `run_edits` returns them
    rates: pd.DataFrame  # as `choose_rates` returns them
    closed: pd.DataFrame  # edits in closed form
    unlearned: pd.DataFrame | None  # as `compare_unlearning` returns it
    endings: Mapping[str, pd.DataFrame]  # edits of the main setting: "budget", "first_success", "reference_rate" (all at that rate)
    at_budget: pd.DataFrame  # edits at the rates chosen for the budget, in all settings, by the methods that all settings have
    ends: pd.DataFrame  # of `endings`, a row for each rule, method and world
    course: pd.DataFrame  # of the main setting, a row for each split, method, learning rate and step
    settings: pd.DataFrame  # of `at_budget`, a row for each setting, method and world
    against_full: pd.DataFrame  # as `compare` gives it, in the settings whose facts are independent


def run(plan: Plan, *, workers: Workers = None) -> Result:
    """Make all edits of a plan: the comparisons, closed forms on the edits of the main one, and unlearning.

    Raises:
        JobError: A training or an edit failed.
    """
    from effnotes.finetuning import ClosedFormRecipe
    from effnotes.studies.editing.edits import EditRun, run_edits, run_protocol

    p = SimpleNamespace(**plan.parameters)
    rows, rates = run_protocol(plan.comparisons, extensions=p.extensions, workers=workers)
    recipes = [ClosedFormRecipe(method=name, site=site) for name in p.closed_forms for site in ("subject", "last")]
    runs = [EditRun(base, plan.main.setting, plan.main.draws, "test", recipe) for recipe in recipes for base in plan.main.bases]
    closed = run_edits(runs, workers=workers)
    grids = {method: tuple(p.unlearn_full_rates if method.rank is None else p.unlearn_lora_rates) for method in plan.ripple.grids}
    bases, golds = plan.forgetful, {"n_gold": p.gold_models, "workers": workers}
    unlearned = compare_unlearning(bases, plan.forgetting, plan.main.draws, p.unlearn, grids, **golds) if bases else None
    return summarise(plan, rows, rates, closed, unlearned)


def summarise(plan: Plan, rows: pd.DataFrame, rates: pd.DataFrame, closed: pd.DataFrame, unlearned: pd.DataFrame | None) -> Result:
    """Give what a run found at the rates that were chosen; arguments as in `Result`."""
    of_main = rows[rows["setting"] == plan.main.setting.name]
    main_rates = rates[rates["setting"] == plan.main.setting.name]
    endings: dict[str, pd.DataFrame] = {rule: at_rates(of_main, main_rates[main_rates["rule"] == rule]) for rule in plan.main.rules}
    best = endings["budget"]
    rate = float(best.loc[best["method"] == REFERENCE.name, "learning_rate"].iloc[0])
    endings["reference_rate"] = stopped(
        of_main[(of_main["split"] == "test") & np.isclose(of_main["learning_rate"], rate)], "budget"
    )
    at_budget = at_rates(rows, rates[rates["rule"] == "budget"])
    at_budget = at_budget[at_budget["method"].isin([method.name for method in plan.ripple.grids])]
    in_one_kind = at_budget[at_budget["setting"] != plan.ripple.setting.name]
    ended = pd.concat([edits.assign(rule=rule) for rule, edits in endings.items()])
    return Result(
        plan,
        rows,
        rates,
        closed,
        unlearned,
        endings,
        at_budget,
        ends=average_by_world(ended, ["rule", "learning_rate"]),
        course=course_table(of_main),
        settings=average_by_world(at_budget, ["setting"]),
        against_full=compare(paired_differences(in_one_kind, REFERENCE.name)),
    )
