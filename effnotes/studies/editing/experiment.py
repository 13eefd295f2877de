"""The chapter's experiment, from parameters to tables: what is planned and refused before anything runs, and what a run gives."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from effnotes.core.errors import DataError
from effnotes.core.settings import settings
from effnotes.datasets.worlds.graph import Facts, Integers
from effnotes.datasets.worlds.named import NamedWorld, read_edits, read_facts
from effnotes.datasets.worlds.storage import load_world
from effnotes.studies.editing.bases import pretrain_bases, read_checkpoint
from effnotes.studies.editing.rates import at_rates, stopped
from effnotes.studies.editing.settings import REFERENCE, Base, Blocks, Comparison, DrawPlan, Method, Rates, Setting
from effnotes.studies.editing.statistics import compare, paired_differences
from effnotes.studies.editing.tables import average_by_world, course_table
from effnotes.studies.editing.unlearning import Loss, compare_unlearning, golds_of
from effnotes.studies.protocol import Workers
from effnotes.training.recipes import PretrainingRecipe


@settings
class Parameters:
    """The chapter's parameters; what each means is said where the chapter declares it."""

    worlds: tuple[int, ...]
    world: str
    model: str
    ranks: tuple[int, ...]
    facts: str
    checkpoint: str
    structured: str
    pretraining: dict[str, Any]
    device: Literal["cpu", "cuda"]
    blocks: tuple[Blocks, ...]
    full_rates: Rates
    lora_rates: Rates
    extensions: int
    steps: tuple[int, ...]
    tune_worlds: int
    tune_draws: int
    test_draws: int
    structured_draws: int
    draw_seed: int
    counts: Annotated[tuple[int, ...], Field(min_length=1)]
    coverages: Annotated[tuple[float, ...], Field(min_length=1)]
    suppressed: tuple[int, ...]
    closed_forms: tuple[Literal["rome", "memit", "alphaedit"], ...]
    truncations: tuple[int, ...]
    unlearn: tuple[Loss, ...]
    unlearn_full_rates: Rates
    unlearn_lora_rates: Rates
    unlearn_share: float
    unlearn_steps: int
    demo_worlds: int
    gold_models: Literal[1, 2]
    edits: str = ""


