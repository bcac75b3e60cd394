"""Fold every BatchNorm, module or function, into the layer whose output it alone reads."""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass, fields
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from .operations import BATCHNORMS, CONVOLUTIONS, TRANSPOSED, Call, Known


def module_of(traced: fx.GraphModule, node: Any) -> Any:
    """Return the module that a node calls, None where it calls none."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return traced.get_submodule(str(node.target))
    return None


def bypass(traced: fx.GraphModule, node: fx.Node, source: Any) -> None:
    """Take a node out: what read it reads ``source``."""
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)


@dataclass(frozen=True)
class _Norm:
    """The numbers of a BatchNorm: each (C,); weight and bias None where it is not affine."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float


def _norm(traced: fx.GraphModule, known: Known, node: fx.Node) -> _Norm | None:
    """Return the numbers of a BatchNorm, module or function; None where this is none."""
    module = module_of(traced, node)
    if isinstance(module, BATCHNORMS):
        found: dict[str, Any] = {field.name: getattr(module, field.name) for field in fields(_Norm)}
    elif node.target is F.batch_norm:
        bound = inspect.signature(F.batch_norm).bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        found = {field.name: bound.arguments[field.name] for field in fields(_Norm)}
        for name, value in found.items():
            if isinstance(value, fx.Node) and value.op == "get_attr":
                found[name] = operator.attrgetter(str(value.target))(traced)
        if bound.arguments["training"] is not False:
            raise Call(known, node, None).refuse("it is active in evaluation mode")
    else:
        return None
    if found["running_mean"] is None or found["running_var"] is None:
        raise Call(known, node, module).refuse("it keeps no running statistics")
    if any(isinstance(value, fx.Node) for value in found.values()):
        raise Call(known, node, module).refuse("its numbers are computed")
    return _Norm(**found)


def fold_batchnorm(traced: fx.GraphModule, known: Known) -> None:
    """Pair each BatchNorm with the layer whose output it alone reads, as executed."""
    for node in list(traced.graph.nodes):
        norm = _norm(traced, known, node)
        if norm is None:
            continue
        named = Call(known, node, module_of(traced, node)).layer
        source: Any = node.args[0]
        layer = module_of(traced, source)
        foldable = isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear))
        if isinstance(layer, TRANSPOSED) and layer.groups > 1:
            foldable = False  # its output channels do not lie along one axis of the weight
        if not foldable or set(source.users) != {node}:
            known.report.unfolded.append(named)
            continue
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach().double()
        shift = -norm.running_mean.double() * scale
        if norm.bias is not None:
            shift = shift + norm.bias.detach().double()
        known.scales[source] = scale, shift
        known.report.merged.append((str(source.target), named))
        bypass(traced, node, source)
