"""Class activation maps of the package grad-cam (Gildenblat 2021), raw and signed.

Its classes are given the maps and gradients of the layer, recorded here, and return the weighted
sum before anything is cut or scaled; it is loaded when a method is first called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..detectors.precision import full_float32
from ..errors import UserError
from .attribution import at_once, shrink, shrunk
from .cam import GradCAM
from .guided import evaluation_copy
from .target import RawExplanation, Target, recorded
from .tokens import Grid, of_tokens, outputs_of

CHANNELS = 64  # of a layer that Score-CAM looks at, those that vary most over the image
ABLATED = 512  # of a layer that Ablation-CAM takes away, those of the largest magnitude
CELLS = 2**24  # numbers of a layer's maps that Ablation-CAM changes together


class FamilyCAM(GradCAM):
    """A class activation map whose sum of maps is made by a class of grad-cam.

    kind: the class's name there; arguments as for :class:`GradCAM`. Several layers count as one.
    """

    def __init__(self, network: nn.Module, layer: str | None, kind: str) -> None:
        super().__init__(network, layer)
        self.kind = self.name = kind

    @cached_property
    def library(self) -> Any:
        """The class of grad-cam, made for the private copy; it hooks no layer."""
        import pytorch_grad_cam

        return getattr(pytorch_grad_cam, self.kind)(self.network, [])

    def _combined(
        self, maps: list[Tensor], gradients: list[Tensor], batch: Tensor, run: RawExplanation
    ) -> Tensor:
        """Return the method's sum of maps, (N, h, w), signed."""
        activations, slopes = (torch.cat(one, dim=1).cpu().numpy() for one in (maps, gradients))
        targets = [
            _Score(int(output), float(sign))
            for output, sign in zip(run.targets, run.signs, strict=True)
        ]
        found = self._image(batch, targets, activations, slopes)
        return torch.from_numpy(np.asarray(found)).to(maps[0])

    def _image(
        self, batch: Tensor, targets: list[_Score], activations: np.ndarray, slopes: np.ndarray
    ) -> np.ndarray:
        return self.library.get_cam_image(batch, None, targets, activations, slopes, False)


class EigenCAM(FamilyCAM):
    """The first principal component of the layer's maps, whatever the target.

    An eigenvector has no sign of its own: its largest magnitude is made positive.
    """

    def _image(
        self, batch: Tensor, targets: list[_Score], activations: np.ndarray, slopes: np.ndarray
    ) -> np.ndarray:
        found = super()._image(batch, targets, activations, slopes)
        flat = found.reshape(len(found), -1)
        largest = np.take_along_axis(flat, np.abs(flat).argmax(axis=1)[:, None], axis=1)
        return found * np.where(largest < 0, -1, 1)[:, :, None]


class ScoreCAM(FamilyCAM):
    """Maps weighted by the softmax over channels of the logit of the image that each lets through.

    Of the ``CHANNELS`` channels that vary most over the image, each of which takes a pass, of a
    large image over a smaller one.
    """

    def _image(
        self, batch: Tensor, targets: list[_Score], activations: np.ndarray, slopes: np.ndarray
    ) -> np.ndarray:
        from pytorch_grad_cam import score_cam

        batch = shrunk(batch, shrink(self.network, batch.shape[2:]))
        self.library.batch_size = at_once(batch)
        found = []
        with silent(score_cam):
            for place, target in enumerate(targets):
                own = activations[place]
                most = np.argsort(-own.std(axis=(1, 2)), kind="stable")[:CHANNELS]
                own = own[np.sort(most)][None].astype(batch.cpu().numpy().dtype)
                found.append(
                    self.library.get_cam_image(batch[place, None], None, [target], own, None, False)
                )
        return np.concatenate(found)


