"""Tables and figures of a study of edits: the same from a run and from its kept record.

Three tables hold all that is drawn, each averaged over the edits of a world, so that they stay small:

- `ends`: one row for each rule, method and world, where a rule is how an edit ended and which learning rate it had: "budget",
  "first_success", or "reference_rate" (the budget, at the rate that was chosen for the reference).
- `course`: one row for each split, method, learning rate and step, averaged over worlds too.
- `settings`: one row for each setting, method and world, at the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnotes.reporting.figures import PALETTE, plot_intervals, plot_table
from effnotes.studies.editing.choice import TIE, StopRule, compare, frontier, paired_differences
from effnotes.studies.editing.edits import REFERENCE

GROUPS = {
    "kept_same_value": "same old object",
    "kept_same_relation": "same relation",
    "kept_same_subject": "same subject",
    "kept_other": "all others",
}
"""Scores that retention is the mean of, and the facts that they speak of."""

UNLEARNED = {
    "learning_rate": "rate",
    "edge": "on an edge",
    "forget_accuracy": "forgotten facts still right",
    "kept_other": "others kept",
    "ks_statistic": "D from gold",
    "forget_quality_log10_p": "log10 p",
    "utility": "utility",
    "relearned": "relearned",
    "balance": "balance",
}
"""Columns of `compare_unlearning` that are shown, and how they are called on a page."""

_METHOD = ["method", "blocks", "rank"]
_BLOCKS = ("attention", "mlp", "linears")
_OTHERWISE = "#bbbbbb"


def average_by_world(edits: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Average edits over the draws of each world.

    Args:
        edits: One row for each edit, as `run_edits` returns them.
        by: Columns beside the method's name, blocks and rank and the world that rows are told apart by.

    Returns:
        A row for each group and world, with the means of all scores; no column draw, step or loss.
    """
    keys = [*by, *_METHOD, "world"]
    scores = [name for name in edits.select_dtypes("number") if name not in {*keys, "draw", "step", "loss", "edited_exact"}]
    return edits.groupby(keys, dropna=False, sort=False)[scores].mean().reset_index()


def course_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Average edits of one setting over worlds and draws, for each split, method, learning rate and step.

    Args:
        rows: As `run_edits` returns them.

    Returns:
        Columns split, method, blocks, rank, learning_rate, step, edit_success, retention, H and those of `GROUPS`.
    """
    keys = ["split", *_METHOD, "learning_rate", "step"]
    return rows.groupby(keys, dropna=False, sort=False)[["edit_success", "retention", "H", *GROUPS]].mean().reset_index()


def unlearning_table(unlearned: pd.DataFrame) -> pd.DataFrame:
    """Average over worlds what `compare_unlearning` gave: columns objective, method and those of `UNLEARNED`.

    Columns have the names that a page shows.
    """
    named = unlearned.assign(edge=unlearned["edge"].fillna(""))
    means = named.groupby(["objective", "method"], sort=False).agg(
        {column: "first" if column == "edge" else "mean" for column in UNLEARNED}
    )
    return means.rename(columns=UNLEARNED).reset_index()


def rank_name(rank: float) -> str:
    """Return "full" for NaN, else such as "rank 4"."""
    return "full" if np.isnan(rank) else f"rank {rank:g}"


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of H from the reference, world by world, in each setting or under one rule."""
    frame = table.assign(draw=0, setting=table.get("setting", ""))
    return paired_differences(frame, REFERENCE.name)


def plot_rates(course: pd.DataFrame) -> Figure:
    """Draw H on the tuning edits after the last step against the learning rate: a panel for the blocks, a line for each rank."""
    tuned = course[(course["split"] == "tune") & (course["step"] == course["step"].max())]
    panels = _panels(tuned)
    fig, axes = plt.subplots(1, len(panels), figsize=(7.4, 3.0), sharey=True, squeeze=False)
    for ax, blocks in zip(axes[0], panels, strict=True):
        for name, colour, own in _by_rank(tuned, blocks):
            line = own.sort_values("learning_rate")
            ax.plot(line["learning_rate"], line["H"], "o-", color=colour, label=name, markersize=4)
        ax.set(xscale="log", title=blocks, xlabel="learning rate")
    axes[0, 0].set_ylabel("mean H on tuning edits")
    axes[0, -1].legend(fontsize=8.5)
    return fig


def plot_course(course: pd.DataFrame, ends: pd.DataFrame) -> Figure:
    """Draw edit success and the groups nearest to the edit against the steps, at the rates chosen for the budget."""
    rates = ends.loc[ends["rule"] == "budget", ["method", "learning_rate"]].drop_duplicates()
    chosen = course[course["split"] == "test"].merge(rates, on=["method", "learning_rate"])
    shown = {"edit_success": "edit success", **{name: GROUPS[name] for name in ("kept_same_value", "kept_same_subject")}}
    fig, axes = plt.subplots(1, len(shown), figsize=(7.4, 2.9), sharey=True)
    for ax, (score, title) in zip(axes, shown.items(), strict=True):
        for name, colour, own in _by_rank(chosen, "linears"):
            line = own.sort_values("step")
            ax.plot(line["step"], line[score], "o-", color=colour, label=name, markersize=4)
        steps = sorted(chosen["step"].astype(int).unique())
        ax.set(xscale="log", title=title, xlabel="steps", ylim=(-0.03, 1.03))
        ax.set_xticks(steps, [str(step) for step in steps])
        ax.minorticks_off()
    axes[0].set_ylabel("share of facts")
    axes[0].legend(fontsize=8.5, loc="lower right")
    return fig


