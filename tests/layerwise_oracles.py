"""Literal, slow forms of the solvers of one layer, which tests and benchmark of `effnotes.pruning.layerwise` compare with."""

import torch
import torch.nn.functional as F


def damped(gram, damping=0.01):
    """Ones for dead columns, then the damping by the mean over live ones."""
    diagonal = gram.diagonal()
    live = diagonal > 0
    result = gram + damping * diagonal[live].mean() * torch.eye(len(gram), dtype=gram.dtype)
    for j in range(len(gram)):
        if not live[j]:
            result[j, j] = 1.0
    return result, live


def inverse_factor(gram):
    """U, upper, with U^T U = H^-1, as SparseGPT's code gets it: factor, invert, factor."""
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)


def literal_sweep(weight, gram, quota, keep, damping=0.01):
    """SparseGPT column by column over (rows, columns), every column to the right updated at once; `keep` weights a quota."""
    gram, live = damped(gram, damping)
    factor = inverse_factor(gram)
    weight = weight.clone() * live
    mask = torch.zeros_like(weight, dtype=torch.bool)
    for first in range(0, weight.shape[1], quota):
        here = slice(first, first + quota)
        score = weight[:, here] ** 2 / factor.diagonal()[here] ** 2
        block = torch.zeros(score.numel(), dtype=torch.bool)
        block[score.flatten().argsort(descending=True, stable=True)[:keep]] = True
        mask[:, here] = block.view(score.shape)
        for j in range(first, first + quota):
            error = weight[:, j] * ~mask[:, j] / factor[j, j]
            weight[:, j:] -= error[:, None] * factor[None, j, j:]
            weight[~mask[:, j], j] = 0.0
    return weight, mask


def blocked_like_the_authors(weight, gram, quota, keep, damping=0.01):
    """SparseGPT as the code of SPADE runs it: the quota is also the width after which the rest of the matrix is updated."""
    gram, live = damped(gram, damping)
    factor = inverse_factor(gram)
    weight = weight.clone() * live
    mask = torch.zeros_like(weight, dtype=torch.bool)
    for first in range(0, weight.shape[1], quota):
        last = first + quota
        block, square = weight[:, first:last].clone(), factor[first:last, first:last]
        score = block**2 / square.diagonal() ** 2
        threshold = score.flatten().sort().values[score.numel() - keep]
        kept = score >= threshold
        errors = torch.zeros_like(block)
        for j in range(quota):
            column = block[:, j]
            errors[:, j] = column.masked_fill(kept[:, j], 0.0) / square[j, j]
            block[:, j:] -= errors[:, j : j + 1] @ square[j : j + 1, j:]
        weight[:, first:last], mask[:, first:last] = block.masked_fill(~kept, 0.0), kept
        weight[:, last:] -= errors @ factor[first:last, last:]
    return weight, mask


def textbook_obs(weight, gram, groups, removed):
    """Optimal Brain Surgeon on one layer of (rows, columns): each row's whole path, one selection over all rows.

    `gram` is conditioned already, `groups` are lists of columns, and `removed` of all groups of all rows go. Nothing is shared
    between rows, and each step of a path is stored.
    """
    paths, losses = [], []
    for row in weight:
        left, inverse, path, costs = row.clone(), torch.linalg.inv(gram), [row.clone()], []
        alive = list(groups)
        while alive:
            costs_now = [left[g] @ torch.linalg.inv(inverse[g][:, g]) @ left[g] for g in alive]
            g = alive.pop(min(range(len(alive)), key=lambda i: costs_now[i]))
            costs.append(float(min(costs_now)))
            core = torch.linalg.inv(inverse[g][:, g])
            left = left - left[g] @ core @ inverse[g]
            inverse = inverse - inverse[:, g] @ core @ inverse[g]
            left[g] = 0.0
            path.append(left.clone())
        paths.append(path)
        losses += [(cost, len(paths) - 1) for cost in costs]
    taken = [row for _, row in sorted(losses)[:removed]]
    return torch.stack([path[taken.count(row)] for row, path in enumerate(paths)])


def relative_error(before, after, gram):
    change = before - after
    return float(torch.trace(change @ gram @ change.T) / torch.trace(before @ gram @ before.T))


def literal_patches(layer, inputs):
    """What each output of a convolution is computed from, by loops: (groups, positions, columns)."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = layer.kernel_size, layer.stride, layer.dilation, layer.padding
    padded = F.pad(inputs, (pw, pw, ph, ph), mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    width = layer.in_channels // layer.groups
    found = []
    for group in range(layer.groups):
        patches = []
        for image in padded:
            for top in range(0, padded.shape[2] - dh * (kh - 1), sh):
                for left in range(0, padded.shape[3] - dw * (kw - 1), sw):
                    patches.append(
                        [
                            float(image[group * width + c, top + dh * i, left + dw * j])
                            for c in range(width)
                            for i in range(kh)
                            for j in range(kw)
                        ]
                    )
        found.append(patches)
    return torch.tensor(found, dtype=inputs.dtype)
