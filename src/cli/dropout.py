"""``forensift dropout``: what a detector still knows without its most relevant feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def dropout(
    detector: options.Detector,
    data: options.Data,
    ranking: Annotated[
        Path,
        typer.Option("--ranking", metavar="CSV", help="The -fake.csv of `forensift rank`."),
    ],
    k: Annotated[
        int,
        typer.Option("--k", min=1, help="Feature maps to drop; published 114 (resnet50), 27 (b0)."),
    ],
    weights: options.Weights = None,
    preset: options.PresetName = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of each random control.")] = 20,
    magnitude_matched: Annotated[
        bool,
        typer.Option(
            "--magnitude-matched",
            help="Also draw maps that respond as strongly as the top k, whatever their layer.",
        ),
    ] = False,
    ks: Annotated[
        str,
        typer.Option(
            "--ks",
            metavar="auto|none|N,N,…",
            help="Where the AP(k) curve is computed; auto: from k/8 to 4k.",
        ),
    ] = "auto",
    band_draws: Annotated[
        int, typer.Option("--band-draws", min=0, help="Random draws at each k of the curve.")
    ] = 5,
    training_family: Annotated[
        str | None,
        typer.Option(
            "--training-family",
            metavar="NAME",
            help="The generator that the detector was trained on: threshold 0.5, and left out of "
            "the mean over unseen generators.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            metavar="DIR",
            help="Other images to calibrate a threshold on; adds the columns ..._held_out.",
        ),
    ] = None,
    save_scores: Annotated[
        bool, typer.Option("--save-scores", help="Write every logit to scores.parquet.")
    ] = False,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/dropout"),
) -> None:
    """Zero the top k feature maps, and as many others, and measure every generator again.

    Example: `forensift dropout resnet50 --data CNN_synth_testset --ranking progan_val-fake.csv
    --k 114`

    Controls: random-k and layer-matched random-k (--draws seeded draws each, and the published
    AP of the scores averaged over five), low-k, and the lowest maps with omega above zero.
    Accuracies are at the threshold that suits the whole model best on the same images (as
    published, optimistic), and at 0.5. The change of the mean logit on fakes and on reals says
    what was removed: AP alone cannot.

    Writes `dropout.csv` (every draw), `dropout_summary.csv`, `ap_curve.csv`, `dropped.csv` (the
    feature maps of each mask), `skipped.csv`, `manifest.json` and the figures `dropout` and
    `ap_curve`. AP and accuracies are fractions.
    """
    from .. import figures, sensitivity
    from ..data import require_both_classes, scan
    from ..detectors import load_detector
    from ..files import sha256, write_csv, write_manifest, write_with
    from ..fmap_ranking import load_ranking
    from ..records import FAKE

    grid = _grid(ks)
    ranked = load_ranking(ranking, label=FAKE)
    images = scan(data)
    require_both_classes(images)
    others = scan(held_out) if held_out is not None else None
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    with (
        options.skipped_images(output) as skipped,
        options.progress("dropping feature maps", len(images)) as advance,
    ):
        result = sensitivity.dropout(
            loaded,
            images,
            ranked,
            k,
            draws=draws,
            magnitude_matched=magnitude_matched,
            ks=grid,
            band_draws=band_draws,
            training_family=training_family,
            held_out=others,
            batch_size=batch_size,
            seed=seed,
            max_skipped=max_skipped,
            skipped=skipped,
            progress=advance,
        )
    write_csv(output / "dropout.csv", result.table)
    write_csv(output / "dropout_summary.csv", result.summary)
    write_csv(output / "ap_curve.csv", result.curve)
    write_csv(output / "dropped.csv", result.dropped())
    if save_scores:
        scores = result.scores()
        write_with(output / "scores.parquet", lambda path: scores.to_parquet(path, index=False))
    title = f"{loaded.name}: {k} of {len(loaded.feature_maps)} feature maps dropped"
    figures.save(figures.plot_dropout(result.summary, title=title), output, "dropout")
    if len(result.curve):
        figures.save(figures.plot_ap_curve(result.curve, k, title=loaded.name), output, "ap_curve")
    said = sensitivity.sentence(result)
    facts = {
        **options.studied(loaded, images),
        "used": len(images) - len(skipped),
        "skipped": len(skipped),
        "ranking": {"file": str(ranking), "sha256": sha256(ranking), "start": ranked.start},
        "batch_size": batch_size,
        **result.facts,
        "sentence": said,
    }
    write_manifest(output, facts)
    console = options.console()
    console.print(printed(result.summary, f"{loaded.name}, k = {k}"))
    console.print(
        "percent; ± standard deviation over draws; logits: change of the mean against the baseline",
        markup=False,
        highlight=False,
    )
    console.print(said, markup=False, highlight=False)
    print(f"{facts['used']} images used, {len(skipped)} skipped; tables in {output}")


def printed(summary: pd.DataFrame, title: str) -> Table:
    """Return ``dropout_summary.csv`` as a table for people, percent with one decimal."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    for head in ("generator", "mask"):
        drawn.add_column(head, no_wrap=True)
    for head in ("AP", "reals right", "fakes right", "logit of reals", "logit of fakes"):
        drawn.add_column(head, justify="right")
    drawn.add_column("effect")
    for generator, rows in summary.groupby("generator", sort=False):
        records = rows.to_dict("records")
        for place, row in enumerate(records):
            spread = f" ± {100 * row['ap_sd']:.1f}" if row["draws"] > 1 else ""
            plain = row["mask"] == "baseline"
            drawn.add_row(
                escape(str(generator)) if place == 0 else "",
                str(row["mask"]) + (f" ({row['draws']} draws)" if row["draws"] > 1 else ""),
                f"{100 * row['ap']:.1f}{spread}",
                f"{100 * row['real_accuracy']:.1f}",
                f"{100 * row['fake_accuracy']:.1f}",
                f"{row['mean_logit_real']:.2f}"
                if plain
                else f"{row['change_mean_logit_real']:+.2f}",
                f"{row['mean_logit_fake']:.2f}"
                if plain
                else f"{row['change_mean_logit_fake']:+.2f}",
                "" if plain else str(row["effect"]),
                end_section=place == len(records) - 1,
            )
    return drawn


def _grid(ks: str) -> list[int] | None:
    if ks == "auto":
        return None
    if ks == "none":
        return []
    try:
        return [int(one) for one in ks.split(",")]
    except ValueError:
        raise UserError(f"--ks {ks}: give auto, none or numbers with commas between") from None
