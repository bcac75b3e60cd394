"""Weights in 8 bits with a scale per output channel: a quarter of the file, nearly the network.

And without loss: 8-bit weights crowd around zero, so a Huffman code takes a tenth off the file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import numpy as np
import torch

State = dict[str, torch.Tensor]

SCALE = "::scale"  # an 8-bit tensor's scales stand beside it under its name and this suffix


def quantise(weight: torch.Tensor, bits: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 values and a float32 scale per output channel: weight ≈ values · scale.

    bits: 2 … 8; with fewer than 8 there are fewer values, which only :func:`deflated` makes small.
    """
    most = 2 ** (bits - 1) - 1
    flat = weight.detach().float().reshape(weight.shape[0], -1)
    scale = flat.abs().amax(1).clamp_min(1e-12) / most
    values = (flat / scale[:, None]).round().clamp(-most, most).to(torch.int8)
    return values.reshape(weight.shape), scale


def dequantise(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return float32 weights from int8 values and a scale per output channel."""
    return values.float() * scale.reshape(-1, *[1] * (values.dim() - 1))


def packed(state: Mapping[str, torch.Tensor], few: int, bits: int = 8) -> State:
    """Return a state dict with weights of two or more dimensions in 8 (or fewer) bits.

    few: those with fewer values stay in half precision; other floats stay as they are.
    """
    out: State = {}
    for key, value in state.items():
        if not value.is_floating_point() or value.dim() < 2:
            out[key] = value.clone()
        elif value.numel() < few:
            out[key] = value.half()
        else:
            out[key], out[key + SCALE] = quantise(value, bits)
    return out


def unpacked(state: Mapping[str, torch.Tensor]) -> State:
    """Return what :func:`packed` was given, as near as 8 bits come; others come back unchanged."""
    scales = {key.removesuffix(SCALE) for key in state if key.endswith(SCALE)}
    return {
        key: dequantise(value, state[key + SCALE]) if key in scales else value
        for key, value in state.items()
        if not key.endswith(SCALE)
    }


CODED = "::deflate"  # a tensor's bytes as a deflate stream (uint8) stand under its name and this
SHAPES = "deflate"  # the header's entry with their dtypes and shapes: {name: [dtype, [shape]]}
WORTH = 2**12  # bytes; smaller tensors stay as they are


def deflated(state: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, str]]:
    """Return a state dict whose larger tensors are deflate streams, and the header's facts on them.

    Lossless: :func:`inflated` gives back every bit. Bytes of like significance stand together,
    since the exponents of a tensor's values are alike and their mantissas are not.
    """
    out: State = {}
    shapes: dict[str, tuple[str, list[int]]] = {}
    for key, value in state.items():
        array = value.detach().cpu().contiguous().numpy()
        code = b""
        if array.nbytes >= WORTH:
            planes = array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T.tobytes()
            code = min((_deflate(planes, way) for way in _WAYS), key=len)
        if not code or len(code) >= array.nbytes:
            out[key] = value.clone()
            continue
        out[key + CODED] = torch.from_numpy(np.frombuffer(code, np.uint8).copy())
        shapes[key] = (array.dtype.name, list(array.shape))
    return out, {SHAPES: json.dumps(shapes)} if shapes else {}


_WAYS = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)


def _deflate(data: bytes, strategy: int) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy)
    return coder.compress(data) + coder.flush()


def inflated(state: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> State:
    """Return what :func:`deflated` was given; facts: of the file's header.

    Raises:
        ValueError: a stream is damaged, or has another length than its shape says.
    """
    shapes = json.loads(facts.get(SHAPES, "{}"))
    out: State = {}
    for key, value in state.items():
        name = key.removesuffix(CODED)
        if name == key or name not in shapes:
            out[key] = value
            continue
        dtype, shape = shapes[name]
        try:
            planes = np.frombuffer(zlib.decompress(value.numpy().tobytes()), np.uint8)
        except zlib.error as error:
            raise ValueError(f"{name}: {error}") from error
        array = planes.reshape(np.dtype(dtype).itemsize, -1).T.copy()
        out[name] = torch.from_numpy(array.reshape(-1).view(dtype).reshape(shape))
    return out
