"""The study of traces: what is explained, what decides verdicts, and sentences that are true whatever a run gave."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from effnotes.datasets.backdoor import plant_trojans
from effnotes.interpretation import attribute, trace
from effnotes.metrics.localisation import deletion, insertion
from effnotes.models import build_model
from effnotes.models.store import train_or_load_
from effnotes.reporting.claims import load_register
from effnotes.reporting.tables import read_table
from effnotes.studies import traces
from effnotes.studies.traces import classifiers, effects, figures, neurons, published, sentences, tuning
from effnotes.studies.traces.classifiers import Classifier, Samples, choose_samples, loaded
from effnotes.studies.traces.experiment import Result, _chunks

CIFAR10 = str(Path(__file__).parents[1] / "fixtures" / "cifar10")
OF_IMAGE = ("exact_obs_kernel", "contribution")
METHODS = ("saliency", "input_x_gradient", "integrated_gradients", "guided_backprop")
VARIANTS = [("dense", ""), *((name, levels) for name in ("own", "other", "magnitude") for levels in ("mild", "strong"))]
PARAMETERS: dict[str, Any] = {
    "seeds": [1, 2],
    "samples": 4,
    "n": 4,
    "mild": {"blocks.2": 0.5, "fc": 0.5},
    "strong": {"blocks.1": 0.8, "blocks.2": 0.9},
    "methods": ["saliency"],
    "solvers": ["magnitude", "contribution"],
    "exact_samples": 1,
    "timed_seeds": 1,
    "visualised": 1,
    "tuned_seeds": 1,
    "augment": "small",
    "dataset": "shapes",
    "data_root": None,
    "num_train": 1500,
    "num_test": 300,
    "width": 8,
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 0.2,
    "universal_rate": 0.1,
    "source_rate": 0.6,
    "control_rate": 0.02,
}


def judged_rows(score: Any) -> pd.DataFrame:
    """Rows of two seeds of three images, with a score that a function gives."""
    rows = []
    for seed in (1, 2):
        for kind in ("trojan", "clean"):
            for sample in range(3):
                for variant, levels in VARIANTS:
                    for method in METHODS:
                        value = score(seed, kind, sample, variant, levels, method)
                        told = {"seed": seed, "kind": kind, "sample": sample, "variant": variant, "levels": levels}
                        rows.append(told | {"method": method} | dict.fromkeys(("auc", "agreement", "insertion", "deletion"), value))
    return pd.DataFrame(rows)


def test_effects_are_paired_by_image_and_grouped_by_seed() -> None:
    """The difference of each image, whatever its own level, and no other set of levels."""
    gain = {"dense": 0.0, "own": 0.03, "other": 0.01, "magnitude": 0.05}
    rows = judged_rows(lambda seed, _k, sample, variant, levels, _m: seed + sample / 10 + gain[variant] * (levels == "strong"))
    layers = pd.DataFrame(
        {
            "seed": 1,
            "layer": ["a", "b"] * 2,
            "solver": ["sparsegpt"] * 2 + ["exact_obs_kernel"] * 2,
            "seconds": [1.0, 2.0, 100.0, 20.0],
        }
    )
    none = pd.DataFrame()
    by_image = [("dense", "", 0.0), ("own", "mild", 0.5), ("own", "strong", 0.04)]
    facets = pd.DataFrame(
        [
            {"seed": seed, "kind": kind, "sample": 7, "variant": variant, "levels": levels, "margin": seed / 10 + value}
            for seed in (1, 2)
            for kind in ("trojan", "clean")
            for variant, levels, value in by_image
        ]
    )
    pictures = facets[facets["levels"] != "mild"].drop(columns="levels").rename(columns={"margin": "score"})
    found = effects.effects(Result(traces.plan(**PARAMETERS), none, rows, none, none, layers, facets, pictures, none))
    for name in ("facet-margin", "visualisation-decides"):
        np.testing.assert_allclose(found[name], np.full((2, 2), 0.04))
    np.testing.assert_allclose(found["saliency-gains"], np.full((2, 3), 0.03))
    np.testing.assert_allclose(found["own-points-better"], np.full((2, 3), 0.02))
    np.testing.assert_allclose(found["points-better-than-magnitude"], np.full((2, 3), -0.02))
    np.testing.assert_allclose(found["guided-gains-less"], np.zeros((2, 3)), atol=1e-12)
    np.testing.assert_allclose(found["insertion-rises"], np.full((2, 3), 0.03))
    np.testing.assert_allclose(found["exact-is-slower"], [2.0, 1.0])
    registered = {name for name, claim in load_register().items() if claim.chapter == "sample_targeted_pruning"}
    assert registered == {f"traces.{name}" for name in found}


def test_images_without_a_score_are_left_out() -> None:
    """A score that is not defined for one variant gives no effect for that image."""
    rows = judged_rows(lambda *_: 0.5)
    rows.loc[(rows["sample"] == 1) & (rows["variant"] == "own") & (rows["seed"] == 2), "auc"] = np.nan
    assert [len(each) for each in effects.by_seed(effects.differences(rows, "auc", "own", "dense", ["saliency"]))] == [3, 2]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"mild": {"fc": 1.2}}, r"mild=.*'fc'.*1\.2"),
        ({"strong": {"block.2": 0.5}}, "strong=.*Did you mean 'blocks"),
        ({"methods": ["salience"]}, "Did you mean 'saliency'"),
        ({"solvers": ["wands"]}, "Did you mean 'wanda'"),
        ({"n": 0}, "n=0"),
        ({"samples": 1}, "samples=1"),
        ({"seeds": [1, 1]}, "each once"),
        ({"universal_rate": 0.3}, "at most 0.9"),
        ({"visualised": -1}, "visualised=-1"),
        ({"augment": "none"}, "augment"),
        ({"dataset": "cifar"}, "dataset"),
        ({"dataset": "cifar10"}, "data_root=None: cifar10 is read from a folder"),
        ({"dataset": "faces", "data_root": "x"}, "data_root='x'.*faces are drawn"),
        ({"dataset": "cifar10", "data_root": "nowhere"}, "data_root='nowhere': there is no such folder"),
        ({"dataset": "cifar10", "data_root": str(Path(__file__).parent)}, "Expected layout"),
        ({"dataset": "cifar10", "data_root": CIFAR10}, "num_train=1500: the folder has 60 such images, 64 of which.* at most 0"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_trained(bad: dict[str, Any], says: str) -> None:
    """One clear error that names the parameter."""
    with pytest.raises(ValueError, match=says):
        traces.plan(**PARAMETERS | bad)


def test_photographs_are_drawn_from_the_folder_by_the_seed(tmp_path: Path) -> None:
    """Every image is one of the folder with its label, none twice; another seed has others, another folder another digest."""
    rng, known = np.random.default_rng(0), {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        data, labels = rng.integers(0, 256, (200, 3072), dtype=np.uint8), rng.integers(0, 10, 200).tolist()
        known |= {row.tobytes(): (name == "test_batch", label) for row, label in zip(data, labels, strict=True)}
        (tmp_path / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=2))
    asked = PARAMETERS | {"dataset": "cifar10", "data_root": str(tmp_path), "num_train": 900, "num_test": 150}
    one, two = traces.plan(**asked).classifiers
    images = one.images()
    found = [image.numpy().tobytes() for split in images.data.splits.values() for image in split.images]
    told = [(name == "test", int(label)) for name, split in images.data.splits.items() for label in split.labels]
    assert [known[each] for each in found] == told
    assert len(set(found)) == len(found) == 900 + 64 + 150
    assert not any(region.any() for region in images.regions.values())
    others = {image.numpy().tobytes() for image in two.images().data.splits["train"].images}
    assert len(others - set(found)) > 0
    (tmp_path / "more").write_text("x")
    assert traces.plan(**asked).classifiers[0].digest != one.digest
    with pytest.raises(ValueError, match=r"num_test=300: the folder has 200 such images.*at most 200"):
        traces.plan(**asked | {"num_test": 300})


@pytest.mark.parametrize("known", [True, False])
def test_what_a_decoy_covers_is_no_part_of_a_region(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """An image whose region is wholly under decoys is not explained; one whose region nobody knows is."""
    job = traces.plan(**PARAMETERS | {"dataset": "faces", "num_test": 100}).classifiers[0]
    images = job.images()
    test, region = images.data.splits["test"], images.regions["test"]
    decoys = plant_trojans(test.images, test.labels, assigned=torch.full_like(test.labels, -1), seed=job.seed).decoys
    region[3] = decoys[3]
    region &= known
    monkeypatch.setattr(classifiers, "loaded", lambda _: (None, images))
    monkeypatch.setattr(classifiers, "predict_logits", lambda _, given: torch.eye(10)[test.labels[: len(given)]])
    if known:
        with pytest.raises(ValueError, match="only"):
            choose_samples(job, "clean", 100)
    hidden = int((~(region & ~decoys).flatten(1).any(1)).sum()) if known else 0
    samples = choose_samples(job, "clean", 100 - hidden)
    assert hidden >= known
    assert not (samples.regions & samples.decoys).any()
    assert (samples.regions.flatten(1).any(1) == known).all()


def test_where_no_region_is_known_tables_and_sentences_leave_it_out() -> None:
    """Clean photographs have insertion and agreement, and no pixel AUC."""
    rows = judged_rows(lambda *_: 0.5).assign(decoy_auc=0.5, pointing=0.5, kl=0.1)
    rows.loc[rows["kind"] == "clean", ["auc", "decoy_auc", "pointing"]] = np.nan
    costs = pd.DataFrame([{"seed": 1, "kind": "clean", "levels": "mild", "sample": 0, "solve": 1.0}])
    overlaps = pd.DataFrame([{"seed": 1, "kind": "clean", "levels": "mild", "alike": True, "jaccard": 1.0}])
    none = pd.DataFrame()
    result = Result(traces.plan(**PARAMETERS), none, rows, costs, overlaps, *(none for _ in range(4)))
    kept = {table.name: read_table({"tables": {table.name: table.to_json()}}, table.name) for table in result.keep()}
    assert kept["clean"]["auc"].isna().all()
    assert kept["clean"]["insertion"].notna().all()
    assert "not known" in sentences.of_frontier(result.means, "clean")
    assert len(figures.plot_frontier(result.means).axes) == 1
    assert len(figures.plot_frontier(judged_rows(lambda *_: 0.5).assign(seed=1)).axes) == 2


@pytest.mark.parametrize("samples", range(2, 40))
def test_every_image_is_judged_once_and_never_alone(samples: int) -> None:
    """Jobs cover all images; each holds at least two, as an image needs another one's trace."""
    chunks = _chunks(samples)
    assert [row for first, size in chunks for row in range(first, first + size)] == list(range(samples))
    assert min(size for _, size in chunks) >= 2


