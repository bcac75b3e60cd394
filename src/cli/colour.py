"""``forensift colour``: what a detector makes of the same images without colour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ..records import ImageSet

CLUSTERS = ("none", "class", "photograph")


def colour(
    detector: options.Detector,
    data: options.Data,
    weights: options.Weights = None,
    preset: options.PresetName = None,
    modes: Annotated[
        str,
        typer.Option(
            "--modes",
            metavar="all|published|M,M,…",
            help="published: rgb,grey. Others: chroma-only, luma-only (is grey), chroma-smoothed, "
            "luma-smoothed, hue-DEGREES, swap-gbr (any order), saturation-FACTOR.",
        ),
    ] = "all",
    generator: Annotated[
        str | None, typer.Option("--generator", metavar="NAME", help="The only one to look at.")
    ] = None,
    least_probability: Annotated[
        float,
        typer.Option(
            "--least-probability",
            min=0.0,
            max=1.0,
            help="The box plot takes fakes that have it in RGB; published 0.2.",
        ),
    ] = 0.2,
    cluster: Annotated[
        str,
        typer.Option(
            metavar="none|class|photograph",
            help="What the intervals draw: images, classes, or photographs; see evaluate.",
        ),
    ] = "none",
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/colour"),
) -> None:
    """Score every image in RGB, in grey and with other colours, and say what that changed.

    Example: `forensift colour resnet50 --data CNN_synth_testset --modes published`

    Accuracies are at 0.5 and at the threshold that suits RGB best on the same images (as
    published). The change of the mean logit on fakes and on reals tells evidence that was removed
    from a detector that was merely thrown off.

    Writes `colour.csv` (a row a generator and mode, fractions), `scores.csv` (a row an image and
    mode), `boxes.csv` (the box plots' numbers), `skipped.csv`, `manifest.json` and the figures
    `colour_modes` and `boxes_MODE` for grey, or for the modes asked for by name.
    """
    if cluster not in CLUSTERS:
        raise UserError(f"--cluster {cluster}: choose {', '.join(CLUSTERS)}")
    from .. import figures
    from ..data import require_both_classes, scan
    from ..data.colour import MODES, PUBLISHED_MODES, parse_mode
    from ..detectors import load_detector
    from ..files import write_csv, write_manifest
    from ..sensitivity import colour as ablate

    known = {"all": MODES, "published": PUBLISHED_MODES}
    asked = known.get(modes) or tuple(modes.split(","))
    for mode in asked:  # before anything is loaded
        parse_mode(mode)
    images = scan(data)
    if generator is not None:
        if generator not in images.generators:
            there = ", ".join(images.generators)
            raise UserError(f"--generator {generator}: there are {there} in {images.root}")
        images = images.only(generator=generator)
    require_both_classes(images)
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    with (
        options.skipped_images(output) as skipped,
        options.progress("changing colours", len(images)) as advance,
    ):
        result = ablate(
            loaded,
            images,
            asked,
            least_probability=least_probability,
            clusters=image_clusters(images, cluster),
            batch_size=batch_size,
            seed=seed,
            max_skipped=max_skipped,
            skipped=skipped,
            progress=advance,
        )
    write_csv(output / "colour.csv", result.table)
    write_csv(output / "scores.csv", result.scores)
    write_csv(output / "boxes.csv", result.box)
    figures.save(figures.plot_colour_modes(result.table, title=loaded.name), output, "colour_modes")
    boxed = [mode for mode in asked if mode != "rgb"] if modes not in known else ["grey"]
    for mode in boxed:
        figure = figures.plot_colour_boxes(
            result.box,
            result.scores,
            mode,
            least_probability=least_probability,
            title=f"{loaded.name}: fakes of p ≥ {least_probability:g} in RGB",
        )
        figures.save(figure, output, f"boxes_{mode}")
    facts = {
        **options.studied(loaded, images),
        "generator": generator,
        "used": len(images) - len(skipped),
        "skipped": len(skipped),
        "batch_size": batch_size,
        "intervals": {"confidence": 0.95, "drawn": "images" if cluster == "none" else cluster},
        **result.facts,
    }
    write_manifest(output, facts)
    options.console().print(printed(result.table, result.box, loaded.name))
    print("percent; [ ] 95 % intervals; logits: change of the mean against RGB")
    print(f"{facts['used']} images used, {len(skipped)} skipped; tables in {output}")


def image_clusters(images: ImageSet, cluster: str) -> list[str] | None:
    """Return the cluster of each image of a set, None where every image stands alone."""
    import pandas as pd

    from .evaluate import cluster_names

    frame = pd.DataFrame(
        {
            "path": [images.image_id(entry) for entry in images],
            "class": [entry.class_name for entry in images],
        }
    )
    names = cluster_names(frame, cluster)
    return None if names is None else [str(name) for name in names]


def printed(table: pd.DataFrame, box: pd.DataFrame, name: str) -> Table:
    """Return ``colour.csv`` as a table for people, with the drop of the fakes' median."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(name), title_justify="left")
    for head in ("generator", "mode"):
        drawn.add_column(head, no_wrap=True)
    heads = ("AP", "reals right", "fakes right", "fakes' median falls", "logit of reals",
             "logit of fakes")  # fmt: skip
    for head in heads:
        drawn.add_column(head, justify="right")
    drops = box.set_index(["generator", "mode"])["drop_of_median"].to_dict()
    for generator, rows in table.groupby("generator", sort=False):
        records = rows.to_dict("records")
        for place, row in enumerate(records):
            rgb = place == 0
            drop = drops.get((generator, row["mode"]), float("nan"))
            drawn.add_row(
                escape(str(generator)) if rgb else "",
                str(row["mode"]),
                f"{100 * row['ap']:.1f} \\[{100 * row['ap_low']:.1f}, {100 * row['ap_high']:.1f}]",
                f"{100 * row['calibrated_real_accuracy']:.1f}",
                f"{100 * row['calibrated_fake_accuracy']:.1f}",
                "" if rgb or drop != drop else f"{100 * drop:.1f}",
                f"{row['mean_logit_real']:.2f}" if rgb else f"{row['change_mean_logit_real']:+.2f}",
                f"{row['mean_logit_fake']:.2f}" if rgb else f"{row['change_mean_logit_fake']:+.2f}",
                end_section=place == len(records) - 1,
            )
    return drawn
