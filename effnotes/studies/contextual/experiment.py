"""What is planned and refused, trained and measured: LTE and what it is held against, on models that know facts by heart."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from effnotes.core.jobs import JobResult, run_jobs
from effnotes.core.settings import settings
from effnotes.finetuning import lte
from effnotes.finetuning.objectives import Learn
from effnotes.finetuning.tune import Pool, TuneRecipe, finetune
from effnotes.metrics.editing import harmonic_mean, macro_average
from effnotes.models.answers import answer
from effnotes.models.language import LanguageModelShape, build_language_model
from effnotes.models.rows import Rows
from effnotes.reporting.tables import KeptTable, keep_table
from effnotes.studies.protocol import Workers, tables

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

LTE, RANDOM, STATIC, PREDICTED = "LTE", "random router", "static experts", "predicted neurons"
ORACLE, UNTRAINED, DENSE = "oracle experts", "oracle, untrained", "dense"
METHODS = (LTE, PREDICTED, ORACLE, RANDOM, STATIC, UNTRAINED)


@settings
class Parameters:
    """The page's parameters; what each means is said where the page declares it."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    sparsities: Annotated[tuple[Share, ...], Field(min_length=1)]
    names: Annotated[int, Field(ge=2)]
    relations: Count
    values: Annotated[int, Field(ge=2)]
    zipf: Annotated[float, Field(ge=0)]
    width: Count
    mlp_width: Count
    experts: Count
    dense_steps: Annotated[int, Field(ge=4)]
    steps: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    separability: Annotated[float, Field(ge=0)]
    etas: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    batches: Annotated[tuple[Count, ...], Field(min_length=1)]
    edits: Count
    edit_steps: Count
    edit_rates: dict[str, Annotated[float, Field(gt=0)]]

    def __post_init__(self) -> None:
        if self.mlp_width % self.experts:
            given = f"experts={self.experts} do not divide the hidden units, mlp_width={self.mlp_width}"
            raise ValueError(f"{given}; allowed are {[n for n in range(1, self.mlp_width + 1) if self.mlp_width % n == 0]}")
        if list(self.sparsities) != sorted(set(self.sparsities)):
            raise ValueError(f"sparsities={list(self.sparsities)}: must rise, each larger than the one before")
        if self.keep(self.sparsities[-1]) < 1:
            raise ValueError(f"sparsities={list(self.sparsities)}: the last leaves none of experts={self.experts}; lower it")
        if self.edit_rates.keys() != {"active", "others", "dense"}:
            raise ValueError(f"edit_rates={self.edit_rates}: must have a rate for each of active, others and dense")
        if max(self.batches) > self.n_facts:
            raise ValueError(f"batches={list(self.batches)}: at most {self.n_facts}, the number of facts")

    @property
    def n_facts(self) -> int:
        """Number of facts of a world."""
        return self.names**2 * self.relations

    def keep(self, sparsity: float) -> int:
        """Return how many experts of a block run at a sparsity: the nearest number."""
        return round((1 - sparsity) * self.experts)


class Facts(NamedTuple):
    """A made-up world: a first name, a last name and a relation give a value."""

    rows: Rows  # of four tokens; the last is the answer
    labels: NDArray[np.int64]  # (n, 4): first, last, relation, value
    shares: NDArray[np.float64]  # (n,) of the training text: Zipf's law in a random order
    vocabulary: int

    def pool(self, seed: int) -> list[Pool]:
        """Return rows to train on, as often as facts are frequent."""
        drawn = np.random.default_rng(seed).choice(len(self.shares), size=50_000, p=self.shares)
        return [Pool(self.rows.take(torch.from_numpy(drawn)))]

    @property
    def quarter(self) -> dict[str, NDArray[np.bool_]]:
        """The rarest and the most frequent quarter of the facts."""
        low, high = np.quantile(self.shares, [0.25, 0.75])
        return {"rare": self.shares <= low, "frequent": self.shares >= high}


