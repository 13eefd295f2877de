"""Fine-tuning of a causal language model on any rows of token ids: full rank or LoRA, on all or some of its blocks.

    made = finetune(model, [Pool(rows)], TuneRecipe(method="lora", rank=8, learning_rate=3e-3))

`made.model` is a new model of the same class, without adapters; `made.difference` is what was added to the base's weights.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.core.settings import settings
from effnotes.finetuning.objectives import KnownObjective, Learn, Objective
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

    method: Literal["full", "lora"] = "full"
    # "linears" are the weights of all linear layers in the blocks, "attention" and "mlp" some of them. "all" is every parameter,
    # with embedding, head (once where the two are tied), norms and biases: full rank only.
    blocks: Literal["all", "linears", "attention", "mlp"] = "linears"
    layers: tuple[int, ...] | None = None  # numbers of the blocks, from 0; None takes all
    rank: int | None = Field(None, ge=1)  # of LoRA's change to each weight; None for full rank
    # LoRA's change is scale * B A. Elsewhere it is told by alpha: alpha / rank, or alpha / sqrt(rank) where it is rank-stabilised
    # (rsLoRA). The default is that of alpha = 2 rank.
    scale: float = Field(2.0, gt=0)
    learning_rate: float = Field(3e-4, gt=0)  # wants to be ten times larger for LoRA: tune it for each method on rows of its own
    checkpoints: tuple[int, ...] = (10, 20, 40, 80)  # steps after which the model is looked at; it is trained up to the last
    batch_size: int = Field(32, ge=1)
    objective: KnownObjective | Objective = Learn()  # one of your own has a method `loss`, and does not go to JSON

    def __post_init__(self) -> None:
        if (self.method == "lora") != (self.rank is not None):
            raise ValueError(f"method={self.method!r}, rank={self.rank}: LoRA needs a rank, and full rank has none to give")
        if self.blocks == "all" and (self.method == "lora" or self.layers is not None):
            raise ValueError("blocks='all' takes every parameter, at full rank and in all layers; LoRA and layers need 'linears'")
        if not self.checkpoints or sorted(set(self.checkpoints)) != list(self.checkpoints) or self.checkpoints[0] < 1:
            raise ValueError(f"checkpoints={self.checkpoints}: must be numbers of steps from 1 on, each larger than the one before")


DEFAULT = TuneRecipe()


class Pool(NamedTuple):
    """Rows of one purpose, of which each batch has its share."""

    rows: RowsLike
    share: float = 1.0  # of a batch, in proportion to the shares of the other pools
    retained: bool = False  # whether these are rows on which the model should stay as it is; what that means is the objective's


class Batches:
    """Batches of rows, drawn with replacement from pools: those that are to change, and those that should stay (None without such).

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
        self.rng = np.random.default_rng(np.random.SeedSequence(seed))

    def __iter__(self) -> Iterator[tuple[Rows, Rows | None]]:
        while True:
            parts: tuple[list[Rows], list[Rows]] = ([], [])  # to change, to stay
            for pool, size, stays in zip(self.pools, self.sizes, self.retained, strict=True):
                parts[stays].append(pool.take(torch.from_numpy(self.rng.integers(len(pool), size=size)).to(pool.tokens.device)))
            yield Rows.joined(*parts[0]), Rows.joined(*parts[1]) if parts[1] else None


