"""The discriminator of StyleGAN (Karras et al. 2019) at 256 × 256 pixels: LGrad's published critic.

Only the path of a finished training (lod 0) is run. Names and order of the state dict are those of
the published conversion ``karras2019stylegan-bedrooms-256x256_discriminator.pth``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu, linear, pad

SIDE = 256
BLOCKS = 7  # resolutions 256, 128, … 4
FUSED = 128  # from this resolution up, a convolution and its pooling are one strided convolution
GROUP = 4  # of the minibatch standard deviation


def channels(resolution: int) -> int:
    """Return how many channels the features of a resolution have."""
    return min(2**14 // resolution, 512)


class Blur(nn.Module):
    """A depthwise 3×3 binomial filter with zeros around the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        ramp = torch.tensor([1.0, 2.0, 1.0])
        kernel = torch.outer(ramp, ramp) / 16
        self.register_buffer("kernel", kernel.repeat(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        kernel: Tensor = self.kernel  # type: ignore[assignment]
        return conv2d(x, kernel, padding=1, groups=x.shape[1])


class EqualisedLayer(nn.Module):
    """A convolution or dense layer with its learning rate equalised (Karras et al. 2018, §4.1).

    The weight in use is the stored one times gain / √fan_in; the bias is used as it is stored.
    kernel 0 means dense; down: 'none', 'pool' (blur, convolution, 2×2 mean) or 'fused' (blur, then
    a 4×4 convolution of stride 2: the mean of the four shifts of the 3×3 one).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, down: str = "none", gain: float = 2**0.5
    ) -> None:
        super().__init__()
        shape = (outputs, inputs, kernel, kernel) if kernel else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs * max(kernel, 1) ** 2)
        self.down, self.linear = down, gain == 1.0
        if down != "none":
            self.blur = Blur(inputs)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.down != "none":
            x = self.blur(x)
        if self.weight.dim() == 2:
            x = linear(x.flatten(1), weight, self.bias)
        elif self.down == "fused":
            wide = pad(weight, (1, 1, 1, 1))
            rows = wide[..., 1:, :] + wide[..., :-1, :]
            x = conv2d(x, (rows[..., 1:] + rows[..., :-1]) / 4, self.bias, stride=2, padding=1)
        else:
            x = conv2d(x, weight, padding=weight.shape[-1] // 2)
            x = avg_pool2d(x, 2) if self.down == "pool" else x
            x = x + self.bias.reshape(1, -1, 1, 1)
        return x if self.linear else leaky_relu(x, 0.2)


class StyleGANDiscriminator(nn.Module):
    """Images (N, 3, 256, 256) in [-1, 1] → unbounded scores (N, 1); 23,052,353 parameters.

    N is at most 4 or a multiple of 4. A score depends on the other images of its batch through the
    minibatch standard deviation; alone, that channel is a constant and passes no gradient.
    ``input1`` … ``input6`` belong to earlier stages of the training and are only stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lod", torch.zeros(()))
        for block in range(BLOCKS):
            resolution = SIDE >> block
            width = channels(resolution)
            self.add_module(f"input{block}", EqualisedLayer(3, width, 1))
            first, second = f"layer{2 * block}", f"layer{2 * block + 1}"
            if block == BLOCKS - 1:
                self.add_module(first, EqualisedLayer(width + 1, width, 3))
                self.add_module(second, EqualisedLayer(width * resolution**2, width, 0))
                self.add_module("layer14", EqualisedLayer(width, 1, 0, gain=1.0))
                break
            self.add_module(first, EqualisedLayer(width, width, 3))
            down = "fused" if resolution >= FUSED else "pool"
            wider = channels(resolution // 2)
            self.add_module(second, EqualisedLayer(width, wider, 3, down=down))

    def forward(self, image: Tensor) -> Tensor:
        x = self.get_submodule("input0")(image)
        for place in range(2 * BLOCKS + 1):
            if place == 2 * (BLOCKS - 1):
                x = with_minibatch_deviation(x)
            x = self.get_submodule(f"layer{place}")(x)
        return x


def with_minibatch_deviation(x: Tensor) -> Tensor:
    """Append to features (N, C, H, W) one channel: how much the images of a group differ."""
    count, width, height, breadth = x.shape
    group = min(GROUP, count)
    grouped = x.reshape(group, count // group, width, height, breadth)
    spread = (grouped - grouped.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3))
    channel = spread.repeat(group).reshape(count, 1, 1, 1).expand(count, 1, height, breadth)
    return torch.cat([x, channel], dim=1)


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is the discriminator's (published key test)."""
    first, late = shapes.get("input0.weight"), shapes.get("layer12.weight")
    return "lod" in shapes and first == (64, 3, 1, 1) and late == (512, 513, 3, 3)
