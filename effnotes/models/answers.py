"""What a language model answers to prompts: right or wrong as a whole, how probable, and from which distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effnotes.models.language import logits_at
from effnotes.models.modes import evaluating
from effnotes.models.rows import Rows, RowsLike


def token_log_probabilities(model: nn.Module, rows: Rows, which: Tensor) -> Tensor:
    """Return (p,) float32: the log-probability of each token that is asked for, row after row; gradients flow.

    Args:
        model: A causal language model of transformers, with adapters or without.
        rows: Texts.
        which: (n, L) bool; the p tokens. A first one has nothing before it and is left out.
    """
    row, column = which[:, 1:].nonzero(as_tuple=True)
    log_p = logits_at(model, rows.tokens, row, column)[1].float().log_softmax(dim=-1)
    return log_p.gather(-1, rows.tokens[row, column + 1, None])[:, 0]


def answer_log_likelihood(model: nn.Module, rows: Rows) -> Tensor:
    """Return (n,) float32: log-probability of each whole answer, log pi(y | x); gradients flow."""
    log_p = token_log_probabilities(model, rows, rows.is_answer)
    return log_p.new_zeros(rows.tokens.shape).masked_scatter(rows.is_answer, log_p).sum(dim=1)


class Answers(NamedTuple):
    """Answers of a model to n prompts.

    Attributes:
        exact: (n,) bool; whether greedy decoding over the whole vocabulary gives all tokens of the answer.
        probability: (n,) float64 in [0, 1]; of the answer, the product over its tokens.
    """

    exact: NDArray[np.bool_]
    probability: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts with answers to ask about, laid out such that a model reads each text once, however many answers it is asked for.

    Answers of one token share the row of their prompt; of longer ones, those that begin alike share theirs. Rows stand by length.

    Attributes:
        rows: (m, L) int64; different texts, each a prompt and all of an answer but its last token, padded behind.
        length: (m,) int64, ascending; tokens of a row without padding.
        row, column: (P,) int64; the different places whose next token is asked for, row after row.
        place: (n, A) int64 in [0, P); where each token of an answer is given, for the A tokens of the longest (the
            place of the first token behind shorter ones).
        target: (n, A) int64; the token that is the answer.
        inside: (n, A) bool; whether the answer is that long.
    """

    rows: Tensor
    length: Tensor
    row: Tensor
    column: Tensor
    place: Tensor
    target: Tensor
    inside: Tensor

    @classmethod
    def of(cls, *parts: RowsLike) -> Questions:
        """Lay out the rows of all parts, one part behind the other.

        Raises:
            ValueError: As for `Rows.of`.
        """
        given = Rows.of(*parts).to("cpu")
        tokens, start, width = given.tokens, given.answer[:, None], given.tokens.shape[1]
        read = start + given.answer_length[:, None] - 1
        texts = tokens.where(torch.arange(width) < read, 0)
        different, of_row = torch.unique(torch.cat([read, texts], dim=1), dim=0, return_inverse=True)
        offsets = torch.arange(max(given.answer_length.tolist(), default=1))
        inside = offsets < given.answer_length[:, None]
        columns = torch.where(inside, start + offsets, start)  # of the answer's tokens
        places, place = torch.unique(of_row[:, None] * width + columns - 1, return_inverse=True)
        target = tokens.gather(1, columns)
        return cls(different[:, 1:].contiguous(), different[:, 0], places // width, places % width, place, target, inside)

    def __len__(self) -> int:
        return len(self.place)

    @torch.no_grad()
    def ask(self, model: nn.Module, batch_size: int, look: Callable[[slice, Tensor, Tensor], None] | None = None) -> Answers:
        """Ask a model.

        Args:
            model: A causal language model of transformers, with adapters or without.
            batch_size: Texts at a time.
            look: Called for each batch with its places, a part of [0, P), the p hidden states there (p, d), which the model's head
                was applied to, and the log-probabilities (p, V) float32.

        Returns:
            The answers in the order of the rows.
        """
        device = next(model.parameters()).device
        place, target = self.place.reshape(-1), self.target.reshape(-1)
        order = place.argsort()
        best, log_p_target = torch.zeros(len(self.row), dtype=torch.int64), torch.zeros(len(place))
        with evaluating(model):
            for first in range(0, len(self.rows), batch_size):
                last = min(first + batch_size, len(self.rows))
                start, end = torch.searchsorted(self.row, torch.tensor([first, last])).tolist()
                batch = self.rows[first:last, : int(self.length[last - 1])].to(device)
                row, column = (self.row[start:end] - first).to(device), self.column[start:end].to(device)
                hidden, logits = logits_at(model, batch, row, column)
                log_p = logits.float().log_softmax(dim=-1)
                best[start:end] = log_p.argmax(dim=-1).cpu()
                here = order[slice(*torch.searchsorted(place[order], torch.tensor([start, end])).tolist())]
                log_p_target[here] = log_p[(place[here] - start).to(device), target[here].to(device)].cpu()
                if look is not None:
                    look(slice(start, end), hidden, log_p)
        exact = ((best[self.place] == self.target) | ~self.inside).all(dim=1)
        of_targets = log_p_target.reshape(self.place.shape).masked_fill(~self.inside, 0.0)
        return Answers(exact.numpy(), of_targets.double().sum(dim=1).exp().numpy())


@torch.no_grad()
def answer(model: nn.Module, rows: RowsLike, *, batch_size: int = 512) -> Answers:
    """Ask a model for the answers of rows.

    One pass is enough: greedy decoding gives the answer if and only if each of its tokens is the most probable one after the prompt
    and the answer's tokens before it. (At the first token that is not, decoding leaves the answer for good.)

    Args:
        model: Maps token ids (b, L) to `.logits` (b, L, V).
        rows: n rows; `answer` says where the prompt ends.
        batch_size: Rows at a time, at least 1.
    """
    exact, probability = [], []
    for targets, log_p, inside in _answer_places(model, rows, batch_size):
        hit = (log_p.argmax(dim=-1) == targets) | ~inside
        of_targets = log_p.gather(-1, targets[..., None])[..., 0]
        exact.append(hit.all(dim=1))
        probability.append(of_targets.masked_fill(~inside, 0.0).double().sum(dim=1).exp())
    return Answers(_joined(exact, torch.bool).numpy(), _joined(probability, torch.float64).numpy())


@torch.no_grad()
def answer_log_probabilities(model: nn.Module, rows: RowsLike, *, batch_size: int = 512) -> NDArray[np.float32]:
    """Return (n, A, V) float32: log-probabilities of all tokens at each of the A places of the longest answer.

    Places behind a shorter answer are NaN.
    """
    parts = [log_p.masked_fill(~inside[..., None], torch.nan).cpu() for _, log_p, inside in _answer_places(model, rows, batch_size)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, 1, 1), dtype=np.float32)