@pytest.mark.slow
def test_a_small_run_from_training_to_verdicts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real training, traces and maps; a second run computes nothing anew, and its numbers are the same."""
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(tmp_path))
    # What is explained is chosen by the network; this one is too small for trojans to work everywhere.
    plan = traces.plan(**PARAMETERS | {"seeds": [1], "epochs": 5, "num_train": 3000, "universal_rate": 0.15})
    result = traces.run(plan, workers=1)
    at = result.rows[(result.rows["kind"] == "clean") & (result.rows["method"] == "saliency")]
    assert set(at["variant"]) == {"dense", "own", "other", "global", "magnitude", *OF_IMAGE, "untrained", "another class"}
    assert (at.loc[at["variant"] == "dense", "agreement"] == 1).all()
    assert result.rows["auc"].between(0, 1).all()
    assert at.loc[at["variant"] == "own", ["insertion", "deletion"]].notna().all(axis=None)
    assert set(result.layers["solver"]) == {"sparsegpt", "exact_obs_kernel"}
    assert len(list((tmp_path / "models").glob("*.safetensors"))) == 1
    assert {each.claim.id for each in traces.measure(result)} == {f"traces.{name}" for name in effects.effects(result)}
    again = traces.run(plan, workers=1)
    pd.testing.assert_frame_equal(again.rows, result.rows)
    for table in result.keep():
        assert table.columns
    for sentence in (
        sentences.of_learned(result.learned),
        sentences.of_maps(result.means),
        sentences.of_baselines(result.means),
        sentences.of_frontier(result.means),
        sentences.of_ablations(sentences.ablations_table(result.rows)),
        sentences.of_gains(figures.gains(result.rows, "trojan")),
        sentences.of_insertion(result.rows),
        sentences.of_costs(result.costs),
        sentences.of_layers(result.layers),
        sentences.of_tuning(result.tuning),
        sentences.of_overlaps(result.overlaps),
        sentences.of_facets(result.facets),
        sentences.of_pictures(result.pictures),
    ):
        assert sentence.endswith(".")
        assert "nan" not in sentence
    assert set(sentences.variants_table(result.means)["network"]) == {
        figures.VARIANTS[name] for name in ("dense", "own", "other", "global", "magnitude", "contribution")
    }
    for table_shown in (sentences.variants_table(result.means), sentences.baselines_table(result.means)):
        assert table_shown.notna().all(axis=None)
    # Held-out images of both facets are taken for the class, and are none of those that are explained.
    classifier = plan.classifiers[0].sealed()
    model, _ = loaded(classifier)
    assert len(result.pictures) == 2 * result.pictures.groupby(["kind", "sample"]).ngroups
    assert set(result.facets["variant"]) == {"dense", "own", "global"}
    for target, held in neurons.facets(classifier, 4).items():
        for images in held.values():
            assert (neurons.logits_of(model, images).argmax(1) == target).all()
            assert not any(bool((images == each).flatten(1).all(1).any()) for each in choose_samples(classifier, "clean", 4).images)
    # The dense network judges insertion and deletion, also of maps on a trace.
    clean = choose_samples(classifier, "clean", 4)
    for number, image in enumerate(clean.images):
        with traces.trace_of(plan, image, "strong").applied() as pruned:
            explained = attribute(pruned, image, target=int(clean.targets[number]))
        of_image = at[(at["variant"] == "own") & (at["levels"] == "strong") & (at["sample"] == number)].iloc[0]
        for score in (insertion, deletion):
            expected = score(
                lambda images: neurons.logits_of(model, images).softmax(1), image[None], explained[None], clean.targets[[number]]
            )
            assert of_image[score.__name__] == pytest.approx(float(expected[0]), abs=1e-4)
    # The same images on the same traces, by another way.
    own = result.rows[(result.rows["kind"] == "trojan") & (result.rows["variant"] == "own")]
    tuned = result.tuning.set_index("levels")
    for name in ("mild", "strong"):
        # Images that are traced together differ in the last bit, which may tip a few weights of a mask.
        assert tuned.loc[name, "auc"] == pytest.approx(own.loc[own["levels"] == name, "auc"].mean(), abs=0.02)
    # Neighbours differ in what is explained, or the trace of another image would be one of its own kind.
    samples = choose_samples(plan.classifiers[0].sealed(), "trojan", 4)
    assert all(one != other for one, other in zip(samples.names, samples.names[1:], strict=False))
    assert torch.equal(neurons.logits_of(model, samples.images).argmax(1), samples.targets)
    with pytest.raises(ValueError, match=r"num_test"):
        choose_samples(plan.classifiers[0].sealed(), "clean", 400)


def test_tuned_levels_are_judged_on_images_that_they_were_not_tuned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixel AUC by scikit-learn, on traces made anew; the last images are only tuned on."""
    model = build_model("resnet8", 10, image_size=32, width=4, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)
    regions = torch.rand(6, 32, 32, generator=generator) < 0.1
    every = Samples(images, regions, regions, torch.arange(6), ["heart"] * 6, torch.arange(6))
    monkeypatch.setattr(tuning, "loaded", lambda _: (model, None))
    monkeypatch.setattr(tuning, "choose_samples", lambda _job, kind, count: every.take(slice(count)))
    plan = traces.plan(**PARAMETERS | {"samples": 3})
    found = pd.DataFrame(tuning.tune(plan.tuned[0])["rows"]).set_index("levels")
    assert list(found.index) == ["dense", "mild", "strong", "tuned", "tuned freely"]
    levels = {"dense": 0.0} | plan.tuned[0].levels
    levels |= {name: found.loc[name, list(tuning.GROUPS)].to_dict() for name in ("tuned", "tuned freely")}

    def mean_auc(at: Any, numbers: range) -> float:
        scores = []
        for number in numbers:
            with trace(model, images[number], at, n=4, augment="small", seed=1).applied() as pruned:
                explained = attribute(pruned, images[number], target=number)
            scores.append(roc_auc_score(regions[number].flatten(), explained.flatten()))
        return float(np.mean(scores))

    for name, at in levels.items():
        assert found.loc[name, "auc"] == pytest.approx(mean_auc(at, range(3)), abs=1e-6)
    for name in ("tuned", "tuned freely"):
        assert found.loc[name, "tuned_auc"] == pytest.approx(mean_auc(levels[name], range(3, 6)), abs=1e-6)
        assert found.loc[name, "tuned_auc"] >= mean_auc(0.0, range(3, 6)) - 1e-6
    assert found.loc["tuned", "tuned_agreement"] >= 0.9


