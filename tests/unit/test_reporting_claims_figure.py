"""The picture of all claims: where an interval lies follows from the verdict, and the other way round."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from effnotes.reporting.claims import join, load_register, measure
from effnotes.reporting.claims.figure import describe_distances, distance, draw_distances, figure_bytes
from effnotes.reporting.claims.intervals import verdict

REGISTER = load_register(Path(__file__).parents[2] / "book" / "claims.yaml")
TITLES = {claim.chapter: claim.chapter.capitalize() for claim in REGISTER.values()}
CLAIM = next(iter(REGISTER.values()))


def row(direction: str, margin: float, low: float, high: float) -> dict:
    worth = None if margin else 0.5
    given = CLAIM.to_json() | {"direction": direction, "margin": margin, "worth_seeing": worth}
    return given | {"estimate": (low + high) / 2, "interval": [low, high]}


@pytest.mark.parametrize("direction", ["increase", "decrease", "equivalence", "noninferiority"])
@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_a_claim_holds_right_of_zero_whatever_its_direction(direction, margin):
    if not margin and direction in ("equivalence", "noninferiority"):
        return  # no such claim can be registered
    ends = np.linspace(-0.1, 0.1, 22)
    for low in ends:
        for high in ends[ends > low]:
            at, least, most = distance(row(direction, margin, low, high))
            assert least <= at <= most
            judged = "shown" if least > 0 else "contradicted" if most < 0 else "not settled"
            assert judged == verdict(direction, margin, low, high), (low, high)


def test_distances_are_in_margins_or_in_effects_worth_seeing():
    assert distance(row("increase", 0.02, 0.04, 0.08)) == pytest.approx((2, 1, 3))
    assert distance(row("decrease", 0.0, -0.5, -0.25)) == pytest.approx((0.75, 0.5, 1))
    assert distance(row("noninferiority", 0.01, -0.01, 0.01)) == pytest.approx((1, 0, 2))
    assert distance(row("equivalence", 0.02, -0.04, 0.02)) == pytest.approx((0.5, -1, 1))


def test_what_was_not_measured_has_no_place_and_a_single_unit_no_interval():
    none, single = join({CLAIM.id: CLAIM}, [])[0], measure(CLAIM.id, [0.0]).to_json()
    assert distance(none) is None
    at, *ends = distance(single)
    assert at == 1
    assert np.isnan(ends).all()


def test_the_picture_has_a_panel_a_chapter_and_a_row_a_claim():
    measured = [measure("bias.accuracy-flat", [0.001, 0.002, 0.0]).to_json(), measure("bias.uncertainty-grows", [0.1]).to_json()]
    runs = {"larger run": join(REGISTER, measured), "this build": join(REGISTER, [])}
    figure = draw_distances(runs, TITLES)
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(TITLES.values())
    names = [label.get_text() for ax in figure.axes for label in ax.get_yticklabels()]
    assert names == [claim.partition(".")[2] for claim in REGISTER]
    (lines,) = figure.axes[0].collections[:1]
    assert len(lines.get_segments()) == 2
    plt.close(figure)
    said = describe_distances(runs)
    assert "Larger run: 1 lie wholly right of zero, 0 wholly left, 1 reach across it or have no interval." in said
    assert "This build: 0 lie wholly right" in said


def test_the_same_figure_gives_the_same_bytes():
    runs = {"this build": join(REGISTER, [measure("bias.accuracy-flat", [0.001, 0.002, 0.0]).to_json()])}
    drawn = [figure_bytes(draw_distances(runs, TITLES)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert b"</svg>" in drawn[0]
