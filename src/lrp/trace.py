"""Trace a network and write its graph plainly, before any rule is chosen.

Plainly: every tensor is written once (no operation works in place), every input stands at its
position (no keyword), a split gives one tensor an operation, and nothing inactive is left.
"""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .operations import (
    INACTIVE_FUNCTIONS,
    INACTIVE_MODULES,
    SIZES,
    SPLITS,
    Call,
    Known,
    module_builder,
    module_of,
    part,
)
from .report import Untraceable

FIRST = ("input", "tensors", "tensor", "x", "self")  # what torch calls a builtin's first argument
PLAIN = {  # in place → what it computes
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}  # fmt: skip
SAME = frozenset({"contiguous", "detach", "to", "float", "double", "type", "type_as"})
VIEWS = frozenset({
    "view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute",
    "transpose", "movedim", "select", "narrow", "getitem", "chunk", "split", "tensor_split",
    "unbind", "expand", "expand_as",
})  # fmt: skip


class _Proxy(fx.Proxy):
    """A proxy that tells ``x += y``, which writes over x, from ``x = x + y``."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._written(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._written(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._written(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._written(operator.itruediv, other)

    def _written(self, how: Any, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", how, (self, other), {})


class _Tracer(fx.Tracer):
    """A tracer for which every module that has a rule is one operation."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_builder(m) is not None or super().is_leaf_module(m, module_qualified_name)


def bypass(traced: fx.GraphModule, node: fx.Node, source: Any) -> None:
    """Take a node out: what read it reads ``source``."""
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)


