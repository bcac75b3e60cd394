"""Channel-wise affine maps z = s · x + b, however they are written: read, and folded.

BatchNorm and its kin, modules or functions; a learned or fixed scale; a shift; several in a row are
one. A map is folded, as executed, into the convolutions and linear layers whose output it alone
reads (through concatenations, sums, average pools, and max-pools where s ≥ 0), else into the one
that alone reads it. What is left is the 1×1 depthwise convolution, or the diagonal linear layer,
that it is (:class:`forensift.lrp.rules.Diagonal`).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .operations import (
    AVERAGE_POOLS,
    AVERAGES,
    BATCHNORMS,
    CONCATENATIONS,
    CONVOLUTIONS,
    DIFFERENCES,
    FUNCTIONAL_CONVOLUTIONS,
    MAX_POOLS,
    MAXIMA,
    NEGATIONS,
    PRODUCTS,
    QUOTIENTS,
    REVERSED,
    SUMS,
    TRANSPOSED,
    Affine,
    Call,
    Known,
    module_of,
    scaled,
)
from .trace import SAME, bypass

Targets = list[tuple[fx.Node, Tensor, Tensor]]  # layer, scale (C,), shift (C,)


@dataclass(frozen=True)
class _Norm:
    """The numbers of a BatchNorm: each (C,); weight and bias None where it is not affine."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float


def _norm(traced: fx.GraphModule, known: Known, node: fx.Node) -> Affine | None:
    """Return the map of a BatchNorm, module or function; None where this is none."""
    module = module_of(traced, node)
    if isinstance(module, BATCHNORMS):
        found: dict[str, Any] = {field.name: getattr(module, field.name) for field in fields(_Norm)}
    elif node.target is F.batch_norm:
        bound = inspect.signature(F.batch_norm).bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        found = {field.name: bound.arguments[field.name] for field in fields(_Norm)}
        found = {name: known.constants.get(value, value) for name, value in found.items()}
        if bound.arguments["training"] is not False:
            raise Call(known, node, None).refuse("it is active in evaluation mode")
    else:
        return None
    if found["running_mean"] is None or found["running_var"] is None:
        raise Call(known, node, module).refuse("it keeps no running statistics")
    if any(isinstance(value, fx.Node) for value in found.values()):
        raise Call(known, node, module).refuse("its numbers are computed")
    norm = _Norm(**found)
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return Affine(Call(known, node, module).layer, scale, shift, 1)


