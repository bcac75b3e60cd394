"""``forensift gradients``: the gradient images of a folder of images, for LGrad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options


def gradients(
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
    device: options.Device = "auto",
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/gradients"),
) -> None:
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
    from ..data import check_skipped, scan
    from ..detectors.gradient_folders import write_gradients
    from ..detectors.gradient_images import PROCEDURE, gradient_preset
    from ..files import write_manifest

    images = scan(folder)
    preset = gradient_preset(critic, side=size, cache=False)
    on = options.choose_device(device)
    output = options.output_folder(out)
    with (
        options.skipped_images(output) as skipped,
        options.progress("gradient images", len(images)) as advance,
    ):
        done = write_gradients(images, preset, output, device=on, skipped=skipped, progress=advance)
    check_skipped(skipped, len(images), max_skipped)
    facts = {
        **preset.facts,
        "preset": preset.name,
        "procedure": PROCEDURE,
        "data": str(images.root),
        "image_set_sha256": images.hash(),
        "images": len(images) - len(skipped),
        "skipped": len(skipped),
    }
    write_manifest(output, facts)
    print(
        f"{done.written} gradient images of {preset.images.critic.name} written, {done.kept} were "
        f"there, {len(skipped)} skipped; {output}"
    )
