"""Coresets: scores, selection, coverage and clusters against loops and by hand, and what the study refuses and measures."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances

from effnotes.metrics import coverage
from effnotes.reporting.claims import load_register, what_was_found
from effnotes.reporting.tables import read_table
from effnotes.studies import coresets
from effnotes.studies.coresets import effects, experiment
from effnotes.training.clustering import TemiHeads, TemiRecipe, temi, temi_loss
from effnotes.training.dynamics import Dynamics
from effnotes.training.images import train
from effnotes.training.recipes import Recipe

SMALL: dict[str, Any] = {
    "seeds": [901, 902],
    "pool_seeds": [901],
    "dataset": "glyphs",
    "data_root": "",
    "rates": [0.5, 0.9],
    "scores": ["aum", "forgetting", "forgetting_0", "el2n"],
    "cutoffs": [0.0, 0.1, 0.2],
    "sweep_rate": 0.8,
    "pool_cutoff": 0.2,
    "num_train": 200,
    "num_pool": 150,
    "num_test": 100,
    "ambiguous": 0.15,
    "label_noise": 0.1,
    "minority": 0.2,
    "score_steps": 12,
    "steps": 4,
    "clustering_epochs": 2,
}


def test_scores_of_a_scripted_trace() -> None:
    """Right-wrong strings by hand, a never-learned example under both conventions, and one that is only learnt."""
    signs = ["+-+-", "----", "-++-", "--++", "++++"]
    margins = np.array([[0.5 if sign == "+" else -0.25 for sign in string] for string in signs]).T
    assert coverage.forgetting(margins).tolist() == [2, 4, 1, 0, 0]
    assert coverage.forgetting(margins, never_learned="least").tolist() == [2, 0, 1, 0, 0]
    assert coverage.aum(margins).tolist() == [0.5, -1.0, 0.5, 0.5, 2.0]
    assert coverage.el2n(np.arange(24.0).reshape(12, 2)).tolist() == [90.0, 100.0]
    with pytest.raises(ValueError, match=r"Did you mean .least."):
        coverage.forgetting(margins, never_learned="leest")  # type: ignore[arg-type]


def test_budgets_add_up_and_fill_small_strata_first() -> None:
    """For a hundred vectors of sizes; no stratum gives less than a smaller one unless it is exhausted."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        sizes = rng.integers(0, 40, 50) * (rng.random(50) < 0.4)
        sizes[0] += 1
        keep = int(rng.integers(1, sizes.sum() + 1))
        budgets = coverage.stratum_budgets(sizes, keep)
        assert budgets.sum() == keep
        assert (budgets <= sizes).all()
        unfilled = budgets[budgets < sizes]
        assert not len(unfilled) or budgets.max() <= unfilled.min() + 1
    assert coverage.stratum_budgets([0, 3, 50, 400, 20], 100).tolist() == [0, 3, 38, 39, 20]


@pytest.mark.parametrize("kind", ["normal", "all equal", "one outlier"])
def test_a_stratified_coreset_has_its_size_and_none_of_the_cutoff(kind: str) -> None:
    """The lowest AUM are dropped whatever the score, strata are those of equal width, and a seed fixes the draw."""
    rng = np.random.default_rng(1)
    margin = rng.normal(size=1000)
    score = {"normal": rng.normal(size=1000), "all equal": np.ones(1000), "one outlier": np.append(rng.random(999), 100)}[kind]
    chosen = coverage.stratified_coreset(score, margin, 137, cutoff=0.2, seed=3)
    assert len(set(chosen.tolist())) == 137
    assert not set(chosen.tolist()) & set(np.argsort(margin)[:200].tolist())
    assert (chosen == coverage.stratified_coreset(score, margin, 137, cutoff=0.2, seed=3)).all()
    assert (chosen != coverage.stratified_coreset(score, margin, 137, cutoff=0.2, seed=4)).any()
    left = np.argsort(margin)[200:]
    counts, edges = np.histogram(score[left], 50)
    drawn, _ = np.histogram(score[chosen], edges)
    assert drawn.tolist() == coverage.stratum_budgets(counts, 137).tolist() or kind == "all equal"


