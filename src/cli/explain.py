"""``forensift explain``: where in an image the evidence for a detector's decision lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import completion, options
from .run import OnLoose
from .verb import verb

if TYPE_CHECKING:
    from ..explain import Explanations

METHODS = "lrp|gradcam|guided-gradcam|guided-backprop|gradient"


@verb
def explain(
    run: OnLoose,
    images: options.LooseImages,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar=METHODS,
            help="Several with commas between.",
            autocompletion=completion.methods,
        ),
    ] = "lrp",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="decision|CLASS",
            help="What to explain: what the detector decides, or a class by number or name; of one "
            "logit also fake or real.",
        ),
    ] = "decision",
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            help="Of Grad-CAM; several with commas between count as one. Default: the last stage, "
            "or _conv_head of EfficientNet.",
        ),
    ] = None,
    composite: options.Composite = "beta0,spread",
    scaling: Annotated[
        str,
        typer.Option(
            metavar="percentile-P|max|signed",
            help="Of the drawings alone: positive relevance divided by its percentile or maximum "
            "(max is the published one), or both signs.",
        ),
    ] = "percentile-99",
) -> Explanations:
    """Show which pixels a decision rests on: LRP, Grad-CAM, Guided Grad-CAM or the gradient.

    Example: `forensift explain resnet50 photos/chelsea.jpg --method lrp,guided-gradcam`

    Writes per image `NAME.npy` (raw signed relevance, float32, 3 x H x W; Grad-CAM H x W),
    `NAME.png` (overlay, pixel for pixel) and `NAME.pdf` (image and overlay, with the decision and
    the scaling in its caption); NAME is the file's own, with the method where there are several.
    `explained.csv` (image, decision, probability, target, logit, sums), `skipped.csv` and
    `manifest.json`.
    """
    from ..data.loose import image_files, short_names
    from ..explain import explain as compute
    from ..views.explanation import Writer

    files = image_files(images)
    methods = method.split(",")
    names: dict[Path | None, str] = {
        entry.path: name for entry, name in zip(files, short_names(files), strict=True)
    }
    take = Writer(run.folder, names, run.loaded.name, scaling, len(methods) > 1)
    return compute(
        run.loaded,
        files,
        methods,
        target=target,
        layer=layer,
        composite=composite,
        take=take,
        **run.how,
    )
