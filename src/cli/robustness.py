"""``forensift robustness``: detectors × generators × {clean, JPEG, blur, resize, grey}."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .evaluate import EqualiseJpeg

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ..detectors import Detector

DEFAULT = "clean,jpeg-90,jpeg-75,jpeg-50,blur-1,blur-2,resize-0.5,resize-2,grey"


def robustness(
    detectors: Annotated[
        str,
        typer.Argument(
            metavar="DETECTOR[,DETECTOR...]|all",
            help="Names, each NAME, NAME:colour-robust (a shipped variant) or NAME=WEIGHTS.pth; "
            "`all`: every detector that weights are shipped of.",
        ),
    ],
    data: options.Data,
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions",
            metavar="NAME[,NAME...]",
            help="clean, jpeg-QUALITY, blur-SIGMA (pixels), resize-FACTOR, grey.",
        ),
    ] = DEFAULT,
    equalise_jpeg: EqualiseJpeg = "none",
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/robustness"),
) -> None:
    """Score every detector on every generator under every condition, and say what it costs.

    Example: `forensift robustness resnet50,npr --data CNN_synth_testset`

    A condition changes the decoded image at its native size, before the detector's own
    preprocessing: JPEG by Pillow with 4:2:0, Gaussian blur, bilinear resizing (the detector sees
    the new size), BT.601 grey. Each image is decoded once and changed once for all detectors.
    Intervals are 95 % and draw photographs (file names without a final -NUMBER); falls from clean
    are paired. A killed run goes on where it was when the same command is given again.

    Writes `robustness.csv` (detector, generator, condition: accuracies, AP, AUC, falls from clean,
    with intervals), `scores.parquet`, the heat map `robustness`, `robustness.md`, `skipped.csv` and
    `manifest.json`; finished parts are kept in `partial/`, which may be deleted.
    """
    from .. import evaluation, figures
    from ..data import scan
    from ..files import write_bytes, write_csv, write_manifest, write_with
    from ..studies.demo.robustness import robustness_markdown

    wanted = [name for name in conditions.split(",") if name]
    chosen = evaluation.parse_conditions(wanted)
    images = scan(data)
    loaded = load(detectors, options.choose_device(device))
    output = options.output_folder(out)
    total = len(images) * len(loaded) * len(chosen)
    with (
        options.skipped_images(output) as skipped,
        options.progress("scoring", total) as advance,
    ):
        found = evaluation.robustness(
            loaded,
            images,
            wanted,
            equalise_jpeg=equalise_jpeg,
            batch_size=batch_size,
            seed=seed,
            max_skipped=max_skipped,
            skipped=skipped,
            partial=output / "partial",
            progress=advance,
        )
    write_csv(output / "robustness.csv", found.table)
    write_with(output / "scores.parquet", found.scores.to_parquet)
    write_bytes(output / "robustness.md", robustness_markdown(found.table).encode())
    figures.save(figures.plot_robustness(found.table), output, "robustness")
    facts = {
        "data": str(images.root),
        "image_set_sha256": images.hash(),
        "detectors": {
            name: {
                "detector": one.name,
                "weights": {"file": one.weights.path, "sha256": one.weights.sha256},
                "preset": one.preset.name,
            }
            for name, one in loaded.items()
        },
        **found.facts,
    }
    write_manifest(output, facts)
    options.console().print(_printed(found.table))
    if found.facts["passes_at_hand"]:
        print(f"{found.facts['passes_at_hand']} scores were at hand in {output / 'partial'}")
    print(
        f"percent; [ ] 95 % intervals, drawn by photograph; {found.facts['used']} images used, "
        f"{len(skipped)} skipped; tables in {output}"
    )


def load(asked: str, device: str) -> dict[str, Detector]:
    """Return the detectors of a list as the command line has it, by the names in the table.

    Raises:
        UserError: an empty list, one name twice, or what ``load_detector`` refuses.
    """
    from ..detectors import load_detector, shipped_detectors
    from ..detectors.registry import VARIANTS

    if asked == "all":
        return shipped_detectors(device)
    parts = [part for part in asked.split(",") if part]
    loaded: dict[str, Detector] = {}
    for part in parts:
        name, _, file = part.partition("=")
        before, _, variant = name.rpartition(":")
        weights: str | None = file or None
        if variant in VARIANTS and not file:
            name, weights = before, variant
        shown = f"{name}-{weights}" if weights in VARIANTS else name
        shown += f"={Path(file).stem}" * bool(file)
        if shown in loaded:
            raise UserError(f"{asked}: {shown} is listed twice")
        loaded[shown] = load_detector(name, weights=weights, device=device)
    if not loaded:
        raise UserError(f"{asked!r} lists no detector; give names or `all`")
    return loaded


def _printed(table: pd.DataFrame) -> Table:
    """Return the mean AP over generators, a row a detector, a column a condition."""
    from rich.markup import escape
    from rich.table import Table

    from ..evaluation import MACRO

    macro = table[table["generator"] == MACRO]
    drawn = Table(title="AP, mean over generators", title_justify="left")
    drawn.add_column("detector")
    for condition in dict.fromkeys(macro["condition"]):
        drawn.add_column(condition.replace("-", "\n", 1), justify="right")
    for name in dict.fromkeys(macro["detector"]):
        rows = macro[macro["detector"] == name].to_dict("records")
        cells = []
        for row in rows:
            low, high = 100 * row["ap_low"], 100 * row["ap_high"]
            cells.append(f"{100 * row['ap']:.1f}\n[dim]{low:.0f}-{high:.0f}[/dim]")
        drawn.add_row(escape(str(name)), *cells)
    return drawn
