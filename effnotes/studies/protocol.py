"""The protocol of every study: jobs told by settings, and values that are chosen on some units and reported on others.

A job is an instance of a `effnotes.core.settings.settings` class, which goes to JSON and back; `run_table` runs many side by side,
keeps them by content and gives one tidy table. The rest knows columns and callables only. `choose` takes the best value of a
hyperparameter in each group by the mean score of the units given; `extend` runs grids and goes beyond those whose best value is
their end; `report` runs what was chosen on other units; `at_chosen` finds it again. A key is a tuple of the columns `by`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast

import pandas as pd

from effnotes.core.jobs import JobResult, WorkerPool, run_jobs

Workers: TypeAlias = int | WorkerPool | None
Key: TypeAlias = tuple[Any, ...]
Grids: TypeAlias = Mapping[Key, tuple[float, ...]]
Split: TypeAlias = Literal["tune", "test"]
Run: TypeAlias = Callable[[Grids, Split], pd.DataFrame]
J = TypeVar("J")

# Sums of the same scores in another order differ in their last bits; rounded to so many decimals, equal means are equal.
DECIMALS = 12


def run_table(
    function: Callable[[J], JobResult],
    jobs: Sequence[J],
    *,
    names: Callable[[J], Mapping[str, Any]],
    order: Callable[[J], Any] = str,
    workers: Workers = None,
) -> pd.DataFrame:
    """Run jobs side by side, keep what is finished, and give one table.

    Args:
        function: As for `run_jobs`; its result holds "rows", a list of dictionaries.
        jobs: Settings, all of one class.
        names: Columns that say what a job was, in each of its rows before what the job found.
        order: What jobs are sorted by before they run: a worker keeps what it has loaded, and a long job is not left for the end.
        workers: As for `run_jobs`.

    Returns:
        The rows of all jobs, in the order of the jobs.

    Raises:
        JobError: A job failed.
    """
    places = sorted(range(len(jobs)), key=lambda place: order(jobs[place]))
    results = dict(zip(places, run_jobs(function, [jobs[place] for place in places], workers=workers), strict=True))
    return tables(map(names, jobs), [results[place] for place in range(len(jobs))], "rows")["rows"]


def tables(heads: Iterable[Mapping[str, Any]], results: Iterable[JobResult], *names: str) -> dict[str, pd.DataFrame]:
    """Make a table of each list of rows that jobs found.

    Args:
        heads: Columns that say what each job was, in each of its rows before what the job found.
        results: Of the jobs, each with a list of dictionaries under every name.
        names: Of the tables.
    """
    told = list(zip(heads, results, strict=True))
    return {
        name: pd.DataFrame([{**head, **row} for head, found in told for row in cast(list[dict[str, Any]], found[name])])
        for name in names
    }


def choose(rows: pd.DataFrame, *, by: Sequence[str], value: str, score: str) -> pd.DataFrame:
    """Choose the value with the highest mean score in each group; ties go to the lower value.

    Args:
        rows: One for each unit and value tried, of the units that are chosen on alone.
        by: Columns that make a group.
        value: Column of the hyperparameter.
        score: Column to maximise; NaN is left out of a mean.

    Returns:
        A row for each group, in the order in which they first come: the columns `by` and `value`, score (the mean at that value),
        tried (how many values), edge ("low" or "high" where it is the lowest or highest of several, else "").

    Raises:
        ValueError: There are no rows, or a group's score is NaN at all values.
    """
    if rows.empty:
        raise ValueError(f"there are no rows to choose {value} on")
    means = rows.groupby([*by, value], sort=False)[score].mean().round(DECIMALS).reset_index()
    chosen = []
    for names, group in means.groupby(list(by), sort=False):
        grid = group.sort_values(value)
        best = grid.sort_values(score, ascending=False, kind="stable").iloc[0]  # NaN last
        if math.isnan(best[score]):
            raise ValueError(f"{score} of {', '.join(map(str, names))} is NaN at every {value}; take units that have this score")
        ends = {grid[value].max(): "high", grid[value].min(): "low"} if len(grid) > 1 else {}
        chosen.append((*names, float(best[value]), float(best[score]), len(grid), ends.get(best[value], "")))
    return pd.DataFrame(chosen, columns=[*by, value, "score", "tried", "edge"])


def next_value(values: Sequence[float], edge: Literal["low", "high"]) -> float:
    """Return the value beyond an end of a logarithmic grid of ones and threes: ..., 1e-4, 3e-4, 1e-3, 3e-3, ...

    Args:
        values: The grid; at least one value above 0.
        edge: Which end.
    """
    end = min(values) if edge == "low" else max(values)
    exponent = math.floor(math.log10(end) + 1e-9)
    grid = [float(f"{digit}e{power}") for power in range(exponent - 1, exponent + 2) for digit in (1, 3)]
    lower, higher = (value for value in grid if value < end * (1 - 1e-6)), (value for value in grid if value > end * (1 + 1e-6))
    return max(lower) if edge == "low" else min(higher)


def extend(
    run: Run, grids: Grids, chosen: Callable[[pd.DataFrame], pd.DataFrame], *, by: Sequence[str], times: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run grids, and extend by one value beyond each whose best is its end.

    Args:
        run: Gives the rows of some grids on the units to choose on ("tune").
        grids: Values to begin with, by key. A grid of a single value has no ends.
        chosen: Chooses from rows, as `choose` does; a key may have several rows, such as one for each way to score.
        by: Columns that make a key.
        times: How often a grid can be extended at most, at least 0.

    Returns:
        All rows, and what was chosen from them.
    """
    tried, rows = dict(grids), run(grids, "tune")
    for _ in range(times):
        edges = {key: sorted(set(group["edge"]) - {""}) for key, group in chosen(rows).groupby(list(by))}
        more = {key: tuple(next_value(grid, edge) for edge in edges[key]) for key, grid in tried.items() if edges[key]}
        if not more:
            break
        tried |= {key: tried[key] + new for key, new in more.items()}
        rows = pd.concat([rows, run(more, "tune")], ignore_index=True)
    return rows, chosen(rows)


def report(
    run: Run, chosen: pd.DataFrame, *, by: Sequence[str], value: str, beside: Mapping[Key, Iterable[float]] | None = None
) -> pd.DataFrame:
    """Run the chosen values on other units.

    Args:
        run: As for `extend`, here on the units to report ("test").
        chosen: As `choose` returns it; all values of a key are run, in rising order.
        by: Columns that make a key.
        value: Column of the hyperparameter.
        beside: Further values by key.
    """
    groups = chosen.groupby(list(by), sort=False)[value]
    return run({key: tuple(sorted({*group, *(beside or {}).get(key, ())})) for key, group in groups}, "test")


def at_chosen(rows: pd.DataFrame, chosen: pd.DataFrame, *, by: Sequence[str], value: str) -> pd.DataFrame:
    """Return the rows that have the chosen values.

    Args:
        rows: Of the units to report.
        chosen: As `choose` returns it, one row for each key.
        by: Columns that make a key.
        value: Column of the hyperparameter.

    Raises:
        ValueError: A chosen value has no rows.
    """
    wanted, there = chosen[[*by, value]], rows[[*by, value]].drop_duplicates()
    missing = wanted[wanted.merge(there, how="left", indicator=True)["_merge"].eq("left_only").to_numpy()]
    if len(missing):
        *names, first = missing.iloc[0]
        example = f"such as {first:g} for {', '.join(names)}"
        raise ValueError(f"{len(missing)} values of {value} that were chosen have no rows to report, {example}; run them")
    return rows.merge(wanted, on=[*by, value])
