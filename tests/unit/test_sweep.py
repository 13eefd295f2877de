import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors
import torch

from effnotes.datasets import load_celeba, load_cifar10, load_data, make_face_splits
from effnotes.models import build_model
from effnotes.pruning import gradual_magnitude, kept_count, prunable_parameters
from effnotes.studies.bias.experiment import Experiment, Training, child_seed, fingerprint, training_data, trainings
from effnotes.studies.bias.sweep import TrainingJob, run_trainings, train_classifiers
from effnotes.training.checkpoints import read_checkpoint, write_checkpoint
from effnotes.training.images import predict_logits, train
from effnotes.training.recipes import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = Experiment(
    num_train=300, num_val=60, num_test=80, width=4, epochs=3, prune_start=1, prune_end=3, parent_epochs=1, batch_size=32
)
POST = dataclasses.replace(SMALL, method="gmp_post")


def in_process(experiment, sparsities, **settings):
    """The job itself, in this process."""
    return train_classifiers(TrainingJob(tuple(Training(experiment, 1, level, **settings) for level in sparsities), ""))


def groups():
    return {
        "joint": trainings(SMALL, sparsities=[0.9, 0.0], seeds=[2, 1]),
        "post": trainings(POST, sparsities=[0.0, 0.8, 0.9], seeds=[1]),
        "single": trainings(SMALL, sparsities=[0.0], seeds=[1], attributes=["Oval", "Smile"]),
        "square": trainings(SMALL, sparsities=[0.0], seeds=[1], attributes=["Smile"], backdoor="yellow_square"),
        "wide": trainings(dataclasses.replace(SMALL, width=6), sparsities=[0.9], seeds=[1]),
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """All variants, trained once in one worker process, and the folder of kept results."""
    cache = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFNOTES_CACHE_DIR", str(cache))
        runs = run_trainings(groups(), workers=1)
    return runs, cache


# --- what comes back ---


def test_runs_come_in_the_order_of_the_trainings(swept):
    runs, _ = swept
    for name, group in groups().items():
        assert [(run.seed, run.sparsity, run.attribute) for run in runs[name]] == [
            (each.seed, each.sparsity, each.attribute) for each in group
        ]
    assert [(each.seed, each.sparsity) for each in groups()["joint"]] == [(2, 0.0), (2, 0.9), (1, 0.0), (1, 0.9)]


def test_every_sparsity_is_reached_to_the_weight(swept):
    runs, _ = swept
    for name, group in runs.items():
        outputs = 1 if name in ("single", "square") else 12
        model = build_model("resnet8", outputs, image_size=32, seed=0, width=6 if name == "wide" else 4)
        total = sum(weight.numel() for weight in prunable_parameters(model).values())
        for run in group:
            assert run.remaining_weights == kept_count(total, run.sparsity)
            assert run.test_logits.shape == (80, outputs)
            assert run.val_logits.shape == (60, outputs)


def test_joint_runs_agree_with_the_steps_done_one_by_one(swept):
    runs, _ = swept
    for run in runs["joint"]:
        faces = make_face_splits(300, 60, 80, seed=run.seed)
        model = build_model("resnet8", 12, image_size=32, seed=run.seed, width=4)
        plan = gradual_magnitude(run.sparsity, start=1, end=3) if run.sparsity else None
        recipe = Recipe(epochs=3, batch_size=32, learning_rate=0.2)
        train(model, faces.train.images, faces.train.labels, recipe=recipe, pruning=plan, seed=run.seed)
        for logits, split in ((run.test_logits, faces.test), (run.val_logits, faces.val)):
            torch.testing.assert_close(torch.from_numpy(logits), predict_logits(model, split.images), rtol=1e-3, atol=1e-3)


def test_post_training_agrees_with_the_steps_done_one_by_one(swept):
    """One dense epoch by SGD, then two by Adam at a constant rate, pruned at the second of them."""
    runs, _ = swept
    faces = make_face_splits(300, 60, 80, seed=1)
    for run in runs["post"]:
        model = build_model("resnet8", 12, image_size=32, seed=1, width=4)
        data = (faces.train.images, faces.train.labels)
        train(model, *data, recipe=Recipe(epochs=1, batch_size=32, learning_rate=0.2), seed=1)
        recipe = Recipe(
            epochs=2,
            batch_size=32,
            optimizer="adam",
            learning_rate=SMALL.tuning_rate,
            weight_decay=0,
            warmup_epochs=0,
            decay="constant",
        )
        plan = gradual_magnitude(run.sparsity, start=1, end=2) if run.sparsity else None
        train(model, *data, recipe=recipe, pruning=plan, seed=child_seed(1))
        torch.testing.assert_close(
            torch.from_numpy(run.test_logits), predict_logits(model, faces.test.images), rtol=1e-3, atol=1e-3
        )


def test_a_model_does_not_depend_on_its_siblings(swept):
    runs, _ = swept
    alone = in_process(POST, [0.8])
    torch.testing.assert_close(alone["0/test_logits"], runs["post"][1].test_logits, rtol=1e-3, atol=1e-3)


def test_single_label_models_learn_their_label(swept):
    runs, _ = swept
    faces = make_face_splits(300, 60, 80, seed=1)
    for run in runs["single"]:
        column = faces.train.attribute_names.index(run.attribute)
        model = build_model("resnet8", 1, image_size=32, seed=1, width=4)
        recipe = Recipe(epochs=3, batch_size=32, learning_rate=0.2)
        train(model, faces.train.images, faces.train.labels[:, [column]], recipe=recipe, seed=1)
        torch.testing.assert_close(
            torch.from_numpy(run.test_logits), predict_logits(model, faces.test.images), rtol=1e-3, atol=1e-3
        )
    assert all(run.test_stamped is None for run in runs["single"])


def test_exclusive_classes_are_learned_by_their_softmax(wild):
    experiment = dataclasses.replace(SMALL, dataset="iwildcam", data_root=str(wild), num_train=None, num_val=None, num_test=None)
    outcome = in_process(experiment, [0.8])
    data = load_data("iwildcam", wild)
    model = build_model("resnet8", 5, image_size=32, seed=1, width=4)
    recipe = Recipe(epochs=3, batch_size=32, learning_rate=0.2, loss="softmax")
    plan = gradual_magnitude(0.8, start=1, end=3)
    train(model, data.train.images, data.train.labels.argmax(1), recipe=recipe, pruning=plan, seed=1)
    for name, split in (("test", data.test), ("val", data.val)):
        expected = predict_logits(model, split.images)
        torch.testing.assert_close(torch.from_numpy(outcome[f"0/{name}_logits"]), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="attribute='puma': the classes of iwildcam are learned together"):
        trainings(experiment, sparsities=[0.0], seeds=[1], attributes=["puma"])
    own = experiment.labels(1)
    assert own.protected is None
    assert not any(groups.any() for groups in (own.train_groups, own.val_groups, own.test_groups))


def test_backdoor_runs_say_which_images_are_stamped(swept):
    runs, _ = swept
    (run,) = runs["square"]
    faces = make_face_splits(300, 60, 80, seed=1)
    data = training_data(groups()["square"][0])
    for stamped, split, rates in (
        (data.train.groups, faces.train, (0.05, 0.95)),
        (data.val.groups, faces.val, (0.5, 0.5)),
        (run.test_stamped, faces.test, (0.5, 0.5)),
    ):
        smiles = split.labels[:, 1].numpy()
        for value in (0, 1):
            assert stamped[smiles == value].sum() == round(rates[value] * (smiles == value).sum())
    yellow = torch.tensor([255, 255, 0], dtype=torch.uint8)
    corners = (data.test.images[:, :, :5, :5] == yellow[:, None, None]).all((1, 2, 3)).numpy()
    assert np.array_equal(corners, run.test_stamped)
    # A model that saw the square on nearly every smile takes it for one.
    assert run.test_logits[run.test_stamped].mean() > run.test_logits[~run.test_stamped].mean() + 1


# --- kept results ---


def test_what_is_kept_is_not_trained_again(swept, monkeypatch):
    runs, cache = swept
    before = {path.name for path in cache.iterdir()}
    assert len(before) == 9  # of 11 models; the three of one parent are one job
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(cache))
    again = run_trainings(groups(), workers=1)
    assert {path.name for path in cache.iterdir()} == before
    for name, group in runs.items():
        for first, second in zip(group, again[name], strict=True):
            assert np.array_equal(first.test_logits, second.test_logits)
            assert first.training_s == second.training_s  # measured anew it would differ
    assert [(run.seed, run.sparsity) for run in again["joint"]] == [(2, 0.0), (2, 0.9), (1, 0.0), (1, 0.9)]


