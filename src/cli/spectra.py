"""``forensift spectra``: average spectra and noise residuals of reals and fakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import OnImages
from .verb import verb

if TYPE_CHECKING:
    from ..evaluation import Spectra


@verb
def spectra(
    run: OnImages,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=32,
            metavar="PIXELS",
            help="Side of the central square that is looked at, even. Default: the largest that "
            "all images hold, at most 256.",
        ),
    ] = None,
    cluster: options.Cluster = "photograph",
) -> Spectra:
    """Draw the mean spectrum of reals and fakes, and name periodic traces; no detector is needed.

    Example: `forensift spectra --data CNN_synth_testset --out output/spectra`

    Of each image the central square is taken as it is, no pixel resampled: the power of its
    brightness at every frequency, and of what a 3 × 3 median filter leaves, its noise. Up-sampling
    leaves periods of 2, 4, 8 … pixels; each period is tested against the reals, photograph by
    photograph, corrected by Holm. What tells fakes apart here need not be what a detector looks at.

    Writes `radial.csv` (power along frequency), `peaks.csv` (each period: how far it stands above
    its surroundings), `spectra.npz` (the mean spectra), `spectra.png`, `radial.png`, `skipped.csv`
    and `manifest.json`.
    """
    from .. import evaluation

    return evaluation.spectra(
        run.images,
        size=size,
        cluster=cluster,  # type: ignore[arg-type]
        **run.how,
    )
