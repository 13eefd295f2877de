"""Criteria on the dense model: phi and Spearman against NumPy and SciPy, the flag rule, undefined attributes."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason


def draw(seed=0, n=600, attributes=8):
    rng = np.random.default_rng(seed)
    group = rng.random(n) < 0.4
    low, high = rng.uniform(0.15, 0.85, (2, attributes))
    labels = np.column_stack([group, rng.random((n, attributes)) < np.where(group[:, None], high, low)]).astype(int)
    logits = (2 * labels - 1) * rng.uniform(0.5, 4, attributes + 1) + rng.normal(size=labels.shape)
    return logits, labels


def phi_of(labels, protected):
    return metrics.phi_coefficient(
        metrics.AttributeTask.of(
            labels, protected=protected, train_labels=labels, train_groups=None if np.ndim(protected) == 0 else protected
        )
    )


def test_phi_is_the_correlation_coefficient():
    _, labels = draw()
    phi = phi_of(labels, 0)
    np.testing.assert_allclose(phi.values[1:], [np.corrcoef(labels[:, 0], labels[:, k])[0, 1] for k in range(1, 9)], atol=1e-12)
    np.testing.assert_allclose(phi_of(labels, labels[:, 0]).values[1:], phi.values[1:])
    assert phi.reasons[0] is Reason.PROTECTED_ITSELF
    columns = np.array([[0, 1, 1, 0], [1, 0, 1, 0]])
    known = phi_of(columns, [0, 1])
    np.testing.assert_allclose(known.values[:2], [1, -1])
    assert known.reasons[2:] == (Reason.CONSTANT_TRAINING_LABEL,) * 2
    assert phi_of(columns, [1, 1]).reasons == (Reason.EMPTY_TRAINING_GROUP,) * 4


def test_criteria_of_each_attribute():
    logits, labels = draw()
    _, train = draw(1)
    task = metrics.AttributeTask.of(labels, train_labels=train, protected="a0", names=[f"a{k}" for k in range(9)])
    table = metrics.attribute_criteria(logits, task)
    assert table.loc[0, "reason"] == Reason.PROTECTED_ITSELF
    assert table.loc[0, ["uncertainty", "abs_phi", "rarity", "auc_gap", "uncertainty_times_phi"]].isna().all()
    p = 1 / (1 + np.exp(-logits))
    unsure = ((p > 0.1) & (p < 0.9)).mean(0)
    for k in range(1, 9):
        row, phi = table.loc[k], abs(np.corrcoef(train[:, 0], train[:, k])[0, 1])
        assert row["uncertainty"] == pytest.approx(unsure[k])
        assert row["abs_phi"] == pytest.approx(phi)
        assert row["uncertainty_times_phi"] == pytest.approx(unsure[k] * phi)
        assert row["rarity"] == pytest.approx(max(train[:, k].mean(), 1 - train[:, k].mean()))
        assert row["auc_gap"] == pytest.approx(1 - roc_auc_score(labels[:, k], logits[:, k]))
        assert row["flagged"] == (unsure[k] > 1.25 * np.median(unsure[1:]) and phi > 0.1)
    assert table["flagged"].any()
    assert not table["flagged"].all()
    amplification = metrics.bias_amplification(logits > 0, labels, 0, rates=metrics.conditional_rates(train, 0))
    np.testing.assert_array_equal(table["bias_amplification"], amplification.values)
    of_groups = metrics.AttributeTask.of(labels[:, 1:], train_labels=train[:, 1:], protected=labels[:, 0], train_groups=train[:, 0])
    by_array = metrics.attribute_criteria(logits[:, 1:], of_groups)
    columns = ["uncertainty", "abs_phi", "rarity", "flagged"]
    pd.testing.assert_frame_equal(by_array[columns], table.loc[1:, columns].reset_index(drop=True))


def test_groups_without_training_groups_are_refused():
    _, labels = draw()
    with pytest.raises(ValueError, match=r"train_groups=\.\.\. are needed"):
        metrics.AttributeTask.of(labels, train_labels=labels, protected=labels[:, 0])


def table_of(scores):
    """A table in which every criterion is the same score."""
    names = ["uncertainty", "abs_phi", "rarity", "auc_gap", "bias_amplification", "uncertainty_times_phi"]
    return pd.DataFrame({**dict.fromkeys(names, scores), "flagged": np.asarray(scores) > 0.5})


@pytest.mark.parametrize("attributes", [5, 12])
def test_spearman_and_its_permutations(attributes):
    rng = np.random.default_rng(attributes)
    score = np.round(rng.random(attributes), 1)  # with ties
    growth = score + 0.6 * rng.random(attributes)
    row = metrics.evaluate_criteria(table_of(score), growth).set_index("criterion").loc["auc_gap"]
    assert row["spearman"] == pytest.approx(stats.spearmanr(score, growth).statistic)
    reference = stats.permutation_test(
        (growth,),
        lambda order: stats.spearmanr(score, order).statistic,
        permutation_type="pairings",
        alternative="greater",
        n_resamples=500 if attributes > 6 else np.inf,
        rng=np.random.default_rng(0),
    )
    assert row["p_value"] == pytest.approx(reference.pvalue, abs=1e-12 if attributes == 5 else 0.05)
    without = [stats.spearmanr(np.delete(score, k), np.delete(growth, k)).statistic for k in range(attributes)]
    np.testing.assert_allclose(row[["leave_one_out_low", "leave_one_out_high"]].tolist(), [min(without), max(without)])
    assert row["attributes"] == attributes


def test_perfect_order_of_five_has_one_chance_in_120():
    row = metrics.evaluate_criteria(table_of([0.1, 0.2, 0.3, 0.6, 0.9]), [1, 2, 3, 4, 5]).iloc[0]
    assert row["spearman"] == pytest.approx(1)
    assert row["p_value"] == pytest.approx(1 / 120)


def test_undefined_attributes_are_left_out_and_too_few_give_a_reason():
    scores = [np.nan, 0.1, 0.2, 0.3, 0.6, 0.9]
    result = metrics.evaluate_criteria(table_of(scores), [9.0, 1, np.nan, 2, 3, 4]).set_index("criterion")
    assert (result["attributes"] == 4).all()
    assert result.loc["uncertainty", "spearman"] == pytest.approx(1)
    few = metrics.evaluate_criteria(table_of(scores), [np.nan, 1, np.nan, np.nan, 3, 4])
    assert set(few["reason"]) == {Reason.TOO_FEW_ATTRIBUTES.value}
    assert few["spearman"].isna().all()
    flat = metrics.evaluate_criteria(table_of([0.1, 0.2, 0.3, 0.4]), [1, 2, 3, 4]).set_index("criterion")
    assert flat.loc["flagged", "reason"] == Reason.CONSTANT_CRITERION
    same = metrics.evaluate_criteria(table_of([0.1, 0.2, 0.3, 0.9]), [0, 0, 0, 0])
    assert set(same["reason"]) == {Reason.CONSTANT_GROWTH.value}


def test_bad_input():
    with pytest.raises(ValueError, match="one entry per attribute"):
        metrics.evaluate_criteria(table_of([0.1, 0.2]), [1, 2, 3])
    with pytest.raises(ValueError, match="attribute_criteria"):
        metrics.evaluate_criteria(pd.DataFrame({"uncertainty": [0.1]}), [1])
    with pytest.raises(ValueError, match="at least 99"):
        metrics.evaluate_criteria(table_of([0.1, 0.2]), [1, 2], permutations=9)


def test_rank_products_average_to_spearman_and_follow_the_attributes():
    rng = np.random.default_rng(3)
    score, target = rng.normal(size=11), rng.normal(size=11)
    products = metrics.rank_products(score, target)
    assert products.mean() == pytest.approx(stats.spearmanr(score, target).statistic)
    order = rng.permutation(11)
    assert metrics.rank_products(score[order], target[order]) == pytest.approx(products[order])
    assert metrics.rank_association(score, target)["spearman"] == pytest.approx(products.mean())
    assert len(metrics.rank_products(np.ones(9), target[:9])) == 0
    assert len(metrics.rank_products(score[:3], target[:3])) == 0


def test_an_interval_of_rank_products_seldom_shows_a_link_that_is_not_there():
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(2000):
        products = metrics.rank_products(rng.normal(size=9), rng.normal(size=9))
        shown += stats.ttest_1samp(products, 0).confidence_interval(0.95).low > 0
    assert 0.015 < shown / 2000 < 0.045


@pytest.mark.parametrize(
    ("score", "target", "message"),
    [([1.0, 2], [1.0], "one shape"), ([1.0, np.nan], [1.0, 2], "finite"), ([[1.0]], [[1.0]], "one shape")],
)
def test_scores_that_do_not_fit_are_refused(score, target, message):
    with pytest.raises(ValueError, match=message):
        metrics.rank_products(score, target)
    with pytest.raises(ValueError, match=message):
        metrics.rank_association(score, target)
