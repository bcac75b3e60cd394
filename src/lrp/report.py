"""What canonisation did, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from ..errors import UserError


class CanonisationError(UserError):
    """The network cannot be brought into the form that LRP needs; the message says why."""


class Untraceable(CanonisationError):
    """torch.fx cannot trace the network."""


class LayerWithoutRule(CanonisationError):
    """A layer or function has no relevance rule; the message names it and its type.

    tokens: whether it is one of those that :mod:`forensift.lrp.token_operations` has a rule for.
    """

    tokens = False


@dataclass
class Report:
    """What canonisation did, for people to check.

    merged: pairs (convolution or linear layer, BatchNorm or other affine map of channels folded
    into it); unfolded: those that no layer beside them took (each a layer of its own); gates:
    products whose gate is a constant to relevance; constant_convolutions: convolutions that
    relevance never reaches (the branches of gates); rules: one row an operation, columns layer,
    operation, rule, input_nonneg (known to be ≥ 0); difference: largest difference of the logits
    from the original's, relative to their largest magnitude (None until the first batch);
    ill_conditioned: the logits agree in float64 only, as this network amplifies float32 rounding;
    growth: of the largest |R| a block of the last batch, None where there are no blocks.
    """

    merged: list[tuple[str, str]] = field(default_factory=list)
    unfolded: list[str] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    constant_convolutions: list[str] = field(default_factory=list)
    rules: pd.DataFrame = field(default_factory=pd.DataFrame)
    difference: float | None = None
    ill_conditioned: bool = False
    growth: float | None = None

    def __str__(self) -> str:
        counts = self.rules["rule"].value_counts().to_dict()
        checked = "not yet checked" if self.difference is None else f"{self.difference:.1e}"
        return (
            f"{len(self.merged)} BatchNorms folded, {len(self.unfolded)} on their own, "
            f"{len(self.gates)} gates constant; rules: "
            + ", ".join(f"{rule} ×{count}" for rule, count in counts.items())
            + f"; relative difference of the logits: {checked}"
            + (" (amplified float32 rounding; float64 agrees)" if self.ill_conditioned else "")
        )
