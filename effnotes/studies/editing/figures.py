"""Figures of the chapter on editing, drawn from tables: the same from a run and from its kept record.

What `ends`, `course` and `settings` hold is said in `effnotes.studies.editing.tables`.
"""

from collections.abc import Sequence
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnotes.reporting.figures import PALETTE, plot_intervals, plot_table
from effnotes.studies.editing.settings import REFERENCE, StopRule
from effnotes.studies.editing.statistics import TIE, compare, frontier, paired_differences
from effnotes.studies.editing.tables import GROUPS

_BLOCKS = ("attention", "mlp", "linears")
_OTHERWISE = "#bbbbbb"
_STACKED: dict[str, Any] = {"stacked": True, "width": 0.7, "linewidth": 0}  # white edges would cover what is small
_ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "title": None}


def rank_name(rank: float) -> str:
    """Return "full" for NaN, else such as "rank 4"."""
    return "full" if np.isnan(rank) else f"rank {rank:g}"


def plot_rates(course: pd.DataFrame) -> Figure:
    """Draw H on the tuning edits after the last step against the learning rate: a panel for the blocks, a line for each rank."""
    tuned = course[(course["split"] == "tune") & (course["step"] == course["step"].max())]
    panels = _panels(tuned)
    fig, axes = plt.subplots(1, len(panels), figsize=(7.4, 3.3), sharey=True, squeeze=False)
    for ax, blocks in zip(axes[0], panels, strict=True):
        _lines(tuned, blocks, "learning_rate", "H", ax)
        ax.set(xscale="log", title=blocks, xlabel="learning rate", ylabel="mean H on tuning edits")
        ax.set_xticks(tried := sorted(tuned["learning_rate"].unique()), map("{:g}".format, tried), rotation=60, fontsize=8)
        ax.minorticks_off()
    _one_legend(fig)
    return fig


def plot_course(course: pd.DataFrame, ends: pd.DataFrame) -> Figure:
    """Draw edit success and the groups nearest to the edit against the steps, at the rates chosen for the budget."""
    rates = ends.loc[ends["rule"] == "budget", ["method", "learning_rate"]].drop_duplicates()
    chosen = course[course["split"] == "test"].merge(rates, on=["method", "learning_rate"])
    shown = {"edit_success": "edit success", **{name: GROUPS[name] for name in ("kept_same_value", "kept_same_subject")}}
    steps = sorted(chosen["step"].astype(int).unique())
    fig, axes = plt.subplots(1, len(shown), figsize=(7.4, 2.9), sharey=True)
    for ax, (score, title) in zip(axes, shown.items(), strict=True):
        _lines(chosen, "linears", "step", score, ax)
        ax.set(xscale="log", title=title, xlabel="steps", ylim=(-0.03, 1.03), ylabel="share of facts")
        ax.set_xticks(steps, map(str, steps))
        ax.minorticks_off()
    _one_legend(fig)
    return fig


def plot_differences(ends: pd.DataFrame, order: list[str]) -> Axes:
    """Draw each method's difference of H from the reference with its interval over worlds, under both stop rules."""
    names = [name for name in order if name != REFERENCE.name]
    _, ax = plt.subplots(figsize=(7.4, 0.9 + 0.36 * len(names)))
    ax.axvspan(-TIE, TIE, color="#e3eef7")
    reach = TIE
    for number, (rule, label, marker) in enumerate(zip(get_args(StopRule), ("fixed budget", "first success"), "os", strict=True)):
        own = ends[ends["rule"] == rule].assign(draw=0, setting="")
        found = compare(paired_differences(own, REFERENCE.name)).rename(columns={"method": "name"})
        frame = found.set_index("name", drop=False).reindex(names)
        plot_intervals(frame, ax=ax, offset=0.24 * (number - 0.5), label=label, colour=PALETTE[number], marker=marker)
        reach = max(reach, float(np.nanmax(frame[["mean", "low", "high"]].abs())))
    ax.set(xlim=(-1.05 * reach, 1.05 * reach), xlabel="difference in H from full linears")
    ax.legend(ncols=2, **_ABOVE)
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
    names = _names(ends)[::-1]
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 1.2 + 0.42 * len(names)))
    for ax, rule, title in zip(axes, ("budget", "reference_rate"), ("each at its own rate", f"all at {rate:g}"), strict=True):
        own = ends[(ends["rule"] == rule) & ends["blocks"].isin(_BLOCKS)].assign(name=ends["rank"].map(rank_name))
        table = own.pivot_table(index="name", columns="blocks", values="H").reindex(index=names, columns=_panels(own))
        plot_table(table, ax=ax, low=0.0, high=1.0, decimals=3)
        ax.set_title(title)
    return fig


