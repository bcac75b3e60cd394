"""Relevance rules of networks that work on signed tokens: transformers and their convolutional kin.

Attention is linear in its values once the weights are given, a normalisation once its statistics
are, a gated product once its gate is; rules hold these constant ("conservative propagation", CP)
or share with them (AttnLRP, Achtibat et al. 2024). Sums of numbers of both signs are shared in one
of two ways (:class:`Sharing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .rules import EPSILON, Rule, Saved, pullback, safe_division, stable_division
from .weighted import Epsilon, Linear


@dataclass(frozen=True)
class Sharing:
    """How z = Σ terms of both signs hands relevance to its terms.

    magnitude: in proportion to |term|, Σ|term| below: conserves, and no share exceeds what came,
    where terms cancel too; else to the terms themselves with ε (Bach et al. 2015), which is input ×
    gradient as ε → 0, and grows where they cancel. epsilon: of the latter.
    """

    magnitude: bool = True
    epsilon: float = EPSILON

    def term(self, x: Tensor) -> Tensor:
        """Return what a term counts in z."""
        return x.abs() if self.magnitude else x

    def division(self, relevance: Tensor, z: Tensor) -> Tensor:
        """Return R ⊘ z of a fresh z, which may be written over."""
        if self.magnitude:
            return safe_division(relevance, z)
        return stable_division(relevance, z, self.epsilon)

    @property
    def name(self) -> str:
        """Name of the rule for a report."""
        return "magnitude" if self.magnitude else "epsilon"


class SharedSum(Rule):
    """z = a + factor · b; each, also a constant, gets its share: the constant's is an account."""

    fresh = True

    def __init__(self, sharing: Sharing, factor: float = 1) -> None:
        self.sharing, self.factor = sharing, factor
        self.name = sharing.name
        self.sign = "keep" if factor >= 0 else "any"

    def forward(self, a: Any, b: Any, **_: Any) -> tuple[Tensor, Saved]:
        return torch.add(a, b, alpha=self.factor), (a, b)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        a, b = (torch.as_tensor(one).to(relevance) for one in saved)
        term = self.sharing.term
        first, second = term(a), term(b * self.factor if self.factor != 1 else b)
        s = self.sharing.division(relevance, first + second)
        return (s * first).sum_to_size(a.shape), (s * second).sum_to_size(b.shape)


class SharedMap(Rule):
    """A linear map f ≥ 0 without weights, as a mean: R_in = t ⊙ fᵀ(R ⊘ f(t)), t a term's count."""

    def __init__(self, sharing: Sharing, function: Callable[..., Tensor]) -> None:
        self.sharing, self.function = sharing, function
        self.name, self.sign = sharing.name, "keep"

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        return self.function(x, *args, **kwargs), (x, args, kwargs)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        x, args, kwargs = saved
        terms = self.sharing.term(x)
        s = self.sharing.division(relevance, self.function(terms, *args, **kwargs))
        share = pullback(lambda leaf: self.function(leaf, *args, **kwargs), terms, s)
        return (share * terms,)


class TokenLinear(Rule):
    """A linear layer of vectors: on tokens (N, …, C) z⁺ as a 1×1 convolution, on (N, C) ε.

    z = W⁺x⁺ + W⁻x⁻, s = R ⊘ z, R_in = x⁺ ⊙ W⁺ᵀs + x⁻ ⊙ W⁻ᵀs, the bias ignored. The denominators
    are made on the way back, so that the tape holds x alone.
    """

    name = "z+"
    fresh = True

    def __init__(
        self, weight: Tensor, bias: Tensor | None, nonneg: bool, epsilon: float = EPSILON
    ) -> None:
        self.layer = Linear(weight, bias)
        self.vectors = Epsilon(self.layer, nonneg, epsilon)
        self.parts = [weight.clamp(min=0)] + ([] if nonneg else [weight.clamp(max=0)])

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        return self.vectors.forward(x) if x.dim() == 2 else (self.layer.output(x, x), x)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        if isinstance(saved, tuple):
            return self.vectors.backward(saved, relevance)
        x = saved
        inputs = [x.clamp(min=0), x.clamp(max=0)] if len(self.parts) == 2 else [x]
        z = F.linear(inputs[0], self.parts[0])
        for part, weight in zip(inputs[1:], self.parts[1:], strict=True):
            z += F.linear(part, weight)
        s = safe_division(relevance, z)
        share = (s @ self.parts[0]).mul_(inputs[0])
        for part, weight in zip(inputs[1:], self.parts[1:], strict=True):
            share.addcmul_(s @ weight, part)
        return (share,)

    def bias(self, saved: Saved, relevance: Tensor) -> float:
        return self.vectors.bias(saved, relevance) if isinstance(saved, tuple) else 0.0


