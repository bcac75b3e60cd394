"""NPR: neighbouring pixel relationships (Tan et al. 2024, CVPR)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate
from torchvision.models.resnet import Bottleneck

NAME = "npr"
PRESET = "npr-native"
FIRST_CONVOLUTION = "conv1"


class NPRResidual(nn.Module):
    """2/3 · (x − up(down(x))): what each pixel adds to the top-left one of its 2 × 2 cell.

    x: (N, 3, H, W), ImageNet-normalised. An odd last row or column is trimmed first, since a cell
    there has no neighbours. Linear in x, so relevance goes through it as through a linear layer.
    """

    lrp_rule = "linear"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        x = x[..., :height, :width]
        corners = x[..., ::2, ::2]
        return (x - interpolate(corners, scale_factor=2.0, mode="nearest")) * (2 / 3)


class NPR(nn.Module):
    """The residual, then the stem (3×3) and the first two stages of ResNet-50, and one logit.

    Input (N, 3, H, W) of any size, logits (N, 1); 1,437,761 parameters; trained from scratch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.residual = NPRResidual()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(512, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.residual(x)))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc1(torch.flatten(x, 1))


def _stage(channels_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    channels_out = 4 * width
    shortcut = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
        nn.BatchNorm2d(channels_out),
    )
    first = Bottleneck(channels_in, width, stride, shortcut)
    return nn.Sequential(first, *(Bottleneck(channels_out, width) for _ in range(blocks - 1)))


def build() -> nn.Module:
    """Return the network with its published initialisation (Kaiming normal, fan-out)."""
    return NPR()


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours (published key test)."""
    head, stem = shapes.get("fc1.weight"), shapes.get("conv1.weight")
    return head == (1, 512) and stem == (64, 3, 3, 3)


DEAD_KEYS = {"fc.weight": (1, 2048), "fc.bias": (1,)}  # in files from before 2024-02-21