def plot_frontier(course: pd.DataFrame) -> Axes:
    """Draw retention against edit success on the tuning edits: all learning rates and steps, and the best of them joined."""
    _, ax = plt.subplots()
    tuned = course[(course["split"] == "tune") & (course["blocks"] == "linears")]
    best = frontier(tuned).merge(tuned[["method", "blocks", "rank"]].drop_duplicates(), on="method")
    sns.scatterplot(**_by_rank(tuned), x="edit_success", y="retention", alpha=0.25, s=22, legend=False, ax=ax)
    _lines(best, "linears", "edit_success", "retention", ax)
    ax.set(xlabel="edit success (share of edited facts)", ylabel="retention (mean of four groups)")
    ax.legend(ncols=4, **_ABOVE)
    return ax


def plot_settings(settings: pd.DataFrame, names: Sequence[str]) -> Axes:
    """Draw H of full rank and of each rank in several settings: worlds as dots, their means as bars.

    Settings have names such as "8 facts, 5% retained", and stand in the order of these numbers.
    """
    order = sorted(names, key=lambda name: [float(part.split()[0].rstrip("%")) for part in name.split(", ")])
    shown = settings[settings["setting"].isin(order) & (settings["blocks"] == "linears")]
    _, ax = plt.subplots(figsize=(7.4, 3.4))
    same, ranks = _by_rank(shown) | {"x": "setting", "y": "H", "order": order, "ax": ax}, _names(shown)
    width = 0.8 / len(ranks)
    sns.stripplot(**same, dodge=True, jitter=False, alpha=0.5, size=4, legend=False)
    bars: dict[str, Any] = {"marker": "_", "markersize": 330 * width / len(order), "markeredgewidth": 3, "linestyle": "none"}
    sns.pointplot(**same, dodge=0.8 - width if len(ranks) > 1 else False, errorbar=None, **bars)
    ax.set_xticks(range(len(order)), [name.replace(", ", "\n").replace(" retained", "") for name in order], fontsize=8.5)
    ax.set(ylabel="H", xlabel="facts edited at once; share of the subjects whose facts stand among the training rows")
    for handle in ax.legend(ncols=len(ranks), fontsize=8.5, **_ABOVE).legend_handles:
        handle.set_markersize(14)  # type: ignore[union-attr]  # as wide as the bars it would lie on the names
    return ax


def plot_truncation(ends: pd.DataFrame, truncations: Sequence[int]) -> Figure:
    """Draw the stable rank of full-rank changes by blocks, and H after they were cut down to lower ranks."""
    own = ends[(ends["rule"] == "budget") & ends["rank"].isna()]
    panels = _panels(own)
    columns = {**{f"truncated_{rank}_H": str(rank) for rank in sorted(truncations)}, "H": "whole"}
    cut = own[["blocks", *columns]].rename(columns=columns).melt("blocks", var_name="rank", value_name="H")
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.1))
    colours: dict[str, Any] = {"hue": "blocks", "hue_order": panels, "palette": PALETTE[: len(panels)]}
    sns.stripplot(own, x="blocks", y="stable_rank", order=panels, jitter=False, alpha=0.6, size=6, legend=False, ax=left, **colours)
    left.set(xlabel="", ylabel="stable rank of the change", ylim=(0, 1.08 * own["stable_rank"].max()))
    sns.lineplot(cut, x="rank", y="H", errorbar=None, ax=right, **_MARKS, **colours)
    right.set(xlabel="rank that is kept", ylabel="H")
    right.legend(fontsize=8.5, ncols=len(panels), **_ABOVE)
    return fig


