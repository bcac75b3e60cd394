"""``forensift median-test``: which of the top feature maps respond to colour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def median_test(
    detector: options.Detector,
    data: options.Data,
    ranking: Annotated[
        Path,
        typer.Option("--ranking", metavar="CSV", help="The -fake.csv of `forensift rank`."),
    ],
    k: Annotated[
        int,
        typer.Option("--k", min=1, help="Feature maps to test; published 114 (resnet50), 27 (b0)."),
    ],
    weights: options.Weights = None,
    preset: options.PresetName = None,
    generator: Annotated[
        str | None,
        typer.Option("--generator", metavar="NAME", help="The only one to test. Default: each."),
    ] = None,
    num_instances: Annotated[
        int | None,
        typer.Option(
            "--num-instances",
            min=1,
            help="The first so many fakes of each class; published 500. Default: all.",
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="What RGB is compared with; see colour."),
    ] = "grey",
    ties: Annotated[
        str,
        typer.Option(
            metavar="below|above|ignore",
            help="What Mood's test does with values equal to the grand median; published below.",
        ),
    ] = "below",
    level: Annotated[
        float, typer.Option("--level", min=0.0, max=1.0, help="Of p and q; published 0.05.")
    ] = 0.05,
    min_effect: Annotated[
        float,
        typer.Option(
            "--min-effect",
            min=0.0,
            help="Least |effect| of the strictest criterion, in interquartile ranges of RGB.",
        ),
    ] = 0.1,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/median-test"),
) -> None:
    """Compare the spatial maxima of the top k feature maps on fakes in RGB and in grey.

    Example: `forensift median-test resnet50 --data CNN_synth_testset --generator stylegan2
    --ranking progan_val-fake.csv --k 114 --num-instances 500`

    Mood's median test at p ≤ 0.05 is the published criterion; beside it stand Benjamini and
    Hochberg's q, and paired tests with an effect size, for both samples come from the same images.
    Maps that never change are labelled dead. Every image goes through the network twice in all.

    Writes `median_test.csv`, `percentages.csv`, `maxima.parquet` (the samples),
    `densities.parquet`, `skipped.csv`, `manifest.json`, and the figures `histograms_GENERATOR_PAGE`
    with their `legend` apart.
    """
    from .. import figures, histograms
    from ..data import scan
    from ..data.colour import parse_mode
    from ..detectors import load_detector
    from ..files import sha256, write_csv, write_manifest, write_with
    from ..fmap_ranking import load_ranking
    from ..records import FAKE

    parse_mode(mode)
    ranked = load_ranking(ranking, label=FAKE)
    images = scan(data)
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    total = len(images.only(label=FAKE, generator=generator))
    with (
        options.skipped_images(output) as skipped,
        options.progress("looking at feature maps", total) as advance,
    ):
        result = histograms.median_test(
            loaded,
            images,
            ranked,
            k,
            generator=generator,
            num_instances=num_instances,
            mode=mode,
            ties=ties,
            level=level,
            min_effect=min_effect,
            batch_size=batch_size,
            seed=seed,
            max_skipped=max_skipped,
            skipped=skipped,
            progress=advance,
        )
    write_csv(output / "median_test.csv", result.table)
    write_csv(output / "percentages.csv", result.percentages)
    samples, curves = result.maxima.table(), result.densities()
    write_with(output / "maxima.parquet", lambda path: samples.to_parquet(path, index=False))
    write_with(output / "densities.parquet", lambda path: curves.to_parquet(path, index=False))
    for name in result.maxima.images.generators:
        own = curves[curves["generator"] == name]
        tests = result.table[result.table["generator"] == name]
        pages = figures.plot_densities(own, tests, title=f"{loaded.name}, fakes of {name}")
        for number, page in enumerate(pages, start=1):
            safe = name.replace("/", "-")
            figures.save(page, output, f"histograms_{safe}_{number:02d}")
    figures.save(figures.plot_density_legend(result.maxima.modes), output, "legend")
    used = len(result.maxima.images)
    facts = {
        **options.studied(loaded, images),
        "used": used,
        "skipped": len(skipped),
        "ranking": {"file": str(ranking), "sha256": sha256(ranking), "start": ranked.start},
        "batch_size": batch_size,
        **result.facts,
    }
    write_manifest(output, facts)
    title = f"{loaded.name}: colour-conditional among the top {k} feature maps"
    options.console().print(printed(result.percentages, title))
    print(f"percent [95 % intervals]; {mode} against rgb on {used} fakes, {len(skipped)} skipped")
    print(f"tables in {output}")


def printed(percentages: pd.DataFrame, title: str) -> Table:
    """Return ``percentages.csv`` for people: generators down, criteria across."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    drawn.add_column("generator", no_wrap=True)
    for head in dict.fromkeys(percentages["criterion"]):
        drawn.add_column(str(head), justify="right")
    drawn.add_column("dead maps", justify="right")
    for generator, rows in percentages.groupby("generator", sort=False):
        cells = [
            f"{100 * row['share']:.1f} \\[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            for row in rows.to_dict("records")
        ]
        drawn.add_row(escape(str(generator)), *cells, str(rows["dead"].iloc[0]))
    return drawn