def _ends(sizes: Sequence[float]) -> list[Any]:
    """0, and the sum up to each."""
    return list(itertools.accumulate(sizes, initial=0))


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned model, and what was changed.

    Attributes:
        model: The new model, of the base's class and without adapters, in evaluation mode.
        difference: Tuned minus base weight of each parameter that was trained, by name and in its shape.
        n_trainable: Numbers that were trained: for LoRA sum over layers of rank (in + out).
        optimizer_bytes: What training holds in memory for them beside the model: gradient and Adam's two moments, 12 bytes for each
            float32 number. What depends on the batch (activations) comes on top, and with LoRA its factors, 4 bytes a number.
        history: A row for the start (step 0) and each checkpoint: step, loss (mean since the one before; NaN at the start), and
            what `observe` returned.
        cpu_s: Processor time of this process, in seconds, looking at the model (`history`) aside.
    """

    model: PreTrainedModel
    difference: Mapping[str, Tensor]
    n_trainable: int
    optimizer_bytes: int
    history: pd.DataFrame
    cpu_s: float


def finetune(
    model: PreTrainedModel, pools: Sequence[Pool], recipe: TuneRecipe = DEFAULT, *, seed: int = 0, observe: Observe | None = None
) -> Tuned:
    """Fine-tune a copy of a causal language model of transformers.

    Args:
        model: The base; it stays as it is, to the bit. One of another type is taken in float32, with a `RuntimeWarning`.
        pools: What it is trained on.
        recipe: How.
        seed: Of the batches, and of LoRA's start.
        observe: Called at the start and at each checkpoint with the model as it is then (with adapters, for LoRA), to measure it;
            what it returns is written into the history.

    Returns:
        The new model and its difference.

    Raises:
        ValueError: As for `block_linears`, `Batches` and `in_float32`, or a row is longer than what the model can read.
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
    return Tuned(made.model, difference, made.n_trainable, made.optimizer_bytes, made.history, spent)


def _fine_tuned(
    tuned: PreTrainedModel, base: PreTrainedModel, batches: Batches, recipe: TuneRecipe, seed: int, observe: Observe | None
) -> Changed:
    """Train a copy of the base, in place, without dropout, whatever the model was built with."""
    # In the model's order; a tied parameter has the first of its names.
    names = [name for name, _ in tuned.named_parameters()]
    if recipe.blocks != "all":
        names = [f"{name}.weight" for name in block_linears(tuned, recipe.blocks, recipe.layers)]
    trainee: nn.Module = tuned
    if recipe.method == "lora":
        trainee = _with_adapters(tuned, names, recipe, seed)
    else:
        for name, parameter in tuned.named_parameters():
            parameter.requires_grad_(name in names)
    n_trainable = _checked_count(trainee, base, names, recipe)
    weights = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
    trainee.eval()
    looks = _Looks(trainee, recipe.checkpoints, observe)  # type: ignore[abstract]  # a hook's empty methods are meant
    Loop(
        model=trainee,
        optimizer=torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0, fused=True),
        batches=lambda _part: itertools.islice(batches, recipe.checkpoints[-1]),
        loss=lambda model, batch: recipe.objective.loss(model, base, *batch),
        train_mode=False,
        may_diverge=True,  # as unlearning does that has no bound
        hooks=[looks],
    ).fit()
    if recipe.method == "lora":
        tuned = trainee.merge_and_unload()  # type: ignore[operator]
    return Changed(tuned, names, n_trainable, 3 * sum(weight.nbytes for weight in weights), pd.DataFrame(looks.rows))


def _with_adapters(model: PreTrainedModel, names: list[str], recipe: TuneRecipe, seed: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    assert recipe.rank is not None  # the recipe has seen to it
    # The defaults are what is meant: no dropout, no biases, and a B that begins at zero.
    # Full names: suffixes and regular expressions find more, or fewer, layers than they say.
    targets = [name.removesuffix(".weight") for name in names]
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.scale * recipe.rank,  # type: ignore[arg-type]  # need not be whole
        task_type="CAUSAL_LM",
        fan_in_fan_out=not isinstance(model.get_submodule(targets[0]), nn.Linear),  # Conv1D keeps its weights as (in, out)
        target_modules=targets,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, on what peft asks it
        torch.default_generator.manual_seed(seed)
        wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def _checked_count(trainee: nn.Module, base: nn.Module, names: list[str], recipe: TuneRecipe) -> int:
    """Return how many numbers are trained, after making sure that they are those that the recipe says."""
    trained = {name: parameter for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    shapes = [parameter.shape for name, parameter in base.named_parameters() if name in set(names)]
    if recipe.rank is None:
        found, expected = set(trained), sum(shape.numel() for shape in shapes)
    else:
        found = {f"{name.removeprefix('base_model.model.').partition('.lora_')[0]}.weight" for name in trained}
        expected = sum(recipe.rank * sum(shape) for shape in shapes)
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
        u, s, v = torch.linalg.svd(change.double(), full_matrices=False)
        truncated[name] = ((u[:, :rank] * s[:rank]) @ v[:rank]).to(change.dtype)
    return truncated