class AblationCAM(FamilyCAM):
    """Maps weighted by the share of the logit that is lost when their channel is 0.

    Of the ``ABLATED`` channels of the largest mean magnitude; the rest weighs nothing. The channel
    is 0 as the paper has it, where grad-cam takes −10⁷ if the layer has negative values. Weights
    are divided by |logit|, so that a negative logit does not turn them round. Those of a large
    image are measured on a smaller one.
    """

    def _image(
        self, batch: Tensor, targets: list[_Score], activations: np.ndarray, slopes: np.ndarray
    ) -> np.ndarray:
        from pytorch_grad_cam import ablation_cam

        batch, weights = shrunk(batch, shrink(self.network, batch.shape[2:])), []
        with silent(ablation_cam):
            for layer in self.layers:
                own = [
                    self._weights(ablation_cam.AblationCAM, layer, batch[at, None], target)
                    for at, target in enumerate(targets)
                ]
                weights.append(np.concatenate(own))
        return (np.concatenate(weights, axis=1)[:, :, None, None] * activations).sum(axis=1)

    def _weights(self, kind: Any, layer: str, image: Tensor, target: _Score) -> np.ndarray:
        """Return the weight of each channel of one image, float32 (1, C)."""
        from pytorch_grad_cam.utils.find_layers import replace_layer_recursive

        modules = {one: self.network.get_submodule(one) for one in self.layers}
        with outputs_of(modules) as kept, torch.no_grad():
            score = float(target(self.network(image.clone()).reshape(-1)))
        (output,), module = kept[layer], modules[layer]
        arrange = Grid(self.network, image.shape[2:]).arrangement(output, module)
        assert arrange is not None
        maps = arrange(output)
        axis, channels = 1 if maps is output else output.dim() - 1, maps.shape[1]
        most = min(CELLS // output.numel(), CELLS // image.numel(), channels)
        looked = maps[0].abs().mean(dim=(1, 2)).argsort(descending=True, stable=True)[:ABLATED]
        ablated = _Channels(output, np.sort(looked.cpu().numpy()), axis)
        places = {
            one: ablated if one == layer else _Held(kept[one][0], ablated) for one in self.layers
        }
        for first_alone in (True, False):
            size = max(1, most if first_alone else min(most, at_once(image)))
            model = _Ablated(self.network, first_alone)
            library = kind(model, [], ablation_layer=ablated, batch_size=size)
            for one, other in places.items():
                if one != layer:
                    replace_layer_recursive(model, modules[one], other)
            try:
                weights = library.get_cam_weights(
                    image, module, [target], np.empty((1, channels)), None
                )
                return weights * np.float32(1 if score > 0 else -1)
            except RuntimeError:  # what goes past the layers does not fit what comes from them
                if not first_alone:
                    raise
            finally:
                ablated.output = output
                for one, other in places.items():
                    replace_layer_recursive(model, other, modules[one])
        raise AssertionError


class _Ablated(nn.Module):
    """The network as Ablation-CAM runs it: what comes before the layer sees the image once."""

    def __init__(self, network: nn.Module, first_alone: bool) -> None:
        super().__init__()
        self.network, self.first_alone = network, first_alone

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels[:1] if self.first_alone else pixels
        logits = self.network(seen.clone())
        return logits.reshape(len(logits), -1)


class _Channels(nn.Module):
    """In a layer's place: its output with one channel 0 in each copy, as grad-cam asks for it."""

    def __init__(self, given: Tensor, channels: np.ndarray, axis: int) -> None:
        super().__init__()
        self.given, self.channels, self.axis = given, channels, axis
        self.output, self.indices = given, channels

    def activations_to_be_ablated(self, activations: np.ndarray, ratio: float) -> np.ndarray:
        self.indices = self.channels
        return self.indices

    def set_next_batch(
        self, input_batch_index: int, activations: Tensor, num_channels_to_ablate: int
    ) -> None:
        self.output = self.given.repeat(num_channels_to_ablate, *[1] * (self.given.dim() - 1))
        for place in range(num_channels_to_ablate):
            self.output[place].select(self.axis - 1, int(self.indices[place])).zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.output.clone()


class _Held(nn.Module):
    """In another layer's place: its output, as often as the channels of the one looked at."""

    def __init__(self, given: Tensor, ablated: _Channels) -> None:
        super().__init__()
        self.given, self.number = given, lambda: len(ablated.output)

    def forward(self, x: Tensor) -> Tensor:
        return self.given.repeat(self.number(), *[1] * (self.given.dim() - 1))


class FullGrad:
    """The whole of a ReLU network's logit, laid on the pixels (Srinivas & Fleuret 2019, eq. 3).

    Input × gradient, summed over colours, and of each bias its product with the gradient at its
    place, summed over channels and spread bilinearly over the pixels without loss. Signed; sums to
    the logit, but for biases that have no place (of linear layers). grad-cam gives the biases; its
    own map takes absolute values and stretches each channel to 0 … 1.
    """

    def __init__(self, network: nn.Module) -> None:
        if of_tokens(network):
            raise UserError(
                "FullGrad: the logit of a network of tokens is not made of biases with a place: "
                "attention and norms come between; use method input-x-gradient"
            )
        for name, one in network.named_modules():
            if isinstance(one, nn.BatchNorm2d) and one.running_mean is None:
                raise UserError(f"FullGrad: {name!r} keeps no statistics, so it has no fixed bias")
        self.network = evaluation_copy(network)

    @cached_property
    def biases(self) -> dict[str, Tensor]:
        """The bias of each convolution and BatchNorm, (C,), as grad-cam finds them."""
        import pytorch_grad_cam

        library = pytorch_grad_cam.FullGrad(self.network, [])
        library.activations_and_grads.release()  # it hooks all of them
        names = {module: name for name, module in self.network.named_modules()}
        like = next(self.network.parameters())
        return {
            names[module]: torch.from_numpy(bias).to(like)
            for module, bias in zip(library.target_layers, library.bias_data, strict=True)
        }

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the signed map of each image, (N, H, W).

        batch: (N, 3, H, W), normalised; target: see :func:`chosen`.
        """
        modules = {name: self.network.get_submodule(name) for name in self.biases}
        with torch.enable_grad(), full_float32(), outputs_of(modules) as kept:
            pixels, run = recorded(self.network, batch, target)
            outputs = [(name, one) for name, many in kept.items() for one in many]
            gradient, *slopes = torch.autograd.grad(
                run.relevance, [pixels, *(one for _, one in outputs)], allow_unused=True
            )
        found = (pixels.detach() * gradient).sum(dim=1)
        for (name, _), slope in zip(outputs, slopes, strict=True):
            if slope is not None:
                own = (slope * self.biases[name][:, None, None]).sum(dim=1)
                found += spread(own, (batch.shape[2], batch.shape[3]))
        return RawExplanation(run.logits, run.targets, run.signs, found)


def spread(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, h, w) laid bilinearly on (H, W) pixels; each map's sum stays."""

    def larger(one: Tensor) -> Tensor:
        return interpolate(one[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    with torch.enable_grad():
        ones = torch.ones_like(maps[:1]).requires_grad_()
        (weight,) = torch.autograd.grad(larger(ones).sum(), ones)
    return larger(maps / weight.clamp(min=1e-12))


class _Score:
    """The logit explained, with its sign, of one image's outputs (K,)."""

    def __init__(self, output: int, sign: float) -> None:
        self.output, self.sign = output, sign

    def __call__(self, outputs: Tensor) -> Tensor:
        return self.sign * outputs.reshape(-1)[self.output]


@contextmanager
def silent(module: Any) -> Iterator[None]:
    """Let a module of grad-cam show no progress bars of its own."""
    before = module.tqdm
    module.tqdm = SimpleNamespace(tqdm=lambda steps: steps)
    try:
        yield
    finally:
        module.tqdm = before


def family(kind: str, made: Callable[..., FamilyCAM] = FamilyCAM) -> Callable[..., FamilyCAM]:
    """Return a maker of a class activation map of that class of grad-cam."""
    return lambda network, layer: made(network, layer, kind)