def _number(known: Known, value: Any) -> Tensor | None:
    """Return a constant in float64, None where the value is none."""
    if isinstance(value, fx.Node):
        value = known.constants.get(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number and not (isinstance(value, Tensor) and value.is_floating_point()):
        return None
    return torch.as_tensor(value).detach().double()


def _written(known: Known, node: fx.Node) -> Affine | None:
    """Return the map of a sum, difference, product, quotient or negation with constants."""
    target, args = node.target, node.args
    one, nought = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    layer = Call(known, node, None).layer
    if target in NEGATIONS:
        return Affine(layer, -one, nought, None)
    if len(args) != 2 or not set(node.kwargs) <= {"alpha"}:
        return None
    constant = [_number(known, value) for value in args]
    place = next((i for i, value in enumerate(constant) if value is not None), None)
    if place is None or args[1 - place] not in known.dependent:
        return None
    value: Any = constant[place]
    alpha = _number(known, node.kwargs.get("alpha", 1))
    if alpha is None:
        return None
    scale, shift = one, nought
    if target in REVERSED and place == 1:
        scale, shift = -alpha, value
    elif target in SUMS or target in DIFFERENCES:
        factors = one, alpha if target in SUMS else -alpha
        scale, shift = factors[1 - place], factors[place] * value
    elif target in PRODUCTS:
        scale = value
    elif target in QUOTIENTS and place == 1:
        scale = 1 / value
    else:
        return None
    if value.numel() == 1:
        return Affine(layer, scale.reshape(()), shift.reshape(()), None)
    shape = list(value.shape)
    while shape[0] == 1:
        shape.pop(0)
    if any(length > 1 for length in shape[1:]):
        if known.sharing is not None and (target in SUMS or target in DIFFERENCES):
            return None  # a table of positions: a term of its own
        return Affine(layer, scale, shift, 0)
    scale, shift = (one.flatten() if one.dim() else one for one in (scale, shift))
    return Affine(layer, scale, shift, -len(shape))  # (C,), (C, 1), (C, 1, 1)


def read_affine(traced: fx.GraphModule, known: Known) -> None:
    """Make every affine map one operation, several in a row the same one."""
    for node in list(traced.graph.nodes):
        if not node.op.startswith("call") or not node.args or node in known.constants:
            continue
        found = _norm(traced, known, node) or _written(known, node)
        if found is None:
            continue
        source: Any = next(one for one in node.all_input_nodes if one in known.dependent)
        first = known.affine.get(source)
        merged = first is not None and set(source.users) == {node} and first.joins(found)
        if first is not None and merged:
            found = first.then(found)
        with traced.graph.inserting_after(node):
            own = traced.graph.call_function(scaled, (source.args[0] if merged else source,))
        bypass(traced, node, own)
        if merged:
            traced.graph.erase_node(source)
            del known.affine[source]
        known.affine[own] = found
        known.dependent.add(own)


def fold_back(traced: fx.GraphModule, known: Known) -> None:
    """Fold each map into the layers whose output it alone reads, where there are any."""
    for node, affine in list(known.affine.items()):
        targets = _targets(traced, known, node.args[0], node, affine)
        if targets is None or len({one for one, _, _ in targets}) < len(targets):
            continue
        for layer, scale, shift in targets:
            if layer in known.scales:
                first = known.scales[layer]
                scale, shift = scale * first[0], scale * first[1] + shift
            known.scales[layer] = scale, shift
            name = Call(known, layer, module_of(traced, layer)).layer
            known.report.merged.append((name, affine.layer))
        bypass(traced, node, node.args[0])
        del known.affine[node]


def _targets(
    traced: fx.GraphModule, known: Known, node: Any, reader: fx.Node, affine: Affine
) -> Targets | None:
    """Return the layers that can take a map of ``node`` in, each with its part; None without."""
    if not isinstance(node, fx.Node) or set(node.users) != {reader} or node in known.constants:
        return None
    module = module_of(traced, node)
    width = _width(traced, known, node)
    if width is not None:
        axes = (None, 1, -weight_of(traced, known, node).dim() + 1)
        if affine.axis not in axes or max(affine.scale.numel(), affine.shift.numel()) not in (
            1, width,
        ):  # fmt: skip
            return None
        return [(node, affine.scale.expand(width), affine.shift.expand(width))]
    if node.target in CONCATENATIONS:
        return _through_concatenation(traced, known, node, affine)
    if node.target in SUMS and len(node.args) == 2 and not node.kwargs:
        found: Targets = []
        unshifted = replace(affine, shift=0 * affine.shift)
        for one, part in zip(node.args, (affine, unshifted), strict=True):
            targets = _targets(traced, known, one, node, part)
            if targets is None:
                return None
            found += targets
        return found
    average = node.target in AVERAGES or isinstance(module, AVERAGE_POOLS)
    if average and affine.shift.any() and _pads(module, node):
        return None
    rising = (affine.scale >= 0).all() and (node.target in MAXIMA or isinstance(module, MAX_POOLS))
    same = isinstance(node.target, str) and node.target in SAME
    if not (average or rising or same):
        return None
    if node.target in (torch.mean, "mean", torch.amax, "amax"):
        dims = Call(known, node, None).argument("dim", 1, None)
        if not isinstance(dims, (list, tuple)) or {0, 1} & set(dims):
            return None
        if affine.axis not in (None, 1) and not node.kwargs.get("keepdim", len(node.args) > 2):
            affine = replace(affine, axis=1 if affine.axis == -1 else 0)
    return _targets(traced, known, node.args[0], node, affine)


def _pads(module: Any, node: fx.Node) -> bool:
    """Whether an average pool takes zeros of a padding into its averages, or may do so."""
    if module is not None:
        padding = getattr(module, "padding", 0)
        return bool(padding and padding != (0, 0) and module.count_include_pad)
    return getattr(node.target, "__name__", "") in ("avg_pool1d", "avg_pool2d") and (
        len(node.args) > 3 or "padding" in node.kwargs
    )


def _through_concatenation(
    traced: fx.GraphModule, known: Known, node: fx.Node, affine: Affine
) -> Targets | None:
    dim = Call(known, node, None).argument("dim", 1, 0)
    if affine.axis is not None and dim != 1:
        if dim >= 0 or affine.axis not in (1, dim):
            return None
        affine = replace(affine, axis=dim)
    parts: Any = node.args[0]
    widths = [_channels(traced, known, one) for one in parts]
    if None in widths:
        return None
    length: int = sum(widths)  # type: ignore[arg-type]
    if max(affine.scale.numel(), affine.shift.numel()) not in (1, length):
        return None
    scales = affine.scale.expand(length).split(widths)
    shifts = affine.shift.expand(length).split(widths)
    found: Targets = []
    for one, scale, shift in zip(parts, scales, shifts, strict=True):
        own = Affine(affine.layer, scale, shift, affine.axis)
        targets = _targets(traced, known, one, node, own)
        if targets is None:
            return None
        found += targets
    return found


def _channels(traced: fx.GraphModule, known: Known, node: Any) -> int | None:
    """Return how many channels a tensor has, as far as a map is folded through what made it."""
    if not isinstance(node, fx.Node):
        return None
    width = _width(traced, known, node)
    if width is not None:
        return width
    if node.target in CONCATENATIONS:
        parts: Any = node.args[0]
        widths = [_channels(traced, known, one) for one in parts]
        return None if None in widths else sum(widths)  # type: ignore[arg-type]
    return _channels(traced, known, node.args[0]) if node.args else None


def weight_of(traced: fx.GraphModule, known: Known, node: fx.Node) -> Any:
    """Return the weight of a convolution or linear layer, module or function; None elsewhere."""
    module: Any = module_of(traced, node)
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)):
        return module.weight
    if node.target in (*FUNCTIONAL_CONVOLUTIONS, F.linear):
        return Call(known, node, None).argument("weight", 1, None)
    return None


