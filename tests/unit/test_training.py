import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from effnotes.models import build_model
from effnotes.pruning import (
    OneShotSchedule,
    PruningHook,
    PruningPlan,
    apply_masks_,
    effective_sparsity,
    global_magnitude,
    gradual_magnitude,
    kept_count,
    prunable_parameters,
    sparsity,
)
from effnotes.training.hardware import resolve_precision
from effnotes.training.images import celeba_transforms, normalize, predict_logits, train
from effnotes.training.loop import DivergedError
from effnotes.training.recipes import PUBLISHED_GMP_PT, PUBLISHED_GMP_RI, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Recipe(epochs=4, batch_size=32, precision="float32")


def easy_data(n=100, seed=0):
    """Three attributes: red, green or blue is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n, 3), generator=generator)
    noise = torch.randint(0, 60, (n, 3, 32, 32), generator=generator)
    return (noise + 120 * labels[:, :, None, None]).to(torch.uint8), labels


def small_model(seed=0):
    return build_model("resnet8", 3, image_size=32, seed=seed, width=4)


def same_weights(first, second):
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


# --- the recipe ---


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("warmup_epochs", 13),
        ("max_shift", -1),
        ("optimizer", "lion"),
        ("decay", "linear"),
        ("precision", "float16"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Recipe(**{field: value})


def test_learning_rate_agrees_with_torch_schedulers():
    recipe, steps = Recipe(epochs=5, warmup_epochs=1), 10
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / steps)
    theirs = []
    for _ in range(steps):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warmup.step()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    for _ in range(40):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert [recipe.learning_rate_at(step, steps) for step in range(50)] == pytest.approx(theirs)


def test_constant_decay_and_no_warmup():
    recipe = Recipe(warmup_epochs=0, decay="constant")
    assert {recipe.learning_rate_at(step, 7) for step in range(84)} == {0.1}


# --- training ---


def test_agrees_with_a_plain_loop():
    """One unshifted full batch a step, so that the order of the images does not matter."""
    images, labels = easy_data(24)
    recipe = Recipe(epochs=5, batch_size=24, max_shift=0, precision="float32")
    model, plain = small_model(), small_model()
    result = train(model, images, labels, recipe=recipe, seed=0)
    velocity = [torch.zeros_like(p) for p in plain.parameters()]
    losses = []
    for epoch in range(5):
        loss = F.binary_cross_entropy_with_logits(plain((images / 255.0 - 0.5) / 0.5), labels.float())
        plain.zero_grad()
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for parameter, v in zip(plain.parameters(), velocity, strict=True):
                v.mul_(0.9).add_(parameter.grad + 1e-4 * parameter)
                parameter -= recipe.learning_rate_at(epoch, 1) * v
    # The sums of a batch run in another order, and five steps at lr 0.1 amplify what float32 rounds.
    assert result["loss"].tolist() == pytest.approx(losses, rel=1e-3)
    for parameter, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_learns_what_can_be_learnt(optimizer, precision):
    images, labels = easy_data()
    rate = 0.1 if optimizer == "sgd" else 0.01
    recipe = Recipe(epochs=10, batch_size=32, learning_rate=rate, optimizer=optimizer, precision=precision)
    model = small_model()
    result = train(model, images, labels, recipe=recipe, seed=0)
    unseen, truth = easy_data(seed=1)
    assert ((predict_logits(model, unseen) > 0) == truth).float().mean() > 0.9
    assert result["loss"].iloc[-1] < 0.5 * result["loss"].iloc[0]
    assert not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_shifts_move_pixels_and_replicate_the_border():
    """Every crop that training sees is one of the nine that padding and slicing give, and all nine occur."""
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="replicate").to(torch.uint8)
    crops = {
        normalize(padded[i, :, y : y + 32, x : x + 32]).numpy().tobytes(): (i, y, x)
        for i in range(2)
        for y in range(3)
        for x in range(3)
    }
    seen = []

    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 1)

        def forward(self, batch):
            seen.extend(crops[image.contiguous().numpy().tobytes()] for image in batch)
            return self.fc(batch.mean((2, 3)))

    train(Recorder(), images, torch.tensor([[0], [1]]), recipe=Recipe(epochs=60, precision="float32"), seed=0)
    assert set(seen) == set(crops.values())
    assert all({seen[k][0], seen[k + 1][0]} == {0, 1} for k in range(0, 120, 2))


@pytest.mark.parametrize(("n", "sizes"), [(100, [25, 25, 25, 25]), (65, [22, 22, 21]), (5, [5]), (33, [17, 16])])
def test_an_epoch_is_cut_into_equal_batches(n, sizes):
    images, labels = easy_data(n)
    seen = []
    model = small_model()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    train(model, images, labels, recipe=Recipe(epochs=1, batch_size=32, precision="float32"), seed=0)
    assert seen == sizes


def test_same_seed_same_result_and_other_seed_another():
    images, labels = easy_data()
    models = [small_model() for _ in range(3)]
    torch.manual_seed(0)
    train(models[0], images, labels, recipe=SMALL, seed=1)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    train(models[1], images, labels, recipe=SMALL, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    train(models[2], images, labels, recipe=SMALL, seed=2)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_dropout_depends_on_the_seed_alone():
    images, labels = easy_data(16)
    recipe = Recipe(epochs=1, batch_size=8, precision="float32")
    models = [build_model("mobilenet_v2", 3, image_size=32, seed=0) for _ in range(2)]
    for number, model in enumerate(models):
        torch.manual_seed(number)
        train(model, images, labels, recipe=recipe, seed=3)
    assert same_weights(*models)


def test_flips_mirror_about_half_of_the_images_and_only_where_asked():
    """Each image has its index in the left column; a network that only watches counts where that column went."""
    n = 200
    images = torch.zeros(n, 3, 4, 4, dtype=torch.uint8)
    images[:, :, :, 0] = torch.arange(1, n + 1, dtype=torch.uint8)[:, None, None]

    class Watcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 1)
            self.plain, self.mirrored = [], []

        def forward(self, batch):
            levels = (batch * 127.5 + 127.5).round().long()
            mirrored = levels[:, 0, 0, 0] == 0
            assert (levels[:, 0, 0, 1:3] == 0).all()
            self.mirrored.extend(levels[mirrored, 0, 0, 3].tolist())
            self.plain.extend(levels[~mirrored, 0, 0, 0].tolist())
            return self.fc(batch.mean((2, 3)))

    labels = torch.arange(n)[:, None] % 2
    watchers = {}
    for flip in (False, True):
        watchers[flip] = Watcher()
        recipe = Recipe(epochs=1, batch_size=32, max_shift=0, flip=flip, precision="float32")
        train(watchers[flip], images, labels, recipe=recipe, seed=0)
    assert watchers[False].mirrored == []
    assert sorted(watchers[True].plain + watchers[True].mirrored) == list(range(1, n + 1))
    # Binomial(200, 1/2): outside 65..135 with probability below 1e-6.
    assert 65 <= len(watchers[True].mirrored) <= 135


# --- datasets ---


class Pictures(Dataset):
    """PIL images of the size of CelebA's, half as large."""

    def __init__(self, n=24):
        self.images, self.labels = easy_data(n)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Image.fromarray(self.images[index].permute(1, 2, 0).numpy()).resize((89, 109)), self.labels[index]


