"""Turn a network into a plan whose every operation has a relevance rule.

torch.fx traces a private copy; BatchNorm is folded into the layer before it; every operation left
is looked up in the tables of :mod:`forensift.lrp.operations`. What is not there is an error: no
layer is ever skipped in silence.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import pandas as pd
import torch
from torch import fx, nn

from ..data.presets import PRESETS, Preset
from .batchnorm import bypass, fold_batchnorm, module_of
from .operations import (
    INACTIVE_FUNCTIONS,
    INACTIVE_MODULES,
    SIZES,
    SPLITS,
    SUMS,
    Call,
    Known,
    drop_inplace,
    module_builder,
    part,
)
from .plan import Plan, Step
from .refused import attends
from .report import CanonisationError, Report
from .rules import Box, ZPlus


def pixel_range(preset: Preset) -> tuple[float, float]:
    """Return the lowest and the highest normalised value that a pixel can have, over channels."""
    numbers = list(zip(preset.mean, preset.std, strict=True))
    return min(-mean / std for mean, std in numbers), max((1 - mean) / std for mean, std in numbers)


IMAGENET_BOX = pixel_range(PRESETS["imagenet"])


class _Tracer(fx.Tracer):
    """A tracer for which every module that has a rule is one operation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_builder(m) is not None or super().is_leaf_module(m, module_qualified_name)


def private_copy(network: nn.Module) -> nn.Module:
    """Return a deep copy in evaluation mode that shares no tensor with the original.

    Raises:
        CanonisationError: the network carries forward hooks (they may change its output, and
            calling them from here would not be private), or its parameters are neither float32
            nor float64.
    """
    for name, module in network.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise CanonisationError(f"module {name!r} has forward hooks; remove them before LRP")
    dtypes = {parameter.dtype for parameter in network.parameters()}
    if dtypes not in ({torch.float32}, {torch.float64}):
        found = ", ".join(sorted(map(str, dtypes))) or "no parameters"
        raise CanonisationError(f"LRP needs parameters all float32 or all float64, found {found}")
    twin = copy.deepcopy(network).eval().requires_grad_(False)
    for module in twin.modules():
        # checkpointing (DenseNet) does not trace; the plan decides what may be overwritten
        for switch in ("memory_efficient", "inplace"):
            if getattr(module, switch, None) is True:
                setattr(module, switch, False)
    return twin


def canonise(
    twin: nn.Module, input_rule: str = "auto", box: tuple[float, float] = IMAGENET_BOX
) -> tuple[Plan, Report]:
    """Return the plan of a private copy and the report of what was done.

    input_rule: "auto" (box at a ResNet's 7×7 stem, z+ elsewhere: the published choice), "zplus",
    or "box" (box at the convolution that reads the pixels). box: lowest and highest pixel value.

    Raises:
        CanonisationError: the network does not trace, or asks for a box where there is none.
        LayerWithoutRule: an operation has no rule.
    """
    if input_rule not in ("auto", "zplus", "box"):
        raise CanonisationError(f"input_rule {input_rule!r} is none of auto, zplus, box")
    traced = _trace(twin)
    known = Known(box)
    pixels = next(node for node in traced.graph.nodes if node.op == "placeholder")
    known.carrying.add(pixels)
    _refuse_attention(traced, known)
    _split_up(traced, known)
    _drop_inactive(traced, known)
    fold_batchnorm(traced, known)
    known.boxed = _boxed_convolutions(traced, pixels, input_rule)
    steps = []
    for node in traced.graph.nodes:
        step = _step(traced, known, node)
        if step is not None:
            steps.append(step)
    output: Any = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    if not isinstance(output, fx.Node) or output not in known.carrying:
        raise CanonisationError("the network must return one tensor of logits made of its input")
    _keep_reached(traced, known, steps, output)
    traced.graph.owning_module = None  # the plan keeps folded weights, not the copy's own
    return Plan(steps, pixels, output, known.constants), known.report


