"""``forensift study``: everything about one detector, on one's own images, on one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import Run, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..studies.own import OwnStudy


@verb
def study(
    run: Run,
    rank_data: Annotated[
        Path | None,
        typer.Option(
            "--rank-data",
            metavar="DIR",
            help="Images to rank feature maps on. Default: a third of the photographs of --data, "
            "which are then not looked at.",
        ),
    ] = None,
    ks: Annotated[
        str,
        typer.Option(
            "--k",
            metavar="N,N",
            help="How many feature maps are dropped. Default: as published of the architecture, "
            "else 0.5 % of them.",
        ),
    ] = "",
    trained_on: Annotated[
        str | None,
        typer.Option(
            "--trained-on",
            metavar="GENERATOR",
            help="The generator that the detector was trained on, set apart from unseen ones.",
        ),
    ] = None,
    per_generator: Annotated[
        int,
        typer.Option(
            "--per-generator",
            min=0,
            help="Most reals and most fakes of each generator, drawn by photograph; 0 takes all.",
        ),
    ] = 100,
    draws: Annotated[int, typer.Option("--draws", min=2, help="Of each random control.")] = 5,
) -> OwnStudy:
    """Ask one detector everything on your own images, and make one page of it.

    Example: `forensift study resnet50=mine.pth --data my-images --out output/study`

    Evaluation, ranking, dropout with its controls, colour, median tests, patches, t-SNE, the
    transfer matrix, explanations and tests of them, robustness: as the demo does on what forensift
    carries. What does not fit the detector or the images is left out, and the page says why; the
    rest goes on. With `--resume` an interrupted study goes on where it was.

    Writes a folder DETECTOR/STAGE a result, with the files of the verb of that name, and
    `index.html` and `manifest.json`.
    """
    from ..studies.own import study as asked
    from ..studies.stages import Scale

    numbers = options.numbers("--k", ks)  # before anything is loaded
    return asked(
        run.folder,
        run.loaded,
        run.images,
        rank_images=scanned(rank_data) if rank_data else None,
        ks=numbers,
        trained_on=trained_on,
        per_generator=per_generator,
        scale=replace(Scale(), draws=draws),
        say=run.say,
        **run.how,
    )
