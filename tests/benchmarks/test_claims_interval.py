"""What a measurement costs: run with `pytest tests/benchmarks`."""

import numpy as np
import pytest
import yaml

from effnotes.reporting.claims import measure


@pytest.mark.parametrize(("interval", "shape"), [("t", (5,)), ("bootstrap", (5, 50)), ("bootstrap", (10, 5000))])
def test_measure(benchmark, tmp_path, monkeypatch, interval, shape):
    entry = {
        "id": "bench.mark",
        "chapter": "bench",
        "statement": "An effect grows.",
        "source": {"key": "nobody", "kind": "text", "where": "nowhere"},
        "published": None,
        "effect": "a draw",
        "unit": "1",
        "range": None,
        "unit_of_analysis": "seed",
        "direction": "increase",
        "margin": 0.0,
        "interval": interval,
        "worth_seeing": 0.5,
    }
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([entry]))
    monkeypatch.setenv("EFFNOTES_CLAIMS", str(tmp_path / "claims.yaml"))
    effects = np.random.default_rng(0).normal(size=shape)
    assert benchmark(measure, "bench.mark", effects).n_units == effects.size
