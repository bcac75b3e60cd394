"""A network rewritten so that every non-linearity is a module of its own, as DeepLift needs it."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import UserError
from ..lrp.copies import private_copy, traceable
from .guided import plain_swish

RECTIFIERS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
LINEAR = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Identity,
    nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.Upsample, nn.ZeroPad2d,
    nn.PixelShuffle, nn.PixelUnshuffle,
)  # fmt: skip
# Functions and methods by name that are linear in what they are given.
LINEAR_NAMES = frozenset({
    "add", "iadd", "sub", "isub", "neg", "cat", "concat", "stack", "flatten", "view", "reshape",
    "permute", "transpose", "squeeze", "unsqueeze", "getitem", "getattr", "mean", "sum", "chunk",
    "split", "contiguous", "clone", "size", "shape", "interpolate", "pad", "avg_pool2d",
    "adaptive_avg_pool2d", "adaptive_avg_pool1d", "dropout", "movedim", "unflatten", "expand",
    "linear", "conv2d", "float", "to", "narrow", "select", "flip", "roll", "pixel_unshuffle",
})  # fmt: skip
PRODUCTS = frozenset({"mul", "imul", "truediv", "div", "floordiv", "itruediv"})
FUNCTIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU, "relu_": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "softplus": nn.Softplus,
}  # fmt: skip


class PairedMax(nn.Module):
    """Max-pooling as a chain of max(a, b) = a + relu(b − a), each ReLU of its own.

    captum's own rule for pools keeps one of several windows that share their largest pixel.
    """

    def __init__(self, size: Any, stride: Any, padding: Any, ceil_mode: bool = False) -> None:
        super().__init__()
        self.size, self.stride, self.padding = _pair(size), _pair(stride or size), _pair(padding)
        self.ceil_mode = ceil_mode
        self.gates = nn.ModuleList(nn.ReLU() for _ in range(self.size[0] * self.size[1] - 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor | None = None
        sides = [_sides(x.shape[2 + at], self, at) for at in (0, 1)]
        (top, bottom, rows), (left, right, columns) = sides
        # No pixel of the image is below this, so that the margin is never the largest.
        low = float(x.detach().amin()) if x.numel() else 0.0
        padded = F.pad(x, (left, right, top, bottom), value=low)
        for place in range(self.size[0] * self.size[1]):
            down, across = divmod(place, self.size[1])
            one = padded[:, :, down :: self.stride[0], across :: self.stride[1]]
            one = one[:, :, :rows, :columns]
            found = one if found is None else found + self.gates[place - 1](one - found)
        assert found is not None
        return found


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _sides(length: int, pool: PairedMax, at: int) -> tuple[int, int, int]:
    """Return the margins before and after a side, and how many windows it has."""
    size, stride, margin = pool.size[at], pool.stride[at], pool.padding[at]
    room = length + 2 * margin - size
    count = (-(-room // stride) if pool.ceil_mode else room // stride) + 1
    if pool.ceil_mode and (count - 1) * stride >= length + margin:
        count -= 1  # the last window must begin inside
    return margin, max(margin, (count - 1) * stride + size - length - margin), count


class _Tracer(fx.Tracer):
    """A tracer that looks into no layer that is linear, whatever it computes of sizes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LINEAR) or super().is_leaf_module(m, module_qualified_name)


def separated(network: nn.Module) -> nn.Module:
    """Return a private copy whose non-linearities are modules, each called once, none in place.

    Raises:
        UserError: torch.fx cannot trace the network, or it holds an operation for which DeepLift's
            rescale rule does not hold (a product of two activations, SiLU, softmax, a norm).
    """
    twin = traceable(plain_swish(private_copy(network)))
    try:
        tracer = _Tracer()
        graph = tracer.trace(twin)
    except Exception as error:
        raise UserError(
            f"DeepLift needs a network that torch.fx can trace; {type(network).__name__} cannot "
            f"be: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    modules = dict(traced.named_modules())
    follows: set[fx.Node] = set()  # nodes that depend on the pixels
    for node in list(traced.graph.nodes):
        if node.op == "placeholder":
            follows.add(node)
            continue
        inputs = [one for one in node.all_input_nodes if one in follows]
        if not inputs:
            continue
        if node.op != "output" and not _is_size(node):
            follows.add(node)
        if node.op == "call_module":
            made = _module(modules[str(node.target)], str(node.target))
        elif node.op in ("call_function", "call_method"):
            made = _function(node, len(inputs))
        else:
            continue
        if made is not None:
            name = f"separate_{len(traced._modules)}"
            traced.add_module(name, made)
            node.op, node.target = "call_module", name
            node.args, node.kwargs = node.args[:1], {}
    traced.graph.lint()
    traced.recompile()
    return traced.eval()


def _is_size(node: fx.Node) -> bool:
    name = _name(node)
    return name in ("size", "shape", "dim", "numel") or (
        name == "getattr" and node.args[1] in ("shape", "device")
    )


def _name(node: fx.Node) -> str:
    target = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _module(module: nn.Module, name: str) -> nn.Module | None:
    """Return what takes a module's place, None where it may stay."""
    if isinstance(module, RECTIFIERS):
        own = copy.deepcopy(module)
        if hasattr(own, "inplace"):
            own.inplace = False  # type: ignore[assignment]
        return own
    if isinstance(module, nn.MaxPool2d):
        return _pool(module.kernel_size, module.stride, module.padding, module.dilation,
                     module.ceil_mode)  # fmt: skip
    if isinstance(module, LINEAR):
        return None
    raise _refusal(f"{type(module).__name__} ({name})")


def _pool(
    size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> nn.Module:
    if _pair(dilation) != (1, 1):
        raise _refusal("a dilated max-pooling")
    return PairedMax(size, stride, padding, ceil_mode)


def _function(node: fx.Node, inputs: int) -> nn.Module | None:
    name = _name(node)
    if node.target in (operator.floordiv,) or _is_size(node):
        return None
    if name in FUNCTIONS:
        known = {
            key: value for key, value in node.kwargs.items() if key not in ("inplace", "input")
        }
        return FUNCTIONS[name](*node.args[1:2], **known) if name[0] in "le" else FUNCTIONS[name]()
    if name in ("max_pool2d", "boolean_dispatch"):
        given = {k: v for k, v in node.kwargs.items() if k != "return_indices"}
        names = ("size", "stride", "padding", "dilation", "ceil_mode")
        given = {{"kernel_size": "size"}.get(k, k): v for k, v in given.items()}
        return _pool(**dict(zip(names, node.args[1:], strict=False)), **given)  # type: ignore[arg-type]
    if name in PRODUCTS:
        if inputs > 1:
            raise _refusal("a product of two activations")
        if name in ("truediv", "div", "itruediv") and node.args[0] not in node.all_input_nodes:
            raise _refusal("a division by an activation")
        return None
    if name in LINEAR_NAMES:
        return None
    raise _refusal(name)


def _refusal(what: str) -> UserError:
    return UserError(f"DeepLift: its rescale rule is not made for {what}")
