"""What a run could have settled: the promise of four in five, units needed, and what is said of it."""

import json

import numpy as np
import pytest
from scipy import stats

from effnotes.reporting import claims
from effnotes.reporting.claims import Claim, Source, beyond_bar, card_html, disagreement, join, measure, settling_distance
from effnotes.reporting.claims.intervals import bootstrap_interval, t_interval, verdict
from effnotes.reporting.claims.power import delta, units_needed

DIRECTIONS = ("increase", "decrease", "equivalence", "noninferiority")
REPETITIONS = 2000


@pytest.fixture
def register(monkeypatch):
    """Return a function that registers the claim "power.test" with some fields."""

    def write(**fields):
        given = {
            "direction": "increase",
            "margin": 0.02,
            "interval": "t",
            "range": (-1.0, 1.0),
            "unit_of_analysis": "seed",
        } | fields
        given.setdefault("worth_seeing", None if given["margin"] else 0.1)
        text = dict.fromkeys(("statement", "effect", "unit"), "words")
        source = Source(key="nobody2020power", where="nowhere", kind="addition")
        claim = Claim(id="power.test", chapter="power", source=source, published=None, **text, **given)
        monkeypatch.setattr(claims, "load_register", lambda: {claim.id: claim})
        return claim

    return write


def units(n, mean=0.0, spread=1.0, seed=0):
    """Return n effects of just this mean and spread."""
    drawn = np.random.default_rng(seed).normal(size=n)
    return mean + spread * (drawn - drawn.mean()) / drawn.std(ddof=1)


def judged(method, effects):
    return measure("power.test", effects if method == "t" else [[effect, effect] for effect in effects])


def repetitions(n, mean, spread):
    """Return normal effects (REPETITIONS, n); the errors of their means are evenly spread quantiles, for less noise in a count."""
    rng = np.random.default_rng(n)
    drawn = rng.normal(size=(REPETITIONS, n))
    errors = rng.permutation(stats.norm.ppf((np.arange(REPETITIONS) + 0.5) / REPETITIONS)) / np.sqrt(n)
    return mean + spread * (drawn - drawn.mean(axis=1, keepdims=True) + errors[:, None])


# ---- the promise


@pytest.mark.parametrize("n", [2, 3, 5, 12, 13, 30])
@pytest.mark.parametrize("method", ["t", "bootstrap"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("margin", [0.02, 0.3])
def test_the_smallest_effect_is_settled_in_four_of_five_repetitions(register, n, method, direction, margin):
    claim = register(direction=direction, margin=margin, interval=method, range=None)
    plan = judged(method, units(n, mean=0.01, spread=0.04))
    effects = repetitions(n, plan.smallest_effect, plan.spread)
    lo, hi = t_interval(effects) if method == "t" else bootstrap_interval(effects, seed=0)
    verdicts = [verdict(direction, margin, *bounds) for bounds in zip(lo, hi, strict=True)]
    expected = "contradicted" if direction == "equivalence" else "shown"
    assert 0.78 <= verdicts.count(expected) / REPETITIONS <= 0.82
    # With the units that the plan names, an effect at the distance that it names is settled at least as often.
    many = repetitions(plan.units_needed, beyond_bar(claim, settling_distance(claim)), plan.spread)
    lo, hi = t_interval(many) if method == "t" else bootstrap_interval(many, seed=0)
    verdicts = [verdict(direction, margin, *bounds) for bounds in zip(lo, hi, strict=True)]
    assert verdicts.count(expected) / REPETITIONS >= 0.78


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100])
def test_delta_of_t_is_that_of_scipys_noncentral_distribution(n):
    shift = delta(n, 0.4, "t") * np.sqrt(n) / 0.4
    assert stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, shift) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("n", range(2, 13))
def test_delta_of_the_bootstrap_comes_to_that_of_t(n):
    assert delta(n, 2.0, "bootstrap") == pytest.approx(delta(n, 2.0, "t"), rel=0.015)


@pytest.mark.parametrize(("direction", "sign"), [("increase", 1), ("decrease", -1), ("noninferiority", 1), ("equivalence", 1)])
@pytest.mark.parametrize("n", [8, 20])
def test_of_equal_units_the_smallest_effect_is_where_their_bound_passes_the_bar(register, direction, sign, n):
    register(direction=direction, margin=0.2 if direction in ("noninferiority", "equivalence") else 0.0, range=(-1.0, 1.5))
    least = measure("power.test", [0.0] * n).smallest_effect
    assert measure("power.test", [least + sign * 1e-6] * n).verdict in ("shown", "contradicted")
    assert measure("power.test", [least - sign * 1e-6] * n).verdict == "not settled"


