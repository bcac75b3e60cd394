"""``forensift explain``: where in an image the evidence for a detector's decision lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import completion, options
from .run import OnLoose
from .verb import verb

if TYPE_CHECKING:
    import numpy as np

    from ..explain import Explanations, MethodList

METHODS = "all|lrp|gradcam|integrated-gradients|…"


@dataclass(kw_only=True)
class OnSome(OnLoose):
    """A run of one detector on files, or of none where methods are only listed."""

    detector: options.MaybeDetector = ""


Shown = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="decision|CLASS",
        help="What to explain: what the detector decides, or a class by number or name; of one "
        "logit also fake or real.",
    ),
]
Listed = Annotated[
    bool,
    typer.Option(
        "--list",
        help="Name the methods instead; with a DETECTOR also which apply to it, why the others "
        "do not, and the time of each, measured there on the first IMAGE or on noise.",
    ),
]


@verb
def explain(
    run: OnSome,
    images: options.MaybeLooseImages = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar=METHODS,
            help="Several with commas between; `all` are all that apply. --list names them.",
            autocompletion=completion.methods,
        ),
    ] = "lrp",
    target: Shown = "decision",
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
    listed: Listed = False,
) -> Explanations | MethodList:
    """Show which pixels a decision rests on, by any of 21 methods.

    Example: `forensift explain resnet50 photos/chelsea.jpg --method lrp,guided-gradcam`,
    `forensift explain resnet50 photos/chelsea.jpg --method all`, `forensift explain npr --list`

    LRP, the Grad-CAM family, gradients, integrated gradients, SHAP, DeepLift, occlusion …: see
    --list. Several passes take several times as long; docs/methods.md says which to trust.

    Writes per image `NAME.npy` (raw signed relevance, float32, 3 x H x W, or H x W of methods that
    give a map), `NAME.png` (overlay, pixel for pixel) and `NAME.pdf` (image and overlay, with the
    decision and the scaling in its caption); NAME is the file's own, with the method where there
    are several, whose panel is `NAME-methods`. `explained.csv` (image, decision, probability,
    target, logit, sums; with --list `methods.csv`), `skipped.csv` and `manifest.json`.
    """
    from ..data.loose import image_files, short_names
    from ..explain import explain as compute
    from ..explain import list_methods, named_methods
    from ..views.explanation import Writer

    if listed:
        return list_methods(
            run.loaded if run.detector else None,
            image=_seen(run, images[0]) if run.detector and images else None,
            layer=layer,
            progress=run.tell,
        )
    if not images:
        raise UserError("explain: name a DETECTOR and images, or --list")
    files = image_files(images)
    methods = method.split(",")
    several = len(named_methods(methods)) > 1
    names: dict[Path | None, str] = {
        entry.path: name for entry, name in zip(files, short_names(files), strict=True)
    }
    take = Writer(run.folder, names, run.loaded.name, scaling, several)
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


def _seen(run: OnSome, image: Path) -> np.ndarray:
    """Return an image as the detector sees it, uint8 (3, H, W)."""
    from ..data.loose import image_files
    from ..explain import explain as compute

    found = compute(run.loaded, image_files([image])[:1], "gradient")
    pixels: np.ndarray = found[0].pixels
    return pixels