NO_SHIFT = dataclasses.replace(SMALL, max_shift=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_trains_to_the_weights_that_the_same_images_in_memory_give(workers):
    images, labels = easy_data()
    models = [small_model() for _ in range(2)]
    plan = gradual_magnitude(0.8, start=1, end=4)
    memory = train(models[0], images, labels, recipe=NO_SHIFT, pruning=plan, seed=1)
    stream = train(models[1], TensorDataset(images, labels), recipe=NO_SHIFT, pruning=plan, seed=1, loader_workers=workers)
    assert same_weights(*models)
    assert stream["loss"].tolist() == memory["loss"].tolist()
    logits = predict_logits(models[0], images, batch_size=32)
    assert torch.equal(predict_logits(models[1], TensorDataset(images, labels), batch_size=32, loader_workers=workers), logits)


def test_published_preparation_end_to_end_for_one_epoch(tmp_path):
    """Pictures in, crops and flips, masks, a checkpoint, logits out; and the same from two worker processes."""
    recipe = dataclasses.replace(PUBLISHED_GMP_RI, epochs=1, batch_size=8, learning_rate=0.02, warmup_epochs=0)
    models = []
    for workers in (0, 2):
        model = build_model("resnet8", 3, image_size=64, seed=0, width=4)
        arguments = {"transform": celeba_transforms(train=True, image_size=64), "loader_workers": workers}
        checkpoint = tmp_path / f"{workers}.safetensors"
        plan = PruningPlan(global_magnitude, 0.9, OneShotSchedule())
        result = train(model, Pictures(), recipe=recipe, pruning=plan, seed=0, checkpoint=checkpoint, **arguments)
        assert effective_sparsity(model) == result["sparsity"].iloc[-1] == pytest.approx(0.9, abs=1e-3)
        again = build_model("resnet8", 3, image_size=64, seed=0, width=4)
        train(again, Pictures(), recipe=recipe, pruning=plan, seed=0, checkpoint=checkpoint, **arguments)
        assert same_weights(model, again)  # restored, not trained
        models.append(model)
    assert same_weights(*models)
    evaluation = celeba_transforms(train=False, image_size=64)
    logits = predict_logits(models[0], Pictures(), batch_size=5, transform=evaluation)
    images = torch.stack([evaluation(image) for image, _ in (Pictures()[i] for i in range(24))])
    torch.testing.assert_close(logits, predict_logits(models[0], images))
    with pytest.raises(ValueError, match=r"another run .different: data"):
        train(model, Pictures(20), recipe=recipe, pruning=plan, seed=0, checkpoint=checkpoint, **arguments)


def test_evaluation_transform_agrees_with_pillow():
    """178 x 218 pixels: the shorter side becomes 256 and the centre of 224 x 224 stays."""
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    ours = celeba_transforms(train=False)(picture)
    height = int(256 * 218 / 178)
    top, left = round((height - 224) / 2), (256 - 224) // 2
    theirs = np.asarray(picture.resize((256, height), Image.Resampling.BILINEAR))[top : top + 224, left : left + 224]
    assert ours.shape == (3, 224, 224)
    assert np.array_equal(ours.permute(1, 2, 0).numpy(), theirs)


def test_training_transform_crops_and_flips_at_random():
    torch.manual_seed(0)
    columns = Image.fromarray(np.broadcast_to(np.linspace(0, 255, 40, dtype=np.uint8)[None, :, None], (40, 40, 3)).copy())
    transform = celeba_transforms(train=True, image_size=35)  # the shorter side stays 40
    crops = [transform(columns)[0, 0].int() for _ in range(60)]
    rising = [bool(crop[0] < crop[-1]) for crop in crops]
    assert {True, False} == set(rising)
    assert {int(crop.min()) for crop in crops} == {int(v) for v in np.linspace(0, 255, 40, dtype=np.uint8)[:6]}


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": Pictures()}, "prepared as Image; needed: torch.uint8"),
        ({"images": Endless()}, "map-style"),
        ({"images": TensorDataset(*easy_data(1))}, "at least 2"),
        ({"images": TensorDataset(easy_data(4)[0], torch.arange(4))}, "one number for each attribute"),
        ({"images": TensorDataset(easy_data(4)[0], torch.tensor([[0], [1], [1], [2]]))}, "other values than 0 and 1"),
        ({"images": TensorDataset(*easy_data(4)), "labels": easy_data(4)[1]}, "leave them out"),
        ({"images": TensorDataset(*easy_data(4)), "loader_workers": -1}, "loader_workers=-1"),
        ({"images": TensorDataset(*easy_data(4)), "recipe": SMALL}, "max_shift=1, flip=False"),
        ({"images": easy_data(4)[0]}, "need labels"),
        ({"images": easy_data(4)[0], "labels": easy_data(4)[1], "loader_workers": 1}, "are for datasets"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(small_model(), **{"recipe": NO_SHIFT, "seed": 0, **arguments})


def test_published_recipes_have_the_published_learning_rates():
    steps = 636  # of an epoch of CelebA, 162,770 images in batches of 256
    assert PUBLISHED_GMP_RI.learning_rate_at(5 * steps - 1, steps) == 0.256
    middle = 5 * steps + 95 * steps // 2
    assert PUBLISHED_GMP_RI.learning_rate_at(middle, steps) == pytest.approx(0.128)
    assert PUBLISHED_GMP_PT.learning_rate_at(0, steps) == PUBLISHED_GMP_PT.learning_rate_at(80 * steps - 1, steps) == 1e-4
    gradual_magnitude(0.995, start=10, end=81, frequency=10)
    assert max(gradual_magnitude(0.995, start=1, end=60, frequency=4).levels) < PUBLISHED_GMP_PT.epochs


# --- pruning ---


def test_pruned_weights_are_zero_at_every_forward_pass():
    images, labels = easy_data()
    model, seen = small_model(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(effective_sparsity(module)))
    hook = gradual_magnitude(0.9, start=1, end=4).hook()
    result = train(model, images, labels, recipe=SMALL, hooks=[hook], seed=0)
    total = sum(weight.numel() for weight in prunable_parameters(model).values())
    levels = [1 - kept_count(total, level) / total for level in (0.0, 0.05, 0.05 + 0.85 * (1 - (2 / 3) ** 3), 0.9)]
    assert seen == pytest.approx([level for level in levels for _ in range(4)])
    assert result["sparsity"].tolist() == pytest.approx(levels)
    assert effective_sparsity(model) == pytest.approx(sparsity(hook.masks))


def test_a_pruned_run_sees_the_batches_of_the_dense_run():
    images, labels = easy_data()
    seen = {"dense": [], "pruned": []}
    for name, plan in (("dense", None), ("pruned", PruningPlan(global_magnitude, 0.5, OneShotSchedule(2)))):
        model = small_model()
        model.register_forward_pre_hook(lambda module, inputs, name=name: seen[name].append(inputs[0].clone()))
        train(model, images, labels, recipe=SMALL, pruning=plan, seed=0)
    assert len(seen["dense"]) == 16
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True))


