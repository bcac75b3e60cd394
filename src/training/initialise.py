"""Where a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import ResNet

from ..detectors import Architecture, read_checkpoint
from ..errors import UserError
from .engine import seeded

INITIALISATIONS = ("default", "high-pass")
_SECOND_DIFFERENCE = torch.tensor([[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]])
_NORM = 8.0  # of a high-pass filter: its answer to a photograph then has a spread of about 1


def initialise(
    architecture: Architecture, start: str, seed: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the architecture's network, ready to train.

    start: 'default' is PyTorch's initialisation; 'high-pass' changes it in two places: the first
    convolution's filters ignore constants and ramps, and the last BatchNorm of every residual
    block starts at zero, so that the network starts shallow; anything else is a checkpoint in any
    published wrapper (ImageNet weights too: a head of another size is left at its initialisation,
    as in the published fine-tuning). options: of the architecture's ``build``.

    Raises:
        UserError: no such initialisation or file, or a file of another network.
    """
    with seeded(seed):
        network = architecture.build(**(options or {}))
        return started(network, architecture.first_convolution, start)


def started(network: nn.Module, first_convolution: str, start: str) -> nn.Module:
    """Return a network that was just built, with the weights that :func:`initialise` describes.

    first_convolution: the name of the module that 'high-pass' shapes.
    """
    if start == "default":
        return network
    if start == "high-pass":
        convolution = network.get_submodule(first_convolution)
        assert isinstance(convolution, nn.Conv2d)
        with torch.no_grad():
            convolution.weight.copy_(high_pass_filters(convolution.weight.shape))
        _zero_last_norms(network)
        return network
    if not Path(start).is_file():
        raise UserError(f"{start!r} is neither one of {list(INITIALISATIONS)} nor a weights file")
    return _from_file(network, Path(start))


def high_pass_filters(shape: torch.Size) -> torch.Tensor:
    """Return random filters (out, in, k, k) that answer 0 to constants and linear ramps.

    From 5×5 on: random (k−2)×(k−2) filters convolved with a 3×3 second difference. Smaller ones:
    random filters minus their projection on 1, x and y.
    """
    out, channels, size, _ = shape
    if size >= 5:
        small = torch.randn(out * channels, 1, size - 2, size - 2)
        filters = nn.functional.conv2d(small, _SECOND_DIFFERENCE[None, None], padding=2)
    else:
        axis = torch.arange(size) - (size - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        ramps, _ = torch.linalg.qr(torch.stack([torch.ones_like(x), x, y]).reshape(3, -1).T)
        flat = torch.randn(out * channels, size * size)
        filters = flat - flat @ ramps @ ramps.T
    filters = filters.reshape(out, channels, size, size)
    return filters * (_NORM / filters.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))


def _zero_last_norms(network: nn.Module) -> None:
    """Start every residual block as the identity (Goyal et al. 2017, §5.1)."""
    block: Any
    for block in network.modules():
        if hasattr(block, "bn3") and hasattr(block, "downsample"):
            nn.init.zeros_(block.bn3.weight)
        elif hasattr(block, "_bn2") and _has_shortcut(block._block_args):
            nn.init.zeros_(block._bn2.weight)


def _has_shortcut(arguments: Any) -> bool:
    """Whether an inverted residual block of efficientnet-pytorch adds its input to its output."""
    stride = arguments.stride if isinstance(arguments.stride, int) else arguments.stride[0]
    return stride == 1 and arguments.input_filters == arguments.output_filters


def _from_file(network: nn.Module, path: Path) -> nn.Module:
    state = read_checkpoint(path).state
    wanted = network.state_dict()
    if "pos_embed" in wanted and "pos_embed" in state:
        state["pos_embed"] = _resized(state["pos_embed"], wanted["pos_embed"].shape[1])
    heads = [
        key
        for key in wanted
        if key in state
        and state[key].shape[1:] == wanted[key].shape[1:]
        and state[key].shape != wanted[key].shape
    ]
    fits = {key: value for key, value in state.items() if key not in heads}
    missing, unknown = network.load_state_dict(fits, strict=False)
    if "fc.weight" in heads and isinstance(network, ResNet):
        nn.init.normal_(network.fc.weight, std=0.02)  # Wang et al.'s --init_gain
    lost = [key for key in missing if key not in heads and "num_batches" not in key]
    if lost or unknown:
        raise UserError(f"{path}: weights of another network: {(lost + list(unknown))[:5]}")
    return network


def _resized(table: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return a position table (1, 1 + n², width) for another number of tokens (Touvron et al.)."""
    if table.shape[1] == tokens or table.dim() != 3:
        return table
    side, new = round((table.shape[1] - 1) ** 0.5), round((tokens - 1) ** 0.5)
    grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    grid = nn.functional.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1)
