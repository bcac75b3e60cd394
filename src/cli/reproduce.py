"""``forensift reproduce``: published figures against ours, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from . import options
from .reproduce_tff import COLOURS, reproduce_tff

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ..studies.suites import Published

STUDIES = ("tff", "wang", "npr")


def reproduce(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="tff, wang or npr.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="ForenSynths as published: <generator>/[<class>/]{0_real,1_fake}; npr: a folder "
            "with such test suites in it.",
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="DIR|FILE|NAME=FILE",
            help="The published weights: files (repeat the option), tff: or a folder; wang and "
            "npr: by default those that forensift ships. tff: a file is colour-robust if its path "
            "has the word CR, colour or grey; ARCH:CR=FILE says so. wang: 0.5=FILE and 0.1=FILE "
            "where the name does not tell. npr: SUITE=FILE for one suite.",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", metavar="NAME=DIR", help="npr: where a suite is, if its name does not tell."
        ),
    ] = None,
    crop: Annotated[
        bool | None,
        typer.Option(
            "--crop/--no-crop", help="wang: only with centre crop 224, or without. Default: both."
        ),
    ] = None,
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
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Use the first so many reals and fakes of each generator and class only.",
        ),
    ] = None,
    rank_per_class: Annotated[
        int, typer.Option("--rank-per-class", min=1, help="How many of each class are ranked on.")
    ] = 50,
    resume: Annotated[
        bool, typer.Option("--resume", help="Use the finished parts that are in --out.")
    ] = False,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/reproduce"),
) -> None:
    """Run the published protocol of a study and print published figures against ours.

    Example: `forensift reproduce tff --data CNN_synth_testset --rank-data progan_val
    --weights weights`, `forensift reproduce npr --data datasets --weights NPR.pth`

    wang: the thirteen test sets, classes pooled, with and without centre crop. npr: every test
    suite found below DIR by its own resize rule, and the AIGCDetectBenchmark table of 16
    generators and 11 methods with our column. Both write `STUDY.csv` (percent), `STUDY.md`,
    `scores.parquet`, `manifest.json`, `skipped.csv` and `parts`; wang also the published results
    file of each weights in `published-layout`, npr the published tables with our figures.

    tff: feature-map dropout at k = 114 / 27 at native size with thresholds calibrated as
    published, AP on RGB and grey of baseline and colour-robust detectors, and the percentage of
    colour-conditional maps. Generators that are not in the data are reported.

    It writes `reproduction.csv` (percent, with 95 % intervals and a verdict a cell),
    `reproduction.md`, `manifest.json`, `skipped.csv`, `scores.parquet`, for each detector
    `dropout.csv`, `dropout_summary.csv`, `dropped.csv`, `median_test.csv`, the
    ranking if it is our own, the figures `reproduction-<table>` and `dropout`, and the `parts`.
    """
    if study not in STUDIES:
        raise UserError(f"no study {study!r}; there are {', '.join(STUDIES)}")
    from .. import studies

    given = weights or []
    protocol = studies.Protocol(
        ranking or ("own" if rank_data is not None else "published"),
        draws,
        limit,
        rank_per_class,
        batch_size,
        seed,
        max_skipped,
    )
    if study == "tff":
        reproduce_tff(
            data, given, rank_data, protocol, _words(arch), _words(generators), _words(tables),
            resume=resume, device=device, out=out,
        )  # fmt: skip
        return
    from ..studies import suites as protocols

    chosen = options.choose_device(device)
    how: dict[str, Any] = {"protocol": protocol, "device": chosen, "resume": resume}
    output = options.output_folder(out)
    with options.skipped_images(output) as skipped, options.steps("reproducing") as told:
        how |= {"told": told, "skipped": skipped}
        if study == "wang":
            inputs: tuple[str, ...] = (protocols.CROP, protocols.NO_CROP)
            if crop is not None:
                inputs = inputs[:1] if crop else inputs[1:]
            found = protocols.wang_weights(given)
            result = protocols.reproduce_wang(data, found, output, inputs=inputs, **how)
        else:
            places = _folders(suite or [])
            by_suite = protocols.weights_by_suite(given)
            result = protocols.reproduce_npr(data, by_suite, output, suites=places, **how)
        skipped[:] = result.skipped  # each once, though two inputs may have met it
    _save(result, output)
    console = options.console()
    for title, rows in result.shown:
        console.print(_rich(rows, title))
    for note in result.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    print(f"{result.facts['used']} images used, {len(result.skipped)} skipped; tables in {output}")


def _folders(given: list[str]) -> dict[str, Path]:
    """Return the folder of each ``--suite NAME=DIR``."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (equals and folder):
            raise UserError(f"--suite {text}: say NAME=DIR")
        found[name.lower()] = Path(folder)
    return found


def _save(result: Published, output: Path) -> None:
    """Write what ``reproduce wang`` and ``reproduce npr`` found."""
    from ..files import write_bytes, write_csv, write_manifest, write_with

    write_csv(output / f"{result.name}.csv", result.table)
    for name, table in result.tables.items():
        write_csv(output / name, table)
    for name, text in result.texts.items():
        write_bytes(output / name, text.encode())
    write_bytes(output / f"{result.name}.md", result.markdown().encode())
    scores = result.scores
    write_with(output / "scores.parquet", lambda path: scores.to_parquet(path, index=False))
    write_manifest(output, result.facts)


def _rich(rows: pd.DataFrame, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    for at, head in enumerate(rows.columns):
        drawn.add_column(escape(str(head)), justify="right" if at else "left", no_wrap=True)
    for row in rows.astype(str).to_dict("records"):
        drawn.add_row(*map(escape, row.values()), style=COLOURS.get(str(row.get("verdict"))))
    return drawn


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
