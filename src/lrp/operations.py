"""Which rule each operation gets: the tables, and the few lines that read an operation's numbers.

To add an operation, add an entry to ``MODULE_RULES`` (by module class) or ``FUNCTION_RULES`` (by
function, or by method name). A module of one's own may instead carry the attribute ``lrp_rule``:
"linear" (ε rule through the module's own Jacobian), "pass" or "gradient".
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from efficientnet_pytorch.utils import (
    Conv2dDynamicSamePadding,
    Conv2dStaticSamePadding,
    MemoryEfficientSwish,
)
from torch import Tensor, fx, nn

from .composites import COMPOSITES, Composite
from .refused import ADD_ONE, OTHER_METHODS, reason
from .report import LayerWithoutRule, Report
from .rules import (
    Box,
    Concatenation,
    Convolution,
    Diagonal,
    EpsilonLinear,
    EpsilonMap,
    EpsilonSum,
    Gate,
    Pass,
    Reshape,
    Rule,
    Stack,
    Transport,
    ZPlus,
)
from .token_rules import Sharing
from .weighted import ChannelMap, Linear

BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
INACTIVE_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)  # fmt: skip
INACTIVE_FUNCTIONS = {  # function name → position of its argument ``training``
    "dropout": 2, "dropout1d": 2, "dropout2d": 2, "dropout3d": 2, "alpha_dropout": 2,
    "stochastic_depth": 3,
}  # fmt: skip
SIZES = frozenset({  # what depends on a tensor's shape alone
    "size", "shape", "dim", "ndim", "numel", "dtype", "device", torch.ops.aten.sym_size.int,
    torch.ops.aten.new_zeros.default, torch.ops.aten.new_ones.default,
    torch.ops.aten.zeros_like.default, torch.ops.aten.ones_like.default,
})  # fmt: skip
SUMS = frozenset({operator.add, torch.add, "add"})
DIFFERENCES = frozenset({operator.sub, torch.sub, torch.subtract, "sub", "subtract"})
REVERSED = frozenset({torch.rsub, "rsub"})
PRODUCTS = frozenset({operator.mul, torch.mul, torch.multiply, "mul", "multiply"})
QUOTIENTS = frozenset({operator.truediv, torch.div, torch.divide, "div", "divide"})
NEGATIONS = frozenset({operator.neg, torch.neg, torch.negative, "neg", "negative"})
CLAMPS = frozenset({torch.clamp, torch.clip, "clamp", "clip"})
CONCATENATIONS = frozenset({torch.cat, torch.concat, torch.concatenate})
FUNCTIONAL_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
AVERAGES = frozenset({
    F.avg_pool1d, F.adaptive_avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, "mean",
})  # fmt: skip
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
MAXIMA = frozenset({F.max_pool1d, F.max_pool2d, F.adaptive_max_pool2d, torch.amax, "amax"})
SPLITS = {  # what gives several tensors at once → the torch function's name
    target: name
    for name in ("chunk", "split", "tensor_split", "unbind")
    for target in (getattr(torch, name), name)
}
SAME_PADDED = frozenset({"timm.layers.conv2d_same.Conv2dSame"})  # by name: timm is optional


@dataclass(frozen=True)
class Affine:
    """z = scale · x + shift, named after the operation that it was read from.

    scale, shift: float64, a number () or (C,) along ``axis``. axis: 1, or counted from the end;
    None where both are numbers; 0 where they are of any shape and broadcast as they are.
    """

    layer: str
    scale: Tensor
    shift: Tensor
    axis: int | None

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift in the shape and dtype in which they broadcast to x."""
        shape = [1] * x.dim()
        if self.axis:
            shape[self.axis] = -1
        scale, shift = (
            one.view(shape) if self.axis and one.dim() else one for one in (self.scale, self.shift)
        )
        return scale.to(x), shift.to(x)

    def __call__(self, x: Tensor) -> Tensor:
        scale, shift = self.at(x)
        return torch.addcmul(shift, x, scale)

    @property
    def positive(self) -> bool:
        """Whether this only scales by positive numbers, which no rule can tell from other units."""
        return bool((self.scale > 0).all() and not self.shift.any())

    def joins(self, after: Affine) -> bool:
        """Whether this and a map after it are one map."""
        return self.axis == after.axis or None in (self.axis, after.axis)

    def then(self, after: Affine) -> Affine:
        """Return the one map that does this and then the other."""
        scale, shift = self.scale * after.scale, after.scale * self.shift + after.shift
        axis = after.axis if self.axis is None else self.axis
        return Affine(after.layer, scale, shift, axis)


