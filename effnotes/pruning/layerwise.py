"""Layer-wise pruning: which weights of one layer go, and what the others become, so that its outputs change least.

All solvers take a layer's weights W, the Gram matrix H of its inputs, and a level. A change D of the weights costs tr(D H D^T), the
squared change of the layer's outputs summed over the inputs that H was made from. Rows of W share H and are otherwise independent.

A *dead* column is an input that was always zero: its weights change nothing, so `sparsegpt` and `exact_obs` set them to zero.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

from effnotes.core.checks import check_choice, check_range
from effnotes.pruning.gram import CHUNK_BYTES, Layer, weight_matrices
from effnotes.pruning.masks import kept_count


class LayerSolution(NamedTuple):
    """A layer pruned by itself."""

    weight: Tensor  # of the layer's weight's shape, type and device; zero where pruned
    mask: Tensor  # bool, of the same shape; True = kept
    error: float  # tr(D H D^T) / tr(W H W^T), D the change of the weights W; 0 for an untouched layer
    seconds: float  # CPU seconds of the solver, on all its threads


class _Task(NamedTuple):
    """What a solver gets, weights and Gram matrices in one floating type."""

    images: int
    weight: Tensor  # (m, rows, columns), m = images x groups
    gram: Tensor  # (m, columns, columns); for "sparsegpt" the input vectors (m, columns, n) where n < columns
    taps: int  # weights of a kernel, the columns of one input channel
    level: float
    damping: float
    seed: int


_Answer = tuple[Tensor, Tensor, Tensor | None]  # weights and mask, both (m, rows, columns), and tr(D H D^T), (m,), where known


def solve_layer(
    layer: Layer,
    gram: Tensor,
    level: float,
    *,
    solver: str = "sparsegpt",
    update: bool = True,
    damping: float = 0.01,
    seed: int = 0,
) -> LayerSolution:
    """Prune a copy of one layer's weights so that its outputs on the inputs behind a Gram matrix change little.

    Args:
        layer: The layer; it is not changed.
        gram: Of its inputs, as `gram_matrix` gives it: (groups, c, c), float32 or float64, which is what is computed in
            (`exact_obs` always in float64).
        level: Sparsity in [0, 1); 0 leaves every weight as it is, to the bit.
        solver: One of `LAYER_SOLVERS`.

            "sparsegpt": `kept_count` weights of every *quota*, the columns of one input channel, which are nine for a 3x3 kernel
            and one for a 1x1 convolution or a linear layer; then the columns to the right make up for what was pruned (Frantar &
            Alistarh, "SparseGPT", ICML 2023; for convolutions as in the code of SPADE, Soltani Moakhar et al., ICML 2024).

            "exact_obs": Optimal Brain Surgeon, weight by weight, and all that remain in the row make up for it (Frantar, Singh &
            Alistarh, "Optimal Brain Compression", NeurIPS 2022). `kept_count` weights of the *layer* stay, by the smallest losses
            over all rows. "exact_obs_kernel" removes the taps of one input channel together, "exact_obs_channels_last" as many
            neighbouring channels at one tap, which is what SPADE's code does; slow: rows x c^3 operations.

            Controls, at the quotas of "sparsegpt": "magnitude"; "wanda", |w| sqrt(H_jj) (Sun et al., ICLR 2024), which differs
            from magnitude only inside kernels; "random"; "sparsegpt_mask", whose weights stay as they were.
        update: Whether kept weights make up for removed ones; False takes the solver's mask alone, as "sparsegpt_mask" does.
        damping: Added to the diagonal of the Gram matrix, in means of its diagonal over columns that are not dead; at least 0.
        seed: Of the draw of "random".

    Raises:
        ValueError: An argument is out of range, the layer is neither a convolution nor linear, its weights or the Gram matrix are
            not finite or do not fit, or the Gram matrix is singular in spite of the damping.
    """
    return solve_layer_batch(layer, gram[None], level, solver=solver, update=update, damping=damping, seed=seed)[0]


@torch.no_grad()
def solve_layer_batch(
    layer: Layer,
    grams: Tensor,
    level: float,
    *,
    solver: str = "sparsegpt",
    update: bool = True,
    damping: float = 0.01,
    seed: int = 0,
) -> list[LayerSolution]:
    """Prune a layer once for each of m Gram matrices; see `solve_layer`, of which this is the case m = 1.

    `grams` is (m, groups, c, c), m at least 1, or the fewer than c input vectors behind them, (m, groups, c, n), as
    `layer_statistics` gives either. From those "sparsegpt" needs no Gram matrix; the others form it. What takes more time in a
    small layer is that there is a next step, not what is done in it; "sparsegpt" takes each step for all matrices. The seconds are
    shared out evenly.
    """
    weight, taps = weight_matrices(layer)
    check_choice(tuple(LAYER_SOLVERS), solver=solver)
    check_range(0.0, damping=damping)
    kept_count(1, level)
    groups, _, columns = weight.shape
    m, shape = len(grams), layer.weight.shape
    few = grams.ndim == 4 and grams.shape[1:3] == (groups, columns) and 0 < grams.shape[3] < columns
    if not (few or grams.shape[1:] == (groups, columns, columns)) or not m or grams.dtype not in (torch.float32, torch.float64):
        given, needed = f"gram is {grams.dtype} of shape {tuple(grams.shape[1:])}", (groups, columns, columns)
        raise ValueError(f"{given}: {type(layer).__name__} needs float32 or float64 of {needed}, as gram_matrix gives it")
    for name, tensor in {"the Gram matrix": grams, "the layer's weight": weight}.items():
        if not math.isfinite(float(tensor.sum())):  # one pass; a test of every value takes as long as a third of the factor
            raise ValueError(f"{name} has values that are NaN or infinite; look for them in the images and in the model")
    if level == 0:
        whole = torch.ones(shape, dtype=torch.bool, device=weight.device)
        return [LayerSolution(weight.reshape(shape).clone(), whole.clone(), 0.0, 0.0) for _ in range(m)]
    start = time.process_time()
    if few and solver not in ("sparsegpt", "sparsegpt_mask"):
        grams, few = grams @ grams.mT, False
    wide, gram = weight.to(grams.dtype).repeat(m, 1, 1), grams.flatten(0, 1)
    answer, mask, lost = LAYER_SOLVERS[solver](_Task(m, wide, gram, taps, level, damping, seed))
    if not update:
        answer, lost = wide * mask, None
    if lost is None:
        lost = _energy(wide - answer.to(gram.dtype), gram)
    of_image = zip(*(each.view(m, groups).sum(1).tolist() for each in (lost, _energy(wide, gram))), strict=True)
    errors = [max(lost_here, 0.0) / whole_here if whole_here else 0.0 for lost_here, whole_here in of_image]
    seconds = (time.process_time() - start) / m
    found = zip(answer.to(weight.dtype).reshape(m, *shape), mask.reshape(m, *shape), errors, strict=True)
    return [LayerSolution(*each, seconds) for each in found]


def _energy(weight: Tensor, gram: Tensor, width: int = 128) -> Tensor:
    """tr(W H W^T), (m,), from the upper triangle of H alone, which halves the work, or from input vectors."""
    if gram.shape[1] != gram.shape[2]:
        return _square(weight @ gram)
    total = torch.zeros(len(gram), dtype=torch.float64, device=gram.device)
    for start in range(0, gram.shape[1], width):
        here = weight[..., start : start + width]
        sums = here @ gram[:, start : start + width, start : start + width]
        sums.baddbmm_(weight[..., :start], gram[:, :start, start : start + width], alpha=2)
        total += sums.mul_(here).sum((1, 2), dtype=torch.float64)
    return total


def _condition_(gram: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Make Gram matrices ones that can be factored; return which columns are dead, (m, columns), and what was added, (m, 1).

    The mean of the diagonal is that of the live columns: ones put in for dead columns would shift the damping.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    dead, added = _damped(diagonal, damping)
    diagonal.add_(added).masked_fill_(dead, 1.0)
    return dead, added


def _damped(diagonal: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    dead = diagonal <= 0
    return dead, damping * diagonal.sum(-1, keepdim=True) / (~dead).sum(-1, keepdim=True).clamp(min=1)


def _cholesky(gram: Tensor) -> Tensor:
    """The lower factors of matrices that may be overwritten; what lies above their diagonals is left undefined."""
    if gram.device.type == "cpu":
        # SciPy's LAPACK works in place; torch copies twice, and clears the upper triangle against the grain of its memory.
        potrf = lapack.spotrf if gram.dtype == torch.float32 else lapack.dpotrf
        gram = gram.contiguous()
        failed = any(potrf(one.T, lower=1, clean=0, overwrite_a=1)[1] for one in gram[None].flatten(0, -3).numpy())
        factor = gram.mT
    else:
        factor, info = torch.linalg.cholesky_ex(gram)
        failed = bool(info.any())
    if failed:
        raise ValueError("the Gram matrix is singular to working precision; take a damping above 0 (0.01 is usual), or float64")
    return factor


def _sparsegpt(task: _Task) -> _Answer:
    """SparseGPT's sweep, without the inverse of H that SparseGPT takes its numbers from.

    With H = R R^T, R upper triangular, SparseGPT's factor of the inverse is U = R^-1, and its errors are D R, D the changes so far.
    So the columns q of a quota, made up for all D to their left, are w_q + (sum over i of D_i R_iq) U_qq, and of U only these
    small blocks on the diagonal are needed: one Cholesky factor is enough, a quarter of the operations of factor, inverse and
    factor again. The sums are taken by halves, left before right: products of matrices as large as the order of the columns
    allows, whatever the width of a quota.
    """
    if task.gram.shape[1] != task.gram.shape[2]:
        return _sparsegpt_of_few(task)
    # A lower factor of the reversed matrix is, reversed again, the upper one.
    matrix = task.gram.flip(1, 2)
    dead, added = _condition_(matrix, task.damping)
    factor, taps, (_, rows, columns) = _cholesky(matrix).flip(1, 2), task.taps, task.weight.shape
    blocks = factor.unflatten(2, (-1, taps)).unflatten(1, (-1, taps)).diagonal(dim1=1, dim2=3).movedim(-1, 0)
    unit = torch.eye(taps, dtype=factor.dtype, device=factor.device)
    inverses = torch.linalg.solve_triangular(blocks, unit, upper=True)
    shares = (inverses * blocks.diagonal(dim1=2, dim2=3)[..., None]).triu(1).mT  # of a removed tap's weight in a later tap's
    # Columns are worked on one after the other, so each is contiguous here.
    weight = task.weight.mT.clone(memory_format=torch.contiguous_format).masked_fill_(dead.flip(1)[..., None], 0.0)
    sums, change, kept, result = (
        torch.zeros_like(weight),
        torch.empty_like(weight),
        torch.zeros_like(weight),
        torch.empty_like(weight),
    )
    pivots = factor.diagonal(dim1=1, dim2=2)[..., None]
    quotas = [part.split(taps, 1) for part in (weight, sums, change, kept, result, pivots)]
    quotas += [inverses.mT.unbind(), shares.unbind()]
    keep = kept_count(rows * taps, task.level)

    def solve(first: int, last: int) -> None:
        if last - first > taps:
            middle = first + taps * ((last - first) // taps // 2)
            solve(first, middle)
            sums[:, middle:last].baddbmm_(factor[:, first:middle, middle:last].mT, change[:, first:middle])
            solve(middle, last)
            return
        quota = first // taps
        here, sums_here, changed, kept_here, current, pivots_here, inverse, shares_here = (parts[quota] for parts in quotas)
        # A product of 1x1 is a factor, for which nothing is copied first.
        (torch.addcmul if taps == 1 else torch.baddbmm)(here, inverse, sums_here, out=current)
        # The loss of a weight is its square times that of the pivot; the order is that of the roots.
        roots = (current if taps == 1 else current * pivots_here).abs().flatten(1)
        kept_here.flatten(1).scatter_(1, roots.topk(keep, sorted=False).indices, 1.0)
        if taps > 1:
            removed = torch.addcmul(current, current, kept_here, value=-1)
            of_taps = zip(*(each.split(1, 1) for each in (current, shares_here, kept_here, removed)), strict=True)
            for column, share, where, gone in itertools.islice(of_taps, 1, None):
                torch.addcmul(column.baddbmm_(share, removed, alpha=-1), column, where, value=-1, out=gone)
        torch.addcmul(here, current, kept_here, value=-1, out=changed)

    solve(0, columns)
    removed = torch.addcmul(result, result, kept, value=-1)
    # The errors are those of the damped matrix; what was put on its diagonal is no change of the outputs.
    lost = _square(removed.mul_(pivots)) - added[:, 0] * _square(change)
    return result.mul_(kept).mT, kept.mT != 0, lost


def _sparsegpt_of_few(task: _Task, width: int = 128) -> _Answer:
    """The same from n < c input vectors X, with no matrix of c x c, in c (n^2 + n rows) operations.

    With F the columns from a block B on, (l I + X_F X_F^T)^-1 is (I - X_F P X_F^T) / l, P the inverse of l I + X_F^T X_F, which
    is n x n. So B, made up for by all behind it, has the Gram matrix l (I - G)^-1, G = X_B P X_B^T, in which it is swept alone; its
    change D moves the columns behind by -D (I - G)^-1 X_B P X_F^T, of which all but X_F is summed up; and P gains
    (X_B P)^T (I - G)^-1 X_B P once B has gone.
    """
    vectors, weight = task.gram, task.weight
    dead, added = _damped(vectors.square().sum(dim=2), task.damping)
    damping = torch.where(dead.all(dim=1, keepdim=True), 1.0, added)[..., None].double()
    squares = (vectors.mT @ vectors).double() + damping * torch.eye(vectors.shape[2], device=vectors.device)
    inverse = torch.cholesky_inverse(_cholesky(squares).tril())
    moved, parts = weight.new_zeros(*weight.shape[:2], vectors.shape[2]), list[tuple[Tensor, Tensor]]()
    lost = weight.new_zeros(len(weight), dtype=torch.float64)
    step = max(1, width // task.taps) * task.taps
    for here, x, gone in zip(weight.split(step, 2), vectors.split(step, 1), dead.split(step, 1), strict=True):
        xp = x.double() @ inverse
        left = torch.eye(x.shape[1], device=x.device) - xp @ x.mT.double()
        behind = torch.cholesky_inverse(_cholesky(left).tril())
        current = (here + moved @ x.mT).masked_fill(gone[:, None], 0.0)
        gram = (damping * behind).to(weight.dtype)
        answer, mask, of_block = _sparsegpt(task._replace(weight=current, gram=gram, damping=0.0))
        parts.append((answer, mask))
        by = behind @ xp
        moved -= (answer - current) @ by.to(weight.dtype)
        inverse += xp.mT @ by
        assert of_block is not None  # only the controls leave it out
        lost += of_block
    result, kept = (torch.cat(each, dim=2) for each in zip(*parts, strict=True))
    # As above: what was put on the diagonal is no change of the outputs.
    return result, kept, lost - added[:, 0] * _square(result - weight.masked_fill(dead[:, None], 0.0))


def _square(tensor: Tensor) -> Tensor:
    # Sums in double precision alone would first make all of the tensor one of doubles.
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=2).double()
    return norms.square().sum(1)


def _exact_obs(task: _Task, group: int = 1, *, channels_last: bool = False) -> _Answer:
    """Optimal Brain Surgeon by groups of neighbouring columns, with one selection over all rows of the layer, image by image."""
    columns = task.weight.shape[-1]
    order = torch.arange(columns, device=task.weight.device)
    if channels_last:
        order = order.view(-1, task.taps).T.flatten()
    weight = task.weight.double()[..., order]
    grams = task.gram.double()[:, order][..., order]
    weight.masked_fill_(_condition_(grams, task.damping)[0][:, None], 0.0)
    paths = [_removals(one, gram, group) for one, gram in zip(weight, grams, strict=True)]
    chosen, losses = (torch.stack(part) for part in zip(*paths, strict=True))  # (m, rows, steps)
    # As in OBC: the smallest losses of all rows count how many steps each row goes along its own path.
    of_layer = losses.view(task.images, -1)
    order_of_losses = of_layer.argsort(stable=True)[:, : -kept_count(of_layer.shape[1], task.level)]
    steps = torch.zeros_like(of_layer).scatter_(1, order_of_losses, 1.0).view_as(losses).sum(-1, keepdim=True)
    mask = (chosen.argsort(-1) >= steps).repeat_interleave(group, -1)
    result = torch.zeros_like(weight)
    for where, kept in ((where, mask[where].nonzero().flatten()) for where in np.ndindex(*mask.shape[:2])):
        # The end of a path is the least-squares solution on the weights that survive, so that none need be stored on the way.
        rows = grams[where[0]][kept]
        result[where][kept] = torch.cholesky_solve((rows @ weight[where])[:, None], _cholesky(rows[:, kept].contiguous()))[:, 0]
    back = order.argsort()
    return result[..., back], mask[..., back], None


def _removals(weight: Tensor, gram: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """The groups of each row in the order in which they go, and what each costs then, both (rows, columns / group)."""
    inverse = torch.cholesky_inverse(_cholesky(gram.clone()))
    count, within = len(gram) // group, torch.arange(group, device=gram.device)
    chosen = torch.empty(len(weight), count, dtype=torch.long, device=gram.device)
    losses = torch.empty_like(chosen, dtype=gram.dtype)
    chunk = max(1, CHUNK_BYTES // (inverse.element_size() * inverse.numel()))
    for rows in torch.arange(len(weight), device=gram.device).split(chunk):
        left, here, each = inverse.repeat(len(rows), 1, 1), weight[rows], torch.arange(len(rows), device=gram.device)[:, None]
        gone = torch.zeros(len(rows), count, dtype=torch.bool, device=gram.device)
        for step in range(count):
            parts = here.unflatten(1, (count, group))
            blocks = left.unflatten(2, (count, group)).unflatten(1, (count, group)).diagonal(dim1=1, dim2=3).movedim(-1, 1)
            solved = parts / blocks[..., 0] if group == 1 else torch.linalg.solve(blocks, parts)
            losses[rows, step], best = (parts * solved).sum(-1).masked_fill_(gone, torch.inf).min(-1)
            chosen[rows, step] = best
            gone[each[:, 0], best] = True
            columns = best[:, None] * group + within
            cross = left[each, columns]  # (rows, group, columns)
            scaled = torch.linalg.solve(cross.gather(2, columns[:, None].expand(-1, group, -1)), cross)
            here = here.sub_((here.gather(1, columns)[:, None] @ scaled)[:, 0]).scatter_(1, columns, 0.0)
            left.baddbmm_(cross.mT, scaled, alpha=-1)
            left[each, columns] = 0.0
            left[each, :, columns] = 0.0
            left[each, columns, columns] = 1.0  # so that the blocks of what is gone stay invertible
    return chosen, losses


def _by_score(task: _Task, score: Tensor) -> _Answer:
    """Keep the largest scores of every quota, weights as they are."""
    groups, rows, columns = score.shape
    quotas = score.view(groups, rows, -1, task.taps).transpose(1, 2).flatten(2)
    keep = kept_count(rows * task.taps, task.level)
    kept = torch.zeros_like(quotas, dtype=torch.bool).scatter_(-1, quotas.topk(keep, sorted=False).indices, True)
    mask = kept.view(groups, -1, rows, task.taps).transpose(1, 2).reshape(groups, rows, columns)
    return _masked(task, mask)


def _masked(task: _Task, mask: Tensor) -> _Answer:
    return task.weight.masked_fill(~mask, 0.0), mask, None


def _random(task: _Task) -> _Answer:
    m, *shape = task.weight.shape
    draws = torch.rand(m // task.images, *shape, generator=torch.Generator().manual_seed(task.seed))
    return _by_score(task, draws.repeat(task.images, 1, 1).to(task.weight.device))


LAYER_SOLVERS: Mapping[str, Callable[[_Task], _Answer]] = {
    "sparsegpt": _sparsegpt,
    "exact_obs": _exact_obs,
    "exact_obs_kernel": lambda task: _exact_obs(task, task.taps),
    "exact_obs_channels_last": lambda task: _exact_obs(task, task.taps, channels_last=True),
    "magnitude": lambda task: _by_score(task, task.weight.abs()),
    "wanda": lambda task: _by_score(task, task.weight.abs() * task.gram.diagonal(dim1=1, dim2=2).sqrt()[:, None]),
    "random": _random,
    "sparsegpt_mask": lambda task: _masked(task, _sparsegpt(task)[1]),
}