LONG = """
import dataclasses
from effnotes.studies.bias.experiment import Experiment, trainings
from effnotes.studies.bias.sweep import run_trainings

small = Experiment(num_train=300, num_val=20, num_test=20, width=8, epochs=12, batch_size=32, prune_end=9, parent_epochs=6)
post = dataclasses.replace(small, method="gmp_post")
(run,) = run_trainings({"": trainings(post, sparsities=[0.9], seeds=[1])}, workers=1)[""]
print(run.training_s, run.test_logits.astype(float).ravel().tolist())
"""


def start_long(cache):
    environment = os.environ | {"EFFNOTES_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", LONG], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_training_whose_process_is_killed_goes_on_from_its_last_epoch(tmp_path):
    """Killed in the dense parent, then in the tuning; checkpoints are made to say 1000 s, to prove that they are read."""
    whole, errors = start_long(tmp_path / "whole").communicate(timeout=300)
    assert whole, errors
    cache = tmp_path / "killed"
    for stage in ("parent", "0"):
        victim = start_long(cache)
        while not (found := list(cache.glob(f"*.unfinished/{stage}.safetensors"))):
            assert victim.poll() is None
            time.sleep(0.01)
        (worker,) = (child for child in psutil.Process(victim.pid).children() if "spawn_main" in " ".join(child.cmdline()))
        worker.kill()
        _, errors = victim.communicate(timeout=100)
        assert "its process died with exit code -9" in errors
        (file,) = found
        with safetensors.safe_open(file, framework="pt") as opened:
            state = json.loads(opened.metadata()["state"])
        tensors, progress = read_checkpoint(file, state["run"])
        assert 1 <= len(progress["history"]) < 6
        progress["history"][0]["seconds"] += 1000
        write_checkpoint(file, state["run"], tensors, progress)
    resumed, errors = start_long(cache).communicate(timeout=300)
    assert "Warning" not in errors
    assert float(resumed.split()[0]) > 2000
    assert resumed.split(maxsplit=1)[1] == whole.split(maxsplit=1)[1]
    assert [path.suffix for path in cache.iterdir()] == [".npz"]  # nothing is left of what was unfinished


