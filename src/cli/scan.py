"""``forensift scan``: what is in a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import Out
from .verb import verb

if TYPE_CHECKING:
    from ..evaluation import Found


@verb
def scan(
    run: Out,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of images, or a CSV manifest.")
    ],
    layout: Annotated[
        str,
        typer.Option(help="auto, forensynths, genimage, real-fake or csv; auto knows them all."),
    ] = "auto",
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Say whether the files alone (format, size, JPEG quality, chroma subsampling) "
            "tell reals from fakes, so that a detector may have learnt them.",
        ),
    ] = False,
    seed: options.Seed = 0,
) -> Found:
    """Find images and their labels, print what is there, write `manifest.csv`.

    Layouts that are recognised by themselves:

    - `<generator>/[<class>/]{0_real,1_fake}/*`, or a folder of such (ForenSynths)
    - `<generator>/[train|val/]{nature,ai}/*` (GenImage)
    - `<generator>/{real,fake}/*`
    - a CSV with the columns `path,label,generator,class` (label 0 real, 1 fake; a path is
      relative to the CSV), which is also what this command writes

    Example: `forensift scan CNN_synth_testset --out output/scan`

    `skipped.csv` names the files that are no images, judged by their headers.

    With `--audit` also: `formats.csv` (what each file's header says), `format_counts.csv` (per
    generator and label) and `format_audit.csv` (how well a classifier tells reals from fakes by
    these facts, on files held out).
    """
    from ..evaluation import survey

    return survey(folder, layout, audit=audit, seed=seed, relative_to=run.folder, tell=run.tell)