class Normalised(Rule):
    """A normalisation by statistics of the tensor itself: LayerNorm, GroupNorm, RMSNorm and kin.

    With shares by magnitude relevance passes unchanged; with ε it goes through
    y = g · (x − μ) / σ + b with σ held constant, which is linear in x: R_in = x ⊙ Jᵀ(R ⊘ y).
    """

    fresh = True

    def __init__(self, sharing: Sharing, function: Callable[..., Tensor], held: Any) -> None:
        """held(x, *args): the same with σ held constant, differentiable in x."""
        self.sharing, self.function, self.held = sharing, function, held
        self.name = "pass" if sharing.magnitude else "epsilon"

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Saved]:
        y = self.function(x, *args, **kwargs)
        return y, None if self.sharing.magnitude else (x, y, args, kwargs)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        if saved is None:
            return (relevance,)
        x, y, args, kwargs = saved
        s = self.sharing.division(relevance, y)
        return (pullback(lambda leaf: self.held(leaf, *args, **kwargs), x, s).mul_(x),)

    def bias(self, saved: Saved, relevance: Tensor) -> float:
        if saved is None:
            return 0.0
        x, y, args, kwargs = saved
        s = self.sharing.division(relevance, y)
        return float((s * self.held(torch.zeros_like(x), *args, **kwargs)).double().sum())


def held_layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """Return the layer normalisation of x with its standard deviation held constant."""
    dims = tuple(range(-len(shape), 0))
    scale = (x.detach().var(dims, unbiased=False, keepdim=True) + eps).rsqrt()
    y = (x - x.mean(dims, keepdim=True)) * scale
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def held_rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Return the root-mean-square normalisation of x with its denominator held constant."""
    dims = tuple(range(-len(shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = x * (x.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
    return y if weight is None else y * weight


def held_group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """Return the group normalisation of x with its standard deviations held constant."""
    parted = x.unflatten(1, (groups, -1))
    dims = tuple(range(2, parted.dim()))
    scale = (parted.detach().var(dims, unbiased=False, keepdim=True) + eps).rsqrt()
    y = ((parted - parted.mean(dims, keepdim=True)) * scale).flatten(1, 2)
    shape = (1, -1, *[1] * (x.dim() - 2))
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


class Attention(Rule):
    """O = A V with A = softmax(scale · Q Kᵀ + mask), as one operation or written out.

    CP: A is constant, R_V = t(V) ⊙ Aᵀ(R ⊘ A t(V)), t a term's count. AttnLRP divides by 2 O and
    goes on through the softmax: R_A = A ⊙ (s Vᵀ), R_S = S ⊙ (R_A − A ΣR_A), and half of that of
    S = scale · Q Kᵀ to each of Q and K. A is made anew on the way back: the tape holds Q, K, V.
    """

    fresh = True

    def __init__(self, sharing: Sharing, shared: bool = False) -> None:
        """shared: AttnLRP, which always shares with ε."""
        self.sharing = Sharing(False, sharing.epsilon) if shared else sharing
        self.shared, self.name = shared, "attention"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
        y = F.scaled_dot_product_attention(q, k, v, *args, **kwargs)
        return y, (q, k, v, args, kwargs)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        q, k, v, args, kwargs = saved
        scores, weights = attention_weights(q, k, *args, **kwargs)
        groups = weights.shape[-3] // v.shape[-3] if kwargs.get("enable_gqa") else 1
        values = v.repeat_interleave(groups, -3) if groups > 1 else v
        terms = self.sharing.term(values)
        z = weights @ terms
        s = self.sharing.division(relevance, 2 * z if self.shared else z)
        share = (weights.transpose(-2, -1) @ s).mul_(terms)
        if groups > 1:
            share = share.unflatten(-3, (-1, groups)).sum(-3)
        if not self.shared:
            return (share,)
        arriving = weights * (s @ values.transpose(-2, -1))
        inner = softmax_relevance(scores, weights, arriving, -1)
        s = self.sharing.division(inner, 2 * scores)
        scale = kwargs.get("scale") or 1 / math.sqrt(q.shape[-1])
        return q * (s @ k) * scale, k * (s.transpose(-2, -1) @ q) * scale, share


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the scores S and the weights A = softmax(S) of scaled dot-product attention."""
    if enable_gqa:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    scores = (q @ k.transpose(-2, -1)) * (scale or 1 / math.sqrt(q.shape[-1]))
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores, scores.softmax(-1)


