"""``forensift evaluate``: how well a detector does on each generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


EqualiseJpeg = Annotated[
    str,
    typer.Option(
        "--equalise-jpeg",
        metavar="none|fakes[:Q]|both[:Q]",
        help="Take JPEG away as a difference, in memory: `fakes` compresses the fakes as the "
        "reals of their generator are, or all at quality Q; `both` compresses every image at "
        "quality Q (96). See `forensift scan --audit`.",
    ),
]


def evaluate(
    detector: options.Detector,
    data: options.Data,
    weights: options.Weights = None,
    preset: options.PresetName = None,
    cluster: Annotated[
        Cluster,
        typer.Option(
            metavar="none|class|photograph",
            help="What the intervals draw: images, classes, or photographs (images whose file "
            "names differ in a final -NUMBER only are crops of one, as `forensift forge` writes).",
        ),
    ] = "photograph",
    equalise_jpeg: EqualiseJpeg = "none",
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/evaluate"),
) -> None:
    """Score an image set and print accuracy, AP, AUC and EER for each generator.

    Example: `forensift evaluate resnet50 --data CNN_synth_testset --weights blur_jpg_prob0.5.pth`

    A score above 0.5 means fake. The calibrated accuracy uses each generator's own best threshold
    on these very images: an upper bound, not what a user would see. Intervals are 95 %. Images
    of different sizes go through the network at their own size, batched by size.

    Writes `evaluation.csv` (fractions), `scores.csv` (one row an image), `skipped.csv` and
    `manifest.json`.
    """
    from .. import evaluation
    from ..data import check_skipped, jpeg_equaliser, require_both_classes, scan
    from ..detectors import load_detector
    from ..files import write_csv, write_manifest
    from ..records import Skipped, skipped_table

    images = scan(data)
    require_both_classes(images)
    equaliser = jpeg_equaliser(images, equalise_jpeg, seed=seed)
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    skipped: list[Skipped] = []
    with options.progress("scoring", len(images)) as advance:
        scores = evaluation.score(
            loaded,
            images,
            batch_size=batch_size,
            seed=seed,
            skipped=skipped,
            transform=equaliser,
            progress=advance,
        )
    write_csv(output / "skipped.csv", skipped_table(skipped))
    check_skipped(skipped, len(images), max_skipped)
    table = evaluation.evaluate(scores, seed=seed, cluster=cluster)
    write_csv(output / "scores.csv", scores)
    write_csv(output / "evaluation.csv", table)
    facts = {
        **options.studied(loaded, images),
        "used": len(scores),
        "skipped": len(skipped),
        "seed": seed,
        "threshold": evaluation.THRESHOLD,
        "equalise_jpeg": equaliser.facts if equaliser is not None else {"mode": "none"},
        "intervals": {"confidence": 0.95, "cluster": cluster},
    }
    write_manifest(output, facts)
    options.console().print(_printed(table, loaded.name))
    print(
        f"percent; fake where the score is above {evaluation.THRESHOLD}; "
        f"[ ] 95 % intervals over {table['intervals_over'].iloc[-1]}; calibrated on these images"
    )
    print(f"{len(scores)} images used, {len(skipped)} skipped; tables in {output}")


def _printed(table: pd.DataFrame, name: str) -> Table:
    """Return the table in percent with one decimal, AP and accuracy with their intervals."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=name, title_justify="left")
    drawn.add_column("generator", no_wrap=True)
    heads = ("real", "fake", "accuracy", "on reals", "on fakes", "AP", "AUC", "EER", "calibrated")
    for head in heads:
        drawn.add_column(head, justify="right")
    for row in table.to_dict("records"):
        drawn.add_row(
            escape(str(row["generator"])),
            str(row["n_real"]),
            str(row["n_fake"]),
            *(
                f"{100 * row[key]:.1f}\n[dim]\\[{100 * row[f'{key}_low']:.1f}, "
                f"{100 * row[f'{key}_high']:.1f}][/dim]"
                for key in ("accuracy", "real_accuracy", "fake_accuracy", "ap")
            ),
            *(f"{100 * row[key]:.1f}" for key in ("auc", "eer", "calibrated_accuracy")),
            end_section=row["generator"] == table["generator"].iloc[-2:].iloc[0],
        )
    return drawn
