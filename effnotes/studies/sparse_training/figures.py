"""Figures of the page on sparse training, drawn from tables: the same from a run and from its kept record."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnotes.core.files import user_path
from effnotes.reporting.figures import PALETTE, legend_below, plot_bars
from effnotes.studies.sparse_training.training import MODES, SYSTEMS

TRANSFERRED = ("AC/DC", "GMP", "ticket")
ONE_SHOT = SYSTEMS["cram"][:-1]  # patterns have sparsities of their own


def as_trained(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the networks as they came out of training, without those that were pruned in one step afterwards."""
    return outcomes.drop_duplicates(["seed", "model"])


def one_shot(outcomes: pd.DataFrame, *, recalibrated: bool) -> pd.DataFrame:
    """Return dense networks of CrAM's comparison and what one-shot pruning makes of them, by level."""
    rows = outcomes[outcomes["model"].isin(ONE_SHOT) & (outcomes["pattern"] == "")]
    shots = rows.duplicated(["seed", "model"])
    return rows[~shots | (rows["recalibrated"] == recalibrated)]


def plot_acdc(outcomes: pd.DataFrame, course: pd.DataFrame) -> Figure:
    """Draw the accuracy of each training with and without masks, and how much AC/DC's mask changes at each compression."""
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.2), width_ratios=(3, 2))
    names = ["dense", "AC/DC, dense finish", "AC/DC", "GMP", "frozen mask"]
    rows = as_trained(outcomes)
    plot_bars(rows[rows["model"].isin(names)].set_index("model").loc[names].reset_index(), "model", "accuracy", ax=axes[0])
    axes[0].set_ylim(max(0.0, rows["accuracy"].min() - 0.1), 1)
    plt.setp(axes[0].get_xticklabels(), rotation=25, ha="right")
    changes = course[course["arm"] == "AC/DC"].dropna(subset="churn")
    changes = changes.assign(number=changes.groupby("seed").cumcount() + 2)
    sns.lineplot(changes, x="number", y="churn", marker="o", errorbar=None, ax=axes[1])
    sns.scatterplot(changes, x="number", y="churn", s=12, color="0.25", ax=axes[1])
    axes[1].set(xlabel="compression", ylabel="weights that change sides", xticks=sorted(changes["number"].unique()))
    return fig


def plot_memory(memory: pd.DataFrame) -> Axes:
    """Draw the share of wrong labels that are predicted after each epoch; sparse phases of AC/DC are shaded."""
    _, ax = plt.subplots(figsize=(6.4, 3))
    shown = memory.assign(training=memory["arm"])
    sns.lineplot(shown, x="epoch", y="as_told", hue="training", hue_order=["dense", "AC/DC"], errorbar=("pi", 100), ax=ax)
    sparse = memory[(memory["arm"] == "AC/DC") & (memory["sparsity"] > 0)]["epoch"].unique()
    for epoch in sparse:
        ax.axvspan(epoch - 0.5, epoch + 0.5, color="0.9", linewidth=0, zorder=0)
    ax.set(ylabel="wrong labels predicted", ylim=(0, 1.02))
    return ax


def published(path: str) -> pd.DataFrame:
    """Read published means of transfer; `data/transfer/CARD.md` says what they are."""
    return pd.read_csv(user_path(path))


def plot_published(table: pd.DataFrame) -> Figure:
    """Draw the published relative error increase of each method against sparsity, linear and full."""
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), sharey=True)
    for ax, mode in zip(axes, MODES, strict=True):
        for colour, (method, rows) in zip(PALETTE, table.groupby("method", sort=False), strict=False):
            of = rows[rows["mode"] == mode]
            ax.plot(of["sparsity"], of["increase"], "o-", color=colour, label=method, markersize=4)
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set(title=mode, xlabel="sparsity, %", xticks=[80, 90, 95])
    axes[0].set_yscale("symlog", linthresh=10)
    axes[0].set_yticks([-5, 0, 5, 10, 30, 100, 300], ["−5", "0", "5", "10", "30", "100", "300"])
    axes[0].set_ylabel("relative error increase, %")
    legend_below(fig, columns=3)
    return fig


def plot_transfer(transfer: pd.DataFrame) -> Figure:
    """Draw the relative error increase of each sparse network on each task, linear and full."""
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.2))
    for ax, mode in zip(axes, MODES, strict=True):
        rows = transfer[(transfer["mode"] == mode) & (transfer["model"] != "dense")]
        plot_bars(rows, "task", "increase", ax=ax, hue="model")
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set(title=mode, ylabel="relative error increase")
    legend_below(fig)
    return fig


def plot_one_shot(outcomes: pd.DataFrame) -> Figure:
    """Draw accuracy against one-shot sparsity, as pruned and with batch norms recalibrated; lines are means over seeds."""
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), sharey=True)
    for ax, (recalibrated, title) in zip(axes, {False: "as pruned", True: "batch norms recalibrated"}.items(), strict=True):
        rows = one_shot(outcomes, recalibrated=recalibrated)
        _lines(ax, {name: rows[rows["model"] == name] for name in ONE_SHOT}, "accuracy")
        ax.set(title=title, ylabel="accuracy")
    legend_below(fig, columns=3)
    return fig


def plot_bias(outcomes: pd.DataFrame) -> Figure:
    """Draw bias amplification and the accuracy of the worst class against sparsity, means over seeds, recalibrated if one-shot."""
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
    shots, rows = one_shot(outcomes, recalibrated=True), as_trained(outcomes)
    lines = {
        name: of[of["model"] == name] for of, names in ((shots, ("SGD", "CrAM+ Multi")), (rows, ("AC/DC", "GMP"))) for name in names
    }
    for ax, (score, label) in zip(
        axes, {"bias": "bias amplification", "worst": "accuracy of the worst class"}.items(), strict=True
    ):
        _lines(ax, lines, score)
        ax.set_ylabel(label)
    axes[0].axhline(0, color="0.5", linewidth=0.8)
    legend_below(fig)
    return fig


def _lines(ax: Axes, lines: dict[str, pd.DataFrame], score: str) -> None:
    """Draw the mean of a score at each sparsity, at equal distances; a line for each name."""
    levels = sorted({level for rows in lines.values() for level in rows["level"]})
    for colour, marker, (name, rows) in zip(PALETTE, "oosDoo", lines.items(), strict=False):
        means = rows.groupby("level")[score].mean()
        label = "SGD, twice as long" if name == "dense" else name
        ax.plot([levels.index(level) for level in means.index], means, f"{marker}-", color=colour, label=label, markersize=4)
    ax.set_xlabel("sparsity")
    ax.set_xticks(range(len(levels)), [f"{100 * level:g}%" for level in levels])
