"""Partial results on disk: a killed run goes on where it stopped, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import versions, write_bytes, write_with
from ..records import Skipped

State = Mapping[str, np.ndarray]


class Partials:
    """The finished shards of one pass, one file a shard, written whole or not at all.

    folder: that of all passes of a run; this one's is in it, named by what it does and by a digest
        of its plan, so that passes of other plans are never mixed up.
    plan: every fact that decides the numbers (image set, weights, preset, seed, batch size …);
        plain JSON.
    resume: use the shards that are there; otherwise they are thrown away.
    """

    def __init__(
        self, folder: Path, what: str, plan: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        facts = json.dumps({**plan, "versions": versions()}, default=str, sort_keys=True)
        self.plan = hashlib.sha256(facts.encode()).hexdigest()
        self.folder = Path(folder) / f"{what.replace(' ', '-')}-{self.plan[:12]}"
        if not resume:
            self.clear()
        write_bytes(self.folder / "plan.json", facts.encode())

    def read(self, shard: int) -> tuple[list[dict[str, np.ndarray]], list[Skipped]] | None:
        """Return the states and skipped images of a shard; None if it is missing or damaged."""
        try:
            # numpy leaves a torn file open if it opens it itself.
            with self._path(shard).open("rb") as opened, np.load(opened) as stored:
                if str(stored["plan"]) != self.plan:
                    return None
                skipped = [Skipped(Path(p), r) for p, r in json.loads(str(stored["skipped"]))]
                states: list[dict[str, np.ndarray]] = [{} for _ in range(int(stored["states"]))]
                for name in stored.files:
                    head, slash, key = name.partition("/")
                    if slash:
                        states[int(head)][key] = stored[name]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # a torn or tampered file is worth no more than a missing one
        return states, skipped

    def write(self, shard: int, states: Sequence[State], skipped: Sequence[Skipped]) -> None:
        """Keep the states of a finished shard; the same shard always gives the same bytes."""
        arrays: dict[str, Any] = {
            f"{i}/{key}": a for i, s in enumerate(states) for key, a in s.items()
        }
        arrays["plan"] = np.array(self.plan)
        arrays["states"] = np.array(len(states))
        arrays["skipped"] = np.array(json.dumps([[str(one.path), one.reason] for one in skipped]))

        def fill(path: Path) -> None:
            with path.open("wb") as opened:
                np.savez(opened, **arrays)

        write_with(self._path(shard), fill)

    def clear(self) -> None:
        """Remove the shards and the plan, and the folder if nothing else is in it."""
        if not self.folder.is_dir():
            return
        for path in (*self.folder.glob("shard-*.npz"), self.folder / "plan.json"):
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.npz"
