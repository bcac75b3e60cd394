"""Turn a network into a plan whose every operation has a relevance rule.

torch.fx traces a copy; its graph is written plainly (:mod:`.trace`), affine maps are folded into
the layers beside them (:mod:`.affine`), and every operation left is looked up in the tables of
:mod:`forensift.lrp.operations`. What is not there is an error: no layer is ever skipped in silence.
"""

from __future__ import annotations

import operator
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..data.presets import PRESETS, Preset
from ..detectors.units import mlp_neurons
from .affine import absorb_forward, fold_back, read_affine, weight_of
from .composites import COMPOSITES, Composite
from .export import exported
from .operations import CLAMPS, FUNCTION_RULES, SIZES, SUMS, Built, Call, Known, module_of
from .plan import Plan, Step
from .refused import attends
from .report import CanonisationError, LayerWithoutRule, Report
from .rules import Box, Convolution, EpsilonMap, Pass, Reshape, Rule, Transport
from .token_operations import TOKEN_RULES, Refused
from .token_rules import Sharing
from .trace import bypass, trace


def pixel_range(preset: Preset) -> tuple[float, float]:
    """Return the lowest and the highest normalised value that a pixel can have, over channels."""
    numbers = list(zip(preset.mean, preset.std, strict=True))
    return min(-mean / std for mean, std in numbers), max((1 - mean) / std for mean, std in numbers)


IMAGENET_BOX = pixel_range(PRESETS["imagenet"])


def canonise(
    twin: nn.Module,
    input_rule: str = "auto",
    box: tuple[float, float] | None = None,
    composite: Composite = COMPOSITES["beta0"],
    size: tuple[int, int] | None = None,
    attention: str = "cp",
) -> tuple[Plan, Report]:
    """Return the plan of a traceable copy and the report of what was done.

    input_rule: "auto" (box at a ResNet's 7×7 stem, z+ elsewhere: the published choice; in an
    exported network box), "zplus", or "box" (box at the convolution that reads the pixels), all of
    ``beta0``. box: lowest and highest pixel value. composite: the rules of layers with weights.
    size: (height, width) of the images, for a network that torch.export must read
    (:mod:`.export`), with the rules of :mod:`.token_operations`; None for torch.fx and any size.
    attention: "cp" or "attnlrp" (:class:`.token_rules.Attention`).

    Raises:
        CanonisationError: the network does not trace, or asks for a box where there is none.
        LayerWithoutRule: an operation has no rule.
        UserError: an override names no layer.
    """
    if input_rule != "auto" and composite.first != "beta0":
        raise CanonisationError(
            f"input_rule {input_rule!r} is of composite beta0; {composite} has its own first rule"
        )
    if input_rule not in ("auto", "zplus", "box"):
        raise CanonisationError(f"input_rule {input_rule!r} is none of auto, zplus, box")
    known = Known(box, composite=composite)
    if size is None:
        traced = trace(twin, known)
    else:
        shares = composite.linear == "beta0"
        known.sharing, known.attention = Sharing(shares, composite.epsilon), attention
        known.builders = {**FUNCTION_RULES, **TOKEN_RULES}
        traced = exported(twin, size, known)
    pixels = next(node for node in traced.graph.nodes if node.op == "placeholder")
    known.carrying.add(pixels)
    known.first.add(pixels)
    low, high = IMAGENET_BOX if box is None else box
    bounds = torch.tensor([low, high], dtype=torch.float64, device=next(twin.parameters()).device)
    known.ranges[pixels] = bounds[0], bounds[1]
    _refuse_attention(traced, known)
    _constants(traced, known, pixels)
    read_affine(traced, known)
    fold_back(traced, known)
    _fold_padding(traced, known)
    known.boxing = _boxing(traced, known, input_rule)
    steps = []
    for node in list(traced.graph.nodes):
        step = _step(traced, known, node)
        if step is not None:
            steps.append(step)
    if input_rule == "box" and not any(isinstance(step.rule, Box) for step in steps):
        raise CanonisationError("the box rule needs a convolution that reads the pixels")
    composite.check(known.asked)
    output: Any = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    if not isinstance(output, fx.Node) or output not in known.carrying:
        raise CanonisationError("the network must return one tensor of logits made of its input")
    _keep_reached(traced, known, steps, output)
    _name_units(twin, steps)
    traced.graph.owning_module = None  # the plan keeps folded weights, not the copy's own
    return Plan(steps, pixels, output, known.constants, _accounts(steps, pixels)), known.report


