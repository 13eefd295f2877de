"""Kept records of the chapter on several data beside one another: tables, a figure and sentences, from the records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from effnotes.reporting.claims import format_number, interval_text
from effnotes.reporting.figures import PALETTE, plot_intervals
from effnotes.reporting.kept import KeptRecord
from effnotes.studies.traces.figures import METHODS, VARIANTS, gains
from effnotes.studies.traces.names import KINDS, SCORES
from effnotes.studies.traces.sentences import QUESTIONS

# Kept records by what their data are called on the page.
Records: TypeAlias = Mapping[str, KeptRecord]


def kept_means(record: KeptRecord) -> pd.DataFrame:
    """Return the means that a run has kept as `Result.means` has them; scores that a kind of image does not keep are NaN."""
    tables = pd.concat([record.table(kind).assign(kind=kind) for kind in KINDS], ignore_index=True)
    return tables.reindex(columns=["seed", "kind", "variant", "levels", "method", *SCORES])


def data_table(records: Records) -> pd.DataFrame:
    """Give for each data the networks, images, and how well classes and trojans were learnt: means over networks, in [0, 1]."""
    found = []
    for name, record in records.items():
        share, p = record.table("learned").groupby("trojan")["share"].mean(), record.parameters
        elsewhere = share.index.str.endswith("elsewhere")
        found.append(
            {
                "data": name,
                "networks": len(p["seeds"]),
                "training images": p["num_train"],
                "test images": p["num_test"],
                "explained": 2 * p["samples"] * len(p["seeds"]),
                "class right": share[""],
                "trojan works, least": share[~elsewhere].drop("").min(),
                "works elsewhere, most": share[elsewhere].max(),
            }
        )
    return pd.DataFrame(found)


def gains_beside(records: Records, kind: str, score: str) -> dict[str, pd.DataFrame]:
    """Return `figures.gains` at the strong levels, of the means of seeds, for each data."""
    found = {name: gains(kept_means(record).assign(sample=0), kind, score) for name, record in records.items()}
    return {name: table[table["levels"] == "strong"].reset_index(drop=True) for name, table in found.items()}


def plot_gains_beside(found: Mapping[str, pd.DataFrame]) -> Axes:
    """Draw what the image's own trace adds to the pixel AUC of each method, a colour for each data, from `gains_beside`."""
    names = list(dict.fromkeys(name for table in found.values() for name in table["name"]))
    _, ax = plt.subplots(figsize=(7.4, 1.1 + 0.5 * len(names)))
    ax.axvline(0, color="0.4", linewidth=0.8)
    for number, (data, table) in enumerate(found.items()):
        at = table.set_index("name").reindex(names).reset_index()
        offset = 0.24 * (number - (len(found) - 1) / 2)
        plot_intervals(at, ax=ax, offset=offset, label=data, colour=PALETTE[number], marker="osD"[number % 3])
    ax.set_xlabel("pixel AUC with the trace minus that without")
    ax.legend(ncols=len(found), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def insertion_beside(records: Records) -> pd.DataFrame:
    """Give what the own trace adds to insertion and deletion of each method, at the strong levels, for each data."""
    columns = {}
    for score in ("insertion", "deletion"):
        for name, table in gains_beside(records, "clean", score).items():
            columns[f"{score}, {name}"] = table.set_index("name")["mean"]
    return pd.DataFrame(columns).rename_axis("method").reset_index()


def verdicts_table(records: Records) -> pd.DataFrame:
    """Give how each claim came out on each data: columns claim, one for each data, and differ, whether the verdicts do."""
    rows = []
    for name in dict.fromkeys(name for record in records.values() for name in record.claims):
        each = {data: record.claims.get(name) for data, record in records.items()}
        there = [claim for claim in each.values() if claim is not None]
        texts = {data: "–" if claim is None else _measured(claim) for data, claim in each.items()}
        differ = len({claim["verdict"] for claim in there}) > 1
        rows.append({"claim": there[0]["statement"]} | texts | {"differ": differ})
    return pd.DataFrame(rows)


def across(records: Records) -> list[str]:
    """Say of each claim that the top of the chapter names how it came out on which data."""
    said = []
    for short, question in QUESTIONS.items():
        by_verdict: dict[str, list[str]] = {}
        for name, record in records.items():
            if (claim := record.claims.get(f"traces.{short}")) is not None:
                by_verdict.setdefault(str(claim["verdict"]), []).append(name)
        if by_verdict:
            parts = [f"{verdict} on {_listed(names)}" for verdict, names in by_verdict.items()]
            said.append(f"That {question} is {', '.join(parts)}.")
    return said


def of_verdicts(table: pd.DataFrame) -> str:
    """Say for how many claims the data disagree, from `verdicts_table`."""
    return f"Of {len(table)} claims, {int(table['differ'].sum())} came out differently on some of the data."


def of_frontiers(records: Records, method: str = "saliency") -> str:
    """Say for each data which pruned network points best at trojans at the strong levels, and which agrees most."""
    said = []
    for name, record in records.items():
        means = kept_means(record)
        chosen = means[(means["kind"] == "trojan") & (means["method"] == method) & (means["levels"] == "strong")]
        best = chosen[chosen["variant"].isin(VARIANTS)].groupby("variant")[["auc", "agreement"]].mean()
        highest = {score: VARIANTS[str(values.idxmax())] for score, values in best.items()}
        first = f"pixel AUC, {highest['auc']} ({best['auc'].max():.3f})"
        said.append(f"on {name} in {first}, and in agreement, {highest['agreement']} ({best['agreement'].max():.0%})")
    return f"Highest at the strong levels, by {METHODS[method]}: {'; '.join(said)}."


def of_gains_beside(found: Mapping[str, pd.DataFrame], what: str) -> str:
    """Say for how many methods the trace changes a score for the better or the worse, from `gains_beside`."""
    said = [
        f"{(t['low'] > 0).sum()} of {len(t)} methods up and {(t['high'] < 0).sum()} down on {name}" for name, t in found.items()
    ]
    return f"By the intervals over networks, the trace moves {what} of {_listed(said)}."


def _measured(claim: Mapping[str, Any]) -> str:
    if claim["estimate"] is None:
        return f"{claim['verdict']}, no effect defined"
    low, high = claim["interval"] or (0.0, 0.0)
    interval = f" {interval_text(claim['interval'])}" if claim["interval"] else ""
    return f"{claim['verdict']}, {format_number(claim['estimate'], spread=high - low)}{interval}"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
