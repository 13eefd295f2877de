"""Attribution: how much each pixel of an image counts for what a classifier answers, by the methods of the SPADE paper."""

from __future__ import annotations

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import captum.attr as captum
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from effnotes.core.checks import check_choice, check_range
from effnotes.datasets.attributes import check_images
from effnotes.interpretation.rebuilding import insert_marker, one_module_a_call, stand_in
from effnotes.models.images import normalize
from effnotes.models.weights import check_finite, check_own, like_weights

_PIXELS_AT_A_TIME = 256 * 32 * 32
_SHAP_SAMPLES = 20
_LIME_SAMPLES, _LIME_CELLS = 100, 4


class _Case(NamedTuple):
    model: Any  # a stand-in, rebuilt as a GraphModule for the methods in `_REBUILDING`
    inputs: Tensor  # (n, 3, H, W), prepared
    targets: Tensor  # (n,)
    bounds: tuple[Tensor, Tensor]  # (1, 3, H, W), prepared black and white
    layer: str | None
    n_steps: int
    seed: int

    @property
    def at_a_time(self) -> int:
        """Images in a forward pass that keep the memory bounded."""
        return max(1, _PIXELS_AT_A_TIME // self.inputs[0, 0].numel())

    def one_by_one(self) -> Iterator[_Case]:
        """Each image alone, with the random numbers that it would have if it were the only one."""
        for image, target in zip(self.inputs.split(1), self.targets.split(1), strict=True):
            with _seeded(self.seed, image.device):
                yield self._replace(inputs=image, targets=target)


def attribute(
    model: nn.Module,
    image: Tensor,
    method: str = "saliency",
    *,
    target: int | None = None,
    prepare: Callable[[Tensor], Tensor] = normalize,
    layer: str | None = None,
    n_steps: int = 32,
    seed: int = 0,
) -> Tensor:
    """Attribute the logit of a class to the pixels of one image; see `attribute_batch`, of which this is the case n = 1.

    Args:
        image: uint8 (3, H, W).
        target: The class; None for the model's own top class. To compare a pruned model with a dense one, give both the dense
            model's class.
        model, method, prepare, layer, n_steps, seed: As there.

    Returns:
        (H, W), as there.

    Raises:
        ValueError: The image has another shape or type, or as there.
        ImportError: As there.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"the image is {image.dtype} of shape {tuple(image.shape)}; needed: torch.uint8 of shape (3, H, W)")
    targets = None if target is None else torch.tensor([target])
    return attribute_batch(model, image[None], method, targets, prepare=prepare, layer=layer, n_steps=n_steps, seed=seed)[0]


def attribute_batch(
    model: nn.Module,
    images: Tensor,
    method: str = "saliency",
    targets: Tensor | None = None,
    *,
    prepare: Callable[[Tensor], Tensor] = normalize,
    layer: str | None = None,
    n_steps: int = 32,
    seed: int = 0,
) -> Tensor:
    """Attribute a logit of each image to its pixels, all images together.

    The methods are captum's, but LRP, which is zennit's. All start from the same reduction: the sum over the colour channels of the
    absolute attribution (for LRP, whose sign matters, the signed sum); which reduction is taken moves results more than the method.
    Whatever needs a baseline takes the prepared value 0. What is a number of pixels is given for images of 32 pixels and grows
    with the shorter side: `occlusion` moves a window of 5 by 5 in steps of 2. `lime` fits a Lasso to a grid of 4 by 4 cells from
    100 samples, `gradient_shap` takes 20 samples between the image and baselines 0 and 1, `integrated_gradients` Gauss-Legendre
    steps. `lrp` is the z+ rule for convolutions, the z-B rule for the first and epsilon for linear layers, with batch
    normalisation merged (Montavon et al., 2017). `guided_backprop` changes the gradient of ReLU and ReLU6 alone.

    Args:
        model: A classifier in evaluation mode that maps (n, 3, H, W) to logits (n, K). It stays as it is, its gradients and hooks
            included, also after an error. `deep_lift`, `guided_backprop`, `guided_grad_cam` and `lrp` need one that torch.fx can
            trace.
        images: uint8 (n, 3, H, W), n >= 1.
        method: One of `ATTRIBUTION_METHODS`.
        targets: int64 (n,), the class of each image; None for the model's own top classes.
        prepare: Maps uint8 images to what the model takes, channel by channel and increasing.
        layer: For `guided_grad_cam`: name of the module whose output is taken; None for the last convolutional stage.
        n_steps: For `integrated_gradients`: points on the path, at least 1.
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
    check_range(1, whole=True, n_steps=n_steps)
    check_range(0, 2**32 - 1, whole=True, seed=seed)
    if layer is not None and method != "guided_grad_cam":
        raise ValueError(f"layer={layer!r}: {method} looks at no layer; leave it out, or take method='guided_grad_cam'")
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training mode, where its answer depends on the other images; call model.eval() first")
    check_finite(model)
    check_own(model)
    # Gradients are needed whatever mode the caller is in, and tensors made in inference mode can have none.
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting (forward|backward)|Input Tensor 0|required_grads")
        twin = stand_in(model)
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
        raw = _METHODS[method](_Case(twin, inputs, targets, (bounds[:1], bounds[1:]), layer, n_steps, seed)).detach()
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
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch and NumPy, from both of which captum draws, and put them back afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _ask(method: Any, case: _Case, **given: Any) -> Tensor:
    result: Tensor = method.attribute(case.inputs, target=case.targets, **given)
    return result


def _ask_one_by_one(method: Any, case: _Case, **given: Any) -> Tensor:
    return torch.cat([_ask(method, one, **given) for one in case.one_by_one()])


def _guided_backprop(case: _Case) -> Tensor:
    _refuse_without_relu(case)
    return _ask(captum.GuidedBackprop(case.model), case)


def _guided_grad_cam(case: _Case) -> Tensor:
    _refuse_without_relu(case)
    return _ask(captum.GuidedGradCam(case.model, insert_marker(case.model, case.inputs[:1], case.layer)), case)


def _refuse_without_relu(case: _Case) -> None:
    if not any(isinstance(module, nn.ReLU) for module in case.model.modules()):
        what = "guided methods change the gradient of ReLUs, and the network has none (GELU and SiLU are others)"
        raise ValueError(f"{what}; take another method, such as 'input_x_gradient'")


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
    return _ask(captum.IntegratedGradients(case.model), case, n_steps=case.n_steps, internal_batch_size=chunk)


def _gradient_shap(case: _Case) -> Tensor:
    baselines = torch.stack([torch.zeros_like(case.inputs[0]), torch.ones_like(case.inputs[0])])
    return _ask_one_by_one(captum.GradientShap(case.model), case, baselines=baselines, n_samples=_SHAP_SAMPLES)


def _lrp(case: _Case) -> Tensor:
    try:
        from zennit import composites, rules
        from zennit.attribution import Gradient
        from zennit.canonizers import NamedMergeBatchNorm
        from zennit.layer import Sum
        from zennit.types import BatchNorm, Convolution, Linear
    except ImportError as error:
        raise ImportError("method='lrp' needs zennit; install it with: pip install 'effnotes[lrp]'") from error
    model, graph, merged = case.model, case.model.graph, []
    for node in [*graph.nodes]:
        before = node.all_input_nodes[:1]
        if node.op == "call_module" and isinstance(norm := model.get_submodule(node.target), BatchNorm):
            follows = before[0].op == "call_module" and isinstance(model.get_submodule(before[0].target), Linear)
            if follows and norm.affine and len(before[0].users) == 1:
                merged.append(([before[0].target], node.target))
        elif node.target in (operator.add, operator.iadd, torch.add) and len(node.all_input_nodes) == 2:
            # As a module, a sum shares out what it gets; the gradient of an addition would give all of it to both branches.
            model.add_submodule(f"{node.name}_sum", Sum())
            with graph.inserting_after(node):
                both = graph.call_function(torch.stack, (node.all_input_nodes,), {"dim": -1})
            with graph.inserting_after(both):
                node.replace_all_uses_with(graph.call_module(f"{node.name}_sum", (both,)))
            graph.erase_node(node)
    model.recompile()
    layers = [*composites.layer_map_base(), (Convolution, rules.ZPlus()), (nn.Linear, rules.Epsilon())]
    composite = composites.SpecialFirstLayerMapComposite(
        layers, [(Convolution, rules.ZBox(*case.bounds))], canonizers=[NamedMergeBatchNorm(merged)] if merged else []
    )
    with Gradient(model, composite) as attributor:
        relevance: Tensor = attributor(case.inputs, lambda logits: nn.functional.one_hot(case.targets, logits.shape[1]).to(logits))[
            1
        ]
    return relevance


_METHODS: dict[str, Callable[[_Case], Tensor]] = {
    "saliency": lambda case: _ask(captum.Saliency(case.model), case),
    "input_x_gradient": lambda case: _ask(captum.InputXGradient(case.model), case),
    "deep_lift": lambda case: _ask(captum.DeepLift(case.model), case),
    "lrp": _lrp,
    "guided_backprop": _guided_backprop,
    "guided_grad_cam": _guided_grad_cam,
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
