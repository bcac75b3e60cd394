"""Fig. 1: LRP-max patches of the top feature maps, a row a map, a collage a generator."""

from __future__ import annotations

from typing import Annotated

import typer

import forensift as ff
from forensift.cli.paper import Paper, script


def fig1_collage(
    run: Paper,
    rows: Annotated[int, typer.Option("--maps", help="Rows: the top so many maps.")] = 5,
    n: Annotated[int, typer.Option("--n", help="Patches a map.")] = 5,
) -> None:
    """Fig. 1: LRP-max patches of the top feature maps, a row a map, a collage a generator."""
    for arch in run.archs:
        detector = run.detector(arch)
        ranking = run.ranking(detector)
        for generator in run.images.generators:
            found = ff.patches(
                detector, run.images, ranking, rows, n, generator=generator, **run.how
            )
            run.keep(f"{arch}-{generator}", found)


if __name__ == "__main__":
    script(fig1_collage)
