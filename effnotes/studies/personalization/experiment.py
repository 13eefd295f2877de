"""The chapter's experiment, from parameters to tables: what is planned and refused before anything runs, and what a run gives."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Annotated, Any, NamedTuple, TypeAlias, cast

import pandas as pd
from pydantic import Field

from effnotes.core.digests import json_digest
from effnotes.core.files import user_path
from effnotes.core.jobs import pool_of, run_jobs
from effnotes.core.settings import settings, to_json
from effnotes.finetuning.rosa import MaskRule
from effnotes.models.language import LanguageModelShape, build_language_model
from effnotes.reporting.tables import KeptTable, keep_table
from effnotes.studies.personalization.bases import MailBase, loaded, prepare_base
from effnotes.studies.personalization.private import kept_private, private_folder
from effnotes.studies.personalization.tuning import Method, Tuning, recipe, tune_and_judge
from effnotes.studies.personalization.writers import OTHERS, Writer, own_material
from effnotes.studies.protocol import Grids, Split, Workers, choose, extend, run_table
from effnotes.training.mail_base import DEFAULT, MailBaseRecipe

AnyRates: TypeAlias = tuple[Annotated[float, Field(gt=0)], ...]
Rates = Annotated[AnyRates, Field(min_length=1)]
Steps = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
METHOD = ("method",)  # the column that a learning rate is chosen by


@settings
class Parameters:
    """The chapter's parameters; what each means is said where the chapter declares it."""

    personas: Annotated[tuple[int, ...], Field(min_length=1)]
    mails: int
    few: Annotated[int, Field(ge=2)]
    under: int
    checkpoint: str
    mailbox: str
    address: str
    redacted: bool
    val: int
    test: int
    facts: int
    canaries: int
    rank: int
    rosa_rank: int
    context: int
    batch_size: int
    full_rates: AnyRates  # none leaves base, retrieval, LoRA and RoSA on all mails
    lora_rates: Rates
    sparse_rates: Rates
    rosa_rates: Rates
    mask_rules: tuple[MaskRule, ...]
    extensions: Annotated[int, Field(ge=0)]
    steps: Steps
    tune_personas: tuple[int, ...]
    pretraining: dict[str, Any]


class Plan(NamedTuple):
    """What the chapter does with some values of its parameters."""

    base: MailBase
    writers: tuple[Writer, ...]
    tuned_on: tuple[Writer, ...]  # whose validation mails choose rates and steps
    grids: dict[Method, tuple[float, ...]]  # methods that get a rate of their own, with rates to begin with
    borrowed: dict[Method, Method]  # other methods, and whose rate and steps they take
    untuned: tuple[Method, ...]
    few: int
    under: int
    parameters: Parameters

    @property
    def private(self) -> bool:
        """Whether the mails are a reader's own."""
        return bool(self.parameters.mailbox)

    def method(self, kind: str, mails: int | None = None, *, raft: bool = False, nf4: bool = False) -> Method:
        """Return a method of the plan, on all mails unless a number is given."""
        return Method(kind, mails or self.writers[0].mails, raft, nf4)  # type: ignore[arg-type]


