"""The notes' experiment: jobs from parameters, a table for each note, and an effect a seed for each claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, cast

import numpy as np
import pandas as pd
from pydantic import Field

from effnotes.core.checks import check_choice
from effnotes.core.jobs import JobResult, run_jobs
from effnotes.core.settings import settings
from effnotes.reporting import claims
from effnotes.studies.notes import compression, guarantees, outputs, owners
from effnotes.studies.protocol import Workers

Result: TypeAlias = dict[str, pd.DataFrame]
Seeds = Annotated[tuple[int, ...], Field(min_length=1)]

TRAINED: dict[str, Callable[[int, int], Any]] = {"sep": compression.sep, "lipschitz": guarantees.lipschitz}
TRAINED |= {"activations": guarantees.activations, "samples": guarantees.samples, "pefll": owners.pefll}
TRAINED |= {"modes": outputs.modes, "bands": outputs.bands}
COUNTED: dict[str, Callable[[int], Any]] = {"bsr": guarantees.bsr, "bound": guarantees.bound, "quafl": owners.quafl}
COUNTED |= {"xclp": owners.xclp, "limes": outputs.limes, "mixtures": owners.mixtures}


@settings
class Note:
    """A note on some seeds."""

    name: str
    seeds: Seeds
    steps: Annotated[int, Field(ge=0)]


@settings
class Parameters:
    """The page's parameters; what each means is said where the page declares it."""

    seeds: Seeds
    sep_seeds: Seeds
    steps: dict[str, Annotated[int, Field(ge=1)]]


def plan(**parameters: Any) -> tuple[Note, ...]:
    """Make jobs of the page's parameters, the longest first, and refuse what cannot work before anything is trained.

    Raises:
        ValueError: A value is missing, out of range or unknown, a seed comes twice, or a trained note has no steps.
    """
    p = Parameters(**parameters)
    for seeds in (p.seeds, p.sep_seeds):
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds={list(seeds)}: give each seed once, for each is a unit of its own")
    wanted = [*TRAINED, "collapse"]
    for name in p.steps:
        check_choice(wanted, steps=name)
    if missing := [name for name in wanted if name not in p.steps]:
        raise ValueError(f"steps={dict(p.steps)}: also give those of {', '.join(missing)}")
    # All seeds of one are trained side by side in it.
    jobs = [Note("collapse", p.seeds, p.steps["collapse"])]
    for name in (*TRAINED, *COUNTED):
        jobs += [Note(name, (seed,), p.steps.get(name, 0)) for seed in (p.sep_seeds if name == "sep" else p.seeds)]
    return tuple(jobs)


def work(note: Note) -> JobResult:
    """Run a note."""
    if note.name == "collapse":
        return {"rows": compression.collapse(note.seeds, note.steps)}
    of_seed = COUNTED.get(note.name) or (lambda seed: TRAINED[note.name](seed, note.steps))
    return {"rows": [{"seed": seed, **row} for seed in note.seeds for row in of_seed(seed)]}


def run(plan: tuple[Note, ...], *, workers: Workers = None) -> Result:
    """Run the notes and give a table for each, with a column for the seed.

    Raises:
        JobError: A job failed.
    """
    found: dict[str, list[Any]] = {}
    for note, result in zip(plan, run_jobs(work, plan, workers=workers), strict=True):
        found.setdefault(note.name, []).extend(cast(list[Any], result["rows"]))
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def wide(table: pd.DataFrame, columns: list[str], value: str) -> pd.DataFrame:
    """Means of a value by seed (rows) and by what it belongs to (columns)."""
    return table.groupby(["seed", *columns])[value].mean().unstack(columns)  # keeps what is NaN throughout


def recall_by_owner(courses: pd.DataFrame) -> pd.DataFrame:
    """Return the recall at the end of QuAFL's courses, a row for each method, seed and kind of clients whose digits they are."""
    ends: pd.DataFrame = courses[courses["time"] == courses["time"].max()]
    return ends.melt(["seed", "method"], ["slow clients", "fast clients"], "whose digits", "recall")


