"""How long the choice of a coreset takes from as many scores as ImageNet has images."""

import time

import numpy as np

from effnotes.metrics.coverage import stratified_coreset


def test_a_million_scores_are_stratified_in_two_seconds() -> None:
    margin = np.random.default_rng(0).normal(size=1_000_000)
    start = time.process_time()
    chosen = stratified_coreset(margin, margin, 100_000, cutoff=0.3, seed=0)
    assert time.process_time() - start < 2
    assert len(chosen) == 100_000
