"""``forensift score``: is this image synthetic, and what is in these folders?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import OnLoose
from .verb import verb

if TYPE_CHECKING:
    from ..evaluation import LooseScores


@verb
def score(
    run: OnLoose,
    images: options.LooseImages,
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop",
            metavar="N",
            min=1,
            help="Take the centre N x N pixels first, black where an image is smaller. "
            "Default: whole images.",
        ),
    ] = None,
    size_only: Annotated[
        bool, typer.Option("--size-only", help="Heights and widths alone, without the detector.")
    ] = False,
) -> LooseScores:
    """Print the probability that an image is synthetic, and statistics of folders of images.

    Example: `forensift score resnet50 photos/chelsea.jpg`, `forensift score npr biggan/ --crop 224`

    Of an image: the probability in percent; of a detector with several classes, that of each. Of
    all together: heights and widths (mean ± standard deviation), megapixels, counts, and AP,
    accuracy, and accuracy on reals and on fakes where folders called 0_real and 1_fake (nature and
    ai, real and fake) say what the images are. Images may have any sizes.

    Writes `scores.csv`, `summary.csv`, `skipped.csv` and `manifest.json`.
    """
    from ..evaluation import labelled_files, loose_sizes, score_loose

    if size_only:
        return loose_sizes(labelled_files(images), **run.how)
    return score_loose(run.loaded, labelled_files(images), crop=crop, **run.how)
