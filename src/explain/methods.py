"""The registry of explanation methods: what each needs, how its map is read, whose it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..detectors.detector import Detector
from ..errors import UserError
from ..lrp import LRP, CanonisationError
from ..lrp.refused import OTHER_METHODS
from .attribution import (
    Attribute,
    Attribution,
    deeplift,
    gradient_shap,
    input_x_gradient,
    integrated_gradients,
    kernel_shap,
    occlusion,
    saliency,
    smoothgrad,
)
from .cam import GradCAM, GuidedGradCAM
from .cam_family import AblationCAM, EigenCAM, FullGrad, ScoreCAM, family
from .guided import Gradient, GuidedBackprop, shared_copy
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
        self.explained = explained
        with _others_named(explained):
            self.lrp = LRP(explained, composite=composite)
        self.outputs = 0

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the pixels' relevance of each image: relevance (N, 3, H, W)."""
        start = None
        if target is not None and not isinstance(target, str):
            if not self.outputs:
                with _others_named(self.explained):
                    one = self.lrp(batch[:1], pixels=False, layers=())
                self.outputs = one.logits.shape[1]
            targets, _ = chosen(batch.new_zeros(len(batch), self.outputs), target)
            start = batch.new_zeros(len(batch), self.outputs).scatter_(1, targets[:, None], 1.0)
        with _others_named(self.explained):
            found = self.lrp(batch, start, layers=())
        assert found.pixels is not None
        targets, signs = chosen(found.logits, target)
        values = found.pixels
        if isinstance(target, str):
            decided, _ = found.logits.max(dim=1)
            agrees = torch.where(decided < 0, -signs, signs)
            values = values * agrees[:, None, None, None]
        return RawExplanation(found.logits, targets, signs, values)


Make = Callable[[Detector | nn.Module, str | None], Explainer]
READINGS = {
    "sum": "summed over the colours",
    "absolute": "absolute values, summed over the colours",
    "largest": "the largest absolute value of the colours",
    "map": "as it is",
}


@dataclass(frozen=True)
class Method:
    """An explanation method.

    make: from a detector or network and a layer; needs: of 'gradient', 'layer', 'baseline',
    'passes' (many of them) and 'rules'; reading: of ``READINGS``, how (3, H, W) becomes one number
    a pixel; library: whose code it is; source: the paper.
    """

    make: Make
    needs: tuple[str, ...]
    reading: str
    library: str
    source: str

    @property
    def small(self) -> bool:
        """Whether it sees a large image smaller, see :func:`.attribution.shrink`."""
        return "passes" in self.needs or "baseline" in self.needs


def _plain(kind: Callable[[nn.Module], Explainer]) -> Make:
    return lambda explained, layer: kind(_network(explained))


def _layered(kind: Callable[[nn.Module, str | None], Explainer]) -> Make:
    return lambda explained, layer: kind(_network(explained), layer)


def _captum(attribute: Attribute, **options: bool) -> Make:
    return lambda explained, layer: Attribution(_network(explained), attribute, **options)


