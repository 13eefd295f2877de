"""Language models: shapes, names of layers, files; and that an answer is what greedy decoding gives."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from effnotes.datasets.worlds import World
from effnotes.finetuning.editing.scores import object_probabilities
from effnotes.models.answers import answer, answer_log_probabilities, read
from effnotes.models.language import (
    LANGUAGE_MODELS,
    LanguageModelShape,
    block,
    block_linears,
    build_language_model,
    load_language_model,
    mlp_output,
    save_language_model,
    weights_digest,
)

WORLD = World(48, 2, 8, seed=3)
TWO_TOKENS = World(20, 1, 1200, tokens_per_subject=2, seed=3)


def model_of(world: World, name: str = "neox-32x2", scale: float = 30.0) -> nn.Module:
    """An untrained model whose answers differ from prompt to prompt, as those of small weights do not."""
    model = build_language_model(name, world.vocab_size, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1.0)
    return model


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_named_model_has_the_shape_and_maps_tokens_to_logits(name: str) -> None:
    model = build_language_model(name, 50, seed=0)
    assert model(input_ids=torch.zeros(3, 7, dtype=torch.long)).logits.shape == (3, 7, 50)
    assert not model.training
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight


def test_the_specified_sizes() -> None:
    assert build_language_model("pythia-31m", 5200, seed=0).num_parameters() == pytest.approx(7.40e6, rel=0.002)
    assert build_language_model("neox-64x2", 920, seed=0).num_parameters() == pytest.approx(217_600, rel=0.005)


def test_weights_follow_from_the_seed_and_leave_the_global_state() -> None:
    state = torch.get_rng_state()
    first, again, other = (build_language_model("neox-32x1", 30, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert weights_digest(first) == weights_digest(again) != weights_digest(other)


@pytest.mark.parametrize(("name", "per_block"), [("neox-64x2", (2, 2)), ("llama-64x2", (4, 3))])
def test_linear_layers_are_found_by_what_they_belong_to(name: str, per_block: tuple[int, int]) -> None:
    model = build_language_model(name, 30, seed=0)
    attention, mlp, both = (block_linears(model, kind) for kind in ("attention", "mlp", "linears"))
    assert (len(attention), len(mlp)) == (2 * per_block[0], 2 * per_block[1])
    assert set(both) == set(attention) | set(mlp)
    assert not set(attention) & set(mlp)
    every = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert every - set(both) == {"lm_head"}
    assert all(".layers.1." in name for name in block_linears(model, "mlp", [1]))
    _, out = mlp_output(model, 1)
    assert out.out_features == 64
    assert out in list(block(model, 1).modules())


def test_impossible_shapes_and_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'neox-64x2'"):
        build_language_model("neox-64x3", 30, seed=0)
    with pytest.raises(ValueError, match="heads=3"):
        LanguageModelShape(width=32, layers=1, heads=3)
    with pytest.raises(ValueError, match="layers=0"):
        LanguageModelShape(width=32, layers=0, heads=2)
    model = build_language_model("neox-32x2", 30, seed=0)
    with pytest.raises(ValueError, match="numbered 0 to 1"):
        block_linears(model, "mlp", [2])
    with pytest.raises(ValueError, match="layers is empty"):
        block_linears(model, "mlp", [])
    with pytest.raises(ValueError, match="not known here"):
        block_linears(nn.Linear(2, 2))


def test_a_saved_model_is_a_hugging_face_folder_of_safetensors(tmp_path) -> None:
    model = model_of(WORLD)
    save_language_model(model, tmp_path / "kept", WORLD.hf_tokenizer())
    assert {path.name for path in (tmp_path / "kept").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt"))
    assert weights_digest(load_language_model(tmp_path / "kept")) == weights_digest(model)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "kept")
    sentences = WORLD.encode(WORLD.facts().take(slice(3)), "sro")
    text = WORLD.words.text(sentences.tokens[0])
    assert tokenizer(text)["input_ids"] == sentences.tokens[0].tolist()
    assert weights_digest(theirs) == weights_digest(model)
    with pytest.raises(FileExistsError):
        save_language_model(model, tmp_path / "kept")


@pytest.mark.parametrize("world", [WORLD, TWO_TOKENS], ids=["one token", "two tokens"])
def test_an_answer_is_exact_if_and_only_if_greedy_decoding_gives_it(world: World) -> None:
    model = model_of(world)
    facts = world.facts()
    # Ask for what decoding gives, for one half of the prompts: then both outcomes occur.
    asked = world.encode(facts, "sro")
    tokens = asked.tokens.copy()
    width = int(asked.answer_length[0])
    decoded = np.zeros((len(facts), width), dtype=int)
    for row, start in enumerate(asked.answer.tolist()):
        text = torch.from_numpy(asked.tokens[row : row + 1, :start].astype(np.int64))
        for _ in range(width):
            text = torch.cat([text, model(input_ids=text).logits[:, -1:].argmax(-1)], dim=1)
        decoded[row] = text[0, start:].numpy()
        if row % 2:
            tokens[row, start : start + width] = decoded[row]
            if row % 4 == 1 and width == 2:  # first token right, second wrong: fractional credit would show
                tokens[row, start + 1] = (decoded[row, 1] + 1) % world.vocab_size
    asked = replace(asked, tokens=tokens)
    by_decoding = [
        bool((tokens[row, start : start + width] == decoded[row]).all()) for row, start in enumerate(asked.answer.tolist())
    ]
    answers = answer(model, asked, batch_size=7)
    assert answers.exact.tolist() == by_decoding
    assert 0 < sum(by_decoding) < len(by_decoding)


@pytest.mark.parametrize("form", ["sro", "rso"])
def test_probabilities_are_products_over_the_answers_tokens(form: str) -> None:
    world = TWO_TOKENS
    model = model_of(world)
    asked = world.encode(world.facts().take(slice(5)), form)
    expected = []
    for row in range(5):
        product, start = 1.0, int(asked.answer[row])
        for place in range(start, start + 2):
            prefix = torch.from_numpy(asked.tokens[row : row + 1, :place].astype(np.int64))
            product *= model(input_ids=prefix).logits[0, -1].softmax(0)[asked.tokens[row, place]].item()
        expected.append(product)
    assert answer(model, asked, batch_size=2).probability == pytest.approx(expected, rel=1e-4)


def test_log_probabilities_are_those_at_the_answer_whatever_the_batch() -> None:
    model = model_of(WORLD)
    asked = WORLD.encode(WORLD.facts(), "sro")
    table = answer_log_probabilities(model, asked, batch_size=5)
    assert table.shape == (96, 1, WORLD.vocab_size)
    assert np.exp(table).sum(axis=-1) == pytest.approx(1.0, abs=1e-4)
    own = asked.tokens[np.arange(96), asked.answer]
    assert np.exp(table[np.arange(96), 0, own]) == pytest.approx(answer(model, asked).probability, rel=1e-4)


def test_a_sentence_is_read_as_it_is_written_token_by_token() -> None:
    world = World(6, 2, 4, templates={"repeats": 1.0}, repeats=1)
    model = model_of(world)
    asked = world.encode(world.facts(), "repeats")
    assert len(set(asked.length.tolist())) > 1
    found = read(model, asked, batch_size=5)
    for row, n in enumerate(asked.length.tolist()):
        assert found.inside[row].sum() == n - 1
        for place in range(1, n):
            logits = model(input_ids=torch.from_numpy(asked.tokens[row : row + 1, :place].astype(np.int64))).logits[0, -1]
            token = int(asked.tokens[row, place])
            assert found.log_p[row, place - 1] == pytest.approx(float(logits.log_softmax(0)[token].detach()), rel=1e-4)
            assert found.is_greedy[row, place - 1] == (int(logits.argmax()) == token)


def test_object_probabilities_are_one_answer_each() -> None:
    model = model_of(WORLD)
    facts = WORLD.facts().take(slice(10))
    table = object_probabilities(model, WORLD, facts, "rso")
    assert table.shape == (10, 8)
    for value in range(8):
        assert table[:, value] == pytest.approx(answer(model, WORLD.encode(facts.saying(value), "rso")).probability, rel=1e-5)


def test_objects_of_two_tokens_have_probabilities_too() -> None:
    model = model_of(TWO_TOKENS)
    facts = TWO_TOKENS.facts().take(slice(1))
    table = object_probabilities(model, TWO_TOKENS, facts, "sro")
    assert table.shape == (1, 1200)
    assert 0 < table.sum() <= 1 + 1e-6


def test_nothing_asked_is_nothing_answered() -> None:
    model, nothing = model_of(WORLD), WORLD.facts().take(slice(0, 0))
    asked = WORLD.encode(nothing, "sro")
    assert len(answer(model, asked).exact) == len(answer_log_probabilities(model, asked)) == 0
    assert object_probabilities(model, WORLD, nothing, "sro").shape == (0, 8)


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("effnotes.training.pretraining, effnotes.finetuning.editing.edit", {"transformers", "peft", "torchvision"}),
        ("effnotes.finetuning, effnotes.finetuning.tune", {"transformers", "effnotes.datasets.worlds", "effnotes.metrics"}),
    ],
)
def test_names_and_recipes_do_not_wait_for_what_they_do_not_need(modules: str, without: set[str]) -> None:
    code = f"import sys, {modules}; print(*{without!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
