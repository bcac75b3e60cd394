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

from .operations import (
    BATCHNORMS,
    CONVOLUTIONS,
    FUNCTION_RULES,
    INACTIVE_FUNCTIONS,
    INACTIVE_MODULES,
    SIZES,
    SUMS,
    TRANSPOSED,
    Call,
    Known,
    drop_inplace,
    module_builder,
)
from .plan import Plan, Step
from .report import CanonisationError, Report
from .rules import Box, ZPlus

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_BOX = (
    min(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
    max((1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
)


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
    _drop_inactive(traced, known)
    _fold_batchnorm(traced, known)
    known.boxed = _boxed_convolution(traced, pixels, input_rule)
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
        raise CanonisationError(f"torch.fx cannot trace {type(twin).__name__}: {error}") from error
    traced = fx.GraphModule(tracer.root, graph)
    traced.graph.eliminate_dead_code()
    return traced


def _module(traced: fx.GraphModule, node: Any) -> Any:
    """Return the module that a node calls, None where it calls none."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return traced.get_submodule(str(node.target))
    return None


def _bypass(traced: fx.GraphModule, node: fx.Node, source: Any) -> None:
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)


def _drop_inactive(traced: fx.GraphModule, known: Known) -> None:
    """Take out what does nothing in evaluation mode: dropout, identity, stochastic depth."""
    for node in list(traced.graph.nodes):
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name in INACTIVE_FUNCTIONS:
            call = Call(known, node, None)
            if call.argument("training", INACTIVE_FUNCTIONS[name], True) is not False:
                raise call.refuse("it is active in evaluation mode")
            _bypass(traced, node, node.args[0])
        elif isinstance(_module(traced, node), INACTIVE_MODULES):
            _bypass(traced, node, node.args[0])


def _fold_batchnorm(traced: fx.GraphModule, known: Known) -> None:
    """Pair each BatchNorm with the layer whose output it alone reads, as executed."""
    for node in list(traced.graph.nodes):
        norm = _module(traced, node)
        if not isinstance(norm, BATCHNORMS):
            continue
        if norm.running_mean is None or norm.running_var is None:
            raise Call(known, node, norm).refuse("it keeps no running statistics")
        source: Any = node.args[0]
        layer = _module(traced, source)
        foldable = isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear))
        if isinstance(layer, TRANSPOSED) and layer.groups > 1:
            foldable = False  # its output channels do not lie along one axis of the weight
        if not foldable or set(source.users) != {node}:
            known.report.unfolded.append(str(node.target))
            continue
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach().double()
        shift = -norm.running_mean.double() * scale
        if norm.bias is not None:
            shift = shift + norm.bias.detach().double()
        known.scales[source] = scale, shift
        known.report.merged.append((str(source.target), str(node.target)))
        _bypass(traced, node, source)


def _boxed_convolution(traced: fx.GraphModule, pixels: fx.Node, input_rule: str) -> fx.Node | None:
    """Return the convolution that gets the box rule, if any."""
    if input_rule == "zplus":
        return None
    readers = [node for node in pixels.users if isinstance(_module(traced, node), nn.Conv2d)]
    if input_rule == "box":
        if len(readers) != 1:
            raise CanonisationError(
                f"the box rule needs one convolution that reads the pixels, found {len(readers)}"
            )
        return readers[0]
    residual = any(
        node.target in SUMS and sum(isinstance(arg, fx.Node) for arg in node.args) == 2
        for node in traced.graph.nodes
    )
    stems = [node for node in readers if _module(traced, node).kernel_size == (7, 7)]
    return stems[0] if residual and stems else None


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
    call = Call(known, node, _module(traced, node))
    if not call.carriers:
        if set(node.all_input_nodes) <= set(known.constants):
            value = known.constants.__getitem__
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
            known.constants[node] = call.run(*args, **kwargs)
            return None
        return Step(node, call.layer, None, call.run)
    if node.target in SIZES or (node.target is getattr and node.args[1] in SIZES):
        return Step(node, call.layer, None, call.run)
    builder = (
        FUNCTION_RULES.get(node.target) if call.module is None else module_builder(call.module)
    )
    if builder is None:
        raise call.refuse()
    drop_inplace(node)
    rule, parents = builder(call)
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
        step.feature_map = convolution
        module = _module(traced, step.node)
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