def test_both_ends_are_pruned_also_where_nothing_is_left_at_the_easy_end() -> None:
    """Against a sort by hand; infeasible budgets are refused, not shrunk."""
    margin = np.array([0.3, -1.0, 2.0, 0.1, 1.0])
    assert coverage.double_end(margin, 2, 0.2).tolist() == [3, 0]
    assert coverage.double_end(margin, 3, 0.4).tolist() == [0, 4, 2]
    assert coverage.hardest(-margin, 2).tolist() == [1, 3]
    for choose in (coverage.double_end, lambda *a: coverage.stratified_coreset(margin, a[0], a[1], cutoff=a[2], seed=0)):
        with pytest.raises(ValueError, match=r"drops 2 of 5 examples, so 4 cannot be kept; keep 1 to 3"):
            choose(margin, 4, 0.4)
    with pytest.raises(ValueError, match=r"cutoff=1\.5"):
        coverage.check_budget(5, 1, 1.5)


def test_coverage_is_the_mean_distance_to_the_nearest_and_falls_with_a_cluster() -> None:
    """Against all distances, and against the integral of the radius over the share that is covered."""
    rng = np.random.default_rng(2)
    features = np.concatenate([rng.normal(size=(60, 5)), rng.normal(size=(40, 5)) + 8])
    chosen = np.array([0, 3, 70])
    radii = np.sort(pairwise_distances(features, features[chosen]).min(1))
    assert coverage.auc_pr(features, chosen) == pytest.approx(np.mean(radii))
    steps = np.linspace(0, 1, 100_001)[1:]
    assert coverage.auc_pr(features, chosen) == pytest.approx(np.quantile(radii, steps, method="inverted_cdf").mean(), rel=1e-4)
    assert coverage.auc_pr(features, np.arange(100)) == pytest.approx(0, abs=1e-6)
    assert coverage.auc_pr(features, chosen[:2]) > coverage.auc_pr(features, chosen)


def test_cluster_accuracy_finds_the_best_assignment() -> None:
    """Renamed classes are all right; of a merged pair only the larger class counts."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert coverage.cluster_accuracy(labels, np.array([2, 2, 2, 0, 0, 1])) == 1
    assert coverage.cluster_accuracy(labels, np.array([0, 0, 0, 0, 0, 1])) == pytest.approx(4 / 6)


def test_dynamics_record_what_the_training_mode_says_before_each_step() -> None:
    """Against the probabilities of the first epoch's only batch, computed from the untouched weights; no image is left out."""
    images = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24) % 10
    model, dynamics = experiment.network(8, seed=1), Dynamics(24)
    with torch.no_grad():
        p = model((images.float() - 127.5) / 127.5).softmax(1).numpy()
    recipe = Recipe(3, batch_size=24, max_shift=0, warmup_epochs=0, loss="softmax", precision="float32")
    train(model, images, labels, recipe=recipe, seed=5, hooks=[dynamics])
    for row, label in enumerate(labels.tolist()):
        other = max(value for place, value in enumerate(p[row]) if place != label)
        assert float(dynamics.margins[0, row]) == pytest.approx(p[row, label] - other, abs=1e-5)
        assert float(dynamics.errors[0, row]) == pytest.approx(np.linalg.norm(np.eye(10)[label] - p[row]), abs=1e-5)
    assert dynamics.margins.shape == (3, 24)
    assert not dynamics.margins.isnan().any()
    assert (dynamics.margins[1] != dynamics.margins[0]).any()


def test_dynamics_go_on_from_a_checkpoint(tmp_path: Any) -> None:
    """A run that is repeated with its checkpoint trains nothing and still has every epoch's row."""
    images, labels = torch.zeros(12, 3, 8, 8, dtype=torch.uint8), torch.arange(12) % 10
    recipe = Recipe(2, batch_size=6, warmup_epochs=0, loss="softmax", precision="float32")
    records = [Dynamics(12), Dynamics(12)]
    for dynamics in records:
        model = experiment.network(8, seed=1)
        train(model, images, labels, recipe=recipe, seed=5, hooks=[dynamics], checkpoint=tmp_path / "run.safetensors")
    assert torch.equal(records[0].margins, records[1].margins)
    assert not records[1].errors.isnan().any()


def test_the_loss_of_temi_is_its_formula() -> None:
    """Head by head, pair by pair and cluster by cluster."""
    rng = np.random.default_rng(3)
    s, s_, t, t_ = rng.dirichlet(np.ones(4), (4, 2, 5))
    prior = rng.dirichlet(np.ones(4), 2)
    expected = np.zeros(2)
    for head in range(2):
        for x in range(5):
            weight = np.mean([t[h, x] @ t_[h, x] for h in range(2)])
            for student, teacher in ((s, t_), (s_, t)):
                inner = sum((student[head, x, c] * teacher[head, x, c]) ** 0.6 / prior[head, c] for c in range(4))
                expected[head] -= weight * np.log(inner) / 2 / 5
    found = temi_loss((torch.tensor(s), torch.tensor(s_)), (torch.tensor(t), torch.tensor(t_)), torch.tensor(prior), 0.6)
    np.testing.assert_allclose(found, expected)