class Plan(NamedTuple):
    """What the chapter does with some values of its parameters."""

    named: NamedWorld | None  # the facts of a reader
    edits: tuple[Facts, Integers] | None  # those of them that are to change, and their new objects
    main: Comparison
    further: tuple[Comparison, ...]  # in other settings of the same kind
    suppressions: tuple[Comparison, ...]
    ripple: Comparison  # in worlds whose facts hang together
    forgetting: Setting
    forgetful: tuple[Base, ...]  # that are to forget
    parameters: Parameters

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All that are compared, in the order of the page."""
        return (self.main, *self.further, *self.suppressions, self.ripple)

    @property
    def low_rank(self) -> list[str]:
        """Names of LoRA on all linears, which is run in every setting."""
        return [method.name for method in self.ripple.grids if method.rank is not None]


def plan(**parameters: Any) -> Plan:
    """Make a plan of the chapter's parameters, and refuse what cannot work before anything is trained.

    Args:
        parameters: Those of `Parameters`, by name.

    Raises:
        ValueError: A value is missing, out of range, or does not go with another; or the world cannot have so many edits.
        DataError: A file or folder is not what it should be.
    """
    p = Parameters(**parameters)
    if "linears" not in p.blocks:
        raise ValueError(f"blocks={p.blocks}: 'linears' must be among them; methods are compared with full rank on all linears")
    if p.checkpoint and len(p.worlds) != 1:
        raise ValueError(f"worlds={p.worlds}: a checkpoint knows one world; give its seed alone, such as -p worlds='[1]'")
    for name, values in (("worlds", p.worlds), ("ranks", p.ranks)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name}={values}: give at least one, and each once")
    described = load_world(p.world).settings()
    told = {key: described[key] for key in ("templates", "repeats")}
    with _of_parameter("facts", p.facts):
        named = read_facts(p.facts, **told) if p.facts else None
    if p.edits and named is None:
        raise ValueError(f"edits={p.edits!r} changes facts that you name; name the table of all facts as well, as facts")
    with _of_parameter("edits", p.edits):
        edits = read_edits(p.edits, named) if p.edits and named else None
    same: dict[str, Any] = {"model": p.model, "recipe": PretrainingRecipe(**p.pretraining), "device": p.device}
    read = same | {"facts": p.facts, "checkpoint": p.checkpoint}
    bases = tuple(Base(dict(told if p.facts else described, seed=seed), seed=seed, **read) for seed in p.worlds)
    linked = load_world(p.structured).settings()
    structured = tuple(Base(dict(linked, seed=seed), seed=seed, **same) for seed in p.worlds)
    if p.checkpoint:
        read_checkpoint(bases[0])

    methods = [Method(each) for each in p.blocks] + [Method(each, rank) for rank in p.ranks for each in p.blocks if each != "all"]
    grids = {method: p.full_rates if method.rank is None else p.lora_rates for method in methods}
    side_grids = {method: rates for method, rates in grids.items() if method.blocks == "linears"}
    draws = DrawPlan(p.tune_draws, p.test_draws, p.draw_seed)

    def remap(n: int, share: float) -> Setting:
        name = f"{n} fact{'s' if n > 1 else ''}, {share:.1%} retained".replace(".0%", "%")
        return Setting(name, n=n, retain_coverage=share, checkpoints=p.steps)

    def suppress(n: int) -> Setting:
        return Setting(f"relation to one object by {n} facts", "suppress", n, retain_coverage=p.coverages[0], checkpoints=p.steps)

    def beside(setting: Setting, models: tuple[Base, ...] = bases, draws: DrawPlan = draws) -> Comparison:
        return Comparison(setting, models, draws, side_grids, tuned_on=p.tune_worlds)

    main, *further = dict.fromkeys(remap(n, share) for n in p.counts for share in p.coverages)
    ripple = dataclasses.replace(main, name="structured", nested_class="changed")
    n_forgotten = max(2, round(p.unlearn_share * bases[0].world.n_subjects))
    made = Plan(
        named,
        edits,
        Comparison(main, bases, draws, grids, ("budget", "first_success"), True, p.truncations, p.tune_worlds),
        tuple(map(beside, further)),
        tuple(beside(suppress(n)) for n in p.suppressed),
        beside(ripple, structured, dataclasses.replace(draws, test=p.structured_draws)),
        Setting("forget subjects", "unlearn_subject", n_forgotten, retain_coverage=0.25, checkpoints=(p.unlearn_steps,)),
        # A checkpoint has no twin that never saw what is forgotten.
        () if p.checkpoint or not p.unlearn else bases[: p.demo_worlds],
        p,
    )
    drawn = [(base, each.setting, each.draws) for each in made.comparisons for base in each.bases]
    # All are drawn once, so that a world which cannot have such edits is refused before anything is trained.
    for base, setting, from_plan in [*drawn, *((base, made.forgetting, draws) for base in made.forgetful)]:
        try:
            from_plan.tasks(base.world, setting, "test")
        except ValueError as error:
            of_kind = {"suppress": "suppressed", "unlearn_subject": "unlearn_share"}
            names = of_kind.get(setting.kind, "counts, coverages or the numbers of draws")
            small = "; of a small table of facts edit one at a time: -p counts='[1]' -p suppressed='[]'" if p.facts else ""
            raise ValueError(f"{setting.name}, world {base.world_seed}: {error}. Take less in {names}{small}") from None
    return made


@contextlib.contextmanager
def _of_parameter(name: str, path: str) -> Iterator[None]:
    """Name the parameter where a table of the reader's is missing or is none."""
    try:
        yield
    except DataError as error:
        allowed = "it takes a CSV file with the columns subject, relation and object"
        raise DataError(f"{name}={path!r}: {allowed}. {error}") from error


