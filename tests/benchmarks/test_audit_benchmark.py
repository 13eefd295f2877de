"""Speed of the whole audit of two models on 100,000 samples of 40 attributes: under 3 s on one core, 5 s as a command."""

import subprocess
import sys

import numpy as np
import pytest

from effnotes.metrics import bias as metrics


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(0)
    group = rng.random(100_000) < 0.4
    low, high = rng.uniform(0.03, 0.6, (2, 40))
    labels = rng.random((100_000, 40)) < np.where(group[:, None], high, low)
    labels[:, 20] = group
    dense = (rng.normal(size=labels.shape) + 2 * labels - 1.5).astype(np.float32)
    pruned = (dense - 0.5 + rng.normal(size=labels.shape)).astype(np.float32)
    return dense, pruned, labels.astype(np.int64)


@pytest.mark.parametrize("calibrated", [False, True])
def test_audit(benchmark, large, calibrated):
    arguments = {"train_labels": large[2], "protected": 20, "validation": large if calibrated else None}
    audit = benchmark.pedantic(metrics.audit_logits, args=large, kwargs=arguments, rounds=3, warmup_rounds=1)
    assert audit.summary["difference"].notna().any()


def test_override_study(benchmark, large):
    task = metrics.AttributeTask.of(large[2], protected=20, train_labels=large[2])
    arguments = {"validation": large}
    table = benchmark.pedantic(metrics.override_study, args=(*large[:2], task), kwargs=arguments, rounds=3)
    assert set(table["override"]) == {"none", "dense", "label"}


def test_command(benchmark, large, tmp_path):
    for name, array in zip(("dense", "pruned", "labels"), large, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    files = [f"--{name}={name}.npy" for name in ("dense", "pruned", "labels")]

    def audit():
        command = [sys.executable, "-m", "effnotes", "audit", *files, "--groups=20", f"--to={len(list(tmp_path.iterdir()))}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "largest first" in benchmark.pedantic(audit, rounds=2).stdout
    assert benchmark.stats["min"] < 5
