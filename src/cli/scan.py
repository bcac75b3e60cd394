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
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder of images, a ZIP, TAR or parquet of them (nothing is unpacked), or a "
            "CSV, TSV, JSON or JSONL that lists them.",
        ),
    ],
    layout: Annotated[
        str,
        typer.Option(
            help="Take only this layout: forensynths, genimage, real-fake (the folder above the "
            "label names the generator), label-first (the one below it does), shared-reals … auto "
            "knows them all and asks where two fit."
        ),
    ] = "auto",
    reals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of reals, in this one or elsewhere, for all generators that have none.",
        ),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            "--map",
            metavar="OWN=NAME,…",
            help="What a table calls path, label, generator, class: filename=path,typ=generator.",
        ),
    ] = "",
    real_values: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="A table's labels that mean real: real,REAL,0. All others are then fake.",
        ),
    ] = "",
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
    - `<generator>/{real,fake}/*`, also `natural`, `original`, `synthetic`, `generated` …
    - `real/*` beside `fake/<generator>/*`, or beside folders of generators
    - `<pool>/0_real/*` beside `<generator>/1_fake/*`, or any folders of generators with `--reals`
    - the same in a ZIP or TAR; WebDataset shards; parquets of images with labels
    - a CSV with the columns `path,label,generator,class` (label 0 real, 1 fake; a path is
      relative to the CSV), which is also what this command writes

    Example: `forensift scan CNN_synth_testset --out output/scan`

    `skipped.csv` names the files that are no images, judged by their headers.

    With `--audit` also: `formats.csv` (what each file's header says), `format_counts.csv` (per
    generator and label) and `format_audit.csv` (how well a classifier tells reals from fakes by
    these facts, on files held out).
    """
    from ..evaluation import survey

    pairs = [one.partition("=")[::2] for one in columns.split(",") if one]
    return survey(
        folder,
        layout,
        reals=reals,
        columns=dict(pairs),
        real_values=[one for one in real_values.split(",") if one],
        audit=audit,
        seed=seed,
        relative_to=run.folder,
        tell=run.tell,
    )
