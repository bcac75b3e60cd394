"""Relevance rules of layers with weights, for every composite but the published ``beta0``.

Each is written once for convolutions, linear layers (of vectors and tokens) and affine maps of
channels. Of a layer y = w ∗ x + b the terms w·x are split by sign, with their part of the bias:

p = w⁺ ∗ x⁺ + w⁻ ∗ x⁻ + b⁺ ≥ 0 and n = w⁻ ∗ x⁺ + w⁺ ∗ x⁻ + b⁻ ≤ 0, so that y = p + n.

Every quotient is R ⊘ (z + ε · sign z). The definitions are zennit's (0.5.1), which agrees to 1e-9.
Denominators are made on the way back, so that the tape holds x, and y where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor

from .rules import EPSILON, Convolution, Rule, Saved, stable_division


class Layer(Protocol):
    """What a rule needs of a layer; :class:`.rules.Convolution` says what each does."""

    @property
    def weight(self) -> Tensor: ...

    def at(self, x: Tensor) -> Layer: ...

    def enter(self, x: Tensor) -> Tensor: ...

    def leave(self, relevance: Tensor, shape: Any) -> Tensor: ...

    def output(self, x: Tensor, entered: Tensor) -> Tensor: ...

    def offset(self, x: Tensor) -> Tensor | None: ...

    def part(self, weight: Tensor) -> Tensor: ...

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor: ...

    def transpose(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor: ...


class _Plain:
    """A layer that neither pads nor gathers."""

    def at(self, x: Tensor) -> Any:
        return self

    def enter(self, x: Tensor) -> Tensor:
        return x

    def part(self, weight: Tensor) -> Tensor:
        return weight


@dataclass(frozen=True)
class Linear(_Plain):
    """A linear layer of vectors (N, C) or tokens (N, …, C): weight (C_out, C), bias (C_out,)."""

    weight: Tensor
    bias: Tensor | None

    def leave(self, relevance: Tensor, shape: Any) -> Tensor:
        return relevance

    def output(self, x: Tensor, entered: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def offset(self, x: Tensor) -> Tensor | None:
        return self.bias

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def transpose(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return s @ weight


@dataclass(frozen=True)
class ChannelMap(_Plain):
    """An affine map of channels that no layer beside it took in: a depthwise 1×1 convolution."""

    affine: Any

    @property
    def weight(self) -> Tensor:
        return self.affine.scale  # type: ignore[no-any-return]

    def leave(self, relevance: Tensor, shape: Any) -> Tensor:
        return relevance.sum_to_size(shape)

    def output(self, x: Tensor, entered: Tensor) -> Tensor:
        return self.affine(x)  # type: ignore[no-any-return]

    def offset(self, x: Tensor) -> Tensor | None:
        return self.affine.at(x)[1]  # type: ignore[no-any-return]

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * replace(self.affine, scale=weight).at(x)[0]

    def transpose(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return self(s, weight)


class Weighted(Rule):
    """A rule of a layer with weights.

    nonneg: the input is known to be ≥ 0, so that x⁻ vanishes. epsilon: of every quotient.
    """

    fresh = True

    def __init__(self, layer: Layer, nonneg: bool, epsilon: float = EPSILON) -> None:
        if isinstance(layer, Convolution):
            layer = replace(layer, weight=layer.part(layer.weight))
            self.convolution = layer
        self.layer, self.nonneg, self.epsilon = layer, nonneg, epsilon

    def compute(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        layer = self.layer.at(x)
        return layer.output(x, layer.enter(x))

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        layer = self.layer.at(x)
        entered = layer.enter(x)
        y = layer.output(x, entered)
        return y, (layer, x, entered, None if self.fresh else y)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        layer, x, entered, y = saved
        return (layer.leave(self.share(layer, x, entered, y, relevance), x.shape),)

    def share(self, layer: Layer, x: Tensor, entered: Tensor, y: Any, r: Tensor) -> Tensor:
        """Return the relevance of the entered input; y is None where ``fresh``."""
        raise NotImplementedError

    def bias(self, saved: Saved, relevance: Tensor) -> float:
        layer, x, entered, y = saved
        offset = layer.offset(x)
        return 0.0 if offset is None else self.taken(layer, entered, y, relevance, offset)

    def taken(self, layer: Layer, entered: Tensor, y: Any, r: Tensor, offset: Tensor) -> float:
        """Return the relevance that the bias takes, a sum over the batch."""
        return 0.0

    def divided(self, r: Tensor, z: Tensor) -> Tensor:
        """Return R ⊘ (z + ε · sign z)."""
        return stable_division(r, z, self.epsilon)


class Epsilon(Weighted):
    """ε (Bach et al. 2015): R_in = x · wᵀ (R ⊘ y); the bias is in y and absorbs."""

    name = "epsilon"
    fresh = False

    def share(self, layer: Layer, x: Tensor, entered: Tensor, y: Any, r: Tensor) -> Tensor:
        return layer.transpose(self.divided(r, y), entered, layer.weight) * entered

    def taken(self, layer: Layer, entered: Tensor, y: Any, r: Tensor, offset: Tensor) -> float:
        return _total(self.divided(r, y), offset)


class _Split(Weighted):
    """A rule that tells terms of y that are ≥ 0 from those that are ≤ 0."""

    def __init__(self, layer: Layer, nonneg: bool, epsilon: float = EPSILON) -> None:
        super().__init__(layer, nonneg, epsilon)
        weight = self.layer.weight
        self.plus, self.minus = (
            layer.part(one) for one in (weight.clamp(min=0), weight.clamp(max=0))
        )

    def positive(self, layer: Layer, x: Tensor, entered: Tensor) -> Tensor:
        """Return p."""
        return self._terms(layer, x, entered, (self.plus, self.minus), False)

    def negative(self, layer: Layer, x: Tensor, entered: Tensor) -> Tensor:
        """Return n."""
        return self._terms(layer, x, entered, (self.minus, self.plus), True)

    def _terms(
        self, layer: Layer, x: Tensor, entered: Tensor, weights: Sequence[Tensor], below: bool
    ) -> Tensor:
        z = layer(entered if self.nonneg else entered.clamp(min=0), weights[0])
        if not self.nonneg:
            z += layer(entered.clamp(max=0), weights[1])
        offset = layer.offset(x)
        if offset is not None:
            z += offset.clamp(max=0) if below else offset.clamp(min=0)
        return z

    def back(self, layer: Layer, entered: Tensor, s: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return x⁺ · (uᵀ s) + x⁻ · (vᵀ s) of two weights u, v."""
        share = layer.transpose(s, entered, weights[0])
        if self.nonneg:
            return share * entered
        share = share * entered.clamp(min=0)
        return share.addcmul_(layer.transpose(s, entered, weights[1]), entered.clamp(max=0))


