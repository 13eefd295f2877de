"""What a run of the chapter on traces found, in sentences: made from its tables and claims, and true whatever they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas as pd

from effnotes.reporting.claims import verdict_sentence
from effnotes.studies.traces.effects import differences
from effnotes.studies.traces.figures import METHODS, VARIANTS
from effnotes.studies.traces.names import GROUPS
from effnotes.studies.traces.published import published_auc, published_insertion

# What was measured for a claim, as `Measurement.to_json` gives it and a kept record holds it.
Payload: TypeAlias = Mapping[str, Any]

# Of each claim that the top of the page names: what is said where it is shown, where it is contradicted, and behind "Whether" where
# it is not settled.
_FOUND = {
    "saliency-gains": (
        "Explained on a trace of the image, Saliency points better at a trojan than on the dense network",
        "Explained on a trace of the image, Saliency points worse at a trojan than on the dense network",
        "Saliency points better at a trojan on a trace of the image than on the dense network",
    ),
    "own-points-better": (
        "The trace must be the image's own: that of another image points worse",
        "The trace of another image points better than the image's own",
        "the image's own trace points better than that of another image",
    ),
    "own-agrees-more": (
        "The image's own trace keeps the dense network's answer more often than that of another image",
        "The image's own trace keeps the dense network's answer less often than that of another image",
        "the image's own trace keeps the dense network's answer more often than that of another image",
    ),
    "points-better-than-magnitude": (
        "A trace points better than the network pruned by magnitude, to the same levels",
        "Plain magnitude pruning, to the same levels, points better than the trace",
        "a trace points better than the network pruned by magnitude",
    ),
    "agrees-more-than-magnitude": (
        "A trace keeps the dense network's answer more often than the network pruned by magnitude",
        "A trace keeps the dense network's answer less often than the network pruned by magnitude",
        "a trace keeps the dense network's answer more often than the network pruned by magnitude",
    ),
}
QUESTIONS = {name: question for name, (_, _, question) in _FOUND.items()}
"""Of each of these claims what is to be shown, in words that follow "that" or "whether"."""

# Solvers in place of the sweep, which a run has only where its parameters ask for them.
_ABLATIONS = {
    "wanda": "Wanda",
    "sparsegpt_mask": "the sweep's mask, weights as they were",
    "exact_obs_kernel": "the exact solver, whole kernels",
    "contribution": "neurons, by their contribution, in place of weights",
}
_LEVELS = {
    "dense": "dense network",
    "mild": "mild",
    "strong": "strong",
    "tuned": "tuned, agreement at least 90%",
    "tuned freely": "tuned, whatever the agreement",
}
_SHORT = ("saliency-gains", "own-points-better", "points-better-than-magnitude")


def judged(claim: Payload) -> str:
    """Say what was found for a claim, as `verdict_sentence` does."""
    return verdict_sentence(claim, *_FOUND[claim["id"].partition(".")[2]])


def what_was_found(claims: Mapping[str, Payload]) -> list[tuple[str, str]]:
    """Give the sentences for the top of the page, each with its claim."""
    return [(judged(claims[name]), name) for name in (f"traces.{short}" for short in _FOUND) if name in claims]


def of_learned(learned: pd.DataFrame) -> str:
    """Say how well the classifiers have learnt classes and trojans."""
    mean = learned.groupby("trojan")["share"].mean()
    works = mean[[name for name in mean.index if name and not name.endswith("elsewhere")]]
    elsewhere = mean[[name for name in mean.index if name.endswith("elsewhere")]]
    right = f"The networks name the class of {mean['']:.1%} of the test images"
    fooled = f"and fall for a trojan in {works.min():.0%} to {works.max():.0%} of the images that it is meant for"
    beside = f", and in at most {elsewhere.max():.0%} of those that it is not" if len(elsewhere) else ""
    return f"{right}, {fooled}{beside} (by trojan, means over seeds)."


def of_maps(means: pd.DataFrame) -> str:
    """Say how well Saliency points at trojans on the networks that the figure of maps shows, over all images."""
    of_trojans = means[(means["kind"] == "trojan") & (means["method"] == "saliency")]
    auc = of_trojans.groupby(["variant", "levels"])["auc"].mean()
    own = f"{auc['own', 'mild']:.3f} on the image's own trace at the mild levels, {auc['own', 'strong']:.3f} at the strong ones"
    other = f"and {auc['other', 'strong']:.3f} there on the trace of another image"
    return (
        f"Over all images with a trojan, Saliency has a pixel AUC of {auc['dense', '']:.3f} on the dense network, {own}, {other}."
    )


def baselines_table(means: pd.DataFrame) -> pd.DataFrame:
    """Give pixel AUC of Saliency and of the baselines; for trojans also that against decoys, and the pointing game."""
    names = {
        "dense": "Saliency, dense network",
        "another class": "Saliency of another class",
        "untrained": "Saliency, untrained network",
    }
    names["edges"] = "edge detector"
    chosen = means[means["variant"].isin(names) & means["method"].isin(["saliency", "edges"])]
    wide = chosen.groupby(["variant", "kind"])[["auc", "decoy_auc", "pointing"]].mean().unstack("kind").loc[list(names)]
    columns = {("auc", "trojan"): "trojans", ("decoy_auc", "trojan"): "trojans, against decoys"}
    columns |= {("pointing", "trojan"): "trojans, pointing game", ("auc", "clean"): "classes"}
    return wide[list(columns)].set_axis([*columns.values()], axis=1).rename(index=names).rename_axis("map").reset_index()


def insertion_table(means: pd.DataFrame) -> pd.DataFrame:
    """Give insertion and deletion by method, on images without a trojan, on the dense network and on the image's own trace."""
    chosen = means[(means["kind"] == "clean") & means["variant"].isin(["dense", "own"])]
    chosen = chosen.assign(where=chosen["levels"].map({"": "dense", "mild": "trace, mild", "strong": "trace, strong"}))
    wide = chosen.groupby(["method", "where"], sort=False)[["insertion", "deletion"]].mean().unstack("where")
    return wide.set_axis(wide.columns.map(", ".join), axis=1).rename(index=METHODS).reset_index()


