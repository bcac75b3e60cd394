"""Which rule each layer with weights gets: composites by name, with overrides by layer.

``beta0`` is the published choice. The others mean what they mean in zennit 0.5.1; in all of them
average pools and sums have the ε rule, max-pools the gradient, and activations pass.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..errors import UserError
from .rules import EPSILON, Rule
from .weighted import AlphaBeta, Epsilon, Flat, Gamma, Layer, WSquare, ZPlusBias


@dataclass(frozen=True)
class Composite:
    """The rules of a network's layers, by their names in ``RULES``, ``"beta0"`` or ``"box"``.

    first: of the layers before which there are no weights; convolution, linear: of the others.
    overrides: pairs (pattern, rule) of layers' names with ``*``, ``?``, ``[…]``; the last that
    matches decides. epsilon: ε of the ε rule, gamma: γ of the γ rule; the quotients of the other
    rules, of sums and averages keep ε = 1e-6.
    """

    name: str
    first: str
    convolution: str
    linear: str
    text: str
    overrides: tuple[tuple[str, str], ...] = ()
    epsilon: float = EPSILON
    gamma: float = 0.25

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise UserError(f"epsilon {self.epsilon} of composite {self.name} is not > 0")
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise UserError(f"gamma {self.gamma} of composite {self.name} is not ≥ 0")
        for pattern, rule in self.overrides:
            if rule not in (*RULES, *PUBLISHED):
                names = ", ".join((*RULES, *PUBLISHED))
                raise UserError(f"no relevance rule {rule!r} (for layers {pattern!r}): {names}")

    def __str__(self) -> str:
        """Return the text that :func:`composite` reads."""
        values = [
            f"{key}={value:g}"
            for key, value, usual in (
                ("epsilon", self.epsilon, EPSILON), ("gamma", self.gamma, 0.25),
            )
            if value != usual
        ]  # fmt: skip
        return ",".join([self.name, *values, *(f"{a}={b}" for a, b in self.overrides)])

    @property
    def published(self) -> bool:
        """Whether this is ``beta0`` with nothing changed."""
        return str(self) == "beta0"

    def rule(self, layer: str, kind: str, first: bool = False) -> str:
        """Return the name of a layer's rule; kind: "convolution" or "linear"."""
        for pattern, rule in reversed(self.overrides):
            if fnmatch.fnmatchcase(layer, pattern):
                return rule
        if first and self.first == "box":  # no box rule of vectors
            return self.first if kind == "convolution" else self.linear
        usual: str = self.convolution if kind == "convolution" else self.linear
        return self.first if first and self.first != "beta0" else usual

    def build(self, rule: str, layer: Layer, nonneg: bool) -> Rule:
        """Return a rule of ``RULES`` for a layer."""
        return RULES[rule](self, layer, nonneg)

    def check(self, layers: Iterable[str]) -> None:
        """Refuse patterns that match none of the network's layers with weights.

        Raises:
            UserError: names the pattern and what there is.
        """
        known = list(layers)
        for pattern, rule in self.overrides:
            if not fnmatch.filter(known, pattern):
                raise UserError(
                    f"composite {self}: no layer is named {pattern!r} (for rule {rule}); this "
                    f"network has {', '.join(known[:4])}, … {known[-1] if known else ''}"
                )


PUBLISHED = ("beta0", "box")  # chosen in operations.py: the published z⁺ and ε, and z^B
RULES: dict[str, Callable[[Composite, Layer, bool], Rule]] = {
    "epsilon": lambda of, layer, nonneg: Epsilon(layer, nonneg, of.epsilon),
    "gamma": lambda of, layer, nonneg: Gamma(layer, nonneg, gamma=of.gamma),
    "alpha2-beta1": lambda of, layer, nonneg: AlphaBeta(layer, nonneg),
    "zplus": lambda of, layer, nonneg: ZPlusBias(layer, nonneg),
    "flat": lambda of, layer, nonneg: Flat(layer, nonneg),
    "w2": lambda of, layer, nonneg: WSquare(layer, nonneg),
}


def _composite(name: str, first: str, convolution: str, linear: str, text: str) -> Composite:
    return Composite(name, first, convolution, linear, text)


COMPOSITES: dict[str, Composite] = {
    one.name: one
    for one in (
        _composite("beta0", "beta0", "beta0", "beta0",
                   "the published rules: z⁺ without the bias, box at a ResNet's stem, ε"),
        _composite("epsilon", "epsilon", "epsilon", "epsilon", "ε in every layer"),
        _composite("gamma", "gamma", "gamma", "gamma", "γ in every layer"),
        _composite("alpha2-beta1", "alpha2-beta1", "alpha2-beta1", "epsilon",
                   "α = 2, β = 1 in convolutions, ε in linear layers"),
        _composite("epsilon-plus", "zplus", "zplus", "epsilon",
                   "z⁺ with the bias in convolutions, ε in linear layers"),
        _composite("epsilon-plus-flat", "flat", "zplus", "epsilon",
                   "epsilon-plus with flat shares in the first layer"),
        _composite("epsilon-gamma-box", "box", "gamma", "epsilon",
                   "z^B in the first convolution, γ in the others, ε in linear layers"),
        _composite("alpha2-beta1-flat", "flat", "alpha2-beta1", "epsilon",
                   "alpha2-beta1 with flat shares in the first layer"),
    )
}  # fmt: skip


def composite(given: str | Composite, overrides: Mapping[str, str] | None = None) -> Composite:
    """Return a composite by name.

    given: ``NAME``, or ``NAME,epsilon=0.01,gamma=0.1,PATTERN=RULE,…``; overrides: more of the
    latter, pattern → rule.

    Raises:
        UserError: an unknown name or rule, or a value out of range.
    """
    if isinstance(given, str):
        name, *parts = [part.strip() for part in given.split(",")]
        if name not in COMPOSITES:
            raise UserError(
                f"no composite {name!r} of LRP rules; there are {', '.join(COMPOSITES)}"
            )
        found, own = COMPOSITES[name], []
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals or not key or not value:
                raise UserError(f"{part!r} in composite {given!r} is not PATTERN=RULE")
            if key in ("epsilon", "gamma"):
                try:
                    number = float(value)
                except ValueError:
                    raise UserError(f"{key} of composite {given!r} is no number") from None
                found = replace(found, **{key: number})  # type: ignore[arg-type]
            else:
                own.append((key, value))
        given = replace(found, overrides=tuple(own))
    return replace(given, overrides=(*given.overrides, *(overrides or {}).items()))
