import itertools
import math
import time

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn.utils import prune

from effnotes.datasets import make_faces
from effnotes.models import build_model
from effnotes.pruning import (
    PRUNING_METHODS,
    AlternatingSchedule,
    CubicSchedule,
    NMMagnitude,
    OneShotSchedule,
    PruningPlan,
    apply_masks_,
    effective_sparsity,
    global_magnitude,
    gradual_magnitude,
    kept_count,
    layer_counts,
    masks_in_force,
    measure_latency,
    model_cost,
    prunable_parameters,
    prune_,
    pruning_plan,
    random_choice,
    reviving_magnitude,
    size_on_disk,
    sparsity,
    uniform_magnitude,
)
from effnotes.training.images import predict_logits, train
from effnotes.training.recipes import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

PRUNABLE = 79_792  # weights of the convolutions and the linear layer of "resnet8" with 12 outputs
NESTED = {"global": global_magnitude, "uniform": uniform_magnitude, "random": random_choice}


@pytest.fixture
def model():
    return build_model("resnet8", 12, image_size=32, seed=0)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def same_masks(first, second):
    return all(torch.equal(mask, second[name]) for name, mask in first.items())


def inside(masks, previous):
    return all(not (mask & ~previous[name]).any() for name, mask in masks.items())


def disturb(model, seed):
    with torch.no_grad():
        for number, weight in enumerate(prunable_parameters(model).values()):
            weight += 0.02 * torch.randn(weight.shape, generator=draws(100 * seed + number))


def linear(*rows):
    layer = nn.Linear(len(rows[0]), len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


# --- the contract, method by method ---


@pytest.mark.parametrize("method", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("level", [0.0, 0.05, 0.5, 0.9, 0.95, 0.97, 0.98, 0.995])
def test_every_unstructured_method_meets_the_sparsity_exactly(model, method, level):
    masks = method(model, level, generator=draws())
    assert kept(masks) == kept_count(PRUNABLE, level)
    assert list(masks) == list(prunable_parameters(model))


@pytest.mark.parametrize("method", NESTED.values(), ids=NESTED)
def test_nested_methods_never_bring_a_weight_back(model, method):
    """In fine steps, where the rounding of a layer could go up while its share goes down, and with weights that move."""
    masks = masks_in_force(model)
    for number, level in enumerate(np.linspace(0.95, 0.9995, 60)):
        previous, masks = masks, method(model, float(level), masks, generator=draws(number))
        assert inside(masks, previous)
        assert kept(masks) == kept_count(PRUNABLE, level)
        disturb(model, number)
    with pytest.raises(ValueError, match="never brings a weight back"):
        method(model, 0.9, masks, generator=draws())


@pytest.mark.parametrize("method", NESTED.values(), ids=NESTED)
def test_methods_change_nothing_and_mind_no_memory_layout(model, method):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks = method(model, 0.5, generator=draws())
    copies = {name: mask.clone() for name, mask in masks.items()}
    tighter = method(model, 0.9, masks, generator=draws(1))
    assert same_masks(masks, copies)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    model.to(memory_format=torch.channels_last)
    assert same_masks(method(model, 0.9, masks, generator=draws(1)), tighter)


def test_global_magnitude_agrees_with_torch_prune_update_after_update(model):
    """The oracle keeps a mask of its own and prunes what is left of it, as gradual pruning does."""
    twin = build_model("resnet8", 12, image_size=32, seed=0)
    modules = [(module, "weight") for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    masks = None
    for level in (0.3, 0.7, 0.9):
        before = PRUNABLE if masks is None else kept(masks)
        masks = global_magnitude(model, level, masks)
        prune.global_unstructured(modules, prune.L1Unstructured, amount=before - kept_count(PRUNABLE, level))
        theirs = dict(twin.named_buffers())
        assert all(torch.equal(mask, theirs[f"{name}_mask"].bool()) for name, mask in masks.items())


# --- uniform ---


def webster(sizes, keep):
    """Webster's method seat by seat, in whole numbers."""
    counts = [0] * len(sizes)
    for _ in range(keep):
        best = 0
        for layer in range(1, len(sizes)):
            if sizes[layer] * (2 * counts[best] + 1) > sizes[best] * (2 * counts[layer] + 1):
                best = layer
        counts[best] += 1
    return counts


@pytest.mark.parametrize("sizes", [[7], [5, 5, 5], [1, 2, 3, 90], [3, 9, 27, 9], [60, 61, 62, 1, 1, 1, 30]])
def test_the_shares_of_the_layers_are_those_of_webster(sizes):
    for keep in range(sum(sizes) + 1):
        assert layer_counts(sizes, keep) == webster(sizes, keep)


@pytest.mark.parametrize("level", [0.3, 0.9, 0.98])
def test_uniform_pruning_removes_the_same_share_of_each_layer(model, level):
    masks = uniform_magnitude(model, level)
    for name, weight in prunable_parameters(model).items():
        keep = int(masks[name].sum())
        assert abs(keep - (1 - level) * weight.numel()) < 1.5
        magnitude = np.abs(weight.detach().numpy()).ravel()
        expected = np.zeros(magnitude.size, bool)
        expected[np.argsort(-magnitude, kind="stable")[:keep]] = True
        assert np.array_equal(masks[name].numpy().ravel(), expected)


def test_uniform_pruning_agrees_with_torch_prune_layer_by_layer(model):
    for name, mask in uniform_magnitude(model, 0.9).items():
        module = model.get_submodule(name.removesuffix(".weight"))
        prune.l1_unstructured(module, "weight", amount=mask.numel() - int(mask.sum()))
        assert torch.equal(module.weight_mask.bool(), mask)


def test_uniform_pruning_names_the_layer_that_has_too_few_weights_left():
    layers = nn.Sequential(linear([9.0, 9.0, 9.0, 9.0]), linear([1.0, 2.0, 3.0, 4.0]))
    masks = global_magnitude(layers, 0.5)
    with pytest.raises(ValueError, match=r"of 1\.weight, but the masks leave only 0"):
        uniform_magnitude(layers, 0.5, masks)


# --- N:M ---


def groups(tensor, m):
    """All groups of m consecutive input channels, one by one."""
    array = tensor.detach().numpy()
    for out, *position in itertools.product(range(array.shape[0]), *map(range, array.shape[2:])):
        for first in range(0, array.shape[1], m):
            yield [array[(out, first + k, *position)] for k in range(m)]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8)])
