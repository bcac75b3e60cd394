"""``forensift embed``: where a detector puts reals and fakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..embedding import Embedding


@verb
def embed(
    run: Run,
    ranking: options.MaybeRankingCsv = None,
    k: Annotated[int | None, typer.Option("--k", min=1, help="Feature maps of --ranking.")] = None,
    pooling: Annotated[
        str,
        typer.Option("--pooling", metavar="max|mean", help="Of a feature map over space."),
    ] = "max",
    settings: Annotated[
        str,
        typer.Option(
            "--settings",
            metavar="default|dna-det",
            help="default: PCA start, perplexity 30 or what the images allow; dna-det: perplexity "
            "15, random start, learning rate 200.",
        ),
    ] = "default",
    perplexity: Annotated[
        float | None,
        typer.Option("--perplexity", help="Instead of the settings'; at most (images - 1) / 3."),
    ] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, help="Of the nearest-neighbour accuracy.")
    ] = 5,
    per_group: Annotated[
        int,
        typer.Option(
            "--per-group", min=0, help="Most images of a generator and label, drawn; 0 takes all."
        ),
    ] = 200,
    cluster: options.Cluster = "photograph",
) -> Embedding:
    """Draw where the detector puts reals and fakes: t-SNE of what enters its last layer.

    Example: `forensift embed resnet50 --data CNN_synth_testset --ranking progan_val-fake.csv
    --k 114`

    With a ranking also of the top k feature maps: the maximum of each over space, standardised
    over the images, times its omega. A picture can mislead, so beside it stand the accuracy of
    the nearest neighbours and the silhouette in the features themselves.

    Writes `embedding.csv` (path, label, generator, class, kind, x, y), `quality.csv` (perplexity,
    KL divergence, trustworthiness, settings), `neighbours.csv`, `skipped.csv`, `manifest.json` and
    a figure a kind of features: `tsne-penultimate`, `tsne-omega-weighted` (and `-class` where the
    set has classes).
    """
    if (ranking is None) != (k is None):
        raise UserError("--ranking and --k belong together")
    from .. import embedding
    from ..fmap_ranking import load_ranking

    return embedding.embed(
        run.loaded,
        run.images,
        ranking=load_ranking(ranking) if ranking is not None else None,
        k=k,
        pooling=pooling,  # type: ignore[arg-type]
        per_group=per_group or None,
        settings=settings,
        perplexity=perplexity,
        neighbours=neighbours,
        cluster=cluster,  # type: ignore[arg-type]
        **run.how,
    )