def trace(twin: nn.Module, known: Known) -> fx.GraphModule:
    """Return the plain graph of a traceable copy.

    Raises:
        CanonisationError: torch.fx cannot trace it.
        LayerWithoutRule: an operation cannot be written plainly.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(twin)
    except Exception as error:
        raise Untraceable(
            f"torch.fx cannot trace {type(twin).__name__}, so LRP has no rules for it: {error}"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    for node in reversed(traced.graph.nodes):
        if node.target is torch._assert:  # of shapes; else it would count as a reader of a layer
            traced.graph.erase_node(node)
    _place_arguments(traced)
    _write_once(traced, known)
    traced.graph.eliminate_dead_code()
    split_up(traced, known)
    _drop_inactive(traced, known)
    return traced


def _place_arguments(traced: fx.GraphModule) -> None:
    """Put what is given by keyword at its position, as far as the names of arguments are known."""
    for node in traced.graph.nodes:
        if not node.op.startswith("call"):
            continue
        args, kwargs = list(node.args), dict(node.kwargs)
        for other, name in (("axis", "dim"), ("keepdims", "keepdim")):
            if other in kwargs and node.op != "call_module":
                kwargs[name] = kwargs.pop(other)
        for names in _parameters(traced, node)[len(args) :]:
            given = [one for one in names if one in kwargs]
            if not given:
                break
            args.append(kwargs.pop(given[0]))
        node.args, node.kwargs = tuple(args), kwargs


def _parameters(traced: fx.GraphModule, node: fx.Node) -> list[tuple[str, ...]]:
    """Return the names that each positional argument may go by."""
    module = module_of(traced, node)
    function = node.target if module is None else module.forward
    try:
        own = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):  # builtins and methods have none
        own = []
    if own and own[0].kind is own[0].POSITIONAL_OR_KEYWORD:
        return [(one.name,) for one in own if one.kind is one.POSITIONAL_OR_KEYWORD]
    return [FIRST, ("other",)]


def _in_place(traced: fx.GraphModule, node: fx.Node, numbers: set[fx.Node]) -> bool:
    """Return whether a node writes over its first input; if so, it no longer does afterwards."""
    module, target = module_of(traced, node), node.target
    if module is not None:
        writes = getattr(module, "inplace", False) is True
        if writes:
            module.inplace = False
        return writes
    if not node.op.startswith("call") or not node.args or node.args[0] in numbers:
        return False
    if target in PLAIN:
        node.target = PLAIN[target]  # type: ignore[index]
        return isinstance(node.args[0], fx.Node)
    name = str(target) if isinstance(target, str) else getattr(target, "__name__", "")
    if name.endswith("_") and not name.endswith("__"):
        plain = name.removesuffix("_")
        if isinstance(target, str):
            if not hasattr(torch.Tensor, plain):
                return False
            node.target = plain
        else:
            home = next((one for one in (torch, F) if hasattr(one, plain)), None)
            if home is None:
                return False
            node.target = getattr(home, plain)
        return True
    parameters = _parameters(traced, node)
    place = next((i for i, names in enumerate(parameters) if names == ("inplace",)), None)
    writes = node.kwargs.get("inplace", False) is True
    if place is not None and len(node.args) > place:
        writes = node.args[place] is True
        node.args = node.args[:place]  # it is the last argument of every activation
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    return writes


def _write_once(traced: fx.GraphModule, known: Known) -> None:
    """Let everything that reads a tensor after it was written over read what was written."""
    place = {node: i for i, node in enumerate(traced.graph.nodes)}
    numbers: set[fx.Node] = set()
    for node in list(traced.graph.nodes):
        inputs = node.all_input_nodes
        size = node.target in SIZES or (node.target is getattr and node.args[1] in SIZES)
        if size or (inputs and node.op != "call_module" and set(inputs) <= numbers):
            numbers.add(node)
        if not _in_place(traced, node, numbers):
            continue
        source: Any = node.args[0]
        while _alias(traced, source) == "same":
            source = source.args[0]
        if _alias(traced, source) == "view":
            base = source
            while _alias(traced, base):
                base = base.args[0]
            if any(place[user] > place[node] for user in _readers(traced, base, {source})):
                raise Call(known, node, module_of(traced, node)).refuse(
                    "it writes over a part of a tensor that is read again"
                )
        _reread(traced, source, node, node, place)


def _alias(traced: fx.GraphModule, node: fx.Node) -> str:
    """Return 'same' or 'view' where a node's output is its input's own memory, '' elsewhere."""
    if isinstance(module_of(traced, node), INACTIVE_MODULES):
        return "same"
    if isinstance(module_of(traced, node), (nn.Flatten, nn.Unflatten)):
        return "view"
    if not node.op.startswith("call") or node.op == "call_module":
        return ""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    same = name in SAME or (name in INACTIVE_FUNCTIONS and node.op == "call_function")
    return "same" if same else "view" if name in VIEWS else ""


def _readers(traced: fx.GraphModule, node: fx.Node, without: set[fx.Node]) -> list[fx.Node]:
    """Return what reads a tensor or a view of it, but for the views in ``without``."""
    found = []
    for user in node.users:
        if user not in without:
            found.append(user)
            if _alias(traced, user):
                found += _readers(traced, user, without)
    return found


def _reread(
    traced: fx.GraphModule, old: fx.Node, new: fx.Node, writer: fx.Node, place: dict[fx.Node, int]
) -> None:
    """Make what reads ``old``, or a view of it, after ``writer`` read ``new`` or its view."""
    for user in list(old.users):
        if user is writer or user not in place:
            continue
        if place[user] > place[writer]:
            user.replace_input_with(old, new)
        elif alias := _alias(traced, user):
            fresh = new
            later = any(place.get(one, -1) > place[writer] for one in _readers(traced, user, set()))
            if alias == "view" and later:
                with traced.graph.inserting_after(new):
                    fresh = traced.graph.node_copy(user, lambda n: new if n is old else n)
                    place[fresh] = place[writer]
            _reread(traced, user, fresh, writer, place)


def split_up(traced: fx.GraphModule, known: Known) -> None:
    """Make one operation a part of what gives several tensors at once: chunk, split, unbind."""
    for node in list(traced.graph.nodes):
        if not node.op.startswith("call") or node.target not in SPLITS:
            continue
        for user in list(node.users):
            index = user.args[1] if user.target is operator.getitem else None
            if not isinstance(index, int):
                raise Call(known, node, None).refuse("its parts are not taken one by one")
            x, *rest = node.args
            with traced.graph.inserting_before(user):
                taken = traced.graph.call_function(
                    part, (x, index, SPLITS[node.target], *rest), node.kwargs
                )
            taken.meta.update(node.meta)
            bypass(traced, user, taken)
        traced.graph.erase_node(node)


def _drop_inactive(traced: fx.GraphModule, known: Known) -> None:
    """Take out what does nothing in evaluation mode: dropout, identity, stochastic depth."""
    for node in list(traced.graph.nodes):
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name in INACTIVE_FUNCTIONS:
            call = Call(known, node, None)
            if call.argument("training", INACTIVE_FUNCTIONS[name], True) is not False:
                raise call.refuse("it is active in evaluation mode")
            bypass(traced, node, node.args[0])
        elif isinstance(module_of(traced, node), INACTIVE_MODULES):
            bypass(traced, node, node.args[0])
