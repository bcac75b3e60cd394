"""Methods of captum (Kokhlikyan et al. 2020) in the form of the others.

The baseline of those that need one is 0 of the normalised pixels: the grey that the preprocessing
calls neutral. What is drawn at random is keyed by the image's own pixels, so that a batch gives
what its images give. captum is loaded when a method is first called.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ..detectors.building import random_state_kept
from ..detectors.precision import full_float32
from ..rng import keyed
from .guided import evaluation_copy
from .separate import separated
from .superpixels import superpixels
from .target import RawExplanation, Target, chosen
from .tokens import of_tokens

STEPS = 50  # of the path of integrated gradients (Gauss–Legendre)
DRAWS = 16  # noisy copies of smoothgrad, points of gradient-shap
NOISE = 0.1  # of the image's range, standard deviation
WINDOWS = 6  # occluding squares along the shorter side; they overlap by half
SUPERPIXELS, COALITIONS = 48, 256
AT_ONCE = 2**19  # pixels that go through the network together, within one image
# Pixels of an image, above which methods of many passes see it smaller, of at most so many.
LARGE, WORKING = 2**16, 2**15

Forward = Callable[[Tensor], Tensor]
Attribute = Callable[[nn.Module, Forward, Tensor, Tensor], Tensor]


class Attribution:
    """One of captum's methods on a private copy of a network.

    attribute: (network, forward, pixels (N, 3, H, W), targets (N,)) → of the target's logit
        (N, 3, H, W) or (N, H, W); alone: whether it gets one image at a time; small: whether it
        sees a large image smaller, see :func:`shrink`.
    """

    def __init__(
        self,
        network: nn.Module,
        attribute: Attribute,
        *,
        alone: bool = True,
        separate: bool = False,
        small: bool = False,
    ) -> None:
        self.network = separated(network) if separate else evaluation_copy(network)
        self.attribute, self.alone, self.small = attribute, alone, small

    def __call__(self, batch: Tensor, target: Target = None) -> RawExplanation:
        """Return the signed attribution of each image's target.

        batch: (N, 3, H, W), normalised; target: see :func:`chosen`.
        """
        with full_float32():
            with torch.no_grad():
                logits = self._forward(batch)
            targets, signs = chosen(logits, target)
            size = 1 if self.alone else max(1, len(batch))
            found = []
            for first in range(0, len(batch), size):
                part = slice(first, first + size)
                pixels = batch[part].detach().clone()
                side = shrink(self.network, pixels.shape[2:]) if self.small else 1
                pixels = shrunk(pixels, side)
                with torch.enable_grad(), _drawn_by(pixels), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of hooks that captum puts and removes
                    own = self.attribute(self.network, self._forward, pixels, targets[part])
                found.append(_enlarged(own.detach(), side, batch.shape[2:]))
        relevance = torch.cat(found).to(batch.dtype)
        signs_of = signs.reshape(-1, *[1] * (relevance.dim() - 1))
        return RawExplanation(logits.detach(), targets, signs, relevance * signs_of)

    def _forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.clone()).reshape(len(pixels), -1)


def shrink(network: nn.Module, size: tuple[int, ...]) -> int:
    """Return the side of the squares of pixels that become one where a method takes many passes.

    size: (H, W). More than 1 where an image has more than ``LARGE`` pixels; networks of tokens,
    which are of one size, see all of it.
    """
    if size[0] * size[1] <= LARGE or of_tokens(network):
        return 1
    return math.ceil(math.sqrt(size[0] * size[1] / WORKING))


def shrunk(pixels: Tensor, side: int) -> Tensor:
    """Return the means of squares of ``side`` pixels; at the border they may be cut."""
    if side <= 1:
        return pixels
    return avg_pool2d(pixels, side, ceil_mode=True, count_include_pad=False)


def _enlarged(found: Tensor, side: int, size: tuple[int, ...]) -> Tensor:
    """Return values of shrunk pixels on the pixels: maps as they are, shares of a logit shared."""
    if side <= 1:
        return found
    if found.dim() == 4:
        ones = torch.ones(1, 1, *size, dtype=found.dtype, device=found.device)
        found = found / avg_pool2d(ones, side, ceil_mode=True, divisor_override=1)
    whole = found.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)
    return whole[..., : size[0], : size[1]]


def at_once(pixels: Tensor) -> int:
    """Return how many images of this size go through the network together."""
    return max(1, AT_ONCE // pixels[0, 0].numel())


@contextmanager
def _drawn_by(pixels: Tensor) -> Iterator[None]:
    """Key torch's and NumPy's random numbers by the pixels, and give them back as they were."""
    content = pixels.detach().float().cpu().contiguous().numpy().tobytes()
    seed = int(keyed("explain", content.hex()).integers(2**32))
    before = np.random.get_state()  # noqa: NPY002  # what captum draws from
    try:
        with random_state_kept():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def saliency(network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient, signs kept."""
    from captum.attr import Saliency

    return Saliency(forward).attribute(pixels, targets, abs=False)


