"""What a generator's training goes on from after it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..files import sha256, write_with


class Checkpoint:
    """What a training goes on from: networks, optimisers and history at a tenth of the steps."""

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity

    def restore(self, train_on: Any) -> tuple[int, list[dict[str, float]], float]:
        """Return steps done, the history's rows and the seconds they took; nothing: 0, [], 0."""
        if self.path is None or not self.path.is_file():
            return 0, [], 0.0
        found = torch.load(self.path, map_location="cpu", weights_only=True)
        if found["identity"] != self.identity:
            raise UserError(
                f"{self.path} is of a training with other settings or photographs; delete it or "
                "give another --out"
            )
        for name, network in _networks(train_on).items():
            network.load_state_dict(found[name])
        for optimiser, state in zip(train_on.optimisers, found["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        return found["step"], found["rows"], found["seconds"]

    def write(self, train_on: Any, step: int, rows: list[dict[str, float]], seconds: float) -> None:
        if self.path is None:
            return
        content: dict[str, Any] = {"identity": self.identity, "step": step, "rows": rows}
        content["seconds"] = seconds
        content["optimisers"] = [one.state_dict() for one in train_on.optimisers]
        content |= {name: one.state_dict() for name, one in _networks(train_on).items()}
        write_with(self.path, lambda out: torch.save(content, out))


def _networks(train_on: Any) -> dict[str, nn.Module]:
    found = {"generator": train_on.generator, "critic": getattr(train_on, "critic", None)}
    return {name: network for name, network in found.items() if network is not None}


def identity_of(
    family: str,
    photographs: Sequence[Path],
    held_out: Sequence[Path],
    settings: Any,
    start: nn.Module | None,
) -> dict[str, Any]:
    """Return all that decides how a training ends, as plain values."""
    digest = hashlib.sha256()
    for tensor in start.state_dict().values() if start is not None else ():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "family": family,
        "photographs": [sha256(path) for path in photographs],
        "held_out": [sha256(path) for path in held_out],
        "settings": asdict(settings),
        "start": digest.hexdigest() if start is not None else "",
    }
