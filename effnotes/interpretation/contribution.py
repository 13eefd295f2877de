"""A network that is pruned for one image by its neurons, the nearest relative of a trace.

Khakzar et al. ("Improving Feature Attribution through Input-specific Network Pruning", 2019).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
import torch.fx
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.core.errors import nearest
from effnotes.interpretation.augmentation import check_image
from effnotes.interpretation.rebuilding import one_module_a_call
from effnotes.interpretation.tracing import Levels
from effnotes.models.images import normalize
from effnotes.models.modes import check_evaluating
from effnotes.models.weights import check_finite, like_weights
from effnotes.pruning.masks import kept_count


def critical_neurons(
    model: nn.Module, image: Tensor, levels: Levels, *, target: int | None = None, prepare: Callable[[Tensor], Tensor] = normalize
) -> nn.Module:
    """Copy a classifier without the neurons that contribute least to its answer for one image.

    A neuron is a number that a ReLU puts out, of a feature map each place by itself; it contributes |a g|, its activation times the
    gradient of the target's logit, and where that is small it is set to zero for good. The paper ranks the neurons of all layers
    together. Here each ReLU keeps the share that the levels give: so as many neurons go as a trace at these levels removes weights.

    Args:
        model: A classifier in evaluation mode that torch.fx can trace. It stays as it is.
        image: uint8 (3, H, W).
        levels: Share of neurons to remove in [0, 1), of every ReLU; or that of groups, by the name of a module, as for `trace`. The
            innermost group around a ReLU counts, one in no group keeps all, and a group without ReLUs, such as a last layer, counts
            for nothing.
        target: The class whose logit counts; None for the model's own top class.
        prepare: Maps uint8 images to what the model takes.

    Returns:
        The copy, for images of the same size; every method of attribution takes it.

    Raises:
        ValueError: The image has another shape or type; a level is out of range or for no module; the target is no class; the model
            is in training mode, has weights that are NaN or infinite, no ReLU, or cannot be traced by torch.fx.
    """
    check_image(image)
    check_evaluating(model)
    check_finite(model)
    groups = dict(levels) if isinstance(levels, Mapping) else {"": levels}
    for group, level in groups.items():
        if group not in (known := dict(model.named_modules())):
            raise ValueError(f"levels: {group!r} is no module of the model.{nearest(group, known)}")
        kept_count(1, level)
    # What is copied must be differentiable whatever mode the caller is in.
    with torch.inference_mode(False), torch.enable_grad():
        inputs = like_weights(model, prepare(image[None])).detach().clone().requires_grad_()
        twin = copy.deepcopy(model).requires_grad_(False)
        answer = twin(inputs).detach()
        target = int(answer.argmax()) if target is None else target
        check_range(0, answer.shape[1] - 1, whole=True, target=target)
        rebuilt = one_module_a_call(twin, inputs, answer)
        nodes = [node for node in rebuilt.graph.nodes if node.op == "call_module"]
        units = [node for node in nodes if isinstance(rebuilt.get_submodule(str(node.target)), nn.ReLU)]
        if not units:
            raise ValueError("the network has no ReLU, so there are no neurons to remove; take a network with ReLUs, or a trace")
        found: list[Tensor] = []
        handles = [
            rebuilt.get_submodule(str(node.target)).register_forward_hook(lambda *call: found.append(call[-1])) for node in units
        ]
        logit = rebuilt(inputs)[0, target]
        for handle in handles:
            handle.remove()
        for number, (node, active, slope) in enumerate(zip(units, found, torch.autograd.grad(logit, found), strict=True)):
            around = [group for group in groups if f"{node.target}.".startswith(f"{group}." if group else "")]
            level = groups[max(around, key=len)] if around else 0.0
            order = (active * slope).abs().flatten().argsort(descending=True, stable=True)
            kept = torch.zeros_like(active).flatten().index_fill(0, order[: kept_count(len(order), level)], 1).view_as(active)
            # In the graph and not by a hook: methods that rebuild a network lose its hooks.
            rebuilt.register_buffer(f"critical_{number}", kept.detach())
            with rebuilt.graph.inserting_after(node):
                mask = rebuilt.graph.get_attr(f"critical_{number}")
            with rebuilt.graph.inserting_after(mask):
                masked = rebuilt.graph.call_function(torch.mul, (node, mask))
            node.replace_all_uses_with(masked, delete_user_cb=lambda user, masked=masked: user is not masked)
        rebuilt.recompile()
    return rebuilt.eval()
