"""Figures hold what was measured, and say so on their axes."""

import itertools

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

mpl.use("Agg")
import matplotlib.pyplot as plt

from effnotes.reporting import figures


@pytest.fixture(autouse=True)
def close_figures():
    with mpl.rc_context():
        yield
        plt.close("all")


def frame() -> pd.DataFrame:
    return pd.DataFrame({"sparsity": [0.9, 0.0, 0.9, 0.0, 0.5], "seed": [1, 1, 2, 2, 1], "value": [3.0, 1.0, 5.0, 2.0, np.nan]})


def test_a_line_goes_through_the_means_and_each_seed_is_a_dot():
    ax = figures.plot_by_level(frame(), "sparsity", "value", ax=plt.gca(), label="accuracy")
    (line,), (dots,) = ax.lines, ax.collections
    assert line.get_ydata().tolist()[::2] == [1.5, 4.0]
    assert np.isnan(line.get_ydata()[1])
    assert sorted(dots.get_offsets().tolist()) == [[0, 1.0], [0, 2.0], [2, 3.0], [2, 5.0]]
    assert line.get_label() == "accuracy"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.0", "0.5", "0.9"]


def test_ticks_name_sparsity_and_weights_left():
    ax = figures.plot_by_level(frame(), "sparsity", "value", ax=plt.gca())
    figures.label_levels(ax, [0.0, 0.5, 0.985], [79792, 39896, 1197])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0%\n79\u202f792", "50%\n39\u202f896", "98.5%\n1\u202f197"]
    assert "sparsity" in ax.get_xlabel()


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="`accuracy`"):
        figures.plot_by_level(frame(), "sparsity", "accuracy", ax=plt.gca())
    with pytest.raises(KeyError, match="level"):
        figures.plot_by_level(frame(), "level", "value", ax=plt.gca())


def test_several_rows_of_one_unit_are_not_averaged_silently():
    with pytest.raises(ValueError, match="several rows for the same sparsity and seed"):
        figures.plot_by_level(pd.concat([frame(), frame()]), "sparsity", "value", ax=plt.gca())


def test_ticks_without_a_name_each_are_refused():
    ax = figures.plot_by_level(frame(), "sparsity", "value", ax=plt.gca())
    with pytest.raises(ValueError, match=r"locations \(3\).* number of labels \(2\)"):
        figures.label_levels(ax, [0.0, 0.5], [2, 1])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        figures.label_levels(ax, [0.0, 0.5, 0.9], [2, 1])


def test_names_at_line_ends_do_not_overlap_and_point_to_their_ends():
    _, ax = plt.subplots()
    ax.set_ylim(0, 1)
    figures.name_line_ends(ax, 2, pd.Series({"b": 0.5, "a": 0.5, "d": 0.9, "c": 0.51, "gone": np.nan}))
    heights = sorted(text.xyann[1] for text in ax.texts)
    assert min(np.diff(heights)) >= 0.0379
    assert {text.get_text(): text.xy for text in ax.texts} == {"b": (2, 0.5), "a": (2, 0.5), "c": (2, 0.51), "d": (2, 0.9)}


def test_names_of_lines_that_crowd_at_the_top_stay_inside_the_axis():
    _, ax = plt.subplots()
    ax.set_ylim(0, 1)
    figures.name_line_ends(ax, 2, pd.Series(dict.fromkeys("abcdef", 0.99) | {"low": 0.1}))
    heights = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert max(heights.values()) <= 1
    assert min(np.diff(sorted(heights.values()))) >= 0.0379
    assert heights["low"] == 0.1


@pytest.mark.parametrize("seed", range(5))
def test_names_of_points_do_not_lie_on_one_another_or_on_points(seed):
    rng = np.random.default_rng(seed)
    figures.use_style()
    figure, ax = plt.subplots()
    close = pd.DataFrame({"x": [0.0, 0.01, 1.0], "y": [0.0, 0.001, 1.0]}, index=["low", "close", "far"])
    more = pd.DataFrame(rng.uniform(0, 1, (6, 2)), columns=["x", "y"], index=[f"attribute {k}" for k in range(6)])
    points = pd.concat([close, more, pd.DataFrame({"x": [np.nan], "y": [0.5]}, index=["gone"])])
    figures.name_points(ax, points)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert sorted(text.get_text() for text in ax.texts) == sorted(points.index.drop("gone"))
    assert sum(one.overlaps(other) for one, other in itertools.combinations(boxes, 2)) == 0
    places = ax.transData.transform(points.dropna())
    assert not [box for box in boxes for place in places if box.contains(*place)]


def test_heights_are_spread_by_as_little_as_possible():
    assert figures.spread([3.0, 1.0, 1.0], 1.0, 0, 5).tolist() == [3.0, 0.5, 1.5]
    assert figures.spread([5.0, 5.0, 2.0], 1.0, 0, 5).tolist() == [4.0, 5.0, 2.0]
    assert figures.spread([0.0, 0.0], 1.0, 0, 5).tolist() == [0.0, 1.0]
    assert figures.spread([], 1.0, 0, 5).tolist() == []


