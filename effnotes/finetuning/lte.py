"""Contextual sparsity: which groups of an MLP's hidden units each token uses, learnt (LTE) or chosen in other ways.

    grouped = with_experts(model, 32)                        # the same function, in balanced groups
    made = learn_to_be_efficient(grouped, [Pool(rows)], Stages(steps=200, learning_rate=3e-3), LTE(eta=1.0))

`made.adapted` decides for each token which experts run: "Learn To be Efficient" (Zheng et al., NeurIPS 2024). No code of it is
public, so this follows its formulas; what the paper does not tell, the start of the routers and the guard of the separability loss,
is ours and is said where it stands.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from scipy import optimize, special
from torch import Tensor, nn

from effnotes.core.checks import check_choice, check_range
from effnotes.core.settings import settings
from effnotes.finetuning.objectives import Learn
from effnotes.finetuning.tune import Pool, TuneRecipe, finetune
from effnotes.models.language import block, block_linears, mlp_output, n_layers
from effnotes.models.rows import Rows
from effnotes.models.weights import copy_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Rule: TypeAlias = Literal["dense", "soft", "hard", "top", "oracle", "static"]

_START = 1.5  # standard deviation of a router's scores for inputs of unit variance: spread over both sides of the threshold


def balanced_groups(vectors: NDArray[np.floating[Any]], n_groups: int, *, seed: int = 0, rounds: int = 20) -> NDArray[np.int64]:
    """Cluster vectors into groups of equal size: k-means whose assignment step is an optimal one among the balanced.

    Args:
        vectors: (h, d).
        n_groups: Divides h.
        seed: Of the first centres (k-means++).
        rounds: Most rounds; it ends where nothing moves.

    Returns:
        (h,) group of each vector, from 0.

    Raises:
        ValueError: `n_groups` is below 1 or does not divide h.
    """
    from sklearn.cluster import kmeans_plusplus

    check_range(1, n_groups=n_groups)
    n, values = len(vectors), np.asarray(vectors, dtype=np.float64)
    if n % n_groups:
        raise ValueError(f"n_experts={n_groups} does not divide the {n} hidden units of an MLP; take a divisor of {n}")
    centres, groups = kmeans_plusplus(values, n_groups, random_state=seed)[0], np.full(n, -1)
    for _ in range(rounds):
        distances = ((values[:, None] - centres[None]) ** 2).sum(axis=2)
        places = optimize.linear_sum_assignment(np.repeat(distances, n // n_groups, axis=1))[1] // (n // n_groups)
        if (places == groups).all():
            break
        groups = places
        centres = np.stack([values[groups == group].mean(axis=0) for group in range(n_groups)])
    return groups.astype(np.int64)


class Router(nn.Module):
    """Says for each token which experts of an MLP run, and how much: 0 to 1 for each.

    The scores are x W for the MLP's input x; sigmoid(x W) is LTE's G. By rule: "dense", all; "soft", G; "hard", 1 where G is above
    the threshold; "top", 1 for the `keep` highest scores; "oracle", for the experts with the most activation energy, which asks
    for all hidden units first (MoEfication's upper bound); "static", for those with the most on average, whatever the token.
    """

    groups: Tensor
    importance: Tensor

    def __init__(self, width: int, groups: Tensor, n_experts: int, generator: torch.Generator) -> None:
        super().__init__()
        self.rule: Rule = "dense"
        self.keep, self.threshold = n_experts, 0.5
        self.weight = nn.Parameter(torch.randn(width, n_experts, generator=generator) * _START / math.sqrt(width))
        self.register_buffer("groups", groups)
        self.register_buffer("importance", torch.zeros(n_experts))

    def energy(self, hidden: Tensor) -> Tensor:
        """Return (..., N): sum of squares of each expert's hidden units (..., h)."""
        zeros = hidden.new_zeros(*hidden.shape[:-1], self.weight.shape[1])
        return zeros.index_add(-1, self.groups, hidden.square())

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return gates (..., N) for inputs (..., d) and hidden units (..., h), which only "oracle" looks at."""
        if self.rule == "dense":
            return x.new_ones(*x.shape[:-1], self.weight.shape[1])
        if self.rule == "oracle":
            scores = self.energy(hidden)
        else:
            scores = self.importance.expand(*x.shape[:-1], -1) if self.rule == "static" else x @ self.weight
        if self.rule == "soft":
            return scores.sigmoid()
        if self.rule == "hard":
            return (scores.sigmoid() > self.threshold).to(x.dtype)
        return torch.zeros_like(scores).scatter(-1, scores.topk(self.keep).indices, 1.0)


class ExpertMLP(nn.Module):
    """An MLP whose hidden units are multiplied by the gate of their expert: sum_i gate_i(x) E_i(x), and the output's bias."""

    def __init__(self, mlp: nn.Module, output: str, router: Router) -> None:
        super().__init__()
        self.mlp, self.output, self.router = mlp, output, router

    def forward(self, x: Tensor) -> Tensor:
        """Compute the MLP for inputs (..., d); all hidden units, as zeros make nothing faster: `GatheredMLP` skips them."""

        def gate(_output: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            gates: Tensor = self.router(x, inputs[0])
            return (inputs[0] * gates.gather(-1, self.router.groups.expand_as(inputs[0])),)

        with self.mlp.get_submodule(self.output).register_forward_pre_hook(gate):
            made: Tensor = self.mlp(x)
        return made


def with_experts(model: PreTrainedModel, n_experts: int, *, seed: int = 0) -> PreTrainedModel:
    """Return a copy of a model whose MLPs are grouped into experts by balanced k-means on their input weights; all of them run.

    The function that it computes is the same. A gated MLP is grouped by its gate matrix.

    Args:
        model: A causal language model whose MLPs are modules of their own, of `nn.Linear` (GPT-NeoX, Llama and others).
        n_experts: In each block; a divisor of the number of hidden units. As many as there are units makes neurons of experts.
        seed: Of the first centres and of the routers.

    Raises:
        ValueError: `n_experts` does not divide the hidden units, the model has experts, or its MLPs are others.
    """
    if any(isinstance(module, ExpertMLP) for module in model.modules()):
        raise ValueError("the model's MLPs have experts already; give the model that they were made of")
    made, generator = copy_of(model), torch.Generator().manual_seed(seed)
    found = [(next(iter(block_linears(made, "mlp", [n]).values())), *mlp_output(made, n)) for n in range(n_layers(made))]
    blocks = {id(block(made, layer)) for layer in range(len(found))}
    for first, name, output in found:
        home, _, short = name.rpartition(".")
        if id(made.get_submodule(home)) in blocks or not isinstance(first, nn.Linear):
            raise ValueError(f"{name}: an MLP must be a module of its own, of nn.Linear, for its hidden units to be grouped")
        vectors = first.weight.detach().cpu().numpy()
        groups = torch.arange(len(vectors)) if n_experts == len(vectors) else None
        if groups is None:
            groups = torch.from_numpy(balanced_groups(vectors, n_experts, seed=seed))
        router = Router(first.in_features, groups, n_experts, generator).to(output.weight.device)
        made.set_submodule(home, ExpertMLP(made.get_submodule(home), short, router))
    return made


def expert_mlps(model: nn.Module) -> list[ExpertMLP]:
    """Return the grouped MLPs of a model, block after block."""
    return [module for module in model.modules() if isinstance(module, ExpertMLP)]


def routed(model: PreTrainedModel, rule: Rule, *, keep: int | None = None, threshold: float = 0.5) -> PreTrainedModel:
    """Return a copy of a model with experts whose routers go by another rule; see `Router`.

    Args:
        model: As `with_experts` makes it; "static" also needs `weigh_experts_`.
        rule: Which.
        keep: Experts that run, of "top", "oracle" and "static": 1 to all; None for all.
        threshold: Of "hard", above 0 and below 1.

    Raises:
        ValueError: A value is out of range.
    """
    check_choice(get_args(Rule), rule=rule)
    if not 0 < threshold < 1:  # at 0 every expert runs, at 1 none
        raise ValueError(f"threshold={threshold}: a gate lies above 0 and below 1, and so must its threshold")
    made = copy_of(model)
    for part in expert_mlps(made):
        n_experts = part.router.weight.shape[1]
        check_range(1, n_experts, whole=True, keep=n_experts if keep is None else keep)
        part.router.rule, part.router.threshold, part.router.keep = rule, threshold, keep or n_experts
    return made


@contextlib.contextmanager
def _seen(model: nn.Module) -> Iterator[list[tuple[Router, Tensor, Tensor, Tensor]]]:
    """What routers see and say while a model runs: router, inputs, hidden units and gates, block after block."""
    seen: list[tuple[Router, Tensor, Tensor, Tensor]] = []
    with contextlib.ExitStack() as stack:
        for part in expert_mlps(model):
            stack.enter_context(
                part.router.register_forward_hook(lambda router, given, gates: seen.append((router, *given, gates)))
            )
        yield seen


def _read(rows: Rows) -> Tensor:
    """(n, L) bool: places that a next token is predicted from."""
    return torch.arange(rows.tokens.shape[1], device=rows.tokens.device) < rows.length[:, None] - 1


@torch.no_grad()
def gates_of(model: PreTrainedModel, rows: Rows) -> list[Tensor]:
    """Return for each block the gates (p, N) at the p places of rows that a next token is predicted from, row after row.

    One minus their mean is the FFN sparsity, if the rule is a hard one; it weighs blocks alike. A soft model saves nothing.
    """
    with _seen(model) as seen:
        model(input_ids=rows.tokens)
    return [gates[_read(rows)] for *_, gates in seen]


@torch.no_grad()
def weigh_experts_(model: PreTrainedModel, rows: Rows) -> None:
    """Set, in place, what "static" goes by: the mean activation energy of each expert over the places of rows."""
    with _seen(model) as seen:
        model(input_ids=rows.tokens)
    for router, _, hidden, _ in seen:
        router.importance.copy_(router.energy(hidden[_read(rows)]).mean(dim=0))


@settings
class LTE:
    """LTE's first loss: L_task + eta mean(G^2) + separability mean(1 / ((G - threshold)^2 + guard)) (Zheng et al. 2024).

    The means are over tokens, experts and blocks, so that blocks compete for experts. The guard is ours: without it the last term
    is infinite where G is at the threshold.
    """

    eta: float = Field(1.0, ge=0)  # what it stands for in sparsity depends on the model: report what was reached
    separability: float = Field(0.005, ge=0)
    threshold: float = Field(0.5, gt=0, lt=1)
    guard: float = Field(0.01, gt=0)

    def penalty(self, gates: Tensor) -> Tensor:
        """Return both terms behind the task's, of gates (..., N)."""
        apart = 1 / ((gates - self.threshold).square() + self.guard)
        return self.eta * gates.square().mean() + self.separability * apart.mean()

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:
        """Return the loss of a model with soft routers on all rows."""
        with _seen(model) as seen:
            task = Learn().loss(model, base, edited, retained)
        read = _read(edited if retained is None else Rows.joined(edited, retained))
        return task + torch.stack([self.penalty(gates[read]) for *_, gates in seen]).mean()


@settings
class Predict:
    """Binary cross-entropy of scores against which experts have the most activation energy: a predictor as of Deja Vu.

    Deja Vu (Liu et al., ICML 2023) predicts single neurons, `with_experts(model, hidden_units)`. Only routers learn.
    """

    keep: int = Field(ge=1)

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:  # noqa: ARG002
        """Return the mean over blocks, for a model that is run dense."""
        rows = edited if retained is None else Rows.joined(edited, retained)
        with _seen(model) as seen, torch.no_grad():
            model(input_ids=rows.tokens)
        losses = []
        for router, x, hidden, _ in seen:
            energy = router.energy(hidden[_read(rows)])
            wanted = torch.zeros_like(energy).scatter(-1, energy.topk(self.keep).indices, 1.0)
            losses.append(F.binary_cross_entropy_with_logits(x[_read(rows)] @ router.weight, wanted))
        return torch.stack(losses).mean()


@dataclass(frozen=True)
class Within:
    """Fine-tuning that changes some entries of weights only: with Adam from rest, an entry without a gradient stays as it is."""

    places: Mapping[str, Tensor]  # bool, by parameter and in its shape; a parameter that is not named is free

    def loss(self, model: nn.Module, base: nn.Module, edited: Rows, retained: Rows | None) -> Tensor:
        """Return the loss of the answers."""
        for name, parameter in model.named_parameters():
            if name in self.places and not parameter._backward_hooks:
                parameter.register_hook(functools.partial(torch.mul, self.places[name]))
        return Learn().loss(model, base, edited, retained)


def expert_places(model: nn.Module, chosen: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the entries of the MLPs' weights that belong to experts, for `Within`.

    Args:
        model: With experts.
        chosen: (N,) bool of each block, True for the experts.
    """
    places = {}
    names = {module: name for name, module in model.named_modules()}
    for part, experts in zip(expert_mlps(model), chosen, strict=True):
        units = experts[part.router.groups]
        for name, linear in part.mlp.named_modules():
            if isinstance(linear, nn.Linear):
                of = units[None, :] if name == part.output else units[:, None]
                places[f"{names[linear]}.weight"] = of.expand_as(linear.weight)
    return places


@settings
class Stages:
    """How the stages are trained: every parameter by Adam at a constant rate."""

    steps: int = Field(ge=1)  # of each stage
    learning_rate: float = Field(3e-3, gt=0)
    batch_size: int = Field(128, ge=1)

    def train(
        self, model: PreTrainedModel, pools: Sequence[Pool], objective: Any, *, times: int = 1, seed: int = 0
    ) -> PreTrainedModel:
        """Return a copy of a model that was trained for so many times the steps."""
        how: dict[str, Any] = {"blocks": "all", "learning_rate": self.learning_rate, "batch_size": self.batch_size}
        return finetune(model, pools, TuneRecipe(checkpoints=(times * self.steps,), objective=objective, **how), seed=seed).model


class LearntExperts(NamedTuple):
    """The models that LTE makes."""

    soft: PreTrainedModel  # behind the first stage: all experts run, weighted by G
    switched: PreTrainedModel  # the same with hard gates, before it has adapted to them
    adapted: PreTrainedModel  # behind the second stage, in which routers get no gradient


def learn_to_be_efficient(
    model: PreTrainedModel, pools: Sequence[Pool], stages: Stages, objective: LTE, *, seed: int = 0
) -> LearntExperts:
    """Train routers with the model, then the model with hard gates.

    Args:
        model: As `with_experts` makes it; it stays as it is.
        pools: What it is trained on.
        stages: How.
        objective: LTE's loss; its threshold is that of the hard gates.
        seed: Of the batches.
    """
    soft = stages.train(routed(model, "soft"), pools, objective, seed=seed)
    switched = routed(soft, "hard", threshold=objective.threshold)
    return LearntExperts(soft, switched, stages.train(switched, pools, Learn(), seed=seed + 1))


class GatheredMLP:
    """The forward pass of a grouped MLP for one token that reads the weights of the experts that run, and no others.

    Weights lie expert after expert, so that those of one are read in one piece.
    """

    def __init__(self, part: ExpertMLP) -> None:
        """Lay out the weights of a grouped MLP whose rule asks for no hidden units ("hard", "top" or "static")."""
        order = part.router.groups.argsort(stable=True)
        self.part, self.by_expert, n_experts = part, dict[str, tuple[Tensor, bool]](), part.router.weight.shape[1]
        for name, linear in part.mlp.named_modules():
            if isinstance(linear, nn.Linear):
                writes = name == part.output
                parts = {"weight": linear.weight.T if writes else linear.weight, "bias": None if writes else linear.bias}
                for key, values in parts.items():
                    if values is not None:
                        laid = values.detach()[order].reshape(n_experts, -1, *values.shape[1:]).contiguous()
                        self.by_expert[f"{name}.{key}"] = laid, writes

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Compute the MLP for one input (d,)."""
        chosen = self.part.router(x, x).nonzero()[:, 0]
        read = {name: laid[chosen].flatten(0, 1) for name, (laid, _) in self.by_expert.items()}
        weights = {name: values.T if self.by_expert[name][1] else values for name, values in read.items()}
        made: Tensor = torch.func.functional_call(self.part.mlp, weights, (x,))
        return made


def union_sparsity(used: NDArray[np.bool_], batch: int) -> float:
    """Return the expected share of experts that none of `batch` tokens uses, drawn from n tokens without replacement.

    An expert that m of them use is used by none with probability C(n - m, batch) / C(n, batch).

    Args:
        used: (n, N); for several blocks, experts side by side.
        batch: Tokens, 1 to n; with 1 it is the sparsity of a token.

    Raises:
        ValueError: `batch` is out of range.
    """
    check_range(1, len(used), batch=batch)
    n, without = len(used), len(used) - used.sum(axis=0)
    # By logarithms, as the binomials of many tokens exceed any float; where `batch` is above n - m the second is infinite.
    first, second = special.gammaln(without + 1) - special.gammaln(n + 1), special.gammaln(without - batch + 1)
    return float(np.exp(first - second + special.gammaln(n - batch + 1)).mean())