def pretrain(plan: Plan, *, workers: Workers = None) -> pd.DataFrame:
    """Pretrain all models of a plan, those that never see what is to be forgotten among them.

    Returns:
        As `pretrain_bases`, after a column kind: what the world is like.
    """
    each = [golds_of(base, plan.forgetting, plan.main.draws)[: plan.parameters.gold_models] for base in plan.forgetful]
    golds = [gold for pair in each for gold in pair]
    kinds = {"independent": plan.main.bases, "structured": plan.ripple.bases, "independent, some left out": golds}
    found = pretrain_bases([base for bases in kinds.values() for base in bases], workers=workers)
    found.insert(0, "kind", [kind for kind, bases in kinds.items() for _ in bases])
    return found


class Result(NamedTuple):
    """What a run of the chapter gave: edits, and the tables that figures are drawn from."""

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
    own: pd.DataFrame | None  # as `own_edits` returns it: the edits of a reader, by full rank and LoRA on all linears


def run(plan: Plan, *, workers: Workers = None) -> Result:
    """Make all edits of a plan: the comparisons, closed forms on the edits of the main one, and unlearning.

    Raises:
        JobError: A training or an edit failed.
    """
    from effnotes.finetuning import ClosedFormRecipe
    from effnotes.studies.editing.edits import EditRun, run_edits, run_protocol
    from effnotes.studies.editing.own import own_edits

    p = plan.parameters
    rows, rates = run_protocol(plan.comparisons, extensions=p.extensions, workers=workers)
    recipes = [ClosedFormRecipe(method=name, site=site) for name in p.closed_forms for site in ("subject", "last")]
    shown = plan.main.bases[: p.demo_worlds]
    runs = [EditRun(base, plan.main.setting, plan.main.draws, "test", recipe) for recipe in recipes for base in shown]
    closed = run_edits(runs, workers=workers)
    grids = {method: p.unlearn_full_rates if method.rank is None else p.unlearn_lora_rates for method in plan.ripple.grids}
    what, n_gold = (plan.forgetful, plan.forgetting, plan.main.draws), p.gold_models
    unlearned = compare_unlearning(*what, p.unlearn, grids, n_gold=n_gold, workers=workers) if plan.forgetful else None

    of_main = rows[rows["setting"] == plan.main.setting.name]
    main_rates = rates[rates["setting"] == plan.main.setting.name]
    endings: dict[str, pd.DataFrame] = {rule: at_rates(of_main, main_rates[main_rates["rule"] == rule]) for rule in plan.main.rules}
    best = endings["budget"]
    rate = float(best.loc[best["method"] == REFERENCE.name, "learning_rate"].iloc[0])
    at_one_rate = (of_main["split"] == "test") & np.isclose(of_main["learning_rate"], rate)
    endings["reference_rate"] = stopped(of_main[at_one_rate], "budget")
    own = None
    if plan.edits is not None:
        chosen = best.groupby("method")["learning_rate"].first()
        each = {method: float(chosen[method.name]) for method in plan.main.grids if method.blocks == "linears"}
        how = {"steps": p.steps[-1], "retain_coverage": plan.main.setting.retain_coverage, "seed": p.draw_seed}
        own = own_edits(plan.edits, plan.main.bases, each, **how, workers=workers)
    at_budget = at_rates(rows, rates[rates["rule"] == "budget"])
    at_budget = at_budget[at_budget["method"].isin([method.name for method in plan.ripple.grids])]
    in_one_kind = at_budget[at_budget["setting"] != plan.ripple.setting.name]
    ended = pd.concat([edits.assign(rule=rule) for rule, edits in endings.items()])
    ends, course = average_by_world(ended, ["rule", "learning_rate"]), course_table(of_main)
    by_setting, against_full = average_by_world(at_budget, ["setting"]), compare(paired_differences(in_one_kind, REFERENCE.name))
    return Result(plan, rows, rates, closed, unlearned, endings, at_budget, ends, course, by_setting, against_full, own)
