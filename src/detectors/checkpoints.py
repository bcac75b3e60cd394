"""Reading and writing weights: every published wrapper, strictly, without running pickled code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ..errors import UserError
from ..files import write_with

State = dict[str, torch.Tensor]

SCALE = "::scale"  # an 8-bit tensor's scales stand beside it under its name and this suffix
# Rounded to 8 bits, a first convolution's high-pass filters no longer sum to zero, and brightness
# drowns the traces; small tensors cost little anyway.
FEW = 2**16
SHOWN = 5  # keys listed in an error before the rest is counted


def read_checkpoint(path: Path) -> tuple[State, str]:
    """Return the state dict of a weights file and the wrapper it came in.

    Known wrappers: safetensors (plain, half precision or 8-bit), a bare state dict, a dict with
    the state dict under ``model`` (beside an optimiser and a step count, which are ignored), and
    either of these with ``module.`` before every key.

    Raises:
        UserError: no such file, not a weights file, or one that would need to run pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than weights and would have to run code to load; save its "
            f"state_dict() alone ({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:
        raise UserError(f"{path}: not a PyTorch weights file: {error}") from error
    wrapper = "bare"
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content, wrapper = content["model"], "model"
    tensors = isinstance(content, Mapping) and bool(content)
    if not tensors or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: no state dict in it (neither bare nor under 'model')")
    state = dict(content)
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
        wrapper += ", module."
    return state, wrapper


def _read_safetensors(path: Path) -> tuple[State, str]:
    try:
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from error
    scales = {key.removesuffix(SCALE) for key in state if key.endswith(SCALE)}
    if not scales:
        return state, "safetensors"
    plain = {key: value for key, value in state.items() if not key.endswith(SCALE)}
    return {
        key: dequantise(value, state[key + SCALE]) if key in scales else value
        for key, value in plain.items()
    }, "safetensors, 8-bit"


def load_strictly(network: torch.nn.Module, state: State, path: Path | str) -> None:
    """Put ``state`` into ``network``; every key and shape must match.

    Raises:
        UserError: keys are missing or too many or have other shapes; the message lists them.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state]
    # Files from before PyTorch 0.4.1 hold no batch counters; they carry no weight.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    problems = [
        f"{what}: {', '.join(keys[:SHOWN])}{f' and {len(keys) - SHOWN} more' * (len(keys) > SHOWN)}"
        for what, keys in (("missing", missing), ("unknown", extra), ("shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"{path}: weights of another network. {'; '.join(problems)}")
    full = {key: state.get(key, value) for key, value in wanted.items()}
    network.load_state_dict({key: value.to(wanted[key].dtype) for key, value in full.items()})


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 values and a float32 scale per output channel: weight ≈ values · scale."""
    flat = weight.detach().float().reshape(weight.shape[0], -1)
    scale = flat.abs().amax(1).clamp_min(1e-12) / 127
    values = (flat / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    return values.reshape(weight.shape), scale


def dequantise(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return float32 weights from int8 values and a scale per output channel."""
    return values.float() * scale.reshape(-1, *[1] * (values.dim() - 1))


def save_weights(
    path: Path, state: Mapping[str, torch.Tensor], facts: Mapping[str, str], *, bits: int = 32
) -> None:
    """Write a state dict as safetensors with ``facts`` (command, seed …) in its header.

    bits: 32 and 16 keep floats in that precision; 8 stores weights of two or more dimensions in 8
    bits with a scale per output channel, those of fewer than ``FEW`` values in half precision and
    the rest in float32.
    """
    out: State = {}
    for key, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        if bits == 8 and value.is_floating_point() and value.dim() >= 2:
            if value.numel() < FEW:
                out[key] = value.half()
            else:
                out[key], out[key + SCALE] = quantise(value)
        elif bits == 16 and value.is_floating_point():
            out[key] = value.half()
        else:
            out[key] = value.clone()
    write_with(path, lambda temporary: safetensors.torch.save_file(out, temporary, dict(facts)))


def header(path: Path) -> dict[str, str]:
    """Return the facts in the header of a safetensors file; empty for other files."""
    if Path(path).suffix != ".safetensors":
        return {}
    with safetensors.safe_open(path, "pt") as opened:
        return dict(opened.metadata() or {})
