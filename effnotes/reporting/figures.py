"""One look for every figure of the book: colours that most colour-blind readers can tell apart, text of the page's size.

Plotting functions take an axis and return it, so that a chapter decides on the layout.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike
from scipy import optimize

from effnotes.reporting.palette import PALETTE as PALETTE


def use_style() -> None:
    """Set the book's style for all figures drawn after the call, as crisp SVG where the notebook draws inline."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=PALETTE,
        font="DejaVu Sans",  # comes with matplotlib, so that pages look the same wherever they are made
        font_scale=10.5 / 9.6,  # points of the page's text, over those of the context
        rc={
            "figure.figsize": (6.4, 3.6),
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "legend.frameon": False,
            "lines.linewidth": 2,
            "svg.hashsalt": "effnotes",  # the same figure gives the same file
        },
    )
    with contextlib.suppress(ImportError):  # outside a notebook there is no inline backend to set
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})
    backend = mpl.get_backend(auto_select=False) or ""
    if "inline" in backend:
        # A figure is drawn when it is shown. For a window pyplot draws it at the end of the cell too, which here nobody sees.
        plt.switch_backend(backend)  # which is what tells pyplot to
        plt.uninstall_repl_displayhook()


def plot_by_level(frame: pd.DataFrame, level: str, value: str, *, ax: Axes, colour: str = PALETTE[0], **line: Any) -> Axes:
    """Draw the mean over seeds at each level as a line, and each seed's own value as a dot.

    Levels stand at equal distances, in rising order: sparsities crowd together just where things happen.

    Args:
        frame: one row for each level and `seed`.
        level: column that goes along the axis.
        value: column of what is measured; NaN is left out.
        ax: axis to draw on.
        colour: of line and dots.
        line: `label`, the line's name in the legend, and `linestyle`.

    Returns:
        The axis, with a tick for each level; `label_levels` names them.

    Raises:
        KeyError: the frame lacks level or seed.
        ValueError: it lacks the value, or a seed has several rows at a level.
    """
    if frame.duplicated([level, "seed"]).any():
        raise ValueError(f"the frame has several rows for the same {level} and seed; average them first")
    levels = sorted(frame[level].unique())
    places = frame.assign(**{level: frame[level].map(levels.index)})
    # Native scale: numbers along the axis, so that a chapter may draw more at them. No interval: dots are what was measured.
    plain = {"errorbar": None, "marker": "", "linestyle": "-", "linewidth": mpl.rcParams["lines.linewidth"], "label": None}
    sns.pointplot(places, x=level, y=value, native_scale=True, color=colour, ax=ax, legend=False, **plain | line)
    sns.scatterplot(places, x=level, y=value, color=colour, s=18, alpha=0.55, linewidth=0, ax=ax, legend=False)
    ax.set(xlabel="", ylabel="")
    ax.set_xticks(range(len(levels)), [str(name) for name in levels])
    return ax


def plot_bars(frame: pd.DataFrame, x: str, y: str, *, ax: Axes, hue: str | None = None) -> Axes:
    """Draw means as bars, and each seed's own value as a dot.

    Args:
        frame: one row for each bar and seed.
        x: column of what the bars are of, or, for bars that lie, of what is measured.
        y: column of what is measured, or of what the bars are of.
        ax: axis to draw on.
        hue: column that tells neighbouring bars apart, in the palette's colours; None for one grey-blue.

    Returns:
        The axis; its x label is empty.
    """
    several = frame[hue].nunique() if hue else 0
    bars: dict[str, Any] = {"palette": list(PALETTE[:several])} if hue else {"color": PALETTE[4]}
    dots: dict[str, Any] = {"palette": ["0.25"] * several, "dodge": True, "legend": False} if hue else {"color": "0.25"}
    sns.barplot(frame, x=x, y=y, hue=hue, errorbar=None, ax=ax, **bars)
    # seaborn takes the dots' jitter from NumPy's global generator. Seeded for it alone, the same figure gives the same file.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    sns.stripplot(frame, x=x, y=y, hue=hue, size=3, ax=ax, **dots)
    np.random.set_state(state)  # noqa: NPY002
    ax.set_xlabel("")
    return ax


def label_levels(ax: Axes, sparsities: Sequence[float], remaining: Sequence[int]) -> Axes:
    """Name each tick by the sparsity in percent and by the number of weights that remain.

    Raises:
        ValueError: there are not as many sparsities or numbers of weights as ticks.
    """
    names = [f"{100 * level:g}%\n{count:,}".replace(",", "\u202f") for level, count in zip(sparsities, remaining, strict=True)]
    ax.set_xticks(ax.get_xticks(), names)
    ax.set_xlabel("sparsity, and weights left")
    return ax


def name_line_ends(ax: Axes, position: float, heights: pd.Series) -> Axes:
    """Write names beside the right ends of lines, moved apart where they would lie on top of one another.

    Args:
        ax: axis that holds the lines.
        position: where the lines end, along the axis.
        heights: height of each line's end, indexed by the name to write.
    """
    ends = heights.dropna().sort_values()
    if ends.empty:
        return ax
    low, high = ax.get_ylim()
    placed = spread(ends, 0.038 * (high - low), low, high)
    arrow = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6}
    for (name, end), height in zip(ends.items(), placed, strict=True):
        ax.annotate(str(name), (position, end), (position + 0.15, height), va="center", fontsize=8, arrowprops=arrow)
    return ax


