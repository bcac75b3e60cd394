"""``forensift dropout``: what a detector still knows without its top feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..sensitivity import DropoutResult


@verb
def dropout(
    run: Run,
    ranking: options.RankingCsv,
    k: options.K,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of each random control.")] = 20,
    magnitude_matched: Annotated[
        bool,
        typer.Option(
            "--magnitude-matched",
            help="Also draw maps that respond as strongly as the top k, whatever their layer.",
        ),
    ] = False,
    ks: Annotated[
        str,
        typer.Option(
            "--ks",
            metavar="auto|none|N,N,…",
            help="Where the AP(k) curve is computed; auto: from k/8 to 4k.",
        ),
    ] = "auto",
    band_draws: Annotated[
        int, typer.Option("--band-draws", min=0, help="Random draws at each k of the curve.")
    ] = 5,
    training_family: options.TrainingFamily = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            metavar="DIR",
            help="Other images to calibrate a threshold on; adds the columns ..._held_out.",
        ),
    ] = None,
) -> DropoutResult:
    """Zero the top k feature maps, and as many others, and measure every generator again.

    Example: `forensift dropout resnet50 --data CNN_synth_testset --ranking progan_val-fake.csv
    --k 114`

    Controls: random-k and layer-matched random-k (--draws seeded draws each, and the published
    AP of the scores averaged over five), low-k, and the lowest maps with omega above zero.
    Accuracies are at the threshold that suits the whole model best on the same images (as
    published, optimistic), and at 0.5. The change of the mean logit on fakes and on reals says
    what was removed: AP alone cannot.

    Writes `dropout.csv` (every draw), `dropout_summary.csv`, `ap_curve.csv`, `dropped.csv` (the
    feature maps of each mask), `scores.parquet` (every logit), `skipped.csv`, `manifest.json` and
    the figures `dropout` and `ap_curve`. AP and accuracies are fractions.
    """
    from .. import sensitivity
    from ..fmap_ranking import load_ranking

    return sensitivity.dropout(
        run.loaded,
        run.images,
        load_ranking(ranking),
        k,
        draws=draws,
        ks=_grid(ks),
        band_draws=band_draws,
        magnitude_matched=magnitude_matched,
        training_family=training_family,
        held_out=scanned(held_out) if held_out else None,
        **run.how,
    )


def _grid(ks: str) -> list[int] | None:
    if ks in ("auto", "none"):
        return None if ks == "auto" else []
    try:
        return [int(one) for one in ks.split(",")]
    except ValueError:
        raise UserError(f"--ks {ks}: give auto, none or numbers with commas between") from None