@dataclass
class Known:
    """What is known of the graph so far.

    box: lowest and highest pixel value, None for the default at the first convolution; constants:
    values that do not depend on the pixels; dependent: tensors that do; carrying: those that have
    a rule; nonneg: those known to be ≥ 0; ranges: lowest and highest value of what is only picked,
    averaged or normalised from the pixels; rules: each carrying node's rule and parents; affine:
    the map of each :func:`scaled` node; scales: the maps (scale, shift), each (C,), to fold into
    a layer's output; before: those to fold into its input; pads: zero padding to fold into a
    convolution; boxing: which convolutions on ``ranges`` get the box rule; composite: which rule a
    layer with weights gets; first: what is made of the pixels without any; asked: the names of the
    layers with weights; builders: of functions; sharing: how sums of both signs are shared in an
    exported network, None in any other; attention: "cp" or "attnlrp".
    """

    box: tuple[float, float] | None = None
    report: Report = field(default_factory=Report)
    constants: dict[fx.Node, Any] = field(default_factory=dict)
    dependent: set[fx.Node] = field(default_factory=set)
    carrying: set[fx.Node] = field(default_factory=set)
    nonneg: set[fx.Node] = field(default_factory=set)
    ranges: dict[fx.Node, tuple[Tensor, Tensor]] = field(default_factory=dict)
    rules: dict[fx.Node, Built] = field(default_factory=dict)
    affine: dict[fx.Node, Affine] = field(default_factory=dict)
    scales: dict[fx.Node, tuple[Tensor, Tensor]] = field(default_factory=dict)
    before: dict[fx.Node, tuple[Tensor, Tensor]] = field(default_factory=dict)
    pads: dict[fx.Node, list[int]] = field(default_factory=dict)
    boxing: Callable[[Convolution], bool] = lambda convolution: False
    composite: Composite = COMPOSITES["beta0"]
    first: set[fx.Node] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    builders: Mapping[Any, Builder] = field(default_factory=lambda: FUNCTION_RULES)
    sharing: Sharing | None = None
    attention: str = "cp"