def _width(traced: fx.GraphModule, known: Known, node: fx.Node) -> int | None:
    weight = weight_of(traced, known, node)
    if weight is None:
        return None
    module: Any = module_of(traced, node)
    return int(module.out_channels) if isinstance(module, TRANSPOSED) else len(weight)


def absorb_forward(traced: fx.GraphModule, known: Known, node: fx.Node) -> bool:
    """Hand a map to the one layer that reads it, if there is one and x is not of the pixels alone.

    Normalisation of the pixels is left where it is: inside a network it does what it does outside.
    """
    affine = known.affine[node]
    source: Any = node.args[0]
    if len(node.users) != 1 or source in known.ranges or affine.positive:
        return False
    (reader,) = node.users
    weight = weight_of(traced, known, reader)
    if weight is None or reader.args[0] is not node:
        return False
    module: Any = module_of(traced, reader)
    axes: Sequence[int | None] = (None, 1, -max(weight.dim() - 1, 1))
    if module is not None:
        width = getattr(module, "in_channels", None) or module.in_features
    else:
        width = weight.shape[1] * Call(known, reader, None).argument("groups", 6, 1)
    if affine.axis not in axes or max(affine.scale.numel(), affine.shift.numel()) not in (1, width):
        return False
    known.before[reader] = affine.scale.expand(width), affine.shift.expand(width)
    known.report.merged.append((Call(known, reader, module).layer, affine.layer))
    reader.replace_input_with(node, source)
    return True