# ---- units


@pytest.mark.parametrize(("method", "reach"), [("t", None), ("bootstrap", None), ("range", 1.0), ("range", 0.3)])
def test_units_needed_are_the_fewest_that_do_and_grow_with_the_spread(method, reach):
    found = [units_needed(spread, 0.02, method, reach) for spread in (0.0, 0.001, 0.004, 0.01, 0.02, 0.04, 0.1, 0.5)]
    assert found == sorted(found)
    assert found[0] == 2 or method == "range"
    for distance in (0.5, 0.1, 0.05, 0.02, 0.004):
        n = units_needed(0.05, distance, method, reach)
        assert delta(n, 0.05, method, reach) <= distance
        assert n == 2 or delta(n - 1, 0.05, method, reach) > distance
    assert units_needed(0.05, 0.0, method, reach) is None


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_more_units_settle_smaller_effects(method):
    deltas = [delta(n, 1.0, method) for n in [*range(2, 60), 200, 2000]]
    assert (np.diff(deltas) < 0).all()


def test_of_effects_without_a_range_that_are_tied_nothing_is_told(register):
    register(range=None)
    result = measure("power.test", [0.3, 0.3, 0.3])
    assert (result.smallest_effect, result.units_needed, result.unsettled) == (None, None, "too few units")
    assert "too few units: how many are needed cannot be told from these" in card_html(result.to_json())


@pytest.mark.parametrize("effects", [[], [0.1]])
def test_fewer_than_two_units_say_nothing_of_a_spread(register, effects):
    register()
    result = measure("power.test", effects)
    assert (result.smallest_effect, result.spread, result.units_needed) == (None, None, None)
    assert result.unsettled == "too few units"


@pytest.mark.parametrize(
    ("direction", "smallest"), [("increase", 0.02), ("decrease", -0.02), ("noninferiority", -0.02), ("equivalence", 0.02)]
)
def test_the_spread_is_that_of_independent_units(register, direction, smallest):
    register(direction=direction, interval="bootstrap", unit_of_analysis="edit within world")
    result = measure("power.test", [[0.0, 0.2], [0.3, 0.1], [0.3]])
    assert result.spread == pytest.approx(np.std([0.1, 0.2, 0.3], ddof=1))
    sign = -1 if direction == "decrease" else 1
    assert result.smallest_effect == pytest.approx(smallest + sign * delta(3, 0.1, "bootstrap"))


# ---- why a claim is not settled


@pytest.mark.parametrize("method", ["t", "bootstrap"])
@pytest.mark.parametrize(
    ("fields", "mean", "spread", "why"),
    [
        ({}, 0.02, 0.05, "too few units"),
        ({}, 0.02, 0.01, "too close to the margin"),
        ({}, 0.06, 0.01, None),
        ({"margin": 0.0}, 0.01, 0.1, "too few units"),
        ({"margin": 0.0}, 0.01, 0.02, "too close to the margin"),
        ({"margin": 0.0, "worth_seeing": 0.002}, 0.01, 0.02, "too few units"),
        ({"direction": "noninferiority"}, -0.02, 0.01, "too close to the margin"),
        ({"direction": "noninferiority"}, 0.0, 0.1, "too few units"),
        ({"direction": "equivalence"}, 0.0, 0.005, None),
        ({"direction": "equivalence"}, 0.019, 0.005, "too close to the margin"),
        ({"direction": "equivalence"}, 0.0, 0.1, "too few units"),
    ],
)
def test_not_settled_says_which_of_two_things_it_means(register, method, fields, mean, spread, why):
    register(interval=method, **fields)
    result = judged(method, units(6, mean, spread))
    assert result.unsettled == why
    assert (result.verdict == "not settled") == (why is not None)
    if why:
        # At the bar itself no number of units settles anything.
        at_bar = why == "too close to the margin" and abs(mean) == 0.02
        assert result.units_needed is None if at_bar else result.units_needed > 6


def test_units_needed_of_an_effect_near_the_bar_are_those_for_the_effect_that_was_seen(register):
    register(interval="t")
    result = judged("t", units(6, 0.026, 0.01))
    assert result.unsettled == "too close to the margin"
    needed = result.units_needed
    assert delta(needed, result.spread, "t") <= 0.006 < delta(needed - 1, result.spread, "t")
    card = card_html(result.to_json())
    assert f"; one as near to it as this one takes {needed} seeds" in card