def plan(**parameters: Any) -> Plan:
    """Make a plan of the chapter's parameters, and refuse what cannot work before anything is trained.

    Args:
        parameters: Those of `Parameters`, by name.

    Raises:
        ValueError: A value is missing, out of range, or unknown; the message says which and what is allowed.
        DataError: The checkpoint or the mailbox is none that can be used.
    """
    p = Parameters(**parameters)
    if bool(p.mailbox) != bool(p.address):
        raise ValueError(f"mailbox={p.mailbox!r}, address={p.address!r}: give both, the mailbox and the address that you send from")
    taken = [*p.personas, *p.tune_personas]
    if len(set(taken)) < len(taken) or not p.tune_personas or set(taken) & set(OTHERS):
        what = f"give each persona once, at least one to tune on, and none from {min(OTHERS)} to {max(OTHERS)}, the judge's"
        raise ValueError(f"personas={list(p.personas)}, tune_personas={list(p.tune_personas)}: {what}")
    if not p.few < p.under < p.mails:
        raise ValueError(f"few={p.few}, under={p.under}, mails={p.mails}: each must be larger than the one before")
    if not 0 < p.canaries <= p.mails - p.under:
        what = f"canaries are the last of the mails, behind those of under={p.under}; take 1 to {p.mails - p.under}"
        raise ValueError(f"canaries={p.canaries}: {what}")
    if not 1 <= p.rosa_rank < p.rank:
        raise ValueError(
            f"rosa_rank={p.rosa_rank}, rank={p.rank}: RoSA's must be from 1 to less than LoRA's, which sets the budget"
        )
    if list(p.steps) != sorted(set(p.steps)):
        raise ValueError(f"steps={list(p.steps)}: must be numbers of steps, each larger than the one before")
    shape = p.pretraining.get("shape", DEFAULT.shape)
    shape = shape if isinstance(shape, str) else LanguageModelShape(**shape)
    base = MailBase(p.checkpoint, MailBaseRecipe(**(p.pretraining | {"shape": shape})))
    if p.checkpoint:
        base.files()
    sizes: dict[str, Any] = {"mails": p.mails, "val": p.val, "test": p.test}
    writers: tuple[Writer, ...]
    tuned_on: tuple[Writer, ...]
    if p.mailbox:
        writers = tuned_on = (_reader(p, sizes),)
    else:
        common = sizes | {"facts": p.facts, "canaries": p.canaries}
        writers, tuned_on = (tuple(Writer(**common, seed=seed) for seed in seeds) for seeds in (p.personas, p.tune_personas))
    n = writers[0].mails
    few, under = min(p.few, n - 1), min(p.under, n - 1)
    untuned: tuple[Method, ...] = (Method("none", n),)
    lora, rosa = Method("lora", n), Method("rosa", n)
    grids, borrowed = {lora: p.lora_rates, rosa: p.rosa_rates}, dict[Method, Method]()
    if p.full_rates:
        grids = {Method("full", n): p.full_rates, lora: p.lora_rates, Method("sparse", n): p.sparse_rates, rosa: p.rosa_rates}
        grids |= {Method("lora", few): p.lora_rates}
        borrowed = {Method("lora", under): lora, Method("lora", n, raft=True): lora}
        borrowed |= {Method("lora", n, nf4=True): lora, Method("rosa", n, nf4=True): rosa}
        untuned += (Method("none", few),)
    borrowed |= {Method("rosa", n, mask_rule=rule): rosa for rule in p.mask_rules if rule != "grad_sq"}
    made = Plan(base, writers, tuned_on, grids, borrowed, untuned, few, under, p)
    model = loaded(base).model if p.checkpoint else _untrained(base)
    for method in grids:  # a budget that they cannot have is refused here
        recipe(_job(made, writers[0], method, p.steps[:1], 1e-3), model)
    return made


def _reader(p: Parameters, sizes: dict[str, Any]) -> Writer:
    private_folder()
    writer = Writer(**sizes, mailbox=p.mailbox, address=p.address, redacted=p.redacted)
    found = own_material(writer)
    counts: dict[str, Any] = {"mails": len(found.train), "val": len(found.val), "test": len(found.test)}
    path = user_path(p.mailbox).resolve()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return dataclasses.replace(writer, **counts, digest=json_digest(stamps), mailbox=str(path))


def _untrained(base: MailBase) -> Any:
    return build_language_model(base.recipe.shape, base.recipe.vocab_size, seed=0)


def _job(made: Plan, writer: Writer, method: Method, checkpoints: tuple[int, ...], rate: float, **judging: Any) -> Tuning:
    p = made.parameters
    how: dict[str, Any] = {"rank": p.rank, "rosa_rank": p.rosa_rank, "batch_size": p.batch_size, "context": p.context}
    return Tuning(made.base, writer, method, rate, checkpoints, **how, **judging)


class Result(NamedTuple):
    """What a run of the chapter gave, as tidy tables."""

    plan: Plan
    base: pd.DataFrame  # parameters and types of the base
    tried: pd.DataFrame  # of the writers that rates are chosen on: persona, method, learning_rate, step, val_loss
    rates: pd.DataFrame  # method, learning_rate and step that were chosen
    systems: pd.DataFrame  # a row for each persona, method and way to serve, as `tune_and_judge` says
    course: pd.DataFrame  # a row for each persona, method and checkpoint
    habits: pd.DataFrame  # a row for each persona, method, way to serve and habit that is found in the mails
    crosses: pd.DataFrame  # a row for each model's persona and persona whose mails it was asked for
    cuts: pd.DataFrame  # a row for each persona and form of full tuning's difference
    examples: pd.DataFrame  # one mail of each persona, as each system writes it; none of a reader's

    def keep(self) -> list[KeptTable]:
        """Make the tables ready to be kept with the record of the run."""
        names = ("rates", "tried", "systems", "course", "habits", "crosses", "cuts")
        tables = {name: getattr(self, name) for name in names}
        if len(self.examples):  # texts are long: of the first three
            tables["examples"] = self.examples[self.examples["persona"].isin(self.plan.parameters.personas[:3])]
        return [keep_table(name, table.reset_index(drop=True)) for name, table in tables.items() if len(table)]


