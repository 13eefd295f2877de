import math

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from effnotes.models import build_model
from effnotes.pruning import (
    CubicSchedule,
    OneShotSchedule,
    PruningPlan,
    apply_masks_,
    cubic_level,
    effective_sparsity,
    global_magnitude,
    gradual_magnitude,
    kept_count,
    masks_in_force,
    prunable_parameters,
    size_on_disk,
    sparsity,
)


@pytest.fixture
def model():
    return build_model("resnet8", 12, image_size=32, seed=0)


def kept(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def linear(*rows):
    layer = nn.Linear(len(rows[0]), len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


# --- masks ---


def test_normalisation_and_biases_are_never_prunable(model):
    names = set(prunable_parameters(model))
    assert names == {name for name, p in model.named_parameters() if p.ndim > 1}
    assert "stem.0.weight" in names
    assert "blocks.1.downsample.0.weight" in names
    assert "fc.weight" in names
    assert "stem.1.weight" not in names


def test_a_model_without_prunable_weights_is_refused():
    with pytest.raises(ValueError, match="nothing in it can be pruned"):
        prunable_parameters(nn.Sequential(nn.BatchNorm2d(3)))


def test_a_shared_weight_counts_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert list(prunable_parameters(nn.Sequential(first, second))) == ["0.weight"]


@pytest.mark.parametrize(
    ("total", "level", "expected"),
    [(10, 0.0, 10), (10, 0.9, 1), (10, 0.95, 1), (10, 0.96, 0), (79_792, 0.95, 3990), (100, 0.29, 71), (20, 0.975, 1)],
)
def test_the_number_kept_is_rounded(total, level, expected):
    assert kept_count(total, level) == expected


@pytest.mark.parametrize("level", [-0.1, 1.0, 90])
def test_a_sparsity_out_of_range_is_refused(level):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        kept_count(10, level)


def test_applied_masks_zero_exactly_the_pruned_weights(model):
    before = {name: weight.detach().clone() for name, weight in prunable_parameters(model).items()}
    masks = global_magnitude(model, 0.8)
    apply_masks_(model, masks)
    for name, weight in prunable_parameters(model).items():
        assert torch.equal(weight.detach(), torch.where(masks[name], before[name], 0.0))
    assert effective_sparsity(model) == pytest.approx(sparsity(masks), abs=1e-12)


def test_pruned_weights_that_are_not_finite_become_zero():
    layer = linear([float("inf"), 2.0])
    apply_masks_(layer, {"weight": torch.tensor([[False, True]])})
    assert layer.weight.tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"bias": torch.ones(1, dtype=torch.bool)}, "belongs to no prunable weight"),
        ({"weight": torch.ones(2, 1, dtype=torch.bool)}, r"shape \(1, 2\)"),
        ({"weight": torch.ones(1, 2)}, "torch.bool"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        apply_masks_(linear([1.0, 2.0]), masks)


def test_sparsity_is_taken_over_prunable_weights():
    masks = {"a": torch.tensor([True, False]), "b": torch.tensor([[False, False, True, True, True, True]])}
    assert sparsity(masks) == pytest.approx(3 / 8)
    with pytest.raises(ValueError, match="no masks"):
        sparsity({})


def test_size_on_disk_counts_bytes_of_real_files(model, tmp_path):
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    dense = size_on_disk(model)
    assert dense.dense == file.stat().st_size
    assert dense.sparse >= dense.dense
    apply_masks_(model, global_magnitude(model, 0.9))
    pruned = size_on_disk(model)
    assert pruned.dense == dense.dense
    # One bit a weight and a tenth of the float32 values; the header describes each tensor in about 100 bytes.
    others = 4 * (sum(t.numel() for t in model.state_dict().values()) - 79_792)
    header = 100 * (len(model.state_dict()) + 10)
    assert pruned.sparse == pytest.approx(79_792 / 8 + 0.1 * 4 * 79_792 + others + header, abs=1_000)


# --- magnitude ---


def test_agrees_with_a_sort_in_numpy(model):
    weights = prunable_parameters(model)
    flat = np.concatenate([np.abs(weight.detach().numpy()).ravel() for weight in weights.values()])
    expected = np.zeros(len(flat), bool)
    expected[np.argsort(-flat, kind="stable")[: kept_count(len(flat), 0.9)]] = True
    masks = global_magnitude(model, 0.9)
    assert np.array_equal(np.concatenate([mask.numpy().ravel() for mask in masks.values()]), expected)


def test_ties_go_to_the_first_weights():
    layer = linear([1.0, -1.0, 1.0], [2.0, -1.0, 1.0])
    assert global_magnitude(layer, 0.5)["weight"].tolist() == [[True, True, False], [True, False, False]]


def test_a_kept_zero_outranks_a_pruned_weight():
    layer = linear([0.0, 5.0, 3.0, 0.0])
    masks = {"weight": torch.tensor([[True, False, True, False]])}
    assert global_magnitude(layer, 0.5, masks)["weight"].tolist() == [[True, False, True, False]]


def test_magnitudes_below_the_offset_of_the_original_are_still_ranked():
    layer = linear([1e-14, 3e-14, 2e-14])
    assert global_magnitude(layer, 2 / 3)["weight"].tolist() == [[False, True, False]]


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        global_magnitude(linear([1.0, float("nan")]), 0.5)


# --- schedules ---


def test_cubic_levels_of_the_published_schedule():
    levels = [cubic_level((epoch - 10) / 71, 0.95) for epoch in range(10, 81, 10)]
    assert levels == pytest.approx([0.050, 0.379, 0.616, 0.777, 0.875, 0.927, 0.947, 0.950], abs=5e-4)
    assert cubic_level((15 - 2) / 14, 0.995) == pytest.approx(0.99466, abs=5e-6)
    assert cubic_level((57 - 1) / 59, 0.995) == pytest.approx(0.99488, abs=5e-6)
    assert (cubic_level(-1, 0.9), cubic_level(2, 0.9)) == pytest.approx((0.05, 0.9))


@pytest.mark.parametrize(("start", "frequency", "end", "updates"), [(10, 10, 81, 8), (2, 1, 16, 14), (1, 4, 60, 15)])
def test_the_schedule_ends_at_the_target_itself(start, frequency, end, updates):
    levels = CubicSchedule(start, end, frequency).levels(0.995)
    assert len(levels) == updates
    assert list(levels) == list(range(start, end, frequency))
    values = list(levels.values())
    assert values[-1] == 0.995
    assert values[0] == pytest.approx(0.05)
    assert values == sorted(values)
    assert values[:-1] == pytest.approx([cubic_level((e - start) / (end - start), 0.995) for e in list(levels)[:-1]])


def test_a_schedule_of_one_update_goes_to_the_target():
    assert CubicSchedule(3, 4).levels(0.9) == {3: 0.9}
    assert OneShotSchedule(2).levels(0.9) == {2: 0.9}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((3, 3), "start < end"), ((-1, 3), "start=-1"), ((0, 3, 0), "frequency"), ((0, 3, 1, 1.0), "initial")],
)
def test_an_impossible_schedule_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CubicSchedule(*arguments)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5, 95, math.nan])
def test_a_target_out_of_range_is_refused(target):
    with pytest.raises(ValueError, match="between 0 and 1"):
        PruningPlan(global_magnitude, target, OneShotSchedule())