def test_agrees_with_torch_prune_reparametrisation():
    """torch's masks multiply in the forward pass and so also mask the gradients; the weights that stay go the same way."""
    images, labels = easy_data(24)
    recipe = Recipe(epochs=3, batch_size=24, max_shift=0, weight_decay=0, precision="float32")
    ours, theirs = small_model(), small_model()
    masks = global_magnitude(ours, 0.8)
    train(ours, images, labels, recipe=recipe, hooks=[PruningHook(masks=masks)], seed=0)
    for name, module in theirs.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.custom_from_mask(module, "weight", masks[f"{name}.weight"])
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(epoch, 1)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(theirs(normalize(images)), labels.float()).backward()
        optimizer.step()
    for name, weight in prunable_parameters(ours).items():
        other = theirs.get_parameter(f"{name}_orig") * theirs.get_buffer(f"{name}_mask")
        torch.testing.assert_close(weight.detach(), other.detach(), rtol=0, atol=2e-3)


def test_post_training_starts_from_the_trained_parent():
    images, labels = easy_data()
    parent = small_model()
    train(parent, images, labels, recipe=SMALL, seed=0)
    child = small_model(seed=9)
    child.load_state_dict(parent.state_dict())
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=5e-3, optimizer="adam", decay="constant", warmup_epochs=0)
    train(child, images, labels, recipe=recipe, pruning=gradual_magnitude(0.8, start=1, end=3), seed=0)
    assert effective_sparsity(child) == pytest.approx(0.8, abs=1e-3)
    assert ((predict_logits(child, images) > 0) == labels).float().mean() > 0.9


