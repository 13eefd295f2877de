"""Speed of the metrics on 100,000 samples of 40 attributes; all of them should take under 3 s on one core."""

import numpy as np
import pytest

from effnotes.metrics import bias as metrics


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(0)
    labels = rng.random((100_000, 40)) < rng.uniform(0.03, 0.6, 40)
    logits = (rng.normal(size=labels.shape) + 2 * labels - 1.5).astype(np.float32)
    return logits, labels.astype(np.int64)


def test_whole_table(benchmark, large):
    logits, labels = large
    task = metrics.AttributeTask.of(labels, train_labels=labels, protected=20)
    table = benchmark.pedantic(metrics.attribute_metrics, args=(logits, task), rounds=3, warmup_rounds=1)
    assert table["attribute"].nunique() == 40


def test_roc_auc(benchmark, large):
    result = benchmark.pedantic(metrics.roc_auc, args=large, rounds=3)
    assert np.isfinite(result).all()


def test_interdependence(benchmark, large):
    predictions = metrics.hard_predictions(large[0])
    result = benchmark.pedantic(metrics.interdependence, args=(predictions,), rounds=3)
    assert np.isfinite(result).all()
