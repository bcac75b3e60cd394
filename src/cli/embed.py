"""``forensift embed``: t-SNE of a detector's features, with numbers beside the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def embed(
    detector: options.Detector,
    data: options.Data,
    ranking: Annotated[
        Path | None,
        typer.Option(
            "--ranking",
            metavar="CSV",
            help="Also draw the top k maps' features, weighted by omega. Needs --k.",
        ),
    ] = None,
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
    weights: options.Weights = None,
    preset: options.PresetName = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/embed"),
) -> None:
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
    from typing import cast

    from .. import embedding, figures
    from ..data import scan
    from ..detectors import load_detector
    from ..files import sha256, write_csv, write_manifest
    from ..fmap_ranking import load_ranking
    from ..records import FAKE

    if (ranking is None) != (k is None):
        raise UserError("--ranking and --k belong together")
    embedding.get_settings(settings)
    ranked = load_ranking(ranking, label=FAKE) if ranking is not None else None
    images = scan(data)
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    most = per_group or None
    total = len(embedding.drawn(images, most, seed))
    with (
        options.skipped_images(output) as skipped,
        options.progress("computing features", total) as advance,
    ):
        found = embedding.embed(
            loaded,
            images,
            ranking=ranked,
            k=k,
            pooling=cast(embedding.Pooling, pooling),
            settings=settings,
            perplexity=perplexity,
            neighbours=neighbours,
            per_group=most,
            batch_size=batch_size,
            seed=seed,
            max_skipped=max_skipped,
            skipped=skipped,
            progress=advance,
        )
    write_csv(output / "embedding.csv", found.table)
    write_csv(output / "quality.csv", found.quality)
    write_csv(output / "neighbours.csv", found.neighbours)
    for quality in found.quality.to_dict("records"):
        kind = str(quality["kind"])
        rows = found.table[found.table["kind"] == kind]
        which = f"top {k} feature maps, weighted by ω" if kind == embedding.CHANNELS else ""
        title = f"{loaded.name}, {which or 'penultimate features'}"
        figures.save(figures.plot_embedding(rows, quality, title=title), output, f"tsne-{kind}")
        if len(set(rows["class"])) > 1:
            drawn = figures.plot_embedding(rows, quality, by="class", title=title)
            figures.save(drawn, output, f"tsne-{kind}-class")
    facts = {
        **options.studied(loaded, images),
        "used": total - len(skipped),
        "skipped": len(skipped),
        "ranking": {"file": str(ranking), "sha256": sha256(ranking)} if ranking else None,
        "batch_size": batch_size,
        **found.facts,
        "tsne": found.quality.to_dict("records"),
    }
    write_manifest(output, facts)
    console = options.console()
    console.print(printed(found.neighbours, f"{loaded.name}: reals and fakes in feature space"))
    for quality in found.quality.to_dict("records"):
        line = f"{quality['kind']}: {figures.tsne_caption(quality)}"
        console.print(line, markup=False, highlight=False)
    print(f"{facts['used']} of {len(images)} images used, {len(skipped)} skipped; in {output}")


def printed(neighbours: pd.DataFrame, title: str) -> Table:
    """Return ``neighbours.csv`` as a table for people, percent with one decimal."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    drawn.add_column("features", no_wrap=True)
    drawn.add_column("generator", no_wrap=True)
    for head in ("reals", "fakes", "neighbours", "accuracy (%)", "chance (%)", "silhouette"):
        drawn.add_column(head, justify="right")
    for row in neighbours.to_dict("records"):
        low, high = 100 * row["knn_accuracy_low"], 100 * row["knn_accuracy_high"]
        known = row["knn_accuracy"] == row["knn_accuracy"]
        drawn.add_row(
            str(row["kind"]),
            escape(str(row["generator"])),
            str(row["n_real"]),
            str(row["n_fake"]),
            str(row["neighbours"]),
            f"{100 * row['knn_accuracy']:.1f} \\[{low:.1f}, {high:.1f}]" if known else "-",
            f"{100 * row['chance']:.1f}",
            f"{row['silhouette']:.2f}" if known else "-",
        )
    return drawn
