"""The whole protocol of a comparison: tune each method on its own draws, extend what ends on an edge, report on other draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from effnotes.studies.editing.choice import StopRule, choose_rates, next_rate
from effnotes.studies.editing.edits import (
    REFERENCE,
    Base,
    DrawPlan,
    EditRun,
    Method,
    Setting,
    Split,
    Workers,
    check_apart,
    check_kind,
    run_edits,
)


@dataclass(frozen=True)
class Comparison:
    """Methods that are compared in one setting, on the same edits of the same models.

    Raises:
        ValueError: The reference is not among the methods, a grid is empty, there are no bases or no rules, two bases have worlds
            of the same seed, the setting forgets subjects, or as for `EditRecipe`.
    """

    setting: Setting
    bases: tuple[Base, ...]
    draws: DrawPlan
    grids: Mapping[Method, tuple[float, ...]]  # learning rates to begin with, all of the same number for a fair choice
    rules: tuple[StopRule, ...] = ("budget",)
    at_reference_rate: bool = False  # report all methods also at the rate that was chosen for the reference, by the first rule
    truncations: tuple[int, ...] = ()  # of the changes of full rank, of all methods but "full all", on the draws to report

    def __post_init__(self) -> None:
        if REFERENCE not in self.grids:
            raise ValueError(f"{REFERENCE.name!r} is not among the methods, but the others are compared with it")
        empty = [method.name for method, rates in self.grids.items() if not rates]
        if empty:
            raise ValueError(f"{', '.join(empty)} has no learning rates to choose from; give at least one")
        for name in ("bases", "rules"):
            if not getattr(self, name):
                raise ValueError(f"{name}=(): needed is at least one")
        check_kind(self.setting)
        check_apart((base, self.setting, self.draws) for base in self.bases)
        for method, rates in self.grids.items():
            for rate in rates:
                method.recipe(rate, self.setting.checkpoints)

    def check(self) -> None:
        """Draw all edits once, so that a world which cannot have them is refused before anything is trained.

        Raises:
            ValueError: As for `make_draws`.
        """
        for base in self.bases:
            self.draws.tasks(base.world, self.setting, "test")


class Outcome(NamedTuple):
    """What the protocol gave."""

    rows: pd.DataFrame  # as `run_edits` returns them, of both splits
    rates: pd.DataFrame  # as `choose_rates` returns them, for all settings and rules

    def chosen(self, rule: StopRule = "budget") -> pd.DataFrame:
        """Return the chosen rates of one rule."""
        return self.rates[self.rates["rule"] == rule]


def run_protocol(comparisons: Sequence[Comparison], *, extensions: int = 1, workers: Workers = None) -> Outcome:
    """Choose learning rates on the tuning draws of each setting, then make the edits to report with them.

    A grid whose best rate is its lowest or highest is extended by one rate beyond, and the choice is made again.

    Args:
        comparisons: Settings, each with a name of its own.
        extensions: How often a grid can be extended at most, at least 0. A grid of a single rate has no edges.
        workers: As for `run_jobs`.

    Returns:
        All edits and the chosen rates. A rate that is still on the edge of its grid has `edge` set.

    Raises:
        ValueError: Two comparisons have the same setting.
        JobError: An edit failed.
    """
    names = [comparison.setting.name for comparison in comparisons]
    if len(set(names)) < len(names):
        raise ValueError(f"settings {names}: each needs a name of its own")
    grids = {comparison.setting.name: {m: tuple(r) for m, r in comparison.grids.items()} for comparison in comparisons}
    rows = run_edits(_runs(comparisons, grids, "tune"), workers=workers)
    for _ in range(extensions):
        more = _beyond(comparisons, grids, _chosen(comparisons, rows))
        if not more:
            break
        for name, new in more.items():
            for method, beyond in new.items():
                grids[name][method] += beyond
        rows = pd.concat([rows, run_edits(_runs(comparisons, more, "tune"), workers=workers)], ignore_index=True)
    rates = _chosen(comparisons, rows)
    reported = {comparison.setting.name: _to_report(comparison, rates) for comparison in comparisons}
    test = run_edits(_runs(comparisons, reported, "test"), workers=workers)
    return Outcome(pd.concat([rows, test], ignore_index=True), rates)


_Grids = Mapping[str, Mapping[Method, tuple[float, ...]]]


def _runs(comparisons: Sequence[Comparison], grids: _Grids, split: Split) -> list[EditRun]:
    return [
        EditRun(
            base,
            comparison.setting,
            comparison.draws,
            split,
            method,
            rates,
            comparison.truncations if split == "test" and method.rank is None and method.blocks != "all" else (),
        )
        for comparison in comparisons
        for base in comparison.bases
        for method, rates in grids.get(comparison.setting.name, {}).items()
    ]


def _chosen(comparisons: Sequence[Comparison], rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(
        [choose_rates(rows[rows["setting"] == each.setting.name], rule) for each in comparisons for rule in each.rules],
        ignore_index=True,
    )


def _beyond(comparisons: Sequence[Comparison], grids: _Grids, rates: pd.DataFrame) -> dict[str, dict[Method, tuple[float, ...]]]:
    """Rates to try where the best so far is on an edge."""
    more: dict[str, dict[Method, tuple[float, ...]]] = {}
    for comparison in comparisons:
        name = comparison.setting.name
        for method, tried in grids[name].items():
            edges = set(rates.loc[(rates["setting"] == name) & (rates["method"] == method.name), "edge"]) - {""}
            if edges:
                more.setdefault(name, {})[method] = tuple(next_rate(tried, edge) for edge in sorted(edges))
    return more


def _to_report(comparison: Comparison, rates: pd.DataFrame) -> dict[Method, tuple[float, ...]]:
    own = rates[rates["setting"] == comparison.setting.name]
    shared = own[(own["method"] == REFERENCE.name) & (own["rule"] == comparison.rules[0])]["learning_rate"].tolist()
    return {
        method: tuple(
            sorted(
                {
                    *own.loc[own["method"] == method.name, "learning_rate"],
                    *(shared if comparison.at_reference_rate else ()),
                }
            )
        )
        for method in comparison.grids
    }
