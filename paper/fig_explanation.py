"""Guided Grad-CAM and LRP of universal detectors and of ImageNet classifiers, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

import forensift as ff
from forensift.cli.paper import Paper, script

METHODS = ("guided-gradcam", "lrp")
PUBLISHED = "resnet50-imagenet,efficientnet-b0-imagenet"
CARRIED = "efficientnet-lite0-imagenet"  # its real ImageNet weights come with a package


def fig_explanation(
    run: Paper,
    images: Annotated[int, typer.Option("--images", help="Rows: so many fakes.")] = 3,
    classifiers: Annotated[
        str, typer.Option("--classifiers", help="NAME[=FILE],…; 'none' for none.")
    ] = "",
) -> None:
    """Guided Grad-CAM and LRP of universal detectors and of ImageNet classifiers, side by side."""
    chosen = []
    for place in range(images):  # generators take turns, and each shows another photograph
        generator = run.images.generators[place % len(run.images.generators)]
        fakes = run.images.only(label=1, generator=generator)
        chosen.append(fakes[len(fakes) * (2 * place + 1) // (2 * images)])
    some = ff.ImageSet(run.images.root, tuple(chosen))
    networks = {arch: run.detector(arch) for arch in run.archs}
    asked = classifiers or (PUBLISHED if run.data else CARRIED)
    preset = ff.get_preset("imagenet" if run.data else "wang-nocrop")
    for spec in [] if asked == "none" else asked.split(","):
        try:
            networks[spec.partition("=")[0]] = ff.load_detector(spec, device=run.chosen_device)
        except ff.UserError as error:  # not to be had here: the rest is still worth drawing
            print(f"left out: {error}")
    for name, network in networks.items():
        run.keep(
            name,
            ff.explain(network.with_preset(preset), some, METHODS, composite="beta0", **run.how),
        )


if __name__ == "__main__":
    script(fig_explanation)