def choose_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Choose learning rate and number of steps of each method by the mean validation loss.

    Args:
        rows: method, learning_rate, step and val_loss of each writer.

    Returns:
        As `choose` gives it for the rate, with the column step.
    """
    scored = rows.assign(score=-rows["val_loss"])
    steps = choose(scored, by=["method", "learning_rate"], value="step", score="score")[["method", "learning_rate", "step"]]
    rates = choose(scored.merge(steps), by=METHOD, value="learning_rate", score="score")
    return rates.merge(steps, on=["method", "learning_rate"])


def run(plan: Plan, *, workers: Workers = None) -> Result:
    """Choose rates, tune every writer's models, and judge what they write.

    Raises:
        JobError: A job failed.
    """
    with kept_private() if plan.private else contextlib.nullcontext(), pool_of(workers) as pool:
        made = plan._replace(base=plan.base.sealed())
        base = run_table(prepare_base, [made.base], names=lambda _: {}, workers=pool)
        by_name = {method.name: method for method in made.grids}

        def tune(grids: Grids, _: Split) -> pd.DataFrame:
            jobs = [
                _job(made, writer, by_name[name], made.parameters.steps, rate)
                for (name,), rates in grids.items()
                for rate in rates
                for writer in made.tuned_on
            ]
            rows = _tables(jobs, pool)["course"]
            return rows[rows["step"] > 0]

        grids: Grids = {(method.name,): rates for method, rates in made.grids.items()}
        tried, rates = extend(tune, grids, choose_rates, by=METHOD, times=made.parameters.extensions)
        return Result(plan, base, tried, rates, **_tables(_reported(made, rates), pool))


def _reported(made: Plan, rates: pd.DataFrame) -> list[Tuning]:
    """The jobs whose results are reported: all methods on all writers, each at its rate and for its number of steps."""
    chosen = {str(row["method"]): (int(row["step"]), float(row["learning_rate"])) for _, row in rates.iterrows()}
    lora, raft, base = made.method("lora"), made.method("lora", raft=True), made.untuned[0]
    jobs = [
        _job(made, writer, method, (1,), 0.0, serve=("none", "RAG") if method == base else ("RAG",))
        for writer in made.writers
        for method in made.untuned
    ]
    for method, like in [*((method, method) for method in made.grids), *made.borrowed.items()]:
        step, rate = chosen[like.name]
        checkpoints = tuple(each for each in made.parameters.steps if each <= step)
        for writer in made.writers:
            others = tuple(other for other in made.writers if other != writer) if method == lora else ()
            serve = ("none", "RAG") if method in (lora, raft) else ("none",)
            jobs.append(_job(made, writer, method, checkpoints, rate, serve=serve, others=others))
    return jobs


def _tables(jobs: list[Tuning], workers: Workers) -> dict[str, pd.DataFrame]:
    """Run jobs, those of a writer one behind the other, and join each of their lists."""
    order = sorted(range(len(jobs)), key=lambda place: to_json(jobs[place].writer))
    found = dict(zip(order, run_jobs(tune_and_judge, [jobs[place] for place in order], workers=workers), strict=True))
    tables: dict[str, list[dict[str, Any]]] = {"systems": [], "course": [], "habits": [], "crosses": [], "cuts": [], "examples": []}
    for place, job in enumerate(jobs):
        method = job.method
        told = {"persona": job.writer.seed, "method": method.name, "kind": method.kind, "mails": method.mails, "raft": method.raft}
        told |= {"nf4": method.nf4, "mask_rule": method.mask_rule, "learning_rate": job.learning_rate}
        for name, rows in tables.items():
            rows += [told | row for row in cast(list[dict[str, Any]], found[place][name])]
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}
