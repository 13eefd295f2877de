"""A trace of a network: the copy that is pruned for one image, so that what explains the copy explains this one answer.

Soltani Moakhar, Iofinova, Frantar & Alistarh ("SPADE: Sparsity-Guided Debugging for Deep Neural Networks", ICML 2024). Every layer
is pruned by itself, to keep what it gives for random views of the image, and its inputs are those of the dense network. So one pass
is enough: a layer is solved while the pass goes through it, and one Gram matrix is held at a time.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

from effnotes.core.checks import check_choice, check_range
from effnotes.core.errors import nearest
from effnotes.datasets.attributes import check_images
from effnotes.interpretation import augmentation
from effnotes.interpretation.augmentation import AUGMENTATIONS, Augmentation, check_image
from effnotes.models.images import normalize
from effnotes.models.modes import check_evaluating
from effnotes.models.weights import check_finite, like_weights
from effnotes.pruning.gram import Layer, layer_statistics
from effnotes.pruning.layerwise import LAYER_SOLVERS, LayerSolution, solve_layer_batch
from effnotes.pruning.masks import Masks, prunable_parameters, sparsity

_PIXELS_AT_A_TIME = 256 * 32 * 32  # of views in a pass, of more than one image
_BYTES_AT_A_TIME = 64_000_000  # of Gram matrices, of more than one image

Levels = float | Mapping[str, float]
Prepare = Callable[[Tensor], Tensor]


class TraceRequest(NamedTuple):
    """What to prune how far, and how; see `trace`."""

    levels: Levels = 0.5
    solver: str = "sparsegpt"
    update: bool = True


@dataclass(frozen=True, eq=False)
class Trace:
    """A network pruned for one image.

    Attributes:
        model: The dense network, which the trace is applied to.
        weights: Every prunable weight by parameter name; those that were not pruned are the model's own tensors.
        masks: A mask for each of them, all True where nothing was pruned.
        left_dense: Names of the layers that are never pruned: the stem, which is the first convolution that the image enters, then
            those that the forward pass does not call, such as the output projection of `MultiheadAttention`
            (whose `in_proj_weight` is no module's weight, so it stays dense too, unnamed and uncounted).
        layers: A row for each other layer, in the order of the model's modules: layer (its name), level, kept (number of weights),
            error (of its output on the views, tr(dW H dW^T) / tr(W H W^T)) and seconds (CPU seconds of the solver).
        target: The dense model's top class for the image itself: what an explanation of its answer is to explain.
        agreement: Whether it is the trace's top class as well.
        kl: Kullback-Leibler divergence of the trace's softmax from the dense model's for the image itself, in nats.
        seconds: CPU seconds of this process by stage: augment, forward, gram, solve and judge. Traces that were made together share
            all but solve and their part of judge; what took several images at once is shared out evenly.
    """

    model: nn.Module
    weights: dict[str, Tensor]
    masks: Masks
    left_dense: tuple[str, ...]
    layers: pd.DataFrame
    target: int
    agreement: bool
    kl: float
    seconds: dict[str, float]

    @property
    def sparsity(self) -> float:
        """The fraction of all prunable weights that is removed, in [0, 1); layers left dense count as well."""
        return sparsity(self.masks)

    @contextlib.contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Give the model with the trace's weights in it for a while; its own parameters are put back afterwards, come what may.

        Nothing is copied. Inside, another trace of the same model may be applied, and takes this one's place. Biases and
        normalisation layers are the model's; in-place changes inside, such as training, outlast the trace.
        """
        with holding(self.model, self.weights):
            yield self.model


def trace(
    model: nn.Module,
    image: Tensor,
    levels: Levels = 0.5,
    *,
    n: int = 32,
    augment: Augmentation = "paper",
    solver: str = "sparsegpt",
    update: bool = True,
    prepare: Prepare = normalize,
    seed: int = 0,
) -> Trace:
    """Prune a classifier for one image (SPADE; with the default solver, FastSPADE).

    Each layer with weights W gets sparse ones W^ that keep its outputs, in the sense of ||W X - W^ X||_F^2, for the inputs X that
    the dense model gives it on `n` random views of the image. Layers do not see one another's errors.

    Args:
        model: A network with one logit a class, in evaluation mode, in float32 or float64. It is not changed.
        image: uint8 (3, H, W), on any device, of the size that the network takes.
        levels: Sparsity in [0, 1) of every layer but those of `Trace.left_dense`; or that of groups, by the name of a module, such
            as `{"layer4.1": 0.9, "fc": 0.5}`. The innermost group counts, and what is in none stays dense. Level 0 changes nothing.
        n: Number of views, at least 1.
        augment: How they are drawn; see `effnotes.interpretation.augmentation.augment`.
        solver: One of `effnotes.pruning.layerwise.LAYER_SOLVERS`.
        update: Whether kept weights are changed to make up for the removed ones; False takes the solver's mask alone.
        prepare: Maps uint8 images (n, 3, H, W) to what the network takes.
        seed: Of the views, and of the random solver.

    Raises:
        ValueError: The image has another shape or type; the model is in training mode, has weights that are NaN or of another type,
            has no layer that can be pruned or one that is used more than once, or gives no finite logits (n, K); a level is out of
            range or for no group; `n` is below 1; the solver or the augmentation is unknown; a layer cannot be solved.
    """
    return traces(model, image, [TraceRequest(levels, solver, update)], n=n, augment=augment, prepare=prepare, seed=seed)[0]


def traces(
    model: nn.Module,
    image: Tensor,
    requests: Sequence[TraceRequest],
    *,
    n: int = 32,
    augment: Augmentation = "paper",
    prepare: Prepare = normalize,
    seed: int = 0,
    views: Tensor | None = None,
) -> list[Trace]:
    """Prune a classifier for one image in several ways, with one forward pass and one Gram matrix a layer.

    Args:
        model, image, n, augment, prepare, seed: As for `trace`, as are errors.
        requests: Levels, solver and update of each trace.
        views: uint8 (m, 3, H, W) to calibrate on in place of random views of the image, such as many images of one class, for one
            trace of all; `n` and `augment` do not count then.

    Returns:
        A trace for each request; each is the one that `trace` gives.
    """
    check_image(image)
    return trace_batch(model, image[None], requests, n=n, augment=augment, prepare=prepare, seed=seed, views=views)[0]


@torch.no_grad()
def trace_batch(
    model: nn.Module,
    images: Tensor,
    requests: Sequence[TraceRequest],
    *,
    n: int = 32,
    augment: Augmentation = "paper",
    prepare: Prepare = normalize,
    seed: int = 0,
    views: Tensor | None = None,
) -> list[list[Trace]]:
    """Prune a classifier for each of some images, in several ways, small images several in one pass.

    Args:
        model, n, augment, prepare, seed: As for `trace`, as are errors. Every layer must get its inputs image by image, as does
            a convolution, or a linear layer with inputs (n, ..., c).
        images: uint8 (m, 3, H, W), m at least 1.
        requests: Levels, solver and update of each trace.
        views: As for `traces`, of one image.

    Returns:
        A list for each image, with a trace for each request; each is the one that `trace` gives, up to rounding.
    """
    check_images(images)
    if views is not None:
        check_images(views)
        if len(images) > 1:
            raise ValueError(f"views are given beside {len(images)} images: must be those of one")
    check_range(1, whole=True, n=n)
    check_choice(AUGMENTATIONS, augment=augment)
    for request in requests:
        check_choice(tuple(LAYER_SOLVERS), solver=request.solver)
        _check_levels(request.levels)
    _check_model(model)
    found: list[list[Trace]] = []
    for some in images.split(max(1, _PIXELS_AT_A_TIME // (n * images[0, 0].numel()))):
        clock, m = _Clock(), len(some)
        with clock("judge"):
            network = _Network(model, like_weights(model, prepare(some)))
        wanted = [network.levels(request.levels) for request in requests]
        with clock("augment"):
            # The same crops of each image, as if each came alone.
            drawn = [augmentation.augment(each, n, augment, generator=torch.Generator().manual_seed(seed)) for each in some]
        with clock("forward"):
            inputs = like_weights(model, prepare(torch.cat(drawn) if views is None else views))
            solved = network.solve(inputs, m, requests, wanted, seed, clock)
        shared = {stage: seconds / m for stage, seconds in clock.items()}
        found += [
            [network.trace(number, *each, solved, shared) for each in zip(requests, wanted, strict=True)] for number in range(m)
        ]
    return found


# By name of weight, level, solver and update: a solution for each image.
_Solved = dict[tuple[str, float, str, bool], list[LayerSolution]]


class _Clock(dict[str, float]):
    """CPU seconds by stage; those of a stage inside another count for the inner one alone."""

    def __init__(self, start: Mapping[str, float] | None = None) -> None:
        super().__init__(start or dict.fromkeys(("augment", "forward", "gram", "solve", "judge"), 0.0))

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start, before = time.process_time(), sum(self.values())
        try:
            yield
        finally:
            self[stage] += time.process_time() - start - (sum(self.values()) - before)


class _Network:
    """What one pass of the images themselves tells of a model: its answers, and which of its layers are called."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self.model, self.inputs, self.own = model, inputs, prunable_parameters(model, changing=True)
        names = {id(weight): name for name, weight in self.own.items()}
        layers = [module for module in model.modules() if isinstance(module, Layer)]
        self.name_of: dict[nn.Module, str] = {layer: names[id(layer.weight)] for layer in layers}
        called: list[nn.Module] = []
        with _hooked(layers, lambda layer, _: called.append(layer)):
            self.logits: Tensor = model(inputs)
        if not isinstance(self.logits, Tensor) or self.logits.ndim != 2 or not self.logits.isfinite().all():
            what = "the model gives no finite logits of shape (n, K) for the image"
            raise ValueError(f"{what}; trace a classifier, and look at `prepare`")
        calls = Counter(self.name_of[layer] for layer in called)
        name, times = calls.most_common(1)[0] if calls else ("", 0)
        if times > 1:
            raise ValueError(f"{name} is used {times} times in a pass; give each use a layer and a weight of its own")
        stem = [self.name_of[layer] for layer in called if isinstance(layer, nn.Conv2d)][:1]
        self.pruned = [name for name in self.own if name in calls and name not in stem]
        if not self.pruned:
            what = f"{type(model).__name__} calls no Conv2d or Linear layer after its first convolution"
            raise ValueError(f"{what}: nothing to prune")
        self.left_dense = tuple(map(_layer, [*stem, *(name for name in self.own if name not in calls)]))

    def levels(self, levels: Levels) -> dict[str, float]:
        """Level of each weight that may be pruned."""
        if not isinstance(levels, Mapping):
            return dict.fromkeys(self.pruned, float(levels))
        groups = {name: [part for part in _groups(_layer(name)) if part in levels] for name in self.pruned}
        for group in levels:
            if not any(group in parts for parts in groups.values()):
                known = dict.fromkeys(part for name in self.pruned for part in _groups(_layer(name)))
                dense = f"these layers stay dense: {', '.join(self.left_dense) or 'none'}"
                raise ValueError(f"levels: {group!r} is no module with layers to prune ({dense}).{nearest(str(group), known)}")
        return {name: float(levels[parts[-1]]) if parts else 0.0 for name, parts in groups.items()}

    def solve(
        self,
        views: Tensor,
        m: int,
        requests: Sequence[TraceRequest],
        wanted: Sequence[Mapping[str, float]],
        seed: int,
        clock: _Clock,
    ) -> _Solved:
        """Solutions from one pass over the views of m images."""
        seeds = dict(zip(self.pruned, np.random.SeedSequence(seed).generate_state(len(self.pruned)).tolist(), strict=True))
        solved: _Solved = {}

        def take(layer: Layer, inputs: Tensor) -> None:
            name = self.name_of[layer]
            each = zip(requests, wanted, strict=True)
            asked = dict.fromkeys((levels[name], solver, update) for (_, solver, update), levels in each if levels[name])
            if m > 1 and len(inputs) != len(views):
                what = f"{name} gets inputs of shape {tuple(inputs.shape)} for {len(views)} views"
                raise ValueError(f"{what}, so they cannot be told apart by image; trace the images one by one")
            size = inputs.element_size() * layer.weight[0].numel() ** 2 * getattr(layer, "groups", 1)
            for some in inputs.unflatten(0, (m, -1)).split(max(1, _BYTES_AT_A_TIME // size)):
                with clock("gram"):
                    grams = layer_statistics(layer, some)
                for level, solver, update in asked:
                    with clock("solve"):
                        own = solve_layer_batch(layer, grams, level, solver=solver, update=update, seed=seeds[name])
                    solved.setdefault((name, level, solver, update), []).extend(own)

        pruned = [layer for layer, name in self.name_of.items() if any(levels.get(name) for levels in wanted)]
        with _hooked(pruned, take):
            self.model(views)
        return solved

    def trace(
        self, number: int, request: TraceRequest, levels: Mapping[str, float], solved: _Solved, seconds: Mapping[str, float]
    ) -> Trace:
        """Put the trace of an image together, and ask it for its answer."""
        each = {name: LayerSolution(weight.detach(), torch.ones_like(weight).bool(), 0.0, 0.0) for name, weight in self.own.items()}
        for name, level in levels.items():
            if level:
                each[name] = solved[name, level, request.solver, request.update][number]
        weights = {name: solution.weight for name, solution in each.items()}
        masks = {name: solution.mask for name, solution in each.items()}
        clock, dense = _Clock(seconds), self.logits[number]
        with clock("judge"), holding(self.model, weights):
            logits = self.model(self.inputs[number, None])[0]
        rows = [(_layer(name), level, int(masks[name].sum()), *each[name][2:]) for name, level in levels.items()]
        table = pd.DataFrame(rows, columns=["layer", "level", "kept", "error", "seconds"])
        kl = float(kl_divergence(*(Categorical(logits=one.double()) for one in (dense, logits))))
        target = int(dense.argmax())
        stages = dict(clock) | {"solve": float(table["seconds"].sum())}
        return Trace(self.model, weights, masks, self.left_dense, table, target, int(logits.argmax()) == target, kl, stages)


@contextlib.contextmanager
def _hooked(layers: Sequence[nn.Module], take: Callable[[Any, Tensor], None]) -> Iterator[None]:
    """Hand each layer and its input to a function before the layer computes."""

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(lambda layer, inputs: take(layer, inputs[0])).remove)
        yield


@contextlib.contextmanager
def holding(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other weights into a model for a while.

    Parameters are exchanged and not their data: a graph that was made inside keeps the weights that it was made with.
    """
    own = prunable_parameters(model, changing=True)
    others = {id(own[name]): nn.Parameter(weight.to(own[name]), own[name].requires_grad) for name, weight in weights.items()}
    held = [(module, key, each) for module in model.modules() for key, each in module._parameters.items() if id(each) in others]
    try:
        for module, key, each in held:
            setattr(module, key, others[id(each)])
        yield
    finally:
        for module, key, each in held:
            setattr(module, key, each)


def _layer(name: str) -> str:
    """The name of the layer that a weight belongs to."""
    return name.removesuffix("weight").removesuffix(".")


def _groups(layer: str) -> list[str]:
    """Names of the modules around a layer, outermost first, and its own."""
    return [*accumulate(layer.split("."), "{}.{}".format)]


def _check_levels(levels: Levels) -> None:
    given: dict[str, Any] = {"levels": levels}
    if isinstance(levels, Mapping):
        given = {f"levels[{group!r}]": each for group, each in levels.items()}
    for name, level in given.items():
        is_number = isinstance(level, Real) and not isinstance(level, bool)
        if not is_number or not 0 <= level < 1:
            allowed = "a number of at least 0 and below 1 (0.9 removes 90% of a layer's weights)"
            raise ValueError(f"{name}={level!r}: must be {allowed}")


def _check_model(model: nn.Module) -> None:
    check_evaluating(model)
    for name, weight in prunable_parameters(model, changing=True).items():
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {weight.dtype}; a layer is solved in torch.float32 or torch.float64: call model.float()")
    check_finite(model)
