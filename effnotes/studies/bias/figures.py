"""Figures of the chapter on bias, and of pages that are drawn from a kept record of it: from tables, in the book's one style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from scipy.special import expit

from effnotes.metrics import bias as metrics
from effnotes.reporting import figures

if TYPE_CHECKING:  # a page that is drawn from a record trains nothing
    from effnotes.studies.bias.findings import Findings
    from effnotes.studies.bias.further import Further
    from effnotes.studies.bias.results import Result

LINE: dict[str, Any] = {"color": "#555555", "linewidth": 1.2}
"""Of what curves are compared with."""

CASES = {
    ("none", "none"): "no override",
    ("dense", "random"): "dense prediction, random images",
    ("dense", "sparse uncertainty"): "dense prediction, pruned model in doubt",
    ("dense", "dense uncertainty"): "dense prediction, dense model in doubt",
    ("label", "random"): "human label, random images",
    ("label", "sparse uncertainty"): "human label, pruned model in doubt",
    ("label", "dense uncertainty"): "human label, dense model in doubt",
}
"""The repairs, by what replaces a decision and which decisions are replaced."""

_BAND = "#e3eef7"
_BIAS = "bias_amplification"
_GROWTH = "growth of bias amplification"


def trend(found: Findings, metric: str, *, ax: Axes, **style: str) -> Axes:
    """A metric of all networks against sparsity, as mean over seeds and a dot for each."""
    figures.plot_by_level(found.models, "sparsity", metric, ax=ax, **style)
    return figures.label_levels(ax, found.sparsities, found.weights_left)


def explain(ax: Axes, unmeasured: bool, why: str = "there is no attribute\nwith a bias to look at") -> None:
    """Say in a panel why there is nothing to be seen, if something was not measured."""
    if unmeasured:
        ax.clear()
        ax.text(0.5, 0.5, f"not measured:\n{why}", transform=ax.transAxes, ha="center", va="center")
        ax.set(xticks=[], yticks=[])


def name_by_percent(ax: Axes, sparsities: Sequence[float]) -> None:
    """Name levels by the percentage alone, where panels stand side by side."""
    ax.set_xticks(np.arange(len(sparsities)), [f"{100 * level:g}" for level in sparsities], fontsize=8.5)
    ax.set_xlabel("sparsity (%)")


def accuracy(found: Findings, floors: Mapping[str, float], *, ax: Axes | None = None) -> Axes:
    """Accuracy against sparsity, beside the majority answer and the best possible classifier."""
    ax = ax or plt.subplots()[1]
    trend(found, "accuracy", ax=ax, label="trained networks")
    _floor(ax, floors, "accuracy")
    ax.axhline(found.models["majority_accuracy"].mean(), linestyle="--", label="majority answer", **LINE)
    ax.set_ylabel("accuracy")
    ax.legend(loc="center left")
    return ax


def accuracy_change(found: Findings, margin: float, *, ax: Axes | None = None) -> Axes:
    """Accuracy of each network minus that of its dense twin, beside the margin of the claim, a share."""
    ax = ax or plt.subplots(figsize=(6.4, 2.9))[1]
    dense = found.models.groupby("seed")["accuracy"].transform("first")
    ax.axhspan(-100 * margin, 100 * margin, color=_BAND)
    changed = found.models.assign(change=100 * (found.models["accuracy"] - dense))
    figures.label_levels(figures.plot_by_level(changed, "sparsity", "change", ax=ax), found.sparsities, found.weights_left)
    ax.set_ylabel("change in accuracy (points)")
    return ax


def uncertainty(found: Findings, floors: Mapping[str, float]) -> None:
    """Uncertain predictions, calibration error and rare-value ratio against sparsity."""
    _, axes = plt.subplots(1, 3, figsize=(7.4, 2.9))
    shown = {"uncertainty": "uncertain predictions (share)", "expected_calibration_error": "expected calibration error"}
    for ax, (metric, title) in zip(axes, {**shown, "rare_value_ratio": "rare-value ratio"}.items(), strict=True):
        trend(found, metric, ax=ax)
        _floor(ax, floors, metric)
        ax.set_title(title, fontsize=9.5)
        name_by_percent(ax, found.sparsities)
    axes[2].axhline(1, linestyle="--", **LINE)


def f1(result: Result) -> None:
    """Macro-F1 of exclusive classes against sparsity, by how many images they have in training."""
    _, ax = plt.subplots()
    for (images, of_range), colour in zip(result.f1.groupby("images", sort=False), figures.PALETTE, strict=False):
        figures.plot_by_level(of_range, "sparsity", "f1", ax=ax, label=images, colour=colour)
    figures.label_levels(ax, result.findings.sparsities, result.findings.weights_left)
    ax.set_ylabel("macro-F1")
    ax.legend(title="images in training")


def interdependence(found: Findings) -> None:
    """Interdependence of predictions and of the true labels."""
    _, ax = plt.subplots()
    trend(found, "interdependence", ax=ax, label="predictions")
    trend(found, "label_interdependence", ax=ax, label="true labels", colour="#555555", linestyle="--")
    ax.set_ylabel("adjusted R²")
    ax.legend()
    explain(ax, found.criteria.empty, "classes that exclude one another hang together by definition")


def bias_amplification(found: Findings, floors: Mapping[str, float], *, label: str, ceiling: float | None = None) -> None:
    """Bias amplification against sparsity, of each skewed attribute and their mean; `ceiling` is its greatest possible value."""
    fig, ax = plt.subplots(figsize=(6.4, 4.2))
    by_level = found.by_attribute(_BIAS)
    long = by_level.reset_index(drop=True).melt(ignore_index=False).reset_index(names="position")
    if len(long):
        sns.lineplot(long, x="position", y="value", units="attribute", estimator=None, color="#999999", linewidth=1, ax=ax)
    trend(found, _BIAS, ax=ax, label=label)
    ax.axhline(0, linestyle="--", **LINE)
    _floor(ax, floors, _BIAS)
    if ceiling is not None:
        ax.axhline(ceiling, linestyle=":", **LINE)
    ends = by_level.iloc[-1].dropna().sort_values()
    low, high = ax.get_ylim()
    # Where the lines end too close for a name each, only the outermost are named.
    crowded = len(ends) > 4 and ends.iloc[-1] - ends.iloc[0] < 0.03 * len(ends) * (high - low)
    figures.name_line_ends(ax, len(by_level) - 1, ends.iloc[[0, 1, -2, -1]] if crowded else ends.nlargest(12))
    ax.set_ylabel("bias amplification (difference of shares)")
    figures.legend_below(fig)
    explain(ax, by_level.empty)


def excess(result: Result) -> None:
    """Bias amplification of each skewed attribute: of the best possible classifier, of dense and of highly sparse networks."""
    high = result.high
    of_levels = result.findings.by_attribute(_BIAS).reindex([0.0, high]).T
    ends = of_levels.loc[of_levels[high].sort_values().index]
    heights = np.arange(len(ends))
    _, ax = plt.subplots(figsize=(6.4, 0.8 + 0.32 * (len(ends) or 4)))
    ax.hlines(heights, ends[0.0], ends[high], color="#999999", linewidth=1)
    ax.plot(ends[0.0], heights, "o", color=figures.PALETTE[4], label="dense")
    ax.plot(ends[high], heights, "o", color=figures.PALETTE[0], label=f"{100 * high:g}% sparse")
    ideal = result.ideal_bias.groupby("attribute")["value"].mean().reindex(ends.index)
    ax.plot(ideal, heights, "|", color="#000000", markersize=13, markeredgewidth=2, label="best possible")
    ax.axvline(0, linestyle="--", **LINE)
    ax.set_yticks(heights, ends.index)
    ax.set_xlabel("bias amplification (difference of shares)")
    ax.legend(loc="lower right")
    explain(ax, ends.empty)


def errors(found: Findings) -> None:
    """Gap between the groups in miss rate and in false-alarm rate against sparsity."""
    _, ax = plt.subplots()
    trend(found, "false_negative_rate_gap", ax=ax, label="miss rate (FNR)")
    trend(found, "false_positive_rate_gap", ax=ax, label="false-alarm rate (FPR)", colour=figures.PALETTE[1])
    ax.set_ylabel("absolute gap between groups")
    ax.legend()
    explain(ax, found.criteria.empty)


def growth(found: Findings, margin: float, *, mark: bool = False) -> None:
    """Growth of bias amplification at each level with its interval and the margin; `mark` names the levels of the claims."""
    _, ax = plt.subplots(figsize=(6.4, 2.9))
    table = found.growth
    levels, positions = table["sparsity"].tolist(), np.arange(len(table))
    ax.axhspan(-margin, margin, color=_BAND)
    reach = np.abs(table[["low", "high"]].sub(table["estimate"], axis=0)).T
    ax.errorbar(positions, table["estimate"], yerr=reach, fmt="o", capsize=4)
    ax.margins(y=0.15 if mark else None)
    names = {found.moderate: "moderate"} | {found.high: "high" if found.high != found.moderate else "moderate and high"}
    for level, name in names.items() if mark else ():
        ax.axvline(levels.index(level), linestyle=":", **LINE)
        style: dict[str, Any] = {"xytext": (-3, -9), "textcoords": "offset points", "ha": "right", "fontsize": 8.5}
        ax.annotate(name, (levels.index(level), 1), xycoords=("data", "axes fraction"), **style)
    ax.set_xticks(positions)
    figures.label_levels(ax, levels, found.weights_left[1:])
    ax.set_ylabel(_GROWTH)
    explain(ax, found.criteria.empty)


def named_points(panels: Mapping[str, pd.DataFrame], *, size: tuple[float, float] = (7.4, 3.4)) -> None:
    """Growth of bias amplification against other scores, side by side: each panel a frame of two columns by attribute."""
    _, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, (title, points) in zip(axes[0], panels.items(), strict=True):
        figures.name_points(ax, points)
        ax.locator_params(axis="x", nbins=5 if len(panels) > 1 else "auto")
        explain(ax, points.empty)
        ax.set_xlabel(title)
    axes[0, 0].set_ylabel(_GROWTH)


def changes(result: Result) -> None:
    """Changed decisions against dense twins, and against dense models of other seeds."""
    _, axes = plt.subplots(1, 3, figsize=(7.4, 2.9))
    across = result.changed_across_seeds
    measures = {"rate": "changed (share of all)", "dense_uncertain": "uncertain before", "positive_to_negative": "from yes to no"}
    for ax, (measure, title) in zip(axes, measures.items(), strict=True):
        figures.plot_by_level(result.changed, "sparsity", measure, ax=ax)
        sns.lineplot(x=np.arange(len(across) - 1), y=across[measure].iloc[1:], color=figures.PALETTE[1], ax=ax)
        ax.axhline(across[measure].iloc[0], linestyle="--", **LINE)
        ax.set_title(title, fontsize=9.5)
        name_by_percent(ax, across.index[1:].tolist())
        ax.set(ylabel="", ylim=(0, None if measure == "rate" else 1))
    axes[1].axhline(result.changed["base_dense_uncertain"].mean(), linestyle=":", **LINE)
    axes[2].axhline(0.5, linestyle=":", **LINE)


def gallery(result: Result) -> None:
    """Images of which most dense networks and most of those at the high sparsity decide differently, farthest apart first."""
    plan = result.plan
    shared = [[run.shared_logits for run in result.at(level).values()] for level in (0.0, result.high)]
    before, after = result.shared_decisions()
    distances = metrics.taxicab_distance(before, after)
    # With an even number of seeds a tie counts as "no". Where no majority differs, the largest differences are shown.
    modal = metrics.modal_exemplars(before, after)
    exemplars = np.argwhere(modal if modal.any() else distances == distances.max()).tolist()
    dense, pruned = (np.mean([expit(logits) for logits in of_level], axis=0) for of_level in shared)
    labels = plan.experiment.shared_faces().labels if (plan.experiment.dataset == "faces") else plan.labels[plan.seeds[0]].test
    order = sorted(exemplars, key=lambda place: (-distances[tuple(place)], place))
    # At most two of an attribute, so that the gallery is not all of one kind.
    chosen = [place for rank, place in enumerate(order) if sum(other[1] == place[1] for other in order[:rank]) < 2][:12]
    titles = [
        f"{plan.names[k]}: {'yes' if labels[i, k] else 'no'}\n"
        f"dense {dense[i, k]:.2f}{'*' if 0.1 < dense[i, k] < 0.9 else ''}\npruned {pruned[i, k]:.2f}"
        for i, k in chosen
    ]
    pictures = plan.experiment.images("shared", [image for image, _ in chosen], plan.seeds[0])
    figures.show_images(pictures, titles, columns=6, size=1.15)


def repairs(result: Result) -> None:
    """Bias amplification after each repair, with raw and with calibrated thresholds."""
    _, ax = plt.subplots(figsize=(7.0, 3.6))
    long = result.by_repair.reset_index()
    long["repair"] = [CASES[case] for case in zip(long["override"], long["selection"], strict=True)]
    long["thresholds"] = long["calibrated"].map({False: "raw thresholds", True: "calibrated thresholds"})
    order = {"order": list(CASES.values()), "hue_order": ["raw thresholds", "calibrated thresholds"]}
    _bars(long, x=_BIAS, y="repair", hue="thresholds", ax=ax, palette=list(figures.PALETTE[:2]), **order)
    ax.axvline(pd.DataFrame(result.calibrated.xs(0.0, level=1))[result.repaired].mean(axis=1).mean(), linestyle="--", **LINE)
    ax.set(xlabel="bias amplification, mean over the skewed attributes", ylabel="")
    ax.legend(*(part[:2] for part in ax.get_legend_handles_labels()), loc="lower center", bbox_to_anchor=(0.3, 1), ncols=2)
    explain(ax, result.criteria.empty)


def follow_ups(further: Further | None) -> None:
    """Bias amplification in the further experiments, a row each, the planted square on a scale of its own.

    Nothing is drawn where they were no part of the run.
    """
    panels = [] if further is None else [rows for rows in _rows(further) if rows]
    if not panels:
        return
    heights = [len(rows) for rows in panels]
    _, axes = plt.subplots(len(panels), 1, figsize=(6.4, 1.2 + 0.3 * sum(heights)), height_ratios=heights, squeeze=False)
    for ax, rows in zip(axes[:, 0], panels, strict=True):
        _bars(pd.DataFrame(rows).melt(), x="value", y="variable", ax=ax, color=figures.PALETTE[0])
        ax.axvline(0, **LINE)
        ax.set(xlabel="", ylabel="")
    axes[-1, 0].set_xlabel("bias amplification")


def _rows(further: Further) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Give the values of the seeds by what they are of: all but the planted square, and the planted square."""
    main, seeds = further.main, further.main.plan.seeds
    high = f"{100 * main.high:g}% sparse"
    rows = {
        "dense, all labels together": [further.joint[seed, 0.0][further.alone].mean() for seed in seeds],
        "dense, one label alone": [float(np.mean([further.single[seed, name] for name in further.alone])) for seed in seeds],
    }
    for name in ("gmp", *main.plan.by_method):
        # Of how many attributes bias amplification is defined differs between methods, so the number stands beside the name.
        defined = further.by_method[name].dropna()
        rows[f"{high}, {name}, {len(defined)} attributes"] = defined.mean().tolist()
    for name, values, level in (("first", further.joint, main.high), ("second", further.second, further.matched)):
        for state, at in (("dense", 0.0), (f"{100 * level:.3g}% sparse", level)):
            rows[f"{name} network, {state}"] = [values[seed, at][main.common].mean() for seed in seeds]
    planted = {
        f"square on {name}, {state}": [further.planted[name, at, seed] for seed in seeds]
        for name in (further.subtle, further.easy) * bool(further.planted)
        for state, at in (("dense", 0.0), (high, main.high))
    }
    return rows, planted


def _floor(ax: Axes, floors: Mapping[str, float], metric: str) -> None:
    if metric in floors:
        ax.axhline(floors[metric], linestyle=":", label="best possible", **LINE)


def _bars(frame: pd.DataFrame, *, ax: Axes, **style: Any) -> None:
    """Bars of means with a dot for each seed."""
    sns.barplot(frame, ax=ax, errorbar=None, alpha=0.35, saturation=1, **style)
    sns.stripplot(frame, ax=ax, dodge="hue" in style, jitter=False, size=4, legend=False, **style)