def test_the_table_of_tuned_levels_has_the_range_over_networks() -> None:
    """One level where all networks have the same; none for levels that were not tuned."""
    common = {"auc": 0.5, "agreement": 1.0}
    tuned = [common | {"levels": "tuned", "tuned_auc": 0.75, **dict.fromkeys(tuning.GROUPS, level)} for level in (0.3, 0.9)]
    tuned[0]["fc"] = tuned[1]["fc"] = 0.5
    rest = [common | {"levels": name} for name in ("dense", "strong")]
    rows = pd.DataFrame([*rest, *tuned, *({**each, "levels": "tuned freely"} for each in tuned)])
    table = sentences.tuning_table(rows)
    assert table["blocks.0"].to_list() == ["–", "–", "0.3 to 0.9", "0.3 to 0.9"]
    assert table["fc"].to_list() == ["–", "–", "0.5", "0.5"]
    assert sentences.of_tuning(rows).count("0.750") == 2
    assert "tuned no levels" in sentences.of_tuning(pd.DataFrame())


def test_the_store_trains_once_and_survives_a_torn_file(tmp_path: Any) -> None:
    """What is kept is read; half a file counts as none."""
    calls = []

    def train(network: nn.Module) -> None:
        calls.append(network)
        nn.init.constant_(network.get_parameter("weight"), 0.25)

    def ask() -> nn.Linear:
        network = nn.Linear(3, 2)
        train_or_load_(network, tmp_path, "key", train)
        return network

    first, second = ask(), ask()
    assert len(calls) == 1
    assert not second.training
    assert torch.equal(first.weight, second.weight)
    file = tmp_path / "key.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(ask().weight, first.weight)
    assert len(calls) == 2


