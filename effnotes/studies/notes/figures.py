"""The figure of each note: bars or lines of means over seeds, and the seeds as dots."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from effnotes.reporting.figures import legend_below, plot_bars


class Drawing(NamedTuple):
    """Columns of a note's table and what the axes are called."""

    x: str
    y: str
    hue: str | None
    labels: tuple[str, str]
    bars: bool = False
    log: bool = False


DRAWINGS = {
    "sep": Drawing("arm", "sep", "stage", ("", "SEP"), bars=True),
    "collapse": Drawing("place", "value", "setting", ("singular value, largest first", "share of the largest")),
    "lipschitz": Drawing("radius", "share", "layer", ("radius", "certified robust accuracy")),
    "samples": Drawing("size", "share", "of", ("training digits", "share of test digits"), log=True),
    "bsr": Drawing("noise", "accuracy", None, ("", "accuracy"), bars=True),
    "bound": Drawing("tasks", "risk", "of", ("tasks", "risk, or bound of it"), log=True),
    "quafl": Drawing("time", "accuracy", "method", ("simulated time", "accuracy")),
    "owners": Drawing("method", "recall", "whose digits", ("", "recall"), bars=True),
    "pefll": Drawing("examples", "accuracy", "method", ("examples of a new client", "accuracy"), log=True),
    "xclp": Drawing("method", "accuracy", None, ("", "accuracy"), bars=True),
    "mixtures": Drawing("components", "held_out", None, ("components", "log-likelihood, nats a client")),
    "limes": Drawing("hour", "accuracy", "method", ("hour", "accuracy")),
    "modes": Drawing("of", "value", "outcomes", ("", "units of the map, or R²"), bars=True),
    "bands": Drawing("by", "error", None, ("", "mean error of the hoppings"), bars=True),
}


def draw(name: str, table: pd.DataFrame) -> Figure:
    """Draw a note's table; bars and lines are means over seeds, dots are seeds."""
    to = DRAWINGS[name]
    keys = [key for key in ("seed", to.x, to.hue) if key]
    shown = table.groupby(keys, sort=False)[to.y].mean().reset_index()
    if to.hue:
        shown[to.hue] = shown[to.hue].astype(str)
    fig, ax = plt.subplots(figsize=(6.4, 3.1))
    if to.bars:
        plot_bars(shown, to.x, to.y, ax=ax, hue=to.hue)
        if shown[to.x].nunique() > 4:
            ax.tick_params(axis="x", rotation=20)
    else:
        sns.lineplot(shown, x=to.x, y=to.y, hue=to.hue, errorbar=None, ax=ax)
        sns.scatterplot(shown, x=to.x, y=to.y, hue=to.hue, s=12, alpha=0.5, linewidth=0, legend=False, ax=ax)
        ticks = sorted(shown[to.x].unique())
        if to.log:
            ax.set_xscale("log")
        if len(ticks) < 7:
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
            ax.minorticks_off()
    ax.set(xlabel=to.labels[0], ylabel=to.labels[1])
    legend_below(fig, columns=3)
    return fig