def _trace(twin: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    try:
        graph = tracer.trace(twin)
    except Exception as error:
        raise CanonisationError(
            f"torch.fx cannot trace {type(twin).__name__}, so LRP has no rules for it: {error}"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    for node in reversed(traced.graph.nodes):
        if node.target is torch._assert:  # of shapes; else it would count as a reader of a layer
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    return traced


def _refuse_attention(traced: fx.GraphModule, known: Known) -> None:
    """Name attention first: a transformer meets smaller obstacles on the way to it."""
    for node in traced.graph.nodes:
        call = Call(known, node, module_of(traced, node))
        if node.op.startswith("call") and attends(call.kind) and call.builder is None:
            raise call.refuse()


def _split_up(traced: fx.GraphModule, known: Known) -> None:
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


def _boxed_convolutions(
    traced: fx.GraphModule, pixels: fx.Node, input_rule: str
) -> frozenset[fx.Node]:
    """Return the convolutions that get the box rule: one a backbone that reads the pixels."""
    if input_rule == "zplus":
        return frozenset()
    readers = [node for node in pixels.users if isinstance(module_of(traced, node), nn.Conv2d)]
    if input_rule == "box":
        if not readers:
            raise CanonisationError("the box rule needs a convolution that reads the pixels")
        return frozenset(readers)
    residual = any(
        node.target in SUMS and sum(isinstance(arg, fx.Node) for arg in node.args) == 2
        for node in traced.graph.nodes
    )
    stems = [node for node in readers if module_of(traced, node).kernel_size == (7, 7)]
    return frozenset(stems if residual else ())


def _step(traced: fx.GraphModule, known: Known, node: fx.Node) -> Step | None:
    """Return the step of one node; what is constant is computed here and needs none."""
    if node.op == "output" or node in known.carrying:
        return None
    if node.op == "placeholder":
        if not node.args:
            raise CanonisationError(f"the network needs a second input, {node.target!r}")
        known.constants[node] = node.args[0]
        return None
    if node.op == "get_attr":
        known.constants[node] = operator.attrgetter(str(node.target))(traced)
        return None
    call = Call(known, node, module_of(traced, node))
    if not call.carriers:
        if set(node.all_input_nodes) <= set(known.constants):
            value = known.constants.__getitem__
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
            known.constants[node] = call.run(*args, **kwargs)
            return None
        return Step(node, call.layer, None, call.run)
    if node.target in SIZES or (node.target is getattr and node.args[1] in SIZES):
        return Step(node, call.layer, None, call.run)
    if call.builder is None:
        raise call.refuse()
    drop_inplace(node)
    rule, parents = call.builder(call)
    if rule.sign == "nonneg" or (rule.sign == "keep" and call.nonneg):
        known.nonneg.add(node)
    known.carrying.add(node)
    known.rules[node] = rule, parents
    return Step(node, call.layer, rule, rule.overwrite or rule.compute, parents)


def _keep_reached(traced: fx.GraphModule, known: Known, steps: list[Step], output: fx.Node) -> None:
    """Take the rules from the steps that relevance never reaches; name and report the others."""
    reached = {output}
    for step in reversed(steps):
        if step.node in reached:
            reached.update(step.parents)
    uses: dict[str, int] = {}
    rows = []
    for step in steps:
        convolution = isinstance(step.rule, (ZPlus, Box))
        if step.rule is not None and step.node not in reached:
            if convolution:
                known.report.constant_convolutions.append(step.layer)
            step.run, step.rule, step.parents = step.rule.compute, None, ()
        if step.rule is None:
            continue
        uses[step.layer] = uses.get(step.layer, 0) + 1
        if uses[step.layer] > 1:
            step.layer += f"@{uses[step.layer]}"  # a module called again is another layer
        if isinstance(step.rule, (ZPlus, Box)):
            step.feature_map = step.rule.convolution.two_dimensional
        module = module_of(traced, step.node)
        kind = step.node.target if module is None else type(module)
        rows.append(
            {
                "layer": step.layer,
                "operation": getattr(kind, "__name__", str(kind)),
                "rule": step.rule.name,
                "input_nonneg": all(parent in known.nonneg for parent in step.parents),
            }
        )
    columns = ["layer", "operation", "rule", "input_nonneg"]
    known.report.rules = pd.DataFrame(rows, columns=columns)
