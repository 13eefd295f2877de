"""Figures of the chapter on personalisation, drawn from tables: the same from a run and from its kept record."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnotes.reporting.figures import PALETTE, legend_below, plot_table
from effnotes.studies.personalization.tuning import NAMES

SERVED = {"none": "without context", "RAG": "with retrieved mails"}


def on_all_mails(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of methods on all mails, without RAFT and on a base in full precision, with a column name.

    Args:
        rows: As `Result.systems` or `Result.course`.
    """
    plain: pd.DataFrame = rows[
        (rows["mails"] == rows["mails"].max()) & ~rows["raft"] & ~rows["nf4"] & (rows["mask_rule"] == "grad_sq")
    ]
    return plain.assign(name=plain["kind"].map(NAMES))


def plot_methods(systems: pd.DataFrame) -> Figure:
    """Draw style, content and held-out loss of each method on all mails, without context; dots are personas, bars means."""
    shown = on_all_mails(systems)
    shown = shown[shown["serve"] == "none"]
    labels = {"style": "style", "content": "content", "test_loss": "loss, nats a token"}
    fig, axes = plt.subplots(1, 3, figsize=(7.4, 3.2))
    for ax, (score, label) in zip(axes, labels.items(), strict=True):
        sns.barplot(shown, x="name", y=score, color=PALETTE[4], errorbar=None, ax=ax)
        sns.stripplot(shown, x="name", y=score, color="0.25", size=3, jitter=0.15, ax=ax)
        ax.set(xlabel="", ylabel=label)
        ax.tick_params(axis="x", rotation=35)
        if score != "test_loss":
            ax.set_ylim(0, 1.03)
    axes[2].set_yscale("log")  # the untuned base is far above the others
    return fig


def plot_cuts(cuts: pd.DataFrame, systems: pd.DataFrame) -> Figure:
    """Draw style and held-out loss of full tuning's difference, whole and cut in each form; dots are personas, bars means.

    Args:
        cuts: As `Result.cuts`.
        systems: As `Result.systems`, for the whole difference.
    """
    whole = on_all_mails(systems)
    whole = whole[(whole["kind"] == "full") & (whole["serve"] == "none")].assign(form="whole")
    shown = pd.concat([whole[["persona", "form", "style", "test_loss"]], cuts])
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3))
    for ax, (score, label) in zip(axes, {"style": "style", "test_loss": "loss, nats a token"}.items(), strict=True):
        sns.barplot(shown, x="form", y=score, color=PALETTE[4], errorbar=None, ax=ax)
        sns.stripplot(shown, x="form", y=score, color="0.25", size=3, jitter=0.15, ax=ax)
        ax.set(xlabel="", ylabel=label)
    axes[0].set_ylim(0, 1.03)
    return fig


def plot_numbers(systems: pd.DataFrame) -> Axes:
    """Draw style and content of LoRA against the number of mails, from the untuned base on; dots are personas."""
    chosen = systems[(systems["kind"] == "lora") & ~systems["raft"] & ~systems["nf4"] & (systems["serve"] == "none")]
    untuned = systems[(systems["kind"] == "none") & (systems["serve"] == "none")].assign(mails=0)
    shown = pd.concat([untuned, chosen])
    _, ax = plt.subplots(figsize=(5.6, 3.4))
    for colour, score in zip(PALETTE, ("style", "content"), strict=False):
        ax.plot(shown["mails"], shown[score], "o", color=colour, alpha=0.35, markersize=3)
        ax.plot(shown.groupby("mails")[score].mean(), "o-", color=colour, label=score)
    ax.axvline(100, color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlabel="mails to train on", ylabel="score", ylim=(0, 1.03))
    ax.set_xscale("symlog", linthresh=5)
    ax.set_xlim(left=-1)
    numbers = sorted(shown["mails"].unique())
    ax.set_xticks(numbers, [str(number) for number in numbers])
    ax.legend()
    return ax


