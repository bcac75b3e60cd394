"""``forensift transfer``: are the maps that matter on one generator those that matter on others?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import Run, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..sensitivity import Transfer


@verb
def transfer(
    run: Run,
    k: options.K,
    rank_data: Annotated[
        Path | None,
        typer.Option(
            "--rank-data",
            metavar="DIR",
            help="Images to rank on. Default: one half of --data, by file name; the other half is "
            "dropped on.",
        ),
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            help="Rank on fakes that have at least this probability, 0.5 to 1.",
        ),
    ] = 0.9,
    composite: options.Composite = "beta0",
    units: options.Units = "neurons",
    draws: Annotated[
        int,
        typer.Option("--draws", min=0, help="Of the layer-matched random control of each row."),
    ] = 5,
    training_family: options.TrainingFamily = None,
    cluster: options.Cluster = "photograph",
) -> Transfer:
    """Rank the feature maps on each generator's fakes, drop the top k on every other, compare.

    Example: `forensift transfer resnet50 --data CNN_synth_testset --k 114`

    Writes `transfer.csv` (every pair: fall of AP with its interval, of the accuracies, change of
    the mean logits, and the same for random maps of the same layers), `agreement.csv` (Kendall's
    tau over all maps, Jaccard overlap of the top k, with intervals; two halves of one generator's
    images for comparison), `transferability.csv` (one figure a feature map: the geometric mean of
    omega over generators divided by the largest), `skipped.csv`, `manifest.json` and the figure
    `transfer`. A generator of which no fake is recognised confidently has no row.
    """
    from .. import sensitivity
    from ..detectors import with_units
    from ..fmap_ranking.look import check_options

    check_options("predicted", min_confidence)
    return sensitivity.transfer(
        with_units(run.loaded, units),  # type: ignore[arg-type]
        run.images,
        k,
        rank_images=scanned(rank_data) if rank_data is not None else None,
        min_confidence=min_confidence,
        composite=composite,
        draws=draws,
        training_family=training_family,
        cluster=cluster,  # type: ignore[arg-type]
        **run.how,
    )
