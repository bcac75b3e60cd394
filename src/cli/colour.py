"""``forensift colour``: what a detector makes of the same images without colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..sensitivity import ColourResult


@verb
def colour(
    run: Run,
    modes: Annotated[
        str,
        typer.Option(
            "--modes",
            metavar="all|published|M,M,…",
            help="published: rgb,grey. Others: chroma-only, luma-only (is grey), chroma-smoothed, "
            "luma-smoothed, hue-DEGREES, swap-gbr (any order), saturation-FACTOR.",
        ),
    ] = "published",
    generator: options.Generator = None,
    least_probability: Annotated[
        float,
        typer.Option(
            "--least-probability",
            min=0.0,
            max=1.0,
            help="The box plot takes fakes that have it in RGB; published 0.2.",
        ),
    ] = 0.2,
    cluster: options.Cluster = "photograph",
) -> ColourResult:
    """Score every image in RGB, in grey and with other colours, and say what that changed.

    Example: `forensift colour resnet50 --data CNN_synth_testset --modes all`

    Accuracies are at 0.5 and at the threshold that suits RGB best on the same images (as
    published). The change of the mean logit on fakes and on reals tells evidence that was removed
    from a detector that was merely thrown off.

    Writes `colour.csv` (a row a generator and mode, fractions), `scores.csv` (a row an image and
    mode), `boxes.csv` (the box plots' numbers), `skipped.csv`, `manifest.json` and the figures
    `colour_modes` and `boxes_MODE`.
    """
    from ..data.colour import MODES, PUBLISHED_MODES
    from ..sensitivity import checked_modes
    from ..sensitivity import colour as ablate

    known = {"all": MODES, "published": PUBLISHED_MODES}
    asked = checked_modes(known.get(modes) or tuple(modes.split(",")))
    return ablate(
        run.loaded,
        run.of_generator(generator),
        asked,
        least_probability=least_probability,
        cluster=cluster,  # type: ignore[arg-type]
        **run.how,
    )