_GRADIENT, _LAYER = ("gradient",), ("layer", "gradient")
METHODS: dict[str, Method] = {
    "lrp": Method(
        lambda explained, layer: RelevancePropagation(explained), ("rules",), "sum", "forensift",
        "Bach et al. 2015, β = 0",
    ),
    "gradcam": Method(_layered(GradCAM), _LAYER, "map", "forensift", "Selvaraju et al. 2017"),
    "guided-gradcam": Method(
        _layered(GuidedGradCAM), _LAYER, "sum", "forensift", "Selvaraju et al. 2017"
    ),
    "guided-backprop": Method(
        _plain(GuidedBackprop), _GRADIENT, "sum", "forensift", "Springenberg et al. 2015"
    ),
    "gradient": Method(
        _plain(Gradient), _GRADIENT, "absolute", "forensift", "Baehrens et al. 2010"
    ),
    "saliency": Method(
        _captum(saliency, alone=False), _GRADIENT, "largest", "captum", "Simonyan et al. 2014"
    ),
    "input-x-gradient": Method(
        _captum(input_x_gradient, alone=False), _GRADIENT, "sum", "captum",
        "Shrikumar et al. 2016",
    ),
    "integrated-gradients": Method(
        _captum(integrated_gradients, small=True), ("gradient", "baseline", "passes"), "sum",
        "captum", "Sundararajan et al. 2017",
    ),
    "smoothgrad": Method(
        _captum(smoothgrad, small=True), ("gradient", "passes"), "absolute",
        "captum", "Smilkov et al. 2017"
    ),
    "gradient-shap": Method(
        _captum(gradient_shap, small=True), ("gradient", "baseline", "passes"), "sum",
        "captum", "Lundberg & Lee 2017",
    ),
    "deeplift": Method(
        _captum(deeplift, alone=False, separate=True, small=True), ("rules", "baseline"), "sum",
        "captum", "Shrikumar et al. 2017, rescale",
    ),
    "occlusion": Method(
        _captum(occlusion, small=True), ("baseline", "passes"), "map",
        "captum", "Zeiler & Fergus 2014"
    ),
    "kernel-shap": Method(
        _captum(kernel_shap, small=True), ("baseline", "passes"), "map",
        "captum", "Lundberg & Lee 2017"
    ),
    "gradcam++": Method(
        _layered(family("GradCAMPlusPlus")), _LAYER, "map", "grad-cam", "Chattopadhay et al. 2018"
    ),
    "xgradcam": Method(_layered(family("XGradCAM")), _LAYER, "map", "grad-cam", "Fu et al. 2020"),
    "hirescam": Method(
        _layered(family("HiResCAM")), _LAYER, "map", "grad-cam", "Draelos & Carin 2020"
    ),
    "layercam": Method(
        _layered(family("LayerCAM")), _LAYER, "map", "grad-cam", "Jiang et al. 2021"
    ),
    "eigencam": Method(
        _layered(family("EigenCAM", EigenCAM)), ("layer",), "map", "grad-cam",
        "Muhammad & Yeasin 2020",
    ),
    "ablationcam": Method(
        _layered(family("AblationCAM", AblationCAM)), ("layer", "passes"), "map", "grad-cam",
        "Desai & Ramaswamy 2020, 512 channels",
    ),
    "scorecam": Method(
        _layered(family("ScoreCAM", ScoreCAM)), ("layer", "passes"), "map", "grad-cam",
        "Wang et al. 2020, 64 channels",
    ),
    "fullgrad": Method(
        _plain(FullGrad), _GRADIENT, "map", "grad-cam", "Srinivas & Fleuret 2019, signed"
    ),
}  # fmt: skip


def _network(explained: Detector | nn.Module) -> nn.Module:
    return explained.network if isinstance(explained, Detector) else explained


def named_methods(names: str | Sequence[str]) -> list[str]:
    """Return methods by their names, each once; 'all' is all of them.

    Raises:
        UserError: there is no method of a name.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    found = [own for name in given for own in (METHODS if name == "all" else [name])]
    for name in found:
        if name not in METHODS:
            raise UserError(
                f"no explanation method {name!r}; there are {', '.join(METHODS)}, or all"
            )
    return list(dict.fromkeys(found))


def pixel_map(relevance: np.ndarray, method: str) -> np.ndarray:
    """Return one number a pixel, (…, H, W), of relevance (…, 3, H, W): see ``READINGS``.

    A plain gradient says how much a pixel matters and not which way, hence its absolute value.
    Relevance that is a map already is returned as it is.
    """
    reading = METHODS[method].reading
    if reading == "map":
        return relevance
    if reading == "largest":
        return np.abs(relevance).max(axis=-3)
    return (np.abs(relevance) if reading == "absolute" else relevance).sum(axis=-3)


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
    named_methods([method])
    if method == "lrp":
        return RelevancePropagation(explained, composite)
    return METHODS[method].make(explained, layer)


def shared(detector: Detector) -> Callable[[str], Detector]:
    """Return what to give :func:`explainer` for a method's name: one copy of a network for many.

    Those that rewrite the network (LRP, DeepLift) get the detector itself and copy it.
    """
    try:
        other = replace(detector, network=shared_copy(detector.network))
    except UserError:
        return lambda name: detector  # each method says what it cannot do
    return lambda name: detector if "rules" in METHODS[name].needs else other


@contextmanager
def _others_named(explained: Detector | nn.Module) -> Iterator[None]:
    """Name the methods that work on a network where LRP refuses it, when made or at a batch."""
    try:
        yield
    except CanonisationError as error:
        if not (others := _others(explained)):
            raise
        why = str(error).removesuffix(f"; {OTHER_METHODS}")
        raise UserError(f"{why}; methods that work on it: {', '.join(others)}") from None


def _others(explained: Detector | nn.Module) -> list[str]:
    """Return the methods beside LRP that can be made ready for a network."""
    found = []
    for name, method in METHODS.items():
        if name == "lrp":
            continue
        try:
            method.make(explained, None)
        except UserError:
            continue
        found.append(name)
    return found