# ---- what is shown


def test_a_record_of_old_is_given_what_it_lacks(register):
    register(interval="bootstrap", unit_of_analysis="edit within world")
    result = measure("power.test", [[0.0, 0.2], [0.3, 0.1], [0.3]], caution="A test says otherwise.")
    now = result.to_json()
    assert json.loads(json.dumps(now, allow_nan=False)) == now
    new = ("smallest_effect", "spread", "units_needed", "unsettled", "caution", "worth_seeing")
    old = {key: value for key, value in now.items() if key not in new} | {"source": {"key": "nobody2020power", "where": "nowhere"}}
    (row,) = join({"power.test": result.claim}, [old])
    assert row == now | {"caution": ""}
    card = card_html(old)
    assert "Would have settled" not in card
    assert "But" not in card
    (unmeasured,) = join({"power.test": result.claim}, [])
    assert set(unmeasured) == set(now)
    assert (unmeasured["smallest_effect"], unmeasured["unsettled"], unmeasured["caution"]) == (None, None, "")
    assert "Not settled because" not in card_html(unmeasured)


def test_the_card_says_what_would_have_been_settled_and_what_speaks_against_it(register):
    register(interval="bootstrap", unit_of_analysis="edit within world")
    few = measure("power.test", [[0.0, 0.2], [0.3, 0.1], [0.3]], caution="Chance alone gives <93%>.").to_json()
    card = card_html(few)
    assert "<dd>3 worlds, with 5 effects in all (edit within world)</dd>" in card
    assert "<dt>Would have settled</dt><dd>0.346 or more, in four of five such runs (a spread of 0.1 between 3 worlds)</dd>" in card
    wanted = "too few units: to settle an effect one margin, 0.02, beyond the bar, in four of five runs takes 199 worlds"
    assert f"<dt>Not settled because</dt><dd>{wanted}</dd>" in card
    assert "<dt>But</dt><dd>Chance alone gives &lt;93%&gt;.</dd>" in card
    assert "(bootstrap of whole worlds)" in card
    close = judged("bootstrap", units(6, 0.02, 0.01))
    assert "too close to the margin: 6 worlds would have settled an effect one margin, 0.02, beyond the bar" in card_html(
        close.to_json()
    )
    register(margin=0.0)
    assert "to settle the effect worth seeing, 0.1, in four of five" in card_html(judged("t", units(3, 0.1, 0.4)).to_json())
    assert "beyond what is possible" in card_html(judged("t", units(2, 0.1, 0.4)).to_json())


def test_two_runs_that_disagree_say_so_and_why(register):
    register()
    shown, contradicted = (judged("t", units(n, mean, 0.002)).to_json() for n, mean in ((5, 0.03), (8, 0.01)))
    open_ = judged("t", units(3, 0.03, 0.02)).to_json()
    assert [payload["verdict"] for payload in (shown, contradicted, open_)] == ["shown", "contradicted", "not settled"]
    assert disagreement(shown, contradicted) == (
        "Shown in this run and contradicted in the other: the other has more units, 8 against 5 seeds; the intervals do not"
        " overlap, so chance alone hardly parts them; profile or parameters differ, too."
    )
    # A run that settles nothing speaks against no other, unless its interval lies elsewhere.
    assert disagreement(shown, open_) == disagreement(shown, measure("power.test", [0.1]).to_json()) == ""
    elsewhere = judged("t", units(5, 0.02, 0.002)).to_json()
    assert elsewhere["verdict"] == "not settled"
    assert "this one has as many units, 5 seeds; the intervals do not overlap" in disagreement(shown, elsewhere)
    (unmeasured,) = join(claims.load_register(), [])
    assert disagreement(shown, shown) == disagreement(shown, unmeasured) == disagreement(unmeasured, shown) == ""


def test_a_card_shows_the_same_claim_of_another_run(register):
    register()
    shown, other = (judged("t", units(n, mean, 0.002)).to_json() for n, mean in ((5, 0.03), (8, 0.01)))
    card = card_html(shown, other)
    assert "<dt>In another run</dt><dd>contradicted; 0.0100, 95% interval [0.0083, 0.0117] (Student t), words; 8 seeds</dd>" in card
    assert f"<dt>The runs disagree</dt><dd>{disagreement(shown, other)}</dd>" in card
    agreeing = card_html(shown, shown)
    assert "In another run" in agreeing
    assert "The runs disagree" not in agreeing
    (unmeasured,) = join(claims.load_register(), [])
    assert card_html(shown, unmeasured) == card_html(shown)