def softmax_relevance(x: Tensor, a: Tensor, relevance: Tensor, dim: int) -> Tensor:
    """Return AttnLRP's R_x = x ⊙ (R − a ΣR) of a = softmax(x), 0 where x is −∞."""
    inner = relevance - a * relevance.sum(dim, keepdim=True)
    return torch.where(x.isinf(), 0.0, x) * inner


class Softmax(Rule):
    """A softmax that relevance passes (AttnLRP); its weights squash, so that it can be a gate."""

    name = "softmax"
    sign = "nonneg"
    squashing = True

    def forward(self, x: Tensor, dim: int = -1, *_: Any, **__: Any) -> tuple[Tensor, Saved]:
        a = x.softmax(dim)
        return a, (x, a, dim)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        x, a, dim = saved
        return (softmax_relevance(x, a, relevance, dim),)


class Mixed(Rule):
    """A product W V whose weights W are held constant: R_V = t(V) ⊙ |W|ᵀ-shares, as attention's.

    place: which of the two is V. W ≥ 0 where it is a softmax; elsewhere its sign counts too.
    """

    fresh = True

    def __init__(self, sharing: Sharing, place: int, squashed: bool) -> None:
        self.sharing, self.place, self.squashed = sharing, place, squashed
        self.name = "attention"

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Saved]:
        return torch.matmul(a, b), (a, b)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        term = self.sharing.term
        weights, values = saved[1 - self.place], term(saved[self.place])
        weights = weights if self.squashed else term(weights)
        if self.place:
            s = self.sharing.division(relevance, weights @ values)
            share = weights.transpose(-2, -1) @ s
        else:
            s = self.sharing.division(relevance, values @ weights)
            share = s @ weights.transpose(-2, -1)
        return (share.mul_(values).sum_to_size(saved[self.place].shape),)


class Halves(Rule):
    """A product of two tensors, half of the relevance to each (AttnLRP): R_a = a ⊙ (∂ᵀ R ⊘ 2z)."""

    name = "halves"
    fresh = True

    def __init__(self, sharing: Sharing, function: Callable[..., Tensor]) -> None:
        self.sharing, self.function = Sharing(False, sharing.epsilon), function

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Saved]:
        z = self.function(a, b)
        return z, (a, b, z)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        a, b, z = saved
        s = self.sharing.division(relevance, 2 * z)
        return (
            a * pullback(lambda leaf: self.function(leaf, b), a, s),
            b * pullback(lambda leaf: self.function(a, leaf), b, s),
        )