def draw_facts(p: Parameters, seed: int) -> Facts:
    """Draw a world; every value is equally likely for every subject and relation."""
    rng = np.random.default_rng([seed, 1])
    grid = np.meshgrid(np.arange(p.names), np.arange(p.names), np.arange(p.relations), indexing="ij")
    labels = np.stack([*(part.ravel() for part in grid), rng.integers(p.values, size=p.n_facts)], axis=1)
    starts = 2 + np.cumsum([0, p.names, p.names, p.relations])  # behind the end of a text and padding
    lengths = (np.full(p.n_facts, number) for number in (4, 3, 1))
    shares = rng.permutation(1 / np.arange(1, p.n_facts + 1) ** p.zipf)
    return Facts(
        Rows(torch.from_numpy(labels + starts), *map(torch.from_numpy, lengths)),
        labels,
        shares / shares.sum(),
        int(starts[-1]) + p.values,
    )


def plan(**parameters: Any) -> list[Parameters]:
    """Make a plan of the page's parameters, a job for each seed, and refuse what cannot work before anything is trained.

    Raises:
        ValueError: A value is missing, unknown, out of range or does not go with another; the message says what is allowed.
    """
    p = Parameters(**parameters)
    LanguageModelShape(width=p.width, layers=2, heads=2, mlp_width=p.mlp_width)
    return [dataclasses.replace(p, seeds=(seed,)) for seed in p.seeds]


class Result(NamedTuple):
    """What a run gave, as tidy tables, each with a column seed."""

    parameters: Parameters
    # Of each method and level (LTE's eta; of others the sparsity asked for): sparsity (reached), recall (share of all facts), rare
    # and frequent (of the rarest and most frequent quarter), and of LTE soft and switched (recall before and behind the switch to
    # hard gates) and nearest (True for the eta whose sparsity is nearest to the highest asked for: what follows is of its model).
    levels: pd.DataFrame
    layers: pd.DataFrame  # of LTE: level, block, sparsity, nearest
    unions: pd.DataFrame  # batch, sparsity (experts that no token of the batch uses)
    near: pd.DataFrame  # behind LTE's first stage: separability, near (share of gates within 0.1 of the threshold)
    shared: pd.DataFrame  # what two facts have in common, overlap of their experts, expected overlap, p
    edits: pd.DataFrame  # of each edit: where, success, same relation, same subject, other, retention, H
    times: pd.DataFrame  # of one block and one token, dense, masked and gathered: milliseconds

    def keep(self) -> list[KeptTable]:
        """Make the tables ready to be kept with the record of the run."""
        return [keep_table(name, getattr(self, name)) for name in self._fields[1:]]


def run(jobs: list[Parameters], *, workers: Workers = None) -> Result:
    """Train and measure every world's models, side by side.

    Raises:
        JobError: A job failed.
    """
    found = run_jobs(study, jobs, workers=workers)
    return Result(jobs[0], **tables(({"seed": job.seeds[0]} for job in jobs), found, *Result._fields[1:]))


