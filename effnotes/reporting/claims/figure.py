"""Every claim's interval in one picture: how far it lies from its bar, in units of the claim's margin.

An effect x becomes a distance that is above 0 where the claim holds, whatever its direction says:

| direction      | distance, with margin m and scale s |
|----------------|-------------------------------------|
| increase       | (x - m) / s                         |
| decrease       | (-x - m) / s                        |
| noninferiority | (x + m) / s                         |
| equivalence    | (m - abs(x)) / s                    |

The scale is the margin or, where that is 0, the effect that the register names as worth seeing. By the rule of `effnotes.reporting
.claims` a claim is shown if its whole interval lies right of 0, contradicted if it lies left of it, and not settled if it holds 0.
"""

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

VERDICT_COLOURS = {"shown": "#007a56", "contradicted": "#c44601", "not settled": "#7d6608"}
"""Of marks and intervals on white paper."""

_MARKERS = ("o", "D")  # of the first and the second run
_SHIFT = 0.19  # of a run's mark from the middle of the claim's row, in rows


def distance(claim: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return how far estimate and interval of a measured claim lie from its bar, and on which side.

    Args:
        claim: A row of `join`.

    Returns:
        Of the estimate, and of the end that speaks least and the end that speaks most for the claim: in units of the margin (module
        docstring), NaN for both ends where there is no interval; None without an estimate.
    """
    if claim["estimate"] is None:
        return None
    margin, scale = float(claim["margin"]), float(claim["margin"] or claim["worth_seeing"])
    low, high = claim["interval"] or (math.nan, math.nan)

    def of(effect: float) -> float:
        if claim["direction"] == "equivalence":
            return (margin - abs(effect)) / scale
        sided = -effect if claim["direction"] == "decrease" else effect
        return (sided + margin if claim["direction"] == "noninferiority" else sided - margin) / scale

    ends = sorted((of(low), of(high)))
    # The best that an interval of differences can say for "no difference" lies within it where it holds 0.
    return of(claim["estimate"]), ends[0], of(0.0) if claim["direction"] == "equivalence" and low < 0 < high else ends[1]


def draw_distances(runs: Mapping[str, Sequence[Mapping[str, Any]]], titles: Mapping[str, str]) -> Figure:
    """Draw the distance of every claim from its bar, a panel for each chapter and a row for each claim.

    Args:
        runs: Rows of `join` by the name of a run, the larger run first; the same claims in each, at most two runs.
        titles: Of each chapter whose claims are drawn, by its name.
    """
    import pandas as pd  # with seaborn two seconds, which pages without claims do not wait for

    from effnotes.reporting.figures import use_style

    use_style()
    rows = [
        {"claim": claim["id"].partition(".")[2], "chapter": claim["chapter"], "run": run, "verdict": claim["verdict"], **place}
        for number, (run, claims) in enumerate(runs.items())
        for claim in claims
        if claim["verdict"] in VERDICT_COLOURS and (found := distance(claim))
        for place in [dict(zip(("at", "low", "high"), found, strict=True), shift=_SHIFT * (2 * number - len(runs) + 1))]
    ]
    drawn = pd.DataFrame(rows, columns=["claim", "chapter", "run", "verdict", "at", "low", "high", "shift"])
    names = {name: [c["id"].partition(".")[2] for c in next(iter(runs.values())) if c["chapter"] == name] for name in titles}
    counts = [len(names[chapter]) for chapter in titles]
    size = (5.2, 1.3 + 0.34 * sum(counts))
    figure, axes = plt.subplots(len(counts), 1, sharex=True, squeeze=False, figsize=size, height_ratios=counts)
    for ax, (chapter, title) in zip(axes[:, 0], titles.items(), strict=True):
        _panel(ax, drawn[drawn["chapter"] == chapter], names[chapter], list(runs))
        ax.set_title(title, loc="left", fontsize=10.5)
    ax.set_xscale("symlog", linthresh=1, linscale=0.8)
    reach = drawn[["at", "low", "high"]].abs().max().max()
    most = next((power for power in range(1, 4) if not reach > 10**power), 4)  # NaN where nothing is drawn
    ticks = [sign * 10**power for power in range(most + 1) for sign in (-1, 1)]
    ax.set_xticks(sorted([0, *ticks]), [f"{tick:,}".replace("-", "−").replace(",", "\u202f") for tick in sorted([0, *ticks])])
    ax.set_xlabel("distance from the bar, in margins\n← against the claim     for the claim →")
    handles = {label: handle for ax in axes[:, 0] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    keys = [key for key in (*VERDICT_COLOURS, *runs) if key in handles]
    figure.legend([handles[key] for key in keys], keys, loc="outside upper left", ncols=3)
    return figure


def _panel(ax: Axes, drawn: "pd.DataFrame", names: Sequence[str], runs: Sequence[str]) -> None:
    import seaborn as sns

    if len(drawn):
        heights = drawn["claim"].map({name: height for height, name in enumerate(names)}) + drawn["shift"]
        ax.hlines(heights, drawn["low"], drawn["high"], colors=[VERDICT_COLOURS[word] for word in drawn["verdict"]], linewidth=1.8)
        look = {"hue_order": [*VERDICT_COLOURS], "palette": VERDICT_COLOURS, "style_order": runs, "markers": _MARKERS[: len(runs)]}
        sns.scatterplot(drawn.assign(height=heights), x="at", y="height", hue="verdict", style="run", s=34, ax=ax, zorder=3, **look)
        if legend := ax.get_legend():
            legend.set_visible(False)  # there is one for all panels
    ax.axvline(0, color="#222222", linewidth=1.2)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_ylabel("")


def describe_distances(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Say in words what `draw_distances` shows: which claims lie on which side, run by run."""
    parts = ["One row a claim: its 95% interval by its distance from the bar, in margins; right of zero the claim holds."]
    for run, claims in runs.items():
        by_verdict = Counter(claim["verdict"] for claim in claims if claim["estimate"] is not None)
        against = ", ".join(claim["id"] for claim in claims if claim["verdict"] == "contradicted")
        parts.append(
            f"{run[:1].upper()}{run[1:]}: {by_verdict['shown']} lie wholly right of zero, {by_verdict['contradicted']} wholly left"
            f"{f' ({against})' if against else ''}, {by_verdict['not settled']} reach across it or have no interval."
        )
    return " ".join(parts)


def figure_bytes(figure: Figure, kind: str = "svg", **metadata: str | None) -> bytes:
    """Return a figure as a file, the same bytes for the same figure, and close it.

    Args:
        figure: to save.
        kind: "svg" or "png".
        metadata: entries of the file's own metadata, such as Description.
    """
    nothing = {"svg": {"Date": None}, "png": {"Software": None}}[kind]
    file = io.BytesIO()
    figure.savefig(file, format=kind, metadata=nothing | metadata, dpi=200 if kind == "svg" else 100)
    plt.close(figure)
    return file.getvalue()
