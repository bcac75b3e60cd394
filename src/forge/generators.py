"""Trained generators on disk, and the way an image goes through one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from ..eight_bits import SHAPES, State, deflated, inflated, packed, unpacked
from ..errors import UserError
from ..files import home, write_with
from ..rng import keyed_short
from .crops import random_crop, read_photograph
from .families import SEPARATOR, get_family
from .losses import Critic

FEW = 2**12  # values of a tensor that is not worth rounding to 8 bits
MARGIN = 8  # pixels around a crop that the network sees and the forge cuts off: no seams


def to_signed(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) → float32 (1, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return pixels[None].float() / 127.5 - 1


def to_uint8(batch: torch.Tensor) -> np.ndarray:
    """float (1, 3, H, W) in about [-1, 1] → uint8 (H, W, 3), rounded and clipped."""
    pixels = ((batch[0].detach().cpu() + 1) * 127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).permute(1, 2, 0).numpy()


def shipped_path(family: str) -> Path:
    """Return where the project keeps a family's weights."""
    return home() / "weights" / "forge" / f"{family}.safetensors"


def save_generator(
    path: Path, generator: nn.Module, facts: dict[str, str], *, bits: int = 16
) -> None:
    """Write a generator; ``facts`` (family, seed, command …) go with it.

    bits: 16 for half precision, 8 for weights of ``FEW`` values and more in 8 bits.
    """
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in generator.state_dict().items()
    }
    _write(path, packed(state, FEW) if bits == 8 else state, facts)


def save_critic(path: Path, critic: nn.Module, facts: dict[str, str]) -> None:
    """Write the critic that a generator was trained against, in half precision, with ``facts``."""
    _write(path, {name: tensor.half() for name, tensor in critic.state_dict().items()}, facts)


def _write(path: Path, state: State, facts: dict[str, str]) -> None:
    coded, shapes = deflated(state)
    facts = {**facts, **shapes}
    write_with(path, lambda out: safetensors.torch.save_file(coded, out, metadata=facts))


def _read(path: Path) -> State:
    with safetensors.safe_open(path, "pt") as opened:
        facts = dict(opened.metadata() or {})
    return inflated(safetensors.torch.load_file(path), facts)


def load_critic(path: Path) -> Critic:
    """Return a critic of ``forge-train --save-critic``, in evaluation mode, differentiable.

    It takes images (N, 3, H, W) in [-1, 1] and says (N, 1, H/4, W/4): higher is more like a
    photograph.

    Raises:
        UserError: the file holds no such network.
    """
    with torch.random.fork_rng(devices=()):
        critic = Critic()
    try:
        state = _read(path)
        critic.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except Exception as error:
        raise UserError(f"{path}: not a critic of forge-train --save-critic: {error}") from error
    return critic.eval().requires_grad_(False)


def member_files(family: str, folder: Path | None = None, members: int | None = None) -> list[Path]:
    """Return the files of a family's members: ``<family>.safetensors``, ``<family>-2…``, in order.

    A family can have several networks that differ by the seed they were trained with, as a
    published generator has one a class; the forge lets them take turns. A variant such as
    ``progan-like--seed-2`` is one network. members: take the first so many.

    Raises:
        UserError: there is none.
    """
    first = (folder / f"{family}.safetensors") if folder else shipped_path(family)
    if not first.is_file():
        raise UserError(f"{first}: no weights for {family}; make them with forensift forge-train")
    files = [first]
    if SEPARATOR in family:
        return files
    while (following := first.with_name(f"{family}-{len(files) + 1}.safetensors")).is_file():
        files.append(following)
    return files[:members]


def load_generator(path: Path, family: str) -> nn.Module:
    """Return one member of a family in evaluation mode.

    Raises:
        UserError: the file holds another network or none.
    """
    try:
        with torch.random.fork_rng(devices=()):  # no draw of the user's for what is overwritten
            generator = get_family(family).generator(int(facts_of(path).get("member", 1)))
        state = unpacked(_read(path))
        generator.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except Exception as error:
        raise UserError(f"{path}: not the weights of {family}: {error}") from error
    return generator.eval().requires_grad_(False)


def facts_of(path: Path) -> dict[str, str]:
    """Return the facts that a generator was written with, without those on how it is coded.

    Raises:
        UserError: it is no safetensors file.
    """
    try:
        with safetensors.safe_open(path, "pt") as opened:
            facts = dict(opened.metadata() or {})
    except Exception as error:
        raise UserError(f"{path}: not weights of a generator: {error}") from error
    return {key: fact for key, fact in facts.items() if key != SHAPES}


def load_family(
    family: str, folder: Path | None = None, members: int | None = None
) -> list[nn.Module | None]:
    """Return the members of a family (the first so many), or a variant; for the identity, None.

    folder: where ``forge-train`` wrote them; by default the weights the project ships.
    """
    if not get_family(family).trained:
        return [None]
    return [load_generator(path, family) for path in member_files(family, folder, members)]


@torch.no_grad()
def varied(generator: nn.Module, strength: float, rng: np.random.Generator) -> nn.Module:
    """Return a copy, the convolutions of its decoder (or of all) scaled by 1 + strength · noise.

    A stand-in for training the family again with another seed: the up-sampling stays, the exact
    pattern it leaves changes. A detector that is trained on one network learns that network.
    """
    copied = copy.deepcopy(generator)
    for parameter in getattr(copied, "decoder", copied).parameters():
        if parameter.dim() == 4:
            noise = rng.standard_normal(tuple(parameter.shape), dtype=np.float32)
            parameter.mul_(1 + strength * torch.from_numpy(noise))
    return copied


@torch.no_grad()
def resynthesise(generator: nn.Module | None, image: np.ndarray) -> np.ndarray:
    """Return the fake (H, W, 3) uint8 of an image of the same size; a copy for the identity."""
    if generator is None:
        return image.copy()
    return to_uint8(generator(to_signed(image)))


def psnr_crops(photographs: Sequence[Path], side: int, seed: int) -> list[np.ndarray]:
    """Return four crops a photograph, uint8, ``side`` pixels and a margin all around."""
    crops = []
    for path in photographs:
        photo = read_photograph(path)
        for number in range(4):
            rng = keyed_short(seed, "psnr", path.name, number)
            crops.append(np.asarray(random_crop(photo, side + 2 * MARGIN, rng)))
    return crops


def psnr_of(generator: nn.Module, crops: Sequence[np.ndarray]) -> float:
    """Return the mean PSNR in dB of a generator's 8-bit fakes of ``psnr_crops``.

    Only the inside is compared, without the margin that the forge cuts off too.
    """
    values = []
    inside = (slice(MARGIN, -MARGIN),) * 2
    device = next(generator.parameters()).device
    for crop in crops:
        fake = to_uint8(generator(to_signed(crop).to(device)))
        error = np.mean((crop[inside].astype(float) - fake[inside].astype(float)) ** 2)
        values.append(10 * math.log10(255**2 / max(error, 1e-12)))
    return float(np.mean(values))
