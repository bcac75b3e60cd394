"""``forensift reproduce``: published figures against ours, a command a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .run import Sweeping
from .verb import verb

if TYPE_CHECKING:
    from ..studies.suites import Published
    from ..studies.tff import Reproduction

app = typer.Typer(
    help="Run a published protocol and print published figures against ours, cell by cell.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

ForenSynths = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="ForenSynths as published: GENERATOR/[CLASS/]{0_real,1_fake}.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="Use the first so many reals and fakes of each generator and class only.",
    ),
]


@verb
def reproduce_tff(
    run: Sweeping,
    data: ForenSynths,
    weights: Annotated[
        list[str],
        typer.Option(
            "--weights",
            metavar="DIR|FILE|ARCH:CR=FILE",
            help="The published weights: files (repeat the option) or a folder. A file is "
            "colour-robust if its path has the word CR, colour or grey, or if ARCH:CR=FILE says "
            "so.",
        ),
    ],
    rank_data: Annotated[
        Path | None,
        typer.Option("--rank-data", metavar="DIR", help="progan_val, to compute the ranking anew."),
    ] = None,
    ranking: Annotated[
        str,
        typer.Option(
            metavar="published|own",
            help="Which ranking to drop by. Default: own where --rank-data is given.",
        ),
    ] = "",
    arch: Annotated[
        str, typer.Option("--arch", metavar="A,B", help="Which detectors.")
    ] = "resnet50,efficientnet-b0",
    generators: Annotated[
        str, typer.Option("--generators", metavar="A,B", help="Default: all published ones.")
    ] = "",
    tables: Annotated[
        str,
        typer.Option(
            "--tables",
            metavar="A,B",
            help="dropout, colour-robust, median-test, cnndetection (the ResNet-50 in Wang et "
            "al.'s table: are weights and images the published ones?). Default: all.",
        ),
    ] = "",
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Of each random control; published 5.")
    ] = 20,
    limit: Limit = None,
    rank_per_class: Annotated[
        int, typer.Option("--rank-per-class", min=1, help="How many of each class are ranked on.")
    ] = 50,
) -> Reproduction:
    """The study of transferable forensic features (ECCV 2022), on ForenSynths.

    Example: `forensift reproduce tff --data CNN_synth_testset --rank-data progan_val
    --weights weights`

    Feature-map dropout at k = 114 / 27 at native size with thresholds calibrated as published, AP
    on RGB and grey of baseline and colour-robust detectors, and the percentage of
    colour-conditional maps. Generators that are not in the data are reported.

    Writes `reproduction.csv` (percent, with 95 % intervals and a verdict a cell),
    `reproduction.md`, `scores.parquet`, for each detector `dropout.csv`, `dropout_summary.csv`,
    `dropped.csv`, `median_test.csv`, the ranking if it is our own, and the figures.
    """
    from ..data import scan
    from ..studies.tff import TABLES, Protocol, find_weights
    from ..studies.tff import reproduce_tff as reproduce

    if ranking == "own" and rank_data is None:
        raise UserError("--ranking own: computes it on the ProGAN validation set (--rank-data)")
    chosen = ranking or ("own" if rank_data is not None else "published")
    return reproduce(
        scan(data),
        find_weights(weights),
        archs=_words(arch),
        tables=_words(tables) or list(TABLES),
        generators=_words(generators),
        rank_images=scan(rank_data) if rank_data is not None else None,
        protocol=Protocol(chosen, draws, limit, rank_per_class),
        device=run.chosen_device,
        **run.how,
    )


@verb
def reproduce_wang(
    run: Sweeping,
    data: ForenSynths,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="FILE|0.5=FILE",
            help="Weights (repeat the option); 0.5=FILE and 0.1=FILE where the name does not tell "
            "the Blur+JPEG variant. Default: those that forensift ships.",
        ),
    ] = None,
    crop: Annotated[
        bool | None,
        typer.Option(
            "--crop/--no-crop", help="Only with centre crop 224, or without. Default: both."
        ),
    ] = None,
    limit: Limit = None,
) -> Published:
    """CNN-generated images (Wang et al. 2020): thirteen test sets, with and without crop.

    Example: `forensift reproduce wang --data CNN_synth_testset --weights blur_jpg_prob0.5.pth`

    Writes `wang.csv` (percent), `wang.md`, `scores.parquet`, and the published results file of
    each weights in `published-layout`.
    """
    from ..studies import suites

    inputs = {None: (suites.CROP, suites.NO_CROP), True: (suites.CROP,), False: (suites.NO_CROP,)}
    return suites.reproduce_wang(
        data,
        suites.wang_weights(weights or []),
        inputs=inputs[crop],
        limit=limit,
        device=run.chosen_device,
        **run.how,
    )


@verb
def reproduce_npr(
    run: Sweeping,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with test suites in it.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="FILE|SUITE=FILE",
            help="Weights; SUITE=FILE for one suite. Default: those that forensift ships.",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", metavar="NAME=DIR", help="Where a suite is, if its name does not tell."
        ),
    ] = None,
    limit: Limit = None,
) -> Published:
    """NPR (Tan et al. 2024): every test suite found below DIR, by its own resize rule.

    Example: `forensift reproduce npr --data datasets --weights NPR.pth`

    Writes `npr.csv` (percent), `npr.md`, `scores.parquet`, and the published tables with our
    figures, among them AIGCDetectBenchmark's 16 generators and 11 methods.
    """
    from ..studies import suites

    return suites.reproduce_npr(
        data,
        suites.weights_by_suite(weights or []),
        suites=_folders(suite or []),
        limit=limit,
        device=run.chosen_device,
        **run.how,
    )


app.command("tff")(reproduce_tff)
app.command("wang")(reproduce_wang)
app.command("npr")(reproduce_npr)


def _folders(given: list[str]) -> dict[str, Path]:
    """Return the folder of each ``--suite NAME=DIR``."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (equals and folder):
            raise UserError(f"--suite {text}: say NAME=DIR")
        found[name.lower()] = Path(folder)
    return found


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
