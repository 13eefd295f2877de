"""What decides the page's verdicts, an effect for each seed of each claim, and the sentences that the page computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from effnotes.metrics.coverage import published_cutoff
from effnotes.reporting import claims

if TYPE_CHECKING:
    from effnotes.studies.coresets.experiment import Parameters, Result

NAMES = {"aum": "hardest by AUM", "forgetting": "hardest by forgetting", "el2n": "hardest by EL2N", "full": "all images"}
NAMES |= {"forgetting_0": "hardest by forgetting, never learned = 0"}


def at(arms: pd.DataFrame, rate: float, method: str, column: str, cutoff: float = 0.0) -> pd.Series[float]:
    """Return a column of one arm by seed; empty where the run has no such arm."""
    chosen = arms[(arms["rate"] == rate) & (arms["method"] == method) & (arms["cutoff"] == cutoff)]
    return chosen.set_index("seed")[column]


def effects(arms: pd.DataFrame, pools: pd.DataFrame, heads: pd.DataFrame, p: Parameters) -> dict[str, list[float]]:
    """Return what each claim is measured by, by the claim's name behind "coresets.", in the order of the page.

    Args:
        arms: As `Result.arms`.
        pools: As `Result.pools`, of one rate.
        heads: As `Result.heads`.
        p: The parameters of the run.
    """
    low, high, beyond = min(p.rates), max(p.rates), sorted(cutoff for cutoff in p.cutoffs if cutoff >= p.label_noise)
    empty = pd.Series(dtype=float)
    table, score = published_cutoff(high), p.scores[0]

    def of(method: str, column: str = "accuracy", cutoff: float = 0.0, rate: float = high) -> pd.Series[float]:
        return at(arms, rate, method, column, cutoff)

    def swept(cutoff: float) -> pd.Series[float]:
        return at(arms, p.sweep_rate, "CCS", "minority", cutoff)

    at_high = arms[arms["rate"] == high]
    orders = {seed: rows["coverage"].rank().corr(rows["accuracy"].rank()) for seed, rows in at_high.groupby("seed")}
    found = {
        "hardest-collapses": of(score) - of("random"),
        "hardest-fine-at-low": of(score, rate=low) - of("random", rate=low),
        "ccs-beats-hardest": of("CCS", cutoff=table) - of(score),
        "ccs-beats-random": of("CCS", cutoff=table) - of("random"),
        "cutoff-helps": of("CCS", cutoff=table) - of("CCS"),
        "cutoff-removes-noise": of("CCS", "wrong label", table) - of("CCS", "wrong label"),
        "convention-matters": of("forgetting_0") - of("forgetting"),
        "coverage-orders": pd.Series(orders, dtype=float),
        "ccs-covers-minority": of("CCS", "minority", table) - of("random", "minority"),
        "cutoff-costs-minority": swept(beyond[-1]) - swept(beyond[0]) if len(beyond) > 1 else empty,
        "hardest-loses-classes": of(score, "least_class") - of("random", "least_class"),
    }
    # Of a run without pools both are empty, and so are the effects.
    by_method = pools.reindex(columns=["seed", "method", "accuracy"]).pivot(index="seed", columns="method", values="accuracy")
    of_elfs = heads.reindex(columns=["seed", "clustering", "accuracy", "picked"]).query("clustering == 'ELFS'").set_index("seed")

    def beside(method: str, other: str) -> pd.Series[float]:
        return by_method.get(method, empty) - by_method.get(other, empty)

    found |= {
        "elfs-beats-centroids": beside("ELFS", "far from centroids"),
        "two-ends-beat-one": beside("ELFS", "pseudo-labels, hardest"),
        "elfs-beats-random": beside("ELFS", "random"),
        "elfs-near-labels": beside("ELFS", "CCS, all labels"),
        "poor-clusters-cost": beside("ELFS, slow teacher", "random"),
        "loss-picks-well": of_elfs.query("picked == True")["accuracy"] - of_elfs.groupby("seed")["accuracy"].max(),
    }
    return {name: values.dropna().tolist() for name, values in found.items()}


def measure(result: Result) -> list[claims.Measurement]:
    """Measure the page's claims; to be displayed."""
    found = effects(result.arms, result.pools, result.heads, result.plan)
    return [claims.measure(f"coresets.{name}", values) for name, values in found.items()]