class Reading(NamedTuple):
    """What a model makes of the tokens of n texts, each after the true ones before it; the first, which starts a text, aside.

    Attributes:
        log_p: (n, L - 1) float64; log-probability of each token.
        is_greedy: (n, L - 1) bool; whether it is the most probable one.
        inside: (n, L - 1) bool; whether there is a token.
    """

    log_p: NDArray[np.float64]
    is_greedy: NDArray[np.bool_]
    inside: NDArray[np.bool_]


@torch.no_grad()
def read(model: nn.Module, rows: RowsLike, *, batch_size: int = 512) -> Reading:
    """Have a model read whole texts.

    Args:
        model: As for `answer`.
        rows: n rows.
        batch_size: Rows at a time.
    """
    device = next(model.parameters()).device
    given = Rows.of(rows).to("cpu")
    log_p, is_greedy = [], []
    with evaluating(model):
        for tokens in given.tokens.split(batch_size):
            following = tokens[:, 1:].to(device)
            distributions = model(input_ids=tokens[:, :-1].to(device)).logits.float().log_softmax(dim=-1)
            log_p.append(distributions.gather(-1, following[..., None])[..., 0].double())
            is_greedy.append(distributions.argmax(dim=-1) == following)
    inside = given.is_text[:, 1:].numpy()
    parts = _joined(log_p, torch.float64).numpy(), _joined(is_greedy, torch.bool).numpy()
    return Reading(parts[0].reshape(inside.shape), parts[1].reshape(inside.shape), inside)


def _answer_places(model: nn.Module, rows: RowsLike, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield for the A places of the longest answer: its tokens (b, A), log-probabilities (b, A, V), and whether it is that long."""
    device = next(model.parameters()).device
    given = Rows.of(rows).to("cpu")
    offsets = torch.arange(max(given.answer_length.tolist(), default=0))
    with evaluating(model):
        for first in range(0, len(given), batch_size):
            part = given.take(slice(first, first + batch_size))
            last = int((part.answer + part.answer_length).max())
            tokens = part.tokens[:, :last].to(device)
            columns = (part.answer[:, None] + offsets).clamp_max(last - 1).to(device)
            of_answer = model(input_ids=tokens).logits[torch.arange(len(tokens), device=device)[:, None], columns - 1].float()
            yield tokens.gather(1, columns), of_answer.log_softmax(dim=-1), (offsets < part.answer_length[:, None]).to(device)


def _joined(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([part.cpu() for part in parts]) if parts else torch.zeros(0, dtype=dtype)
