"""Editing what a model knows by fine-tuning: full rank or low rank, on all or some of its blocks, for as long as one likes."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from effnotes.datasets.worlds import Sentences, Task
from effnotes.finetuning.editing.closed_form import ClosedFormRecipe, rewrite_
from effnotes.finetuning.objectives import Learn, Objective, Rows
from effnotes.models.answers import PAD, answer, answer_mask, as_tensors
from effnotes.models.language import block_linears, weights_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POOLS = (("edited", "forget"), ("with_same_value", "with_same_rel"), ("reg_data",))
"""Training groups by what they are for: the edit, retaining its relation, retaining the others."""

Observe = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class EditRecipe:
    """How a model is fine-tuned to edit what it knows: Adam from rest, constant learning rate, no weight decay, no dropout.

    Raises:
        ValueError: A field is out of range, or does not go with another.
    """

    method: Literal["full", "lora"] = "full"
    # "linears" are the weights of all linear layers in the blocks, "attention" and "mlp" some of them. "all" is every parameter,
    # with embedding, head, norms and biases: full rank only.
    blocks: Literal["all", "linears", "attention", "mlp"] = "linears"
    layers: tuple[int, ...] | None = None  # numbers of the blocks, from 0; None takes all
    rank: int | None = None  # of LoRA's change to each weight; None for full rank
    # LoRA's change is scale * B A. "twice_rank": scale 2. "fixed": alpha / rank. "rank_stabilised": alpha / sqrt(rank) (rsLoRA).
    alpha_rule: Literal["twice_rank", "fixed", "rank_stabilised"] = "twice_rank"
    alpha: float = 8.0  # of the latter two rules
    learning_rate: float = 3e-4  # wants to be ten times larger for LoRA: tune it for each method on draws of its own
    checkpoints: tuple[int, ...] = (10, 20, 40, 80)  # steps after which the model is looked at; it is trained up to the last
    batch_size: int = 32
    edited_share: float = 0.25  # of a batch; half of the rest retains the edited relation, half the others
    objective: Objective = field(default_factory=Learn)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("method", ("full", "lora")),
            ("blocks", ("all", "linears", "attention", "mlp")),
            ("alpha_rule", ("twice_rank", "fixed", "rank_stabilised")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be one of {', '.join(map(repr, allowed))}")
        if (self.method == "lora") != (self.rank is not None):
            raise ValueError(f"method={self.method!r}, rank={self.rank}: LoRA needs a rank, and full rank has none to give")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank={self.rank}: must be at least 1")
        if self.blocks == "all" and (self.method == "lora" or self.layers is not None):
            raise ValueError("blocks='all' takes every parameter, at full rank and in all layers; LoRA and layers need 'linears'")
        for name in ("alpha", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        if not self.checkpoints or sorted(set(self.checkpoints)) != list(self.checkpoints) or self.checkpoints[0] < 1:
            raise ValueError(f"checkpoints={self.checkpoints}: must be numbers of steps from 1 on, each larger than the one before")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1")
        if not 0 < self.edited_share <= 1:
            raise ValueError(f"edited_share={self.edited_share}: must be above 0 and at most 1")

    @property
    def scale(self) -> float:
        """What LoRA's product B A is multiplied by.

        Raises:
            ValueError: The recipe has no rank.
        """
        if self.rank is None:
            raise ValueError("a recipe without a rank has no scale")
        if self.alpha_rule == "twice_rank":
            return 2.0
        return self.alpha / (self.rank if self.alpha_rule == "fixed" else self.rank**0.5)


@dataclass(frozen=True, eq=False)
class Edit:
    """An edited model, and what was changed.

    Attributes:
        model: The new model, of the base's class and without adapters, in evaluation mode.
        difference: Edited minus base weight of each parameter that was trained, by name and in its shape.
        n_trainable: Numbers that were trained: for LoRA sum over layers of rank (in + out); for a closed form the width for each
            fact, which is what is sought by gradient descent.
        optimizer_bytes: What training holds in memory for them beside the model: gradient and Adam's two moments, 12 bytes for each
            float32 number. What depends on the batch (activations) comes on top, and with LoRA its factors, 4 bytes a number; with
            closed forms the moments of the keys, 8 h^2 bytes a layer of h hidden units. ROME seeks one fact's vector at a time.
        history: A row for the start (step 0) and each checkpoint (a closed form has one, step 1): step, loss (mean since the one
            before; NaN at the start), edited_exact (share of the edited facts answered as trained; of forgotten facts answered as
            before), and what `observe` returned.
        cpu_s: Processor time of this process, in seconds, observing included.
        wall_s: Time by the clock, likewise.
    """

    model: PreTrainedModel
    difference: Mapping[str, Tensor]
    n_trainable: int
    optimizer_bytes: int
    history: pd.DataFrame
    cpu_s: float
    wall_s: float

    @property
    def first_success(self) -> int | None:
        """The first checkpoint at which every edited fact was answered as trained; None for never.

        Of an edit that unlearns it has no meaning: there `edited_exact` is what is still known.
        """
        reached = self.history.loc[(self.history["edited_exact"] == 1) & (self.history["step"] > 0), "step"]
        return int(reached.iloc[0]) if len(reached) else None


def edit(
    model: PreTrainedModel,
    task: Task,
    recipe: EditRecipe | ClosedFormRecipe | None = None,
    *,
    seed: int = 0,
    observe: Observe | None = None,
) -> Edit:
    """Edit a copy of a model, by fine-tuning it on the training rows of a task or by a closed form that takes the edited facts.

    Args:
        model: The base, GPT-NeoX or Llama; it stays as it is, to the bit.
        task: What is edited. Which and how many rows retain the rest is the task's business (`retain_coverage`); without any,
            batches hold edited rows only.
        recipe: How; None for `EditRecipe()`.
        seed: Of the batches, and of LoRA's start; a closed form draws nothing.
        observe: Called at the start and at each checkpoint with the model as it is then (with adapters, for LoRA), to measure it;
            what it returns is written into the history.

    Returns:
        The new model and its difference.

    Raises:
        ValueError: The model has no such layer, or its embedding and head are tied although all weights are to be trained.
        RuntimeError: Something trained what should not be trained, or `observe` changed the base.
    """
    recipe = EditRecipe() if recipe is None else recipe
    cpu, wall = time.process_time(), time.perf_counter()
    before = weights_digest(model)
    edited = copy.deepcopy(model)
    if isinstance(recipe, ClosedFormRecipe):
        rows = [_look(edited, task, 0, [], observe)]
        names = rewrite_(edited, task, recipe)
        history = pd.DataFrame([*rows, _look(edited, task, 1, [], observe)])
        n_trainable = len(task.train["edited"]) * int(edited.config.hidden_size)
        optimizer_bytes = 12 * (int(edited.config.hidden_size) if recipe.method == "rome" else n_trainable)
    else:
        edited, names, n_trainable, optimizer_bytes, history = _fine_tuned(edited, model, task, recipe, seed, observe)
    for parameter in edited.parameters():
        parameter.requires_grad_(True)
    edited.eval()
    if weights_digest(model) != before:
        raise RuntimeError("the base model was changed while its copy was edited; observe must not train what it is given")
    difference = _difference(model, edited, names)
    return Edit(edited, difference, n_trainable, optimizer_bytes, history, time.process_time() - cpu, time.perf_counter() - wall)


def _fine_tuned(
    edited: PreTrainedModel, base: PreTrainedModel, task: Task, recipe: EditRecipe, seed: int, observe: Observe | None
) -> tuple[PreTrainedModel, list[str], int, int, pd.DataFrame]:
    """Train a copy of the base, in place; give it without adapters; what was trained (names, number, bytes of Adam); history."""
    names = trained_names(edited, recipe)
    trainee: nn.Module = edited
    if recipe.method == "lora":
        trainee = _with_adapters(edited, names, recipe, seed)
    else:
        for name, parameter in edited.named_parameters():
            parameter.requires_grad_(name in names)
    n_trainable = _checked_count(trainee, base, names, recipe)
    optimizer_bytes = 3 * sum(parameter.nbytes for parameter in trainee.parameters() if parameter.requires_grad)
    history = _train(trainee, base, task, recipe, seed, observe)
    if recipe.method == "lora":
        edited = trainee.merge_and_unload()  # type: ignore[operator]
    return edited, names, n_trainable, optimizer_bytes, history


def trained_names(model: nn.Module, recipe: EditRecipe) -> list[str]:
    """Return the names of the parameters that a recipe changes, in the model's order.

    Raises:
        ValueError: As for `edit`.
    """
    if recipe.blocks == "all":
        weights = [module.weight for module in (model.get_input_embeddings(), model.get_output_embeddings())]  # type: ignore[operator]
        if weights[0] is weights[1]:
            raise ValueError("embedding and head are tied, so that a change of one is a change of the other; take blocks='linears'")
        return [name for name, _ in model.named_parameters()]
    return [f"{name}.weight" for name in block_linears(model, recipe.blocks, recipe.layers)]


def _with_adapters(model: PreTrainedModel, names: list[str], recipe: EditRecipe, seed: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    assert recipe.rank is not None  # the recipe has seen to it
    # Full names: suffixes and regular expressions find more, or fewer, layers than they say.
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank if recipe.alpha_rule == "twice_rank" else recipe.alpha,  # type: ignore[arg-type]
        use_rslora=recipe.alpha_rule == "rank_stabilised",
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        init_lora_weights=True,
        target_modules=[name.removesuffix(".weight") for name in names],
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, on what peft asks it
        torch.default_generator.manual_seed(seed)
        wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def _checked_count(trainee: nn.Module, base: nn.Module, names: list[str], recipe: EditRecipe) -> int:
    """Return how many numbers are trained, after making sure that they are those that the recipe says."""
    trained = {name: parameter for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    shapes = {name: parameter.shape for name, parameter in base.named_parameters() if name in set(names)}
    if recipe.method == "full":
        found, expected = sorted(trained), sum(shape.numel() for shape in shapes.values())
    else:
        assert recipe.rank is not None
        of_adapters = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in trained}
        found, expected = (
            sorted(f"{name}.weight" for name in of_adapters),
            sum(recipe.rank * sum(shape) for shape in shapes.values()),
        )
        adapters: list[Any] = [module for module in trainee.modules() if hasattr(module, "lora_A")]
        scales = {scale for adapter in adapters for scale in adapter.scaling.values()}
        if any(abs(scale - recipe.scale) > 1e-9 for scale in scales):
            raise RuntimeError(f"adapters are scaled by {sorted(scales)}, not by {recipe.scale} as the recipe says")
    count = sum(parameter.numel() for parameter in trained.values())
    if found != sorted(names) or count != expected:
        raise RuntimeError(f"{count} numbers of {found} would be trained, but the recipe says {expected} of {sorted(names)}")
    return count


def _difference(base: nn.Module, edited: nn.Module, names: list[str]) -> dict[str, Tensor]:
    old, new = dict(base.named_parameters()), dict(edited.named_parameters())
    touched = [name for name in old if name not in set(names) and not torch.equal(old[name], new[name])]
    if touched:
        raise RuntimeError(f"{', '.join(touched)} changed, but were not to be trained")
    return {name: (new[name] - old[name]).detach() for name in names}


class Batches:
    """Batches of a task's training rows, drawn with replacement: some of the edit, the rest from the rows that retain."""

    def __init__(self, task: Task, recipe: EditRecipe, seed: int, device: torch.device) -> None:
        pools = [[task.encode("train", name) for name in names if name in task.train] for names in _POOLS]
        width = max(part.tokens.shape[1] for pool in pools for part in pool)
        self.pools = [_rows(pool, width, device) if pool else None for pool in pools]
        n_edited = max(1, round(recipe.edited_share * recipe.batch_size))
        rest = recipe.batch_size - n_edited
        if self.pools[1] is None and self.pools[2] is None:
            self.sizes = (recipe.batch_size, 0, 0)
        elif self.pools[1] is None or self.pools[2] is None:
            self.sizes = (n_edited, 0 if self.pools[1] is None else rest, 0 if self.pools[2] is None else rest)
        else:
            self.sizes = (n_edited, rest // 2, rest - rest // 2)
        self.rng = np.random.default_rng(np.random.SeedSequence(seed))

    def __iter__(self) -> Iterator[tuple[Rows, Rows | None]]:
        while True:
            drawn = [
                _taken(pool, torch.from_numpy(self.rng.integers(len(pool.tokens), size=size)))
                for pool, size in zip(self.pools, self.sizes, strict=True)
                if pool is not None and size
            ]
            edited, retained = drawn[0], drawn[1:]
            yield edited, Rows(*(torch.cat(parts) for parts in zip(*retained, strict=True))) if retained else None


def _rows(parts: list[Sentences], width: int, device: torch.device) -> Rows:
    tokens, masks = [], []
    for part in parts:
        rows, start, length = as_tensors(part)
        tokens.append(nn.functional.pad(rows, (0, width - rows.shape[1]), value=PAD))
        masks.append(answer_mask(start, length, width))
    return Rows(torch.cat(tokens).to(device), torch.cat(masks).to(device))


def _taken(rows: Rows, which: Tensor) -> Rows:
    which = which.to(rows.tokens.device)
    return Rows(rows.tokens[which], rows.is_answer[which])


def _train(trainee: nn.Module, base: nn.Module, task: Task, recipe: EditRecipe, seed: int, observe: Observe | None) -> pd.DataFrame:
    """Train in place; give the history."""
    trainee.eval()  # no dropout, whatever the model was built with
    weights = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    losses: list[Tensor] = []
    rows = [_look(trainee, task, 0, losses, observe)]
    batches = iter(Batches(task, recipe, seed, next(base.parameters()).device))
    for step in range(1, recipe.checkpoints[-1] + 1):
        edited, retained = next(batches)
        loss = recipe.objective.loss(trainee, base, edited, retained)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step in recipe.checkpoints:
            rows.append(_look(trainee, task, step, losses, observe))
            losses = []
    return pd.DataFrame(rows)


def _look(model: nn.Module, task: Task, step: int, losses: list[Tensor], observe: Observe | None) -> dict[str, Any]:
    """A row of the history."""
    asked = task.encode("test", "forget" if "forget" in task.test else "edited")
    row: dict[str, Any] = {
        "step": step,
        "loss": float(torch.stack(losses).mean()) if losses else float("nan"),
        "edited_exact": float(answer(model, asked).exact.mean()),
    }
    if observe is not None:
        with torch.no_grad():
            row |= observe(model)
    model.eval()
    return row


def apply_difference(model: PreTrainedModel, difference: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a copy of a model with a difference added to its weights.

    Raises:
        ValueError: The model has no parameter of such a name and shape.
    """
    changed = copy.deepcopy(model)
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
    if rank < 0:
        raise ValueError(f"rank={rank}: must be at least 0")
    truncated = {}
    for name, change in difference.items():
        if change.ndim != 2:
            truncated[name] = change.clone()
            continue
        u, s, v = torch.linalg.svd(change.double(), full_matrices=False)
        truncated[name] = ((u[:, :rank] * s[:rank]) @ v[:rank]).to(change.dtype)
    return truncated
