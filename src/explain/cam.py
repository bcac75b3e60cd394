"""Grad-CAM and Guided Grad-CAM (Selvaraju et al. 2017) for whole batches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..detectors.precision import full_float32
from ..errors import UserError
from .guided import close_gates, evaluation_copy, refuse_tokens
from .target import RawExplanation, Target, recorded

UPSAMPLING = ("bilinear", "nearest")


class GradCAM:
    """Grad-CAM: the layer's maps, weighted by the spatial mean of their gradients, and summed.

    layer: module whose output (N, C, h, w) is used, by default :func:`default_layer`, or where
        that comes behind a pooling the last convolution before it; several with commas between,
        whose maps of one size are taken as those of one layer.
    upsampling: to the image's size: 'bilinear' as published, or 'nearest' (captum's default).

    The network is copied, in evaluation mode, and never called or changed; later changes of its
    weights do not reach this object.

    Raises:
        UserError: no such layer; a network of tokens and no layer given; or one that cannot be
            copied (see ``GuidedBackprop``).
    """

    def __init__(
        self, network: nn.Module, layer: str | None = None, *, upsampling: str = "bilinear"
    ) -> None:
        if upsampling not in UPSAMPLING:
            raise UserError(f"upsampling {upsampling!r}: choose {' or '.join(UPSAMPLING)}")
        if layer is None:
            refuse_tokens(network, "Grad-CAM")
        self.network = evaluation_copy(network)
        self.layer = default_layer(network) if layer is None else layer
        self.settled = layer is not None
        self.upsampling = upsampling
        known = dict(self.network.named_modules())
        for one in self.layers:
            if one not in known or not one:
                raise UserError(f"the network has no layer {one!r}")

    @property
    def layers(self) -> list[str]:
        """The names of the layers looked at."""
        return self.layer.split(",")

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the signed map of each image at its size: relevance (N, H, W).

        The published maps keep only what is positive; that is left to whoever draws them.
        batch: (N, 3, H, W), normalised; target: see :func:`chosen`.
        """
        self._settle(batch)
        with torch.enable_grad(), full_float32(), self._maps() as kept:
            _, run = recorded(self.network, batch, target)
            cam = self._weighted_sum(run.relevance, kept, batch.shape[2:])
        return RawExplanation(run.logits, run.targets, run.signs, self._upsample(cam, batch))

    def _settle(self, batch: Tensor) -> None:
        """Go back from a default layer that has no extent to the last convolution that has."""
        if self.settled or not len(batch):
            return
        sizes: dict[str, tuple[int, ...]] = {}

        def see(module: nn.Module, args: Any, output: Any, layer: str) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                sizes[layer] = tuple(output.shape[2:])

        looked = dict.fromkeys([*_convolutions(self.network), *self.layers])
        handles = [
            self.network.get_submodule(one).register_forward_hook(partial(see, layer=one))
            for one in looked
        ]
        try:
            with torch.no_grad(), full_float32():
                self.network(batch[:1].clone())
        finally:
            for handle in handles:
                handle.remove()
        there = [layer for layer, size in sizes.items() if size != (1, 1)]
        if there and all(sizes.get(one) == (1, 1) for one in self.layers):
            self.layer = there[-1]
        self.settled = True

    def _weighted_sum(
        self, total: Tensor, kept: dict[str, list[Tensor]], image: tuple[int, ...]
    ) -> Tensor:
        """Return Σ_c mean_hw(∂total/∂A_c) · A_c, (N, h, w), of each layer's one output A."""
        for layer, outputs in kept.items():
            if len(outputs) != 1 or outputs[0].dim() != 4:
                shapes = [tuple(one.shape) for one in outputs]
                raise UserError(
                    f"Grad-CAM needs a layer that gives maps (N, C, h, w) once; {layer!r} gave "
                    f"{shapes or 'nothing'}: choose another `layer`, or method gradient"
                )
        maps = [outputs[0] for outputs in kept.values()]
        if len(sizes := {tuple(one.shape[2:]) for one in maps}) > 1:
            raise UserError(f"Grad-CAM: layers {self.layer} give maps of several sizes, {sizes}")
        if sizes == {(1, 1)} and image != (1, 1):
            raise UserError(
                f"Grad-CAM: what layer {self.layer!r} gives has no extent (1 × 1), so that every "
                "pixel would get the same value: choose another `layer`"
            )
        gradients = torch.autograd.grad(total, maps, retain_graph=True, allow_unused=True)
        cam = torch.zeros_like(maps[0][:, 0])
        for layer, gradient, one in zip(self.layers, gradients, maps, strict=True):
            if gradient is None:
                raise UserError(f"the logit does not depend on layer {layer!r}")
            cam += (gradient.mean(dim=(2, 3), keepdim=True) * one).sum(dim=1).detach()
        return cam

    def _upsample(self, cam: Tensor, batch: Tensor) -> Tensor:
        size = tuple(batch.shape[2:])
        options: dict[str, Any] = {"mode": self.upsampling}
        if self.upsampling == "bilinear":
            options["align_corners"] = False
        return interpolate(cam[:, None], size, **options)[:, 0]

    @contextmanager
    def _maps(self) -> Iterator[dict[str, list[Tensor]]]:
        """Yield lists that get what each layer gives in each forward pass of the copy."""
        kept: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}

        def keep(module: nn.Module, args: Any, output: Any, layer: str) -> Tensor:
            if not isinstance(output, Tensor):
                raise UserError(f"Grad-CAM: layer {layer!r} gives no single tensor")
            kept[layer].append(output)
            return output.clone()  # what follows may overwrite it in place

        handles = [
            self.network.get_submodule(layer).register_forward_hook(partial(keep, layer=layer))
            for layer in self.layers
        ]
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()


class GuidedGradCAM(GradCAM):
    """Guided Grad-CAM: guided back-propagation times the positive part of Grad-CAM.

    Arguments as for :class:`GradCAM`. Forward is run once for both.
    """

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the signed product for each image: relevance (N, 3, H, W).

        Raises:
            UserError: nothing could be gated, see :func:`forensift.explain.guided.close_gates`.
        """
        self._settle(batch)
        with torch.enable_grad(), full_float32(), self._maps() as kept:
            pixels, run = recorded(self.network, batch, target)
            # before the gates close: the plain gradient
            cam = self._weighted_sum(run.relevance, kept, batch.shape[2:])
            close_gates(run.relevance)
            (guided,) = torch.autograd.grad(run.relevance, pixels)
        cam = self._upsample(cam.clamp(min=0), batch)
        return RawExplanation(run.logits, run.targets, run.signs, guided * cam[:, None])


def default_layer(network: nn.Module) -> str:
    """Return the layer that Grad-CAM looks at unless told otherwise.

    ``layer4`` of a ResNet, or the last stage there is (``layer2`` of NPR); ``_conv_head`` of an
    EfficientNet; else the last convolution. Of several backbones side by side (``model1``,
    ``model2``, … of DeepFeatureX) that of each; of a wrapper around one, that of the one.

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
    if not (layers := _convolutions(network)):
        raise UserError(f"{type(network).__name__} has no convolution for Grad-CAM")
    return layers[-1]


def _convolutions(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
