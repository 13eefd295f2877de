"""What tuning minimises: losses on rows that are to change and rows that are to stay, for learning and for unlearning."""

from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.settings import settings
from effnotes.models.answers import answer_log_likelihood, token_log_probabilities
from effnotes.models.language import residual_stream
from effnotes.models.rows import Rows


@runtime_checkable
class Objective(Protocol):
    """A loss that training minimises, on rows that are to change ("forget" rows when unlearning) and rows that should stay."""

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:
        """Return a scalar that depends on the model's weights; the base model is not trained."""
        ...


def _nll(model: nn.Module, rows: Rows) -> Tensor:
    """Mean over the tokens of all answers."""
    return -answer_log_likelihood(model, rows).sum() / rows.is_answer.sum()


def _retain_term(model: nn.Module, retained: Rows | None, weight: float) -> Tensor | float:
    return 0.0 if retained is None or weight == 0 else weight * _nll(model, retained)


@settings
class Learn:
    """Mean negative log-likelihood over the tokens of all rows, edited and retained alike: fine-tuning."""

    on: Literal["answer", "sentence"] = "answer"  # tokens that count: those of the answers, or all
    kind: Literal["learn"] = "learn"

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:  # noqa: ARG002
        """Return the loss; the base model has no part in it."""
        rows = edited if retained is None else Rows.joined(edited, retained)
        return -token_log_probabilities(model, rows, rows.is_answer if self.on == "answer" else rows.is_text).mean()


@settings
class GradDiff:
    """-NLL(forget) + retain_weight NLL(retain) (Liu, Liu & Stone 2022; Maini et al. 2024): without bound.

    With a weight of 0 it is gradient ascent on what is to be forgotten.
    """

    retain_weight: float = Field(1.0, ge=0)
    kind: Literal["grad_diff"] = "grad_diff"

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:  # noqa: ARG002
        """Return the loss; the base model has no part in it."""
        return -_nll(model, edited) + _retain_term(model, retained, self.retain_weight)


@settings
class NPO:
    """-(2 / beta) E log sigmoid(-beta log(pi / pi_base)) on forget rows, + retain_weight NLL(retain) (Zhang et al., COLM 2024).

    Its gradient is that of gradient ascent for a model near its base, and fades as the answer becomes improbable.
    """

    beta: float = Field(0.5, gt=0)  # towards 0 it becomes gradient ascent
    retain_weight: float = Field(1.0, ge=0)
    kind: Literal["npo"] = "npo"

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:
        """Return the loss."""
        with torch.no_grad():
            reference = answer_log_likelihood(base, edited)
        ratio = answer_log_likelihood(model, edited) - reference
        forget = -2 / self.beta * F.logsigmoid(-self.beta * ratio).mean()
        return forget + _retain_term(model, retained, self.retain_weight)


@settings
class SimNPO:
    """-(2 / beta) E log sigmoid(-(beta / |y|) log pi - gamma), + retain_weight NLL(retain) (Fan et al. 2024).

    NPO with the length of the answer, |y| tokens, in place of the reference.
    """

    beta: float = Field(2.5, gt=0)
    gamma: float = 0.0  # margin
    retain_weight: float = Field(1.0, ge=0)
    kind: Literal["simnpo"] = "simnpo"

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:  # noqa: ARG002
        """Return the loss; the base model has no part in it."""
        per_token = answer_log_likelihood(model, edited) / edited.is_answer.sum(dim=1)
        forget = -2 / self.beta * F.logsigmoid(-self.beta * per_token - self.gamma).mean()
        return forget + _retain_term(model, retained, self.retain_weight)


@settings
class RMU:
    """Mean of (h - c n u)^2 on forget rows, + retain_weight mean of (h - h_base)^2 on retained rows (Li et al., ICML 2024).

    h is the residual stream behind block `layer` at all tokens, u a random direction of length 1 with positive entries, and n the
    mean length of the base's h over the tokens of the forget rows.

    The original gives the target's length as a number (6.5 in a model of 7 billion parameters) and forgets by making h longer than
    later layers can read. That number says nothing about another model: in one of width 64 and two blocks it is nine tenths of n.
    With a length relative to n (Huu-Tien et al., arXiv 2408.06223, "Adaptive RMU"; 5 is theirs) the target is longer in any.
    What forget and retained rows share (the grammar of a world, its relations) can move by a part 1 / (1 + retain_weight) of the
    way only, so that small learning rates change little: tune them.
    """

    layer: int = Field(0, ge=0)
    c: float = Field(5.0, ge=0)  # length of the vector that forgotten text is moved to, in mean lengths n
    retain_weight: float = Field(100.0, ge=0)
    seed: int = Field(0, ge=0)  # of u
    kind: Literal["rmu"] = "rmu"

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:
        """Return the loss."""
        hidden = residual_stream(model, edited.tokens, self.layer)
        u = torch.rand(hidden.shape[-1], generator=torch.Generator().manual_seed(self.seed)).to(hidden)
        with torch.no_grad():
            n = residual_stream(base, edited.tokens, self.layer)[edited.is_text].norm(dim=-1).mean()
        forget: Tensor = ((hidden - (self.c * n * u / u.norm())) ** 2)[edited.is_text].mean()
        if retained is None or self.retain_weight == 0:
            return forget
        with torch.no_grad():
            before = residual_stream(base, retained.tokens, self.layer)
        kept: Tensor = ((residual_stream(model, retained.tokens, self.layer) - before) ** 2)[retained.is_text].mean()
        return forget + self.retain_weight * kept


KnownObjective: TypeAlias = Learn | GradDiff | NPO | SimNPO | RMU
"""Objectives that go to JSON and back; which it is, is told by `kind`."""
