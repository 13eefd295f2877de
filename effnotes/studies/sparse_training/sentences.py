"""What a run of the page on sparse training found, in sentences from its tables and claims, true whatever they hold."""

from __future__ import annotations

import pandas as pd

from effnotes.studies.sparse_training.figures import TRANSFERRED, as_trained, one_shot

LEFT_OUT = "This run leaves that system out (methods)."

# Of each claim that the page speaks of: where it is shown, and where it is contradicted.
FOUND = {
    "sparse.acdc-accurate": (
        "One AC/DC run gives a sparse network nearly as accurate as a dense one",
        "At this length of training the sparse network of an AC/DC run is clearly less accurate than a dense one",
    ),
    "sparse.pair-agrees": (
        "The two networks of one AC/DC run decide alike more often than its sparse one and a dense one trained by itself",
        "The two networks of one AC/DC run decide alike no more often than its sparse one and a dense one trained by itself",
    ),
    "sparse.ticket-bad-linearly": (
        "A lottery ticket loses more if only the classifier is tuned than if all of its weights are",
        "A lottery ticket loses no more if only the classifier is tuned than if all of its weights are",
    ),
    "sparse.beats-equal-cost": (
        "A network trained by CrAM+ is more accurate, pruned in one step, than one trained by SGD at the same cost",
        "A network trained by CrAM+ is hardly more accurate, pruned in one step, than one trained by SGD at the same cost",
    ),
    "sparse.fairer-when-pruned": (
        "A compressible network is a fairer one: pruned, it amplifies bias less than one trained by SGD",
        "A compressible network is no fairer for it: pruned, it does not amplify bias less than one trained by SGD",
    ),
}


