"""``forensift attribute fingerprints``: train on patches of one place, test on all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .attribute_world import World
from .run import Out
from .verb import verb

if TYPE_CHECKING:
    from ..studies.dna_det import Fingerprints


@dataclass(kw_only=True)
class WorldRun(Out):
    """A run on the worlds of `forensift attribute forge`; writes into fingerprints/ below them."""

    data: World
    seed: options.Seed = 0

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {**super().facts(), "data": str(self.data)}


@verb
def fingerprints(
    run: WorldRun,
    patch: Annotated[int, typer.Option(min=8, help="Side of a patch.")] = 32,
    place: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="TOP LEFT", help="Trained on; by default the middle."),
    ] = None,
    stride: Annotated[
        int, typer.Option(min=4, help="Of the grid of test places; a multiple of 4.")
    ] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps a task.")] = 1500,
) -> Fingerprints:
    """Train on patches of one place, test on all: are a generator's traces the same everywhere?

    Example: `forensift attribute fingerprints --data runs/attribution`

    The empirical study of the DNA-Det paper (section 3), for two questions: which of four families
    made a patch (architecture), and which of four networks of one family that differ by the seed
    (weights). All classes get the same crops, of any part of any photograph: content is not
    aligned with places, as it is in the paper's faces.

    Writes `positions.csv` (accuracy at each place), `fingerprints.csv` (a row a task),
    `history.csv`, `fingerprints.pdf` and `.png`, and `manifest.json`.
    """
    from ..studies.dna_det import FINGERPRINTS, FingerprintSettings, study_fingerprints

    run.out = run.out or run.data / FINGERPRINTS
    settings = FingerprintSettings(patch, place, stride, steps, seed=run.seed)
    return study_fingerprints(
        run.data, settings, progress=lambda *done: run.tell("training on one place", *done)
    )