def test_fine_tuning_keeps_the_masks_given():
    images, labels = easy_data()
    model = small_model()
    masks = global_magnitude(model, 0.8)
    hook = PruningHook(masks=masks)
    train(model, images, labels, recipe=SMALL, hooks=[hook], seed=0)
    assert all(torch.equal(hook.masks[name], masks[name]) for name in masks)
    weights = prunable_parameters(model)
    assert all(not weights[name][~mask].any() for name, mask in masks.items())


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.float(), y), "torch.uint8"),
        (lambda x, y: (x[:, :1], y), r"\(n, 3, H, W\)"),
        (lambda x, y: (x[:1], y[:1]), "at least 2"),
        (lambda x, y: (x, y[:-1]), r"\(100, K\)"),
        (lambda x, y: (x, y[:, 0]), r"\(100, K\)"),
        (lambda x, y: (x, 2 * y - 1), "other values than 0 and 1"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    images, labels = change(*easy_data())
    with pytest.raises(ValueError, match=message):
        train(small_model(), images, labels, recipe=SMALL, seed=0)


def test_a_plan_that_outlasts_the_recipe_is_refused():
    with pytest.raises(ValueError, match="last update at epoch 4"):
        train(small_model(), *easy_data(), recipe=SMALL, pruning=PruningPlan(global_magnitude, 0.5, OneShotSchedule(4)), seed=0)


def test_exclusive_classes_are_learnt_by_their_softmax():
    """Three classes, each a colour; the first loss is the cross-entropy that NumPy finds for the untrained network's logits."""
    images, _ = easy_data()
    classes = torch.arange(100) % 3
    images[torch.arange(100), classes] |= 128
    recipe = Recipe(
        epochs=6, batch_size=100, max_shift=0, learning_rate=0.02, optimizer="adam", loss="softmax", precision="float32"
    )
    model, untrained = small_model(), small_model().train()
    history = train(model, images, classes, recipe=recipe, seed=0)
    logits = untrained(normalize(images)).detach().double().numpy()
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(100), classes.numpy()]
    assert history["loss"].iloc[0] == pytest.approx(expected.mean(), rel=1e-4)
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    streamed = small_model()
    train(streamed, TensorDataset(images, classes), recipe=recipe, seed=0)
    assert same_weights(model, streamed)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(4, 3), r"needed for loss='softmax': \(4,\)"),
        (torch.tensor([0.0, 1.0, 2.0, 0.5]), "numbers of classes"),
        (torch.tensor([0, 1, -1, 2]), "numbers of classes"),
        (torch.tensor([0, 1, 3, 2]), "4 classes, but the model has 3 outputs"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, message):
    recipe = dataclasses.replace(NO_SHIFT, loss="softmax")
    for data in ((easy_data(4)[0], labels), (TensorDataset(easy_data(4)[0], labels),)):
        with pytest.raises(ValueError, match=message.replace("4,", "[41],")):
            train(small_model(), *data, recipe=recipe, seed=0)


