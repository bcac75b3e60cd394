"""Where in a network a feature map is replaced: what a site's constant is at the convolution.

BatchNorm and an activation work on each number by itself, so a map that is constant behind them is
constant before them too: every site is reached by putting the right constant at the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..detectors.building import copied
from ..errors import UserError

Site = Literal["conv", "bn", "activation"]
SITES: tuple[Site, ...] = get_args(Site)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "relu_": torch.relu, "silu": nn.functional.silu,
    "silu_": nn.functional.silu, "gelu": nn.functional.gelu, "hardswish": nn.functional.hardswish,
    "leaky_relu": nn.functional.leaky_relu,
}  # fmt: skip
_MODULES: dict[str, Callable[[Tensor], Tensor]] = {
    "ReLU": torch.relu, "SiLU": nn.functional.silu, "GELU": nn.functional.gelu,
    "Hardswish": nn.functional.hardswish, "LeakyReLU": nn.functional.leaky_relu,
    "MemoryEfficientSwish": nn.functional.silu, "Swish": nn.functional.silu,
    "SiLU_": nn.functional.silu,
}  # fmt: skip
STEPS, REACH = 80, 1e4  # halvings, and how far from 0, of the search for what an activation gives


@dataclass(frozen=True, eq=False)
class Chain:
    """What a convolution's output goes through by itself: y = scale · x + shift, then activation.

    scale, shift: float64 (width,); activation: None where there is none of its own (a residual sum
    comes first).
    """

    scale: Tensor
    shift: Tensor
    activation: Callable[[Tensor], Tensor] | None = None

    def behind(self, output: Tensor, site: Site) -> Tensor:
        """Return what the convolution's output (N, C, h, w) is at the site."""
        if site == "conv":
            return output
        at = (1, -1, 1, 1)
        whole = output * self.scale.to(output).reshape(at) + self.shift.to(output).reshape(at)
        return self.activation(whole) if site == "activation" and self.activation else whole

    def before(self, wanted: Tensor, site: Site, otherwise: Tensor) -> Tensor:
        """Return the constants (width,) of the convolution that give ``wanted`` at the site.

        otherwise: for a map that BatchNorm makes constant whatever comes in.
        """
        if site == "conv":
            return wanted
        target = wanted.double()
        if site == "activation" and self.activation is not None:
            target = _inverse(self.activation, target)
        flat = self.scale.abs() < 1e-12
        found = (target - self.shift) / torch.where(flat, 1.0, self.scale)
        return torch.where(flat, otherwise.double(), found)


def _inverse(activation: Callable[[Tensor], Tensor], wanted: Tensor) -> Tensor:
    """Return x on the rising branch with activation(x) = wanted, or the lowest point if above it.

    What is 0 behind a rectifier is 0 before it.
    """
    wanted = wanted.double()
    grid = torch.linspace(-5, 0, 20001, dtype=torch.float64)
    values = activation(grid)
    lowest = grid[len(grid) - 1 - int(values.flip(0).argmin())]
    low, high = lowest.expand_as(wanted).clone(), torch.full_like(wanted, REACH)
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = activation(middle) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(wanted == 0, 0.0, torch.where(wanted <= activation(lowest), lowest, high))


def chains(network: nn.Module, layers: Iterable[str], image: Tensor) -> dict[str, Chain]:
    """Return what follows the convolutions that have a BatchNorm of their own.

    image: (1, 3, H, W), normalised, that is sent through a copy to see which module takes what.
    A convolution whose output goes anywhere else as well has no chain: its sites are all one.
    """
    twin = copied(network, type(network).__name__)
    modules = dict(twin.named_modules())
    chosen = [layer for layer in layers if isinstance(modules.get(layer), nn.Conv2d)]
    watch = _Watch()
    names = {module: name for name, module in modules.items()}
    for layer in chosen:
        module = modules[layer]
        module.register_forward_hook(lambda one, args, out: watch.made(("conv", names[one]), out))
    for module in modules.values():
        if isinstance(module, nn.BatchNorm2d) or type(module).__name__ in _MODULES:
            module.register_forward_pre_hook(watch.enter)
            module.register_forward_hook(watch.leave)
    with torch.no_grad(), watch:
        twin(image)
    found: dict[str, Chain] = {}
    for layer in chosen:
        uses = watch.uses.get(("conv", layer), [])
        if len(uses) != 1 or not isinstance(uses[0], nn.BatchNorm2d):
            continue
        scale, shift = _affine(uses[0])
        after = watch.uses.get(("bn", layer), [])
        own = after[0] if len(after) == 1 else None
        activation = own if not isinstance(own, nn.Module) else _MODULES.get(type(own).__name__)
        found[layer] = Chain(scale, shift, activation)
    return found


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise UserError("a BatchNorm without running statistics makes no map by itself")
    weight = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight
    bias = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias
    scale = weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, bias.detach().double() - norm.running_mean.double() * scale


class _Watch(TorchFunctionMode):
    """Notes what takes the output of each convolution, and of the BatchNorm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, tuple[str, str]] = {}  # id of a tensor → what it is
        self.kept: list[Tensor] = []  # alive, so that no id comes twice
        self.uses: dict[tuple[str, str], list[Any]] = {}
        self.inside = 0

    def made(self, what: tuple[str, str], tensor: Tensor) -> None:
        if what in self.uses:  # called twice: nobody's alone
            self.uses[what].append(None)
        self.uses.setdefault(what, [])
        self.of[id(tensor)] = what
        self.kept.append(tensor)

    def enter(self, module: nn.Module, args: Any) -> None:
        what = self.of.get(id(args[0]))
        if what is not None and not self.inside:
            self.uses[what].append(module)
        self.inside += 1

    def leave(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.inside -= 1
        if output is args[0]:  # in place: from here on it is another map
            self.of.pop(id(output), None)
            return
        what = self.of.get(id(args[0]))
        if what is not None and what[0] == "conv" and isinstance(module, nn.BatchNorm2d):
            self.made(("bn", what[1]), output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        name = getattr(func, "__name__", "")
        if not self.inside and name not in ("__get__", "dim", "size"):
            for one in [*args, *named.values()]:
                what = self.of.get(id(one))
                if what is not None:
                    self.uses[what].append(_ACTIVATIONS.get(name))
        self.inside += 1
        try:
            found = func(*args, **named)
        finally:
            self.inside -= 1
        if not self.inside and args and found is args[0] and not name.startswith("__"):
            self.of.pop(id(found), None)  # in place: from here on it is another map
        return found