def effects(result: Result) -> dict[str, pd.Series[float]]:
    """Return what each claim is measured by, by seed."""
    sep = wide(result["sep"], ["arm", "stage"], "sep")
    lost = {arm: sep[arm, "dense"] - sep[arm, "pruned"] for arm in ("tags", "tags and roles")}
    cra = wide(result["lipschitz"], ["layer", "radius"], "share")
    fits = wide(result["activations"], ["activation"], "log_mse")
    shares = wide(result["samples"], ["of", "size"], "share")
    doublings = np.log2(shares["accuracy"].columns.to_numpy(float))
    slopes = {of: np.polyfit(doublings, shares[of].T, 1)[0] for of in ("certified", "accuracy")}
    bound = wide(result["bound"], ["of", "tasks"], "risk").xs(max(guarantees.TASKS), axis=1, level="tasks")
    gain, missing = (wide(result["collapse"], ["setting"], value) for value in ("gain", "missing"))
    courses, private = wide(result["quafl"], ["method"], "accuracy"), wide(result["bsr"], ["noise"], "accuracy")
    few = wide(result["pefll"], ["examples", "method"], "accuracy")[10]
    spread, counts = wide(result["xclp"], ["method"], "accuracy"), wide(result["mixtures"], ["components"], "held_out")
    worst = result["limes"].pivot_table(index="seed", columns="method", values="accuracy", aggfunc="min")
    modes = wide(result["modes"], ["of", "outcomes"], "value")
    # Some chains have nearly the same states with other hoppings, and nobody finds theirs: the median of a seed's chains.
    errors = result["bands"].pivot_table(index="seed", columns="by", values="error", aggfunc="median")
    return {
        "pruning-removes-separation": lost["tags"] - lost["tags and roles"],
        "low-rank-by-itself": missing["10 classes, 4 layers"],
        "collapse-not-optimal": gain["10 classes, 4 layers"],
        "collapse-of-two-classes": gain["2 classes, 4 layers"],
        "orthogonal-certifies-more": cra["Cayley", 0.25] - cra["AOL", 0.25],
        "n-activation-fits-more": fits["N-activation"] - fits["MaxMin"],
        "robust-needs-more-data": pd.Series(slopes["certified"] - slopes["accuracy"], shares.index),
        "correlated-noise-helps": private["band 20"] - private["DP-SGD"],
        "meta-bound-tighter": bound["bound, each task by itself"] - bound["bound, meta-learning"],
        "quafl-sooner": courses["QuAFL, 10 bits"] - courses["FedAvg"],
        "written-models-for-few": few["PeFLL"] - np.maximum(few["its own examples"], few["one model for all"]),
        "labels-across-clients": spread["across clients"] - spread["a model of pooled labels"],
        "bits-are-enough": spread["by 4096 bits"] - spread["across clients"],
        "mixture-simulates-better": counts[2] - counts[1],
        "worst-hour-better": worst["prior of this hour before"] - worst["no adaptation"],
        "extrapolation-beats-last": worst["prior of this hour before"] - worst["last hour's prior"],
        "two-places-nearer": modes["median error", 1] - modes["median error", 2],
        "backwards-by-two": modes["R² of the model", 2] - modes["R² of guesses", 2],
        "surrogate-inverts": errors["nearest known chain"] - errors["inverted surrogate"],
    }


def measure(result: Result) -> dict[str, claims.Measurement]:
    """Measure the claims of all notes, by the claim's name."""
    return {name: claims.measure(f"notes.{name}", found.dropna()) for name, found in effects(result).items()}


def judged(claim: Mapping[str, Any]) -> str:
    """Say what was found for a claim, in the words of its statement."""
    statement = claim["statement"].rstrip(".")
    told = statement[0].lower() + statement[1:]
    return claims.verdict_sentence(claim, statement, f"It does not hold here that {told}", f"it holds that {told}")


def means(table: pd.DataFrame, by: str, value: str) -> str:
    """Say the mean of each group in words, such as "Mean accuracy: AOL 0.66, Cayley 0.84."."""
    found = table.groupby(by, sort=False)[value].mean()
    spread = float(found.max() - found.min())
    told = (f"{name} {claims.format_number(float(mean), spread=spread)}" for name, mean in found.items())
    return f"Mean {value}: {', '.join(told)}."


def of_owners(recall: pd.DataFrame) -> str:
    """Say by how much the averaged models know fast clients' digits better than slow ones'."""
    by = wide(recall, ["method", "whose digits"], "recall")
    gaps = by.xs("fast clients", axis=1, level=1) - by.xs("slow clients", axis=1, level=1)
    ends = gaps.agg(["mean", "min", "max"]).map("{:.2f}".format)
    told = (f"{name} {ends[name]['mean']} ({ends[name]['min']} to {ends[name]['max']})" for name in recall["method"].unique())
    said = f"Recall of fast clients' digits minus that of slow clients', mean (and least to largest of seeds): {', '.join(told)}."
    return said.replace("-", "−")
