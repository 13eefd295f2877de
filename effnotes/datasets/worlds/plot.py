"""A picture of a world: some of its facts, and what depends on what."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from effnotes.core.checks import check_range
from effnotes.datasets.worlds.world import World
from effnotes.reporting.figures import PALETTE

_GREY = "#777777"


def plot_world(world: World, *, n_subjects: int = 4, n_relations: int = 3, ax: Axes | None = None) -> Axes:
    """Draw the facts of the first subjects: subjects on the left, their objects, and the nested objects of these on the right.

    A solid line is a fact, in its relation's colour; a dashed one a second object that some sentences state instead; a dotted
    one is the fact on the nested object that two others entail. A grey arc joins the objects of a correlated pair that agree. The
    legend names what is drawn.

    Args:
        world: The world.
        n_subjects: Subjects that are drawn, 1 to 12; at most all.
        n_relations: Relations that are drawn, at least 1; at most all.
        ax: Axis to draw on; None makes one.

    Returns:
        The axis.

    Raises:
        ValueError: A number is out of range.
    """
    check_range(1, 12, n_subjects=n_subjects)  # more could not be told apart
    check_range(1, n_relations=n_relations)
    if ax is None:
        _, ax = plt.subplots()
    graph = world.graph
    subjects, relations = min(n_subjects, world.n_subjects), min(n_relations, world.n_relations)
    shown = graph.objects[:subjects, :relations]
    second = graph.minority[:subjects, :relations]
    # Objects and nested objects as (relation, index).
    objects = sorted({(r, int(o)) for table in (shown, second) for r in range(relations) for o in table[:, r] if o >= 0})
    nested = sorted({(r, int(graph.nested[r, o])) for r, o in objects}) if graph.has_nested else []
    subject_y = dict(enumerate(_spread(subjects)))
    object_y = dict(zip(objects, _spread(len(objects)), strict=True))
    nested_y = dict(zip(nested, _spread(len(nested)), strict=True))

    for r in range(relations):
        colour = PALETTE[r % len(PALETTE)]
        for s in range(subjects):
            o, other = int(shown[s, r]), int(second[s, r])
            label = f"relation {r}" if s == 0 else None
            ax.plot([0, 1], [subject_y[s], object_y[r, o]], color=colour, linewidth=1.5, label=label)
            if other >= 0:
                ax.plot([0, 1], [subject_y[s], object_y[r, other]], color=colour, linewidth=1, linestyle="--")
            if nested:
                ax.plot([0, 2], [subject_y[s], nested_y[r, int(graph.nested[r, o])]], color=colour, linewidth=1.4, linestyle=":")
        for o in (o for of, o in objects if of == r and nested):
            ax.plot([1, 2], [object_y[r, o], nested_y[r, int(graph.nested[r, o])]], color=colour, linewidth=1.5)

    if world.correlation is not None and relations > 1:
        for o in sorted({int(first) for first, copy in shown[:, :2] if first == copy}):
            ends = ((1.0, object_y[0, o]), (1.0, object_y[1, o]))
            ax.add_patch(FancyArrowPatch(*ends, connectionstyle="arc3,rad=-0.6", arrowstyle="<->", mutation_scale=8, color=_GREY))
        ax.plot([], [], color=_GREY, label="objects that agree")
    if nested:
        ax.plot([], [], color=_GREY, linestyle=":", label="entailed fact")

    colours = [PALETTE[r % len(PALETTE)] for r in range(relations)]
    columns = {"subjects": [(f"s{s}", _GREY, y) for s, y in subject_y.items()]}
    columns["objects"] = [(f"o{o}", colours[r], y) for (r, o), y in object_y.items()]
    columns["nested objects"] = [(f"n{m}", colours[r], y) for (r, m), y in nested_y.items()]
    for x, (name, boxes) in enumerate(columns.items()):
        for text, colour, y in boxes:
            ax.text(x, y, text, ha="center", va="center", fontsize=9, bbox={"boxstyle": "round", "fc": "white", "ec": colour})
        if boxes:
            ax.text(x, 1.12, name, ha="center", va="bottom", fontweight="bold")
    ax.set_xlim(-0.3, (2 if nested else 1) + 0.3)
    ax.set_ylim(-0.1, 1.2)
    ax.set_axis_off()
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, fontsize=8)
    return ax


def _spread(n: int) -> list[float]:
    return np.linspace(1.0, 0.0, n).tolist() if n > 1 else [0.5] * n
