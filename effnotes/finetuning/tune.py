"""Fine-tuning of a causal language model on any rows of token ids: full rank, LoRA, sparse or RoSA, on all or some of its blocks.

    made = finetune(model, [Pool(rows)], TuneRecipe(method="rosa", rank=4, density=0.05, learning_rate=3e-3))

`made.model` is a new model of the same class, without adapters; `made.difference` is what was added to the base's weights.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.core.settings import settings
from effnotes.finetuning.objectives import KnownObjective, Learn, Objective
from effnotes.finetuning.rosa import MaskRule, adapted, is_entries, n_trained, with_adapters, write_mask_
from effnotes.models.language import block_linears, weights_digest
from effnotes.models.rows import Rows, RowsLike
from effnotes.models.weights import copy_of, in_float32
from effnotes.training.loop import Hook, Loop

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Observe = Callable[[nn.Module], Mapping[str, float]]


@settings
class TuneRecipe:
    """How a model is fine-tuned: Adam from rest, constant learning rate, no weight decay, no dropout.

    Raises:
        ValueError: A field is out of range, or does not go with another.
    """

    # "sparse" changes some entries of each weight, at places that are fixed before it begins (the mask); "rosa" changes those and
    # by LoRA's low rank (Nikdan et al., ICML 2024).
    method: Literal["full", "lora", "sparse", "rosa"] = "full"
    # "linears" are the weights of all linear layers in the blocks, "attention" and "mlp" some of them. "all" is every parameter,
    # with embedding, head (once where the two are tied), norms and biases: full rank only.
    blocks: Literal["all", "linears", "attention", "mlp"] = "linears"
    layers: tuple[int, ...] | None = None  # numbers of the blocks, from 0; None takes all
    rank: int | None = Field(None, ge=1)  # of LoRA's change to each weight, in RoSA too; None elsewhere
    # LoRA's change is scale * B A. Elsewhere it is told by alpha: alpha / rank, or alpha / sqrt(rank) where it is rank-stabilised
    # (rsLoRA). The default is that of alpha = 2 rank.
    scale: float = Field(2.0, gt=0)
    learning_rate: float = Field(3e-4, gt=0)  # wants to be ten times larger for LoRA: tune it for each method on rows of its own
    checkpoints: tuple[int, ...] = (10, 20, 40, 80)  # steps after which the model is looked at; it is trained up to the last
    batch_size: int = Field(32, ge=1)
    objective: KnownObjective | Objective = Learn()  # one of your own has a method `loss`, and does not go to JSON
    # Of "sparse" and "rosa" alone. The sparse change has int(density * m * n) entries in a weight of m x n.
    density: float | None = Field(None, gt=0, le=1)
    sparse_learning_rate: float | None = Field(None, gt=0)  # of the entries; None for that of the rest
    mask_rule: MaskRule = "grad_sq"
    # RoSA's gradients are taken where LoRA alone has come in so many steps. It is then thrown away, and both parts begin anew, as
    # in the paper; without a restart it goes on from there, and its steps count among those of the run.
    warmup_steps: int = Field(16, ge=0)
    restart: bool = True
    mask_batches: int = Field(1, ge=1)  # from which the gradients are taken: those that would come next
    micro_batch: int = Field(1, ge=1)  # rows whose gradients are added up before they are squared

    def __post_init__(self) -> None:
        if not self.checkpoints or sorted(set(self.checkpoints)) != list(self.checkpoints) or self.checkpoints[0] < 1:
            raise ValueError(f"checkpoints={self.checkpoints}: must be numbers of steps from 1 on, each larger than the one before")
        needs = {"rank": self.method in ("lora", "rosa"), "density": self.method in ("sparse", "rosa")}
        if needs != {name: getattr(self, name) is not None for name in needs}:
            what = "LoRA needs a rank, sparse a density, RoSA both, and full rank has none to give"
            raise ValueError(f"method={self.method!r}, rank={self.rank}, density={self.density}: {what}")
        if self.blocks == "all" and (self.method != "full" or self.layers is not None):
            what = "blocks='all' takes every parameter, at full rank and in all layers; the other methods and layers need 'linears'"
            raise ValueError(what)
        if self.method == "rosa" and not self.restart and self.warmup_steps >= self.checkpoints[-1]:
            what = "leaves no step for the sparse part; take fewer, or restart"
            raise ValueError(f"warmup_steps={self.warmup_steps}: {what} (the last checkpoint is step {self.checkpoints[-1]})")


DEFAULT = TuneRecipe()


class Pool(NamedTuple):
    """Rows of one purpose, of which each batch has its share."""

    rows: RowsLike
    share: float = 1.0  # of a batch, in proportion to the shares of the other pools
    retained: bool = False  # whether these are rows on which the model should stay as it is; what that means is the objective's


class Batches:
    """Batches of rows, drawn with replacement from pools: those that are to change, and those that should stay (None without such).

    They never end, and are the same whenever one begins anew.

    Raises:
        ValueError: No pool has rows that are to change, or a batch is too small for a share of it.
    """

    def __init__(self, pools: Sequence[Pool], batch_size: int, seed: int, device: torch.device) -> None:
        used = [pool for pool in pools if pool.share > 0 and len(pool.rows.tokens)]
        if all(pool.retained for pool in used):
            raise ValueError("there is nothing to train on: give a pool of rows, with a share above 0, that is not retained")
        rows = Rows.of(*(pool.rows for pool in used)).to(device)
        self.pools = [rows.take(slice(*ends)) for ends in itertools.pairwise(_ends([len(pool.rows.tokens) for pool in used]))]
        whole = sum(pool.share for pool in used)
        places = [round(batch_size * end / whole) for end in _ends([pool.share for pool in used])]
        self.sizes = [end - start for start, end in itertools.pairwise(places)]
        if 0 in self.sizes:
            raise ValueError(f"batch_size={batch_size}: too small for pools with shares of {[pool.share for pool in used]}")
        self.retained = [pool.retained for pool in used]
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Rows, Rows | None]]:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed))
        while True:
            parts: tuple[list[Rows], list[Rows]] = ([], [])  # to change, to stay
            for pool, size, stays in zip(self.pools, self.sizes, self.retained, strict=True):
                drawn = torch.from_numpy(rng.integers(len(pool), size=size))
                parts[stays].append(pool.take(drawn.to(pool.tokens.device)))
            width = max(int(each.length.max()) for each in itertools.chain(*parts))  # what is padding in all rows costs time alone
            edited, retained = ([each.narrowed(width) for each in rows] for rows in parts)
            yield Rows.joined(*edited), Rows.joined(*retained) if retained else None


def _ends(sizes: Sequence[float]) -> list[Any]:
    """0, and the sum up to each."""
    return list(itertools.accumulate(sizes, initial=0))


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned model, and what was changed.

    Attributes:
        model: The new model, of the base's class and without adapters, in evaluation mode.
        difference: Tuned minus base weight of each parameter that was trained, by name and in its shape.
        n_trainable: Numbers that were trained: for RoSA sum over layers of rank (in + out) + int(density in out), for LoRA and for
            sparse one of the two.
        optimizer_bytes: What training holds in memory for them beside the model: gradient and Adam's two moments, 12 bytes for each
            float32 number. What depends on the batch (activations) comes on top, and with adapters these, `adapter_bytes`; for a
            mask by gradients two float32 numbers a weight, before training begins.
        history: A row for the start (step 0) and each checkpoint: step, loss (mean since the one before; NaN at the start), and
            what `observe` returned.
        cpu_s: Processor time of this process, in seconds, looking at the model (`history`) aside; warm-up and mask included.
        mask: Places of the sparse part's entries in each weight read row by row, sorted, int32, by name; empty without such a part.
    """

    model: PreTrainedModel
    difference: Mapping[str, Tensor]
    n_trainable: int
    optimizer_bytes: int
    history: pd.DataFrame
    cpu_s: float
    mask: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def adapter_bytes(self) -> int:
        """What must be kept beside the base to have the tuned model again: numbers in float32, and the mask."""
        return 4 * self.n_trainable + sum(places.nbytes for places in self.mask.values())


