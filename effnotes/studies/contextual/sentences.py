"""What a run of the page on contextual sparsity found, in sentences from its tables and claims."""

from __future__ import annotations

import pandas as pd

from effnotes.reporting.claims import format_number
from effnotes.studies.contextual.effects import recall_at
from effnotes.studies.contextual.experiment import DENSE, LTE, METHODS, Result

# Of each claim that the top of the page names: what is said where it is shown, and where it is contradicted.
FOUND = {
    "contextual.beats-static": (
        "Experts chosen for each token keep more facts than experts chosen once for all, at the same sparsity",
        "Experts chosen for each token keep no more facts than experts chosen once for all, at the same sparsity",
    ),
    "contextual.beats-random-router": (
        "Learnt routers keep more facts than random ones that the model has adapted to",
        "Learnt routers keep no more facts than random ones that the model has adapted to",
    ),
    "contextual.batch-undoes": (
        "A batch of tokens uses most of the experts that each of them leaves out",
        "A batch of tokens leaves out nearly as many experts as each of them",
    ),
    "contextual.edit-in-active": (
        "A fact is edited better within its active experts than within as many others",
        "A fact is edited within its active experts no better than within as many others",
    ),
    "contextual.rare-first": (
        "Sparsity costs rare facts more than frequent ones",
        "Sparsity costs rare facts no more than frequent ones",
    ),
}


def of_levels(result: Result) -> str:
    """Say how many facts each method keeps at the highest sparsity."""
    top = result.parameters.sparsities[-1]
    at = {name: recall_at(result.levels, name, top).mean() for name in METHODS}
    dense = result.levels.loc[result.levels["method"] == DENSE, "recall"].mean()
    told = ", ".join(f"{name} {value:.1%}" for name, value in sorted(at.items(), key=lambda item: -item[1]))
    return f"With {top:.1%} of the hidden units left out for each token, so many facts are still known: {told}; dense, {dense:.1%}."


def of_layers(result: Result) -> str:
    """Say what sparsity was reached, by eta and block."""
    reached = result.layers.groupby(["level", "seed"])["sparsity"].mean().groupby("level")
    told = "; ".join(
        f"{low:.0%} to {high:.0%} at {eta:g}" for eta, low, high in zip(reached.groups, reached.min(), reached.max(), strict=True)
    )
    blocks = result.layers[result.layers["nearest"]].groupby("block")["sparsity"].mean()
    which = (
        f"in the models nearest to what was asked for, the first block leaves out {blocks[1]:.1%} and the second {blocks[2]:.1%}"
    )
    return f"One eta gives a different sparsity in each seed, {told}; {which}."


def of_unions(result: Result) -> str:
    """Say what a batch leaves of the sparsity of a token."""
    means = result.unions.groupby("batch")["sparsity"].mean()
    return f"One token leaves out {means.iloc[0]:.0%} of the experts, and {means.index[-1]} tokens together {means.iloc[-1]:.0%}."


def of_times(times: pd.DataFrame) -> str:
    """Say how long one token takes in the small block of a model and in a wide one.

    Args:
        times: Columns hidden (units), dense, masked, gathered (milliseconds) and sparsity.
    """
    rows = times.groupby("hidden")[["dense", "gathered", "sparsity"]].mean()
    told = (
        f"{row['gathered'] / row['dense']:.2g} times the dense one's time with {hidden} hidden units"
        for hidden, row in rows.iterrows()
    )
    return f"On this machine the gathered pass takes {' and '.join(told)}; zeros by themselves save nothing."


def of_shared(shared: pd.DataFrame) -> str:
    """Say what two facts that have something in common share of their experts."""
    means = shared.groupby("common", sort=False)[["overlap", "expected"]].mean()
    told = ", ".join(f"{name!s} {row['overlap']:.2f} ({row['expected']:.2f} by chance)" for name, row in means.iterrows())
    return f"The mean overlap of two facts' experts is, by what they have in common: {told}."


def of_edits(edits: pd.DataFrame) -> str:
    """Say what edits achieved and kept, by where they were made."""
    names = {"active": "within the active experts", "others": "within as many others"}
    names |= {"dense": "in the whole FFN of the dense model"}
    means = {where: rows[["success", "retention"]].mean() for where, rows in edits.groupby("where")}
    told = (f"{name} {means[where]['success']:.0%} and {means[where]['retention']:.0%}" for where, name in names.items())
    return f"Share of edits that took, and of the other facts that were kept: {'; '.join(told)}."


def of_frequency(result: Result) -> str:
    """Say how the recall of rare and of frequent facts changes."""
    top, dense = result.parameters.sparsities[-1], result.levels[result.levels["method"] == DENSE]
    gained = (recall_at(result.levels, LTE, top, name).mean() - dense[name].mean() for name in ("rare", "frequent"))
    rare, frequent = (format_number(100 * value, spread=1.0) for value in gained)
    told = f"{rare} points on the rarest quarter of the facts, and by {frequent} on the most frequent"
    return f"At the highest sparsity recall changes by {told}."
