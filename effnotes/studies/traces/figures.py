"""Figures of the chapter on traces, drawn from tables: the same from a run and from its kept record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnotes.reporting.claims import cluster_interval
from effnotes.reporting.figures import PALETTE, legend_below, plot_intervals
from effnotes.studies.traces.effects import by_seed, differences

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = {
    "dense": "dense network",
    "own": "the image's own trace",
    "other": "another image's trace",
    "global": "one trace for all",
    "magnitude": "pruned by magnitude",
    "random": "pruned at random",
    "contribution": "its neurons pruned",
}
METHODS = {
    "saliency": "Saliency",
    "input_x_gradient": "InputXGradient",
    "integrated_gradients": "IntegratedGradients",
    "guided_backprop": "GuidedBackprop",
    "guided_grad_cam": "GuidedGradCam",
    "deep_lift": "DeepLift",
    "gradient_shap": "GradientShap",
    "occlusion": "Occlusion",
    "lime": "LIME",
    "lrp": "LRP",
}
KINDS = {"trojan": "with a trojan: its region", "clean": "without: where the class shows"}
_MARKERS = {"": "*", "mild": "o", "strong": "s"}


def gains(rows: pd.DataFrame, kind: str, score: str = "auc") -> pd.DataFrame:
    """Return what the own trace gains over the dense network, with its interval over seeds.

    Args:
        rows: As `Result.rows`.
        kind: Of the images.
        score: A column, such as "auc".

    Returns:
        A row for each method and set of levels: method, name, levels, mean, low, high (NaN for a single seed).
    """
    of_kind, found = rows[rows["kind"] == kind], []
    methods = [each for each in METHODS if each in set(of_kind.loc[of_kind["variant"] == "own", "method"])]
    for method in methods:
        for levels in ("mild", "strong"):
            values = by_seed(differences(of_kind, score, "own", "dense", [method], levels))
            if values:
                interval = (
                    cluster_interval(values, limits=(-1, 1)) if len(values) > 1 else (float(np.mean(values[0])), np.nan, np.nan)
                )
                found.append((method, METHODS[method], levels, *interval))
    return pd.DataFrame(found, columns=["method", "name", "levels", "mean", "low", "high"])


def plot_frontier(means: pd.DataFrame, method: str = "saliency") -> Figure:
    """Draw pixel AUC of a method's maps against agreement: a panel for each kind of image, a mark for each variant and levels.

    Kinds of image without a region to be found, and so without AUC, have no panel.

    Args:
        means: As `Result.means`: small marks are its seeds, large ones their means.
        method: Of attribution.
    """
    shown = means[(means["method"] == method) & means["variant"].isin(VARIANTS)]
    panels = {title: shown[(shown["kind"] == kind) & shown["auc"].notna()] for kind, title in KINDS.items()}
    return _plot_panels({title: rows for title, rows in panels.items() if len(rows)}, method)


def plot_frontiers(means: Mapping[str, pd.DataFrame], method: str = "saliency") -> Figure:
    """Draw the same for images with a trojan of several runs: a panel for each, by what stands above it."""
    panels = {
        title: rows[(rows["kind"] == "trojan") & (rows["method"] == method) & rows["variant"].isin(VARIANTS)]
        for title, rows in means.items()
    }
    return _plot_panels(panels, method)


def _plot_panels(panels: Mapping[str, pd.DataFrame], method: str) -> Figure:
    fig, axes = plt.subplots(1, len(panels), figsize=(7.4, 3.7), sharex=True, squeeze=False)
    for ax, (title, shown) in zip(axes.flat, panels.items(), strict=True):
        for colour, (variant, label) in zip(PALETTE, VARIANTS.items(), strict=False):
            for levels, group in shown[shown["variant"] == variant].groupby("levels"):
                style = {"color": colour, "marker": _MARKERS[str(levels)], "linestyle": ""}
                ax.plot(group["agreement"], group["auc"], markersize=3, alpha=0.35, **style)
                own = label if levels in ("", "strong") else None
                ax.plot(group["agreement"].mean(), group["auc"].mean(), markersize=11 if levels == "" else 8, label=own, **style)
        ax.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
        ax.set(title=title, xlabel="agreement with dense")
    axes[0, 0].set_ylabel(f"pixel AUC, {METHODS[method]}")
    legend_below(fig, columns=3)
    return fig


def plot_gains(rows: pd.DataFrame, published: pd.Series) -> Axes:
    """Draw what a trace adds to each method's pixel AUC on images with a trojan, beside what was published.

    Args:
        rows: As `Result.rows`.
        published: Gains of FastSPADE by method, in units of AUC.
    """
    found = gains(rows, "trojan")
    names = found.drop_duplicates("method")
    _, ax = plt.subplots(figsize=(7.4, 1.1 + 0.42 * len(names)))
    ax.axvline(0, color="0.4", linewidth=0.8)
    for number, levels in enumerate(("mild", "strong")):
        at = found[found["levels"] == levels].reset_index(drop=True)
        plot_intervals(
            at, ax=ax, offset=0.26 * (number - 0.5), label=f"here, {levels} levels", colour=PALETTE[number], marker="os"[number]
        )
    heights = np.arange(len(names))
    ax.plot(
        published.reindex(names["method"]).to_numpy(), heights, "D", color="0.45", markersize=5, label="published, tuned levels"
    )
    ax.set_xlabel("pixel AUC with the trace minus that without")
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def plot_maps(images: Tensor, regions: Tensor, maps: Mapping[str, Tensor], titles: list[str]) -> Figure:
    """Draw images, a row each, with the outline of what is to be found, and beside them maps.

    Args:
        images: (m, 3, H, W) uint8.
        regions: (m, H, W) bool.
        maps: (m, H, W) each, by what stands above its column; each is drawn on a scale of its own, its 99th percentile black.
        titles: m texts, left of the rows.
    """
    fig, axes = plt.subplots(len(images), 1 + len(maps), figsize=(1.24 * (1 + len(maps)), 1.28 * len(images) + 0.3), squeeze=False)
    for row, (cells, image, region, title) in enumerate(zip(axes, images, regions, titles, strict=True)):
        cells[0].imshow(image.permute(1, 2, 0))
        cells[0].set_ylabel(title, fontsize=8)
        for cell, (name, found) in zip(cells[1:], maps.items(), strict=True):
            cell.imshow(found[row], cmap="Greys", vmin=0, vmax=float(found[row].quantile(0.99)))
            cell.set_title(name if row == 0 else "", fontsize=8)
        for cell in cells:
            cell.contour(region, levels=[0.5], colors=[PALETTE[1]], linewidths=0.9)
            cell.set(xticks=[], yticks=[])
            cell.grid(visible=False)
    return fig


def plot_layers(layers: pd.DataFrame) -> Axes:
    """Draw what each solver takes for a layer against the number of its columns.

    Args:
        layers: As `time_solvers` gives them.
    """
    named = layers.assign(solver=layers["solver"].map({"sparsegpt": "sweep (FastSPADE)", "exact_obs_kernel": "exact (SPADE)"}))
    _, ax = plt.subplots(figsize=(5.6, 3.4))
    sns.scatterplot(named, x="columns", y="seconds", hue="solver", style="solver", palette=list(PALETTE[:2]), ax=ax)
    ax.set(xscale="log", yscale="log", xlabel="columns of the layer's matrix", ylabel="CPU seconds")
    ax.legend(title=None)
    return ax
