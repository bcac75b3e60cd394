"""``forensift patches``: what the forensic feature maps look at, as patches and collages."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd

    from ..patches import Patches


def patches(
    detector: options.Detector,
    data: options.Data,
    ranking: Annotated[
        Path,
        typer.Option("--ranking", metavar="CSV", help="The -fake.csv of `forensift rank`."),
    ],
    k: Annotated[
        int,
        typer.Option("--k", min=1, help="Feature maps; published 114 (resnet50), 27 (b0)."),
    ],
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
    published_box: Annotated[
        bool,
        typer.Option(
            "--published-box",
            help="Leave out the box's last row and column, as the published code does.",
        ),
    ] = False,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Feature maps down a page of the collage.")
    ] = 14,
    weights: options.Weights = None,
    preset: options.PresetName = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/patches"),
) -> None:
    """Cut out what each of the top k feature maps responds to most, and draw the collage.

    Example: `forensift patches resnet50 --data CNN_synth_testset --ranking progan_val-fake.csv
    --k 114 --generator stylegan2`

    For each map the n fakes with the largest maximum of its convolution output; from there
    relevance is carried to the pixels by LRP, and the box around the places above the 75th
    percentile is cut out of the image.

    Writes `patches.csv` (one row a patch: positions, box, shares, and why there is none),
    `patches/<generator>/<rank>-<layer>-<channel>/<place>.png`, `collage.pdf` and `collage.png`
    (where there are several generators, `collage-<generator>` of each, and `collage.pdf` holds all
    pages), `skipped.csv` and `manifest.json`.
    """
    import pandas as pd

    from .. import figures
    from .. import patches as work
    from ..data import scan
    from ..detectors import load_detector
    from ..files import sha256, write_csv, write_manifest
    from ..fmap_ranking import load_ranking
    from ..records import FAKE

    if pooled and generator:
        raise UserError("--pooled and --generator exclude each other")
    ranked = load_ranking(ranking, label=FAKE)
    images = scan(data)
    fakes = images.only(label=FAKE)
    names: list[str | None] = [None] if pooled else [*(generator or fakes.generators)]
    for name in names:
        if not len(fakes.only(generator=name)):
            whose = f" of {name!r}; it has those of {', '.join(fakes.generators)}" if name else ""
            raise UserError(f"{images.root}: holds no fakes{whose}")
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    found: dict[str, Patches] = {}
    total = sum(len(fakes.only(generator=name)) + k * n for name in names)
    with (
        options.skipped_images(output) as skipped,
        options.progress("cutting patches", total) as advance,
    ):
        for name in names:
            found[name or "all"] = work.patches(
                loaded,
                images,
                ranked,
                k,
                n,
                generator=name,
                percentile=percentile,
                published_edge=published_box,
                batch_size=batch_size,
                seed=seed,
                max_skipped=max_skipped,
                skipped=skipped,
                progress=advance,
            )
    tables = [save_patches(one, output, name) for name, one in found.items()]
    table = pd.concat(tables, ignore_index=True)
    write_csv(output / "patches.csv", table)
    every = []
    for name, one in found.items():
        title = f"{loaded.name}, top {k} feature maps on {name if name != 'all' else 'all fakes'}"
        pages = figures.plot_collage(one, rows=rows, title=title)
        stem = "collage" if len(found) == 1 else f"collage-{file_name(name)}"
        figures.save_pages(pages, output, stem)
        every += pages
    if len(found) > 1:
        figures.save_pages(every, output, "collage", png=False)
    facts = {
        **options.studied(loaded, images),
        "used": sum(one.facts["images"] for one in found.values()),
        "skipped": len(skipped),
        "ranking": {"file": str(ranking), "sha256": sha256(ranking), "start": ranked.start},
        "batch_size": batch_size,
        "seed": seed,
        "collages": {name: dict(one.facts) for name, one in found.items()},
    }
    write_manifest(output, facts)
    missing = int((table["file"] == "").sum())
    print(
        f"{len(table) - missing} patches of {k} feature maps"
        + (f", {missing} places without one (patches.csv says why)" if missing else "")
    )
    print(f"{facts['used']} fakes used, {len(skipped)} skipped; collage and patches in {output}")


def save_patches(found: Patches, output: Path, name: str) -> pd.DataFrame:
    """Write each crop as PNG and return the table with its ``file``, '' where there is none."""
    from PIL import Image

    from ..files import write_with

    ranks = {feature_map: rank for rank, feature_map in enumerate(found.feature_maps, 1)}
    files = []
    for one in found.patches:
        if one.crop is None:
            files.append("")
            continue
        of_map = one.feature_map
        folder = f"{ranks[of_map]:03d}-{of_map.layer}-{of_map.channel}"
        place = Path("patches") / file_name(name) / folder / f"{one.place}.png"
        write_with(output / place, partial(Image.fromarray(one.crop).save, format="PNG"))
        files.append(place.as_posix())
    return found.table.assign(file=files)


def file_name(name: str) -> str:
    """Return a generator's name with only characters that every file system takes."""
    return re.sub(r"[^\w.+-]", "_", name) or "none"
