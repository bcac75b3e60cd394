"""Guided back-propagation for any rectifier, not for ``nn.ReLU`` alone.

The gates are found in the graph that autograd records, so modules, functions, in-place and reused
activations are all the same to them, and no hook is ever put on a module. Definition (Springenberg
et al. 2015, for activations other than ReLU by us): let y = f(x) be an activation and g = f′(x) ·
∂logit/∂y the gradient at its input, the activation's own derivative included. Guided
back-propagation replaces g by

    g where g > 0 and y > 0, and 0 elsewhere.

On a ReLU this is the usual rule; the negative parts of SiLU, LeakyReLU and their like are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from efficientnet_pytorch.utils import MemoryEfficientSwish, Swish
from torch import Tensor, nn

from ..detectors.precision import full_float32
from ..errors import UserError
from ..lrp.copies import private_copy
from .target import RawExplanation, Target, recorded
from .tokens import of_tokens

Node = Any  # a node of autograd's graph


def _same_sign(node: Node) -> Tensor:
    """Return where y > 0 for activations whose output has the sign of their input."""
    kept = node._saved_result if hasattr(node, "_saved_result") else node._saved_self
    return kept > 0


def _cut(node: Node) -> Tensor | None:
    """Return where a clamp's output is > 0, None where it does not cut at 0 (no rectifier)."""
    lowest = node._saved_min_val if hasattr(node, "_saved_min_val") else node._saved_min
    return node._saved_self > 0 if lowest is not None and float(lowest) == 0 else None


def _prelu(node: Node) -> Tensor:
    x, slope = node._saved_self, node._saved_weight
    return torch.where(x > 0, x, slope * x) > 0


GATES: dict[str, Callable[[Node], Tensor | None]] = {
    **dict.fromkeys(
        ("Relu", "Silu", "LeakyRelu", "RreluWithNoise", "Hardswish", "Elu", "Celu", "Gelu", "Mish"),
        _same_sign,
    ),
    "PreluKernel": _prelu,
    "Softplus": lambda node: torch.ones_like(node._saved_self, dtype=torch.bool),
    **dict.fromkeys(("Hardtanh", "Clamp", "ClampMin"), _cut),  # ReLU6 is a hardtanh of 0 … 6
}
_SHARED: WeakSet[nn.Module] = WeakSet()
UNCLEAR = ("Threshold", "Maximum", "Minimum", "Where")  # rectifiers may be written with these


class Gradient:
    """The plain gradient of the target output with respect to the normalised pixels.

    The network is copied, in evaluation mode, and never called or changed; later changes of its
    weights do not reach this object.

    Raises:
        UserError: the network has forward hooks, or parameters of mixed or half precision.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = evaluation_copy(network)

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the gradient of each image's target output: relevance (N, 3, H, W).

        batch: (N, 3, H, W), normalised; target: see :func:`chosen`.
        """
        with torch.enable_grad(), full_float32():
            pixels, run = recorded(self.network, batch, target)
            self._prepare(run.relevance)
            (gradient,) = torch.autograd.grad(run.relevance, pixels)
        return RawExplanation(run.logits, run.targets, run.signs, gradient)

    def _prepare(self, total: Tensor) -> None:
        """Change the graph before the backward pass; the plain gradient does not."""


class GuidedBackprop(Gradient):
    """Guided back-propagation, by the definition at the head of this module.

    Called as :class:`Gradient`; a call raises ``UserError`` where no activation was gated, or
    where one that cannot be judged would slip by; so does a network of tokens, whose residuals
    pass all activations by (:func:`refuse_tokens`).
    """

    def __init__(self, network: nn.Module) -> None:
        refuse_tokens(network, "guided back-propagation")
        super().__init__(network)

    def _prepare(self, total: Tensor) -> None:
        close_gates(total)


def refuse_tokens(network: nn.Module, method: str) -> None:
    """Refuse a network of tokens: nothing has maps but the embedding of its patches.

    Raises:
        UserError: all convolutions cut the image into patches (stride = kernel), and what follows
            normalises or attends tokens.
    """
    if of_tokens(network):
        convolutions = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
        raise UserError(
            f"{method}: the only convolution is the embedding of patches, "
            f"{convolutions[0]!r}, and what follows has no maps: a heat map would mean nothing; "
            "use method gradient"
        )


def evaluation_copy(network: nn.Module) -> nn.Module:
    """Return a private copy in evaluation mode, with efficientnet-pytorch's Swish as nn.SiLU.

    Its memory-efficient form is an autograd function of its own that shows no activation.
    """
    if network in _SHARED:
        return network
    return plain_swish(private_copy(network))


def shared_copy(network: nn.Module) -> nn.Module:
    """Return an evaluation copy that several methods may use in turn: they copy it no more."""
    twin = evaluation_copy(network)
    _SHARED.add(twin)
    return twin


def plain_swish(twin: nn.Module) -> nn.Module:
    """Put nn.SiLU in the place of efficientnet-pytorch's Swish, in a private copy."""
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (MemoryEfficientSwish, Swish)):
                setattr(parent, name, nn.SiLU())
    return twin


def close_gates(output: Tensor) -> int:
    """Let only gradients that are positive, at activations that are, flow back from ``output``.

    Acts on the graph that led to ``output``, which lives for one backward pass. Returns the number
    of activations gated.

    Raises:
        UserError: none was found, so that the result would be the plain gradient; or an activation
            is written in a way that cannot be told from other arithmetic.
    """
    found = 0
    for node in _nodes(output):
        kind = node.name().rstrip("0123456789").removesuffix("Backward")
        if kind in GATES:
            positive = GATES[kind](node)
            if positive is not None:
                node.register_hook(_gate(positive))
                found += 1
        elif kind in UNCLEAR or isinstance(node, torch.autograd.function.BackwardCFunction):
            raise UserError(
                f"guided back-propagation: {node.name()} may be an activation and would not be "
                "gated; write it with a module of torch.nn (ReLU, LeakyReLU, SiLU …)"
            )
        elif kind == "Mul" and _is_swish(node):
            raise UserError(
                "guided back-propagation: x · sigmoid(x) in full would not be gated; use nn.SiLU"
            )
    if not found:
        raise UserError(
            "guided back-propagation: the network has no activation to gate, so the result would "
            f"be the plain gradient; known are {', '.join(GATES)}"
        )
    return found


def _gate(positive: Tensor) -> Callable[..., tuple[Tensor | None, ...]]:
    def hook(at_input: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...]:
        gradient, *rest = at_input
        if gradient is None:
            return at_input
        return gradient.clamp(min=0) * positive, *rest

    return hook


def _nodes(output: Tensor) -> list[Node]:
    """Return every node of the graph behind ``output``."""
    waiting: list[Node] = [output.grad_fn]
    seen: dict[Node, None] = {}
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen[node] = None
        waiting += [parent for parent, _ in node.next_functions]
    return list(seen)


def _is_swish(node: Node) -> bool:
    """Return whether a product is that of a tensor and its own sigmoid."""
    factors = node.next_functions
    return any(
        one is not None
        and one.name().startswith("SigmoidBackward")
        and one.next_functions[0] == other
        for (one, _), other in (factors, factors[::-1])
    )
