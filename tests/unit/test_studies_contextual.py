"""The study of contextual sparsity: its facts, what decides its verdicts, and sentences, against loops and made-up tables."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from effnotes.reporting.claims import load_register, measure, what_was_found
from effnotes.studies.contextual import effects, experiment
from effnotes.studies.contextual import sentences as said

PARAMETERS: dict[str, Any] = {"seeds": [1, 2, 3], "sparsities": [0.5, 0.75], "names": 3, "relations": 2, "values": 4, "zipf": 1.0}
PARAMETERS |= {"width": 8, "mlp_width": 16, "experts": 4, "dense_steps": 4, "steps": 1, "batch_size": 4, "learning_rate": 0.01}
PARAMETERS |= {"threshold": 0.5, "separability": 0.005, "etas": [1.0, 2.0], "batches": [1, 4], "edits": 1, "edit_steps": 1}
PARAMETERS["edit_rates"] = {"active": 0.01, "others": 0.01, "dense": 0.01}


def made_up() -> experiment.Result:
    """Tables with planted differences; what differs between seeds is the same for all methods."""
    lost = {experiment.LTE: 0.1, experiment.STATIC: 0.4, experiment.RANDOM: 0.2, experiment.PREDICTED: 0.3}
    lost |= {experiment.ORACLE: 0.15, experiment.UNTRAINED: 0.6}
    levels: list[dict[str, Any]] = []
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("layers", "unions", "near", "shared", "edits", "times")}
    for seed in (1, 2, 3):
        base = {
            "seed": seed,
            "level": 0.0,
            "nearest": False,
            "sparsity": 0.0,
            "recall": 0.9 + seed / 100,
            "rare": 0.8,
            "frequent": 0.95,
        }
        levels.append(base | {"method": experiment.DENSE})
        for method, asked in itertools.product(lost, (0.5, 0.75)):
            share = asked / 0.75 * lost[method]
            row = {
                "method": method,
                "level": asked,
                "nearest": asked == 0.75,
                "sparsity": asked,
                "recall": base["recall"] - share,
                "switched": 0.2,
                "soft": 0.9,
            }
            levels.append(base | row | {"rare": 0.8 - 2 * share, "frequent": 0.95 - share})
        tables["layers"] += [
            {"seed": seed, "level": a, "block": b, "sparsity": a + 0.1 / b, "nearest": a == 0.75}
            for a in (0.5, 0.75)
            for b in (1, 2)
        ]
        tables["unions"] += [{"seed": seed, "batch": size, "sparsity": 0.75 / size} for size in (1, 4)]
        tables["near"] += [{"seed": seed, "separability": w, "near": n} for w, n in ((0.005, 0.1), (0.0, 0.3))]
        tables["shared"] += [
            {"seed": seed, "common": name, "overlap": 0.5, "expected": e, "p": 0.005}
            for name, e in (("relation", 0.2), ("value", 0.45))
        ]
        for name, kept in (("active", 0.9), ("others", 0.5), ("dense", 0.7)):
            tables["edits"].append({"seed": seed, "where": name, "success": 1.0, "retention": kept, "H": kept - 0.1})
        tables["times"].append({"seed": seed, "dense": 0.1, "masked": 0.2, "gathered": 0.4, "sparsity": 0.75})
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return experiment.Result(experiment.plan(**PARAMETERS)[0], pd.DataFrame(levels), **frames)


def test_each_claim_is_measured_by_what_it_names() -> None:
    found = effects.effects(made_up())
    expected = {
        "beats-static": 0.3,
        "beats-random-router": 0.1,
        "beats-moefication": 0.5,
        "beats-predictor": 0.2,
        "no-loss": -0.1 / 1.5,
    }
    expected |= {"gates-apart": -0.2, "first-block-sparser": 0.05, "batch-undoes": 0.1875 - 0.75, "gathered-slower": 2.0}
    expected |= {"relation-shares": 0.3, "value-shares": 0.05, "edit-keeps": 0.2, "edit-in-active": 0.4, "rare-first": 0.1}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value] * 3, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found["adaptation-mends"], [0.61, 0.62, 0.63])
    assert {f"contextual.{name}" for name in found} == {
        name for name, claim in load_register().items() if claim.chapter == "contextual_sparsity"
    }


def test_recall_is_read_off_a_line_between_levels_and_beyond_the_last() -> None:
    points = {0.0: 1.0, 0.4: 0.9, 0.8: 0.5}
    rows = [{"seed": 1, "method": "dense" if s == 0 else "LTE", "sparsity": s, "recall": r} for s, r in points.items()]
    levels = pd.DataFrame(rows)
    for sparsity, expected in {0.2: 0.95, 0.4: 0.9, 0.6: 0.7, 0.9: 0.4, 0.0: 1.0}.items():
        assert effects.recall_at(levels, "LTE", sparsity)[1] == pytest.approx(expected)
    assert effects.recall_at(levels[:1], "LTE", 0.5)[1] == 1, "no gate was closed"


def test_overlap_is_the_mean_over_pairs_and_its_null_keeps_to_strata() -> None:
    rng = np.random.default_rng(0)
    used, labels, strata = rng.random((12, 6)) < 0.5, rng.integers(3, size=12), np.repeat([0, 1], 6)
    pairs = [(i, j) for i, j in itertools.combinations(range(12), 2) if strata[i] == strata[j]]
    jaccard = {pair: (used[pair[0]] & used[pair[1]]).sum() / max(1, (used[pair[0]] | used[pair[1]]).sum()) for pair in pairs}
    found = experiment.expert_overlap(used, labels, strata, draws=500)
    assert found["overlap"] == pytest.approx(np.mean([jaccard[pair] for pair in pairs if labels[pair[0]] == labels[pair[1]]]))
    # Dealt out within a stratum, each of its pairs is as likely to have one label as any other.
    weights = {s: sum(labels[i] == labels[j] for i, j in pairs if strata[i] == s) for s in (0, 1)}
    means = {s: np.mean([value for (i, _), value in jaccard.items() if strata[i] == s]) for s in (0, 1)}
    assert found["expected"] == pytest.approx(sum(weights[s] * means[s] for s in (0, 1)) / sum(weights.values()), abs=0.02)
    planted = np.repeat(np.eye(4, dtype=bool), 3, axis=0)
    assert experiment.expert_overlap(planted, np.repeat(np.arange(4), 3), np.zeros(12, dtype=np.int64))["p"] == 1 / 200


def test_a_world_has_every_fact_once_and_frequencies_of_zipf() -> None:
    p = experiment.plan(**PARAMETERS)[0]
    facts = experiment.draw_facts(p, 5)
    assert len({tuple(row[:3]) for row in facts.rows.tokens.tolist()}) == 18
    assert len(set(facts.rows.tokens[:, :3].flatten().tolist()) & set(facts.rows.tokens[:, 3].tolist())) == 0
    assert int(facts.rows.tokens.max()) < facts.vocabulary
    np.testing.assert_allclose(np.sort(facts.shares)[::-1] * np.arange(1, 19), facts.shares.max(), rtol=1e-9)
    drawn = facts.pool(3)[0].rows.tokens
    most = facts.rows.tokens[int(facts.shares.argmax())]
    assert float((drawn == most).all(dim=1).float().mean()) == pytest.approx(facts.shares.max(), rel=0.1)


def test_all_of_a_world_is_trained_and_measured() -> None:
    rows: dict[str, Any] = experiment.study(experiment.plan(**PARAMETERS)[0])
    assert set(rows) == set(experiment.Result._fields[1:])
    levels = pd.DataFrame(rows["levels"])
    fixed = levels[~levels["method"].isin([experiment.LTE, experiment.DENSE])]
    np.testing.assert_allclose(
        fixed["sparsity"], fixed["level"], atol=1e-6, err_msg="what takes a number of experts reaches what was asked"
    )
    (nearest,) = levels.index[levels["nearest"]]
    reached = levels[levels["method"] == experiment.LTE]["sparsity"]
    assert abs(reached - 0.75).idxmin() == nearest
    assert set(levels["method"]) == {*experiment.METHODS, experiment.DENSE}
    assert [row["where"] for row in rows["edits"]] == ["active", "others", "dense"]


def test_sentences_say_what_the_tables_hold() -> None:
    result = made_up()
    assert "LTE 82.0%, oracle experts 77.0%, random router 72.0%" in said.of_levels(result)
    assert "One token leaves out 75% of the experts, and 4 tokens together 19%" in said.of_unions(result)
    assert "within the active experts 100% and 90%" in said.of_edits(result.edits)
    assert "changes by −20.0 points on the rarest quarter of the facts, and by −10.0 on the most frequent" in said.of_frequency(
        result
    )
    assert "4 times the dense one's time with 16 hidden units" in said.of_times(result.times.assign(hidden=16))
    payloads = {f"contextual.{n}": measure(f"contextual.{n}", e).to_json() for n, e in effects.effects(result).items()}
    found = {name: sentence for sentence, name in what_was_found(payloads, said.FOUND)}
    assert found["contextual.edit-in-active"].startswith(
        "Whether" if payloads["contextual.edit-in-active"]["verdict"] == "not settled" else "A fact"
    )