def test_a_legend_below_has_each_name_once_and_lies_outside_of_the_panels():
    figures.use_style()
    figure, axes = plt.subplots(1, 2)
    for ax, names in zip(axes, (["full rank", "rank 1"], ["rank 1", "rank 16"]), strict=True):
        for name in names:
            ax.plot([0, 1], [0, 1], label=name)
        ax.legend()
    legend = figures.legend_below(figure, title="method")
    assert [text.get_text() for text in legend.get_texts()] == ["full rank", "rank 1", "rank 16"]
    assert [ax.get_legend() for ax in axes] == [None, None]
    figure.draw_without_rendering()
    assert all(legend.get_window_extent().y1 <= ax.get_window_extent().y0 for ax in axes)
    assert figures.legend_below(plt.figure()) is None


def test_the_caller_chooses_the_axis():
    _, (left, right) = plt.subplots(1, 2)
    assert figures.plot_by_level(frame(), "sparsity", "value", ax=left) is left
    assert not right.lines


def test_images_are_shown_as_they_are_row_by_row():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 6), dtype=np.uint8)
    axes = figures.show_images(images, list("abcde"), columns=3)
    assert axes.shape == (2, 3)
    assert (axes[1, 1].images[0].get_array() == images[4].transpose(1, 2, 0)).all()
    assert axes[1, 1].get_title() == "e"
    assert not axes[1, 2].images
    with pytest.raises(ValueError, match="5 images need as many titles, not 2"):
        figures.show_images(images, ["a", "b"], columns=3)


def test_the_same_figure_gives_the_same_file(tmp_path):
    figures.use_style()
    texts = []
    for name in ("one.svg", "two.svg"):
        figures.plot_by_level(frame(), "sparsity", "value", ax=plt.subplots()[1])
        plt.savefig(tmp_path / name, metadata={"Date": None})
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


def relative_luminance(colour: str) -> float:
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_first_lines_of_the_palette_stand_out_from_white():
    # WCAG 2.1 asks for 3 : 1 of graphics; the later, lighter colours are for figures with more than three lines.
    for colour in figures.PALETTE[:3]:
        assert 1.05 / (relative_luminance(colour) + 0.05) >= 3


def test_intervals_stand_in_rows_from_the_top():
    frame = pd.DataFrame({"name": ["a", "b"], "mean": [0.1, -0.2], "low": [0.0, np.nan], "high": [0.2, np.nan]})
    _, ax = plt.subplots()
    figures.plot_intervals(frame, ax=ax, offset=0.25, label="x")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert list(ax.lines[0].get_xdata()) == [0.1, -0.2]
    assert list(ax.lines[0].get_ydata()) == [0.25, 1.25]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    with pytest.raises(KeyError, match="high"):
        figures.plot_intervals(frame.drop(columns="high"), ax=ax)


def test_a_table_is_drawn_with_its_numbers_and_without_negative_zeros():
    table = pd.DataFrame({"x": [0.0, -0.001], "y": [1.0, np.nan]}, index=["top", "bottom"])
    _, ax = plt.subplots()
    figures.plot_table(table, ax=ax, low=0, high=1)
    assert [text.get_text() for text in ax.texts] == ["0.00", "1.00", "0.00"]
    light, dark, _ = (relative_luminance(text.get_color()) for text in ax.texts)
    assert light < 0.1, "dark text on a light cell"
    assert dark == 1, "white text on a dark cell"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["top", "bottom"]


@pytest.mark.parametrize("hue", [None, "way"])
def test_bars_are_means_and_dots_are_seeds(hue):
    frame = pd.DataFrame({"seed": [1, 2] * 4, "arm": list("aabbaabb"), "way": list("xxxxyyyy"), "score": range(8)})
    _, ax = plt.subplots()
    figures.plot_bars(frame, "arm", "score", ax=ax, hue=hue)
    means = frame.groupby([hue, "arm"] if hue else ["arm"])["score"].mean()
    heights = [bar.get_height() for bar in ax.patches if bar.get_width()]
    assert heights == pytest.approx(means.tolist())
    assert sorted(float(y) for dots in ax.collections for _, y in dots.get_offsets()) == list(range(8))
    plt.close()


def test_dots_lie_in_the_same_places_in_each_drawing_and_leave_the_global_generator_alone():
    frame = pd.DataFrame({"seed": [1, 2, 3, 4], "arm": list("aabb"), "score": range(4)})
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(2)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    places, drawn = [], []
    for _ in range(2):
        _, ax = plt.subplots()
        figures.plot_bars(frame, "arm", "score", ax=ax)
        places.append(np.concatenate([np.asarray(dots.get_offsets()) for dots in ax.collections]))
        drawn.append(np.random.random())  # noqa: NPY002
    assert places[0][:, 0].tolist() != [0, 0, 1, 1], "dots have some jitter"
    assert places[0].tolist() == places[1].tolist()
    assert drawn == expected.tolist()


def test_a_notebook_draws_no_figure_before_it_shows_it():
    # At the end of a cell pyplot would draw it for a window, once more than the page needs.
    count = "drawn = []; mpl.backends.backend_agg.FigureCanvasAgg.draw = lambda canvas: drawn.append(canvas)"
    cells = [
        f"import matplotlib as mpl, matplotlib.backends.backend_agg; {count}",
        "import matplotlib.pyplot as plt; from effnotes.reporting.figures import use_style; use_style()",
        "plt.subplots();",
        "print(len(drawn))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook).execute()
    *_, shown, printed = notebook.cells
    assert "image/svg+xml" in shown.outputs[0]["data"]
    assert printed.outputs[0]["text"] == "0\n"
