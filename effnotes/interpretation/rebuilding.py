"""Rebuilt copies of a network, with modules in the places where methods of attribution look for them."""

from __future__ import annotations

import copy
import functools
from itertools import takewhile
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp

_KNOWN_AS: dict[Any, type[nn.Module]] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, F.relu, F.relu6, torch.relu, "relu", "relu_"), nn.ReLU),
    **dict.fromkeys((nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, F.gelu, F.silu, F.hardswish, F.hardsigmoid), nn.Softplus),
}
"""What each activation passes for. captum goes by types and knows few, while DeepLift's rescale rule is right for every function of
one number; guided backpropagation is for ReLUs alone."""


def one_module_a_call(model: nn.Module, inputs: Tensor, logits: Tensor) -> torch.fx.GraphModule:
    """Rebuild a network so that each call of an activation, or of another module without numbers, has a module of its own.

    DeepLift and guided backpropagation change the gradient of modules, and keep what they need on each: a function is invisible
    to them, and a module that is called twice is refused or silently taken for one. No activation works in place in the copy.

    Args:
        model: Its layers with weights become the copy's.
        inputs: (n, ...), to see that both answer alike.
        logits: (n, K), the network's answers to these.

    Raises:
        ValueError: torch.fx cannot trace the network, or the copy answers otherwise.
    """
    try:
        graph = torch.fx.Tracer().trace(model)
    except Exception as error:  # whatever the network's own code raises when it meets a placeholder for its images
        what = f"{type(model).__name__} cannot be traced by torch.fx, which this method needs"
        raise ValueError(f"{what} ({type(error).__name__}: {error})") from error
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
            what = "without activations that work in place the network answers otherwise, as another layer reads what they change"
            raise ValueError(f"{what}; use what they return instead")
    return rebuilt


def _unit(model: torch.fx.GraphModule, node: torch.fx.Node) -> nn.Module | None:
    """What a call of an activation or of a module without numbers becomes; None where the call stays."""
    kind: Any = node.target
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if module.state_dict():
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


def insert_marker(model: torch.fx.GraphModule, inputs: Tensor) -> nn.Module:
    """Put an identity behind the last convolutional stage of a rebuilt network, in place, and return it.

    That is the last feature map of the size that the last convolution puts out, in a ResNet the output of the last residual block.

    Args:
        model: What `one_module_a_call` returns.
        inputs: Some that the network takes, to learn the shapes.

    Raises:
        ValueError: The network has no convolution.
    """
    ShapeProp(model).propagate(inputs)
    nodes = [node for node in model.graph.nodes if hasattr(node.meta.get("tensor_meta"), "shape")]
    calls = [node for node in nodes if node.op == "call_module" and isinstance(model.get_submodule(node.target), nn.Conv2d)]
    if not calls:
        raise ValueError("the network has no Conv2d, so that there is no feature map for guided_grad_cam; take another method")
    size = calls[-1].meta["tensor_meta"].shape[2:]
    *_, found = takewhile(lambda node: node.meta["tensor_meta"].shape[2:] == size, nodes[nodes.index(calls[-1]) :])
    marker = nn.Identity()
    model.add_submodule("marked_layer", marker)
    with model.graph.inserting_after(found):
        call = model.graph.call_module("marked_layer", (found,))
    found.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    model.recompile()
    return marker