def test_a_target_below_the_first_level_is_refused():
    with pytest.raises(ValueError, match="lower `initial`"):
        gradual_magnitude(0.03, start=1, end=5)
    with pytest.raises(ValueError, match="epoch=-1"):
        OneShotSchedule(-1)


def test_gradual_masks_are_nested_and_reach_the_target(model):
    plan = gradual_magnitude(0.97, start=1, end=10)
    masks, counts = None, []
    for epoch in range(12):
        previous, masks = masks, plan.update(epoch, model, masks)
        apply_masks_(model, masks)
        counts.append(kept(masks))
        if previous is not None:
            assert all(not (masks[name] & ~previous[name]).any() for name in masks)
        with torch.no_grad():
            for weight in prunable_parameters(model).values():
                weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(epoch))
    assert counts[0] == 79_792
    assert counts[1] == kept_count(79_792, 0.05)
    assert counts[9:] == [kept_count(79_792, 0.97)] * 3


def test_a_method_of_ones_own_fits_the_contract_and_draws_reproducibly(model):
    def random_masks(model, level, masks=None, *, generator):
        return {name: torch.rand(weight.shape, generator=generator) >= level for name, weight in prunable_parameters(model).items()}

    plans = [PruningPlan(random_masks, 0.9, OneShotSchedule(4), seed=seed) for seed in (1, 1, 2)]
    first, same, other = (plan.update(4, model) for plan in plans)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert sparsity(plans[0].update(3, model, masks_in_force(model))) == 0