@dataclass
class Call:
    """One operation of the graph, as the rule builders see it."""

    known: Known
    node: fx.Node
    module: nn.Module | None

    @property
    def layer(self) -> str:
        """The module's name in the network, or the graph's name of a function call.

        What a convolution with a ``forward`` of its own calls has that convolution's name.
        """
        if self.module is not None:
            return str(self.node.target)
        if self.node in self.known.affine:
            return self.known.affine[self.node].layer
        if modules := self.node.meta.get("modules"):  # of an export
            _, name, kind = modules[-1]
            return name if kind.startswith("torch.nn.modules") else f"{name}.{self.kind}"
        inside = list(self.node.meta.get("nn_module_stack", {}).values())
        if self.node.target in FUNCTIONAL_CONVOLUTIONS and inside:
            name, kind = inside[-1]
            if isinstance(kind, type) and issubclass(kind, CONVOLUTIONS):
                return str(name)
        return self.node.name

    @property
    def run(self) -> Callable[..., Any]:
        """The operation as a plain callable of the node's arguments."""
        if self.module is not None:
            return self.module
        target = self.node.target
        if self.node in self.known.affine:
            return self.known.affine[self.node]
        if isinstance(target, str):
            return lambda x, *args, **kwargs: getattr(x, target)(*args, **kwargs)
        return target

    @property
    def carriers(self) -> tuple[fx.Node, ...]:
        """The inputs that depend on the pixels, in the order of the arguments."""
        found: list[fx.Node] = []
        fx.node.map_arg((self.node.args, self.node.kwargs), found.append)
        return tuple(node for node in found if node in self.known.carrying)

    @property
    def nonneg(self) -> bool:
        """Whether every such input is known to be ≥ 0."""
        return all(node in self.known.nonneg for node in self.carriers)

    def single(self) -> tuple[fx.Node, ...]:
        """Return the one input that depends on the pixels, or refuse."""
        if len(self.carriers) != 1:
            raise self.refuse("it mixes several inputs")
        return self.carriers

    def argument(self, name: str, position: int, default: Any) -> Any:
        """Return an argument by name or position, its value where it is a constant node."""
        args = self.node.args
        value = args[position] if len(args) > position else self.node.kwargs.get(name, default)
        if isinstance(value, fx.Node):
            if value not in self.known.constants:
                raise self.refuse(f"its {name} depends on the input")
            return self.known.constants[value]
        return value

    @property
    def builder(self) -> Builder | None:
        """What builds the operation's rule, None where it has none."""
        if self.module is not None:
            return module_builder(self.module)
        return self.known.builders.get(self.node.target)

    @property
    def kind(self) -> str:
        """The operation's type: a module's class with its package, or a function's name."""
        if self.module is not None:
            return full_name(self.module)
        return str(getattr(self.node.target, "__name__", self.node.target))

    def weights_rule(self, kind: str) -> str:
        """Return the name of the rule that the composite has for this layer with weights."""
        self.known.asked.append(self.layer)
        first = set(self.carriers) <= self.known.first
        return self.known.composite.rule(self.layer, kind, first)

    def refuse(self, why: str = "") -> LayerWithoutRule:
        """Return the error that names this layer, its type and the reason."""
        known = reason(self.kind)
        why, mend = known or why, OTHER_METHODS if known else ADD_ONE
        error = LayerWithoutRule(
            f"no relevance rule for {self.layer!r} ({self.kind}){': ' * bool(why)}{why}; {mend}"
        )
        error.tokens = bool(known)
        return error


Built = tuple[Rule, tuple[fx.Node, ...]]
Builder = Callable[[Call], Built]


def full_name(module: nn.Module) -> str:
    """Return a module's class with its package."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def module_builder(module: nn.Module) -> Builder | None:
    """Return the builder of a module's rule, or None where it has none.

    A subclass that overrides ``forward`` computes something else and does not inherit the rule.
    """
    declared = getattr(module, "lrp_rule", None)
    if isinstance(declared, str) and declared in DECLARED_RULES:
        return DECLARED_RULES[declared]
    if full_name(module) in SAME_PADDED:
        return _convolution
    for kind in type(module).__mro__:
        if kind in MODULE_RULES:
            same = type(module).forward is kind.forward  # type: ignore[attr-defined]
            return MODULE_RULES[kind] if same else None
    return None


def module_of(traced: fx.GraphModule, node: Any) -> Any:
    """Return the module that a node calls, None where it calls none."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return traced.get_submodule(str(node.target))
    return None


def _tuple(value: int | Sequence[int], length: int) -> tuple[int, ...]:
    return (value,) * length if isinstance(value, int) else tuple(value)


def _weighted(call: Call, convolution: Convolution) -> Built:
    """Fold in what is to be folded in and choose the rule of a convolution."""
    known, node = call.known, call.node
    if node in known.pads:
        convolution = replace(convolution, pad=known.pads[node])
    if node in known.scales:
        convolution = convolution.folded(*known.scales[node])
    if node in known.before:
        convolution = convolution.behind(*known.before[node])
    if known.composite.spread:
        convolution = replace(convolution, spread=True)
    parents = call.single()
    rule = call.weights_rule("convolution")
    boxed = rule == "beta0" and parents[0] in known.ranges and known.boxing(convolution)
    if rule == "box" or boxed:
        if parents[0] not in known.ranges or not convolution.boxable:
            raise call.refuse("the box rule needs a 2-D convolution that reads the pixels")
        return Box(convolution, *known.ranges[parents[0]]), parents
    if rule == "beta0":
        return ZPlus(convolution, call.nonneg), parents
    return known.composite.build(rule, convolution, call.nonneg), parents