def finetune(
    model: PreTrainedModel, pools: Sequence[Pool], recipe: TuneRecipe = DEFAULT, *, seed: int = 0, observe: Observe | None = None
) -> Tuned:
    """Fine-tune a copy of a causal language model of transformers.

    Args:
        model: The base; it stays as it is, to the bit. One of another type is taken in float32, with a `RuntimeWarning`.
        pools: What it is trained on.
        recipe: How.
        seed: Of the batches, of LoRA's start, and of a random mask.
        observe: Called at the start and at each checkpoint with the model as it is then (with peft's adapters, which
            `model.save_pretrained(folder)` keeps for peft to load), to measure it; what it returns is written into the history.

    Returns:
        The new model and its difference.

    Raises:
        ValueError: As for `block_linears`, `Batches`, `with_adapters` and `in_float32`, or a row is longer than the model can read.
        RuntimeError: Something trained what should not be trained, or `observe` changed the base.
    """
    model = in_float32(model)
    batches = Batches(pools, recipe.batch_size, seed, next(model.parameters()).device)
    longest, most = batches.pools[0].tokens.shape[1], getattr(model.config, "max_position_embeddings", None)
    if most is not None and longest > most:
        raise ValueError(f"there are rows of {longest} tokens, but the model reads at most {most}; cut them or leave them out")
    return changed_copy(model, lambda copied: _fine_tuned(copied, model, batches, recipe, seed, observe))