def served(systems: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return means of a score: a row for the base, LoRA and LoRA with RAFT, on all mails, and a column for each way to serve."""
    every = systems[(systems["mails"] == systems["mails"].max()) & systems["kind"].isin(["none", "lora"]) & ~systems["nf4"]]
    name = every["kind"].map({"none": "base", "lora": "LoRA"}) + every["raft"].map({True: ", RAFT", False: ""})
    wide = every.assign(name=name, served=every["serve"].map(SERVED)).pivot_table(index="name", columns="served", values=score)
    table: pd.DataFrame = wide.reindex(index=["base", "LoRA", "LoRA, RAFT"], columns=[*SERVED.values()])
    return table


def plot_served(systems: pd.DataFrame) -> Figure:
    """Draw style and recall of facts of the base, LoRA and LoRA with RAFT, with and without retrieved mails, as two tables."""
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 2.6))
    for ax, (score, title) in zip(axes, {"style": "style", "facts": "facts told right"}.items(), strict=True):
        table = served(systems, score).rename(columns={SERVED["none"]: "alone", SERVED["RAG"]: "with RAG"})
        plot_table(table, ax=ax, low=0, high=1)
        ax.set(title=title, xlabel="", ylabel="")
    return fig


def plot_crosses(crosses: pd.DataFrame) -> Axes:
    """Draw the style of each persona's model (row) on each persona's mails (column)."""
    table = crosses.pivot(index="persona", columns="other", values="style")
    _, ax = plt.subplots(figsize=(1.6 + 0.5 * len(table), 1.3 + 0.4 * len(table)))
    plot_table(table, ax=ax, low=0, high=1)
    ax.set(xlabel="asked for the mails of persona", ylabel="model of persona")
    return ax


def plot_exposure(course: pd.DataFrame, kinds: Sequence[str] = ("full", "lora", "sparse", "rosa")) -> Figure:
    """Draw the exposure of the code in bits against validation loss, at each checkpoint; lines are means over personas."""
    shown = on_all_mails(course)
    fig, ax = plt.subplots(figsize=(5.6, 3.4))
    for colour, kind in zip(PALETTE, kinds, strict=False):
        rows = shown[(shown["kind"] == kind) & (shown["step"] > 0)]
        ax.plot(rows["val_loss"], rows["exposure"], "o", color=colour, alpha=0.3, markersize=3)
        means = rows.groupby("step")[["val_loss", "exposure"]].mean()
        ax.plot(means["val_loss"], means["exposure"], "o-", color=colour, label=NAMES[kind])
    ax.axhline(np.log2(10_000), color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlabel="validation loss, nats a token", ylabel="exposure, bits")
    legend_below(fig)
    return fig


def plot_published(table: pd.DataFrame) -> Figure:
    """Draw the published accuracies of RoSA, LoRA and sparse tuning against trained numbers, after one epoch.

    Args:
        table: As `published("rosa")`.
    """
    fig, axes = plt.subplots(1, 3, figsize=(7.4, 3.2))
    kind = table["method"].str.split().str[0]
    for ax, (task, title) in zip(axes, {"gsm8k": "GSM8k", "viggo": "ViGGO", "sql": "SQL"}.items(), strict=True):
        for colour, marker, name in zip(PALETTE, "os^", ("RoSA", "LoRA", "sparse"), strict=False):
            rows = table[kind == name]
            ax.plot(rows["parameters"], rows[task], marker, color=colour, label=name, markersize=5)
        (full,) = table.loc[kind == "full", task]
        ax.axhline(full, color="0.5", linewidth=0.8, linestyle=":", label="full")
        ax.set(title=title, xscale="log")
        ax.set_xticks([41.1, 82.3, 164.5], ["41", "82", "165"])
        ax.minorticks_off()
    axes[0].set_ylabel("accuracy, %")
    axes[1].set_xlabel("trained numbers, millions")
    legend_below(fig)
    return fig