def study(p: Parameters) -> JobResult:
    """Train and measure the models of one world; for `run_jobs`."""
    (seed,) = p.seeds
    facts = draw_facts(p, seed)
    pools = facts.pool(seed)
    shape = LanguageModelShape(width=p.width, layers=2, heads=2, mlp_width=p.mlp_width, context=4)

    def stages(steps: int, rate: float) -> lte.Stages:
        return lte.Stages(steps=steps, learning_rate=rate * p.learning_rate, batch_size=p.batch_size)

    untrained = build_language_model(shape, facts.vocabulary, seed=seed)
    dense = stages(p.dense_steps * 3 // 4, 1.0).train(untrained, pools, Learn(), seed=seed)
    dense = stages(p.dense_steps // 4, 0.1).train(dense, pools, Learn(), seed=seed + 1)
    more = stages(p.steps, 0.5)
    grouped = lte.with_experts(dense, p.experts, seed=seed)
    lte.weigh_experts_(grouped, facts.rows)
    levels: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []

    def recall(model: PreTrainedModel) -> float:
        return float(answer(model, facts.rows).exact.mean())

    def add(method: str, level: float, model: PreTrainedModel, **extra: float) -> float:
        right = answer(model, facts.rows).exact
        quarters = {name: float(right[which].mean()) for name, which in facts.quarter.items()}
        unused = [1 - float(gates.mean()) for gates in lte.gates_of(model, facts.rows)]
        row = {
            "method": method,
            "level": level,
            "sparsity": float(np.mean(unused)),
            "recall": float(right.mean()),
            "nearest": False,
        }
        levels.append({**row, **quarters, **extra})
        if method == LTE:
            layers.extend({"level": level, "block": block, "sparsity": share} for block, share in enumerate(unused, 1))
        return float(np.mean(unused))

    whole = more.train(grouped, pools, Learn(), times=2, seed=seed)
    add(DENSE, 0.0, whole)
    found = []
    for eta in p.etas:
        loss = lte.LTE(eta=eta, separability=p.separability, threshold=p.threshold)
        made = lte.learn_to_be_efficient(grouped, pools, more, loss, seed=seed)
        reached = add(LTE, eta, made.adapted, soft=recall(made.soft), switched=recall(made.switched))
        found.append((abs(reached - p.sparsities[-1]), eta, made))
    _, eta, made = min(found, key=lambda each: each[0])
    for row in levels + layers:
        row["nearest"] = row.get("method", LTE) == LTE and row["level"] == eta
    neurons = lte.with_experts(dense, p.mlp_width, seed=seed)
    for asked in p.sparsities:
        keep, units = p.keep(asked), p.keep(asked) * (p.mlp_width // p.experts)
        predicted = lte.routed(more.train(neurons, pools, lte.Predict(keep=units), seed=seed), "top", keep=units)
        add(PREDICTED, asked, more.train(predicted, pools, Learn(), seed=seed + 1))
        add(UNTRAINED, asked, lte.routed(grouped, "oracle", keep=keep))
        rules: dict[str, lte.Rule] = {RANDOM: "top", STATIC: "static", ORACLE: "oracle"}
        for method, rule in rules.items():
            add(method, asked, more.train(lte.routed(grouped, rule, keep=keep), pools, Learn(), times=2, seed=seed))

    def nearness(soft: PreTrainedModel) -> float:
        gates = torch.cat([each.flatten() for each in lte.gates_of(soft, facts.rows)])
        return float(((gates - p.threshold).abs() < 0.1).float().mean())

    free = lte.LTE(eta=eta, separability=0.0, threshold=p.threshold)
    apart = more.train(lte.routed(grouped, "soft"), pools, free, seed=seed)
    near = [{"separability": weight, "near": nearness(soft)} for weight, soft in ((p.separability, made.soft), (0.0, apart))]
    # Of the last place of each prompt, which the answer is read from: (facts, blocks, experts).
    used = torch.stack([gates.reshape(p.n_facts, 3, -1)[:, -1] > 0 for gates in lte.gates_of(made.adapted, facts.rows)], dim=1)
    flat = used.flatten(1).numpy()
    rng = np.random.default_rng([seed, 2])
    return {
        "levels": levels,
        "layers": layers,
        "unions": [{"batch": size, "sparsity": lte.union_sparsity(flat, size)} for size in p.batches],
        "near": near,
        "shared": _shared(flat, facts.labels, seed),
        "edits": [row for _ in range(p.edits) for row in _edits(made.adapted, whole, facts, used, p, rng)],
        "times": [time_block(lte.expert_mlps(made.adapted)[0], seed=seed)],
    }


def _shared(used: NDArray[np.bool_], labels: NDArray[np.int64], seed: int) -> list[dict[str, Any]]:
    first, last, relation, value = labels.T
    together = {"relation": (relation, np.zeros_like(relation))}
    together |= {"first name": (first, relation), "last name": (last, relation), "value": (value, relation)}
    return [{"common": name, **expert_overlap(used, *which, seed=seed)} for name, which in together.items()]


def expert_overlap(
    used: NDArray[np.bool_], labels: NDArray[np.int64], strata: NDArray[np.int64], *, draws: int = 199, seed: int = 0
) -> dict[str, float]:
    """Compare the experts that facts of one label share with what labels dealt out at random would give.

    Args:
        used: (n, N); the experts of each fact.
        labels: (n,) what facts may have in common.
        strata: (n,) labels are dealt out anew, and pairs are formed, within each of these only.
        draws: Of the permutation test.
        seed: Of it.

    Returns:
        overlap (mean Jaccard index |A and B| / |A or B| over pairs of one label), expected (mean over permutations), p (one-sided).
    """
    numbers = used.astype(np.float64)
    both = numbers @ numbers.T
    size = used.sum(axis=1)
    union = size[:, None] + size - both
    jaccard = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    rng = np.random.default_rng(seed)
    one, other = np.nonzero(np.triu(strata[:, None] == strata, 1))
    of_pair = jaccard[one, other]

    def overlap(given: NDArray[np.int64]) -> float:
        return float(of_pair[given[one] == given[other]].mean())

    def dealt() -> NDArray[np.int64]:
        order, mixed = np.argsort(strata, kind="stable"), np.lexsort((rng.random(len(labels)), strata))
        new = np.empty_like(labels)
        new[order] = labels[mixed]
        return new

    observed, null = overlap(labels), [overlap(dealt()) for _ in range(draws)]
    return {"overlap": observed, "expected": float(np.mean(null)), "p": (1 + sum(each >= observed for each in null)) / (1 + draws)}


def _edits(
    model: PreTrainedModel, dense: PreTrainedModel, facts: Facts, used: Any, p: Parameters, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Give one fact that both models know another value: within its active experts, as many others, and the dense model's FFN."""
    known = answer(model, facts.rows).exact & answer(dense, facts.rows).exact
    fact = int(rng.choice(np.flatnonzero(known))) if known.any() else 0
    row = facts.rows.take(slice(fact, fact + 1))
    shift = int(rng.integers(1, p.values))
    tokens = row.tokens.clone()
    tokens[0, -1] += (facts.labels[fact, 3] + shift) % p.values - facts.labels[fact, 3]
    row = dataclasses.replace(row, tokens=tokens)
    active = list(used[fact])
    drawn = [torch.from_numpy(rng.random(len(each))).masked_fill(each, 2.0).argsort()[: int(each.sum())] for each in active]
    others = [torch.zeros_like(each).scatter(0, places, True) for each, places in zip(active, drawn, strict=True)]
    first, last, relation, _ = (facts.labels == facts.labels[fact]).T
    subject = first & last
    groups = {"same relation": relation & ~subject, "same subject": subject & ~relation, "other": ~relation & ~subject}
    found = []
    for where, chosen in {"active": active, "others": others, "dense": None}.items():
        base, places = (dense, {}) if chosen is None else (model, lte.expert_places(model, chosen))
        objective: Any = lte.Within(places)
        how: dict[str, Any] = {"blocks": "mlp", "batch_size": 1, "objective": objective, "learning_rate": p.edit_rates[where]}
        edited = finetune(base, [Pool(row)], TuneRecipe(checkpoints=(p.edit_steps,), **how)).model
        right, success = answer(edited, facts.rows).exact, float(answer(edited, row).exact[0])
        kept = {group: float(right[which & known].mean()) if (which & known).any() else math.nan for group, which in groups.items()}
        retention = macro_average(kept)
        found.append({"where": where, "success": success, **kept, "retention": retention, "H": harmonic_mean(success, retention)})
    return found


def time_block(part: lte.ExpertMLP, *, seed: int = 0, repeats: int = 200) -> dict[str, float]:
    """Time a grouped MLP on single tokens: dense, with gates on hidden units that are all computed, and gathered.

    Returns:
        dense, masked and gathered: milliseconds of the fastest of so many passes, taken in turn on random inputs, on one thread as
        in a worker; sparsity (mean, of these inputs).
    """
    width = part.router.weight.shape[0]
    inputs = torch.randn(repeats, width, generator=torch.Generator().manual_seed(seed))
    ways: dict[str, Any] = {"dense": part.mlp, "masked": part, "gathered": lte.GatheredMLP(part)}
    fastest, used = dict.fromkeys(ways, math.inf), 0.0
    with torch.no_grad():
        for x in inputs:
            used += float(part.router(x, x).mean()) / repeats
            for name, way in ways.items():
                start = time.perf_counter()
                way(x)
                fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - start))
    return fastest | {"sparsity": 1 - used}


def time_wide(width: int, hidden: int, experts: int, sparsity: float) -> pd.DataFrame:
    """Time one FFN of a size that is used, with random weights and random routers, as `time_block` does; hidden in a column."""
    mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
    groups = torch.arange(hidden) // (hidden // experts)
    router = lte.Router(width, groups, experts, torch.Generator().manual_seed(0))
    router.rule, router.keep = "top", round((1 - sparsity) * experts)
    return pd.DataFrame([time_block(lte.ExpertMLP(mlp, "2", router), repeats=50)]).assign(hidden=hidden)
