"""Overrides: what is replaced, that controls replace as much, and the two-by-two table by hand."""

import numpy as np
import pytest

from effnotes.metrics import bias as metrics


def draw(seed, n=400, attributes=4):
    rng = np.random.default_rng(seed)
    group = rng.random(n) < 0.5
    chance = np.where(group[:, None], 0.5, 0.2) * np.ones(attributes)
    labels = np.column_stack([group, rng.random((n, attributes)) < chance]).astype(int)
    evidence = 4 * labels - 2 + rng.normal(size=labels.shape)
    dense = evidence + 0.3 * rng.normal(size=labels.shape)
    sparse = 0.5 * evidence + group[:, None] - 1 + rng.normal(size=labels.shape)
    return dense, sparse, labels


def test_only_selected_decisions_change():
    predictions, replacements, selected = [[0, 1], [1, 0]], [[1, 0], [1, 1]], [[1, 0], [0, 1]]
    assert metrics.override(predictions, replacements, selected).tolist() == [[True, True], [True, True]]
    with pytest.raises(ValueError, match="one shape"):
        metrics.override(predictions, replacements, [[1, 0]])


def test_selections_have_the_counts_asked_for():
    counts = np.array([0, 3, 10])
    chosen = metrics.select_randomly(counts, 10, seed=1)
    assert chosen.sum(0).tolist() == counts.tolist()
    np.testing.assert_array_equal(chosen, metrics.select_randomly(counts, 10, seed=1))
    assert not np.array_equal(chosen, metrics.select_randomly(counts, 10, seed=2))
    often = np.mean([metrics.select_randomly([3], 10, seed=seed)[:, 0] for seed in range(2000)], axis=0)
    np.testing.assert_allclose(often, 0.3, atol=0.05)
    logits = np.array([[3.0, -1.0], [-0.5, 1.0], [0.2, -2.0]])
    assert metrics.select_least_certain(logits, [2, 1]).tolist() == [[False, True], [True, False], [True, False]]


@pytest.mark.parametrize("counts", [[11], [-1], [0.5], [[1]]])
def test_impossible_counts(counts):
    with pytest.raises(ValueError, match="integers from 0 to 10"):
        metrics.select_randomly(counts, 10, seed=0)


def test_study_by_hand():
    dense, sparse, labels = draw(0)
    validation = draw(1)
    rates = metrics.conditional_rates(labels, 0)
    task = metrics.AttributeTask.of(labels, protected="_group", rates=rates, names=["_group", "a", "b", "c", "d"])
    table = metrics.override_study(dense, sparse, task, validation=validation, seed=7)
    cuts = [np.zeros(5), np.zeros(5)]
    calibrated = []
    for logits in validation[:2]:
        ordered, m = np.sort(logits, axis=0)[::-1], validation[2].sum(0)
        calibrated.append([(ordered[m[k] - 1, k] + ordered[m[k], k]) / 2 for k in range(5)])
    p = 1 / (1 + np.exp(-dense))
    doubtful = (p > 0.1) & (p < 0.9)
    counts = doubtful.sum(0)
    least = np.zeros_like(doubtful)
    for k in range(5):
        least[np.argsort(np.abs(sparse[:, k]))[: counts[k]], k] = True
    random = metrics.select_randomly(counts, len(labels), seed=7)
    selections = {"dense uncertainty": doubtful, "random": random, "sparse uncertainty": least}
    index = ["calibrated", "override", "selection", "metric", "attribute"]
    values = table.set_index(index)["value"].sort_index()
    assert len(table) == 2 * 7 * 3 * 5
    for is_calibrated, (dense_cut, sparse_cut) in ((False, cuts), (True, calibrated)):
        own, of_dense = sparse > sparse_cut, dense > dense_cut
        expected = {("none", "none"): own}
        for how, chosen in selections.items():
            for name, new in (("dense", of_dense), ("label", labels == 1)):
                expected[name, how] = np.where(chosen, new, own)
                share = values[is_calibrated, name, how, "share_overridden"]
                np.testing.assert_allclose(share, counts / len(labels))
        for (name, how), decisions in expected.items():
            found = values[is_calibrated, name, how]
            np.testing.assert_allclose(found["accuracy"], (decisions == (labels == 1)).mean(0), err_msg=f"{name} {how}")
            in_group, all_positives = decisions[labels[:, 0] == 1].sum(0), decisions.sum(0)
            excess = in_group / all_positives - labels[labels[:, 0] == 1].sum(0) / labels.sum(0)
            np.testing.assert_allclose(found["bias_amplification"][1:], excess[1:], err_msg=f"{name} {how}")
    averages = metrics.summarise(table).set_index(["calibrated", "override", "selection", "metric"])["mean"]
    bias = {how: averages[False, "label", how, "bias_amplification"] for how in selections}
    assert bias["dense uncertainty"] < bias["random"] < averages[False, "none", "none", "bias_amplification"]


def test_bad_shapes_name_the_model():
    dense, sparse, labels = draw(0)
    task = metrics.AttributeTask.of(labels, protected=0, train_labels=labels)
    with pytest.raises(ValueError, match="sparse_logits and labels must have one shape"):
        metrics.override_study(dense, sparse[:5], task, validation=(dense, sparse, labels))