def test_a_network_that_was_trained_lies_in_memory_as_one_that_is_read(tmp_path: Any) -> None:
    """Convolutions of another layout round otherwise, and what a worker finds would depend on what it had trained."""
    networks = [nn.Conv2d(4, 5, 3), nn.Conv2d(4, 5, 3)]
    for network in networks:
        train_or_load_(network, tmp_path, "key", lambda trained: trained.to(memory_format=torch.channels_last))
    first, second = (network.weight for network in networks)
    assert torch.equal(first, second)
    assert first.stride() == second.stride()


def test_a_classifier_of_another_recipe_has_other_weights() -> None:
    """Settings go to JSON and back, and every field tells models apart."""
    one = traces.plan(**PARAMETERS).classifiers[0]
    assert one.recipe().loss == "softmax"
    assert dataclasses.replace(one, source_rate=0.7) != one
    with pytest.raises(ValueError, match="num_train"):
        Classifier(**dataclasses.asdict(one) | {"num_train": 3})


def test_solvers_are_compared_on_the_images_of_both() -> None:
    """The difference image by image; a solver that traced some images only is not held against all others."""
    rows = judged_rows(lambda seed, _k, sample, variant, _l, _m: seed / 10 + sample / 100 + 0.02 * (variant == "magnitude"))
    exact = rows[(rows["variant"] == "magnitude") & (rows["sample"] == 0)].assign(variant="exact_obs_kernel")
    table = sentences.ablations_table(pd.concat([rows, exact]))
    assert table["images"].to_list() == [2]
    np.testing.assert_allclose(table[["pixel AUC", "agreement"]], 0.02)
    assert "+0.020 and +0.02" in sentences.of_ablations(table)
    assert "no other solver" in sentences.of_ablations(sentences.ablations_table(rows))