def costs_table(outcomes: pd.DataFrame, course: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Give means over seeds for each network as it came out of training: sparsity, accuracy, worst class, bias and cost.

    Cost is in dense-epoch equivalents as a share of a dense run of so many epochs; a step of CrAM counts twice.
    """
    cost = course.assign(cost=course["cost"].fillna(2.0)).groupby("arm")["cost"].mean()
    rows = as_trained(outcomes)
    rows = rows.assign(cost=rows["arm"].map(cost) * rows["epochs"] / epochs)
    names = {"model": "network", "level": "sparsity", "worst": "worst class"}
    groups = rows.groupby("model", sort=False)
    table = groups[["level", "accuracy", "worst", "bias", "cost"]].mean().assign(emptied=groups["emptied"].max())
    return table.reset_index().rename(columns=names)


def of_acdc(outcomes: pd.DataFrame, course: pd.DataFrame) -> str:
    """Say how accurate the networks of AC/DC are beside others, and how its mask settles."""
    mean = as_trained(outcomes).groupby("model")["accuracy"].mean()
    if "AC/DC" not in mean.index:
        return LEFT_OUT
    churn = course[course["arm"] == "AC/DC"].dropna(subset="churn").groupby("seed")["churn"]
    cost = course[course["arm"] == "AC/DC"]["cost"].mean()
    others = "".join(f", {name} {mean[name]:.3f}" for name in ("GMP", "frozen mask") if name in mean.index)
    return (
        f"Dense networks reach {mean['dense']:.3f}, AC/DC's sparse ones {mean['AC/DC']:.3f} at {cost:.0%} of the dense cost and its"
        f" dense ones {mean['AC/DC, dense finish']:.3f}{others}; {churn.first().mean():.1%} of the weights change sides at the"
        f" second compression and {churn.last().mean():.1%} at the last."
    )


def of_pairs(pairs: pd.DataFrame) -> str:
    """Say how often the networks of a pair predict the same class."""
    if pairs.empty:
        return LEFT_OUT
    means = pairs.groupby("pair", sort=False)["agreement"].mean()
    return "Pairs agree on " + ", ".join(f"{mean:.1%} ({name})" for name, mean in means.items()) + " of the test images."


def of_memory(memory: pd.DataFrame) -> str:
    """Say how much of the wrong labels is learnt by heart at the end, and how often the true one is given instead."""
    if memory.empty:
        return LEFT_OUT
    last = memory.groupby(["arm", "seed"]).last().groupby("arm")[["as_told", "as_drawn"]].mean()
    said = (f"{name} {row['as_told']:.0%} (and the true label of {row['as_drawn']:.0%})" for name, row in last.iterrows())
    return f"After the last epoch the wrong labels are predicted by {' and by '.join(said)}."


def of_published(table: pd.DataFrame) -> str:
    """Say what the published means show: who is best linearly, and who fully."""
    at = table[table["sparsity"] == 90].set_index(["mode", "method"])["increase"]
    best = {mode: at[mode].idxmin() for mode in ("linear", "full")}
    ends = " and ".join(f"{best[mode]} is best by {mode} fine-tuning ({at[mode].min():+.1f}%)" for mode in best)
    flips = f"which has {at['linear'][best['full']]:+.1f}% linearly" if best["full"] != best["linear"] else "in both ways"
    return f"At 90% {ends}, {flips}."


def of_transfer(transfer: pd.DataFrame) -> str:
    """Say how much more error each sparse network has, linear and full."""
    if transfer.empty:
        return LEFT_OUT
    mean = transfer.groupby(["model", "mode"])["increase"].mean()
    said = (f"{name} {mean[name, 'linear']:+.0%} linearly and {mean[name, 'full']:+.0%} fully" for name in TRANSFERRED)
    return f"The relative error increase, mean over tasks and seeds, is {'; '.join(said)}."


def of_one_shot(outcomes: pd.DataFrame) -> str:
    """Say what is left at the highest one-shot sparsity, and what recalibration does to it."""
    found = {}
    for recalibrated in (False, True):
        rows = one_shot(outcomes, recalibrated=recalibrated)
        top = rows["level"].max()
        found[recalibrated] = rows[rows["level"] == top].groupby("model", sort=False)["accuracy"].mean()
    if "SGD" not in found[True].index:
        return LEFT_OUT
    said = (f"{'SGD, twice as long' if name == 'dense' else name} {value:.3f}" for name, value in found[True].items())
    raw = found[False]["CrAM+ Multi"]
    return f"At {top:.0%} in one step, recalibrated: {', '.join(said)}; CrAM+ Multi without recalibration: {raw:.3f}."


def of_patterns(outcomes: pd.DataFrame) -> str:
    """Say what patterns of N:M cost a network that was trained for them and one that was not."""
    rows = outcomes[(outcomes["pattern"] != "") & outcomes["recalibrated"]]
    if rows.empty:
        return LEFT_OUT
    mean, dense = rows.groupby(["model", "pattern"])["accuracy"].mean(), as_trained(outcomes).groupby("model")["accuracy"].mean()
    said = (f"{name} {mean[name, pattern]:.3f} at {pattern} (dense {dense[name]:.3f})" for name, pattern in mean.index)
    return f"In patterns, recalibrated: {', '.join(said)}."


def of_bias(outcomes: pd.DataFrame) -> str:
    """Say how much networks amplify bias, dense and at the highest one-shot sparsity, and by AC/DC and gradual pruning."""
    trained, shots = as_trained(outcomes).groupby("model")["bias"].mean(), one_shot(outcomes, recalibrated=True)
    parts = [f"{name} {trained[name]:+.3f}" for name in ("dense", "AC/DC", "GMP") if name in trained.index]
    top = shots[shots["level"] == shots["level"].max()].groupby("model")["bias"].mean()
    parts += [
        f"{name} pruned to {shots['level'].max():.0%} {top[name]:+.3f}" for name in ("SGD", "CrAM+ Multi") if name in top.index
    ]
    return f"Bias amplification, mean over classes and seeds: {', '.join(parts)}."