def plot_spread(settings: pd.DataFrame) -> Axes:
    """Draw how held-out subjects answer after some facts of a relation were rewritten to one object."""
    spreads = settings.dropna(subset="spread").groupby(["setting", "method"], sort=False)[["spread", "unseen_kept"]].mean()
    spreads["otherwise"] = (1 - spreads["spread"] - spreads["unseen_kept"]).clip(lower=0)
    spreads.index = pd.Index([f"{setting.rpartition(' by ')[2]}, {method}" for setting, method in spreads.index])
    spreads.columns = pd.Index(["the one object", "their old object", "otherwise"])
    _, ax = plt.subplots(figsize=(7.4, 0.9 + 0.34 * len(spreads)))
    spreads.plot.barh(**_STACKED, color=[PALETTE[1], PALETTE[0], _OTHERWISE], ax=ax)
    ax.invert_yaxis()
    ax.set(xlabel="share of held-out subjects", xlim=(0, 1), ylabel="")
    ax.grid(visible=False, axis="y")
    ax.legend(ncols=3, **_ABOVE)
    return ax


def plot_ripple(settings: pd.DataFrame) -> Figure:
    """Draw how entailed facts are answered after an edit, and what is kept of other facts in a structured world."""
    means = settings.dropna(subset="consequence_followed").groupby("method", sort=False).mean(numeric_only=True)
    means.index = pd.Index([name.replace(" linears", "") for name in means.index], name="method")
    shares = {"consequence_followed": "follows", "consequence_kept": "as before", "consequence_other": "otherwise"}
    kept = {"pair_kept": "correlated\nrelation", "kept_same_subject": "subject's\nother facts"}
    kept |= {f"nested_of_{which}_kept": f"nested of\n{which} object" for which in ("old", "new")}
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.3), width_ratios=[1, 1.5])
    colours: list[Any] = [PALETTE[2], PALETTE[0], _OTHERWISE]
    means[list(shares)].rename(columns=shares).plot.bar(**_STACKED, rot=0, color=colours, ax=left)
    left.set(xlabel="", ylabel="share of entailed facts", ylim=(0, 1))
    left.legend(fontsize=8, ncols=3, columnspacing=0.8, handlelength=1.2, **_ABOVE)
    bars = means[list(kept)].rename(columns=kept).melt(var_name="facts", value_name="share", ignore_index=False).reset_index()
    sns.barplot(bars, x="facts", y="share", hue="method", palette=PALETTE[: len(means)], errorbar=None, saturation=1, ax=right)
    right.tick_params(axis="x", labelsize=8)
    right.set(xlabel="", ylabel="share kept", ylim=(0, 1.02))
    right.legend(fontsize=8, ncols=min(3, len(means)), **_ABOVE)
    return fig


def plot_trace(trace: pd.DataFrame) -> Axes:
    """Draw how much of the answer's probability returns, by place of the prompt and block; columns place, layer, recovered."""
    by_place = trace.pivot(index="place", columns="layer", values="recovered").reindex(trace["place"].unique())
    _, ax = plt.subplots(figsize=(1.8 + 1.1 * by_place.shape[1], 1.9))
    plot_table(by_place.rename(columns="block {}".format), ax=ax, low=0.0, high=1.0)
    ax.set_title("probability that returns", fontsize=10.5)
    return ax


_MARKS: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgewidth": 0}


def _lines(frame: pd.DataFrame, blocks: str, x: str, y: str, ax: Axes) -> None:
    """Draw a line for full rank and for each rank."""
    sns.lineplot(**_by_rank(frame[frame["blocks"] == blocks]), x=x, y=y, estimator=None, ax=ax, **_MARKS)


def _one_legend(fig: Figure) -> None:
    """Put one legend above all panels, off their lines, and keep the label of the first one's upward axis."""
    handles, names = fig.axes[0].get_legend_handles_labels()
    for ax in fig.axes:
        ax.legend().remove()
        ax.label_outer()
    fig.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=9)


def _by_rank(frame: pd.DataFrame) -> dict[str, Any]:
    """What tells seaborn to give each rank a colour, full rank the first."""
    names = _names(frame)
    named = frame.assign(name=frame["rank"].map(rank_name))
    return {"data": named, "hue": "name", "hue_order": names, "palette": PALETTE[: len(names)]}


def _names(frame: pd.DataFrame) -> list[str]:
    """Names of the ranks, full rank first, then from high to low."""
    return [rank_name(rank) for rank in sorted(frame["rank"].unique(), key=lambda rank: -np.nan_to_num(rank, nan=np.inf))]


def _panels(frame: pd.DataFrame) -> list[str]:
    return [blocks for blocks in _BLOCKS if (frame["blocks"] == blocks).any()]
