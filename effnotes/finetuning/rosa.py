"""Low-rank and sparse adapters of peft: which weights the sparse part changes, and how many numbers are trained.

RoSA (Nikdan et al., ICML 2024, arXiv 2401.04679) computes y = x (W + S)^T + scale (x A^T) B^T + b with W frozen, A and B of a low
rank, and S zero but for entries whose places, the mask, are fixed before it is trained. peft has this form as "supertuning"
(arXiv 2607.09287), whose mask is that of the largest weights; here the places are chosen, by RoSA's rule, from gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pandas as pd
import torch
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.models.language import block_linears

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MaskRule: TypeAlias = Literal["grad_sq", "grad_abs", "magnitude", "random"]
"""What is largest where the sparse change may be: the sum of the squares of micro-batches' gradients (RoSA), the size of their sum,
the size of the weight, or a random number."""

_PREFIX = "base_model.model."  # of peft


def _sparsity(density: float) -> float:
    """Peft's setting, of which it makes int((1 - sparsity) n) entries: a trifle less, or 0.1 of 1,000 were 99."""
    return max(0.0, 1 - density - 1e-12)


def n_entries(size: int, density: float) -> int:
    """Return int(density * size): the entries of a sparse change of a matrix of `size` numbers. A density of 0 gives 0."""
    return int(size * (1 - _sparsity(density))) if density else 0


def n_trained(shapes: Iterable[torch.Size], rank: int, density: float) -> int:
    """Return the numbers that are trained in matrices of shapes (m, n): the sum of rank (m + n) + int(density m n)."""
    return sum(rank * sum(shape) + n_entries(shape.numel(), density) for shape in shapes)


def equal_budget(model: nn.Module, trainable: int, ranks: Sequence[int]) -> dict[int, float]:
    """Return the density by which each rank trains a given number of numbers, within 1%: LoRA, mixes of RoSA, and sparse (rank 0).

    Args:
        model: A causal language model of transformers.
        trainable: Numbers to be trained, such as LoRA's.
        ranks: Low ranks, from 0; a density of 0 means that the rank needs all of them.

    Raises:
        ValueError: A rank alone trains more, or no density gives so many; as for `block_linears`.
    """
    shapes = [linear.weight.shape for linear in block_linears(model).values()]
    densities = {}
    for rank in ranks:
        check_range(0, whole=True, rank=rank)
        density = (trainable - n_trained(shapes, rank, 0)) / sum(shape.numel() for shape in shapes)
        densities[rank] = float(f"{min(1.0, max(0.0, density)):.4g}")
        found = n_trained(shapes, rank, densities[rank])
        if abs(found - trainable) > 0.01 * trainable:
            what = f"the nearest that rank {rank} trains in these layers is {found:,} (density {densities[rank]})"
            raise ValueError(f"trainable={trainable:,}: {what}; take another rank or budget")
    return densities


def with_adapters(
    model: PreTrainedModel, targets: list[str], *, rank: int | None, scale: float, density: float | None, seed: int
) -> nn.Module:
    """Put adapters of peft beside linear layers of a model, which is changed: LoRA, sparse, or both (RoSA); they begin at zero.

    Args:
        model: The model; its own weights are frozen.
        targets: Full names of the layers: suffixes and regular expressions find more, or fewer, than they say.
        rank: Of LoRA; None for sparse alone.
        scale: Of LoRA.
        density: Of the sparse part, in (0, 1]; None for LoRA alone.
        seed: Of LoRA's start.

    Raises:
        ValueError: A sparse part has no entry in some layer, or layers are no `nn.Linear`, which peft wants for it.
    """
    from peft import LoraConfig, SupertuningConfig, get_peft_model

    first = model.get_submodule(targets[0])
    # The defaults are what is meant: no dropout, no biases, and changes that begin at zero. alpha need not be whole.
    options: dict[str, Any] = {"task_type": "CAUSAL_LM", "target_modules": targets, "r": rank}
    options["lora_alpha"] = None if rank is None else scale * rank
    if density is None:
        # Conv1D keeps its weights as (in, out).
        config: Any = LoraConfig(**options, fan_in_fan_out=not isinstance(first, nn.Linear))
    else:
        if not isinstance(first, nn.Linear):
            what = "peft has a sparse part for nn.Linear only; take method='lora' or 'full'"
            raise ValueError(f"{targets[0]} is a {type(first).__name__}: {what}")
        sizes = {name: model.get_submodule(name).weight.numel() for name in targets}  # type: ignore[operator]
        least = min(sizes, key=sizes.__getitem__)
        if not n_entries(sizes[least], density):
            what = f"of the {sizes[least]} numbers of {least} that is no entry; take at least {1 / sizes[least]:.2g}"
            raise ValueError(f"density={density}: {what}, or leave the sparse part out")
        config = SupertuningConfig(**options, sparsity=_sparsity(density))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, on what peft asks it
        torch.default_generator.manual_seed(seed)
        wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def adapted(name: str) -> str:
    """Return the name of the weight that a parameter of an adapter changes."""
    return f"{name.removeprefix(_PREFIX).partition('.supertuning_')[0].partition('.lora_')[0]}.weight"


