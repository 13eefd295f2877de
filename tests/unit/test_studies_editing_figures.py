"""Tables and figures of a study of edits, on rows that are known by heart."""

import itertools
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from effnotes.datasets.worlds import read_facts
from effnotes.studies.editing import figures as report
from effnotes.studies.editing import tables
from effnotes.studies.editing.settings import REFERENCE, Method
from effnotes.studies.editing.statistics import by_world, compare, paired_differences

NAMED = read_facts(Path(__file__).parents[1] / "fixtures" / "facts.csv")
METHODS = [Method(blocks, rank) for rank in (None, 1, 4) for blocks in ("linears", "attention", "mlp")]
ORDER = [method.name for method in METHODS]


@pytest.fixture(autouse=True)
def no_window():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Two splits, three worlds, two draws, all methods at two rates and two steps, with random scores."""
    rng = np.random.default_rng(3)
    made = []
    for split, world, draw, method, rate, step in itertools.product(
        ("tune", "test"), (1, 2, 3), (0, 1), METHODS, (1e-3, 1e-2), (10, 20)
    ):
        names = {"setting": "one", "split": split, "world": world, "draw": draw, "method": method.name, "blocks": method.blocks}
        rank = float("nan") if method.rank is None else float(method.rank)
        names |= {"rank": rank, "learning_rate": rate, "step": step, "loss": 1.0, "edited_exact": 1.0}
        scores = {name: float(rng.random()) for name in (*tables.COURSE, "drift", *tables.GROUPS)}
        cut = {"stable_rank": 2.0, "truncated_1_H": 0.25, "truncated_2_H": 0.75}
        made.append(names | scores | cut)
    return pd.DataFrame(made)


@pytest.fixture(scope="module")
def ends(rows: pd.DataFrame) -> pd.DataFrame:
    last = rows[(rows["split"] == "test") & (rows["step"] == 20)]
    rules = {"budget": 1e-2, "first_success": 1e-3, "reference_rate": 1e-2}
    edits = pd.concat([last[last["learning_rate"] == rate].assign(rule=rule) for rule, rate in rules.items()])
    return tables.average_by_world(edits, ["rule", "learning_rate"])


def test_a_world_s_row_is_the_mean_of_its_edits(rows, ends):
    assert len(ends) == 3 * len(METHODS) * 3
    assert not {"draw", "step", "loss", "edited_exact"} & set(ends)
    for _, row in ends.iterrows():
        own = [
            each["H"]
            for _, each in rows.iterrows()
            if (each["split"], each["step"], each["method"]) == ("test", 20, row["method"])
            and (each["world"], each["learning_rate"]) == (row["world"], row["learning_rate"])
        ]
        assert len(own) == 2
        assert row["H"] == pytest.approx(sum(own) / 2)


def test_the_course_is_the_mean_over_worlds_and_edits(rows):
    course = tables.course_table(rows)
    assert len(course) == 2 * len(METHODS) * 2 * 2
    row = course.iloc[5]
    same = ["split", "method", "learning_rate", "step"]
    own = rows[(rows[same] == row[same]).all(axis=1)]
    assert len(own) == 6
    assert row["kept_other"] == pytest.approx(own["kept_other"].mean())


def test_intervals_in_the_figure_are_those_of_the_comparison(ends):
    ax = report.plot_differences(ends, ORDER)
    compared = compare(paired_differences(ends[ends["rule"] == "budget"].assign(draw=0, setting=""), REFERENCE.name)).set_index(
        "method"
    )
    drawn = dict(zip([label.get_text() for label in ax.get_yticklabels()], ax.lines[0].get_xdata(), strict=True))
    assert drawn == pytest.approx(compared["mean"].to_dict())
    segments = [tuple(path.vertices[:, 0]) for path in ax.collections[0].get_paths()]
    assert segments == [pytest.approx((compared.loc[name, "low"], compared.loc[name, "high"])) for name in drawn]


def test_ranks_stand_from_low_to_full_and_both_tables_have_their_means(ends):
    fig = report.plot_ranks(ends)
    for ax, rule in zip(fig.axes, ("budget", "reference_rate"), strict=True):
        assert [label.get_text() for label in ax.get_yticklabels()] == ["rank 1", "rank 4", "full"]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["attention", "mlp", "linears"]
        mean = ends[(ends["rule"] == rule) & (ends["method"] == "LoRA 1 attention")]["H"].mean()
        assert ax.texts[0].get_text() == f"{mean:.3f}"


def test_every_figure_is_drawn_with_a_line_for_each_rank(rows, ends):
    course = tables.course_table(rows)
    fig = report.plot_rates(course)
    panels = fig.axes
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["full", "rank 4", "rank 1"]
    assert not any(ax.get_legend() for ax in panels), "a legend lies on the lines"
    tuned = course[(course["split"] == "tune") & (course["step"] == 20) & (course["blocks"] == "attention")]
    for line, rank in zip(panels[0].lines[:3], (np.nan, 4, 1), strict=True):
        own = tuned[tuned["rank"].isna() if np.isnan(rank) else tuned["rank"] == rank]
        assert list(line.get_ydata()) == pytest.approx(own["H"].tolist())
    steps = report.plot_course(course, ends).axes
    assert [ax.get_title() for ax in steps] == ["edit success", "same old object", "same subject"]
    assert list(steps[0].lines[0].get_xdata()) == [10, 20]
    assert len(report.plot_frontier(course).get_legend().get_texts()) == 3
    assert report.plot_groups(ends, ORDER).get_yticklabels()[0].get_text() == REFERENCE.name
    cut = report.plot_truncation(ends, [2, 1]).axes[1]
    assert list(cut.lines[0].get_ydata())[:2] == pytest.approx([0.25, 0.75])


def test_settings_are_drawn_by_world_with_bars_at_their_means(ends):
    settings = pd.concat(
        [ends[ends["rule"] == "budget"].assign(setting=name) for name in ("1 fact, 10% retained", "8 facts, 0% retained")]
    )
    ax = report.plot_settings(settings, ["1 fact, 10% retained", "8 facts, 0% retained"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1 fact\n10%", "8 facts\n0%"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["full", "rank 4", "rank 1"]
    full = settings[settings["method"] == REFERENCE.name]
    assert ax.lines[0].get_ydata()[0] == pytest.approx(full["H"].mean())
    dots = sorted(height for _, height in ax.collections[0].get_offsets())
    assert dots == pytest.approx(sorted(full["H"][: len(dots)]))


def test_shares_of_spread_and_ripple_fill_their_bars(ends):
    base = ends[(ends["rule"] == "budget") & (ends["blocks"] == "linears")]
    spread = base.assign(setting="relation to one object by 8 facts", spread=0.6, unseen_kept=0.3)
    ax = report.plot_spread(spread)
    assert ax.get_yticklabels()[0].get_text() == f"8 facts, {REFERENCE.name}"
    ends_of_bars = {round(bar.get_x() + bar.get_width(), 6) for bar in ax.patches}
    assert ends_of_bars == {0.6, 0.9, 1.0}
    shares = {"consequence_followed": 0.2, "consequence_kept": 0.7, "consequence_other": 0.1}
    kept = {"pair_kept": 0.5, "nested_of_old_kept": 1.0, "nested_of_new_kept": 0.9}
    left, right = report.plot_ripple(base.assign(setting="structured", **shares, **kept)).axes
    assert {round(bar.get_y() + bar.get_height(), 6) for bar in left.patches} == {0.2, 0.9, 1.0}
    assert sum(bar.get_height() > 0 for bar in right.patches) == 4 * 3


def test_by_world_keeps_worlds_apart():
    frame = pd.DataFrame({"world": [1, 2, 1], "difference": [0.1, 0.2, 0.3]})
    assert by_world(frame) == [[0.1, 0.3], [0.2]]


def test_facts_are_written_with_what_their_words_stand_for():
    facts = NAMED.world.facts().take(slice(0, 1))
    for named, parts in ((None, ["subject 0", "relation 0", "object 0"]), (NAMED, ["Abrel Tuno", "lives in", "Norrick"])):
        table = tables.written_table(NAMED.world, facts, named)
        assert list(table["form"]) == list(NAMED.world.templates)
        assert set(table["fact"]) == {" | ".join(parts)}
        for _, row in table.iterrows():
            written = NAMED.world.encode(facts, row["form"])
            text = NAMED.world.hf_tokenizer().decode(written.tokens[0, 1 : written.answer[0]])
            assert row["prompt"].replace(f" ({parts[0]})", "").replace(f" ({parts[1]})", "") == text
            assert f"({parts[0]})" in row["prompt"]
            assert f"({parts[1]})" in row["prompt"]
            assert row["answer"].endswith(f" ({parts[2]})")


def test_own_edits_are_given_by_name_and_averaged_over_models():
    row = {
        "subject": 0,
        "relation": 0,
        "method": "full linears",
        "old": 0,
        "new": 2,
        "probability": 0.5,
        **dict.fromkeys(tables.GROUPS, 0.5),
    }
    own = pd.DataFrame(
        [row | {"answered": 2}, row | {"answered": 1, "probability": 1.0}, row | {"answered": 2, "method": "LoRA 4 linears"}]
    )
    first, second = tables.own_table(own, NAMED).to_dict("records")
    assert (first["fact"], first["was"], first["to become"]) == ("Abrel Tuno | lives in", "Norrick", "Varn")
    assert set(first["answered"].split(", ")) == {"Varn in 1 of 2 models", "Sable Bay in 1 of 2 models"}
    assert first["probability of the new"] == pytest.approx(0.75)
    assert (second["method"], second["answered"]) == ("LoRA 4 linears", "Varn")


def test_rates_stand_by_rule_with_what_is_still_an_end():
    row = {"setting": "one", "tried": 3}
    rates = pd.DataFrame(
        [
            row | {"method": method, "rule": rule, "learning_rate": rate, "edge": edge}
            for method, rule, rate, edge in (
                ("m", "budget", 0.1, "high"),
                ("m", "first_success", 0.2, "high"),
                ("n", "budget", 0.3, ""),
                ("n", "first_success", 0.4, "low"),
            )
        ]
    )
    table = tables.rates_table(rates, ["n", "m"]).set_index("method")
    assert list(table.index) == ["n", "m"]
    assert table.loc["n"].to_list() == [0.3, 0.4, 3, "low"]
    assert table.loc["m", "still an end"] == "high"


def test_costs_and_scores_are_named_for_a_page(ends):
    costs = pd.DataFrame({"method": ["m"], "n_trainable": [250], "optimizer_bytes": [2048], "cpu_s": [0.5]})
    assert tables.costs_table(costs, 1000).iloc[0].to_list() == ["m", 250, 25.0, 2.0, 500.0]
    scores = tables.scores_table(ends, ORDER[::-1])
    assert list(scores["method"]) == ORDER[::-1]
    own = ends[(ends["rule"] == "budget") & (ends["method"] == ORDER[0])]
    assert scores["H"].iloc[-1] == pytest.approx(own["H"].mean())


def test_unlearning_is_averaged_over_worlds_and_named_for_a_page():
    row = {"objective": "npo", "method": "full linears", "edge": None, **dict.fromkeys(set(tables.UNLEARNED) - {"edge"}, 0.2)}
    table = tables.unlearning_table(pd.DataFrame([row | {"world": 1}, row | {"world": 2, "relearned": 0.6, "edge": "high"}]))
    assert list(table) == ["objective", "method", *tables.UNLEARNED.values()]
    assert table["relearned"].item() == pytest.approx(0.4)
    assert table["others kept"].item() == pytest.approx(0.2)
