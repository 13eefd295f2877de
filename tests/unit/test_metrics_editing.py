"""Scores of edits against loops, SciPy and values known by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from effnotes.metrics.editing import (
    consequence,
    extraction_strength,
    forget_quality,
    harmonic_mean,
    loss_score,
    macro_average,
    membership_auc,
    min_k_score,
    model_utility,
    stable_rank,
    truth_ratio,
)

RNG = np.random.default_rng(0)


def test_groups_count_alike_and_empty_ones_not_at_all() -> None:
    assert macro_average([1.0, 0.5, 0.0]) == pytest.approx(0.5)
    assert macro_average({"large": 1.0, "small": 0.0, "empty": math.nan}) == pytest.approx(0.5)
    assert math.isnan(macro_average([math.nan]))
    assert math.isnan(macro_average([]))


def test_harmonic_means() -> None:
    values = RNG.uniform(0.1, 1, size=5)
    assert harmonic_mean(*values) == pytest.approx(stats.hmean(values))
    assert harmonic_mean(1.0, 0.5) == pytest.approx(2 / 3)
    assert harmonic_mean(1.0, 0.0) == 0
    assert math.isnan(harmonic_mean(1.0, math.nan))
    assert math.isnan(harmonic_mean())
    with pytest.raises(ValueError, match="at least 0"):
        harmonic_mean(-0.1, 1.0)


def test_consequences_are_shares_that_sum_to_one() -> None:
    found = consequence([True, False, False, False], [False, True, True, False])
    assert found == {"followed": 0.25, "kept": 0.5, "other": 0.25}
    assert all(map(math.isnan, consequence([], []).values()))
    with pytest.raises(ValueError, match="implied one and the old one"):
        consequence([True], [True])
    with pytest.raises(ValueError, match="shape"):
        consequence([True], [True, False])


def test_truth_ratios_by_a_loop() -> None:
    table, truth = RNG.dirichlet(np.ones(5), size=7) * 0.9, RNG.integers(5, size=7)
    expected = []
    for row, right in zip(table.tolist(), truth.tolist(), strict=True):
        wrong = [value for position, value in enumerate(row) if position != right]
        mean = sum(wrong) / len(wrong)
        expected.append(mean / (mean + row[right]))
    assert truth_ratio(table, truth) == pytest.approx(expected)
    assert truth_ratio([[0.25] * 4], [2]) == pytest.approx(0.5)
    assert truth_ratio([[1.0, 0.0]], [0]) == pytest.approx(0.0)
    assert truth_ratio([[1.0, 0.0]], [1]) == pytest.approx(1.0)
    assert np.isnan(truth_ratio([[0.0, 0.0]], [1])).all()


@pytest.mark.parametrize(("table", "truth"), [([[0.5, 0.5]], [2]), ([[0.5, 0.5]], [-1]), ([[1.0]], [0]), ([0.5, 0.5], [0])])
def test_truth_ratios_of_what_is_no_table_are_refused(table, truth) -> None:
    with pytest.raises(ValueError, match="truth"):
        truth_ratio(table, truth)


def test_forget_quality_by_all_ways_to_share_out_the_values() -> None:
    unlearned, gold = RNG.uniform(size=5), RNG.uniform(0.2, 1.2, size=4)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return max(abs((a <= x).mean() - (b <= x).mean()) for x in np.concatenate([a, b]))

    every = np.concatenate([unlearned, gold])
    observed = distance(unlearned, gold)
    distances = []
    for chosen in itertools.combinations(range(9), 5):
        mask = np.isin(np.arange(9), chosen)
        distances.append(distance(every[mask], every[~mask]))
    found = forget_quality(unlearned, gold)
    assert found.statistic == pytest.approx(observed)
    assert 10**found.log10_p == pytest.approx(np.mean(np.array(distances) >= observed - 1e-9))


def test_forget_quality_at_the_edges() -> None:
    sample = RNG.uniform(size=50)
    assert forget_quality(sample, sample) == (0.0, 0.0)
    assert forget_quality(sample, sample + 10).log10_p < -20
    with pytest.raises(ValueError, match="gold has 0"):
        forget_quality(sample, [])
    with pytest.raises(ValueError, match="1 of them NaN"):
        forget_quality([0.5, math.nan], sample)


def test_utility_is_the_harmonic_mean_over_groups_and_scores() -> None:
    groups = [([1, 0], [0.8, 0.4], [0.1, 0.5]), ([1, 1, 1, 1], [0.9] * 4, [0.2] * 4)]
    assert model_utility(groups) == pytest.approx(stats.hmean([0.5, 0.6, 0.7, 1.0, 0.9, 0.8]))
    assert model_utility([*groups, ([], [], [])]) == model_utility(groups)
    assert math.isnan(model_utility([]))


LENGTHS = (6, 1, 4, 5)
INSIDE = np.arange(6) < np.array(LENGTHS)[:, None]


def test_membership_scores_by_loops() -> None:
    log_p = np.log(RNG.uniform(size=INSIDE.shape))
    log_p[~INSIDE] = -1e6  # padding must not count
    for share in (0.2, 0.5, 1.0):
        expected = []
        for row, n in zip(log_p.tolist(), LENGTHS, strict=True):
            lowest = sorted(row[:n])[: max(1, int(n * share))]
            expected.append(sum(lowest) / len(lowest))
        assert min_k_score(log_p, INSIDE, share=share) == pytest.approx(expected)
    assert loss_score(log_p, INSIDE) == pytest.approx(expected)  # all tokens
    for bad in (0.0, 1.1):
        with pytest.raises(ValueError, match="share"):
            min_k_score(log_p, INSIDE, share=bad)


def test_membership_is_the_share_of_pairs_in_order() -> None:
    members, controls = RNG.integers(5, size=20), RNG.integers(4, size=30)
    pairs = [(a > b) + (a == b) / 2 for a in members for b in controls]
    assert membership_auc(members, controls) == pytest.approx(np.mean(pairs))
    assert membership_auc([1.0, 2.0], [0.0]) == 1
    assert membership_auc([0.0], [0.0]) == 0.5
    with pytest.raises(ValueError, match="controls has 0"):
        membership_auc([1.0], [])
    with pytest.raises(ValueError, match="members has 2 values, 1 of them NaN"):
        membership_auc([1.0, math.nan], [1.0])


def test_extraction_strength_by_trying_all_prefixes() -> None:
    tables = [np.array(row).reshape(1, 4) for row in itertools.product([False, True], repeat=4)]
    for table, n in itertools.product(tables, range(1, 5)):
        inside = np.arange(4)[None] < n
        shortest = next(k for k in range(n + 1) if table[0, k:n].all())
        assert extraction_strength(table, inside) == pytest.approx([1 - shortest / n])
    with pytest.raises(ValueError, match="1 texts have no token"):
        extraction_strength([[True]], [[False]])
    with pytest.raises(ValueError, match="shape"):
        extraction_strength([[True]], [[True, True]])


def test_stable_rank_from_singular_values() -> None:
    matrix = RNG.normal(size=(6, 4))
    s = np.linalg.svd(matrix, compute_uv=False)
    assert stable_rank(matrix) == pytest.approx((s**2).sum() / s[0] ** 2)
    assert stable_rank(np.outer(RNG.normal(size=5), RNG.normal(size=3))) == pytest.approx(1)
    assert stable_rank(np.eye(4)) == pytest.approx(4)
    assert math.isnan(stable_rank(np.zeros((3, 3))))
    with pytest.raises(ValueError, match="shape"):
        stable_rank(np.zeros(3))
