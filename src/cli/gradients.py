"""``forensift gradients``: the gradient images of a folder of images, for LGrad."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .run import Sweeping
from .verb import verb

if TYPE_CHECKING:
    from ..training.gradients import Gradients


@verb
def gradients(
    run: Sweeping,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Image set, as for `forensift scan`.")
    ],
    critic: Annotated[
        str | None,
        typer.Option(
            "--critic",
            metavar="FILE|module:name",
            help="Whose gradient: the published StyleGAN discriminator, a critic of `forensift "
            "forge-train --save-critic`, or a differentiable Python callable. Default: the shipped "
            "critic.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=0,
            help="Side that images are forced to; 0: native. Default: what the critic needs (256 "
            "for StyleGAN's), else native.",
        ),
    ] = None,
) -> Gradients:
    """Write gradient images as 8-bit PNG: what a critic's score says about each pixel.

    Example: `forensift gradients CNN_synth_testset --critic
    karras2019stylegan-bedrooms-256x256_discriminator.pth --out gradients`

    Folders keep their names, with `_grad` after that of the label: `0_real_grad`, `1_fake_grad`.
    Run the same command again to go on after an interruption; what was made of other pixels or
    with another critic is replaced (a Python callable's always is). Train on the result with
    `--recipe lgrad`, evaluate with `--preset lgrad-gradients`. Each image goes through the critic
    alone.

    Writes the images, `skipped.csv` and `manifest.json`.
    """
    from ..data import scan
    from ..detectors.gradient_images import gradient_preset
    from ..training.gradients import write_gradients

    preset = gradient_preset(critic, side=size, cache=False)
    return write_gradients(scan(folder), preset, run.folder, device=run.chosen_device, **run.how)