def of_baselines(means: pd.DataFrame) -> str:
    """Say how the dense network's Saliency compares with maps that do not ask it, or ask it for another class."""
    of_trojans = means[(means["kind"] == "trojan") & means["method"].isin(["saliency", "edges"])]
    auc = of_trojans.groupby("variant")["auc"].mean()
    others = {"edges": "an edge detector", "untrained": "an untrained network", "another class": "the map of another class"}
    best = max(others, key=lambda name: auc[name])
    ahead = f"{'points' if auc['dense'] > auc[best] else 'does not point'} better at trojans than"
    listed = ", ".join(f"{label} {auc[name]:.3f}" for name, label in others.items())
    return (
        f"The dense network's Saliency (pixel AUC {auc['dense']:.3f}) {ahead} the best of the baselines ({listed}; half is chance)."
    )


def of_frontier(means: pd.DataFrame, kind: str = "trojan", method: str = "saliency") -> str:
    """Say where the own trace is, and which variants none outdoes, being better in AUC or agreement and no worse in the other."""
    shown = means[(means["kind"] == kind) & (means["method"] == method) & means["variant"].isin(VARIANTS)]
    if shown["auc"].isna().all():
        return "Of images without a trojan it is not known here which pixels show the class."
    table = shown[shown["levels"].isin(["", "strong"])].groupby("variant")[["auc", "agreement"]].mean()
    at = {str(name): (float(auc), float(agreement)) for name, auc, agreement in table.itertuples()}
    points = {*at.values()}
    front = [
        name for name in VARIANTS if name in at and not any(a >= at[name][0] and b >= at[name][1] for a, b in points - {at[name]})
    ]
    own, dense = at["own"], at["dense"]
    what = {"trojan": "On images with a trojan", "clean": "On images without one"}[kind]
    return (
        f"{what} the own trace has a pixel AUC of {own[0]:.3f} (dense {dense[0]:.3f}) at an agreement of {own[1]:.0%} at the strong"
        f" levels; on the frontier, none better in one and as good in the other: {', '.join(VARIANTS[name] for name in front)}."
    )


def variants_table(means: pd.DataFrame) -> pd.DataFrame:
    """Give the scores of Saliency on images with a trojan, on the dense network and on each pruned one at the strong levels."""
    columns = {"auc": "pixel AUC", "decoy_auc": "against decoys", "pointing": "pointing game", "agreement": "agreement"}
    chosen = means[(means["kind"] == "trojan") & (means["method"] == "saliency") & means["levels"].isin(["", "strong"])]
    table = chosen[chosen["variant"].isin(VARIANTS)].groupby("variant", sort=False)[list(columns)].mean()
    return table.rename(index=VARIANTS, columns=columns).rename_axis("network").reset_index()


