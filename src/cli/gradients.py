"""``forensift gradients``: the gradient images of a folder of images, for LGrad."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .run import Out, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..training.gradients import Gradients


@dataclass(kw_only=True)
class Making(Out):
    """A run that makes images of images, one by one; what is there already is kept."""

    device: options.Device = "auto"
    max_skipped: options.MaxSkipped = 0.01

    @cached_property
    def chosen_device(self) -> str:
        """'cpu' or 'cuda'."""
        return options.choose_device(self.device)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {**super().facts(), "device": self.chosen_device}


@verb
def gradients(
    run: Making,
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
    from ..detectors.gradient_images import gradient_preset
    from ..training.gradients import write_gradients

    preset = gradient_preset(critic, side=size, cache=False)
    return write_gradients(
        scanned(folder),
        preset,
        run.folder,
        device=run.chosen_device,
        max_skipped=run.max_skipped,
        skipped=run.skipped,
        progress=run.tell,
    )
