"""``forensift reproduce``: published figures against ours, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

STUDIES = ("tff",)
COLOURS = {"inside the interval": "green", "outside the interval": "red"}


def reproduce(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="tff.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="ForenSynths as published: <generator>/[<class>/]{0_real,1_fake}.",
        ),
    ],
    weights: Annotated[
        list[str],
        typer.Option(
            "--weights",
            metavar="DIR|FILE|ARCH[:CR]=FILE",
            help="The published weights: a folder, or files (repeat the option). A file is "
            "colour-robust if its path has the word CR, colour or grey; ARCH:CR=FILE says so.",
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
    --weights weights`

    tff: feature-map dropout at k = 114 / 27 at native size with thresholds calibrated as
    published, AP on RGB and grey of baseline and colour-robust detectors, and the percentage of
    colour-conditional maps. Generators that are not in the data are reported.

    Writes `reproduction.csv` (percent, with 95 % intervals and a verdict a cell),
    `reproduction.md`, `manifest.json`, `skipped.csv`, `scores.parquet`, for each detector
    `dropout.csv`, `dropout_summary.csv`, `dropped.csv`, `median_test.csv`, the
    ranking if it is our own, the figures `reproduction-<table>` and `dropout`, and the `parts`.
    """
    if study not in STUDIES:
        raise UserError(f"no study {study!r}; there is {', '.join(STUDIES)}")
    from .. import figures, report
    from ..data import scan
    from ..files import write_bytes, write_csv, write_manifest, write_with
    from ..fmap_ranking import save_ranking
    from ..records import Skipped, skipped_table

    chosen_tables = _words(tables) or list(report.TABLES)
    found = report.find_weights(weights)
    images = scan(data)
    ranked = scan(rank_data) if rank_data is not None else None
    protocol = report.Protocol(
        ranking or ("own" if ranked is not None else "published"),
        draws,
        limit,
        rank_per_class,
        batch_size,
        seed,
        max_skipped,
    )
    chosen_device = options.choose_device(device)
    output = options.output_folder(out)
    skipped: list[Skipped] = []
    with options.steps("reproducing") as told:
        try:
            result = report.reproduce_tff(
                images,
                found,
                output,
                archs=_words(arch),
                tables=chosen_tables,
                generators=_words(generators),
                rank_images=ranked,
                protocol=protocol,
                device=chosen_device,
                resume=resume,
                told=told,
                skipped=skipped,
            )
        finally:
            write_csv(output / "skipped.csv", skipped_table(dict.fromkeys(skipped)))
    write_csv(output / "reproduction.csv", result.cells)
    text = report.reproduction_markdown(result.cells, result.notes)
    write_bytes(output / "reproduction.md", text.encode())
    scores = result.scores
    if len(scores):
        write_with(output / "scores.parquet", lambda path: scores.to_parquet(path, index=False))
    for name, table in result.dropout.items():
        write_csv(output / name / "dropout.csv", table)
        write_csv(output / name / "dropout_summary.csv", result.summary[name])
        write_csv(output / name / "dropped.csv", result.dropped[name])
        title = f"{name}: {result.facts['k'][name]} feature maps dropped"
        figure = figures.plot_dropout(result.summary[name], title=title)
        figures.save(figure, output / name, "dropout")
    for name, table in result.median_test.items():
        write_csv(output / name / "median_test.csv", table)
    for name, kinds in result.rankings.items():
        for kind, one in kinds.items():
            save_ranking(one, output / name / f"progan_val-{kind}.csv")
    drawn = result.cells[result.cells["ours"].notna() & result.cells["published"].notna()]
    for name in set(drawn["table"]) & set(report.TABLES):
        figures.save(figures.plot_reproduction(drawn, name), output, f"reproduction-{name}")
    write_manifest(output, result.facts)
    console = options.console()
    measured = result.cells[result.cells["ours"].notna()]
    for name, own in measured.groupby("table", sort=False):
        console.print(_printed(report.shown_rows(own), str(name)))
    console.print(report.tally(result.cells), markup=False, highlight=False)
    for note in result.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    print(f"{result.facts['used']} images used, {len(result.skipped)} skipped; tables in {output}")


def _printed(rows: pd.DataFrame, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    same = [
        head for head in ("input", "generator", "mask", "quantity") if len(set(rows[head])) == 1
    ]
    shown = rows.drop(columns=same)
    said = ", ".join([title, *(str(rows[head].iloc[0]) for head in same)])
    drawn = Table(title=escape(said), title_justify="left")
    for head in shown.columns:
        right = head in ("published", "ours [95 %]", "difference")
        drawn.add_column(escape(head), justify="right" if right else "left", no_wrap=right)
    for row in shown.astype(str).to_dict("records"):
        drawn.add_row(*map(escape, row.values()), style=COLOURS.get(row["verdict"]))
    return drawn


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