def test_the_front_has_ties_and_overlaps_no_other_kind_of_image() -> None:
    """Two networks that are equal in both outdo neither; only traces of images with a trojan are compared."""
    rows = judged_rows(lambda _s, _k, _n, variant, _l, _m: {"own": 0.9, "magnitude": 0.9}.get(variant, 0.1))
    means = rows.groupby(["seed", "kind", "variant", "levels", "method"])[["auc", "agreement"]].mean().reset_index()
    assert sentences.of_frontier(means).endswith("in the other: the image's own trace, pruned by magnitude.")
    kinds = {"kind": ["trojan", "trojan", "clean"], "alike": [True, False, False], "jaccard": [0.5, 0.4, 0.9], "levels": "strong"}
    assert "have more kept weights" in sentences.of_overlaps(pd.DataFrame(kinds))


def test_one_seed_gives_no_interval_of_a_gain() -> None:
    """No interval is not one that misses zero."""
    rows = judged_rows(lambda *_: 0.5)
    assert sentences.of_gains(figures.gains(rows[rows["seed"] == 1], "trojan")).startswith("One seed gives no interval")


def test_published_tables_agree_with_their_averages() -> None:
    """The averages that the source prints, which also re-add there."""
    auc = published.published_auc().mean().round(2)
    assert auc.to_dict() == {"dense": 91.01, "SPADE": 96.55, "FastSPADE": 94.34, "sparse last layer": 91.5}
    both = published.published_insertion().mean().round(2)
    assert both["insertion"].to_list() == [44.18, 47.20, 47.25, 44.64]
    assert both["deletion"].to_list() == [10.62, 9.82, 9.81, 10.91]
    assert "LIME gets worse" in sentences.of_published()
    assert "for 5, for InputXGradient and DeepLift below" in sentences.of_published()
    assert published.published_levels().count(axis=1).to_list() == [3, 4, 6, 3, 1]  # blocks of a ResNet-50
    assert published.published_people().loc["undecided"].to_list() == [22.9, 12.6]


