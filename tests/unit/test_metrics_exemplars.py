"""Exemplars: majorities and distances by loops, and the table against SciPy and known counts."""

import numpy as np
import pytest
from scipy import stats

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason


def populations(seed, dense_models=3, sparse_models=3, n=400, attributes=3):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, attributes)) * 2
    dense = truth + rng.normal(size=(dense_models, n, attributes)) * 0.6
    sparse = truth - 1.5 + rng.normal(size=(sparse_models, n, attributes)) * 3
    return dense, sparse


def table_of(dense, sparse, names=None):
    """The table of two populations of logits at threshold 0, as a reader makes it."""
    p = np.mean([metrics.probabilities(model) for model in dense], axis=0)
    before, after = (metrics.modal_predictions(logits > 0) for logits in (dense, sparse))
    return metrics.exemplar_table(before, after, p, names=names)


@pytest.mark.parametrize(("dense_models", "sparse_models"), [(1, 1), (3, 5), (4, 2)])
def test_majorities_and_distances_by_a_loop(dense_models, sparse_models):
    dense, sparse = (logits > 0 for logits in populations(0, dense_models, sparse_models))
    modal, distance = metrics.modal_exemplars(dense, sparse), metrics.taxicab_distance(dense, sparse)
    for i in range(dense.shape[1]):
        for k in range(dense.shape[2]):
            shares = []
            for votes in (dense[:, i, k].tolist(), sparse[:, i, k].tolist()):
                shares.append((votes.count(True) / len(votes), votes.count(False) / len(votes)))
            (d1, d0), (s1, s0) = shares
            assert modal[i, k] == ((d1 > d0) != (s1 > s0))
            assert distance[i, k] == pytest.approx(abs(d1 - s1) + abs(d0 - s0))


def test_a_tie_is_negative_and_total_contradiction_is_farthest():
    votes = np.array([[[1, 1]], [[0, 1]]])
    assert metrics.modal_predictions(votes).tolist() == [[False, True]]
    assert metrics.taxicab_distance(votes, 1 - votes).tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize("seed", range(4))
def test_table_by_counting(seed):
    dense, sparse = populations(seed)
    table = table_of(dense, sparse, ["a", "b", "c"]).set_index("attribute")
    p = (1 / (1 + np.exp(-dense))).mean(0)
    before, after = (dense > 0).sum(0) > 1.5, (sparse > 0).sum(0) > 1.5
    for k, name in enumerate("abc"):
        changed, unsure = before[:, k] != after[:, k], (p[:, k] > 0.1) & (p[:, k] < 0.9)
        row = table.loc[name]
        assert row["exemplars"] == changed.sum() > 0
        assert row["rate"] == changed.mean()
        assert row["dense_uncertain"] == pytest.approx(unsure[changed].mean())
        assert row["dense_highly_uncertain"] == pytest.approx(((p[:, k] > 0.4) & (p[:, k] < 0.6))[changed].mean())
        assert row["base_dense_uncertain"] == pytest.approx(unsure.mean())
        assert row["positive_to_negative"] == pytest.approx(before[changed, k].mean())
        counts = np.array([[sum(changed & unsure), sum(changed & ~unsure)], [sum(~changed & unsure), sum(~changed & ~unsure)]])
        assert (counts > 0).all()
        reference = stats.contingency.odds_ratio(counts, kind="sample")
        interval = reference.confidence_interval(0.95)
        found = row[["odds_ratio", "odds_ratio_low", "odds_ratio_high"]].tolist()
        np.testing.assert_allclose(found, [reference.statistic, interval.low, interval.high])
        assert row["p_value"] == pytest.approx(stats.fisher_exact(counts)[1])
        assert row["reason"] == ""


def test_probability_above_nine_tenths_and_below_one_tenth_are_both_certain():
    # A slip in the brackets of |p - 1/2| < 0.4 would take every p < 0.9 for uncertain.
    dense = np.log(np.array([[[0.05]], [[0.05]], [[0.05]]]) / 0.95)
    table = table_of(dense, -dense)
    assert table.loc[0, "exemplars"] == 1
    assert table.loc[0, "dense_uncertain"] == 0
    assert table.loc[0, "positive_to_negative"] == 0


def test_odds_ratio_at_an_empty_cell_and_where_there_is_none():
    dense = np.array([[0.1], [0.1], [5.0], [-5.0], [-0.1]])[None]
    sparse = np.array([[-1.0], [1.0], [1.0], [-1.0], [-1.0]])[None]
    row = table_of(dense, sparse).loc[0]
    # One exemplar, uncertain; of the other four two are: (1 + ½)(2 + ½) / ((0 + ½)(2 + ½)).
    assert row["odds_ratio"] == pytest.approx(1.5 * 2.5 / (0.5 * 2.5))
    half_width = 1.959963984540054 * np.sqrt(1 / 1.5 + 1 / 0.5 + 1 / 2.5 + 1 / 2.5)
    assert np.log([row["odds_ratio_low"], row["odds_ratio_high"]]) == pytest.approx(np.log(3) + half_width * np.array([-1, 1]))
    same = table_of(dense, dense).loc[0]
    assert same["reason"] == Reason.NO_EXEMPLARS
    assert same["exemplars"] == 0
    assert np.isnan(same[["dense_uncertain", "odds_ratio", "p_value", "positive_to_negative"]].astype(float)).all()
    sure = table_of(100 * dense, sparse).loc[0]
    assert sure["reason"] == Reason.ONE_KIND_OF_SAMPLE
    assert sure["dense_uncertain"] == 0
    assert np.isnan(sure["odds_ratio"])


def test_bad_input():
    with pytest.raises(ValueError, match=r"for one model pass predictions\[None\]"):
        metrics.modal_predictions(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="same samples and attributes"):
        metrics.modal_exemplars(np.zeros((1, 4, 2)), np.zeros((1, 5, 2)))
    with pytest.raises(ValueError, match=r"before, after and p must have one shape, not \(2, 1\), \(2, 1\) and \(1, 1\)"):
        metrics.exemplar_table(np.zeros((2, 1)), np.zeros((2, 1)), [[0.5]])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        metrics.exemplar_table([[1]], [[0]], [[np.nan]])
    with pytest.raises(ValueError, match="at least one sample"):
        metrics.exemplar_table(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)))
