"""``forensift transfer``: are the maps that matter on one generator those that matter on others?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from rich.table import Table

    from ..sensitivity.transfer import Transfer


def transfer(
    detector: options.Detector,
    data: options.Data,
    k: Annotated[
        int,
        typer.Option("--k", min=1, help="Feature maps to drop; published 114 (resnet50), 27 (b0)."),
    ],
    rank_data: Annotated[
        Path | None,
        typer.Option(
            "--rank-data",
            metavar="DIR",
            help="Images to rank on. Default: one half of --data, by file name; the other half is "
            "dropped on.",
        ),
    ] = None,
    weights: options.Weights = None,
    preset: options.PresetName = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            help="Rank on fakes that have at least this probability, 0.5 to 1.",
        ),
    ] = 0.9,
    draws: Annotated[
        int,
        typer.Option("--draws", min=0, help="Of the layer-matched random control of each row."),
    ] = 5,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/transfer"),
) -> None:
    """Rank the feature maps on each generator's fakes, drop the top k on every other, compare.

    Example: `forensift transfer resnet50 --data CNN_synth_testset --k 114`

    Writes `transfer.csv` (every pair: fall of AP with its interval, of the accuracies, change of
    the mean logits, and the same for random maps of the same layers), `agreement.csv` (Kendall's
    tau over all maps, Jaccard overlap of the top k, with intervals; two halves of one generator's
    images for comparison), `transferability.csv` (one figure a feature map: the geometric mean of
    omega over generators divided by the largest), `skipped.csv`, `manifest.json` and the figure
    `transfer`. A generator of which no fake is recognised confidently has no row.
    """
    from .. import figures, sensitivity
    from ..data import scan
    from ..detectors import load_detector
    from ..files import write_csv, write_manifest
    from ..fmap_ranking.rank import check_options

    start = check_options("predicted", min_confidence)
    images = scan(data)
    others = scan(rank_data) if rank_data is not None else None
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    with (
        options.skipped_images(output) as skipped,
        options.progress("ranking and dropping", len(images)) as advance,
    ):
        found = sensitivity.transfer(
            loaded,
            images,
            k,
            rank_images=others,
            min_confidence=min_confidence,
            start=start,
            draws=draws,
            batch_size=batch_size,
            seed=seed,
            max_skipped=max_skipped,
            skipped=skipped,
            progress=advance,
        )
    write_csv(output / "transfer.csv", found.table)
    write_csv(output / "agreement.csv", found.agreement)
    write_csv(output / "transferability.csv", found.transferability)
    figure = figures.plot_transfer(found.table, found.agreement, k, title=loaded.name)
    figures.save(figure, output, "transfer")
    transferable = int(found.transferability["transferable"].sum())
    facts = {
        **options.studied(loaded, images),
        "rank_data": str(others.root) if others else None,
        "skipped": len(skipped),
        "batch_size": batch_size,
        "transferable": transferable,
        **found.facts,
    }
    write_manifest(output, facts)
    console = options.console()
    console.print(_printed(found, f"{loaded.name}: fall of AP in points, k = {k}"))
    for note in found.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    print(
        f"{transferable} of {len(found.transferability)} feature maps are in the top {k} of all "
        f"{len(found.rankings)} generators; ranked on {facts['ranking_images']}; "
        f"{len(skipped)} images skipped; tables in {output}"
    )


def _printed(found: Transfer, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    drawn.add_column("ranked on \\ dropped on")
    falls, control = found.matrix(), found.matrix("fall_ap_points_matched")
    for name in falls.columns:
        drawn.add_column(escape(str(name)), justify="right")
    for name, row in falls.iterrows():
        cells = [
            f"{_shown(value)}" + (f" (random {_shown(other)})" if other == other else "")
            for value, other in zip(row, control.loc[name], strict=True)
        ]
        drawn.add_row(escape(str(name)), *cells)
    return drawn


def _shown(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}"  # no minus before a zero
