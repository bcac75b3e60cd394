"""``forensift score``: is this image synthetic, and what is in these folders?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import OnLoose
from .verb import verb

if TYPE_CHECKING:
    from ..evaluation import Agreement, LooseScores


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
    again: Annotated[
        int,
        typer.Option(
            "--again",
            metavar="N",
            min=0,
            help="Up to so many images are judged again: saved as JPEG 90, mirrored, a tenth "
            "smaller. Where the call changes, the verdict is 'cannot say'. 0: none.",
        ),
    ] = 20,
    size_only: Annotated[
        bool, typer.Option("--size-only", help="Heights and widths alone, without the detector.")
    ] = False,
) -> LooseScores | Agreement:
    """Print the probability that an image is synthetic, and statistics of folders of images.

    Example: `forensift score all photo.jpg`, `forensift score npr biggan/ --crop 224`

    The probability is one for images like those that the weights were trained on, which is printed
    too, and for nothing else. With several detectors, `npr,resnet50` or `all`, how many agree.

    Of an image: the probability in percent; of a detector with several classes, that of each; the
    file's size and JPEG quality. Of all together: heights and widths (mean ± standard deviation),
    megapixels, counts, and AP, accuracy, and accuracy on reals and on fakes where folders called
    0_real and 1_fake (nature and ai, real and fake) say what the images are. Images may have any
    sizes.

    Writes `scores.csv`, `summary.csv` (with several detectors `agreement.csv`), `skipped.csv` and
    `manifest.json`.
    """
    from ..evaluation import agreement, labelled_files, loose_sizes, score_loose
    from ..evaluation.loose import AGAIN

    files = labelled_files(images)
    if size_only:
        return loose_sizes(files, **run.how)
    changes = AGAIN if len(files) <= again else ()
    if len(run.every) > 1:
        return agreement(run.every, files, crop=crop, again=changes, **run.how)
    (detector,) = run.every.values()
    return score_loose(detector, files, crop=crop, again=changes, **run.how)