def is_entries(name: str) -> bool:
    """Whether a parameter of an adapter holds the entries of a sparse change."""
    return ".supertuning_values." in name


def write_mask_(
    trainee: nn.Module, names: Sequence[str], density: float, rule: MaskRule, losses: Iterable[Tensor], seed: int
) -> dict[str, Tensor]:
    """Choose the places of a model's sparse adapters and write them there.

    In each matrix alone the int(density m n) places of the largest scores are taken. Gradients are summed in float32: squares of
    small ones are 0 in half precision, and the choice would be arbitrary.

    Args:
        trainee: The model with adapters, as `with_adapters` makes it, as it is where the gradients are taken.
        names: Of the weights.
        density: Of the sparse part.
        rule: What is largest there.
        losses: Of micro-batches, with their graphs; taken one by one, and only if the rule asks for gradients.
        seed: Of random places.

    Returns:
        Sorted places in each weight read row by row, int32, by name.

    Raises:
        RuntimeError: A gradient is NaN or infinite.
    """
    layers = {name: trainee.get_submodule(_PREFIX + name.removesuffix(".weight")) for name in names}
    weights: list[Any] = [layer.base_layer.weight for layer in layers.values()]  # type: ignore[union-attr]
    if rule in ("grad_sq", "grad_abs"):
        scores = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
        for weight in weights:
            weight.requires_grad_(True)
        for loss in losses:
            for score, gradient in zip(scores, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
                score.add_(gradient.float().square() if rule == "grad_sq" else gradient)
        for weight in weights:
            weight.requires_grad_(False)
        if not all(torch.isfinite(score).all() for score in scores):
            raise RuntimeError("gradients are NaN or infinite where the mask is chosen; lower the learning rate or warmup_steps")
    elif rule == "magnitude":
        scores = [weight.detach() for weight in weights]
    else:
        generator = torch.Generator().manual_seed(seed)
        scores = [torch.rand(weight.shape, generator=generator).to(weight.device) for weight in weights]
    mask = {}
    for (name, layer), score in zip(layers.items(), scores, strict=True):
        places = score.abs().flatten().topk(n_entries(score.numel(), density)).indices.sort().values.int()
        layer.supertuning_indices["default"].copy_(places)  # type: ignore[index]
        mask[name] = places
    return mask


def mask_overlap(first: Mapping[str, Tensor], second: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> pd.DataFrame:
    """Compare two masks, matrix by matrix.

    Args:
        first: Places by name, as in `Tuned.mask`, each once.
        second: The same of another mask.
        weights: Anything of the weights' shapes by the same names, such as `Tuned.difference`.

    Returns:
        A row for each weight: jaccard, common places in those of either, in [0, 1]; and chance, that ratio where as many places are
        common as of two random masks on average, k1 k2 / n.

    Raises:
        ValueError: The masks are not of the same weights.
    """
    if first.keys() != second.keys() or not first:
        raise ValueError(f"masks of {len(first)} and {len(second)} weights, not all the same; compare masks of the same layers")
    rows = {}
    for name, places in first.items():
        total = len(places) + len(second[name])
        common, expected = int(torch.isin(places, second[name]).sum()), len(places) * len(second[name]) / weights[name].numel()
        rows[name] = {"jaccard": common / (total - common), "chance": expected / (total - expected)}
    return pd.DataFrame.from_dict(rows, orient="index")
