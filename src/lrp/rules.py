"""Relevance rules, each written once for any architecture.

A rule knows how one operation computes its output (``forward``) and how the relevance that
arrives at that output is shared among its inputs (``backward``). Nothing here uses autograd
hooks: :mod:`forensift.lrp.plan` calls ``forward`` in the order of the graph, then ``backward`` in
the reverse order.

Two stabilisers keep the divisions finite, one for each family of rules:

- β = 0 (z⁺): every term of z is ≥ 0, so where z = 0 each term is 0 and no input can receive
  relevance, whatever is added to the denominator (the published code adds 1e-12). Dividing by
  infinity there says so directly and keeps 1e12 · R out of float32 sums.
- ε: z + 1e-6 · sign z, and 1e-6 where z = 0 (:func:`stabilise`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6

Saved = Any


def stabilise(z: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Return z + ε · sign z, with ε where z = 0, as a new tensor of z's shape."""
    return torch.copysign(z.new_tensor(epsilon), z).add_(z)


def stable_division(relevance: Tensor, z: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Return R ⊘ z with the ε stabiliser, as a new tensor."""
    stable = stabilise(z, epsilon)
    return torch.div(relevance, stable, out=stable)


def safe_division(relevance: Tensor, z: Tensor) -> Tensor:
    """Return R ⊘ z for z ≥ 0, and 0 where z = 0; written over z, which is no longer needed.

    Of a z so small that R ⊘ z, or a sum of these, is no number any more it is the largest that is
    safe.
    """
    F.threshold(z, 0.0, float("inf"), inplace=True)
    limit = 1e-4 * torch.finfo(z.dtype).max
    return torch.div(relevance, z, out=z).clamp_(-limit, limit)


def pullback(function: Callable[[Tensor], Tensor], x: Tensor, s: Tensor) -> Tensor:
    """Return fᵀ(s): the transposed Jacobian of ``function`` at x, applied to s."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf, s)[0]


class Rule:
    """How one operation computes its output and hands relevance back.

    ``forward`` gets the operation's own arguments; a rule that holds the layer's numbers needs
    only the first.

    sign: what is known of the output's sign: "any", "nonneg" (always ≥ 0) or "keep" (≥ 0 when
    every input is). fresh: the output is new memory that the tape does not keep, so an activation
    may overwrite it. overwrite: the operation's in-place form, where it has one.
    """

    name: str
    sign: str = "any"
    fresh: ClassVar[bool] = False
    overwrite: Callable[..., Tensor] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        """Return the operation's output and what ``backward`` needs; called without gradients."""
        raise NotImplementedError

    def compute(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the output alone, for operations that relevance does not reach."""
        return self.forward(*args, **kwargs)[0]

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        """Return the relevance of each parent, in order; never changes ``relevance``."""
        raise NotImplementedError

    def bias(self, saved: Saved, relevance: Tensor) -> float:
        """Return the relevance that the bias takes, a sum over the batch."""
        return 0.0


@dataclass(frozen=True)
class Convolution:
    """A convolution's numbers after its BatchNorm is folded in.

    weight: (C_out, C_in / groups, *kernel), transposed ones as torch stores them; bias: (C_out,)
    or None; pad: padding in the order of ``F.pad`` put on before the convolution, or a function
    from the input's spatial size to it (TF "same" padding is asymmetric and depends on the size);
    pad_mode: as in ``F.pad``; shares: the weight that z⁺ shares relevance by, see :meth:`lifted`,
    None where nothing was folded in; entry: the unscaled weight and the
    shift (C_in,) of an affine map before the convolution, whose scale ``weight`` has taken in.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    pad: Callable[[Sequence[int]], Sequence[int]] | Sequence[int] | None = None
    pad_mode: str = "constant"
    shares: Tensor | None = None
    entry: tuple[Tensor, Tensor] | None = None

    def at(self, x: Tensor) -> Convolution:
        """Return this convolution for inputs of x's size: zero padding inside where it can be."""
        if self.pad is None:
            return self
        amounts = list(self.pad(x.shape[2:]) if callable(self.pad) else self.pad)
        before, after = amounts[-2::-2], amounts[::-2]
        if before == after and (self.pad_mode == "constant" or not any(amounts)):
            padding = tuple(p + q for p, q in zip(self.padding, before, strict=True))
            return replace(self, padding=padding, pad=None)
        return replace(self, pad=amounts)

    def folded(self, scale: Tensor, shift: Tensor) -> Convolution:
        """Return the convolution followed by the map y ↦ scale · y + shift of each channel.

        scale, shift: (C_out,) float64; computed in float64 and rounded once.
        """
        weight = self._scaled(scale, output=True)
        bias = shift if self.bias is None else shift + scale * self.bias.double()
        dtype = self.weight.dtype
        return replace(
            self, weight=weight.to(dtype), bias=bias.to(dtype), shares=self.lifted(weight)
        )

    def behind(self, scale: Tensor, shift: Tensor) -> Convolution:
        """Return this convolution of scale · x + shift, both (C_in,) float64, as one of x.

        Padding comes after the shift, so that this is no bias but differs at the borders.
        """
        weight, dtype = self._scaled(scale, output=False), self.weight.dtype
        return replace(
            self, weight=weight.to(dtype), shares=self.lifted(weight),
            entry=(self.weight, shift.to(dtype)),
        )  # fmt: skip

    def _scaled(self, scale: Tensor, output: bool) -> Tensor:
        """Return the weight, float64, times a number for each output or input channel."""
        grouped = self.weight.double().unflatten(0, (self.groups, -1))
        shape = [self.groups, 1, 1, *[1] * (self.weight.dim() - 2)]
        shape[1 if output != self.transposed else 2] = -1
        return (grouped * scale.view(shape)).flatten(0, 1)

    def lifted(self, weight: Tensor) -> Tensor:
        """Return a weight, of float64 or rounded, with its very small output channels scaled up.

        z⁺ does not notice, and float32 holds few digits of a folded scale of 1e-40.
        """
        grouped = weight.unflatten(0, (self.groups, -1))
        apart = [1 if self.transposed else 2, *range(3, grouped.dim())]
        largest = grouped.abs().amax(dim=apart, keepdim=True)
        small = (largest > 0) & (largest < 1e-18)
        if small.any():
            weight = (grouped / torch.where(small, largest, 1.0)).flatten(0, 1)
        return weight.to(self.weight.dtype)

    def output(self, x: Tensor, entered: Tensor) -> Tensor:
        """Return the convolution of x, which has been entered."""
        if self.entry is None:
            return self(entered, self.weight, self.bias)
        return self(entered, self.weight).add_(self.shifted(x))

    def offset(self, x: Tensor) -> Tensor | None:
        """Return what the output has beside w ∗ x: (C_out, 1, …), or maps behind a shift."""
        if self.entry is not None:
            return self.shifted(x)
        return None if self.bias is None else self.bias.view(-1, *(1,) * (x.dim() - 2))

    def shifted(self, x: Tensor) -> Tensor:
        """Return what the shift of an affine map before the convolution adds, and the bias."""
        assert self.entry is not None
        weight, shift = self.entry
        shifts = shift.view(-1, *(1,) * (x.dim() - 2)).expand(1, *x.shape[1:])
        return self(self.enter(shifts), weight, self.bias)

    @property
    def pointwise(self) -> bool:
        """Whether this is a 1×1 convolution that a matrix product per position can do."""
        return (
            set(self.weight.shape[2:]) == {1}
            and self.groups == 1
            and not self.transposed
            and not any(self.padding)
        )

    @property
    def two_dimensional(self) -> bool:
        """Whether its outputs are maps of the image, not signals or volumes."""
        return self.weight.dim() == 4

    @property
    def boxable(self) -> bool:
        """Whether :class:`Box` is written for it."""
        return self.two_dimensional and not self.transposed

    @property
    def gathers(self) -> bool:
        """Whether this is a strided 1×1 convolution, which reads only some positions."""
        return self.pointwise and any(step > 1 for step in self.stride)

    def enter(self, x: Tensor) -> Tensor:
        """Return the padded input, or, for a strided 1×1 kernel, only the positions it reads."""
        if isinstance(self.pad, list):
            x = F.pad(x, self.pad, mode=self.pad_mode)
        if self.gathers:
            # oneDNN is twice as slow on strided 1×1 kernels as on the gathered positions
            steps = tuple(slice(None, None, step) for step in self.stride)
            x = x[(slice(None), slice(None), *steps)].contiguous(memory_format=layout(x))
        return x

    def leave(self, relevance: Tensor, shape: torch.Size) -> Tensor:
        """Undo :meth:`enter`: carry relevance back to the input of this shape."""
        if self.pad is None and not self.gathers:
            return relevance
        like = torch.empty(
            shape, dtype=relevance.dtype, device=relevance.device, memory_format=layout(relevance)
        )
        return pullback(self.enter, like, relevance)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the convolution of an entered x with ``weight``."""
        stride = (1,) * len(self.stride) if self.pointwise else self.stride
        if onednn(x) and not self.transposed:
            # F.conv2d avoids oneDNN for 1×1 kernels on one thread, at half its speed
            return torch.mkldnn_convolution(
                x, weight, bias, self.padding, stride, self.dilation, self.groups
            )
        return torch.ops.aten.convolution.default(
            x, weight, bias, stride, self.padding, self.dilation, self.transposed,
            self.output_padding or (0,) * len(stride), self.groups,
        )  # fmt: skip

    def part(self, weight: Tensor) -> Tensor:
        """Return a part of the weight in the memory layout that the device likes best."""
        return weight.contiguous(memory_format=torch.channels_last) if onednn(weight) else weight

    def transpose(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return wᵀs, shaped as the entered input x (of which only the shape is read)."""
        stride = (1,) * len(self.stride) if self.pointwise else self.stride
        if self.pointwise and onednn(s):
            # a 1×1 convolution's transpose is one too, of the transposed weight
            return torch.mkldnn_convolution(
                s, weight.transpose(0, 1).contiguous(), None, self.padding, stride, self.dilation, 1
            )
        return torch.ops.aten.convolution_backward.default(
            s, x, weight, None, stride, self.padding, self.dilation, self.transposed,
            self.output_padding or (0,) * len(stride), self.groups, [True, False, False],
        )[0]  # fmt: skip


def layout(x: Tensor) -> torch.memory_format:
    """Return channels_last where a 4-D x is laid out so, else the contiguous format."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def onednn(x: Tensor) -> bool:
    """Return whether oneDNN's 2-D convolution can be called directly for x."""
    fits = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4
    return fits and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


class ZPlus(Rule):
    """β = 0 for a convolution (Bach et al. 2015, α = 1; z⁺ of Montavon et al. 2017).

    z = w⁺ ∗ x⁺ + w⁻ ∗ x⁻, s = R ⊘ z, R_in = x⁺ · (w⁺ᵀ s) + x⁻ · (w⁻ᵀ s); the bias is ignored.
    Where x is known to be ≥ 0 the second terms vanish and are not computed.
    """

    name = "z+"
    fresh = True

    def __init__(self, convolution: Convolution, nonneg: bool) -> None:
        part = convolution.part
        self.convolution = replace(convolution, weight=part(convolution.weight))
        shares = convolution.shares
        if shares is None:
            shares = convolution.lifted(convolution.weight)
        parts = [part(shares.clamp(min=0))]
        if not nonneg:
            parts.append(part(shares.clamp(max=0)))
        self.parts = parts  # w⁺ and, where x may be negative, w⁻

    def compute(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        conv = self.convolution.at(x)
        return conv.output(x, conv.enter(x))

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        conv = self.convolution.at(x)
        entered = conv.enter(x)
        y = conv.output(x, entered)
        two = len(self.parts) == 2
        inputs = [entered.clamp(min=0), entered.clamp(max=0)] if two else [entered]
        z = conv(inputs[0], self.parts[0])
        for part, weight in zip(inputs[1:], self.parts[1:], strict=True):
            z += conv(part, weight)
        return y, (conv, x.shape, inputs, z)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        conv, shape, inputs, z = saved
        s = safe_division(relevance, z)
        shares = [conv.transpose(s, x, w) for x, w in zip(inputs, self.parts, strict=True)]
        share = shares[0].mul_(inputs[0])
        for other, x in zip(shares[1:], inputs[1:], strict=True):
            share.addcmul_(other, x)
        return (conv.leave(share, shape),)


class Box(Rule):
    """z^B for a first convolution whose input lies in [low, high] (Montavon et al. 2017).

    low, high: of all channels, or (1, C, 1, 1).

    z = w ∗ x − w⁺ ∗ l − w⁻ ∗ h, s = R ⊘ z, R_in = x · (wᵀs) − l · (w⁺ᵀs) − h · (w⁻ᵀs), the
    bias ignored. As w = w⁺ + w⁻, R_in = (x − l) · (w⁺ᵀs) + (x − h) · (w⁻ᵀs): one transposed
    convolution with both parts stacked.
    """

    name = "box"
    fresh = True

    def __init__(self, convolution: Convolution, low: Tensor, high: Tensor) -> None:
        self.convolution = convolution
        self.low, self.high = low.to(convolution.weight), high.to(convolution.weight)
        self.positive = convolution.weight.clamp(min=0)
        self.negative = convolution.weight.clamp(max=0)
        self.both = convolution.part(torch.cat([self.positive, self.negative], dim=1))

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        conv = self.convolution.at(x)
        entered = conv.enter(x)
        y = conv(entered, conv.weight)
        ones = conv.enter(torch.ones_like(x[:1]))
        corner = conv(ones * self.low, self.positive) + conv(ones * self.high, self.negative)
        z = y - corner
        if conv.bias is not None:
            y += conv.bias.view(1, -1, *(1,) * (y.dim() - 2))
        return y, (conv, x.shape, entered, z)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        conv, shape, entered, z = saved
        s = stable_division(relevance, z)
        shape_only = entered.repeat(1, 2, *(1,) * (entered.dim() - 2))
        plus, minus = conv.transpose(s, shape_only, self.both).chunk(2, dim=1)
        share = (entered - self.low) * plus + (entered - self.high) * minus
        return (conv.leave(share, shape),)


class EpsilonLinear(Rule):
    """ε for a fully connected layer (Bach et al. 2015): z includes the bias, which absorbs.

    R_in = x · (wᵀ (R ⊘ z)).
    """

    name = "epsilon"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.offset = weight, bias

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        z = F.linear(x, self.weight, self.offset)
        return z, (x, z)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        x, z = saved
        return (x * (stable_division(relevance, z) @ self.weight),)

    def bias(self, saved: Saved, relevance: Tensor) -> float:
        if self.offset is None:
            return 0.0
        return float((stable_division(relevance, saved[1]) * self.offset).double().sum())


class Diagonal(Rule):
    """An affine map z = s · x + b of each number on its own: a depthwise 1×1 convolution.

    On maps z⁺, as for any convolution: R_in = R where s · x > 0, else 0. On vectors (N, C) it is a
    linear layer with a diagonal weight, hence ε: R_in = s · x · (R ⊘ z).
    """

    name = "diagonal"
    fresh = True

    def __init__(self, affine: Any, sign: str) -> None:
        self.affine, self.sign = affine, sign

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        scale, _ = self.affine.at(x)
        if x.dim() == 2:
            return self.affine(x), (x.shape, x, None)
        return self.affine(x), (x.shape, None, x * scale.sign() > 0)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        shape, x, kept = saved
        if kept is not None:
            return ((relevance * kept).sum_to_size(shape),)
        scale, _ = self.affine.at(x)
        return ((scale * x * stable_division(relevance, self.affine(x))).sum_to_size(shape),)


class EpsilonMap(Rule):
    """ε for a linear map f without weights (average pooling, resizing, a linear pre-filter).

    R_in = x · fᵀ(R ⊘ f(x)).
    """

    name = "epsilon"

    def __init__(self, function: Callable[..., Tensor], sign: str = "any") -> None:
        self.function = function
        self.sign = sign

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        z = self.function(x, *args, **kwargs)
        return z, (x, z, args, kwargs)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        x, z, args, kwargs = saved
        s = stable_division(relevance, z)
        return (x * pullback(lambda leaf: self.function(leaf, *args, **kwargs), x, s),)


class EpsilonSum(Rule):
    """ε for a sum of two branches: R_a = a · R ⊘ (a + b), R_b = b · R ⊘ (a + b).

    factor is that of b, −1 for a difference a − b.
    """

    name = "epsilon"
    fresh = True

    def __init__(self, factor: float = 1) -> None:
        self.factor = factor
        self.sign = "keep" if factor >= 0 else "any"

    def forward(self, a: Tensor, b: Tensor, **_: Any) -> tuple[Tensor, Saved]:
        return torch.add(a, b, alpha=self.factor), (a, b)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        a, b = saved
        z = torch.add(a, b, alpha=self.factor)
        s = stable_division(relevance, z)
        share_b = torch.mul(s, b, out=z)  # z's memory is free again
        if self.factor != 1:
            share_b.mul_(self.factor)
        return s.mul_(a).sum_to_size(a.shape), share_b.sum_to_size(b.shape)


class Concatenation(Rule):
    """Each input of a concatenation receives the relevance of its own part."""

    name = "pass"
    sign = "keep"
    fresh = True

    def forward(self, tensors: Sequence[Tensor], dim: int = 0) -> tuple[Tensor, Saved]:
        return torch.cat(list(tensors), dim), ([t.shape[dim] for t in tensors], dim)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        widths, dim = saved
        return relevance.split(widths, dim)


class Stack(Rule):
    """Each input of a stack receives the relevance of its own layer of it."""

    name = "pass"
    sign = "keep"
    fresh = True

    def forward(self, tensors: Sequence[Tensor], dim: int = 0) -> tuple[Tensor, Saved]:
        return torch.stack(list(tensors), dim), dim

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        return relevance.unbind(saved)


class Reshape(Rule):
    """Flatten, view, casts and their kin: the same numbers in another shape or dtype."""

    name = "pass"
    sign = "keep"

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        return self.function(x, *args, **kwargs), (x.shape, x.dtype)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        shape, dtype = saved
        return (relevance.reshape(shape).to(dtype),)


class Transport(Rule):
    """Relevance goes where the ordinary gradient goes.

    For max-pooling that is the winner; for padding, slicing and permuting it is where each number
    came from.
    """

    name = "gradient"

    def __init__(self, function: Callable[..., Tensor], sign: str = "keep") -> None:
        self.function = function
        self.sign = sign

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        return self.function(x, *args, **kwargs), (x, args, kwargs)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        x, args, kwargs = saved
        return (pullback(lambda leaf: self.function(leaf, *args, **kwargs), x, relevance),)


class Pass(Rule):
    """Relevance passes unchanged: activations, positive scales, normalisation of the pixels.

    squashing: its values lie in [0, 1], so that it can be a gate.
    """

    name = "pass"
    fresh = True

    def __init__(
        self,
        function: Callable[..., Tensor],
        sign: str = "any",
        overwrite: Callable[..., Tensor] | None = None,
        squashing: bool = False,
    ) -> None:
        self.function = function
        self.sign = sign
        self.overwrite = overwrite
        self.squashing = squashing

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        return self.function(*args, **kwargs), None

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        return (relevance,)


class Gate(Pass):
    """A squeeze-excite gate g · x: all relevance to x, the gate is a constant."""

    name = "gate"
