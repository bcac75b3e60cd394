"""``forensift rank``: which feature maps hold the relevance of a detector's decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ..records import Ranking

KINDS = {"both": (1, 0), "fake": (1,), "real": (0,)}
SHOWN = 10


def rank(
    detector: options.Detector,
    data: options.Data,
    weights: options.Weights = None,
    preset: options.PresetName = None,
    label: Annotated[
        str, typer.Option(metavar="both|fake|real", help="Which images to rank on.")
    ] = "both",
    start: Annotated[
        str,
        typer.Option(
            metavar="predicted|published",
            help="Relevance at the logit: +1 for every image, so that evidence for the decision is "
            "positive; or -1 on reals, as published. Fakes are the same under both.",
        ),
    ] = "predicted",
    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            help="Use images whose true class has at least this probability, 0.5 to 1.",
        ),
    ] = 0.9,
    name: Annotated[
        str, typer.Option("--name", help="Of the set, in file names. Default: the folder's.")
    ] = "",
    digits: Annotated[
        int, typer.Option("--digits", min=0, help="Significant digits in the CSV; 0: all.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run with this --out was.")
    ] = False,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/rank"),
) -> None:
    """Rank all feature maps by FF-RS omega: their mean share of their layer's relevance (LRP).

    Example: `forensift rank resnet50 --data progan_val --preset tff-ffrs --start published`

    Writes `<set>-fake.csv` and `<set>-real.csv` (key,mean_relevance, the published format),
    `ranking.parquet` (with standard errors, omega x width and 95 % rank intervals),
    `skipped.csv`, `manifest.json` (images used, and left out by reason) and the figure `omega`.
    """
    if label not in KINDS:
        raise UserError(f"--label {label}: choose {', '.join(KINDS)}")
    from .. import figures, fmap_ranking, sensitivity
    from ..data import scan
    from ..detectors import load_detector
    from ..files import write_manifest, write_with
    from ..fmap_ranking.rank import KINDS as WORDS
    from ..fmap_ranking.rank import check_options

    kind_of_start = check_options(start, min_confidence)
    images = scan(data)
    for one in KINDS[label]:  # before anything is computed
        if not len(images.only(label=one)):
            raise UserError(f"{images.root}: holds no {WORDS[one]} images to rank on")
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    set_name = name or images.root.resolve().name or "images"
    rankings: dict[str, Ranking] = {}
    with options.skipped_images(output) as skipped:
        for one in KINDS[label]:
            kind = WORDS[one]
            with options.progress(f"ranking {kind}s", len(images.only(label=one))) as advance:
                rankings[kind] = fmap_ranking.rank(
                    loaded,
                    images,
                    label=one,
                    start=kind_of_start,
                    min_confidence=min_confidence,
                    batch_size=batch_size,
                    seed=seed,
                    max_skipped=max_skipped,
                    skipped=skipped,
                    partials=output / f"partials-{kind}",
                    resume=resume,
                    progress=advance,
                )
    for kind, ranking in rankings.items():
        fmap_ranking.save_ranking(ranking, output / f"{set_name}-{kind}.csv", digits or None)
    table = ranking_frame(rankings)
    write_with(output / "ranking.parquet", lambda path: table.to_parquet(path, index=False))
    figure = figures.plot_omega(
        next(iter(rankings.values())).table, sensitivity.PUBLISHED_K.get(loaded.name, 100)
    )
    figures.save(figure, output, "omega")
    facts = {
        **options.studied(loaded, images),
        "counts": {kind: dict(ranking.counts) for kind, ranking in rankings.items()},
        "start": start,
        "min_confidence": min_confidence,
        "seed": seed,
        "batch_size": batch_size,
        "feature_maps": len(loaded.feature_maps),
    }
    write_manifest(output, facts)
    console = options.console()
    for kind, ranking in rankings.items():
        console.print(_printed(ranking, f"{loaded.name}, {kind}s of {set_name}"))
        console.print(_counted(ranking, kind), markup=False, highlight=False)
    print(f"tables in {output}")


def ranking_frame(rankings: dict[str, Ranking]) -> pd.DataFrame:
    """Return the table of ``ranking.parquet``: label, rank from 1, key, the ranking's columns."""
    import pandas as pd

    parts = []
    for kind, ranking in rankings.items():
        part = ranking.table.copy()
        part.insert(0, "label", kind)
        part.insert(1, "rank", range(1, len(part) + 1))
        part.insert(2, "key", [str(one) for one in ranking.feature_maps()])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _printed(ranking: Ranking, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    drawn.add_column("rank", justify="right")
    drawn.add_column("feature map", no_wrap=True)
    for head in ("ω", "standard error", "ω × width", "rank, 95 %"):
        drawn.add_column(head, justify="right")
    maps = ranking.feature_maps(slice(0, SHOWN))
    for place, row in enumerate(ranking.table.head(SHOWN).to_dict("records")):
        known = row["rank_low"] == row["rank_low"]
        drawn.add_row(
            str(place + 1),
            escape(str(maps[place])),
            f"{row['omega']:.4f}",
            f"{row['standard_error']:.4f}" if row["standard_error"] >= 0 else "-",
            f"{row['omega_width']:.1f}",
            f"{row['rank_low']:.0f} … {row['rank_high']:.0f}" if known else "-",
        )
    return drawn


def _counted(ranking: Ranking, kind: str) -> str:
    counts = dict(ranking.counts)
    used = counts.pop("used", 0)
    left_out = ", ".join(f"{number} {reason}" for reason, number in counts.items() if number)
    return f"{used} {kind}s used" + (f"; left out: {left_out}" if left_out else ", none left out")