def test_divergence_is_an_error():
    recipe = Recipe(epochs=3, batch_size=32, learning_rate=1e20, warmup_epochs=0, precision="float32")
    with pytest.raises(DivergedError, match="learning rate"):
        train(small_model(), *easy_data(), recipe=recipe, seed=0)


# --- prediction ---


def test_logits_do_not_depend_on_the_batches_and_leave_the_model_as_it_was():
    images, _ = easy_data(50)
    model = small_model()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits = predict_logits(model, images, batch_size=7)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        expected = torch.cat([model(image[None] / 127.5 - 1) for image in images])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_prediction_refuses_bad_input():
    with pytest.raises(ValueError, match="batch_size=0"):
        predict_logits(small_model(), easy_data()[0], batch_size=0)
    with pytest.raises(ValueError, match="at least 1"):
        predict_logits(small_model(), torch.empty(0, 3, 32, 32, dtype=torch.uint8))


def test_precision_is_resolved_by_device():
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu) == torch.float32
    assert resolve_precision("bfloat16", cpu) == torch.bfloat16
    assert resolve_precision("auto", torch.device("meta")) == torch.float32


def test_precision_is_single_where_onednn_is_held_to_avx2(monkeypatch):
    """A processor may have instructions for bfloat16 that oneDNN was told not to use: then it would be emulated."""
    everything = dict.fromkeys(("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_bf16"), True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everything)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert resolve_precision("auto", torch.device("cpu")) == torch.float32


