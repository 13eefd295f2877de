"""Pruning one layer by itself, against loops, brute force, least squares and literal forms of the same equations."""

import copy
import itertools

import pytest
import torch
from torch import nn

from effnotes.pruning import (
    LAYER_SOLVERS,
    gram_matrix,
    gram_matrix_batch,
    kept_count,
    layer_statistics,
    solve_layer,
    solve_layer_batch,
)

LAYERS = {
    "linear": lambda: nn.Linear(9, 6),
    "1x1": lambda: nn.Conv2d(8, 5, 1, stride=2),
    "3x3": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "oblong": lambda: nn.Conv2d(4, 3, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)),
    "grouped": lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2, padding_mode="reflect"),
    "depthwise": lambda: nn.Conv2d(3, 6, 3, stride=2, groups=3),
    "same": lambda: nn.Conv2d(2, 3, (4, 3), padding="same", padding_mode="circular"),
}
CONVOLUTIONS = [name for name in LAYERS if name not in ("linear", "same")]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draw(name, images=6, seed=0):
    """A layer, its inputs, its weight as (groups, rows, columns) and the taps of its kernel."""
    torch.manual_seed(seed)
    layer = LAYERS[name]()
    size = (images * 5, layer.in_features) if name == "linear" else (images, layer.in_channels, 7, 6)
    groups = getattr(layer, "groups", 1)
    inputs = torch.randn(size).relu() + 0.1 * torch.randn(size)
    return layer, inputs, layer.weight.detach().reshape(groups, len(layer.weight) // groups, -1), layer.weight[0, 0].numel()


# ------------------------------------------------------------------------------------------------------------ Gram matrices


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_gram_matrix_of_a_convolution_is_that_of_nested_loops(oracles, name):
    layer, inputs, _, _ = draw(name, images=3)
    patches = oracles.literal_patches(layer, inputs)
    torch.testing.assert_close(gram_matrix(layer, inputs), patches.mT @ patches)


@pytest.mark.parametrize("chunk", [1, 2000, 5000])
@pytest.mark.parametrize("name", ["3x3", "oblong", "grouped"])
def test_parts_of_images_add_up_to_the_whole(monkeypatch, name, chunk):
    layer, inputs, _, _ = draw(name)
    whole = gram_matrix(layer, inputs)
    monkeypatch.setattr("effnotes.pruning.gram.CHUNK_BYTES", chunk)
    torch.testing.assert_close(gram_matrix(layer, inputs), whole)


@pytest.mark.parametrize("name", LAYERS)
def test_the_gram_matrix_gives_the_squares_of_the_outputs(name):
    layer, inputs, weight, _ = draw(name)
    layer.bias.data.zero_()
    energy = sum(torch.trace(one @ gram @ one.T) for one, gram in zip(weight, gram_matrix(layer, inputs), strict=True))
    torch.testing.assert_close(energy, layer(inputs).square().sum())


def test_a_linear_layer_takes_any_leading_dimensions_and_small_types_are_summed_in_float32():
    layer, inputs, _, _ = draw("linear")
    torch.testing.assert_close(gram_matrix(layer, inputs.view(5, 2, 3, 9)), (inputs.T @ inputs)[None])
    assert gram_matrix(layer, inputs.float()).dtype == torch.float32
    half = gram_matrix(layer, inputs.bfloat16())
    torch.testing.assert_close(half, gram_matrix(layer, inputs.bfloat16().float()))
    channels_last = inputs.view(1, 5, 6, 9).permute(0, 3, 1, 2)
    torch.testing.assert_close(gram_matrix(nn.Conv2d(9, 2, 1), channels_last), (inputs.T @ inputs)[None])


# ------------------------------------------------------------------------------------------------------------ SparseGPT


@pytest.mark.parametrize("level", [0.05, 0.5, 0.7, 0.97])
@pytest.mark.parametrize("name", LAYERS)
def test_sparsegpt_is_the_literal_sweep(oracles, name, level):
    layer, inputs, weight, taps = draw(name)
    gram = gram_matrix(layer, inputs)
    keep = kept_count(weight.shape[1] * taps, level)
    expected = [oracles.literal_sweep(one, h, taps, keep) for one, h in zip(weight, gram, strict=True)]
    before = layer.weight.clone(), gram.clone()
    found = solve_layer(layer, gram, level)
    torch.testing.assert_close(found.weight.view(weight.shape), torch.stack([w for w, _ in expected]), rtol=0, atol=1e-10)
    assert torch.equal(found.mask.view(weight.shape), torch.stack([mask for _, mask in expected]))
    change = [layer.weight.detach().view(weight.shape) - found.weight.view(weight.shape), weight]
    lost, whole = (sum(torch.trace(d @ h @ d.T) for d, h in zip(part, gram, strict=True)) for part in change)
    assert found.error == pytest.approx(float(lost / whole), rel=1e-9)
    assert torch.equal(layer.weight, before[0])
    assert torch.equal(gram, before[1])


FEW = {
    "linear": (nn.Linear(300, 7), (14, 300)),
    "3x3": (nn.Conv2d(48, 5, 3, padding=1), (2, 48, 4, 6)),
    "grouped": (nn.Conv2d(64, 6, 3, groups=2), (3, 64, 5, 4)),
}


@pytest.mark.parametrize("solver", ["sparsegpt", "sparsegpt_mask", "magnitude"])
@pytest.mark.parametrize("name", FEW)
def test_few_input_vectors_give_what_their_gram_matrix_gives(name, solver):
    """In blocks of columns, of which the last is narrower, for two images at once, with a channel that is silent in one."""
    layer, shape = FEW[name]
    layer = copy.deepcopy(layer).double()
    inputs = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).relu()
    inputs[0].movedim(1, 0)[3] = 0
    few, grams = layer_statistics(layer, inputs), gram_matrix_batch(layer, inputs)
    assert few.shape[3] * 8 < few.shape[2]
    torch.testing.assert_close(few @ few.mT, grams)
    for found, expected in zip(*(solve_layer_batch(layer, each, 0.6, solver=solver) for each in (few, grams)), strict=True):
        assert torch.equal(found.mask, expected.mask)
        torch.testing.assert_close(found.weight, expected.weight, rtol=0, atol=1e-10)
        assert found.error == pytest.approx(expected.error, rel=1e-8)