def test_every_group_keeps_its_n_largest(n, m):
    model = build_model("resnet8", 5, image_size=32, seed=0, width=8)
    method = NMMagnitude(n, m)
    masks = method(model.to(memory_format=torch.channels_last), 1 - n / m)
    seen = 0
    for name, weight in prunable_parameters(model).items():
        if weight.shape[1] % m:
            assert masks[name].all()
            continue
        for magnitudes, keep in zip(groups(weight.abs(), m), groups(masks[name], m), strict=True):
            assert sum(keep) == n
            assert min(v for v, k in zip(magnitudes, keep, strict=True) if k) >= max(
                v for v, k in zip(magnitudes, keep, strict=True) if not k
            )
            seen += m
    dense = sum(prunable_parameters(model)[name].numel() for name in method.left_dense(model))
    total = sum(weight.numel() for weight in prunable_parameters(model).values())
    assert method.left_dense(model) == ["stem.0.weight"]
    assert seen == total - dense
    assert sparsity(masks) == pytest.approx((1 - n / m) * (total - dense) / total, abs=1e-12)


def test_depthwise_convolutions_stay_dense():
    model = build_model("mobilenet_v2", 3, image_size=32, seed=0)
    depthwise = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.groups > 1}
    assert depthwise
    assert set(NMMagnitude().left_dense(model)) == depthwise | {"features.0.0.weight"}


def test_ties_and_earlier_masks_of_a_pattern():
    layer = linear([1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 3.0])
    assert NMMagnitude()(layer, 0.5)["weight"].tolist() == [[True, True, False, False], [False, True, False, True]]
    masks = {"weight": torch.tensor([[False, True, True, True], [True, False, True, True]])}
    assert NMMagnitude()(layer, 0.5, masks)["weight"].tolist() == [[False, True, True, False], [True, False, False, True]]
    masks["weight"][0, 1:3] = False
    with pytest.raises(ValueError, match="fewer than 2 weights in some groups of 4 of weight"):
        NMMagnitude()(layer, 0.5, masks)


