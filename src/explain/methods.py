"""The explanation methods by name, each made ready for a network by one call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..detectors.detector import Detector
from ..errors import UserError
from ..lrp import LRP, CanonisationError
from ..lrp.refused import OTHER_METHODS
from .cam import GradCAM, GuidedGradCAM
from .guided import Gradient, GuidedBackprop
from .target import RawExplanation, Target, chosen

Explainer = Callable[[Tensor, Target], RawExplanation]


class RelevancePropagation:
    """LRP (see :class:`forensift.lrp.LRP`) in the form of the other methods.

    R = +1 at the target whatever its sign: every rule divides by its own output, so positive
    relevance is evidence for the decision that the logit stands for. Where 'fake' or 'real' is
    asked for and the decision is the other one, relevance is negated: positive is then evidence
    for what was asked.
    """

    def __init__(self, explained: Detector | nn.Module, composite: str = "beta0") -> None:
        self.lrp = LRP(explained, composite=composite)
        self.outputs = 0

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the pixels' relevance of each image: relevance (N, 3, H, W)."""
        start = None
        if target is not None and not isinstance(target, str):
            if not self.outputs:
                self.outputs = self.lrp.plan.forward(batch[:1])[1][0].numel()
            targets, _ = chosen(batch.new_zeros(len(batch), self.outputs), target)
            start = batch.new_zeros(len(batch), self.outputs).scatter_(1, targets[:, None], 1.0)
        found = self.lrp(batch, start, layers=())
        assert found.pixels is not None
        targets, signs = chosen(found.logits, target)
        values = found.pixels
        if isinstance(target, str):
            decided, _ = found.logits.max(dim=1)
            agrees = torch.where(decided < 0, -signs, signs)
            values = values * agrees[:, None, None, None]
        return RawExplanation(found.logits, targets, signs, values)


METHODS: dict[str, Callable[[Detector | nn.Module, str | None], Explainer]] = {
    "lrp": lambda explained, layer: RelevancePropagation(explained),
    "gradcam": lambda explained, layer: GradCAM(_network(explained), layer),
    "guided-gradcam": lambda explained, layer: GuidedGradCAM(_network(explained), layer),
    "guided-backprop": lambda explained, layer: GuidedBackprop(_network(explained)),
    "gradient": lambda explained, layer: Gradient(_network(explained)),
}


def _network(explained: Detector | nn.Module) -> nn.Module:
    return explained.network if isinstance(explained, Detector) else explained


def pixel_map(relevance: np.ndarray, method: str) -> np.ndarray:
    """Return one number a pixel: the sum over colours, or of absolute values for the gradient.

    relevance: (…, 3, H, W), or (…, H, W) for Grad-CAM, which is returned as it is. A plain
    gradient says how much a pixel matters and not which way, hence its absolute value.
    """
    if method == "gradcam":
        return relevance
    return (np.abs(relevance) if method == "gradient" else relevance).sum(axis=-3)


def explainer(
    explained: Detector | nn.Module,
    method: str,
    layer: str | None = None,
    composite: str = "beta0",
) -> Explainer:
    """Return the method, made ready: call it with a batch and a target.

    explained: a detector; of a bare network LRP takes the pixels for normalised as ImageNet's.
    layer: for the Grad-CAM methods, see :class:`GradCAM`. composite: the rules of LRP.

    Raises:
        UserError: no such method, or a network that it cannot be used on.
    """
    if method not in METHODS:
        raise UserError(f"no explanation method {method!r}; there are {', '.join(METHODS)}")
    try:
        if method == "lrp":
            return RelevancePropagation(explained, composite)
        return METHODS[method](explained, layer)
    except CanonisationError as error:
        others = " and ".join(name for name in ("gradcam", "gradient") if _applies(explained, name))
        if not others:
            raise
        why = str(error).removesuffix(f"; {OTHER_METHODS}")
        raise UserError(f"{why}; methods that work on it: {others}") from None


def _applies(explained: Detector | nn.Module, method: str) -> bool:
    try:
        METHODS[method](explained, None)
    except UserError:
        return False
    return True