class Changed(NamedTuple):
    """What was made of a copy of a model."""

    model: PreTrainedModel  # without adapters
    names: Sequence[str]  # of the parameters that may have changed
    n_trainable: int
    optimizer_bytes: int
    history: pd.DataFrame
    mask: Mapping[str, Tensor] = MappingProxyType({})


def changed_copy(model: PreTrainedModel, change: Callable[[PreTrainedModel], Changed]) -> Tuned:
    """Change a copy of a model, and make sure that the model itself and the copy's other parameters stay as they are.

    Raises:
        RuntimeError: They did not.
    """
    start = time.process_time()
    before = weights_digest(model)
    made = change(copy_of(model))
    made.model.requires_grad_(True).eval()
    if weights_digest(model) != before:
        raise RuntimeError("the base model was changed while its copy was tuned; observe must not train what it is given")
    old, new = dict(model.named_parameters()), dict(made.model.named_parameters())
    touched = [name for name in old if name not in set(made.names) and not torch.equal(old[name], new[name])]
    if touched:
        raise RuntimeError(f"{', '.join(touched)} changed, but were not to be trained")
    difference = {name: (new[name] - old[name]).detach() for name in made.names}
    if not all(torch.isfinite(change).all() for change in difference.values()):
        what = "the tuned model has weights that are NaN or infinite; see the losses in its history, and lower the learning rate"
        warnings.warn(what, RuntimeWarning, stacklevel=4)
    spent = time.process_time() - start - float(made.history.pop("looking").sum())
    return Tuned(made.model, difference, made.n_trainable, made.optimizer_bytes, made.history, spent, made.mask)