def test_temi_finds_digits_without_labels_and_picks_by_loss() -> None:
    """Better than chance by far on three digits; the loss falls, no cluster is empty, and too few examples are refused."""
    found = load_digits()
    few = found.target < 3
    features = torch.from_numpy(found.data[few] / 16).float()
    recipe = TemiRecipe(heads=2, neighbours=10, hidden=16, epochs=12, batch_size=128)
    clusters = temi(features, 3, seed=0, recipe=recipe)
    assert coverage.cluster_accuracy(found.target[few], clusters.labels) > 0.9
    assert torch.equal(clusters.labels, clusters.every[clusters.losses.argmin()])
    assert (torch.bincount(clusters.labels, minlength=3) > 0).all()
    first = temi(features, 3, seed=0, recipe=TemiRecipe(heads=2, neighbours=10, hidden=16, epochs=1, batch_size=128))
    assert (clusters.losses < first.losses).all()
    heads = TemiHeads(64, 3, recipe, torch.Generator().manual_seed(0))(features)
    torch.testing.assert_close(heads.sum(2), torch.ones(2, len(features)))
    with pytest.raises(ValueError, match="neighbours=10: must be from 1 to 4"):
        temi(features[:5], 3, seed=0, recipe=recipe)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"cutoffs": [0.3], "sweep_rate": 0.2}, "a cutoff of 0.3 drops 60 of 200 examples, so 160 cannot be kept"),
        ({"rates": [0.1], "pool_cutoff": 0.2}, "a cutoff of 0.2 drops 30 of 150 examples, so 135 cannot be kept"),
        ({"rates": [0.999]}, "so 0 cannot be kept"),
        ({"rates": [1.0]}, "rates.0=1.0: must be below 1"),
        ({"scores": ["aums"]}, "Did you mean 'aum'"),
        ({"dataset": "cifar10"}, "cifar10 is read from a folder"),
        ({"data_root": "here"}, "glyphs are drawn"),
        ({"dataset": "cifar10", "data_root": "nowhere"}, "nowhere: this directory does not exist"),
        ({"seeds": [1, 1]}, "give each seed once"),
        ({"seeds": []}, "`seeds` at least one"),
        ({"num_pool": 1700}, "num_pool=1700: must be from 100 to 1500"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_trained(bad: dict[str, Any], says: str) -> None:
    """One clear error that says what was given and what is allowed."""
    with pytest.raises(ValueError, match=says):
        coresets.plan(**SMALL | bad)


@pytest.fixture(scope="module")
def result() -> experiment.Result:
    """A small run, from training to tables, in this process."""
    p = coresets.plan(**SMALL)
    tables: dict[str, list[Any]] = {name: [] for name in experiment.Result._fields[1:]}
    for function, seeds in ((experiment.select_and_train, p.seeds), (experiment.cluster_and_train, p.pool_seeds)):
        for seed in seeds:
            for name, rows in function(experiment.Job(seed, p)).items():
                tables[name] += [{"seed": seed} | row for row in rows]
    return experiment.Result(p, **{name: pd.DataFrame(rows) for name, rows in tables.items()})


def test_a_small_run_holds_every_arm_once(result: experiment.Result) -> None:
    """Sizes, shares and accuracies are what they say; every image is in one bin of its kind's histogram."""
    arms = result.arms
    assert not arms.duplicated(["seed", "rate", "method", "cutoff"]).any()
    assert len(arms) == 2 * len(experiment.arms(result.plan)) == 2 * 15
    assert (arms["kept"] == ((1 - arms["rate"]) * 200).round()).all()
    assert arms[["accuracy", "minority", "usual", "wrong label", "minority style", "ambiguous"]].stack().between(0, 1).all()
    assert (arms.loc[arms["method"] == "full", "coverage"].abs() < 1e-3).all()
    of_wrong = result.scores[result.scores["kind"] == "wrong label"].groupby("seed")["images"].sum()
    assert of_wrong.tolist() == (200 * arms.loc[arms["method"] == "full", "wrong label"]).round().tolist()
    assert result.pools.set_index("method")["labels"].to_dict() == {
        name: 150 if name == "CCS, all labels" else 15 for name in result.pools["method"]
    }
    assert result.heads.groupby("clustering")["picked"].sum().to_dict() == {"ELFS": 1, "ELFS, slow teacher": 1}
    assert result.classes["share"].sum() == pytest.approx(10)
    kept = {table.name: read_table({"tables": {table.name: table.to_json()}}, table.name) for table in result.keep()}
    assert set(kept) == set(experiment.Result._fields[1:])


def test_effects_are_differences_of_seeds(result: experiment.Result) -> None:
    """Each by its definition from made-up accuracies; the claims are those of the register; without a pool its claims have none."""
    value = {"CCS": 0.7, "random": 0.6, "aum": 0.2, "forgetting": 0.3, "forgetting_0": 0.45, "el2n": 0.1, "full": 0.9}
    made = result.arms.assign(
        accuracy=result.arms["method"].map(value) + result.arms["cutoff"] / 10,
        minority=0.5 - result.arms["cutoff"],
        coverage=-result.arms["method"].map(value) - result.arms["cutoff"] / 10,
    )
    found = effects.effects(made, result.pools, result.heads, result.plan)
    expected = {"hardest-collapses": -0.4, "hardest-fine-at-low": -0.4, "ccs-beats-hardest": 0.53, "ccs-beats-random": 0.13}
    expected |= {"cutoff-helps": 0.03, "convention-matters": 0.15, "coverage-orders": -1.0, "ccs-covers-minority": -0.3}
    expected |= {"cutoff-costs-minority": -0.1}
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], [each, each], atol=1e-12, err_msg=name)
    by_method = result.pools.set_index("method")["accuracy"]
    assert found["elfs-beats-random"] == [by_method["ELFS"] - by_method["random"]]
    assert found["loss-picks-well"][0] <= 0
    registered = {name for name, claim in load_register().items() if claim.chapter == "coresets"}
    assert registered == {f"coresets.{name}" for name in found}
    alone = effects.effects(made, pd.DataFrame(), pd.DataFrame(), result.plan)
    assert list(alone) == list(found)
    assert alone["elfs-beats-random"] == []