def ablations_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Give what other solvers change on images with a trojan, at the strong levels, paired with the own trace image by image.

    Args:
        rows: As `Result.rows`.

    Returns:
        A row for each solver that the run has beside magnitude and random: solver, images, and the differences "pixel AUC" (of
        Saliency) and "agreement", means over images.
    """
    trojans, found = rows[rows["kind"] == "trojan"], []
    for solver in [each for each in _ABLATIONS if each in set(trojans["variant"])]:
        auc, agreement = (differences(trojans, score, solver, "own", ["saliency"]) for score in ("auc", "agreement"))
        found.append((_ABLATIONS[solver], len(auc), auc.mean(), agreement.mean()))
    return pd.DataFrame(found, columns=["solver", "images", "pixel AUC", "agreement"])


def of_ablations(found: pd.DataFrame) -> str:
    """Say what other solvers change, from the table of `ablations_table`."""
    if found.empty:
        return "This run puts no other solver that looks at the image in place of the sweep."
    each = [f"{row['solver']} {row['pixel AUC']:+.3f} and {row['agreement']:+.2f}" for _, row in found.iterrows()]
    return f"Pixel AUC and agreement, each minus the own trace's on the same images: {'; '.join(each)}."


def of_gains(found: pd.DataFrame) -> str:
    """Say for how many methods the trace points better at the strong levels, from the table of `figures.gains`."""
    strong = found[found["levels"] == "strong"]
    best = strong.sort_values("mean").iloc[-1]
    highest = f"the highest mean is that of {best['name']}, {best['mean']:+.3f}"
    if strong["low"].isna().all():
        return f"One seed gives no interval of a gain; of {len(strong)} methods at the strong levels, {highest}."
    better, worse = strong.loc[strong["low"] > 0, "name"], strong.loc[strong["high"] < 0, "name"]
    said = f"Of {len(strong)} methods, the interval of the gain at the strong levels lies above zero for {len(better)}"
    return f"{said} and below it for {len(worse)}; {highest}."


def tuning_table(tuning: pd.DataFrame) -> pd.DataFrame:
    """Give what tuned levels are and score, from the rows of `tune`; means over networks, levels from the lowest to the highest."""
    columns = {"auc": "pixel AUC", "agreement": "agreement", "tuned_auc": "pixel AUC where tuned"}
    levels = tuning.groupby("levels", sort=False)
    table = levels[list(columns)].mean().rename(columns=columns)
    for place, group in enumerate(GROUPS):
        ends = levels[group].agg(["min", "max"])
        texts = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in ends.itertuples(index=False)]
        table.insert(place, group, pd.Series(texts, table.index).where(ends["min"].notna(), "–"))
    return table.rename(index=_LEVELS).rename_axis("levels").reset_index()


def of_tuning(tuning: pd.DataFrame) -> str:
    """Say what levels that were tuned on the truth add on other images, and what of it was seen where they were tuned."""
    if tuning.empty:
        return "This run tuned no levels (tuned_seeds is 0)."
    at = tuning.groupby("levels")[["auc", "agreement", "tuned_auc"]].mean()
    dense, strong, tuned, freely = (at.loc[name] for name in ("dense", "strong", "tuned", "tuned freely"))
    return (
        f"On images that they were not tuned on, tuned levels give Saliency a pixel AUC of {tuned['auc']:.3f} at an agreement of"
        f" {tuned['agreement']:.0%}, and {freely['auc']:.3f} at {freely['agreement']:.0%} where the search did not look at"
        f" agreement (where they were tuned {tuned['tuned_auc']:.3f} and {freely['tuned_auc']:.3f}); the dense network has"
        f" {dense['auc']:.3f}, untuned strong levels {strong['auc']:.3f} at {strong['agreement']:.0%}."
    )


def of_insertion(rows: pd.DataFrame) -> str:
    """Say what the trace does to insertion and deletion of Saliency on images without a trojan."""
    of_method = rows[(rows["kind"] == "clean") & (rows["method"] == "saliency") & rows["variant"].isin(["dense", "own"])]
    table = of_method.groupby(["variant", "levels"])[["insertion", "deletion"]].mean()
    mean = {(str(each[0]), str(each[1])): (float(inserted), float(deleted)) for each, inserted, deleted in table.itertuples()}
    (inserted, deleted), (before, deleted_before) = mean["own", "strong"], mean["dense", ""]
    return (
        f"By the dense network's own judgement, Saliency on the trace has an insertion score of {inserted:.3f} (dense {before:.3f},"
        f" higher is better) and a deletion score of {deleted:.3f} ({deleted_before:.3f}, lower is better) at the strong levels."
    )


def of_published() -> str:
    """Say what stands in the published tables and is easily missed."""
    auc, insertion = published_auc(), published_insertion()["insertion"]
    up = (auc["FastSPADE"] > auc["dense"]).sum()
    lowered = insertion.index[insertion["FastSPADE*"] < insertion["FastSPADE"]]
    below = [METHODS[name] for name in lowered if insertion.loc[name, "FastSPADE*"] < insertion.loc[name, "dense"]]
    better = insertion["FastSPADE"] > insertion["dense"]
    deletion = published_insertion()["deletion"]
    worse = [METHODS[name] for name in insertion.index[~better & (deletion["FastSPADE"] > deletion["dense"])]]
    return (
        f"As published, FastSPADE points better at trojans for {up} of {len(auc)} methods and raises insertion for {better.sum()};"
        f" {' and '.join(worse)} gets worse by insertion and deletion. Against levels tuned on trojans, levels tuned for insertion"
        f" lower it for {len(lowered)}, for {' and '.join(below)} below the dense network."
    )


def of_costs(costs: pd.DataFrame) -> str:
    """Say what a trace takes, and which stage takes most of it; medians over images."""
    stages = costs.drop(columns=["seed", "kind", "sample", "levels", "sparsity"], errors="ignore").median()
    first = str(stages.idxmax())
    share = f"{stages[first] / stages.sum():.0%} of it in the stage {first!r}"
    return f"A trace at one set of levels takes {stages.sum():.2f} CPU seconds an image, {share} (medians)."


def of_layers(layers: pd.DataFrame) -> str:
    """Say by how much the exact solver is slower, and what its exactness buys."""
    if layers.empty:
        return "This run did not time the exact solver."
    wide = layers.pivot(index=["seed", "layer"], columns="solver", values=["seconds", "error"])
    ratio = wide["seconds"]["exact_obs_kernel"] / wide["seconds"]["sparsegpt"]
    errors = " against ".join(f"{wide['error'][name].median():.2g}" for name in ("exact_obs_kernel", "sparsegpt"))
    return (
        f"On the layers of one image a network the exact solver takes {ratio.min():.0f} to {ratio.max():.0f} times as long as the"
        f" sweep, {ratio.median():.0f} times in the median; it removes whole kernels and leaves an error of {errors}"
        " of the squared output."
    )


def of_overlaps(overlaps: pd.DataFrame) -> str:
    """Say whether traces of images with the same trojan keep more of the same weights."""
    # Without images that have none: those are hardly ever alike, and would be compared with images of another kind.
    strong = overlaps[(overlaps["levels"] == "strong") & (overlaps["kind"] == "trojan")]
    mean = strong.groupby("alike")["jaccard"].mean()
    if len(mean) < 2:
        return "This run has no two images with the same trojan among those that were compared."
    more = "more" if mean[True] > mean[False] else "no more"
    said = f"Traces of images with the same trojan have {more} kept weights in common than those of images with different ones"
    return f"{said}: {mean[True]:.3f} against {mean[False]:.3f} of all that either keeps, at the strong levels."


def of_facets(facets: pd.DataFrame) -> str:
    """Say how far networks tell the facets of a class apart, by the margin towards the explained image's own."""
    if facets.empty:
        return "This run explains no image whose class a trojan makes."
    mean = facets[facets["levels"].isin(["", "strong"])].groupby(["variant", "kind"])["margin"].mean()
    kinds = {"trojan": "with a trojan", "clean": "without one"}

    def each(variant: str) -> str:
        return " and ".join(f"{mean[variant, kind]:+.2f} {label}" for kind, label in kinds.items() if (variant, kind) in mean)

    return (
        "On held-out images the probability of the class is higher for the image's own facet than for the other one by"
        f" {each('own')} on the image's own trace at the strong levels, {each('dense')} on the dense network, and {each('global')}"
        " on one trace for all."
    )


def of_pictures(pictures: pd.DataFrame) -> str:
    """Say how often pictures of a class neuron show what made the explained image's class."""
    if pictures.empty:
        return "This run judges no pictures of neurons."
    means = pictures.groupby("variant")[["score", "undecided"]].mean().loc[["own", "dense"]].to_numpy()
    own, dense = (f"{score:.2f} ({undecided:.0%} undecided)" for score, undecided in means)
    images = pictures.groupby(["seed", "kind", "sample"]).ngroups
    return (
        f"Pictures on the image's own trace score {own}, where half is chance, and pictures on the dense network {dense};"
        f" {images} images, means over images."
    )


def to_take_away(claims: Mapping[str, Payload], costs: pd.DataFrame) -> list[str]:
    """Say what to take away: three claims, what a trace costs, and how to read them."""
    found = [judged(claims[f"traces.{name}"]) for name in _SHORT]
    return [
        *found,
        of_costs(costs),
        "A map can point well on a network that gives another answer: read pixel AUC beside agreement.",
    ]
