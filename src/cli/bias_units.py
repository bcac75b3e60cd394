"""``forensift bias-units``: which feature maps answer to JPEG and resizing, and what they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..pruning import BiasUnits


@verb
def bias_units(
    run: Run,
    jpeg: Annotated[
        str,
        typer.Option("--jpeg", metavar="Q,Q,…|none", help="Qualities of JPEG: the doses."),
    ] = "95,85,75,60,45,30",
    resize: Annotated[
        str,
        typer.Option(
            "--resize",
            metavar="F,F,…|none",
            help="Factors of both sides: below 1 the doses of shrinking, above 1 of enlarging.",
        ),
    ] = "0.84,0.71,0.59,0.5,1.19,1.41,1.68,2",
    k: Annotated[
        int,
        typer.Option(
            "--k", min=1, help="Maps of each bias that are taken away, of those that answer."
        ),
    ] = 20,
    units: options.Units = "neurons",
    draws: Annotated[
        int, typer.Option("--draws", min=0, help="Of as many others of their layers.")
    ] = 5,
) -> BiasUnits:
    """Find the feature maps that answer to JPEG or resizing by dose, and what AP they carry.

    Example: `forensift bias-units resnet50 --data test --k 20`

    Every real is compressed and resized, dose by dose. A map answers where the slope of its mean
    activation over the doses is not zero: Student's t over photographs, Benjamini and Hochberg over
    all maps. Maps are ranked by the end of the answer's 95 % interval that is next to zero. The
    first k of each bias then hold their mean over reals, beside others of their layers.

    Writes `jpeg-bias.csv`, `down-bias.csv`, `up-bias.csv` (rankings, which `dropout` and `prune`
    take), `bias_units.parquet`, `curves.csv`, `carried.csv`, `levels.csv`, `skipped.csv`,
    `manifest.json` and the figure `doses`.
    """
    from .. import pruning
    from ..detectors import with_units

    return pruning.bias_units(
        with_units(run.loaded, units),  # type: ignore[arg-type]
        run.images,
        k,
        jpeg=[int(one) for one in _numbers("jpeg", jpeg)],
        factors=_numbers("resize", resize),
        draws=draws,
        **run.how,
    )


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [] if text == "none" else [float(one) for one in text.split(",")]
    except ValueError:
        raise UserError(f"--{name} {text}: give numbers with commas between, or none") from None