# --- checkpoints ---

RUN = textwrap.dedent(
    """
    import sys, torch
    from pathlib import Path
    torch.set_num_threads(1)
    from effnotes.models import build_model
    from effnotes.pruning import gradual_magnitude
    from effnotes.training.images import train
    from effnotes.training.recipes import Recipe

    labels = torch.randint(0, 2, (600, 3), generator=torch.Generator().manual_seed(0))
    images = (100 * labels[:, :, None, None] + torch.arange(32)).to(torch.uint8).expand(600, 3, 32, 32)
    model = build_model("resnet8", 3, image_size=32, seed=0, width=8)
    plan = gradual_magnitude(0.9, start=1, end=7)
    train(model, images, labels, recipe=Recipe(epochs=8, batch_size=32), pruning=plan, seed=0, checkpoint=Path(sys.argv[1]))
    for name, tensor in sorted(model.state_dict().items()):
        print(name, tensor.double().flatten().tolist())
    """
)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    def start(file):
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    whole, errors = start("whole.safetensors").communicate(timeout=100)
    assert whole, errors
    victim = start("killed.safetensors")
    while not (tmp_path / "killed.safetensors").exists():
        assert victim.poll() is None
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    resumed, errors = start("killed.safetensors").communicate(timeout=100)
    assert resumed == whole, errors
    assert "Warning" not in errors


class InterruptedRun(Exception):
    pass


def interrupt_in_epoch(model, epoch):
    """Raise in the forward pass of the given epoch; SMALL has four steps an epoch."""
    calls = []

    def count(module, inputs):
        calls.append(None)
        if len(calls) == 4 * epoch + 2:
            raise InterruptedRun

    return model.register_forward_pre_hook(count)


@pytest.mark.parametrize(("epoch", "optimizer"), [(1, "sgd"), (2, "sgd"), (3, "sgd"), (2, "adam")])
def test_an_interrupted_run_resumes_with_history_and_masks(tmp_path, epoch, optimizer):
    images, labels = easy_data()
    recipe = dataclasses.replace(SMALL, optimizer=optimizer)
    plan, file = gradual_magnitude(0.9, start=1, end=4), tmp_path / "run.safetensors"
    whole = small_model()
    hooks = [plan.hook(), plan.hook()]
    expected = train(whole, images, labels, recipe=recipe, hooks=hooks[:1], seed=0)
    broken = small_model()
    interrupt_in_epoch(broken, epoch)
    with pytest.raises(InterruptedRun):
        train(broken, images, labels, recipe=recipe, pruning=plan, seed=0, checkpoint=file)
    resumed, steps = small_model(), []
    resumed.register_forward_pre_hook(lambda module, inputs: steps.append(None))
    result = train(resumed, images, labels, recipe=recipe, hooks=hooks[1:], seed=0, checkpoint=file)
    assert len(steps) == 4 * (4 - epoch)
    assert same_weights(whole, resumed)
    assert all(torch.equal(hooks[1].masks[name], mask) for name, mask in hooks[0].masks.items())
    columns = ["epoch", "learning_rate", "loss", "sparsity"]
    assert result[columns].equals(expected[columns])
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_finished_run_is_read_and_not_repeated(tmp_path):
    images, labels = easy_data()
    file = tmp_path / "run.safetensors"
    first, again = small_model(), small_model()
    train(first, images, labels, recipe=SMALL, seed=0, checkpoint=file)
    again.register_forward_pre_hook(lambda module, inputs: pytest.fail("trained again"))
    train(again, images, labels, recipe=SMALL, seed=0, checkpoint=file)
    assert same_weights(first, again)


