"""``forensift attribute fingerprints``: train on patches of one place, test on all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .attribute_world import World


def fingerprints(
    data: World,
    patch: Annotated[int, typer.Option("--patch", min=8, help="Side of a patch.")] = 32,
    place: Annotated[
        tuple[int, int] | None,
        typer.Option("--place", metavar="TOP LEFT", help="Trained on; by default the middle."),
    ] = None,
    stride: Annotated[
        int, typer.Option("--stride", min=4, help="Of the grid of test places; a multiple of 4.")
    ] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps a task.")] = 1500,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="By default fingerprints/ below --data."),
    ] = None,
) -> None:
    """Train on patches of one place, test on all: are a generator's traces the same everywhere?

    Example: `forensift attribute fingerprints --data runs/attribution`

    The empirical study of the DNA-Det paper (section 3), for two questions: which of four families
    made a patch (architecture), and which of four networks of one family that differ by the seed
    (weights). All classes get the same crops, of any part of any photograph: content is not
    aligned with places, as it is in the paper's faces.

    Writes `positions.csv` (accuracy at each place), `fingerprints.csv` (a row a task),
    `history.csv`, `fingerprints.pdf` and `.png`, and `manifest.json`.
    """
    from .. import figures
    from ..files import write_csv, write_manifest
    from ..studies.dna_det import (
        FINGERPRINTS,
        FingerprintSettings,
        fingerprints_said,
        study_fingerprints,
    )

    settings = FingerprintSettings(patch=patch, place=place, stride=stride, steps=steps, seed=seed)
    output = options.output_folder(out or data / FINGERPRINTS)
    with options.steps("training on one place") as progress:
        found = study_fingerprints(data, settings, progress=progress)
    write_csv(output / "positions.csv", found.positions)
    write_csv(output / "fingerprints.csv", found.summary)
    write_csv(output / "history.csv", found.history)
    chances = found.summary.set_index("task")["chance"].to_dict()
    drawn = figures.plot_fingerprints(found.positions, found.facts, chances)
    figures.save(drawn, output, "fingerprints")
    write_manifest(output, {"data": str(data), **found.facts})
    print(fingerprints_said(found.summary))
    print(f"tables and figures in {output}")