def name_points(ax: Axes, points: pd.DataFrame) -> Axes:
    """Draw points and write each one's name beside it, on the side where it lies on the least of other names and points.

    Args:
        ax: axis to draw on; what is drawn before is not looked at.
        points: two columns, along and up, indexed by name; points that are not defined are left out.
    """
    drawn = points.dropna().sort_values(points.columns[1], ascending=False)
    ax.plot(drawn.iloc[:, 0], drawn.iloc[:, 1], "o")
    ax.margins(x=0.22, y=0.12)
    figure: Any = ax.get_figure(root=True)
    figure.draw_without_rendering()  # places on the page are known only after the layout
    places = ax.transData.transform(drawn.to_numpy(float))
    taken = [Bbox.from_extents(*(place - 4), *(place + 4)) for place in places]
    for name, place, point in zip(drawn.index, places, drawn.to_numpy(float), strict=True):
        text = ax.annotate(str(name), tuple(point), (0, 0), textcoords="offset points", fontsize=8)
        size = np.array(text.get_window_extent().size)
        dots = figure.dpi / 72
        sides = [(along, up) for along in (0, -1, -0.5) for up in (0, -1)]
        corners = [np.array([5 if along == 0 else -5 if along == -1 else 0, 4 if up == 0 else -4]) for along, up in sides]
        starts = [dots * corner + size * side for corner, side in zip(corners, sides, strict=True)]
        boxes = [Bbox.from_extents(*(place + start), *(place + start + size)) for start in starts]
        best = min(range(len(boxes)), key=lambda number: sum(_overlap(boxes[number], other) for other in taken))
        text.set_position(tuple(starts[best] / dots))
        taken.append(boxes[best])
    return ax


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes have in common."""
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


def spread(heights: ArrayLike, gap: float, low: float, high: float) -> np.ndarray:
    """Move heights apart until neighbours have a gap, by as little as possible in squares; their order stays.

    It is isotonic regression of the heights less the gaps below them, cut off where all would leave the axis.

    Args:
        heights: shape (n,), in any order.
        gap: the least distance between two of them.
        low: the lowest height that is allowed.
        high: the highest; where there is no room for all gaps, the lowest heights leave the axis.
    """
    given = np.asarray(heights, dtype=float)
    order = np.argsort(given, kind="stable")
    steps = gap * np.arange(len(given))
    placed = np.empty_like(given)
    moved = optimize.isotonic_regression(given[order] - steps).x
    placed[order] = np.minimum(np.maximum(moved, low), high - gap * (len(given) - 1)) + steps
    return placed


def legend_below(figure: Figure, *, columns: int = 4, **style: Any) -> Legend | None:
    """Give a figure one legend below all of its panels, outside of lines, in place of those of the panels.

    Args:
        figure: with constrained layout, as `use_style` sets it.
        columns: names a row, at most.
        style: of the legend, such as `title` or `fontsize`.

    Returns:
        The legend, each name once; None where nothing has a name.
    """
    named: dict[str, Artist] = {}
    for ax in figure.axes:
        named |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True) if label not in named}
        if legend := ax.get_legend():
            legend.remove()
    if not named:
        return None
    return figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(columns, len(named)), **style)


def plot_intervals(
    frame: pd.DataFrame, *, ax: Axes, offset: float = 0.0, label: str | None = None, colour: str = PALETTE[0], marker: str = "o"
) -> Axes:
    """Draw one estimate a row with its interval, from top to bottom.

    Args:
        frame: columns name, mean, low and high; NaN bounds draw the estimate alone.
        ax: axis to draw on.
        offset: how far below its row each estimate lies, for several estimates a row, in rows.
        label: name in the legend.
        colour: of marks and lines.
        marker: shape of the marks.

    Returns:
        The axis, with the names along its left side.
    """
    heights = np.arange(len(frame)) + offset
    ax.hlines(heights, frame["low"], frame["high"], color=colour, linewidth=1.6)
    ax.plot(frame["mean"], heights, marker, color=colour, markersize=5.5, label=label)
    ax.set_yticks(np.arange(len(frame)), frame["name"].tolist())
    ax.set_ylim(len(frame) - 0.4, -0.6)
    return ax


def plot_table(table: pd.DataFrame, *, ax: Axes, low: float, high: float, decimals: int = 2) -> Axes:
    """Draw a table of numbers as coloured cells with the numbers in them.

    Args:
        table: numbers; the index names the rows, from top to bottom, and the columns the columns. NaN leaves a cell empty.
        ax: axis to draw on.
        low: number of the lightest colour.
        high: number of the darkest.
        decimals: that are written.
    """
    numbers = table.astype(float).rename_axis(index=None, columns=None)
    # Adding zero turns a negative zero into a positive one.
    written = numbers.round(decimals) + 0.0
    sns.heatmap(numbers, annot=written, fmt=f".{decimals}f", cmap="Blues", vmin=low, vmax=high, cbar=False, ax=ax)
    ax.tick_params(length=0, rotation=0)
    ax.grid(visible=False)
    return ax


def show_images(images: ArrayLike, titles: Sequence[str], *, columns: int, size: float = 1.05) -> np.ndarray:
    """Draw images in a grid, each under its title, row by row.

    Args:
        images: uint8, shape (n, 3, H, W).
        titles: n texts.
        columns: images a row.
        size: width and height of an image, in inches.

    Returns:
        The axes, shape (rows, columns).

    Raises:
        ValueError: there are not as many titles as images.
    """
    pictures = np.asarray(images).transpose(0, 2, 3, 1)
    if len(pictures) != len(titles):
        raise ValueError(f"{len(pictures)} images need as many titles, not {len(titles)}")
    rows = -(-len(pictures) // columns)
    lines = 1 + max((title.count("\n") for title in titles), default=0)
    _, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.16 * lines) * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture)
        ax.set_title(title, fontsize=8)
    return axes