def _accounts(steps: list[Step], pixels: fx.Node) -> dict[fx.Node, str]:
    """Return the constants that receive relevance, named after their parameters."""
    ruled = {step.node for step in steps if step.rule is not None} | {pixels}
    found: dict[fx.Node, str] = {}
    for step in steps:
        for parent in step.parents:
            if parent in ruled:
                continue
            sources = [parent]
            while sources[-1].op != "get_attr" and sources[-1].all_input_nodes:
                inputs = sources[-1].all_input_nodes
                sources.append(next((one for one in inputs if one.op == "get_attr"), inputs[0]))
            found[parent] = str(sources[-1].target if sources[-1].op == "get_attr" else parent.name)
    return found


def _refuse_attention(traced: fx.GraphModule, known: Known) -> None:
    """Name attention first: a transformer meets smaller obstacles on the way to it."""
    for node in traced.graph.nodes:
        call = Call(known, node, module_of(traced, node))
        if node.op.startswith("call") and attends(call.kind) and call.builder is None:
            raise call.refuse()


def _is_size(node: fx.Node) -> bool:
    return node.target in SIZES or (node.target is getattr and node.args[1] in SIZES)


def _constants(traced: fx.GraphModule, known: Known, pixels: fx.Node) -> None:
    """Compute what depends on no pixel, and tell tensors from what depends on their size alone."""
    known.dependent.add(pixels)
    numbers: set[fx.Node] = set()
    for node in traced.graph.nodes:
        inputs = set(node.all_input_nodes)
        if node is pixels or node.op == "output":
            continue
        if node.op == "placeholder":
            if not node.args:
                raise CanonisationError(f"the network needs a second input, {node.target!r}")
            known.constants[node] = node.args[0]
        elif node.op == "get_attr":
            known.constants[node] = operator.attrgetter(str(node.target))(traced)
        elif inputs <= set(known.constants):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.constants.__getitem__)
            known.constants[node] = Call(known, node, module_of(traced, node)).run(*args, **kwargs)
        elif _is_size(node) or not inputs & known.dependent:
            numbers.add(node)
        else:
            known.dependent.add(node)


def _fold_padding(traced: fx.GraphModule, known: Known) -> None:
    """Let a 2-D convolution pad with zeros itself, so that none of its relevance goes to them."""
    for node in list(traced.graph.nodes):
        module: Any = module_of(traced, node)
        if isinstance(module, nn.ZeroPad2d):
            amounts: Any = module.padding
        elif node.target is F.pad and _zeros(node):
            amounts = node.args[1]
        else:
            continue
        reader = next(iter(node.users), node)
        own: Any = module_of(traced, reader)
        plain = type(own) is nn.Conv2d and own.padding_mode == "zeros"
        plain = plain and not isinstance(own.padding, str)
        functional = reader.target is F.conv2d
        if functional:
            plain = not isinstance(Call(known, reader, None).argument("padding", 4, 0), str)
        numbers = isinstance(amounts, (tuple, list)) and all(
            isinstance(one, int) and one >= 0 for one in amounts
        )
        if plain and numbers and len(amounts) == 4 and set(node.users) == {reader}:
            known.pads[reader] = list(amounts)
            bypass(traced, node, node.args[0])


def _zeros(node: fx.Node) -> bool:
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return mode == "constant" and value in (None, 0)


def _boxing(traced: fx.GraphModule, known: Known, input_rule: str) -> Any:
    """Return which 2-D convolutions of the pixels get the box rule."""
    if input_rule == "zplus":
        return lambda convolution: False
    residual = any(
        node.target in SUMS and sum(arg in known.dependent for arg in node.all_input_nodes) == 2
        for node in traced.graph.nodes
    )

    def boxed(convolution: Convolution) -> bool:
        if not convolution.boxable:
            return False
        always = input_rule == "box" or known.sharing is not None
        return always or (residual and convolution.weight.shape[2:] == (7, 7))

    return boxed


