"""``forensift score``: is this image synthetic, and what is in these folders?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    import pandas as pd


def score(
    detector: options.Detector,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE|DIR...", help="Files, or folders with images at any depth."),
    ],
    weights: options.Weights = None,
    preset: options.PresetName = None,
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop",
            metavar="N",
            min=1,
            help="Take the centre N x N pixels first, black where an image is smaller. "
            "Default: whole images.",
        ),
    ] = None,
    size_only: Annotated[
        bool, typer.Option("--size-only", help="Sizes and counts alone, without the network.")
    ] = False,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write scores.csv, skipped.csv, manifest.json."),
    ] = None,
) -> None:
    """Print the probability that an image is synthetic, and statistics of folders of images.

    Example: `forensift score resnet50 photos/chelsea.jpg`, `forensift score npr biggan/ --crop 224`

    Of an image: the probability in percent; of a detector with several classes, that of each. Of
    all folders together: heights and widths (mean ± standard deviation), megapixels, counts, and
    AP, accuracy, and accuracy on reals and on fakes where folders called 0_real and 1_fake (nature
    and ai, real and fake) say what the images are. Images may have any sizes. Those that cannot be
    read are named.
    """
    from ..files import write_csv, write_manifest
    from ..records import ImageSet, Skipped, skipped_table
    from ..studies.suites import folder_summary, labelled_files, score_files
    from ..studies.suites.single import absolute, image_sizes

    chosen = labelled_files(images)
    skipped: list[Skipped] = []
    output = None if out is None else options.output_folder(out)
    facts: dict[str, object] = {"data": str(chosen.root), "image_set_sha256": chosen.hash()}
    try:
        table = image_sizes(chosen, skipped)
        if not size_only:
            from ..detectors import load_detector

            loaded = load_detector(
                detector, weights=weights, preset=preset, device=options.choose_device(device)
            )
            facts |= options.studied(loaded, chosen)
            unread = {one.path for one in skipped}
            kept = tuple(entry for entry in chosen if entry.path not in unread)
            readable = ImageSet(chosen.root, kept)
            with options.progress("scoring", len(readable)) as advance:
                scores = score_files(
                    loaded,
                    readable,
                    crop=crop,
                    batch_size=batch_size,
                    seed=seed,
                    skipped=skipped,
                    progress=advance,
                )
            table = scores.merge(table[["path", "height", "width"]], on="path")
    finally:
        for one in skipped:
            typer.echo(f"skipped {one.path}: {one.reason}", err=True)
        if output is not None:
            write_csv(output / "skipped.csv", skipped_table(skipped))
    if output is not None:
        write_csv(output / ("sizes.csv" if size_only else "scores.csv"), table)
        facts |= {"used": len(table), "skipped": len(skipped), "crop": crop, "seed": seed}
        write_manifest(output, facts)
    folders = [path for path in map(absolute, images) if path.is_dir()]
    alone = [
        not any(entry.path.is_relative_to(folder) for folder in folders)
        for entry in chosen
        if entry.path not in {one.path for one in skipped}
    ]
    singles = table[alone]
    for row in singles.to_dict("records"):
        _print_image(row, table, named=len(singles) > 1)
    rest = table[[not one for one in alone]]
    if len(rest):
        _print_folders(folder_summary(rest))


def _print_image(row: Mapping, table: pd.DataFrame, *, named: bool) -> None:
    head = f"{row['path']}: " if named else ""
    if "score" not in row:
        print(f"{head}{row['height']} x {row['width']} pixels")
        return
    print(f"{head}probability of being synthetic: {100 * row['score']:.2f}%")
    for column in table.columns:
        if column.startswith("p_"):
            print(f"  {column.removeprefix('p_')}: {100 * row[column]:.2f}%")


def _print_folders(found: Mapping[str, float]) -> None:
    sizes = (
        f"{key} {found[f'{key}_mean']:.2f} ± {found[f'{key}_sd']:.2f}"
        for key in ("height", "width")
    )
    print(
        f"{', '.join(sizes)} pixels; {found['mpix_mean']:.2f} ± {found['mpix_sd']:.2f} megapixels"
    )
    unknown = f", {found['n_unknown']} without a label" if found["n_unknown"] else ""
    print(f"{found['n_real']} real, {found['n_fake']} fake{unknown}")
    heads = {
        "ap": "AP",
        "accuracy": "accuracy",
        "real_accuracy": "on reals",
        "fake_accuracy": "on fakes",
        "called_fake": "called fake",
    }
    said = [f"{head} {100 * found[key]:.2f}" for key, head in heads.items() if found[key] >= 0]
    if said:
        print(f"{', '.join(said)} (percent; fake where the probability is above 50)")