def test_sentences_speak_of_the_run(result: experiment.Result) -> None:
    """None speaks of NaN, and what the page says at its top follows the verdicts."""
    payloads = {each.claim.id: each.to_json() for each in coresets.measure(result)}
    told = [effects.of_rate(result.arms, 0.9), effects.of_cutoffs(result.arms, 0.8), effects.of_heads(result.heads)]
    told += [sentence for sentence, _ in what_was_found(payloads, effects.FOUND)]
    assert len(told) == 8
    assert not [sentence for sentence in told if "nan" in sentence or not sentence.endswith(".")]
    first = payloads["coresets.ccs-beats-random"] | {"verdict": "not settled"}
    open_ = [
        what_was_found({first["id"]: first}, {first["id"]: (words, "no")})[0][0] for words in ("CCS is better", "A draw is worse")
    ]
    assert open_[0].startswith("Whether CCS is better is not settled (")
    assert open_[1].startswith("Whether a draw is worse is not settled (")
    assert effects.of_classes(result.classes).startswith("Class ")
    assert "hardest by AUM" in told[0]
    assert told[1].count("at a cutoff of") == 3


def test_photographs_get_wrong_labels_and_a_rare_style(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverted images of the minority's class alone; wrong labels as often as asked for; the test shows both styles of a class."""
    images = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = experiment.ClassSplit(images, torch.arange(1000) % 10)
    monkeypatch.setattr(experiment, "photographs", lambda *_: {"train": split, "test": split})
    p = coresets.plan(**SMALL | {"num_train": 800})
    job = experiment.Job(3, experiment.dataclasses.replace(p, dataset="cifar10"))
    pool = experiment.draw(job)
    swapped, wrong = pool.kinds["minority style"], pool.kinds["wrong label"]
    originals = {image.numpy().tobytes(): label for image, label in zip(images, split.labels.tolist(), strict=True)}
    for row in range(800):
        image = 255 - pool.train.images[row] if swapped[row] else pool.train.images[row]
        label = originals[image.numpy().tobytes()]
        assert (int(pool.train.labels[row]) != label) == wrong[row]
        assert label == experiment.MINORITY_CLASS or not swapped[row]
    assert 0.05 < wrong.mean() < 0.15
    assert 5 <= swapped.sum() <= 30
    assert torch.equal(255 - pool.rare, pool.usual)
    assert experiment.network(32, 0)(pool.train.images[:2].float()).shape == (2, 10)