def _convolution(call: Call) -> Built:
    m: Any = call.module
    pad: Any = None
    padding = m.padding
    if isinstance(m, Conv2dDynamicSamePadding) or full_name(m) in SAME_PADDED:
        pad = same_padding(m.kernel_size, tuple(m.stride), m.dilation)
    elif isinstance(m, Conv2dStaticSamePadding):
        pad = getattr(m.static_padding, "padding", None)
    elif m.padding_mode != "zeros" or isinstance(m.padding, str):
        pad, padding = m._reversed_padding_repeated_twice, (0,) * len(m.kernel_size)
    transposed = isinstance(m, TRANSPOSED)
    return _weighted(
        call,
        Convolution(
            m.weight.detach(),
            None if m.bias is None else m.bias.detach(),
            tuple(m.stride),
            tuple(padding),
            tuple(m.dilation),
            m.groups,
            transposed,
            tuple(m.output_padding) if transposed else (),
            pad,
            "constant" if m.padding_mode == "zeros" else m.padding_mode,
        ),
    )


def same_padding(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Callable[[Sequence[int]], list[int]]:
    """Return TensorFlow's "same" padding as a function from (h, w) to [left, right, top, bottom].

    The output has ceil(size / stride) positions; an odd amount has its extra one at the end.
    """

    def amounts(size: Sequence[int]) -> list[int]:
        pads: list[int] = []
        for length, k, step, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((math.ceil(length / step) - 1) * step + (k - 1) * d + 1 - length, 0)
            pads = [total // 2, total - total // 2, *pads]
        return pads

    return amounts


def _functional_convolution(call: Call) -> Built:
    weight = call.argument("weight", 1, None)
    dims = weight.dim() - 2
    padding, pad = call.argument("padding", 4, 0), None
    dilation = _tuple(call.argument("dilation", 5, 1), dims)
    if padding == "same":
        total = [step * (k - 1) for step, k in zip(dilation, weight.shape[2:], strict=True)]
        pad = [end for one in reversed(total) for end in (one // 2, one - one // 2)]
    if isinstance(padding, str):
        padding = 0
    bias = call.argument("bias", 2, None)
    return _weighted(
        call,
        Convolution(
            weight.detach(),
            None if bias is None else bias.detach(),
            _tuple(call.argument("stride", 3, 1), dims),
            _tuple(padding, dims),
            dilation,
            call.argument("groups", 6, 1),
            pad=pad,
        ),
    )


def linear(call: Call) -> Built:
    layer: Any = call.module
    if layer is not None:
        weight, bias = layer.weight, layer.bias
    else:
        weight, bias = call.argument("weight", 1, None), call.argument("bias", 2, None)
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    known, dtype = call.known, weight.dtype
    if call.node in known.scales:
        scale, shift = known.scales[call.node]
        bias = shift if bias is None else shift + scale * bias.double()
        weight = weight.double() * scale[:, None]
    if call.node in known.before:
        scale, shift = known.before[call.node]
        moved = weight.double() @ shift
        bias = moved if bias is None else moved + bias.double()
        weight = weight.double() * scale
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    rule = call.weights_rule("linear")
    if rule == "box":
        raise call.refuse("the box rule needs a 2-D convolution that reads the pixels")
    if rule == "beta0":
        return EpsilonLinear(weight, bias), call.single()
    return known.composite.build(rule, Linear(weight, bias), call.nonneg), call.single()


def scaled(x: Tensor) -> Tensor:
    """Stand in the graph for an affine map, whose numbers are in :attr:`Known.affine`."""
    raise NotImplementedError


def _scaled(call: Call) -> Built:
    """A positive scale, or normalisation of the pixels, changes the units alone: it passes."""
    affine, (source,) = call.known.affine[call.node], call.single()
    rising = bool((affine.scale >= 0).all() and (affine.shift >= 0).all())
    scales = call.known.sharing is not None and not affine.shift.any()  # as LayerScale does
    if affine.positive or source in call.known.ranges or scales:
        return Pass(affine, "keep" if rising else "any"), (source,)
    call.known.report.unfolded.append(affine.layer)
    rule = call.weights_rule("convolution")
    if rule not in ("beta0", "box"):
        return call.known.composite.build(rule, ChannelMap(affine), call.nonneg), (source,)
    return Diagonal(affine, "keep" if rising else "any"), (source,)


def _pass(
    sign: str = "any",
    function: Callable[..., Tensor] | None = None,
    overwrite: Callable[..., Tensor] | None = None,
    squashing: bool = False,
) -> Builder:
    return lambda call: (Pass(function or call.run, sign, overwrite, squashing), call.single())


def _epsilon_map(sign: str) -> Builder:
    return lambda call: (EpsilonMap(call.run, sign), call.single())


def _transport(sign: str) -> Builder:
    return lambda call: (Transport(call.run, sign), call.single())


def _reshape(call: Call) -> Built:
    return Reshape(call.run), call.single()


def _cast(call: Call) -> Built:
    """``x.to(y)``: of y only the dtype is read."""
    return Reshape(call.run), call.carriers[:1]


def _concatenation(call: Call) -> Built:
    tensors: Any = call.node.args[0]
    if list(tensors) != list(call.carriers):
        raise call.refuse("it joins constants with what depends on the pixels")
    return Concatenation(), call.carriers


def _stack(call: Call) -> Built:
    tensors: Any = call.node.args[0]
    if list(tensors) != list(call.carriers):
        raise call.refuse("it joins constants with what depends on the pixels")
    return Stack(), call.carriers


def part(x: Tensor, index: int, how: str, *args: Any, **kwargs: Any) -> Tensor:
    """Return one of the tensors that ``torch.<how>`` makes of x."""
    return getattr(torch, how)(x, *args, **kwargs)[index]


def _like(call: Call) -> Built:
    """``x.expand_as(y)``: of y only the shape is read."""
    x = call.node.args[0]
    if not isinstance(x, fx.Node) or x not in call.known.carrying:
        raise call.refuse("only the shape of its result depends on the pixels")
    return Transport(call.run, "keep"), (x,)


def _clamp(call: Call) -> Built:
    least = call.argument("min", 1, None)
    return Pass(call.run, "nonneg" if least is not None and least >= 0 else "any"), call.single()


def _sum(sign: int) -> Builder:
    def build(call: Call) -> Built:
        if not set(call.node.kwargs) <= {"alpha"}:
            raise call.refuse(f"arguments {sorted(call.node.kwargs)}")
        if len(call.carriers) == 2:
            return EpsilonSum(sign * call.argument("alpha", 2, 1)), call.carriers
        return Pass(call.run), call.single()  # of a number that depends on the image's size

    return build


def _product(call: Call) -> Built:
    """x · what depends on the size alone passes; of two tensors, a sigmoid's is the gate."""
    if len(call.carriers) == 1:
        return Pass(call.run), call.carriers
    gates = [node for node in call.carriers if is_gate(call.known, node)]
    if len(gates) != 1 or len(call.carriers) != 2:
        raise call.refuse("a product of two tensors of which not exactly one is a sigmoid gate")
    call.known.report.gates.append(call.layer)
    content = tuple(node for node in call.carriers if node is not gates[0])
    return Gate(call.run, "keep"), content


def is_gate(known: Known, node: fx.Node) -> bool:
    """Return whether a node is the output of a sigmoid, up to reshaping."""
    if node not in known.rules:
        return False
    rule, parents = known.rules[node]
    if isinstance(rule, (Reshape, Transport)):
        return is_gate(known, parents[0])
    return bool(getattr(rule, "squashing", False))


def _quotient(call: Call) -> Built:
    if call.node.args[0] not in call.known.carrying or len(call.carriers) != 1:
        raise call.refuse("it divides by what depends on the pixels")
    return Pass(call.run, "keep"), call.carriers  # by what depends on the size alone


RELU = _pass("nonneg", torch.relu, torch.relu_)
NONNEG, ANY, SQUASHING = _pass("nonneg"), _pass(), _pass("nonneg", squashing=True)

DECLARED_RULES: dict[str, Builder] = {
    "linear": _epsilon_map("any"), "pass": ANY, "gradient": _transport("any"),
}  # fmt: skip

MODULE_RULES: dict[type, Builder] = {
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED), _convolution),
    Conv2dDynamicSamePadding: _convolution,
    Conv2dStaticSamePadding: _convolution,
    nn.Linear: linear,
    **dict.fromkeys((*BATCHNORMS, *INACTIVE_MODULES), ANY),  # taken out before rules are chosen
    nn.ReLU: RELU,
    **dict.fromkeys((nn.ReLU6, nn.Softplus), NONNEG),
    **dict.fromkeys((nn.Sigmoid, nn.Hardsigmoid, nn.Softmax), SQUASHING),
    **dict.fromkeys(
        (
            nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
            nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.LogSoftmax, nn.LogSigmoid, MemoryEfficientSwish,
        ),
        ANY,
    ),
    **dict.fromkeys(AVERAGE_POOLS, _epsilon_map("keep")),
    nn.Upsample: _epsilon_map("any"),
    **dict.fromkeys(
        (
            *MAX_POOLS, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.PixelShuffle,
            nn.PixelUnshuffle, nn.ChannelShuffle,
        ),
        _transport("keep"),
    ),
    **dict.fromkeys((nn.Flatten, nn.Unflatten), _reshape),
}  # fmt: skip

FUNCTION_RULES: dict[Any, Builder] = {
    **dict.fromkeys(FUNCTIONAL_CONVOLUTIONS, _functional_convolution),
    F.linear: linear,
    scaled: _scaled,
    F.batch_norm: ANY,
    **dict.fromkeys((F.relu, torch.relu, "relu"), RELU),
    **dict.fromkeys((F.relu6, F.softplus), NONNEG),
    **dict.fromkeys(
        (
            torch.sigmoid, F.sigmoid, "sigmoid", F.hardsigmoid, F.softmax,
            torch.softmax, "softmax",
        ),
        SQUASHING,
    ),
    **dict.fromkeys(
        (
            F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh,
            torch.tanh, F.tanh, "tanh", F.log_softmax, F.logsigmoid,
        ),
        ANY,
    ),
    **dict.fromkeys(AVERAGES, _epsilon_map("keep")),
    F.interpolate: _epsilon_map("any"),
    **dict.fromkeys(
        (*MAXIMA, torch.permute, "permute", torch.transpose, "transpose", torch.movedim,
         "movedim", torch.flip, "flip", torch.roll, "roll", torch.narrow, "narrow", torch.select,
         "select", operator.getitem, "expand", "repeat", F.pixel_shuffle, part),
        _transport("keep"),
    ),
    "expand_as": _like,
    **dict.fromkeys(CLAMPS, _clamp),
    F.pad: _transport("any"),
    **dict.fromkeys(
        (torch.flatten, "flatten", torch.reshape, "reshape", torch.squeeze, "squeeze",
         torch.unsqueeze, "unsqueeze", "contiguous", "clone", torch.clone, "detach"),
        _reshape,
    ),
    **dict.fromkeys(("to", "float", "double", "type", "type_as"), _cast),
    "view": lambda call: (Reshape(torch.Tensor.reshape), call.single()),  # fits every layout
    **dict.fromkeys(CONCATENATIONS, _concatenation),
    torch.stack: _stack,
    **dict.fromkeys(SUMS, _sum(1)),
    **dict.fromkeys(DIFFERENCES, _sum(-1)),
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(QUOTIENTS, _quotient),
}  # fmt: skip
