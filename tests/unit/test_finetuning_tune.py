"""Fine-tuning on plain rows of token ids, for models of several families; recipes and objectives that go to JSON."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from effnotes.core.settings import from_json, to_json
from effnotes.finetuning import NPO, RMU, EditRecipe, GradDiff, Learn, Pool, SimNPO, TuneRecipe, apply_difference, finetune
from effnotes.finetuning.tune import Batches
from effnotes.models.answers import Questions, answer
from effnotes.models.language import (
    block_linears,
    load_language_model,
    mlp_output,
    mlp_units,
    n_layers,
    residual_stream,
    weights_digest,
)
from effnotes.models.rows import Rows

VOCABULARY, CONTEXT = 40, 128
_COMMON = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_COMMON |= {"max_position_embeddings": CONTEXT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {  # with the linear layers of a block: attention, MLP
    "gpt_neox": ("GPTNeoX", {}, (2, 2)),
    "llama, tied": ("Llama", {"tie_word_embeddings": True}, (4, 3)),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}, (4, 3)),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 16}, (4, 3)),
    "gpt2": ("GPT2", {}, (2, 2)),  # Conv1D in place of linear layers, and tied
    "gemma2": ("Gemma2", {"head_dim": 8, "num_key_value_heads": 2}, (4, 3)),  # caps its logits
    "opt": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}, (4, 2)),  # the MLP's are in the block itself
}


def model_of(family: str) -> Any:
    name, own, _ = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**_COMMON | own)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # so large that blocks alone can say any token
        for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            weight.mul_(15)
    return model


def rows_of(n: int = 6, width: int = 70, seed: int = 0) -> Any:
    """Texts of different lengths, up to more than 64 tokens, with token 1 among them, behind them and in answers."""
    rng = np.random.default_rng(seed)
    length = np.concatenate([[width], rng.integers(8, width, size=n - 1)])
    tokens = rng.integers(VOCABULARY, size=(n, width))
    answer_length = rng.integers(1, 4, size=n)
    tokens[np.arange(n), length - 1] = 1
    tokens[np.arange(width) >= length[:, None]] = 1
    return SimpleNamespace(tokens=tokens, length=length, answer=length - answer_length, answer_length=answer_length)


ROWS = rows_of()
QUICK = TuneRecipe(learning_rate=1e-2, checkpoints=(2, 30), batch_size=6)


def probability(model: nn.Module) -> dict[str, float]:
    return {"probability": float(answer(model, ROWS).probability.mean())}


# --- families -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_learns_rows_of_any_length(family: str, rank: int | None) -> None:
    base = model_of(family)
    before = weights_digest(base)
    recipe = replace(QUICK, method="full" if rank is None else "lora", rank=rank)
    found = finetune(base, [Pool(ROWS)], recipe, observe=probability)
    assert weights_digest(base) == before
    assert found.history["step"].tolist() == [0, 2, 30]
    assert found.history["probability"].iloc[-1] > 10 * found.history["probability"].iloc[0]
    linears = block_linears(base)
    assert set(found.difference) == {f"{name}.weight" for name in linears}
    changes = found.difference.values()
    assert found.n_trainable == sum(change.numel() if rank is None else rank * sum(change.shape) for change in changes)
    if rank is not None:
        assert all(torch.linalg.matrix_rank(change.double(), rtol=1e-4) <= rank for change in changes)
    assert type(found.model) is type(base)
    again = apply_difference(base, found.difference)
    assert probability(again) == pytest.approx(probability(found.model), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_layers_are_found_by_rule_in_every_block(family: str) -> None:
    model, (attention, mlp) = model_of(family), FAMILIES[family][2]
    assert n_layers(model) == 2
    assert len(block_linears(model, "attention")) == 2 * attention
    assert len(block_linears(model, "mlp")) == 2 * mlp
    head = model.get_output_embeddings()
    every = {name for name, each in model.named_modules() if isinstance(each, nn.Linear | transformers.pytorch_utils.Conv1D)}
    assert {name for name in every if model.get_submodule(name) is not head} == set(block_linears(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_states_inside_and_answers_at_some_places_are_those_of_the_whole_model(family: str) -> None:
    model, rows = model_of(family), Rows.of(ROWS)
    with torch.no_grad():
        stream = model(input_ids=rows.tokens, output_hidden_states=True).hidden_states[1]  # behind block 0
        assert torch.allclose(residual_stream(model, rows.tokens, 0), stream, atol=1e-6)
        if family == "gpt2":
            with pytest.raises(ValueError, match="not a plain linear layer"):
                mlp_output(model, 0)
        else:
            _, out = mlp_output(model, 1)
            assert mlp_units(model, rows.tokens, 1).shape == (*rows.tokens.shape, out.in_features)
            assert out.out_features == 32
    found, expected = Questions.of(ROWS).ask(model, 4), answer(model, ROWS)
    assert found.exact.tolist() == expected.exact.tolist()
    assert found.probability == pytest.approx(expected.probability, rel=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama, tied", "qwen2"])
def test_all_parameters_are_trained_tied_ones_once(family: str) -> None:
    base = model_of(family)
    found = finetune(base, [Pool(ROWS)], replace(QUICK, blocks="all"), observe=probability)
    assert found.n_trainable == base.num_parameters()
    assert all(change.any() for change in found.difference.values())
    assert found.history["probability"].iloc[-1] > 0.5
    tied = base.get_input_embeddings().weight is base.get_output_embeddings().weight
    assert (found.model.get_input_embeddings().weight is found.model.get_output_embeddings().weight) == tied
    assert probability(apply_difference(base, found.difference)) == pytest.approx(probability(found.model), rel=1e-3)


def test_a_model_in_several_files_is_read(tmp_path) -> None:
    model = model_of("llama, tied")
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    loaded = load_language_model(tmp_path / "parts")
    assert weights_digest(loaded) == weights_digest(model)
    assert loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight


@pytest.mark.parametrize(
    ("name", "part", "blocks", "message"),
    [
        ("mlp_extra", nn.Linear(2, 2), [1], "mlp_extra.*must be the same in all"),
        ("odd", nn.Linear(2, 2), [0, 1], "odd is neither of attention nor of an MLP"),
        ("mlp", nn.Identity(), [0, 1], "none of them of their mlp"),
    ],
)
def test_blocks_that_cannot_be_told_apart_are_refused(name: str, part: nn.Module, blocks: list[int], message: str) -> None:
    model = model_of("qwen2")
    for number in blocks:
        model.model.layers[number].add_module(name, part)
    with pytest.raises(ValueError, match=message):
        block_linears(model)


def test_adapters_are_to_be_merged_first() -> None:
    def observe(model: nn.Module) -> dict[str, float]:
        with pytest.raises(ValueError, match="merge adapters first"):
            block_linears(model)
        return {}

    finetune(model_of("qwen2"), [Pool(ROWS)], replace(QUICK, method="lora", rank=1, checkpoints=(1,)), observe=observe)


# --- pools, padding and contexts ----------------------------------------------------------------------------------------------


def test_what_stands_in_the_padding_changes_nothing() -> None:
    other = SimpleNamespace(**vars(ROWS) | {"tokens": ROWS.tokens.copy()})
    other.tokens[np.arange(70) >= ROWS.length[:, None]] = 23
    for objective in (Learn(), Learn(on="sentence"), RMU()):
        recipe = replace(QUICK, objective=objective, checkpoints=(3,))
        digests = [weights_digest(finetune(model_of("qwen2"), [Pool(rows)], recipe).model) for rows in (ROWS, other)]
        assert digests[0] == digests[1], objective


def test_rows_that_the_model_cannot_read_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 129 tokens, but the model reads at most 128"):
        finetune(model_of("gpt2"), [Pool(rows_of(2, 129))], QUICK)


def test_pools_have_their_shares_of_every_batch() -> None:
    parts = [rows_of(seed=seed) for seed in range(3)]
    pools = [Pool(parts[0], 2.0), Pool(parts[1], 1.0, retained=True), Pool(parts[2], 1.0), Pool(parts[1], 0.0)]
    changed, kept = next(iter(Batches(pools, 8, 0, torch.device("cpu"))))
    own = [{tuple(row) for row in part.tokens.tolist()} for part in parts]
    drawn = [tuple(row) for row in changed.tokens.tolist()]
    assert [row in own[0] for row in drawn] == [True] * 4 + [False] * 2
    assert all(row in own[2] for row in drawn[4:])
    assert len(kept) == 2
    assert all(tuple(row) in own[1] for row in kept.tokens.tolist())
    with pytest.raises(ValueError, match="nothing to train on"):
        finetune(model_of("qwen2"), [Pool(ROWS, retained=True)], QUICK)


# --- recipes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective", [Learn(on="sentence"), GradDiff(0.0), GradDiff(2.0), NPO(), NPO(beta=0.1), SimNPO(), RMU(layer=1)], ids=repr
)
@pytest.mark.parametrize("kind", [TuneRecipe, EditRecipe])
def test_recipes_go_to_json_and_back(kind: type[TuneRecipe], objective: Any) -> None:
    recipe = kind("rosa", rank=2, density=0.1, mask_rule="grad_abs", layers=(1,), checkpoints=(3, 9), objective=objective)
    again = from_json(kind, to_json(recipe))
    assert again == recipe
    assert type(again.objective) is type(objective)


def test_an_objective_of_ones_own_is_taken() -> None:
    @dataclass(frozen=True)
    class Shrink:
        def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:
            return sum((linear.weight**2).sum() for linear in block_linears(model).values())

    base = model_of("qwen2")
    found = finetune(base, [Pool(ROWS)], replace(QUICK, objective=Shrink(), checkpoints=(5,)))
    name = "model.layers.0.mlp.down_proj.weight"
    assert found.model.get_parameter(name).norm() < base.get_parameter(name).norm()
    with pytest.raises(ValueError, match="objective"):
        TuneRecipe(objective="learn")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NPO(beta=0.0), "beta=0.0: must be above 0"),
        (lambda: SimNPO(beta=-1.0), "beta=-1.0: must be above 0"),
        (lambda: GradDiff(retain_weight=-1.0), "retain_weight=-1.0: must be at least 0"),
        (lambda: RMU(layer=-1), "layer=-1: must be at least 0"),
        (lambda: Learn(on="prompt"), "on='prompt': must be one of 'answer', 'sentence'"),
    ],
)
def test_objectives_that_cannot_be_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