def _fine_tuned(
    tuned: PreTrainedModel, base: PreTrainedModel, batches: Batches, recipe: TuneRecipe, seed: int, observe: Observe | None
) -> Changed:
    """Train a copy of the base, in place, without dropout, whatever the model was built with."""
    # In the model's order; a tied parameter has the first of its names.
    names = [name for name, _ in tuned.named_parameters()]
    if recipe.blocks != "all":
        names = [f"{name}.weight" for name in block_linears(tuned, recipe.blocks, recipe.layers)]
    trainee: nn.Module = tuned
    if recipe.method == "full":
        for name, parameter in tuned.named_parameters():
            parameter.requires_grad_(name in names)
    else:
        targets = [name.removesuffix(".weight") for name in names]
        trainee = with_adapters(tuned, targets, rank=recipe.rank, scale=recipe.scale, density=recipe.density, seed=seed)
    n_trainable = _checked_count(trainee, base, names, recipe)
    trained = {name: parameter for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    sparse = [parameter for name, parameter in trained.items() if is_entries(name)]
    others = [parameter for name, parameter in trained.items() if not is_entries(name)]
    trainee.eval()
    looks = _Looks(trainee, recipe.checkpoints, observe)
    stream, optimizer, mask, done = iter(batches), _adam(others, recipe), dict[str, Tensor](), 0

    def train(steps: int, done: int, *hooks: Hook) -> None:
        Loop(
            model=trainee,
            optimizer=optimizer,
            batches=lambda _part: itertools.islice(stream, steps),
            loss=lambda model, batch: recipe.objective.loss(model, base, *batch),
            train_mode=False,
            may_diverge=True,  # as unlearning does that has no bound
            hooks=hooks,
            step=done,
        ).fit()

    if sparse:
        assert recipe.density is not None  # the recipe has seen to it
        start = [parameter.detach().clone() for parameter in others]
        for parameter in sparse:
            parameter.requires_grad_(False)
        if others and not (recipe.restart and recipe.mask_rule in ("magnitude", "random")):  # whose mask hangs on no training
            done = recipe.warmup_steps
            train(done, 0, *(() if recipe.restart else (looks,)))
        losses = _losses(trainee, base, stream, recipe)
        mask = write_mask_(trainee, names, recipe.density, recipe.mask_rule, losses, seed)
        for parameter in sparse:
            parameter.requires_grad_(True)
        if recipe.restart:
            stream, optimizer, done = iter(batches), _adam(others, recipe), 0
            for parameter, value in zip(others, start, strict=True):
                parameter.data.copy_(value)
        optimizer.add_param_group({"params": sparse, "lr": recipe.sparse_learning_rate or recipe.learning_rate})
    train(recipe.checkpoints[-1] - done, done, looks)
    if recipe.method != "full":
        tuned = trainee.merge_and_unload()  # type: ignore[operator]
    held = 3 * sum(parameter.nbytes for parameter in trained.values())
    return Changed(tuned, names, n_trainable, held, pd.DataFrame(looks.rows), mask)


def _adam(weights: list[nn.Parameter], recipe: TuneRecipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": weights}], lr=recipe.learning_rate, weight_decay=0.0, fused=True)


def _losses(
    trainee: nn.Module, base: nn.Module, stream: Iterator[tuple[Rows, Rows | None]], recipe: TuneRecipe
) -> Iterator[Tensor]:
    """The losses of the next batches, cut into micro-batches."""
    for edited, retained in itertools.islice(stream, recipe.mask_batches):
        parts = -(-len(edited) // recipe.micro_batch)
        if retained is not None:
            parts = min(parts, len(retained))
        for part in (slice(number, None, parts) for number in range(parts)):
            yield recipe.objective.loss(trainee, base, edited.take(part), None if retained is None else retained.take(part))


def _checked_count(trainee: nn.Module, base: nn.Module, names: list[str], recipe: TuneRecipe) -> int:
    """Return how many numbers are trained, after making sure that they are those that the recipe says."""
    trained = {name: parameter for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    shapes = [parameter.shape for name, parameter in base.named_parameters() if name in set(names)]
    if recipe.method == "full":
        found, expected = set(trained), sum(shape.numel() for shape in shapes)
    else:
        found, expected = {adapted(name) for name in trained}, n_trained(shapes, recipe.rank or 0, recipe.density or 0)
    count = sum(parameter.numel() for parameter in trained.values())
    if found != set(names) or count != expected:
        raise RuntimeError(f"{count} numbers of {sorted(found)} would be trained; the recipe says {expected} of {sorted(names)}")
    return count


class _Looks(Hook):
    """Looks at a model at the start and after certain steps."""

    def __init__(self, model: nn.Module, checkpoints: Sequence[int], observe: Observe | None) -> None:
        self.model, self.checkpoints, self.observe = model, checkpoints, observe
        self.rows, self.losses = [look(model, 0, [], observe)], list[Tensor]()

    def after_step(self, step: int, loss: Tensor) -> None:
        self.losses.append(loss)
        if step in self.checkpoints:
            self.rows.append(look(self.model, step, self.losses, self.observe))
            self.losses = []


def look(model: nn.Module, step: int, losses: Sequence[Tensor], observe: Observe | None) -> dict[str, Any]:
    """Return a row of the history, and the processor time that looking took."""
    start = time.process_time()
    row: dict[str, Any] = {"step": step, "loss": float(torch.stack(list(losses)).mean()) if losses else float("nan")}
    if observe is not None:
        with torch.no_grad():
            row |= observe(model)
    model.eval()
    return row | {"looking": time.process_time() - start}


def apply_difference(model: PreTrainedModel, difference: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a copy of a model, in float32, with a difference added to its weights.

    Raises:
        ValueError: The model has no parameter of such a name and shape; or as for `in_float32`.
    """
    changed = in_float32(copy_of(model), copied=False)
    parameters = dict(changed.named_parameters())
    for name, change in difference.items():
        if name not in parameters or parameters[name].shape != change.shape:
            raise ValueError(f"the model has no parameter {name!r} of shape {tuple(change.shape)}; the difference is of another")
        with torch.no_grad():
            parameters[name].add_(change)
    return changed


def truncate_difference(difference: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return the nearest difference of at most some rank in each matrix (Eckart & Young); vectors stay as they are.

    Args:
        difference: Changes by name, in any shape.
        rank: Singular values that are kept, the largest ones; at least 0.

    Raises:
        ValueError: `rank` is below 0.
    """
    check_range(0, rank=rank)
    truncated = {}
    for name, change in difference.items():
        if change.ndim != 2:
            truncated[name] = change.clone()
            continue
        wide = change.double() if change.shape[0] <= change.shape[1] else change.double().T
        # The eigenvectors of its square are the singular vectors, in half the time; in float64 nothing is lost of float32 numbers.
        vectors = torch.linalg.eigh(wide @ wide.T).eigenvectors[:, max(0, len(wide) - rank) :]
        cut = vectors @ (vectors.T @ wide)
        truncated[name] = (cut if wide.shape == change.shape else cut.T).to(change.dtype)
    return truncated
