"""``forensift robustness``: detectors under JPEG, blur, scaling and loss of colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import completion, options
from .run import OnImages
from .verb import verb

if TYPE_CHECKING:
    from ..evaluation import Robustness


CONDITIONS = "jpeg-90,jpeg-75,jpeg-50,blur-1,blur-2,resize-0.5,resize-2,grey"


@dataclass(kw_only=True)
class OnDetectors(OnImages):
    """A run of several detectors over an image set."""

    detectors: Annotated[
        str,
        typer.Argument(
            metavar="DETECTOR,…|all",
            help="Each NAME, NAME:VARIANT or NAME=FILE; all: those whose weights are shipped.",
            autocompletion=completion.detectors,
        ),
    ]
    backbone: options.Backbone = None


@verb
def robustness(
    run: OnDetectors,
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions",
            metavar="A,B",
            help="jpeg-QUALITY, blur-SIGMA, resize-FACTOR, grey; clean is always there. Also "
            "DeepFeatureX's: jpeg444-QUALITY, kernel-SIDE, area-FACTOR, turn-DEGREES, mirror. "
            f"Default: {', '.join(CONDITIONS.split(','))}.",
            show_default=False,
        ),
    ] = CONDITIONS,
    cluster: options.Cluster = "photograph",
    equalise_jpeg: options.EqualiseJpeg = "none",
) -> Robustness:
    """Score an image set with detectors under conditions: how well, and how much less than clean.

    Example: `forensift robustness resnet50,npr=NPR.pth --data CNN_synth_testset`

    Each image is decoded once. The falls from clean are paired: what the images have in common
    cancels. Writes `robustness.csv` (fractions), `scores.parquet`, `skipped.csv`, `manifest.json`
    and the figure `robustness`.
    """
    from ..detectors import load_detector, shipped_detectors, stands_on
    from ..evaluation import robustness as measure

    if run.detectors == "all":
        named = shipped_detectors(run.chosen_device)
    else:
        named = {}
        for one in run.detectors.split(","):
            own, given, file = one.partition("=")
            label = f"{own}{given}{Path(file).stem}"
            if label in named:
                raise UserError(f"detectors: two are called {label!r}; rename a file")
            below = run.backbone if stands_on(one) else None
            named[label] = load_detector(one, backbone=below, device=run.chosen_device)
    return measure(
        named,
        run.images,
        conditions.split(","),
        cluster=cluster,  # type: ignore[arg-type]
        equalise_jpeg=equalise_jpeg,
        **run.how,
    )
