"""The tables of a run: what its figures are drawn from, and what its record keeps for pages that cannot repeat it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pandas as pd

from effnotes.reporting.kept import KeptRecord
from effnotes.reporting.tables import KeptTable, keep_table


@dataclass(frozen=True, eq=False)
class Findings:
    """Tidy tables of a run, each kept under its name."""

    models: pd.DataFrame  # a row for each seed and sparsity: costs, and metrics averaged over attributes
    attributes: pd.DataFrame  # a row for each sparsity and attribute: metrics averaged over seeds
    growth: pd.DataFrame  # of bias amplification over the dense twins, with an interval, by sparsity
    exemplars: pd.DataFrame  # changed decisions, by sparsity
    criteria: pd.DataFrame  # what the dense model tells of each skewed attribute, and how its bias grew
    overrides: pd.DataFrame  # each repair at the high sparsity
    levels: pd.DataFrame  # one row: the moderate and the high sparsity

    @classmethod
    def of_record(cls, record: KeptRecord) -> Findings:
        """Read the tables of a kept record.

        Raises:
            TableError: the record lacks one.
        """
        tables = {field.name: record.table(field.name) for field in fields(cls)}
        for name, keys in {"models": ["seed", "sparsity"], "growth": ["sparsity"], "exemplars": ["sparsity"]}.items():
            tables[name] = tables[name].sort_values(keys)
        return cls(**tables)

    def keep(self) -> list[KeptTable]:
        """Make all tables ready to be kept with the record of the run."""
        return [keep_table(field.name, getattr(self, field.name)) for field in fields(self)]

    @property
    def sparsities(self) -> list[float]:
        """All levels, rising."""
        return sorted(self.models["sparsity"].unique())

    @property
    def weights_left(self) -> list[int]:
        """Prunable weights that are not zero at each level, median over seeds."""
        return self.models.groupby("sparsity")["remaining_weights"].median().astype(int).to_list()

    @property
    def moderate(self) -> float:
        """Where "no loss" is claimed."""
        return float(self.levels["moderate"].iloc[0])

    @property
    def high(self) -> float:
        """Where growth is claimed."""
        return float(self.levels["high"].iloc[0])

    def by_attribute(self, metric: str) -> pd.DataFrame:
        """Mean over seeds of a metric of the skewed attributes: a row for each level, a column for each attribute."""
        wide = self.attributes.pivot(index="sparsity", columns="attribute", values=metric)
        return wide.reindex(columns=self.criteria["attribute"])