def test_patterns_and_models_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="1 <= n < m"):
        NMMagnitude(4, 4)
    with pytest.raises(ValueError, match=r"2:4 has sparsity 0\.5 and no other"):
        NMMagnitude()(model, 0.9)
    with pytest.raises(ValueError, match="multiple of 4 input channels"):
        NMMagnitude()(linear([1.0, 2.0, 3.0]), 0.5)


# --- random ---


def test_random_masks_depend_on_the_seed_alone(model):
    plans = [PruningPlan(random_choice, 0.9, OneShotSchedule(3), seed=seed) for seed in (1, 1, 2)]
    torch.manual_seed(5)
    first = plans[0].update(3, model)
    disturb(model, 0)
    assert same_masks(first, plans[1].update(3, model))
    other = plans[2].update(3, model)
    # Two independent draws share a tenth of what they keep.
    common = sum(int((mask & other[name]).sum()) for name, mask in first.items())
    assert scipy.stats.hypergeom(PRUNABLE, 7979, 7979).cdf(common) == pytest.approx(0.5, abs=0.4999)


def test_random_masks_are_drawn_evenly(model):
    """Layers get their share (chi-square), and over many draws in two updates every weight the same chance (binomial)."""
    masks = random_choice(model, 0.9, generator=draws())
    counts = [int(mask.sum()) for mask in masks.values()]
    sizes = np.array([mask.numel() for mask in masks.values()])
    # Drawn without replacement: the statistic is (1 - 0.1) times that of independent draws.
    statistic = scipy.stats.chisquare(counts, sizes * kept(masks) / PRUNABLE).statistic / 0.9
    assert scipy.stats.chi2(len(sizes) - 1).sf(statistic) > 1e-4

    layer, times = nn.Linear(10, 5), np.zeros(50)
    for seed in range(400):
        half = random_choice(layer, 0.5, generator=draws(2 * seed))
        times += random_choice(layer, 0.8, half, generator=draws(2 * seed + 1))["weight"].numpy().ravel()
    assert times.sum() == 400 * 10
    bounds = scipy.stats.binom(400, 0.2).interval(1 - 1e-6)
    assert (times >= bounds[0]).all()
    assert (times <= bounds[1]).all()
    # Not one and the same draw: the counts spread as those of a binomial do.
    assert 0.4 < times.var() / (400 * 0.2 * 0.8) < 2


# --- AC/DC ---


def test_the_published_phases():
    schedule = AlternatingSchedule()
    levels = schedule.levels(0.9)
    assert [epoch for epoch, level in levels.items() if level == 0.9] == [10, 20, 30, 40, 50, 60, 70, 85]
    assert [epoch for epoch, level in levels.items() if level == 0] == [15, 25, 35, 45, 55, 65, 75]
    assert list(levels) == sorted(levels)
    assert AlternatingSchedule.for_epochs(100) == schedule


