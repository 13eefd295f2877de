"""Causal tracing: which hidden states of a model carry a fact from its prompt to its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.datasets.worlds.graph import Facts
from effnotes.datasets.worlds.sentences import Place, Sentences, last_columns
from effnotes.datasets.worlds.words import ABSENT, RR, SS
from effnotes.datasets.worlds.world import World
from effnotes.models.answers import answer_log_likelihood
from effnotes.models.language import block, n_layers, residual_stream
from effnotes.models.modes import evaluating
from effnotes.models.rows import Rows
from effnotes.models.weights import in_float32

PLACES: tuple[Place, ...] = get_args(Place)
"""Where states are restored: at the last token of the subject, of the relation, and of the prompt."""

_FACTS_AT_A_TIME = 512


def causal_trace(
    model: nn.Module, world: World, facts: Facts, form: str = "sro", *, noise: float = 3.0, draws: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Spoil the subject of each prompt, put one hidden state back as it was, and measure how much of the answer comes back.

    Three runs of the model (Meng et al., NeurIPS 2022, section 2): a clean one; a corrupted one, with Gaussian noise on the
    embeddings of all tokens of the subject; and, for each block and place, the corrupted one with the residual stream behind that
    block, at that place alone, as in the clean run. A state that brings the answer back has all of the subject that the answer
    needs; one that does not may still be needed together with others. Nothing comes back from a state that no attention carries to
    the answer, such as the subject's behind the last block, nor from one that the noise has not reached, such as that of a relation
    before the subject.

    Args:
        model: A causal language model of transformers; it stays as it is. One of another type is taken in float32, with a
            `RuntimeWarning`.
        world: The world that it knows.
        facts: n facts. Take those that the model knows: others have nothing to bring back.
        form: The form in which they are asked, with subject and relation before the answer.
        noise: Standard deviation of the noise, above 0, in units of that of the entries of the subjects' embeddings.
        draws: Times that noise is drawn for each fact, at least 1; probabilities are means over these.
        seed: Of the noise.

    Returns:
        A row for each fact, place and layer: fact (position in `facts`), place (one of `PLACES`), layer (the block, from 0), clean,
        corrupted and restored (probability of the whole answer in the three runs), recovered (restored - corrupted, Meng et al.'s
        indirect effect, -1 to 1).

    Raises:
        ValueError: There are no facts, a number is out of range, the answer does not come last in the form, or as for `in_float32`.
    """
    if not len(facts):
        raise ValueError("there are no facts to trace; give at least one, such as world.facts().take(slice(0, 100))")
    if not noise > 0:
        raise ValueError(f"noise={noise}: must be above 0")
    check_range(1, draws=draws)
    asked = world.encode(facts, form)
    is_prompt = np.arange(asked.tokens.shape[1]) < asked.answer[:, None]
    if not all(((asked.tokens == marker) & is_prompt).any(axis=1).all() for marker in (SS, RR)):
        raise ValueError(f"form={form!r}: subject and relation must stand before the answer; take one such as 'sro' or 'rso'")
    model = in_float32(model)
    deviation = noise * _subject_deviation(model, world, facts)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    with evaluating(model):
        for first in range(0, len(facts), _FACTS_AT_A_TIME):
            traced = _traced(model, world, asked.take(slice(first, first + _FACTS_AT_A_TIME)), deviation, draws, generator)
            parts.append(traced.assign(fact=traced["fact"] + first))
    return pd.concat(parts, ignore_index=True)


def _subject_deviation(model: nn.Module, world: World, facts: Facts) -> float:
    """Standard deviation over all entries of the embeddings of what facts of these kinds can be about."""
    every = world.facts()
    words = world.words.of_facts(every.take(np.isin(every.kind, facts.kind)))[0]
    weight: Tensor = model.get_input_embeddings().weight.detach()  # type: ignore[operator]
    return float(weight[torch.from_numpy(np.unique(words[words != ABSENT])).to(weight.device)].float().std())


@torch.no_grad()
def _traced(
    model: nn.Module, world: World, asked: Sentences, deviation: float, draws: int, generator: torch.Generator
) -> pd.DataFrame:
    device = next(model.parameters()).device
    rows = Rows.of(asked).to(device)
    columns = {place: torch.from_numpy(last_columns(asked, world.words, place)).to(device) for place in PLACES}
    index = torch.arange(len(rows), device=device)
    # The noise of each token of a subject, last token first, and nothing where it has but one.
    is_token = torch.from_numpy(world.words.of_facts(asked.facts)[0] != ABSENT).to(device)
    spoilt = columns["subject"][:, None] - torch.arange(is_token.shape[1], device=device)
    embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]

    def probability() -> Tensor:
        return answer_log_likelihood(model, rows).double().exp().cpu()

    clean = probability()
    states = [residual_stream(model, rows.tokens, layer) for layer in range(n_layers(model))]
    corrupted = torch.zeros(len(rows), dtype=torch.float64)
    restored = {(place, layer): corrupted.clone() for place in PLACES for layer in range(len(states))}
    for _ in range(draws):
        drawn = deviation * torch.randn(*is_token.shape, embedding.embedding_dim, generator=generator)
        noise = drawn.to(device) * is_token[..., None]

        def spoil(embedded: Tensor, noise: Tensor = noise) -> Tensor:
            return embedded.index_put((index[:, None], spoilt), noise.to(embedded.dtype), accumulate=True)

        with embedding.register_forward_hook(_changing(spoil)):
            corrupted += probability() / draws
            for (place, layer), mean in restored.items():
                there = (index, columns[place])

                def restore(stream: Tensor, there: tuple[Tensor, Tensor] = there, layer: int = layer) -> Tensor:
                    return stream.index_put(there, states[layer][there])

                with block(model, layer).register_forward_hook(_changing(restore)):
                    mean += probability() / draws
    same = {"clean": clean.numpy(), "corrupted": corrupted.numpy()}
    found = [{"place": place, "layer": layer, **same, "restored": mean.numpy()} for (place, layer), mean in restored.items()]
    table = pd.concat([pd.DataFrame({"fact": np.arange(len(rows)), **each}) for each in found])
    return table.assign(recovered=table["restored"] - table["corrupted"])


def _changing(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """A hook that passes what a module puts out through a function."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    return hook
