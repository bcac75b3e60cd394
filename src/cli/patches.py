"""``forensift patches``: what the top feature maps look at, cut out of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..patches import Collages, Patches


@verb
def patches(
    run: Run,
    ranking: options.RankingCsv,
    k: options.K,
    n: Annotated[int, typer.Option("--n", min=1, help="Images, so patches, a feature map.")] = 5,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            metavar="NAME",
            help="Only this generator's fakes; may be given again. Default: each in the set.",
        ),
    ] = None,
    pooled: Annotated[
        bool,
        typer.Option("--pooled", help="One collage over all fakes, not one for each generator."),
    ] = False,
    percentile: Annotated[
        float,
        typer.Option(
            "--percentile",
            help="Of an image's positive relevance; the box holds what is above. Published 75.",
        ),
    ] = 75.0,
    composite: options.Composite = "beta0",
    published_box: Annotated[
        bool,
        typer.Option(
            "--published-box",
            help="Leave out the box's last row and column, as the published code does.",
        ),
    ] = False,
) -> Patches | Collages:
    """Cut out what each of the top k feature maps responds to most, and draw the collage.

    Example: `forensift patches resnet50 --data CNN_synth_testset --ranking progan_val-fake.csv
    --k 114 --generator stylegan2`

    For each map the n fakes with the largest maximum of its convolution output; from there
    relevance is carried to the pixels by LRP, and the box around the places above the 75th
    percentile is cut out of the image.

    Writes `patches.csv` (one row a patch: positions, box, shares, and why there is none),
    `patches/GENERATOR/RANK-LAYER-CHANNEL/PLACE.png`, the figure `collage` (of several generators
    `collage-GENERATOR`; more pages: `-2` …), `skipped.csv` and `manifest.json`.
    """
    if pooled and generator:
        raise UserError("--pooled and --generator exclude each other")
    from ..fmap_ranking import load_ranking
    from ..patches import collages
    from ..patches import patches as cut_out

    given = (run.loaded, run.images, load_ranking(ranking), k, n)
    cut = {"percentile": percentile, "published_edge": published_box, "composite": composite}
    if pooled:
        return cut_out(*given, **cut, **run.how)  # type: ignore[arg-type]
    return collages(*given, generators=generator or (), **cut, **run.how)  # type: ignore[arg-type]