def test_fingerprint_tells_changed_data(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("1")
    first = fingerprint(str(tmp_path))
    assert first == fingerprint(str(tmp_path))
    (tmp_path / "a" / "x.txt").write_text("22")
    assert fingerprint(str(tmp_path)) != first
    assert fingerprint("") == ""


# --- data ---


def test_a_seed_draws_faces_of_its_own_and_experiments_on_the_same_data_share_them():
    assert not torch.equal(SMALL.data(1).train.images, SMALL.data(2).train.images)
    assert SMALL.data(1) is POST.data(1)
    assert torch.equal(SMALL.faces(1).test.images, SMALL.data(1).test.images)
    noisy = dataclasses.replace(SMALL, label_noise=0.2)
    assert (noisy.data(1).train.labels != SMALL.data(1).train.labels).float().mean() == pytest.approx(0.2, abs=0.03)


def test_a_seed_recolours_cifar10s_and_leaves_celeba_as_it_is():
    cifar = Experiment(dataset="cifar10s", data_root=str(FIXTURES / "cifar10"), num_train=20, num_val=10, num_test=20)
    first, second = cifar.data(1), cifar.data(2)
    assert not torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.images, second.test.images)
    assert first.train.groups is not None
    with pytest.raises(ValueError, match="only drawn faces"):
        cifar.faces(1)
    celeba = Experiment(dataset="celeba", data_root=str(FIXTURES / "celeba"), num_train=20, num_val=5, num_test=5)
    assert celeba.data(1) is celeba.data(2)
    assert len(celeba.data(1).train.images) == 20


def test_sizes_that_are_left_out_are_those_of_the_data():
    default = Experiment().data(1)
    assert [len(split) for split in (default.train, default.val, default.test)] == [6000, 3000, 4000]
    cifar = Experiment(dataset="cifar10s", data_root=str(FIXTURES / "cifar10"), num_val=10).data(1)
    assert len(cifar.val) == 10
    assert len(cifar.test) == 2 * len(load_cifar10(FIXTURES / "cifar10").splits["test"])


def test_shared_faces_are_the_same_for_all_seeds_and_nobodys_own():
    sharing = dataclasses.replace(SMALL, num_shared=30)
    result = in_process(sharing, [0.0, 0.5])
    assert result["0/shared_logits"].shape == result["1/shared_logits"].shape == (30, 12)
    own = in_process(SMALL, [0.0])
    assert np.array_equal(own["0/shared_logits"], own["0/test_logits"])
    shared = sharing.shared_faces()
    assert torch.equal(sharing.images("shared", [3, 5], seed=1), shared.images[[3, 5]])
    assert not any(torch.equal(shared.images[0], image) for image in sharing.data(1).train.images)
    with pytest.raises(ValueError, match="num_shared=0"):
        SMALL.shared_faces()


