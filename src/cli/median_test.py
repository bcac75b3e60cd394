"""``forensift median-test``: which of the top feature maps respond to colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..histograms import MedianTestResult


@verb
def median_test(
    run: Run,
    ranking: options.RankingCsv,
    k: options.K,
    generator: options.Generator = None,
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
    cluster: options.Cluster = "photograph",
) -> MedianTestResult:
    """Compare the spatial maxima of the top k feature maps on fakes in RGB and in grey.

    Example: `forensift median-test resnet50 --data CNN_synth_testset --generator stylegan2
    --ranking progan_val-fake.csv --k 114 --num-instances 500`

    Mood's median test at p ≤ 0.05 is the published criterion; beside it stand Benjamini and
    Hochberg's q, and paired tests with an effect size, for both samples come from the same images.
    Maps that never change are labelled dead. Every image goes through the network twice in all.

    Writes `median_test.csv`, `percentages.csv`, `maxima.parquet` (the samples),
    `densities.parquet`, `skipped.csv`, `manifest.json`, and the figures `histograms_GENERATOR`
    of the first 24 maps with their `legend` apart.
    """
    from .. import histograms
    from ..fmap_ranking import load_ranking

    return histograms.median_test(
        run.loaded,
        run.images,
        load_ranking(ranking),
        k,
        generator=generator,
        num_instances=num_instances,
        mode=mode,
        ties=ties,
        level=level,
        min_effect=min_effect,
        cluster=cluster,  # type: ignore[arg-type]
        **run.how,
    )