class ZPlusBias(_Split):
    """z⁺ with the bias: R_in = x⁺ · (w⁺ᵀ s) + x⁻ · (w⁻ᵀ s), s = R ⊘ p; b⁺ absorbs.

    The published z⁺ (:class:`.rules.ZPlus`) leaves the bias out.
    """

    name = "z+ with bias"

    def share(self, layer: Layer, x: Tensor, entered: Tensor, y: Any, r: Tensor) -> Tensor:
        s = self.divided(r, self.positive(layer, x, entered))
        return self.back(layer, entered, s, (self.plus, self.minus))


class AlphaBeta(_Split):
    """α·β (Bach et al. 2015): α of p's shares less β of n's, α − β = 1.

    R_in = α (x⁺ · w⁺ᵀs + x⁻ · w⁻ᵀs) − β (x⁺ · w⁻ᵀt + x⁻ · w⁺ᵀt), s = R ⊘ p, t = R ⊘ n.
    """

    name = "alpha2-beta1"
    alpha, beta = 2.0, 1.0

    def share(self, layer: Layer, x: Tensor, entered: Tensor, y: Any, r: Tensor) -> Tensor:
        s = self.divided(r, self.positive(layer, x, entered)).mul_(self.alpha)
        t = self.divided(r, self.negative(layer, x, entered)).mul_(-self.beta)
        share = self.back(layer, entered, s, (self.plus, self.minus))
        return share.add_(self.back(layer, entered, t, (self.minus, self.plus)))


class Gamma(_Split):
    """γ (Montavon et al. 2019; for inputs and outputs of both signs, Andéol et al. 2021).

    Terms of y's own sign count 1 + γ times: z = y + γ p where y > 0, y + γ n where y < 0, and
    R_in = Σ (their terms) ⊘ z · R; where y = 0 nothing passes.
    """

    name = "gamma"
    fresh = False

    def __init__(
        self, layer: Layer, nonneg: bool, epsilon: float = EPSILON, gamma: float = 0.25
    ) -> None:
        super().__init__(layer, nonneg, epsilon)
        self.gamma = gamma
        weight = self.layer.weight
        self.above = layer.part(weight + gamma * self.plus)
        self.below = layer.part(weight + gamma * self.minus)

    def share(self, layer: Layer, x: Tensor, entered: Tensor, y: Any, r: Tensor) -> Tensor:
        p = self.positive(layer, x, entered)
        z = (y - p).where(y < 0, p).mul_(self.gamma).add_(y)
        s = self.divided(r, z)
        share = self.back(layer, entered, s * (y > 0), (self.above, self.below))
        down = s * (y < 0)
        if not down.any():
            return share
        return share.add_(self.back(layer, entered, down, (self.below, self.above)))


class WSquare(Weighted):
    """w² (Montavon et al. 2017): R_in = (w²)ᵀ (R ⊘ w² ∗ 1), whatever x is; the bias is left out."""

    name = "w2"

    def __init__(self, layer: Layer, nonneg: bool, epsilon: float = EPSILON) -> None:
        super().__init__(layer, nonneg, epsilon)
        self.counts = layer.part(self.counted(self.layer.weight))

    def counted(self, weight: Tensor) -> Tensor:
        """Return what each weight counts."""
        return weight.square()

    def share(self, layer: Layer, x: Tensor, entered: Tensor, y: Any, r: Tensor) -> Tensor:
        z = layer(layer.enter(x.new_ones((1, *x.shape[1:]))), self.counts)
        s = self.divided(r, z.expand(r.shape))
        return layer.transpose(s, entered, self.counts)


class Flat(WSquare):
    """Flat (Lapuschkin et al. 2019): as w² with every weight 1: each input the same share."""

    name = "flat"

    def counted(self, weight: Tensor) -> Tensor:
        return weight.new_ones(weight.shape)


def _total(s: Tensor, offset: Tensor) -> float:
    return float((s * offset).double().sum())