def _step(traced: fx.GraphModule, known: Known, node: fx.Node) -> Step | None:
    """Return the step of one node; what is constant, or folded into another step, needs none."""
    if node.op == "output" or node in known.carrying or node in known.constants:
        return None
    call = Call(known, node, module_of(traced, node))
    if not call.carriers or _is_size(node):
        return Step(node, call.layer, None, call.run)
    if node in known.affine and absorb_forward(traced, known, node):
        return None
    rule, parents = _built(call)
    if rule.sign == "nonneg" or (rule.sign == "keep" and call.nonneg):
        known.nonneg.add(node)
    if set(parents) <= set(known.ranges) and (bounds := _bounds(known, node, rule, parents)):
        known.ranges[node] = bounds
    if set(parents) <= known.first and weight_of(traced, known, node) is None:
        known.first.add(node)
    known.carrying.add(node)
    known.rules[node] = rule, parents
    return Step(node, call.layer, rule, rule.overwrite or rule.compute, parents)


def _built(call: Call) -> Built:
    """Return an operation's rule and what receives relevance of it.

    Between queries and keys of an exported network there may be anything, as long as no relevance
    comes there: an operation without a rule is refused only where some does.
    """
    try:
        if call.builder is None:
            raise call.refuse()
        return call.builder(call)
    except LayerWithoutRule as error:
        if call.known.sharing is None:
            raise
        return Refused(call.run, error), call.carriers


def _bounds(
    known: Known, node: fx.Node, rule: Rule, parents: tuple[fx.Node, ...]
) -> tuple[Tensor, Tensor] | None:
    """Return the lowest and highest value of what is made of the pixels, None where that is lost.

    The default box is that of ImageNet's normalised values, whoever normalises; a box given is of
    the pixels that the network reads, and a normalisation inside it moves the box along.
    """
    low, high = known.ranges[parents[0]]
    if node in known.affine:
        if known.box is None:
            return low, high
        ends = [known.affine[node](end.expand(1, 1, 1, 1)) for end in (low, high)]
        return torch.minimum(*ends), torch.maximum(*ends)
    if node.target in CLAMPS:
        return rule.compute(low, *node.args[1:], **node.kwargs), rule.compute(
            high, *node.args[1:], **node.kwargs
        )
    if len(parents) > 1 or isinstance(rule, Pass):
        return None
    kept = isinstance(rule, (Reshape, Transport)) and rule.sign == "keep"
    padded = node.target is F.pad and bool((low <= 0).all() and (high >= 0).all())
    if not (kept or padded or isinstance(rule, EpsilonMap)):
        return None
    if isinstance(rule, Reshape):
        return low, high
    return low.min(), high.max()  # channels may be in another order


def _name_units(twin: nn.Module, steps: list[Step]) -> None:
    """Note which step makes the neurons of an MLP: the last one in each call of their module."""
    units = mlp_neurons(twin)
    last: dict[str, tuple[str, Step]] = {}
    for step in steps:
        meta = step.node.meta
        for call, name, _ in (*meta.get("modules", ()), *meta.get("ends", ())):
            if name in units and step.rule is not None:
                last[call] = name, step
    for name, step in last.values():
        step.feature_map = name


def _keep_reached(traced: fx.GraphModule, known: Known, steps: list[Step], output: fx.Node) -> None:
    """Take the rules from the steps that relevance never reaches; name and report the others."""
    reached = {output}
    for step in reversed(steps):
        if step.node in reached:
            reached.update(step.parents)
    uses: dict[str, int] = {}
    rows = []
    for step in steps:
        convolution: Convolution | None = getattr(step.rule, "convolution", None)
        if step.rule is not None and step.node not in reached:
            if convolution is not None:
                known.report.constant_convolutions.append(step.layer)
            step.run, step.rule, step.parents = step.rule.compute, None, ()
        if isinstance(step.rule, Refused):
            raise step.rule.error
        if step.rule is None:
            continue
        name = step.layer
        uses[name] = uses.get(name, 0) + 1
        if uses[name] > 1:
            step.layer += f"@{uses[name]}"  # a row of its own for each call of a module
        if convolution is not None and convolution.two_dimensional:
            step.feature_map = name
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
