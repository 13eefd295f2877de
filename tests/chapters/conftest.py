"""An invented record of a run on CIFAR-10S: no such run was made, the numbers only have the right form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from effnotes.datasets import CIFAR10_CLASSES
from effnotes.reporting.claims import Claim, Measurement, Source
from effnotes.reporting.tables import keep_table
from effnotes.runner.parameters import parse_value
from effnotes.runner.project import Project

CLAIMS = (
    *("accuracy-flat", "ba-flat", "uncertainty-grows", "interdependence-grows", "ba-grows", "ba-follows-uncertainty"),
    *("ba-follows-interdependence", "rare-value-underpredicted", "calibration-lowers-ba", "changes-were-uncertain"),
    *("changes-turn-negative", "dense-criteria-predict", "override-beats-random"),
)
VERDICTS = ("shown", "contradicted", "not settled")
OF_MODELS = (
    *("training_s", "latency_ms", "sparse_kib", "accuracy", "roc_auc", "uncertainty", "expected_calibration_error"),
    *("rare_value_ratio", "interdependence", "false_negative_rate_gap", "false_positive_rate_gap", "bias_amplification"),
    "bias_amplification_calibrated",
)
OF_ATTRIBUTES = (
    *("bias_amplification", "bias_amplification_calibrated", "uncertainty", "interdependence", "accuracy"),
    "false_negative_rate_gap",
)


def invented_record(
    seeds: tuple[int, ...] = (1, 2, 3), sparsities: tuple[float, ...] = (0.0, 0.5, 0.9, 0.95, 0.99)
) -> dict[str, Any]:
    """Return a record with the tables, claims and provenance that the page on CIFAR-10S reads, filled with random numbers."""
    rng = np.random.default_rng(0)
    sparse = list(sparsities[1:])
    models = pd.DataFrame([(seed, level) for seed in seeds for level in sparsities], columns=["seed", "sparsity"])
    models["remaining_weights"] = (78_000 * (1 - models["sparsity"])).round().astype(int)
    models["effective_sparsity"] = models["sparsity"]
    for name in OF_MODELS:
        models[name] = 0.3 + 0.2 * models["sparsity"] + rng.normal(0, 0.02, len(models))
    models["majority_accuracy"], models["label_interdependence"] = 0.9, 1.0
    attributes = pd.DataFrame(
        [(level, name) for level in sparsities for name in CIFAR10_CLASSES], columns=["sparsity", "attribute"]
    )
    for name in OF_ATTRIBUTES:
        attributes[name] = 0.3 * attributes["sparsity"] * rng.uniform(0, 1, len(attributes))
    attributes.loc[attributes.index[-1], "bias_amplification"] = np.nan  # a class that is never predicted
    growth = pd.DataFrame({"sparsity": sparse, "estimate": np.linspace(-0.005, 0.06, len(sparse))})
    growth["low"], growth["high"] = growth["estimate"] - 0.01, growth["estimate"] + 0.02
    exemplars = pd.DataFrame({"sparsity": sparse, "rate": np.linspace(0.02, 0.08, len(sparse)), "noise_floor": 0.015})
    exemplars["dense_uncertain"], exemplars["base_dense_uncertain"], exemplars["positive_to_negative"] = 0.8, 0.2, 0.65
    criteria = pd.DataFrame({"attribute": CIFAR10_CLASSES, "uncertainty": rng.uniform(0.05, 0.3, 10), "abs_phi": 0.3})
    criteria["uncertainty_times_phi"] = criteria["uncertainty"] * criteria["abs_phi"]
    criteria["growth"] = rng.normal(0.03, 0.02, 10)
    cases = [
        ("none", "none"),
        *((how, where) for how in ("dense", "label") for where in ("dense uncertainty", "random", "sparse uncertainty")),
    ]
    overrides = pd.DataFrame(
        [(calibrated, *case) for calibrated in (False, True) for case in cases], columns=["calibrated", "override", "selection"]
    )
    for name in ("bias_amplification", "accuracy", "share_overridden"):
        overrides[name] = rng.uniform(0.1, 0.2, len(overrides))
    levels = pd.DataFrame({"moderate": [0.9], "high": [sparsities[-1]]})
    tables = {
        "models": models,
        "attributes": attributes,
        "growth": growth,
        "exemplars": exemplars,
        "criteria": criteria,
        "overrides": overrides,
        "levels": levels,
    }
    payloads = [keep_table(name, frame).to_json() for name, frame in tables.items()]
    return {
        "format": 2,
        "chapter": "pruning_bias",
        "profile": "full",
        "command": "effnotes run pruning_bias -p dataset=cifar10s -p data_root=DATA_ROOT --profile full --keep-as cifar10s",
        "parameters": [
            {"name": "seeds", "value": list(seeds)},
            {"name": "dataset", "value": "cifar10s"},
            {"name": "data_root", "value": "DATA_ROOT"},
        ],
        "overrides": {"dataset": "cifar10s", "data_root": "DATA_ROOT"},
        "data": {"data_root": "0" * 64},
        "seeds": list(seeds),
        "environment": {
            "python": "3.11.7",
            "platform": "Invented x86_64",
            "device": "CPU: invented <processor>",
            "cores": 2,
            "memory_bytes": 8 * 2**30,
            "threads": 2,
            "packages": {"numpy": "2.4.6", "torch": "2.15.0"},
        },
        "commit": {"revision": "0123456789abcdef", "clean": True},
        "started": "2026-11-21T04:01:35+00:00",
        "duration_s": 1805.2,
        "peak_memory_bytes": 3 * 2**30,
        "claims": [_payload(name, VERDICTS[number % 3]) for number, name in enumerate(CLAIMS)],
        "tables": {payload.pop("name"): payload for payload in payloads},
    }


def _payload(name: str, verdict: Any) -> dict[str, Any]:
    claim = Claim(
        id=f"bias.{name}",
        chapter="pruning_bias",
        statement=f"An invented measurement of {name}.",
        source=Source("iofinova2023bias", "abstract", "text"),
        published=None,
        effect="an effect",
        unit="share",
        range=(-1.0, 1.0),
        unit_of_analysis="seed",
        direction="increase",
        margin=0.01,
        interval="t",
    )
    return Measurement(claim, 0.03, (0.02, 0.04), claim.interval, 0.95, 3, 3, (0.03, 0.02, 0.04), verdict, "Invented.").to_json()


@pytest.fixture
def write_invented(tmp_path: Path):
    """Return a function that writes an invented record and returns its path."""

    def write(**choices: Any) -> Path:
        path = tmp_path / "invented.json"
        path.write_text(json.dumps(invented_record(**choices), allow_nan=False))
        return path

    return write


@pytest.fixture(scope="session")
def project() -> Project:
    """This checkout, whose pages are read once: to read them all takes longer than most checks of parameters."""
    return Project.find(Path(__file__))


@pytest.fixture
def check(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs a chapter's cells in this process up to the last one that checks its parameters.

    It takes the chapter's name and values over those of `smoke`, written as after `-p`, and fails where something was computed that
    is kept, or where a cell that checks nothing raised a `ValueError`. What the chapter raises comes through.
    """
    kept = tmp_path / "cache"
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(kept))
    monkeypatch.chdir(project.root)

    def run(name: str, **values: object) -> None:
        chapter = project.chapter(name)
        given = {key: parse_value(str(value), key) for key, value in values.items()}
        parameters = project.values(name, "smoke", given)
        last = max(number for number, (_, tags) in enumerate(chapter.code) if "check" in tags)
        namespace: dict[str, Any] = {}
        try:
            for source, tags in chapter.code[: last + 1]:
                if "parameters" in tags:
                    namespace |= parameters
                else:
                    exec(compile(source, f"{chapter.page}.py", "exec"), namespace)
        except ValueError:
            assert "check" in tags, "what another cell raises is a failure, and no refusal of the parameters"
            raise
        finally:
            assert not [path for path in kept.glob("**/*") if path.is_file()], "something was trained first"

    return run
