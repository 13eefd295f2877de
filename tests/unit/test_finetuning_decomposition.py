"""Cutting a difference to low rank, to few entries and to both; and a base of 4 bits."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from effnotes.finetuning import Pool, TuneRecipe, decompose, finetune, quantise_base, truncate_difference
from effnotes.models.language import LanguageModelShape, block_linears, build_language_model, weights_digest
from effnotes.models.rows import Rows

SIZES = {"a": (40, 24), "b": (24, 60)}


def drawn(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator) for name, size in SIZES.items()} | {"bias": torch.ones(5)}


def left(difference: dict[str, Tensor], cut: dict[str, Tensor]) -> float:
    off = sum(float(np.sum((difference[name].numpy() - cut[name].numpy()) ** 2)) for name in difference)
    return float(np.sqrt(off / sum(float(np.sum(each.numpy() ** 2)) for each in difference.values())))


def test_one_part_alone_is_the_best_of_its_kind() -> None:
    difference = drawn()
    low, few = decompose(difference, 3, 0.0), decompose(difference, 0, 0.1)
    for name, change in truncate_difference(difference, 3).items():
        assert torch.equal(low.difference[name], change)
    for name in SIZES:
        flat = difference[name].flatten()
        kept = sorted(range(len(flat)), key=lambda i, flat=flat: -abs(float(flat[i])))[: len(flat) // 10]
        expected = torch.zeros_like(flat)
        expected[kept] = flat[kept]
        assert torch.equal(few.difference[name].flatten(), expected)
    assert torch.equal(few.difference["bias"], difference["bias"])
    for found in (low, few):
        assert found.error == [pytest.approx(left(difference, found.difference), rel=1e-5)]
    assert decompose({"w": torch.zeros(6, 5)}, 1, 0.1).error[-1] == 0


def test_the_error_of_both_parts_never_grows_and_each_keeps_its_size() -> None:
    difference = drawn(1)
    found = decompose(difference, 3, 0.1)
    assert len(found.error) == 20
    assert all(later <= earlier + 1e-7 for earlier, later in zip(found.error, found.error[1:], strict=False))
    assert found.error[-1] < 0.99 * found.error[0]
    assert found.error[-1] == pytest.approx(left(difference, found.difference), rel=1e-5)
    for name in SIZES:
        assert int(torch.linalg.matrix_rank(found.low_rank[name].double(), rtol=1e-5)) == 3
        assert int((found.sparse[name] != 0).sum()) == difference[name].numel() // 10


def test_a_planted_sum_is_found_where_neither_part_alone_finds_it() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(60, 2, generator=generator) @ torch.randn(2, 50, generator=generator)
    sparse = torch.zeros(60, 50)
    sparse.view(-1)[torch.randperm(3000, generator=generator)[:90]] = 10 * torch.randn(90, generator=generator).sign()
    both = decompose({"w": low + sparse}, 2, 0.03, rounds=60)
    assert both.error[-1] < 1e-3
    assert torch.allclose(both.sparse["w"], sparse, atol=0.05)
    # As many numbers: 2 (60 + 50) + 90 = 310.
    assert decompose({"w": low + sparse}, 3, 0.0).error[-1] > 0.3
    assert decompose({"w": low + sparse}, 0, 310 / 3000).error[-1] > 0.3


@pytest.mark.parametrize(
    ("rank", "density", "message"),
    [(0, 0.0, "rank=0, density=0: nothing would be kept"), (-1, 0.1, "rank=-1"), (1, 1.5, "density=1.5: must be from 0 to 1")],
)
def test_cuts_that_cannot_be_are_refused(rank: int, density: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(drawn(), rank, density)


# --- a base of 4 bits ---------------------------------------------------------------------------------------------------------

# Of the paper's appendix E (arXiv 2305.14314).
NF4 = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0]
NF4 += [0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]


def base_128() -> Any:
    return build_language_model(LanguageModelShape(width=128, layers=1, heads=4, mlp_width=352, family="llama"), 40, seed=0)


def test_weights_are_rounded_to_the_nearest_level_of_their_block() -> None:
    base = base_128()
    before = weights_digest(base)
    found = quantise_base(base)
    assert weights_digest(base) == before
    levels = np.array(NF4, dtype=np.float32)
    for name, linear in block_linears(base).items():
        old = linear.weight.detach().numpy().reshape(-1, 64)
        new = found.model.get_submodule(name).weight.detach().numpy().reshape(-1, 64)
        assert 0.085 < np.linalg.norm(new - old) / np.linalg.norm(old) < 0.1
        scale = np.abs(old).max(axis=1, keepdims=True)
        nearest = levels[np.abs(old[..., None] / scale[..., None] - levels).argmin(axis=-1)] * scale
        # The scales are rounded too, to 8 bits: values are near those of the exact scale, but for some in the middle of two levels.
        assert np.mean(np.abs(new - nearest) < 0.01 * scale) > 0.98
    changed = {name for name, weight in base.named_parameters() if not torch.equal(weight, found.model.get_parameter(name))}
    assert changed == {f"{name}.weight" for name in block_linears(base)}


def test_bytes_are_those_of_the_packed_form() -> None:
    found = quantise_base(base_128())
    n = 4 * 128**2 + 3 * 128 * 352
    assert found.dense_bytes == 4 * n
    assert found.packed_bytes == n // 2 + n // 64 + 4 * (n // 4096) + 4 * 7
    assert 7.7 < found.dense_bytes / found.packed_bytes < 7.8


@pytest.mark.parametrize(
    "recipe", [TuneRecipe("lora", rank=2, checkpoints=(2,)), TuneRecipe("rosa", rank=2, density=0.01, checkpoints=(2,))]
)
def test_adapters_are_tuned_on_it(recipe: TuneRecipe) -> None:
    base = quantise_base(base_128()).model
    tokens = torch.randint(40, (8, 12), generator=torch.Generator().manual_seed(0))
    rows = Rows(tokens, torch.full((8,), 12), torch.full((8,), 8), torch.full((8,), 4))
    found = finetune(base, [Pool(rows)], recipe)
    assert all(change.any() for change in found.difference.values())


def test_a_width_that_does_not_fit_is_refused() -> None:
    base = build_language_model("llama-64x2", 40, seed=0)
    with pytest.raises(ValueError, match=r"gate_proj.weight has 11008 numbers: NF4 packs blocks of 64 x 64 = 4096 numbers"):
        quantise_base(base)


def test_gpt2_is_quantised_too() -> None:
    config = transformers.GPT2Config(vocab_size=40, n_embd=64, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
    base = transformers.GPT2LMHeadModel(config)
    found = quantise_base(base)
    assert found.dense_bytes == 4 * 12 * 64**2
    assert found.model.get_output_embeddings().weight is found.model.get_input_embeddings().weight


@pytest.mark.slow
def test_nothing_is_printed_when_torchao_is_loaded() -> None:
    code = "from effnotes.finetuning import quantise_base; from effnotes.models.language import build_language_model\n"
    code += "quantise_base(build_language_model('neox-64x2', 40, seed=0))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout + ended.stderr == ""