def test_as_many_input_vectors_as_an_eighth_of_the_columns_are_given_as_a_gram_matrix():
    layer, inputs = nn.Linear(80, 4), torch.randn(1, 10, 80)
    assert layer_statistics(layer, inputs).shape == (1, 1, 80, 80)
    assert layer_statistics(layer, inputs[:, :9]).shape == (1, 1, 80, 9)
    silent = layer_statistics(layer, 0 * inputs[:, :9])
    assert solve_layer_batch(layer, silent, 0.5)[0].error == 0
    with pytest.raises(ValueError, match="singular to working precision"):
        solve_layer_batch(layer, layer_statistics(layer, inputs[:, :9]), 0.5, damping=0.0)


def test_the_authors_blocking_gives_the_same_as_the_literal_sweep(oracles):
    layer, inputs, weight, taps = draw("3x3")
    gram = gram_matrix(layer, inputs)[0]
    for found, expected in zip(
        oracles.blocked_like_the_authors(weight[0], gram, taps, 18), oracles.literal_sweep(weight[0], gram, taps, 18), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_float32_is_near_float64_where_positions_are_too_few_for_full_rank(oracles):
    torch.manual_seed(0)
    layer, inputs = nn.Linear(96, 20), torch.randn(12, 96).relu()
    gram = gram_matrix(layer, inputs)
    assert torch.linalg.matrix_rank(gram) == 12
    exact = solve_layer(layer, gram, 0.6)
    weight, _ = oracles.literal_sweep(layer.weight.detach(), gram[0], 1, kept_count(20, 0.6))
    torch.testing.assert_close(exact.weight, weight, rtol=0, atol=1e-10)
    rough = solve_layer(layer.float(), gram.float(), 0.6)
    assert rough.weight.dtype == torch.float32
    assert rough.error == pytest.approx(exact.error, rel=0.01)
    with pytest.raises(ValueError, match="singular to working precision; take a damping above 0"):
        solve_layer(layer, gram.float(), 0.6, damping=0)


# ------------------------------------------------------------------------------------------------------------ exact OBS


def layout(columns, taps, solver):
    """The groups of columns that go together, for a row of `columns`."""
    if solver == "exact_obs":
        return [[j] for j in range(columns)]
    order = list(range(columns))
    if solver == "exact_obs_channels_last":
        order = [channel * taps + tap for tap in range(taps) for channel in range(columns // taps)]
    return [order[i : i + taps] for i in range(0, columns, taps)]


@pytest.mark.parametrize("level", [0.2, 0.6])
@pytest.mark.parametrize("solver", ["exact_obs", "exact_obs_kernel", "exact_obs_channels_last"])
@pytest.mark.parametrize("name", ["linear", "1x1", "3x3", "oblong"])
def test_exact_obs_is_the_end_of_the_textbooks_path(oracles, monkeypatch, name, solver, level):
    layer, inputs, weight, taps = draw(name)
    gram = gram_matrix(layer, inputs)
    groups = layout(weight.shape[2], taps, solver)
    total = len(groups) * weight.shape[1]
    expected = oracles.textbook_obs(weight[0], oracles.damped(gram[0])[0], groups, total - kept_count(total, level))
    monkeypatch.setattr("effnotes.pruning.layerwise.CHUNK_BYTES", 3 * gram.numel() * 8)  # three rows at a time
    found = solve_layer(layer, gram, level, solver=solver)
    torch.testing.assert_close(found.weight.view(weight[0].shape), expected, rtol=0, atol=1e-10)
    assert found.error == pytest.approx(oracles.relative_error(weight[0], expected, gram[0]))
    assert torch.equal(found.mask, found.weight != 0)
    assert found.mask.sum() == kept_count(total, level) * len(groups[0])


def least_loss(row, gram, kept):
    """The least loss of a row that may use `kept` alone, by least squares."""
    new = torch.zeros_like(row)
    new[kept] = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ row)
    return float((row - new) @ gram @ (row - new))


def test_no_mask_of_twelve_weights_beats_exact_obs_where_it_is_optimal(oracles):
    torch.manual_seed(0)
    layer, inputs = nn.Linear(6, 2), torch.randn(30, 6).relu()
    gram = gram_matrix(layer, inputs)
    conditioned, weight = oracles.damped(gram[0])[0], layer.weight.detach()

    def brute(conditioned, removed):
        best = {}
        for mask in itertools.product([False, True], repeat=12):
            if sum(mask) == 12 - removed:
                kept = torch.tensor(mask).view(2, 6)
                loss = sum(least_loss(row, conditioned, k.nonzero().flatten()) for row, k in zip(weight, kept, strict=True))
                best[mask] = loss
        return min(best.items(), key=lambda item: item[1])

    # The first weight to go is the best of all; on uncorrelated inputs every further one is, too.
    assert tuple(solve_layer(layer, gram, 1 / 12, solver="exact_obs").mask.flatten().tolist()) == brute(conditioned, 1)[0]
    uncorrelated = torch.diag(torch.rand(6) + 0.1)[None]
    for removed in range(1, 12):
        mask, _ = brute(oracles.damped(uncorrelated[0])[0], removed)
        assert tuple(solve_layer(layer, uncorrelated, removed / 12, solver="exact_obs").mask.flatten().tolist()) == mask
    # In between it is greedy: never below the optimum, and here within a tenth of it, which no control is.
    _, optimum = brute(conditioned, 6)
    found = solve_layer(layer, gram, 0.5, solver="exact_obs")
    change = weight - found.weight
    assert optimum - 1e-12 <= torch.trace(change @ conditioned @ change.T) <= 1.1 * optimum
    assert all(solve_layer(layer, gram, 0.5, solver=name).error > found.error for name in ("magnitude", "wanda", "random"))


def test_what_survives_exact_obs_is_the_least_squares_solution_and_what_survives_sparsegpt_is_not(oracles):
    layer, inputs, weight, _ = draw("3x3")
    gram = gram_matrix(layer, inputs)
    conditioned = oracles.damped(gram[0])[0]
    gaps = {}
    for solver in ("exact_obs", "sparsegpt"):
        found = solve_layer(layer, gram, 0.5, solver=solver)
        rows = zip(weight[0], found.weight.view(weight[0].shape), found.mask.view(weight[0].shape), strict=True)
        # A least-squares solution leaves nothing that correlates with what it may use.
        gaps[solver] = max(float((conditioned[mask] @ (old - new)).abs().max()) for old, new, mask in rows)
    assert gaps["exact_obs"] < 1e-9 < 1e-3 < gaps["sparsegpt"]


def test_grouped_convolutions_share_one_selection(oracles):
    layer, inputs, weight, _ = draw("grouped")
    gram = gram_matrix(layer, inputs)
    weight[1] *= 0.01  # the second group's weights cost next to nothing, so they all go first
    found = solve_layer(layer, gram, 0.5, solver="exact_obs")
    assert found.mask[:2].all()
    assert not found.mask[2:].any()


# ------------------------------------------------------------------------------------------------------------ all solvers


@pytest.mark.parametrize("solver", LAYER_SOLVERS)
@pytest.mark.parametrize("name", LAYERS)
def test_counts_are_those_of_the_quotas_and_level_0_changes_nothing(name, solver):
    layer, inputs, weight, taps = draw(name)
    gram = gram_matrix(layer, inputs)
    untouched = solve_layer(layer, gram, 0, solver=solver)
    assert torch.equal(untouched.weight, layer.weight)
    assert untouched.mask.all()
    assert untouched.error == 0
    found = solve_layer(layer, gram, 0.7, solver=solver)
    assert found.weight.shape == found.mask.shape == layer.weight.shape
    assert not found.weight[~found.mask].any()
    assert found.error > 0
    assert found.seconds > 0
    if not solver.startswith("exact_obs"):
        kept = found.mask.view(*weight.shape[:2], -1, taps).sum((1, 3))
        assert (kept == kept_count(weight.shape[1] * taps, 0.7)).all()
    assert torch.equal(found.weight, solve_layer(layer, gram, 0.7, solver=solver).weight)


def test_controls_keep_their_weights_and_choose_as_they_say():
    layer, inputs, weight, _ = draw("3x3")
    gram = gram_matrix(layer, inputs)
    scores = {"magnitude": weight[0].abs(), "wanda": weight[0].abs() * gram[0].diagonal().sqrt()}
    keep = kept_count(4 * 9, 0.7)
    for solver in ("magnitude", "wanda", "random", "sparsegpt_mask"):
        found = solve_layer(layer, gram, 0.7, solver=solver)
        assert torch.equal(found.weight, layer.weight * found.mask)
        for channel in range(3) if solver in scores else ():
            score = scores[solver].view(4, 3, 9)[:, channel]
            assert torch.equal(found.mask.view(4, 3, 9)[:, channel], score >= score.flatten().sort().values[-keep])
    assert torch.equal(solve_layer(layer, gram, 0.7, solver="sparsegpt_mask").mask, solve_layer(layer, gram, 0.7).mask)
    seeds = [solve_layer(layer, gram, 0.7, solver="random", seed=seed).mask for seed in (0, 1)]
    assert not torch.equal(*seeds)


def test_updates_are_worth_something_and_the_exact_solver_more():
    torch.manual_seed(0)
    layer = nn.Linear(40, 30)
    gram = gram_matrix(layer, torch.randn(300, 40).relu() @ torch.randn(40, 40))
    order = ["exact_obs", "sparsegpt", "sparsegpt_mask", "random"]
    errors = [solve_layer(layer, gram, 0.6, solver=solver).error for solver in order]
    assert errors == sorted(errors)
    assert errors[1] < errors[2] / 2


@pytest.mark.parametrize("solver", ["sparsegpt", "exact_obs", "exact_obs_kernel"])
def test_dead_columns_go_first_and_shift_nothing(oracles, solver):
    layer, inputs, weight, _ = draw("3x3")
    inputs[:, 1] = 0
    gram = gram_matrix(layer, inputs)
    found = solve_layer(layer, gram, 0.5, solver=solver)
    assert not found.weight[:, 1].any()
    # Without the silent channel the rest comes out the same, at the same counts: it has no part in the damping.
    smaller = nn.Conv2d(2, 4, 3, padding=1)
    smaller.weight.data = layer.weight[:, [0, 2]].clone()
    total, rest = weight[0].numel(), smaller.weight.numel()
    level = 0.5 if solver == "sparsegpt" else 1 - kept_count(total, 0.5) / rest
    if solver == "exact_obs_kernel":
        level = 1 - kept_count(12, 0.5) / 8
    alone = solve_layer(smaller, gram_matrix(smaller, inputs[:, [0, 2]]), level, solver=solver)
    torch.testing.assert_close(found.weight[:, [0, 2]], alone.weight)
    assert found.error == pytest.approx(alone.error, abs=1e-9)
    if solver == "sparsegpt":  # counts hold in a silent channel as well
        assert found.mask[:, 1].sum() == kept_count(36, 0.5)


def test_a_layer_that_sees_nothing_at_all_loses_nothing():
    layer, inputs, _, _ = draw("3x3")
    for solver in LAYER_SOLVERS:
        assert solve_layer(layer, gram_matrix(layer, 0 * inputs), 0.5, solver=solver).error == 0


def test_ties_break_the_same_way_every_time():
    layer, inputs, _, _ = draw("1x1")
    layer.weight.data.fill_(1.0)
    gram = gram_matrix(layer, inputs)
    for solver in LAYER_SOLVERS:
        first, second = (solve_layer(layer, gram, 0.5, solver=solver) for _ in range(2))
        assert torch.equal(first.mask, second.mask)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 1.0}, r"sparsity 1.0: must be at least 0 and below 1"),
        ({"level": -0.1}, r"sparsity -0.1"),
        ({"level": float("nan")}, r"sparsity nan"),
        ({"solver": "sparse_gpt"}, r"solver='sparse_gpt': must be one of .*Did you mean 'sparsegpt'"),
        ({"damping": -1.0}, r"damping=-1.0: must be at least 0"),
        ({"gram": torch.eye(27)}, r"gram is torch.float32 of shape \(27, 27\).* float32 or float64 of \(1, 27, 27\)"),
        ({"gram": torch.eye(27)[None].long()}, r"gram is torch.int64"),
        ({"gram": torch.full((1, 27, 27), torch.inf)}, r"the Gram matrix has values that are NaN or infinite"),
        ({"layer": nn.Conv1d(3, 4, 9)}, r"Conv1d cannot be solved: layers must be Conv2d or Linear"),
    ],
)
def test_bad_input_gets_one_clear_error(change, message):
    layer, inputs, _, _ = draw("3x3")
    arguments = {"layer": layer, "gram": gram_matrix(layer, inputs), "level": 0.5, **change}
    with pytest.raises(ValueError, match=message):
        solve_layer(**arguments)


def test_inputs_must_fit_the_layer_and_weights_be_finite():
    layer, inputs, _, _ = draw("3x3")
    with pytest.raises(ValueError, match=r"inputs of shape \(3, 7, 6\): Conv2d takes \(images, 3, height, width\)"):
        gram_matrix(layer, inputs[0])
    with pytest.raises(ValueError, match=r"inputs of shape \(4, 8\): Linear takes \(..., 9\)"):
        gram_matrix(nn.Linear(9, 6), torch.zeros(4, 8))
    with pytest.raises(ValueError, match="2 x 2 pixels are smaller than the kernel 3 x 3"):
        gram_matrix(nn.Conv2d(3, 4, 3), inputs[..., :2, :2])
    gram = gram_matrix(layer, inputs)
    layer.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the layer's weight has values that are NaN"):
        solve_layer(layer, gram, 0.5)