@pytest.mark.parametrize("epochs", [4, 5, 6, 7, 8, 10, 12, 16, 20, 30, 50, 90, 100, 200])
def test_phases_scale_to_the_length_of_a_run(epochs):
    levels = AlternatingSchedule.for_epochs(epochs).levels(0.9)
    starts = list(levels)
    assert starts == sorted(set(starts))
    assert starts[0] >= 1
    assert [levels[epoch] for epoch in starts] == [0.9, 0.0] * (len(starts) // 2) + [0.9]
    final = epochs - starts[-1]
    assert final >= max(1, math.floor(0.15 * epochs))
    # At most the two phases that did not fit as a pair come on top.
    assert final <= 0.15 * epochs + 0.5 + 2 * max(1, 0.05 * epochs + 0.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phases": 4}, "must be odd"),
        ({"phase": 0}, "phase=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"final_dense": 0}, "final_dense=0"),
    ],
)
def test_impossible_phases_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AlternatingSchedule(**fields)
    with pytest.raises(ValueError, match="at least 4"):
        pruning_plan("acdc", 0.9, epochs=3)


def test_a_reviving_method_chooses_anew(model):
    first = reviving_magnitude(model, 0.9)
    assert same_masks(first, global_magnitude(model, 0.9))
    for number in range(5):
        disturb(model, number)
    second = reviving_magnitude(model, 0.9, first)
    assert not inside(second, first)
    assert kept(second) == kept_count(PRUNABLE, 0.9)
    assert all(mask.all() for mask in reviving_magnitude(model, 0.0, second).values())


def easy_data(n=96):
    labels = torch.randint(0, 2, (n, 3), generator=draws())
    noise = torch.randint(0, 60, (n, 3, 32, 32), generator=draws(1))
    return (noise + 120 * labels[:, :, None, None]).to(torch.uint8), labels


def small_model(seed=0):
    return build_model("resnet8", 3, image_size=32, seed=seed, width=4)


def test_acdc_alternates_through_a_training():
    """Epochs 0 dense, 1 compressed, 2 dense, 3 compressed, 4 dense, 5 and 6 compressed."""
    plan, model, at_start, sparse = pruning_plan("acdc", 0.9, epochs=7), small_model(), {}, []
    assert plan.levels == {1: 0.9, 2: 0.0, 3: 0.9, 4: 0.0, 5: 0.9}
    weights = prunable_parameters(model)
    total = sum(weight.numel() for weight in weights.values())

    def record(module, _inputs):
        if len(sparse) % 3 == 0:
            at_start[len(sparse) // 3] = {name: weight.detach().clone() for name, weight in weights.items()}
        sparse.append(effective_sparsity(module))

    model.register_forward_pre_hook(record)
    recipe = Recipe(epochs=7, batch_size=32, precision="float32")
    hook = plan.hook()
    result = train(model, *easy_data(), recipe=recipe, hooks=[hook], seed=0)
    exact = 1 - kept_count(total, 0.9) / total
    assert result["sparsity"].tolist() == pytest.approx([0, exact, 0, exact, 0, exact, exact], abs=1e-12)
    assert effective_sparsity(model) == pytest.approx(exact, abs=1e-12)
    assert [sparse[step] for step in (3, 4, 5, 9, 10, 11, *range(15, 21))] == pytest.approx([exact] * 12, abs=1e-12)
    # What comes back starts from zero ...
    assert sparse[6] == pytest.approx(exact, abs=1e-12)
    assert sparse[12] == pytest.approx(exact, abs=1e-12)
    # ... and moves in the next step, except behind units of this tiny network that no image excites any more.
    assert max(sparse[7], sparse[8], sparse[13], sparse[14]) < 0.7
    masks = {epoch: {name: weight != 0 for name, weight in at_start[epoch].items()} for epoch in (1, 3, 5)}
    assert not inside(masks[3], masks[1])
    assert same_masks(masks[5], hook.masks)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_that_come_back_start_from_rest(optimizer):
    """The loss is flat from the restoration on, so that only momentum moves a weight: those that stayed, and no other."""

    class Switched(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.weights = nn.Conv2d(3, 3, 3, bias=False), []

        def forward(self, images):
            self.weights.append(self.conv.weight.detach().clone())
            flat = len(self.weights) > 4
            return self.conv(images).mean((2, 3)) * (0.0 if flat else 1.0)

    # Two steps an epoch: pruned at the start of the second, restored at the start of the third.
    plan = PruningPlan(reviving_magnitude, 0.5, AlternatingSchedule(warmup=1, phase=1, phases=1, final_dense=1), revives=True)
    recipe = Recipe(epochs=4, batch_size=32, optimizer=optimizer, weight_decay=0, warmup_epochs=0, precision="float32")
    model = Switched()
    nn.init.uniform_(model.conv.weight, -0.2, 0.2, generator=draws())
    train(model, *easy_data(64), recipe=recipe, pruning=plan, seed=0)
    restored, a_step_later = model.weights[4:6]
    out = restored == 0
    assert int(out.sum()) == 81 - kept_count(81, 0.5)
    assert (a_step_later[out] == 0).all()
    assert (a_step_later[~out] != restored[~out]).all()


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_acdc_run_resumes_to_the_same_weights(tmp_path, epoch):
    """Interrupted in a compressed phase, in a dense one and in the final one; resuming restores masks and momentum."""

    class InterruptedRun(Exception):
        pass

    plan, recipe = pruning_plan("acdc", 0.9, epochs=5), Recipe(epochs=5, batch_size=32, precision="float32")
    assert plan.levels == {1: 0.9, 2: 0.0, 3: 0.9}
    whole, broken, resumed, calls = small_model(), small_model(), small_model(), []
    train(whole, *easy_data(), recipe=recipe, pruning=plan, seed=0)

    def interrupt(_module, _inputs):
        calls.append(None)
        if len(calls) == 3 * epoch + 2:
            raise InterruptedRun

    broken.register_forward_pre_hook(interrupt)
    file = tmp_path / "run.safetensors"
    with pytest.raises(InterruptedRun):
        train(broken, *easy_data(), recipe=recipe, pruning=plan, seed=0, checkpoint=file)
    train(resumed, *easy_data(), recipe=recipe, pruning=plan, seed=0, checkpoint=file)
    expected = whole.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())


def test_masks_grow_only_where_the_plan_says_so(model):
    plan = PruningPlan(reviving_magnitude, 0.9, CubicSchedule(0, 3))
    masks = plan.update(0, model)
    for number in range(5):
        disturb(model, number)
    with pytest.raises(ValueError, match=r"epoch 1 to sparsity .* pruned weights back.*revives=True"):
        plan.update(1, model, masks)
    allowed = PruningPlan(reviving_magnitude, 0.9, CubicSchedule(0, 3), revives=True)
    assert not inside(allowed.update(1, model, masks), masks)


def test_a_schedule_that_ends_elsewhere_is_refused():
    class EndsDense:
        def levels(self, target):
            return {0: target, 4: 0.0}

    with pytest.raises(ValueError, match=r"must go to the target 0\.9"):
        PruningPlan(global_magnitude, 0.9, EndsDense())


# --- methods by name ---


@pytest.mark.parametrize("name", PRUNING_METHODS)
def test_every_named_method_ends_at_its_target(name, model):
    """Through a run of 12 epochs in which weights move; nested as the registry says."""
    target = 0.5
    plan = pruning_plan(name, target, epochs=12, seed=3)
    assert max(plan.levels) < 12
    masks, grown = masks_in_force(model), False
    for epoch in range(12):
        previous, masks = masks, plan.update(epoch, model, masks)
        grown |= not inside(masks, previous)
        apply_masks_(model, masks)
        disturb(model, epoch)
        apply_masks_(model, masks)
    assert grown is plan.revives is not PRUNING_METHODS[name].nested
    if name == "n_of_4":
        assert kept(masks) == 432 + (PRUNABLE - 432) // 2
    else:
        assert kept(masks) == kept_count(PRUNABLE, target)
    assert effective_sparsity(model) == pytest.approx(sparsity(masks), abs=1e-12)


@pytest.mark.parametrize("name", PRUNING_METHODS)
def test_a_named_method_plans_runs_of_any_length(name):
    shortest = 4 if name == "acdc" else 1
    for epochs in range(shortest, 130):
        levels = pruning_plan(name, 0.5, epochs=epochs).levels
        assert 0 <= min(levels) <= max(levels) < epochs
        if PRUNING_METHODS[name].gradual and epochs > 1:
            assert min(levels) >= 1
    assert pruning_plan(name, 0.0, epochs=12) is None


def test_named_schedules_are_the_published_ones_at_their_length():
    assert pruning_plan("gmp", 0.995, epochs=100) == gradual_magnitude(0.995, start=10, frequency=10, end=81)
    assert pruning_plan("gmp_post", 0.995, epochs=80) == gradual_magnitude(0.995, start=1, frequency=4, end=60)
    assert pruning_plan("gmp", 0.9, epochs=12, start=1, end=7) == gradual_magnitude(0.9, start=1, end=7)
    assert pruning_plan("one_shot", 0.9, epochs=5) == PruningPlan(global_magnitude, 0.9, OneShotSchedule())
    assert pruning_plan("acdc", 0.9, epochs=100).levels == AlternatingSchedule().levels(0.9)
    assert pruning_plan("random", 0.9, epochs=100, seed=7).seed == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpm", 0.9, {"epochs": 12}), "one of gmp, gmp_post, .*Did you mean 'gmp'"),
        (("one-shot", 0.9, {"epochs": 12}), "Did you mean 'one_shot'"),
        (("gmp", 1.0, {"epochs": 12}), "below 1"),
        (("gmp", -0.1, {"epochs": 12}), "at least 0"),
        (("gmp", math.nan, {"epochs": 12}), "at least 0"),
        (("gmp", 0.9, {"epochs": 0}), "epochs=0"),
        (("gmp", 0.9, {"epochs": 12, "end": 13}), "end=13"),
        (("gmp", 0.9, {"epochs": 12, "start": 12}), "start=12"),
        (("gmp", 0.01, {"epochs": 12}), "first level"),
        (("acdc", 0.9, {"epochs": 3}), "at least 4"),
        (("n_of_4", 0.9, {"epochs": 12}), r"0\.5 \(2:4"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments, message):
    name, target, others = arguments
    with pytest.raises(ValueError, match=message):
        pruning_plan(name, target, **others)


def test_pruning_without_training(model):
    expected = global_magnitude(model, 0.9)
    bias = model.fc.bias.detach().clone()
    masks = prune_(model, pruning_plan("one_shot_untuned", 0.9, epochs=1))
    assert same_masks(masks, expected)
    assert effective_sparsity(model) == pytest.approx(sparsity(expected), abs=1e-12)
    assert torch.equal(model.fc.bias, bias)


@pytest.fixture(scope="module")
def faces_and_parent():
    """A classifier of faces and the state of its training: two attributes that a tiny network can learn."""
    torch.set_num_threads(1)
    faces = make_faces(900, seed=0)
    images = torch.as_tensor(faces.images)
    labels = torch.as_tensor(faces.labels)[:, [0, 4]]
    parent = build_model("resnet8", 2, image_size=32, seed=0, width=8)
    train(parent, images[:600], labels[:600], recipe=Recipe(epochs=6, batch_size=32, precision="float32"), seed=0)
    return images, labels, parent.state_dict()


def test_gradual_pruning_keeps_more_of_the_parent_than_one_shot(faces_and_parent):
    images, labels, state = faces_and_parent
    recipe = Recipe(
        epochs=5,
        batch_size=32,
        optimizer="adam",
        learning_rate=2e-3,
        decay="constant",
        weight_decay=0,
        warmup_epochs=0,
        precision="float32",
    )
    accuracy = {}
    for name in ("dense", "one_shot_untuned", "gmp_post", "random"):
        model = build_model("resnet8", 2, image_size=32, seed=1, width=8)
        model.load_state_dict(state)
        if name != "dense":
            plan = pruning_plan(name, 0.95, epochs=5, seed=0)
            if PRUNING_METHODS[name].trains:
                train(model, images[:600], labels[:600], recipe=recipe, pruning=plan, seed=0)
            else:
                prune_(model, plan)
            assert effective_sparsity(model) == pytest.approx(0.95, abs=1e-4)
        predicted = predict_logits(model, images[600:]) > 0
        accuracy[name] = float((predicted == labels[600:].bool()).float().mean())
    assert accuracy["dense"] > 0.9
    assert accuracy["gmp_post"] > accuracy["dense"] - 0.05
    assert accuracy["one_shot_untuned"] < accuracy["gmp_post"] - 0.1
    assert accuracy["random"] < accuracy["gmp_post"]


# --- cost ---


def test_the_cost_counts_what_is_there(model):
    apply_masks_(model, global_magnitude(model, 0.9))
    cost = model_cost(model, 32, batch_size=4, repeats=3)
    assert cost.remaining_weights == kept_count(PRUNABLE, 0.9)
    assert cost.effective_sparsity == pytest.approx(effective_sparsity(model), abs=1e-12)
    assert (cost.dense_bytes, cost.sparse_bytes) == size_on_disk(model)


def test_latency_is_measured_in_evaluation_mode_on_one_thread_and_leaves_no_trace():
    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.calls = nn.Linear(3, 1), []

        def forward(self, images):
            self.calls.append((tuple(images.shape), self.training, torch.get_num_threads(), torch.is_grad_enabled()))
            return self.fc(images.mean((2, 3)))

    model = Spy().train()
    torch.set_num_threads(2)
    latency = measure_latency(model, 40, batch_size=5, repeats=4)
    assert torch.get_num_threads() == 2
    assert model.training
    assert model.fc.training
    assert model.calls == [((5, 3, 40, 40), False, 1, False)] * 7
    assert latency > 0


def test_latency_is_given_in_milliseconds():
    class Sleeper(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1, 1)

        def forward(self, images):
            time.sleep(0.02)
            return images

    assert measure_latency(Sleeper(), 1, batch_size=1, repeats=2) >= 20


@pytest.mark.parametrize("number", ["image_size", "batch_size", "repeats"])
def test_latency_refuses_numbers_below_one(number):
    arguments = {"image_size": 32, "batch_size": 1, "repeats": 1, number: 0}
    with pytest.raises(ValueError, match=f"{number}=0"):
        measure_latency(small_model(), **arguments)
