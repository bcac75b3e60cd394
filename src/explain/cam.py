"""Grad-CAM and Guided Grad-CAM (Selvaraju et al. 2017) for whole batches."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..detectors.precision import full_float32
from ..errors import UserError
from .guided import close_gates, evaluation_copy, refuse_tokens
from .target import RawExplanation, Target, recorded
from .tokens import Grid, last_norm, of_tokens, outputs_of

UPSAMPLING = ("bilinear", "nearest")


class GradCAM:
    """Grad-CAM: the layer's maps, weighted by the spatial mean of their gradients, and summed.

    layer: module whose output (N, C, h, w) is used, by default :func:`default_layer`, or where
        that comes behind a pooling the last convolution before it; several with commas between,
        whose maps of one size are taken as those of one layer. Outputs (N, h, w, C) and tokens
        (N, T, C), without class and register tokens, are read as maps too; of a network of tokens
        the default is :func:`forensift.explain.tokens.last_norm`.
    upsampling: to the image's size: 'bilinear' as published, or 'nearest' (captum's default).

    The network is copied, in evaluation mode, and never called or changed; later changes of its
    weights do not reach this object.

    Raises:
        UserError: no such layer; or a network that cannot be copied (see ``GuidedBackprop``).
    """

    name = "Grad-CAM"

    def __init__(
        self, network: nn.Module, layer: str | None = None, *, upsampling: str = "bilinear"
    ) -> None:
        if upsampling not in UPSAMPLING:
            raise UserError(f"upsampling {upsampling!r}: choose {' or '.join(UPSAMPLING)}")
        self.network = evaluation_copy(network)
        self.tokens = of_tokens(network)
        self.settled = layer is not None
        self.layer = layer or ("" if self.tokens else default_layer(network))
        self.upsampling = upsampling
        known = dict(self.network.named_modules())
        for one in self.layers:
            if one not in known or not one:
                raise UserError(f"the network has no layer {one!r}")

    @property
    def layers(self) -> list[str]:
        """The names of the layers looked at."""
        return self.layer.split(",") if self.layer else []

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the signed map of each image at its size: relevance (N, H, W).

        The published maps keep only what is positive; that is left to whoever draws them.
        batch: (N, 3, H, W), normalised; target: see :func:`chosen`.
        """
        self._settle(batch)
        with torch.enable_grad(), full_float32(), self._outputs() as kept:
            _, run = recorded(self.network, batch, target)
            maps, gradients = self._maps(run.relevance, kept, batch)
        cam = self._combined(maps, gradients, batch, run)
        return RawExplanation(run.logits, run.targets, run.signs, self._upsample(cam, batch))

    def _combined(
        self, maps: list[Tensor], gradients: list[Tensor], batch: Tensor, run: RawExplanation
    ) -> Tensor:
        """Return Σ_c mean_hw(∂total/∂A_c) · A_c, (N, h, w), over each layer's maps A."""
        cam = torch.zeros_like(maps[0][:, 0])
        for one, gradient in zip(maps, gradients, strict=True):
            cam += (gradient.mean(dim=(2, 3), keepdim=True) * one).sum(dim=1)
        return cam

    def _settle(self, batch: Tensor) -> None:
        """Find the default layer that needs a pass: of tokens, or where none has an extent."""
        if self.settled or not len(batch):
            return
        if self.tokens:
            self.layer = last_norm(self.network, batch[:1])
            self.settled = True
            return
        convolutions = dict.fromkeys([*_convolutions(self.network), *self.layers])
        looked = {one: self.network.get_submodule(one) for one in convolutions}
        with torch.no_grad(), full_float32(), outputs_of(looked) as kept:
            self.network(batch[:1].clone())
        sizes = {one: tuple(kept[one][-1].shape[2:]) for one in looked if one in kept}
        there = [one for one, size in sizes.items() if len(size) == 2 and size != (1, 1)]
        if there and all(sizes.get(one) == (1, 1) for one in self.layers):
            self.layer = there[-1]
        self.settled = True

    def _outputs(self) -> Any:
        return outputs_of({one: self.network.get_submodule(one) for one in self.layers})

    def _maps(
        self, total: Tensor, kept: dict[str, list[Tensor]], batch: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return each layer's maps (N, C, h, w), and what total's gradient at them is."""
        grid = Grid(self.network, batch.shape[2:])
        found, arranged = [], []
        for layer in self.layers:
            outputs = kept.get(layer, [])
            arrange = None
            if len(outputs) == 1 and outputs[0].dim() in (3, 4):
                module = self.network.get_submodule(layer)
                arrange = grid.arrangement(outputs[0], module)
            if arrange is None:
                shapes = [tuple(one.shape) for one in outputs]
                raise UserError(
                    f"{self.name} needs a layer that gives maps (N, C, h, w) once; {layer!r} gave "
                    f"{shapes or 'nothing'}: choose another `layer`, or method gradient"
                )
            found.append(outputs[0])
            arranged.append(arrange)
        gradients = torch.autograd.grad(total, found, retain_graph=True, allow_unused=True)
        for layer, gradient in zip(self.layers, gradients, strict=True):
            if gradient is None:
                raise UserError(f"the logit does not depend on layer {layer!r}")
        maps = [how(one.detach()) for how, one in zip(arranged, found, strict=True)]
        if len(sizes := {tuple(one.shape[2:]) for one in maps}) > 1:
            raise UserError(
                f"{self.name}: layers {self.layers} give maps of several sizes, {sizes}"
            )
        if sizes == {(1, 1)} and batch.shape[2:] != (1, 1):
            raise UserError(
                f"{self.name}: what layer {self.layer!r} gives has no extent (1 × 1), so that "
                "every pixel would get the same value: choose another `layer`"
            )
        return maps, [how(one) for how, one in zip(arranged, gradients, strict=True)]

    def _upsample(self, cam: Tensor, batch: Tensor) -> Tensor:
        size = tuple(batch.shape[2:])
        options: dict[str, Any] = {"mode": self.upsampling}
        if self.upsampling == "bilinear":
            options["align_corners"] = False
        return interpolate(cam[:, None], size, **options)[:, 0]


class GuidedGradCAM(GradCAM):
    """Guided Grad-CAM: guided back-propagation times the positive part of Grad-CAM.

    Arguments as for :class:`GradCAM`. Forward is run once for both. A network of tokens, whose
    residuals pass all activations by, is refused (:func:`refuse_tokens`) unless a layer is given.
    """

    name = "Guided Grad-CAM"

    def __init__(
        self, network: nn.Module, layer: str | None = None, *, upsampling: str = "bilinear"
    ) -> None:
        if layer is None:
            refuse_tokens(network, self.name)
        super().__init__(network, layer, upsampling=upsampling)

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the signed product for each image: relevance (N, 3, H, W).

        Raises:
            UserError: nothing could be gated, see :func:`forensift.explain.guided.close_gates`.
        """
        self._settle(batch)
        with torch.enable_grad(), full_float32(), self._outputs() as kept:
            pixels, run = recorded(self.network, batch, target)
            # before the gates close: the plain gradient
            maps, gradients = self._maps(run.relevance, kept, batch)
            close_gates(run.relevance)
            (guided,) = torch.autograd.grad(run.relevance, pixels)
        cam = self._combined(maps, gradients, batch, run)
        cam = self._upsample(cam.clamp(min=0), batch)
        return RawExplanation(run.logits, run.targets, run.signs, guided * cam[:, None])


def default_layer(network: nn.Module) -> str:
    """Return the layer that Grad-CAM looks at unless told otherwise.

    ``layer4`` of a ResNet, or the last stage there is (``layer2`` of NPR; ``stages.3`` of timm's
    ConvNeXt); ``_conv_head`` of an EfficientNet; else the last convolution. Of several backbones
    side by side (``model1``, ``model2``, … of DeepFeatureX) that of each; of a wrapper around one,
    that of the one.

    Raises:
        UserError: the network has no convolution.
    """
    holding = {name: child for name, child in network.named_children() if _convolutions(child)}
    if holding and all(re.fullmatch(r"model\d+", name) for name in holding):
        return ",".join(f"{name}.{default_layer(child)}" for name, child in holding.items())
    if len(holding) == 1 and not isinstance(network, nn.Sequential):
        ((name, child),) = holding.items()
        if not isinstance(child, (nn.Conv2d, nn.Sequential)):
            return f"{name}.{default_layer(child)}"
    names = [name for name, child in network.named_children() if list(child.parameters())]
    stages = [name for name in names if re.fullmatch(r"layer\d+", name)]
    if stages:
        return max(stages, key=lambda name: int(name.removeprefix("layer")))
    if "_conv_head" in names:
        return "_conv_head"
    if "stages" in names and isinstance(last := network.get_submodule("stages"), nn.Sequential):
        return f"stages.{len(last) - 1}"
    if not (layers := _convolutions(network)):
        raise UserError(f"{type(network).__name__} has no convolution for Grad-CAM")
    return layers[-1]


def _convolutions(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