@pytest.mark.parametrize("damage", ["empty", "half", "header", "bit", "text"])
def test_a_torn_checkpoint_is_reported_and_the_run_starts_anew(tmp_path, damage):
    images, labels = easy_data()
    file = tmp_path / "run.safetensors"
    whole = small_model()
    train(whole, images, labels, recipe=SMALL, seed=0, checkpoint=file)
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(
        {
            "empty": b"",
            "half": file.read_bytes()[: file.stat().st_size // 2],
            "header": file.read_bytes()[:20],
            "bit": bytes(content),
            "text": b"not a checkpoint at all, just a line of text",
        }[damage]
    )
    model = small_model()
    with pytest.warns(RuntimeWarning, match="no whole checkpoint"):
        train(model, images, labels, recipe=SMALL, seed=0, checkpoint=file)
    assert same_weights(whole, model)


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    images, labels = easy_data()
    file = tmp_path / "run.safetensors"
    train(small_model(), images, labels, recipe=SMALL, seed=0, checkpoint=file)
    kept = file.read_bytes()
    changes = {
        "seed": lambda: train(small_model(), images, labels, recipe=SMALL, seed=1, checkpoint=file),
        "data": lambda: train(small_model(), images, 1 - labels, recipe=SMALL, seed=0, checkpoint=file),
        "recipe": lambda: train(
            small_model(), images, labels, recipe=Recipe(epochs=5, precision="float32"), seed=0, checkpoint=file
        ),
        "initial weights": lambda: train(small_model(seed=1), images, labels, recipe=SMALL, seed=0, checkpoint=file),
        "pruning plan": lambda: train(
            small_model(),
            images,
            labels,
            recipe=SMALL,
            pruning=PruningPlan(global_magnitude, 0.5, OneShotSchedule()),
            seed=0,
            checkpoint=file,
        ),
    }
    for part, run in changes.items():
        with pytest.raises(ValueError, match=f"another run .*{part}"):
            run()
    assert file.read_bytes() == kept


def test_masks_survive_saving(tmp_path):
    """What is written is masked already: a reader of the file needs no masks."""
    import safetensors.torch

    file = tmp_path / "run.safetensors"
    model = small_model()
    train(
        model, *easy_data(), recipe=SMALL, pruning=PruningPlan(global_magnitude, 0.9, OneShotSchedule(1)), seed=0, checkpoint=file
    )
    tensors = safetensors.torch.load_file(file)
    read = small_model(seed=1)
    read.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    assert effective_sparsity(read) == pytest.approx(0.9, abs=1e-3)
    before = {name: tensor.clone() for name, tensor in read.state_dict().items()}
    apply_masks_(read, {name.removeprefix("mask."): t for name, t in tensors.items() if name.startswith("mask.")})
    assert all(torch.equal(tensor, before[name]) for name, tensor in read.state_dict().items())


# --- processors ---

NARROW = textwrap.dedent(
    """
    import json, torch
    torch.set_num_threads(1)
    from effnotes.models import build_model
    from effnotes.training.images import predict_logits, train
    from effnotes.training.recipes import Recipe

    labels = torch.randint(0, 2, (64, 3), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(0, 60, (64, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    images = (noise + 120 * labels[:, :, None, None]).to(torch.uint8)
    found = []
    for width, precision in ((4, "float32"), (7, "float32"), (4, "bfloat16"), (8, "float32")):
        model = build_model("resnet8", 3, image_size=32, seed=0, width=width)
        recipe = Recipe(epochs=2, batch_size=32, learning_rate=0.01, precision=precision)
        history = train(model, images, labels, recipe=recipe, seed=0)
        numbers = history["loss"].tolist() + predict_logits(model, images).flatten().tolist()
        found.append([width, precision, model.stem[0].weight.is_contiguous(), numbers])
    print(json.dumps(found))
    """
)


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="compares a processor without AVX-512 with one that has it")
def test_narrow_networks_train_and_predict_without_avx512():
    """oneDNN's kernels for AVX2 corrupt memory at widths 2 to 7, where images lie channels-last."""

    def run(**environment):
        done = subprocess.run(
            [sys.executable, "-c", NARROW], env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    for (width, precision, is_contiguous, numbers), (*_, expected) in zip(run(ONEDNN_MAX_CPU_ISA="AVX2"), run(), strict=True):
        assert is_contiguous is (width < 8)
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=2e-3 if precision == "float32" else 0.1)
