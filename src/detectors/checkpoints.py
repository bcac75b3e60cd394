"""Reading and writing weights: every published wrapper, strictly, without running pickled code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ..eight_bits import SCALE, State, deflated, inflated, packed, unpacked
from ..errors import UserError
from ..files import home, sha256, write_with

# Rounded to 8 bits, a first convolution's high-pass filters no longer sum to zero, and brightness
# drowns the traces; small tensors cost little anyway.
FEW = 2**14
SHOWN = 5  # keys listed in an error before the rest is counted


def read_checkpoint(path: Path) -> tuple[State, str]:
    """Return the state dict of a weights file and the wrapper it came in.

    Known wrappers: safetensors (plain, half precision, 8-bit, deflated, or what differs from
    another file, which must lie beside it or be shipped), a bare state dict, a dict with the state
    dict under ``model`` (beside an optimiser and a step count, which are ignored), and either of
    these with ``module.`` before every key.

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
        state = inflated(safetensors.torch.load_file(path), header(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from error
    wrapper = "safetensors"
    if any(key.endswith(SCALE) for key in state):
        state, wrapper = unpacked(state), wrapper + ", 8-bit"
    if facts := header(path).get("base"):
        name, digest = facts.split()
        state = {**read_checkpoint(_base(path, name, digest))[0], **state}
        wrapper += f", over {name}"
    return state, wrapper


def _base(path: Path, name: str, digest: str) -> Path:
    """Return the file that ``path`` holds the differences to: beside it, or shipped."""
    for folder in (path.parent, home() / "weights"):
        found = folder / name
        if found.is_file() and sha256(found) == digest:
            return found
    raise UserError(
        f"{path}: holds only what differs from {name} (SHA-256 {digest[:12]}…), which is not "
        "beside it; put that file there"
    )


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


def save_weights(
    path: Path,
    state: Mapping[str, torch.Tensor],
    facts: Mapping[str, str],
    *,
    bits: int = 32,
    base: Path | None = None,
) -> None:
    """Write a state dict as safetensors with ``facts`` (command, seed …) in its header.

    base: another weights file of the same network; only tensors that differ from it are written.

    bits: 32 and 16 keep floats in that precision; 8 (down to 2) stores weights of two or more
    dimensions in so many bits with a scale per output channel, those of fewer than ``FEW`` values
    in half precision and the rest in float32, all of it deflated.
    """
    out: State = {}
    same: State = {}
    if base is not None:
        same = read_checkpoint(base)[0]
        facts = {**facts, "base": f"{base.name} {sha256(base)}"}
    for key, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        if key in same and torch.equal(same[key].to(value.dtype), value):
            continue
        out[key] = value.half() if bits == 16 and value.is_floating_point() else value.clone()
    if bits <= 8:
        out, coded = deflated(packed(out, FEW, bits))
        facts = {**facts, **coded}
    write_with(path, lambda temporary: safetensors.torch.save_file(out, temporary, dict(facts)))


def header(path: Path) -> dict[str, str]:
    """Return the facts in the header of a safetensors file; empty for other files."""
    if Path(path).suffix != ".safetensors":
        return {}
    with safetensors.safe_open(path, "pt") as opened:
        return dict(opened.metadata() or {})