def input_x_gradient(
    network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor
) -> Tensor:
    """Return the normalised pixels times their gradient."""
    from captum.attr import InputXGradient

    return InputXGradient(forward).attribute(pixels, targets)


def integrated_gradients(
    network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor
) -> Tensor:
    """Return the pixels times their mean gradient on the way from the baseline to the image."""
    from captum.attr import IntegratedGradients

    return IntegratedGradients(forward).attribute(
        pixels, 0.0, targets, n_steps=STEPS, internal_batch_size=at_once(pixels)
    )


def smoothgrad(network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor) -> Tensor:
    """Return the mean gradient of noisy copies of the image."""
    from captum.attr import NoiseTunnel, Saliency

    return NoiseTunnel(Saliency(forward)).attribute(
        pixels, nt_type="smoothgrad", nt_samples=DRAWS, nt_samples_batch_size=at_once(pixels),
        stdevs=NOISE * float(pixels.max() - pixels.min()), target=targets, abs=False,
    )  # fmt: skip


def gradient_shap(network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of (pixels − baseline) · gradient at random points between the two.

    The baselines are images of one colour each, those of pixels of the image drawn at random.
    """
    from captum.attr import GradientShap

    places = torch.randint(pixels[0, 0].numel(), (DRAWS,))
    colours = pixels[0].flatten(1)[:, places.to(pixels.device)].T
    baselines = colours[:, :, None, None].expand(-1, -1, *pixels.shape[2:])
    small = max(1, min(DRAWS, at_once(pixels)))
    total = torch.zeros_like(pixels)
    for first in range(0, DRAWS, small):  # captum has no smaller batches of it
        count = min(small, DRAWS - first)
        total += count * GradientShap(forward).attribute(
            pixels, baselines.contiguous(), n_samples=count, target=targets
        )
    return total / DRAWS


def deeplift(network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor) -> Tensor:
    """Return DeepLift's contributions by the rescale rule; they sum to logit − baseline's logit."""
    from captum.attr import DeepLift

    return DeepLift(_Flat(network)).attribute(pixels, torch.zeros_like(pixels), targets)


class _Flat(nn.Module):
    """The network with logits (N, K), as a module; what captum sets on it goes with it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.clone()).reshape(len(pixels), -1)


@torch.no_grad()
def occlusion(network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor) -> Tensor:
    """Return by how much the logit falls when a square is grey, mean over the squares of a pixel.

    (N, H, W); squares of a sixth of the shorter side, half a square apart.
    """
    from captum.attr import Occlusion

    height, width = pixels.shape[2:]
    side = max(1, round(min(height, width) / WINDOWS))
    found = Occlusion(forward).attribute(
        pixels, (3, side, side), (3, max(1, side // 2), max(1, side // 2)), 0.0, targets,
        perturbations_per_eval=at_once(pixels),
    )  # fmt: skip
    return found[:, 0]


@torch.no_grad()
def kernel_shap(network: nn.Module, forward: Forward, pixels: Tensor, targets: Tensor) -> Tensor:
    """Return each superpixel's Shapley value, estimated by regression, (N, H, W).

    Of one image; a superpixel that is left out is grey. Each pixel holds its superpixel's value,
    whatever the size.
    """
    from captum.attr import KernelShap

    parts = superpixels(pixels[0].float().cpu().numpy(), SUPERPIXELS)
    mask = torch.from_numpy(parts).to(pixels.device).expand(1, 3, -1, -1)
    found = KernelShap(forward).attribute(
        pixels, 0.0, targets, feature_mask=mask.contiguous(), n_samples=COALITIONS,
        perturbations_per_eval=at_once(pixels),
    )  # fmt: skip
    return found[:, 0]