# Of each claim that the top of the page names: what is said where it is shown, and where it is contradicted.
FOUND = {
    "coresets.hardest-collapses": (
        "Keeping the hardest images at the highest pruning rate is worse than drawing them at random",
        "Keeping the hardest images at the highest pruning rate is not much worse than drawing them at random",
    ),
    "coresets.ccs-beats-random": (
        "Coverage-centric selection is better than a random draw at the highest rate",
        "Coverage-centric selection is worse than a random draw at the highest rate",
    ),
    "coresets.ccs-covers-minority": (
        "CCS is as accurate as a random draw on a rare style within a class",
        "CCS is less accurate than a random draw on a rare style within a class, which is who is no longer covered",
    ),
    "coresets.elfs-beats-random": (
        "ELFS, without any label to choose by, is better than a random draw",
        "ELFS, without any label to choose by, is worse than a random draw",
    ),
    "coresets.poor-clusters-cost": (
        "With poor clusters ELFS is worse than a random draw",
        "Even with poor clusters ELFS is better than a random draw",
    ),
}


def listed(frame: pd.DataFrame, by: str, column: str) -> str:
    """Write means by group as a list, the highest first: "CCS .84, random .82"."""
    means = frame.groupby(by)[column].mean().sort_values(ascending=False)
    return ", ".join(f"{NAMES.get(str(name), name)} {value:.2f}" for name, value in means.items())


def of_rate(arms: pd.DataFrame, rate: float) -> str:
    """Say how accurate each way to choose is at a rate, CCS with the cutoff of the paper."""
    shown = arms[(arms["rate"] == rate) & ~((arms["method"] == "CCS") & (arms["cutoff"] != published_cutoff(rate)))]
    return f"With {rate:.0%} of the images pruned, accuracies are: {listed(shown, 'method', 'accuracy')}."


def of_cutoffs(arms: pd.DataFrame, rate: float) -> str:
    """Say what the cutoff does to noise, to all images and to the minority."""
    means = arms[(arms["rate"] == rate) & (arms["method"] == "CCS")].groupby("cutoff").mean(numeric_only=True)
    told = [
        f"at a cutoff of {cutoff:g}, {row['wrong label']:.1%} of the labels are wrong, and accuracy is {row['accuracy']:.2f} on all"
        f" and {row['minority']:.2f} on the minority"
        for cutoff, row in means.iterrows()
    ]
    return f"With {rate:.0%} pruned, {'; '.join(told)}."


def of_heads(heads: pd.DataFrame) -> str:
    """Say how good the clusters are that were picked by loss, beside the best ones."""
    told = []
    for name, rows in heads.groupby("clustering"):
        picked, best = rows[rows["picked"]], rows.groupby("seed")["accuracy"].max().mean()
        alike = f"a Spearman correlation of {picked['spearman'].mean():.2f} between AUM by clusters and by labels"
        told.append(f"{name}: {picked['accuracy'].mean():.2f} by loss, {best:.2f} at best, and {alike}")
    return f"Share of images in the cluster that their class is matched with: {'; '.join(told)}."


def of_coverage(at_high: pd.DataFrame) -> str:
    """Say how far images are from the nearest chosen one, and the accuracy, for each choice."""
    means = at_high.groupby("choice")[["coverage", "accuracy"]].mean().sort_values("coverage")
    told = (f"{name!s} {row['coverage']:.2f} (accuracy {row['accuracy']:.2f})" for name, row in means.iterrows())
    return f"From well to badly covered: {', '.join(told)}."


def of_classes(classes: pd.DataFrame) -> str:
    """Say which class has the least and the largest part in the coreset of ELFS, and whether that goes with pure clusters."""
    means = classes.groupby("class")[["purity", "share"]].mean()
    share, together = means["share"].sort_values(), means["share"].corr(means["purity"], method="spearman")
    ends = f"Class {share.index[0]} gets {share.iloc[0]:.2f} and class {share.index[-1]} {share.iloc[-1]:.2f} of an even share"
    return f"{ends}; share and purity have a Spearman correlation of {together:.2f} over classes."
