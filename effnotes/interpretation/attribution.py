"""Attribution: how much each pixel of an image counts for what a classifier answers, by the methods of the SPADE paper."""

from __future__ import annotations

import contextlib
import copy
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import captum.attr as captum
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from effnotes.core.checks import check_choice, check_range
from effnotes.datasets.attributes import check_images
from effnotes.interpretation.augmentation import check_image
from effnotes.interpretation.rebuilding import insert_marker, one_module_a_call
from effnotes.models.images import normalize
from effnotes.models.modes import check_evaluating
from effnotes.models.weights import check_finite, check_own, like_weights

_PIXELS_AT_A_TIME = 256 * 32 * 32
_STEPS, _SHAP_SAMPLES, _LIME_SAMPLES, _LIME_CELLS = 32, 20, 100, 4


class _Case(NamedTuple):
    model: Any  # a copy, rebuilt as a GraphModule for the methods in `_REBUILDING`
    inputs: Tensor  # (n, 3, H, W), prepared
    targets: Tensor  # (n,)
    bounds: tuple[Tensor, Tensor]  # (1, 3, H, W), prepared black and white
    seed: int

    @property
    def at_a_time(self) -> int:
        """Images in a forward pass that keep the memory bounded."""
        return max(1, _PIXELS_AT_A_TIME // self.inputs[0, 0].numel())


def attribute(
    model: nn.Module,
    image: Tensor,
    method: str = "saliency",
    *,
    target: int | None = None,
    prepare: Callable[[Tensor], Tensor] = normalize,
    seed: int = 0,
) -> Tensor:
    """Attribute the logit of a class to the pixels of one image; see `attribute_batch`, of which this is the case n = 1.

    `image` is uint8 (3, H, W), `target` the class, None for the model's own top class; the result is (H, W). To compare a pruned
    model with a dense one, give both the dense model's class.
    """
    check_image(image)
    targets = None if target is None else torch.tensor([target])
    return attribute_batch(model, image[None], method, targets, prepare=prepare, seed=seed)[0]


def attribute_batch(
    model: nn.Module,
    images: Tensor,
    method: str = "saliency",
    targets: Tensor | None = None,
    *,
    prepare: Callable[[Tensor], Tensor] = normalize,
    seed: int = 0,
) -> Tensor:
    """Attribute a logit of each image to its pixels, all images together.

    The methods are captum's, but LRP, which is zennit's. All start from the same reduction: the sum over the colour channels of the
    absolute attribution (for LRP, whose sign matters, the signed sum); which reduction is taken moves results more than the method.
    Whatever needs a baseline takes the prepared value 0. What is a number of pixels is given for images of 32 pixels and grows with
    the shorter side: `occlusion` moves a window of 5 by 5 in steps of 2. `lime` fits a Lasso to a grid of 4 by 4 cells from 100
    samples, `gradient_shap` takes 20 samples between the image and baselines 0 and 1, `integrated_gradients` 32 Gauss-Legendre
    steps. `guided_grad_cam` looks at the last convolutional stage, in a ResNet the last residual block. `lrp` is the z+ rule for
    convolutions, the z-B rule for the first and epsilon for linear layers, with batch normalisation merged (Montavon et al., 2017).
    `guided_backprop` changes the gradient of ReLU and ReLU6 alone.

    Args:
        model: A classifier in evaluation mode that maps (n, 3, H, W) to logits (n, K). It stays as it is, its gradients and hooks
            included, also after an error. `deep_lift`, `guided_backprop`, `guided_grad_cam` and `lrp` need one that torch.fx can
            trace.
        images: uint8 (n, 3, H, W), n >= 1.
        method: One of `ATTRIBUTION_METHODS`.
        targets: int64 (n,), the class of each image; None for the model's own top classes.
        prepare: Maps uint8 images to what the model takes, channel by channel and increasing.
        seed: Of what `lime` and `gradient_shap` draw, the same for each image: two models are compared on the same draws. From 0 to
            2^32 - 1; the global random states are left as they were.

    Returns:
        (n, H, W), at least 0 but for LRP, on the device and in the type of the model's weights.

    Raises:
        ValueError: Images or targets are of another shape, type or range, the method is unknown or does not fit the model, a number
            is out of range, or the model is in training mode, has weights that are NaN or infinite or computed from others.
        ImportError: zennit, which LRP needs, is missing.
    """
    check_choice(ATTRIBUTION_METHODS, method=method)
    check_images(images)
    check_range(0, 2**32 - 1, whole=True, seed=seed)
    check_evaluating(model)
    check_finite(model)
    check_own(model)
    # Gradients are needed whatever mode the caller is in, and tensors made in inference mode can have none.
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting (forward|backward)|Input Tensor 0|required_grads")
        twin = copy.deepcopy(model).requires_grad_(False)  # what is hooked and changed, so that the model stays as it is
        inputs = like_weights(model, prepare(images)).detach().clone()
        black_and_white = torch.tensor([0, 255], dtype=torch.uint8, device=images.device)[:, None, None, None]
        bounds = like_weights(model, prepare(black_and_white.expand(2, *images.shape[1:]))).detach()
        with torch.no_grad():
            logits = twin(inputs)
        targets = _targets(targets, logits)
        if method in _REBUILDING:
            try:
                twin = one_module_a_call(twin, inputs, logits)
            except ValueError as error:
                others = ", ".join(name for name in ATTRIBUTION_METHODS if name not in _REBUILDING)
                raise ValueError(f"method={method!r}: {error}; methods that work on every network: {others}") from error
        if "guided" in method and not any(isinstance(module, nn.ReLU) for module in twin.modules()):
            what = "guided methods change the gradient of ReLUs, and the network has none (GELU and SiLU are others)"
            raise ValueError(f"{what}; take another method, such as 'input_x_gradient'")
        raw = _METHODS[method](_Case(twin, inputs, targets, (bounds[:1], bounds[1:]), seed)).detach()
    return (raw if method == "lrp" else raw.abs()).sum(1)


def _targets(targets: Tensor | None, logits: Tensor) -> Tensor:
    if logits.ndim != 2:
        raise ValueError(f"the model puts out shape {tuple(logits.shape)}; needed: logits (n, K), a row an image")
    if targets is None:
        return logits.argmax(1)
    n, k = logits.shape
    if targets.dtype != torch.int64 or targets.shape != (n,):
        raise ValueError(f"targets are {targets.dtype} of shape {tuple(targets.shape)}; needed: torch.int64 of shape ({n},)")
    if not 0 <= int(targets.min()) <= int(targets.max()) < k:
        raise ValueError(f"targets go from {int(targets.min())} to {int(targets.max())}; the model has classes 0 to {k - 1}")
    return targets.to(logits.device)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch and NumPy, from both of which captum draws, and put them back afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _ask(method: Any, case: _Case, **given: Any) -> Tensor:
    result: Tensor = method.attribute(case.inputs, target=case.targets, **given)
    return result


def _ask_one_by_one(method: Any, case: _Case, **given: Any) -> Tensor:
    """Each image gets the random numbers that it would have if it were the only one."""
    found = []
    for inputs, targets in zip(case.inputs.split(1), case.targets.split(1), strict=True):
        with _seeded(case.seed):
            found.append(_ask(method, case._replace(inputs=inputs, targets=targets), **given))
    return torch.cat(found)


def _lime(case: _Case) -> Tensor:
    rows, columns = (torch.arange(size, device=case.inputs.device) * _LIME_CELLS // size for size in case.inputs.shape[2:])
    cells = rows[:, None] * _LIME_CELLS + columns
    given = {"n_samples": _LIME_SAMPLES, "perturbations_per_eval": min(case.at_a_time, _LIME_SAMPLES)}
    return _ask_one_by_one(captum.Lime(case.model), case, feature_mask=cells[None, None], **given)


def _occlusion(case: _Case) -> Tensor:
    side = min(case.inputs.shape[2:])
    window, stride = max(1, round(5 * side / 32)), max(1, round(2 * side / 32))
    given = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    return _ask(captum.Occlusion(case.model), case, perturbations_per_eval=max(1, case.at_a_time // len(case.inputs)), **given)


def _integrated_gradients(case: _Case) -> Tensor:
    chunk = max(case.at_a_time, len(case.inputs))
    return _ask(captum.IntegratedGradients(case.model), case, n_steps=_STEPS, internal_batch_size=chunk)


def _gradient_shap(case: _Case) -> Tensor:
    baselines = torch.stack([torch.zeros_like(case.inputs[0]), torch.ones_like(case.inputs[0])])
    return _ask_one_by_one(captum.GradientShap(case.model), case, baselines=baselines, n_samples=_SHAP_SAMPLES)


def _lrp(case: _Case) -> Tensor:
    try:
        from zennit import composites, rules
        from zennit.attribution import Gradient
        from zennit.layer import Sum
        from zennit.types import Convolution
    except ImportError as error:
        raise ImportError("method='lrp' needs zennit; install it with: pip install 'effnotes[lrp]'") from error
    model: Any = fuse(case.model, inplace=True, no_trace=True)  # of convolutions and batch normalisation
    graph = model.graph
    for node in [*graph.nodes]:
        if node.target in (operator.add, operator.iadd, torch.add) and len(node.all_input_nodes) == 2:
            # As a module, a sum shares out what it gets; the gradient of an addition would give all of it to both branches.
            model.add_submodule(f"{node.name}_sum", Sum())
            with graph.inserting_after(node):
                both = graph.call_function(torch.stack, (node.all_input_nodes,), {"dim": -1})
            with graph.inserting_after(both):
                node.replace_all_uses_with(graph.call_module(f"{node.name}_sum", (both,)))
            graph.erase_node(node)
    model.recompile()
    layers = [*composites.layer_map_base(), (Convolution, rules.ZPlus()), (nn.Linear, rules.Epsilon())]
    composite = composites.SpecialFirstLayerMapComposite(layers, [(Convolution, rules.ZBox(*case.bounds))])
    with Gradient(model, composite) as attributor:
        _, relevance = attributor(case.inputs, lambda logits: nn.functional.one_hot(case.targets, logits.shape[1]).to(logits))
    return cast(Tensor, relevance)


_METHODS: dict[str, Callable[[_Case], Tensor]] = {
    "saliency": lambda case: _ask(captum.Saliency(case.model), case),
    "input_x_gradient": lambda case: _ask(captum.InputXGradient(case.model), case),
    "deep_lift": lambda case: _ask(captum.DeepLift(case.model), case),
    "lrp": _lrp,
    "guided_backprop": lambda case: _ask(captum.GuidedBackprop(case.model), case),
    "guided_grad_cam": lambda case: _ask(captum.GuidedGradCam(case.model, insert_marker(case.model, case.inputs[:1])), case),
    "lime": _lime,
    "occlusion": _occlusion,
    "integrated_gradients": _integrated_gradients,
    "gradient_shap": _gradient_shap,
}
_REBUILDING = ("deep_lift", "lrp", "guided_backprop", "guided_grad_cam")

ATTRIBUTION_METHODS = tuple(_METHODS)
"""Names of the methods, in the order of the paper's tables."""


def edge_map(images: Tensor) -> Tensor:
    """Give the strength of the edges at each pixel, the baseline that knows no model: the Sobel magnitude, summed over channels.

    Args:
        images: uint8 (n, 3, H, W), n >= 1.

    Returns:
        float32 (n, H, W), at least 0, on the CPU.

    Raises:
        ValueError: Images of another shape or type.
    """
    check_images(images)
    values = images.cpu().numpy().astype(np.float32)
    # Not ndimage.sobel, which smooths over images and channels as well.
    slopes = [ndimage.correlate1d(ndimage.correlate1d(values, [-1, 0, 1], a), [1, 2, 1], b) for a, b in ((2, 3), (3, 2))]
    return torch.from_numpy(np.hypot(*slopes).sum(1))
