"""Which rule each operation of an exported network gets, beside those of all networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .export import picked, sliced
from .operations import (
    AVERAGES,
    CONCATENATIONS,
    DIFFERENCES,
    PRODUCTS,
    QUOTIENTS,
    SUMS,
    Builder,
    Built,
    Call,
    Known,
    is_gate,
    linear,
)
from .report import LayerWithoutRule
from .rules import Concatenation, EpsilonLinear, Gate, Pass, Reshape, Rule, Saved, Transport
from .token_rules import (
    Attention,
    Halves,
    Mixed,
    Normalised,
    SharedMap,
    SharedSum,
    Sharing,
    Softmax,
    TokenLinear,
    held_group_norm,
    held_layer_norm,
    held_rms_norm,
)

ACTIVATIONS = frozenset({F.silu, F.gelu, torch.relu, torch.tanh, F.mish, F.hardswish})


class Refused(Rule):
    """An operation without a rule, which is an error where relevance reaches it."""

    name = "none"

    def __init__(self, function: Callable[..., Any], error: LayerWithoutRule) -> None:
        self.function, self.error = function, error

    def compute(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.function(*args, **kwargs)

    def backward(self, saved: Saved, relevance: Tensor) -> Sequence[Tensor]:
        raise self.error


def _sharing(call: Call) -> Sharing:
    assert call.known.sharing is not None
    return call.known.sharing


def _token_linear(call: Call) -> Built:
    rule, parents = linear(call)
    sharing = _sharing(call)
    if isinstance(rule, EpsilonLinear) and sharing.magnitude:
        rule = TokenLinear(rule.weight, rule.offset, call.nonneg, sharing.epsilon)
    return rule, parents


def _shared_sum(sign: int) -> Builder:
    def build(call: Call) -> Built:
        terms = call.node.args
        if not all(isinstance(one, fx.Node) for one in terms):
            return Pass(call.run), call.single()  # a number
        factor = sign * call.argument("alpha", 2, 1)
        return SharedSum(_sharing(call), factor), terms  # type: ignore[return-value]

    return build


def _mean(call: Call) -> Built:
    return SharedMap(_sharing(call), call.run), call.single()


def _joined(call: Call) -> Built:
    """A constant that is joined, as a class token, receives the relevance of its own part."""
    return Concatenation(), tuple(call.node.args[0])  # type: ignore[arg-type]


def _normalised(function: Callable[..., Tensor], held: Callable[..., Tensor]) -> Builder:
    return lambda call: (Normalised(_sharing(call), function, held), call.single())


def _attention(call: Call) -> Built:
    q, k, v = call.node.args[:3]
    shared = call.known.attention == "attnlrp"
    return Attention(_sharing(call), shared), (q, k, v) if shared else (v,)  # type: ignore


def _softmax(call: Call) -> Built:
    return Softmax(), call.single()


def _mixed(call: Call) -> Built:
    """A product of matrices: of attention weights and values, or of two tensors that both count."""
    terms: Any = call.node.args[:2]
    gates = [one for one in terms if one in call.known.carrying and is_gate(call.known, one)]
    if len(call.carriers) == 1:
        return Mixed(_sharing(call), terms.index(call.carriers[0]), False), call.carriers
    if len(gates) == 1 and call.known.attention == "cp":
        place = 1 - terms.index(gates[0])
        return Mixed(_sharing(call), place, True), (terms[place],)
    return Halves(_sharing(call), torch.matmul), call.carriers


def _product(call: Call) -> Built:
    """A gate is constant to relevance: a sigmoid's, and the activated branch of a gated MLP."""
    if len(call.carriers) == 1:
        return Pass(call.run), call.carriers
    known, terms = call.known, call.carriers
    gates = [one for one in terms if is_gate(known, one)]
    if not gates and known.attention == "cp":
        gates = [one for one in terms if _activated(known, one)]
    if len(terms) == 2 and len(gates) == 1:
        known.report.gates.append(call.layer)
        return Gate(call.run, "keep"), tuple(one for one in terms if one is not gates[0])
    if len(terms) != 2:
        raise call.refuse("a square")
    return Halves(_sharing(call), torch.mul), terms


def _activated(known: Known, node: fx.Node) -> bool:
    """Return whether a node is the output of an activation, up to reshaping."""
    rule, parents = known.rules.get(node, (None, ()))
    if isinstance(rule, (Reshape, Transport)):
        return _activated(known, parents[0])
    gated = isinstance(rule, Gate) and is_gate(known, next(
        one for one in node.all_input_nodes if one is not parents[0]
    ))  # fmt: skip  # SiLU written out
    return node.target in ACTIVATIONS or gated


def _quotient(call: Call) -> Built:
    """x / norm(x): the norm is constant to relevance, which is all x's."""
    first = call.node.args[0]
    if not isinstance(first, fx.Node) or first not in call.known.carrying:
        raise call.refuse("it divides a constant by what depends on the pixels")
    return Gate(call.run, "keep"), (first,)


def _transport(call: Call) -> Built:
    return Transport(call.run), call.carriers[:1]


TOKEN_RULES: dict[Any, Builder] = {
    F.linear: _token_linear,
    **dict.fromkeys(SUMS, _shared_sum(1)),
    **dict.fromkeys(DIFFERENCES, _shared_sum(-1)),
    **dict.fromkeys((*AVERAGES, torch.sum), _mean),
    **dict.fromkeys(CONCATENATIONS, _joined),
    F.layer_norm: _normalised(F.layer_norm, held_layer_norm),
    F.rms_norm: _normalised(F.rms_norm, held_rms_norm),
    F.group_norm: _normalised(F.group_norm, held_group_norm),
    F.scaled_dot_product_attention: _attention,
    torch.softmax: _softmax,
    **dict.fromkeys((torch.matmul, torch.bmm), _mixed),
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(QUOTIENTS, _quotient),
    **dict.fromkeys((sliced, picked), _transport),
}