def plot_differences(ends: pd.DataFrame, order: list[str]) -> Axes:
    """Draw each method's difference of H from the reference with its interval over worlds, under both stop rules."""
    names = [name for name in order if name != REFERENCE.name]
    _, ax = plt.subplots(figsize=(7.4, 0.9 + 0.36 * len(names)))
    ax.axvspan(-TIE, TIE, color="#e3eef7")
    reach = 0.05
    rules: tuple[tuple[StopRule, str, str], ...] = (("budget", "fixed budget", "o"), ("first_success", "first success", "s"))
    for number, (rule, label, marker) in enumerate(rules):
        compared = compare(differences(ends[ends["rule"] == rule]))
        frame = compared.rename(columns={"method": "name"}).set_index("name", drop=False).reindex(names)
        plot_intervals(frame, ax=ax, offset=0.24 * (number - 0.5), label=label, colour=PALETTE[number], marker=marker)
        # Half of the widest intervals may run out of the picture, or few worlds would squeeze all marks together.
        reach = max(reach, 1.2 * frame["mean"].abs().max(), frame[["low", "high"]].abs().max(axis=1).median())
    ax.set_xlim(-reach, reach)
    ax.set_xlabel("difference in H from full linears")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def plot_groups(ends: pd.DataFrame, order: list[str]) -> Axes:
    """Draw the share kept in each group of facts by method, at the budget."""
    kept = ends[ends["rule"] == "budget"].groupby("method")[list(GROUPS)].mean().reindex(order)
    kept.columns = pd.Index([name.replace(" ", "\n", 1) for name in GROUPS.values()])
    _, ax = plt.subplots(figsize=(6.0, 0.8 + 0.32 * len(kept)))
    return plot_table(kept, ax=ax, low=0.4, high=1.0)


def plot_ranks(ends: pd.DataFrame) -> Figure:
    """Draw H by rank and blocks twice: with each method's own learning rate, and with that of the reference for all."""
    rate = ends.loc[ends["rule"] == "reference_rate", "learning_rate"].iloc[0]
    ranks = _ranks(ends)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 1.2 + 0.42 * len(ranks)))
    for ax, rule, title in zip(axes, ("budget", "reference_rate"), ("each at its own rate", f"all at {rate:g}"), strict=True):
        own = ends[(ends["rule"] == rule) & ends["blocks"].isin(_BLOCKS)].assign(name=ends["rank"].map(rank_name))
        table = own.pivot_table(index="name", columns="blocks", values="H", observed=True)
        table = table.reindex(index=[rank_name(rank) for rank in ranks], columns=_panels(own))
        plot_table(table, ax=ax, low=0.0, high=1.0, decimals=3)
        ax.set_title(title)
    return fig


def plot_frontier(course: pd.DataFrame) -> Axes:
    """Draw retention against edit success on the tuning edits: all learning rates and steps, and the best of them joined."""
    _, ax = plt.subplots()
    for name, colour, own in _by_rank(course[course["split"] == "tune"], "linears"):
        line = frontier(own)
        ax.plot(own["edit_success"], own["retention"], "o", color=colour, alpha=0.25, markersize=4)
        ax.plot(line["edit_success"], line["retention"], "o-", color=colour, label=name, markersize=5)
    ax.set(xlabel="edit success (share of edited facts)", ylabel="retention (mean of four groups)")
    ax.legend()
    return ax


def plot_settings(settings: pd.DataFrame, names: Sequence[str]) -> Axes:
    """Draw H of full rank and of each rank in several settings: worlds as dots, their means as bars.

    Settings have names such as "8 facts, 5% retained", and stand in the order of these numbers.
    """
    names = sorted(names, key=lambda name: [float(part.split()[0].rstrip("%")) for part in name.split(", ")])
    _, ax = plt.subplots(figsize=(7.4, 3.4))
    shown = settings[settings["setting"].isin(names)]
    ranks = _ranks(shown)
    width = 0.8 / len(ranks)
    for name, colour, own in _by_rank(shown, "linears"):
        number = [rank_name(rank) for rank in reversed(ranks)].index(name)
        for place, setting in enumerate(names):
            values = own.loc[own["setting"] == setting, "H"]
            x = place + (number - (len(ranks) - 1) / 2) * width
            ax.plot([x] * len(values), values, "o", color=colour, alpha=0.5, markersize=4)
            ax.hlines(values.mean(), x - 0.4 * width, x + 0.4 * width, color=colour, linewidth=3, label="" if place else name)
    ax.set_xticks(range(len(names)), [name.replace(", ", "\n").replace(" retained", "") for name in names], fontsize=8.5)
    ax.set(ylabel="H", xlabel="facts edited at once, share of subjects retained")
    ax.legend(ncols=len(ranks), loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8.5)
    return ax


