"""Weights in 8 bits with a scale per output channel: a quarter of the file, nearly the network."""

from __future__ import annotations

from collections.abc import Mapping

import torch

State = dict[str, torch.Tensor]

SCALE = "::scale"  # an 8-bit tensor's scales stand beside it under its name and this suffix


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 values and a float32 scale per output channel: weight ≈ values · scale."""
    flat = weight.detach().float().reshape(weight.shape[0], -1)
    scale = flat.abs().amax(1).clamp_min(1e-12) / 127
    values = (flat / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    return values.reshape(weight.shape), scale


def dequantise(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return float32 weights from int8 values and a scale per output channel."""
    return values.float() * scale.reshape(-1, *[1] * (values.dim() - 1))


def packed(state: Mapping[str, torch.Tensor], few: int) -> State:
    """Return a state dict with weights of two or more dimensions in 8 bits.

    few: those with fewer values stay in half precision; other floats stay as they are.
    """
    out: State = {}
    for key, value in state.items():
        if not value.is_floating_point() or value.dim() < 2:
            out[key] = value.clone()
        elif value.numel() < few:
            out[key] = value.half()
        else:
            out[key], out[key + SCALE] = quantise(value)
    return out


def unpacked(state: Mapping[str, torch.Tensor]) -> State:
    """Return what :func:`packed` was given, as near as 8 bits come; others come back unchanged."""
    scales = {key.removesuffix(SCALE) for key in state if key.endswith(SCALE)}
    return {
        key: dequantise(value, state[key + SCALE]) if key in scales else value
        for key, value in state.items()
        if not key.endswith(SCALE)
    }
