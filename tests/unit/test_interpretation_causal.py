"""Causal tracing, on models whose wiring says what comes back, and against a run with the same noisy embeddings."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnotes.datasets.worlds import World
from effnotes.interpretation.causal import PLACES, causal_trace
from effnotes.models.answers import answer
from effnotes.models.language import block, build_language_model, weights_digest

WORLD = World(12, 2, 4, repeats=1)
FACTS = WORLD.facts().take(slice(3, 10))
OUT = {"neox-32x2": "attention.dense", "llama-64x2": "self_attn.o_proj"}


def model_of(name: str = "neox-32x2", world: World = WORLD, silent: int | None = None) -> nn.Module:
    """An untrained model with weights that are large enough for answers to differ, whose attention is silent in one block."""
    model = build_language_model(name, world.vocab_size, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(15 if parameter.ndim > 1 else 1)
        if silent is not None:
            for parameter in block(model, silent).get_submodule(OUT[name]).parameters():
                parameter.zero_()
    return model


def means(table, column: str = "recovered") -> dict[tuple[str, int], np.ndarray]:
    return {key: part[column].to_numpy() for key, part in table.groupby(["place", "layer"])}


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("form", ["sro", "rso"])
def test_what_comes_back_in_any_model(name: str, form: str) -> None:
    model = model_of(name)
    before, state = weights_digest(model), torch.get_rng_state()
    table = causal_trace(model, WORLD, FACTS, form, draws=3)
    assert weights_digest(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert set(zip(table["place"], table["layer"], strict=True)) == {(place, layer) for place in PLACES for layer in (0, 1)}
    assert len(table) == 6 * len(FACTS)
    clean = answer(model, WORLD.encode(FACTS, form)).probability
    assert means(table, "clean")["last", 1] == pytest.approx(clean, rel=1e-4)
    assert (np.abs(table["clean"] - table["corrupted"]) > 1e-3).any()
    # The last state of the prompt is all that the answer is read from; what the others have become then is not read at all.
    assert means(table, "restored")["last", 1] == pytest.approx(clean, rel=1e-4)
    for place in ("subject", "relation"):
        assert means(table)[place, 1] == pytest.approx(0, abs=1e-6)
    relation = np.abs(means(table)["relation", 0]).max()
    if form == "rso":  # what stands before the subject is as it was
        assert relation == pytest.approx(0, abs=1e-6)
    else:
        assert relation > 1e-4
    assert table["recovered"].to_numpy() == pytest.approx((table["restored"] - table["corrupted"]).to_numpy())


@pytest.mark.parametrize("name", OUT)
def test_the_block_whose_attention_works_decides_where_the_fact_is(name: str) -> None:
    late = causal_trace(model_of(name, silent=0), WORLD, FACTS, draws=3)
    # Behind block 0 all is still where it was read: the subject has everything, the other places have nothing of it.
    assert means(late, "restored")["subject", 0] == pytest.approx(means(late, "clean")["subject", 0], rel=1e-4)
    assert np.abs(means(late)["subject", 0] / means(late, "clean")["subject", 0]).max() > 0.05
    for place in ("relation", "last"):
        assert means(late)[place, 0] == pytest.approx(0, abs=1e-6)
    early = causal_trace(model_of(name, silent=1), WORLD, FACTS, draws=3)
    # Behind block 0 all has come to the end of the prompt.
    assert means(early, "restored")["last", 0] == pytest.approx(means(early, "clean")["last", 0], rel=1e-4)
    assert np.abs(means(early)["last", 0] / means(early, "clean")["last", 0]).max() > 0.05
    for place in ("subject", "relation"):
        assert means(early)[place, 0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("tokens_per_subject", [1, 2])
def test_all_tokens_of_the_subject_are_spoilt_and_no_others(tokens_per_subject: int) -> None:
    world = World(40, 2, 4, repeats=1, tokens_per_subject=tokens_per_subject)
    model, facts = model_of(world=world), world.facts()
    embedded: list[Tensor] = []
    handle = block(model, 0).register_forward_pre_hook(
        lambda _module, args, kwargs: embedded.append((args[0] if args else kwargs["hidden_states"]).clone()), with_kwargs=True
    )
    table = causal_trace(model, world, facts, noise=2.0, draws=2)
    handle.remove()
    asked = world.encode(facts, "sro")
    tokens = torch.from_numpy(asked.tokens.astype(np.int64))
    weight = model.get_input_embeddings().weight.detach()
    noisy = [each for each in embedded if not torch.equal(each, weight[tokens])]
    subjects = world.words.subjects[:, :tokens_per_subject]
    is_subject = torch.isin(tokens, torch.from_numpy(subjects))
    assert (is_subject.sum(dim=1) == tokens_per_subject).all()
    noise = torch.stack([each - weight[tokens] for each in noisy])
    assert not noise[:, ~is_subject].any()
    entries = weight[torch.from_numpy(np.unique(subjects))]
    assert float(noise[:, is_subject].std()) == pytest.approx(2 * float(entries.std()), rel=0.03)
    # One noise for all that is compared, another one for each draw: the corrupted probability is the mean of two runs.
    different = [noisy[0], next(each for each in noisy if not torch.equal(each, noisy[0]))]
    rows = torch.arange(len(facts))
    with torch.no_grad():
        log_p = [model(inputs_embeds=each).logits[rows, torch.from_numpy(asked.answer - 1)].log_softmax(-1) for each in different]
    expected = torch.stack([each[rows, tokens[rows, torch.from_numpy(asked.answer)]].exp() for each in log_p]).mean(dim=0)
    assert means(table, "corrupted")["last", 0] == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-7)


def test_facts_are_traced_one_by_one_and_the_seed_decides(monkeypatch) -> None:
    model = model_of()
    table = causal_trace(model, WORLD, FACTS, draws=2)
    assert table.equals(causal_trace(model, WORLD, FACTS, draws=2))
    assert not table["corrupted"].equals(causal_trace(model, WORLD, FACTS, draws=2, seed=1)["corrupted"])
    monkeypatch.setattr("effnotes.interpretation.causal._FACTS_AT_A_TIME", 3)
    in_parts = causal_trace(model, WORLD, FACTS, draws=2)
    assert sorted(in_parts["fact"].unique()) == list(range(len(FACTS)))
    order = ["place", "layer", "fact"]
    columns = ["clean", *order]
    pair = [each.sort_values(order)[columns].reset_index(drop=True) for each in (table, in_parts)]
    assert pair[0][order].equals(pair[1][order])
    assert pair[0]["clean"].to_numpy() == pytest.approx(pair[1]["clean"].to_numpy(), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: causal_trace(model_of(), WORLD, FACTS, "sor"), "form='sor'"),
        (lambda: causal_trace(model_of(), WORLD, FACTS, noise=0.0), "noise=0.0"),
        (lambda: causal_trace(model_of(), WORLD, FACTS, draws=0), "draws=0"),
        (lambda: causal_trace(model_of(), WORLD, FACTS.take(slice(0, 0))), "no facts"),
    ],
)
def test_what_cannot_be_traced_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