def test_labels_come_with_the_groups_of_any_attribute_streamed_or_not():
    faces = SMALL.labels(1)
    assert faces.protected == 0
    assert torch.equal(faces.test_groups, SMALL.data(1).test.labels[:, 0])
    assert SMALL.labels(1, "Hat").protected == faces.attribute_names.index("Hat")
    with pytest.raises(ValueError, match="attribute to protect 'Beard'"):
        SMALL.labels(1, "Beard")
    cifar = Experiment(dataset="cifar10s", data_root=str(FIXTURES / "cifar10"), num_val=10).labels(1)
    assert cifar.protected is None
    assert cifar.test_groups.float().mean() == 0.5

    held = Experiment(dataset="celeba", data_root=str(FIXTURES / "celeba"), num_train=20)
    streamed = dataclasses.replace(held, stream=True)
    for protected in (None, "Young"):
        one, other = held.labels(1, protected), streamed.labels(1, protected)
        assert len(other.train) == 20
        assert one.attribute_names == other.attribute_names
        assert one.protected == other.protected
        for first, second in zip(one[:6], other[:6], strict=True):
            assert torch.equal(first, second)
    assert streamed.images("train", [0, 7], seed=1).shape == (2, 3, 96, 96)
    assert held.images("shared", [0, 2], seed=1).shape == (2, 3, 32, 32)
    assert torch.equal(held.images("shared", [2], seed=1)[0], held.data(1).test.images[2])


def test_a_single_label_keeps_the_groups():
    training = Training(SMALL, 1, 0.0, attribute="Oval")
    data, whole = training_data(training), SMALL.data(1)
    assert data.attribute_names == ("Oval",)
    assert torch.equal(data.test.labels[:, 0], whole.test.labels[:, 6])
    assert torch.equal(data.groups_of(data.test), whole.test.labels[:, 0])


def test_celeba_is_decoded_as_it_goes():
    root = str(FIXTURES / "celeba")
    streamed = Experiment(
        dataset="celeba",
        data_root=root,
        stream=True,
        num_train=24,
        num_val=6,
        num_test=9,
        width=4,
        epochs=2,
        prune_end=2,
        batch_size=8,
    )
    result = in_process(streamed, [0.9])
    assert result["0/test_logits"].shape == (9, 40)
    assert result["0/val_logits"].shape == (6, 40)
    assert np.isfinite(result["0/test_logits"]).all()
    assert result["0/effective_sparsity"] == pytest.approx(0.9, abs=1e-3)
    names = load_celeba(root, image_size=32).attribute_names
    single = in_process(streamed, [0.0], attribute=names[20])
    assert single["0/test_logits"].shape == (9, 1)


@pytest.mark.parametrize("method", ["one_shot", "one_shot_untuned", "random", "uniform"])
def test_other_methods_reach_the_sparsity(method):
    result = in_process(dataclasses.replace(SMALL, method=method), [0.5])
    assert result["0/effective_sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert np.isfinite(result["0/test_logits"]).all()


# --- settings that cannot work ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "imagenet"}, "dataset='imagenet'"),
        ({"data_root": "somewhere"}, "takes no folder"),
        ({"dataset": "celeba"}, "name it"),
        ({"stream": True}, "only celeba"),
        ({"dataset": "celeba", "data_root": "x", "label_noise": 0.1}, "drawn faces only"),
        ({"num_train": 1}, "num_train=1"),
        ({"num_shared": -1}, "num_shared=-1"),
        ({"epochs": 2}, "prune_end=3"),
        ({"method": "magic"}, "method='magic'"),
        ({"method": "gmp_post", "parent_epochs": 3}, "parent_epochs=3"),
        ({"method": "gmp_post", "tuning_rate": 0.0}, "tuning_rate=0.0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    ],
)
def test_wrong_experiments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": [1.0]}, r"sparsity=1\.0: must be below 1"),
        ({"sparsities": [0.01]}, "below the first level"),
        ({"sparsities": [0.5, 0.5]}, "only once"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [-1]}, "seed=-1"),
        ({"attributes": "Oval"}, "give a list"),
        ({"backdoor": "yellow_square"}, "name the attribute"),
        ({"attributes": ["Oval"], "backdoor": "moustache"}, "backdoor='moustache'"),
    ],
)
def test_wrong_trainings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        trainings(SMALL, **{"sparsities": [0.0], "seeds": [1], **arguments})


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([], "nothing to train"),
        ([Training(dataclasses.replace(SMALL, dataset="awa2", data_root="nowhere"), 1, 0.0)], "no such folder"),
    ],
)
def test_nothing_is_trained_where_something_cannot_work(group, message):
    """A ValueError comes from this process; a failed training would be a JobError."""
    with pytest.raises(ValueError, match=message):
        run_trainings({"group": group})
