"""Effects of few values: their intervals hold what is promised, and where nothing holds, nothing is settled."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from effnotes.reporting import claims
from effnotes.reporting.claims import Claim, Source, card_html, cluster_interval, join, measure
from effnotes.reporting.claims.intervals import mean_interval, range_interval, t_interval


@pytest.fixture
def register(monkeypatch):
    """Return a function that registers the claim "few.values" with some fields."""

    def write(**fields):
        given = {"direction": "increase", "margin": 0.0, "interval": "t", "range": (-1.0, 1.0), "unit_of_analysis": "seed"} | fields
        given["worth_seeing"] = None if given["margin"] else 0.1
        text = dict.fromkeys(("statement", "effect", "unit"), "few")
        claim = Claim(
            id="few.values",
            chapter="few",
            source=Source(key="nobody", where="nowhere", kind="text"),
            published=None,
            **text,
            **given,
        )
        monkeypatch.setattr(claims, "load_register", lambda: {claim.id: claim})
        return claim

    return write


def draws(values, n):
    """Every possible sample of n of the values, and how often each value is in it."""
    counts = np.array(
        [np.bincount(c, minlength=len(values)) for c in itertools.combinations_with_replacement(range(len(values)), n)]
    )
    return np.array([np.repeat(values, c) for c in counts]), counts


def probabilities(counts, shares):
    return stats.multinomial.pmf(counts, counts[0].sum(), shares)


# ---- the promise, counted over every possible sample


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
@pytest.mark.parametrize("n", [2, 3, 5, 6])
@pytest.mark.parametrize(
    ("direction", "margin", "heads"),  # the share of heads puts the mean, of 1 and -1, at the margin
    [
        ("increase", 0.0, 0.5),
        ("increase", 0.8, 0.9),
        ("decrease", 0.0, 0.5),
        ("decrease", 0.5, 0.25),
        ("equivalence", 0.5, 0.75),
        ("equivalence", 0.9, 0.05),
        ("noninferiority", 0.01, 0.495),
    ],
)
def test_a_coin_at_the_margin_is_shown_as_seldom_as_promised(register, interval, n, direction, margin, heads):
    register(direction=direction, margin=margin, interval=interval)
    rate = dict.fromkeys(("shown", "contradicted", "not settled"), 0.0)
    for k in range(n + 1):
        effects = [1.0] * k + [-1.0] * (n - k)
        found = measure("few.values", effects if interval == "t" else [[e, e] for e in effects])
        rate[found.verdict] += stats.binom.pmf(k, n, heads)
    assert max(rate["shown"], rate["contradicted"]) <= 0.025
    # A fair coin is called in all six throws, as no fewer than six can do it.
    assert (rate["shown"] > 0) == (rate["contradicted"] > 0) == (n == 6) or margin > 0.01


@pytest.mark.parametrize("values", [(-1, 1), (-1, 0, 1), (-1, -1 / 3, 1 / 3, 1)])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_no_distribution_on_few_values_breaks_the_promise(values, n):
    samples, counts = draws(np.array(values, dtype=float), n)
    lo, hi = np.array([mean_interval(sample, "t", (-1.0, 1.0))[:2] for sample in samples]).T
    student = t_interval(samples)
    worst = {"range": 0.0, "t": 0.0}
    for shares in np.random.default_rng(0).dirichlet(np.full(len(values), 0.5), size=400):
        chance, mean = probabilities(counts, shares), shares @ values
        for name, (low, high) in {"range": (lo, hi), "t": student}.items():
            worst[name] = max(worst[name], chance[low > mean + 1e-12].sum(), chance[high < mean - 1e-12].sum())
    assert worst["range"] <= 0.0251  # rounded shares
    assert worst["t"] > 0.4


@pytest.mark.parametrize(("facts", "n"), [(1, 12), (2, 3), (2, 8), (3, 3), (3, 5), (5, 3)])
def test_differences_of_shares_keep_the_promise(facts, n):
    """Shares kept of a few facts by two methods that keep each with a probability of its own; the truth is at the margin."""
    values = np.arange(-facts, facts + 1) / facts
    samples, counts = draws(values, n)
    lo, hi = np.array([mean_interval(sample, "t", (-1.0, 1.0))[:2] for sample in samples]).T
    student, wrong = t_interval(samples), []
    for first, second in ((0.5, 0.5), (0.9, 0.9), (0.98, 0.9), (0.99, 0.3), (0.4, 1.0)):
        one, other = (stats.binom.pmf(np.arange(facts + 1), facts, kept) for kept in (first, second))
        chance, mean = probabilities(counts, np.convolve(one, other[::-1])), first - second
        assert max(chance[lo > mean + 1e-12].sum(), chance[hi < mean - 1e-12].sum()) <= 0.025
        wrong += [chance[student[0] > mean + 1e-12].sum(), chance[student[1] < mean - 1e-12].sum()]
    assert max(wrong) > 0.05


# ---- closed forms, and power


@pytest.mark.parametrize("n", [2, 3, 10, 100])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9, 1.0])
def test_two_values_get_the_interval_of_clopper_and_pearson(n, share):
    k = round(share * n)
    exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    found = range_interval(np.array([3.0] * k + [-2.0] * (n - k)), -2.0, 3.0)
    assert found == pytest.approx((-2 + 5 * exact.low, -2 + 5 * exact.high), abs=1e-9)


@pytest.mark.parametrize("n", [2, 7, 40])
@pytest.mark.parametrize("effect", [-0.5, 0.1, 1 / 3])
def test_equal_effects_have_an_interval_that_narrows_with_their_number(n, effect):
    part = 0.025 ** (1 / n)
    expected = (-0.5 + (effect + 0.5) * part, 0.5 - (0.5 - effect) * part)
    assert range_interval(np.full(n, effect), -0.5, 0.5) == pytest.approx(expected, abs=1e-9)


def test_bounds_are_quantiles_of_random_weights():
    effects = np.array([0.3, 0.3, 0.3, -0.8, 0.9])
    weights = np.random.default_rng(0).dirichlet(np.ones(6), size=200_000)
    low, high = (np.quantile(weights @ [*effects, end], q) for end, q in ((-1, 0.025), (1, 0.975)))
    assert range_interval(effects, -1.0, 1.0) == pytest.approx((low, high), abs=0.01)
    assert range_interval(-effects, -1.0, 1.0) == pytest.approx((-high, -low), abs=0.01)


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([1.0] * 5, "not settled"),  # five of five are called by a fair coin in 3.1% of repetitions
        ([1.0] * 6, "shown"),
        ([1.0] * 11 + [-1.0], "shown"),
        ([-1.0] * 8 + [0.0] * 4, "contradicted"),
    ],
)
def test_few_values_of_enough_units_are_settled(register, effects, verdict):
    register()
    assert measure("few.values", effects).verdict == verdict


@pytest.mark.parametrize("method", ["t", "bootstrap"])
@pytest.mark.parametrize("effects", [[0.02, 0.021], [0.02, 0.021, 0.022], [0.02, 0.02, 0.021, 0.022, 0.023], [1, 1, 0, 0, -1]])
def test_effects_that_mostly_differ_keep_their_interval(register, method, effects):
    register(interval=method)
    found = measure("few.values", effects if method == "t" else [[e] for e in effects])
    student = stats.ttest_1samp(effects, 0).confidence_interval(0.95)
    reach = (student.high - student.low) / 2
    assert found.interval == pytest.approx(
        (max(student.low, -1), min(student.high, 1)), abs=reach * (1e-9 if method == "t" else 0.04)
    )
    assert found.interval_method == method
    assert "same effect" not in found.reason


# ---- what counts as the same, and what is said


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e6])
@pytest.mark.parametrize("interval", ["t", "bootstrap"])
@pytest.mark.parametrize(
    "effects", [[0.1 + 0.2, 0.3, 0.3 + 1e-16], [0.3, 0.3, 0.1], [0.2, 0.3, 0.1 + 0.2, 0.4], [0.0, 1e-20, -3e-20]]
)
def test_without_a_range_nothing_is_settled(register, interval, effects, scale):
    """However the numbers were rounded, and in whatever unit they are."""
    claim = register(interval=interval, range=None)
    effects = [scale * e for e in effects]
    found = measure("few.values", effects if interval == "t" else [[e, e, e] for e in effects])
    assert (found.verdict, found.interval, found.interval_method) == ("not settled", None, "range")
    assert found.estimate == pytest.approx(np.mean(effects))
    expected = f"At least half of the {len(effects)} units (seed) gave the same effect"
    (row,) = join({claim.id: claim}, [found.to_json()])
    assert expected in json.loads(json.dumps(row, allow_nan=False))["reason"]
    assert expected in card_html(row)
    assert "no range" in row["reason"]


def test_a_claim_that_few_values_leave_open_says_so(register):
    register(direction="noninferiority", margin=0.01)
    found = measure("few.values", [0.0, 0.0, 0.0])
    assert found.verdict == "not settled"
    assert found.interval == pytest.approx((-0.7076, 0.7076), abs=1e-4)
    assert found.reason == (
        "The 95% interval [−0.7, 0.7] includes the margin, −0.01. At least half of the 3 units (seed) gave the same effect, so "
        "their spread does not tell how far off others may lie; the interval holds whatever they are, from −1 to 1."
    )
    assert "0, 95% interval [−0.7, 0.7] (bounds over the range of effects)" in card_html(found.to_json())


def test_a_record_made_before_names_the_registers_method(register):
    claim = register()
    payload = measure("few.values", [0.1, 0.2, 0.3]).to_json()
    del payload["interval_method"]
    assert "(Student t)" in card_html(payload)
    assert join({claim.id: claim}, [payload])[0]["interval_method"] == "t"


def test_effects_outside_the_range_leave_all_of_it(register):
    """Such as parts of a correlation, whose mean alone is bounded."""
    register()
    found = measure("few.values", [1.5, 1.5, 1.5, -0.5])
    assert (found.verdict, found.interval) == ("not settled", (-1.0, 1.0))
    assert measure("few.values", [1.0 + 1e-12] * 6).verdict == "shown", "rounding is not outside"


@pytest.mark.parametrize("direction", ["increase", "decrease", "equivalence", "noninferiority"])
def test_two_equal_effects_at_the_end_of_a_range_settle_nothing(register, direction):
    register(direction=direction, margin=0.5)
    found = measure("few.values", [1.0, 1.0])
    assert found.interval == pytest.approx((-1 + 2 * math.sqrt(0.025), 1.0))
    assert found.verdict == "not settled"


def test_clusters_that_agree_are_bounded_by_their_limits():
    groups = [[0.0, 0.2], [0.1], [0.1, 0.1]]
    assert cluster_interval(groups) == (pytest.approx(0.1), -math.inf, math.inf)
    estimate, low, high = cluster_interval(groups, limits=(-1.0, 1.0))
    assert (estimate, low, high) == pytest.approx((0.1, *range_interval(np.full(3, 0.1), -1.0, 1.0)))
    assert cluster_interval([[0.9], [0.5], [0.97]], limits=(-1.0, 1.0))[2] == 1.0
