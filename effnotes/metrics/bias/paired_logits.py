"""Run two PyTorch classifiers over the same batches, and leave both as they were."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, default_collate

from effnotes.metrics.bias.alignment import align
from effnotes.metrics.bias.per_attribute import FloatArray
from effnotes.models.modes import evaluating
from effnotes.models.weights import like_weights


def check_order(loader: Iterable[Any], samples: int) -> None:
    """Raise ValueError unless a loader is known to yield that many samples in the order of its data set."""
    if isinstance(loader, list | tuple):
        return
    remedy = "let it yield (images, labels, group), or pass a list of batches, or a DataLoader without shuffle=True and samplers"
    cause = f"is a {type(loader).__name__}, whose order is not known"
    # A subclass may yield what it likes; a loader with a batch sampler has a sampler as well, but draws nothing from it.
    if isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__:
        batches = loader.batch_sampler
        sampler = batches.sampler if type(batches) is BatchSampler else batches or loader.sampler
        ordered = loader.num_workers == 0 or loader.in_order
        if type(sampler) is SequentialSampler and ordered:
            if type(batches) is BatchSampler and loader.collate_fn is default_collate:
                known = len(sampler)
                expected = known - known % batches.batch_size if batches.drop_last else known
                if samples != expected:
                    what = f"the loader yields {expected} of {known} samples (drop_last={batches.drop_last})"
                    raise ValueError(f"protected has {samples} entries, but {what}; give one for each of these, in their order")
            return
        cause = f"shuffles, or has an order of its own ({type(sampler).__name__ if ordered else 'in_order=False'})"
    raise ValueError(f"protected holds the groups in the order of the samples, but the loader {cause}; {remedy}")


def paired_logits(
    dense: nn.Module,
    pruned: nn.Module,
    loader: Iterable[Any],
    *,
    check: Callable[[int, bool, bool], None] | None,
    names: Sequence[Hashable] | None,
) -> tuple[FloatArray, FloatArray, NDArray[Any], NDArray[Any] | None, Sequence[Hashable] | None]:
    """Collect the logits of both models, the labels and the groups, batch by batch.

    Each batch goes through both models, so a loader that shuffles keeps them aligned. `check` is called with
    the number of outputs, whether the task is multi-class and whether there are groups, after the first batch.
    Labels that come as frames are brought into the order of `names`, or without these into that of the first frame.

    Returns:
        Dense logits (n, K), pruned logits (n, K), labels (n, K) or (n,), groups (n,) or None, and the names of
        the columns, where they or a frame gave any.

    Raises:
        TypeError: a batch is no tuple of two or three, a model returns no tensor.
        ValueError: the loader is empty, the models' outputs differ in shape, labels fit no task, are masked or have other names.
    """
    collected: list[list[NDArray[Any]]] = []
    with evaluating(dense), evaluating(pruned), torch.inference_mode():
        for batch in loader:
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                shape = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
                raise TypeError(f"the loader must yield (images, labels) or (images, labels, group), not a {shape}")
            images, *others = batch
            first, second = _logits(dense, images, "dense"), _logits(pruned, images, "pruned")
            given = [other.cpu().numpy() if isinstance(other, Tensor) else other for other in others]
            ordered = align({"names": names, **dict(zip(("labels", "groups"), given, strict=False))}, unnamed=["names"])
            names = ordered.pop("names", names)
            labels, *group = map(np.asarray, ordered.values())
            _check_batch(first, second, labels)
            if not collected and check is not None:
                check(first.shape[1], labels.ndim == 1, bool(group))
            if collected and len(collected[0]) != 3 + len(group):
                raise ValueError("the loader yields groups in some batches only")
            collected.append([first, second, labels, *group])
    if not collected:
        raise ValueError("the loader yielded no batch; an audit needs at least one sample")
    dense_logits, pruned_logits, all_labels, *groups = [np.concatenate(parts) for parts in zip(*collected, strict=True)]
    return dense_logits, pruned_logits, all_labels, groups[0].reshape(-1) if groups else None, names


def _logits(model: nn.Module, images: Tensor, name: str) -> NDArray[Any]:
    output = model(like_weights(model, images))
    if not isinstance(output, Tensor):
        raise TypeError(f"the {name} model returned a {type(output).__name__}; wrap it in a module that returns logits (n, K)")
    return output.float().cpu().numpy()


def _check_batch(dense: NDArray[Any], pruned: NDArray[Any], labels: NDArray[Any]) -> None:
    if dense.ndim != 2 or dense.shape != pruned.shape:
        raise ValueError(f"both models must give logits of one shape (n, K), not {dense.shape} (dense) and {pruned.shape} (pruned)")
    if labels.shape not in (dense.shape, dense.shape[:1]):
        needed = f"a multi-label task has labels {dense.shape} in {{0, 1}}, a multi-class one integers {dense.shape[:1]}"
        raise ValueError(f"labels of shape {labels.shape} fit no logits of shape {dense.shape}: {needed}")
