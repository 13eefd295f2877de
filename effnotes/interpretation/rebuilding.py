"""Stand-ins for a network that methods of attribution may hook and change, while the network itself stays as it is."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp

from effnotes.core.errors import nearest

_KNOWN_AS: dict[Any, type[nn.Module]] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, F.relu, F.relu6, torch.relu, "relu", "relu_"), nn.ReLU),
    **dict.fromkeys((nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, F.gelu, F.silu, F.hardswish, F.hardsigmoid), nn.Softplus),
}
"""What each activation passes for. captum goes by types and knows few, while DeepLift's rescale rule is right for every function of
one number; guided backpropagation is for ReLUs alone."""


def stand_in(model: nn.Module) -> nn.Module:
    """Copy the modules of a network but not its numbers: weights and buffers are the same memory, under new tensors.

    Hooks, attributes and tensors that are set on the copy never reach the network, and its weights ask for no gradient.
    """
    memo: dict[int, Any] = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in model.parameters()}
    memo |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def one_module_a_call(model: nn.Module, inputs: Tensor, logits: Tensor) -> torch.fx.GraphModule:
    """Rebuild a network so that each call of an activation, or of another module without numbers, has a module of its own.

    DeepLift and guided backpropagation change the gradient of modules, and keep what they need on each: a function is invisible
    to them, and a module that is called twice is refused or silently taken for one. No activation works in place in the copy.

    Args:
        model: What `stand_in` returns; its layers with weights become the copy's.
        inputs: (n, ...), to see that both answer alike.
        logits: (n, K), the network's answers to these.

    Raises:
        ValueError: torch.fx cannot trace the network, or the copy answers otherwise.
    """
    try:
        graph = torch.fx.Tracer().trace(model)
    except Exception as error:  # whatever the network's own code raises when it meets a placeholder for its images
        name = type(model).__name__
        raise ValueError(
            f"{name} cannot be traced by torch.fx, which this method needs ({type(error).__name__}: {error})"
        ) from error
    rebuilt = torch.fx.GraphModule(model, graph)
    for number, node in enumerate([*graph.nodes]):
        unit = _unit(rebuilt, node)
        if unit is None:
            continue
        # Beside the module that it replaces, so that the order of modules stays that of the calls.
        target = f"{node.target if node.op == 'call_module' else node.name}_{number}"
        rebuilt.add_submodule(target, unit)
        with graph.inserting_after(node):
            # An activation as a function may have `inplace` as its second argument.
            call = graph.call_module(target, node.args if node.op == "call_module" else tuple(node.all_input_nodes[:1]))
        call.meta = node.meta
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    rebuilt.delete_all_unused_submodules()
    rebuilt.recompile()
    with torch.no_grad():
        if not torch.allclose(rebuilt(inputs), logits, rtol=0, atol=1e-2 * float(logits.abs().max())):
            what = (
                "without activations that work in place the network answers otherwise, so that another layer reads what they change"
            )
            raise ValueError(f"{what}; use what they return instead")
    return rebuilt


def _unit(model: torch.fx.GraphModule, node: torch.fx.Node) -> nn.Module | None:
    """What a call of an activation or of a module without numbers becomes; None where the call stays."""
    kind: Any = node.target
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
            return None
        module, kind = copy.deepcopy(module), type(module)
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010
        if kind not in _KNOWN_AS:
            return module
        function = module.forward
    elif kind not in _KNOWN_AS:
        return None
    else:
        options: dict[str, Any] = {name: value for name, value in node.kwargs.items() if name not in ("input", "inplace")}
        function = functools.partial(torch.relu if node.op == "call_method" else kind, **options)
    unit = _KNOWN_AS[kind]()
    unit.forward = function
    return unit


def insert_marker(model: torch.fx.GraphModule, inputs: Tensor, layer: str | None) -> nn.Module:
    """Put an identity behind a layer of a rebuilt network, in place, and return it.

    Args:
        model: What `one_module_a_call` returns.
        inputs: Some that the network takes, to learn the shapes.
        layer: Name of a module of the original network; None for the last convolutional stage: the last feature map of the size
            that the last convolution puts out, which in a ResNet is the output of the last residual block.

    Raises:
        ValueError: There is no such layer, its output is no feature map, or the network has no convolution.
    """
    ShapeProp(model).propagate(inputs)
    nodes = [node for node in model.graph.nodes if hasattr(node.meta.get("tensor_meta"), "shape")]
    if layer is None:
        convolutions = [
            place
            for place, node in enumerate(nodes)
            if node.op == "call_module" and isinstance(model.get_submodule(node.target), nn.Conv2d)
        ]
        if not convolutions:
            raise ValueError("the network has no Conv2d, so that there is no feature map for guided_grad_cam; take another method")
        place = convolutions[-1]
        size = nodes[place].meta["tensor_meta"].shape[2:]
        while place + 1 < len(nodes) and nodes[place + 1].meta["tensor_meta"].shape[2:] == size:
            place += 1
        found = nodes[place]
    else:
        names = {name: node for node in nodes for name in node.meta.get("nn_module_stack", {})}  # the last node of each
        if layer not in names:
            raise ValueError(
                f"layer={layer!r}: the network calls no such module.{nearest(layer, names)} It has: {', '.join(names)}."
            )
        found = names[layer]
        if len(shape := tuple(found.meta["tensor_meta"].shape)) != 4:
            raise ValueError(f"layer={layer!r} puts out shape {shape}; needed: a feature map (n, channels, height, width)")
    marker = nn.Identity()
    model.add_submodule("marked_layer", marker)
    with model.graph.inserting_after(found):
        call = model.graph.call_module("marked_layer", (found,))
    found.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    model.recompile()
    return marker
