"""Critics: differentiable networks whose gradient at an image is what LGrad looks at."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..files import home, sha256
from ..forge.generators import load_critic as forge_critic
from . import stylegan_discriminator
from .building import copied, digest
from .checkpoints import load_strictly, read_checkpoint

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, eq=False, repr=False)
class Critic:
    """A critic and where it came from.

    score: takes images (N, 3, H, W) in [-1, 1], returns scores of any shape, differentiable; all of
    them are summed. side: the only side of an image that it takes, None for any.
    sha256: of its weights file, '' where there is none; its gradient images are then not kept on
    disk, since nothing says when they would be out of date.
    """

    name: str
    score: Callable[[torch.Tensor], torch.Tensor]
    sha256: str = ""
    side: int | None = None

    def __repr__(self) -> str:
        return f"Critic({self.name!r}, {self.sha256[:16] or self._source()!r}, side={self.side})"

    def _source(self) -> str:
        """Return a digest of a critic without a file, the same in every process."""
        if isinstance(self.score, nn.Module):
            return digest(self.score)[:16]
        try:
            text = inspect.getsource(self.score)
        except (OSError, TypeError):
            text = getattr(self.score, "__qualname__", type(self.score).__qualname__)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def facts(self) -> dict[str, str]:
        """What a manifest says of the critic."""
        return {"name": self.name, "sha256": self.sha256}

    def to(self, device: torch.device) -> None:
        """Move the critic to where the images are, if it is a network."""
        if isinstance(self.score, nn.Module):
            self.score.to(device)


def shipped_critic() -> Path:
    """Return where the project keeps the critic that its own LGrad weights belong to."""
    return home() / "weights" / "lgrad-critic.safetensors"


def load_critic(source: Path | str | None = None) -> Critic:
    """Return a critic in evaluation mode, its weights frozen.

    source: a weights file, either the published StyleGAN discriminator (bedrooms, 256 × 256) or the
    critic of one of the forge's families (``forge-train --save-critic``); or ``module:name``, a
    differentiable callable from images in [-1, 1] to scores. By default the project's own critic.

    Raises:
        UserError: no such file or callable, or weights of another network.
    """
    if source is None and not shipped_critic().is_file():
        raise UserError("no critic of lgrad is shipped; name one: --preset lgrad:FILE")
    path = Path(source) if source is not None else shipped_critic()
    if not path.is_file() and _CALLABLE.fullmatch(str(source)):
        return given_critic(_imported(str(source)), str(source))
    state, _, facts = read_checkpoint(path)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    side = None
    network: nn.Module
    if stylegan_discriminator.recognises(shapes):
        network, side = stylegan_discriminator.StyleGANDiscriminator(), stylegan_discriminator.SIDE
        load_strictly(network, state, path)
    else:
        network = forge_critic(path)
    name = facts.get("family", path.stem)
    return Critic(name, network.eval().requires_grad_(False), sha256(path), side)


def given_critic(score: Callable[[torch.Tensor], torch.Tensor], name: str) -> Critic:
    """Return any differentiable callable as a critic; ``name`` is what outputs call it.

    Of a network a copy is taken, in evaluation mode and with frozen weights.
    """
    if isinstance(score, nn.Module):
        score = copied(score, f"critic {name}").requires_grad_(False)
    return Critic(name, score)


def _imported(source: str) -> Any:
    module, name = source.split(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"critic {source}: cannot be imported: {error}") from None
    if not callable(found):
        raise UserError(f"critic {source}: is no function or network")
    return found
