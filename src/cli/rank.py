"""``forensift rank``: which feature maps hold the relevance of a detector's decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..fmap_ranking import Rankings

LABELS = {"both": ("fake", "real"), "fake": ("fake",), "real": ("real",)}


@verb
def rank(
    run: Run,
    label: Annotated[
        str, typer.Option(metavar="both|fake|real", help="Which images to rank on.")
    ] = "both",
    start: Annotated[
        str,
        typer.Option(
            metavar="predicted|published",
            help="Relevance at the logit: +1 for every image, so that evidence for the decision is "
            "positive; or -1 on reals, as published. Fakes are the same under both.",
        ),
    ] = "predicted",
    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            help="Use images whose true class has at least this probability, 0.5 to 1.",
        ),
    ] = 0.9,
    composite: options.Composite = "beta0",
    units: options.Units = "neurons",
    name: Annotated[
        str, typer.Option("--name", help="Of the set, in file names. Default: the folder's.")
    ] = "",
) -> Rankings:
    """Rank all feature maps by FF-RS omega: their mean share of their layer's relevance (LRP).

    Example: `forensift rank resnet50 --data progan_val --preset tff-ffrs --start published`

    Writes `<set>-fake.csv` and `<set>-real.csv` (key,mean_relevance, the published format; of
    another composite than beta0 `<set>-COMPOSITE-fake.csv`: that is another ranking),
    `ranking.parquet` (with standard errors, omega x width and 95 % rank intervals), `skipped.csv`,
    `manifest.json` (images used, and left out by reason) and the figure `omega`.
    """
    if label not in LABELS:
        raise UserError(f"--label {label}: choose {', '.join(LABELS)}")
    from ..detectors import with_units
    from ..fmap_ranking import rankings
    from ..fmap_ranking.rank import check_options

    return rankings(
        with_units(run.loaded, units),  # type: ignore[arg-type]
        run.images,
        labels=LABELS[label],  # type: ignore[arg-type]
        start=check_options(start, min_confidence),
        min_confidence=min_confidence,
        composite=composite,
        name=name,
        **run.how,
    )