@pytest.mark.parametrize(("gain", "verdict"), [(0.2, "shown"), (-0.2, "contradicted")])
def test_sentences_follow_the_verdict(gain: float, verdict: str) -> None:
    """What the page says of a claim is what its verdict is."""
    rows = judged_rows(
        lambda seed, _k, sample, variant, _l, _m: 0.3 + gain * (variant == "own") + (seed + sample) / 1000 * (variant == "own")
    )
    none = pd.DataFrame()
    measured = {
        each.claim.id: each.to_json()
        for each in traces.measure(Result(traces.plan(**PARAMETERS), none, rows, *(none for _ in range(6))))
    }
    said = sentences.judged(measured["traces.saliency-gains"])
    assert measured["traces.saliency-gains"]["verdict"] == verdict
    assert ("better" in said) == (gain > 0)
    assert ("worse" in said) == (gain < 0)


def test_the_margin_is_towards_the_images_own_facet() -> None:
    """Against probabilities taken one by one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    held: dict[neurons.Kind, torch.Tensor] = {
        kind: torch.randint(0, 256, (count, 3, 2, 2), dtype=torch.uint8) for kind, count in (("trojan", 3), ("clean", 5))
    }
    of_trojan, of_clean = (
        np.mean([float(torch.softmax(network((image[None] - 127.5) / 127.5), 1)[0, 1]) for image in held[kind]])
        for kind in neurons.KINDS
    )
    assert neurons.facet_margin(network, held, 1, "trojan") == pytest.approx(of_trojan - of_clean)
    assert neurons.facet_margin(network, held, 1, "clean") == pytest.approx(of_clean - of_trojan)


@pytest.mark.parametrize(
    ("gaps", "kind", "scores"),
    [
        ([0.3, -0.3, 0.01, -0.01], "trojan", [1.0, 0.0, 0.5, 0.5]),
        ([0.3, -0.3, 0.01, -0.01], "clean", [0.0, 1.0, 0.5, 0.5]),
        ([0.05], "trojan", [1.0]),
    ],
)
def test_a_picture_decides_where_its_gap_is_large(gaps: list[float], kind: neurons.Kind, scores: list[float]) -> None:
    """Right, wrong, and one half where the facets are nearly as like; a gap at the threshold decides."""
    assert neurons.decided(torch.tensor(gaps), kind, 0.05).tolist() == scores


def test_no_facets_and_no_pictures_are_said_to_be_none() -> None:
    """A run without them has sentences and effects nevertheless."""
    none = pd.DataFrame()
    assert sentences.of_facets(none).startswith("This run explains no image")
    assert sentences.of_pictures(none).startswith("This run judges no pictures")
    assert effects.by_seed(effects.by_image(none, "margin")) == []