def plot_truncation(ends: pd.DataFrame, truncations: Sequence[int]) -> Figure:
    """Draw the stable rank of full-rank changes by blocks, and H after they were cut down to lower ranks."""
    own = ends[(ends["rule"] == "budget") & ends["rank"].isna()]
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.1))
    cut, panels = sorted(truncations), _panels(own)
    for number, blocks in enumerate(panels):
        rows = own[own["blocks"] == blocks]
        left.plot([number] * len(rows), rows["stable_rank"], "o", color=PALETTE[number], alpha=0.6)
        values = [rows[f"truncated_{rank}_H"].mean() for rank in cut] + [rows["H"].mean()]
        right.plot(range(len(values)), values, "o-", color=PALETTE[number], label=blocks)
    left.set_xticks(range(len(panels)), panels)
    left.set(xlim=(-0.5, len(panels) - 0.5), ylabel="stable rank of the change", ylim=(0, None))
    right.set_xticks(range(len(cut) + 1), [*map(str, cut), "whole"])
    right.set(xlabel="rank that is kept", ylabel="H")
    right.legend(fontsize=8.5, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(panels))
    return fig


def plot_spread(settings: pd.DataFrame) -> Axes:
    """Draw how held-out subjects answer after some facts of a relation were rewritten to one object."""
    spreads = settings.dropna(subset="spread").groupby(["setting", "method"], sort=False)[["spread", "unseen_kept"]].mean()
    _, ax = plt.subplots(figsize=(7.4, 0.9 + 0.34 * len(spreads)))
    parts = {
        "the one object": spreads["spread"],
        "their old object": spreads["unseen_kept"],
        "otherwise": (1 - spreads["spread"] - spreads["unseen_kept"]).clip(lower=0),
    }
    start = np.zeros(len(spreads))
    for (label, values), colour in zip(parts.items(), (PALETTE[1], PALETTE[0], _OTHERWISE), strict=True):
        ax.barh(np.arange(len(spreads)), values, left=start, color=colour, label=label, height=0.7)
        start = start + values.to_numpy()
    ax.set_yticks(np.arange(len(spreads)), [f"{setting.rpartition(' by ')[2]}, {method}" for setting, method in spreads.index])
    ax.invert_yaxis()
    ax.set(xlabel="share of held-out subjects", xlim=(0, 1))
    ax.grid(visible=False, axis="y")
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def plot_ripple(settings: pd.DataFrame) -> Figure:
    """Draw how entailed facts are answered after an edit, and what is kept of other facts in a structured world."""
    means = settings.dropna(subset="consequence_followed").groupby("method", sort=False).mean(numeric_only=True)
    labels = [name.replace(" linears", "") for name in means.index]
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.3), width_ratios=[1, 1.5])
    shares = {
        "consequence_followed": ("follows", PALETTE[2]),
        "consequence_kept": ("as before", PALETTE[0]),
        "consequence_other": ("otherwise", _OTHERWISE),
    }
    bottom = np.zeros(len(means))
    for column, (label, colour) in shares.items():
        left.bar(range(len(means)), means[column], bottom=bottom, color=colour, label=label, width=0.7)
        bottom = bottom + means[column].to_numpy()
    left.set_xticks(range(len(means)), labels)
    left.set(ylabel="share of entailed facts", ylim=(0, 1))
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    kept = {
        "pair_kept": "correlated\nrelation",
        "kept_same_subject": "subject's\nother facts",
        "nested_of_old_kept": "nested of\nold object",
        "nested_of_new_kept": "nested of\nnew object",
    }
    width = 0.8 / len(means)
    for number, label in enumerate(labels):
        places = np.arange(len(kept)) + (number - (len(means) - 1) / 2) * width
        right.bar(places, means[list(kept)].iloc[number], width=0.9 * width, color=PALETTE[number], label=label)
    right.set_xticks(range(len(kept)), list(kept.values()), fontsize=8)
    right.set(ylabel="share kept", ylim=(0, 1.02))
    right.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(3, len(labels)))
    return fig


def _ranks(frame: pd.DataFrame) -> list[float]:
    """Ranks from low to high, full rank last."""
    low = sorted(frame["rank"].dropna().unique().tolist())
    return [*low, *([float("nan")] if frame["rank"].isna().any() else [])]


def _panels(frame: pd.DataFrame) -> list[str]:
    return [blocks for blocks in _BLOCKS if (frame["blocks"] == blocks).any()]


def _by_rank(frame: pd.DataFrame, blocks: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Name, colour and rows of full rank and of each rank, with full rank first."""
    own = frame[frame["blocks"] == blocks]
    ranks = _ranks(own)[::-1]
    parts = [own[own["rank"].isna() if np.isnan(rank) else own["rank"] == rank] for rank in ranks]
    return [
        (rank_name(rank), PALETTE[place % len(PALETTE)], part) for place, (rank, part) in enumerate(zip(ranks, parts, strict=True))
    ]
