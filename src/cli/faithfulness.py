"""``forensift faithfulness``: can an attribution method be trusted on this detector?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from rich.table import Table

    from ..explain import Faithfulness

LABELS = {"fake": 1, "real": 0, "both": None}


def faithfulness(
    detector: options.Detector,
    data: options.Data,
    weights: options.Weights = None,
    preset: options.PresetName = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="A,B", help="Attribution methods, by commas.")
    ] = "lrp,guided-gradcam,gradcam",
    n: Annotated[int, typer.Option("--n", min=1, help="Images, drawn at random.")] = 6,
    label: Annotated[
        str,
        typer.Option(metavar="fake|real|both", help="Which images; wrongly decided are left out."),
    ] = "fake",
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="Parts an image is deleted and inserted in.")
    ] = 5,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random orders an image.")] = 1,
    cell: Annotated[
        int, typer.Option("--cell", min=1, help="Side of the squares replaced, pixels.")
    ] = 8,
    fill: Annotated[
        str, typer.Option("--fill", metavar="mean|blur", help="What replaces them.")
    ] = "mean",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/faithfulness"),
) -> None:
    """Test attribution methods: deletion and insertion curves, randomised layers, agreement.

    Example: `forensift faithfulness resnet50 --data test_images --n 8`

    Writes `faithfulness.csv` (area under the curves and gain over random order), `curves.csv`,
    `randomisation.csv`, `agreement.csv`, `skipped.csv`, `manifest.json` and the figure
    `faithfulness`. DETECTOR may be an ImageNet classifier; then any folder of images will do.
    """
    if label not in LABELS:
        raise UserError(f"--label {label}: choose {', '.join(LABELS)}")
    from .. import figures
    from ..data import check_skipped, scan
    from ..detectors import load_detector, parse_spec
    from ..detectors.classifiers import CLASSIFIERS
    from ..explain import faithfulness as test
    from ..explain import image_files
    from ..files import write_csv, write_manifest

    images = image_files(data) if parse_spec(detector)[0] in CLASSIFIERS else scan(data)
    loaded = load_detector(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    output = options.output_folder(out)
    names = [name.strip() for name in methods.split(",")]
    with (
        options.skipped_images(output) as skipped,
        options.progress("testing attributions", n) as advance,
    ):
        found = test(
            loaded, images, methods=names, n=n, label=LABELS[label], steps=steps, draws=draws,
            cell=cell, fill=fill, seed=seed, skipped=skipped, progress=advance,
        )  # fmt: skip
    check_skipped(skipped, len(images), max_skipped)
    write_csv(output / "faithfulness.csv", found.summary)
    write_csv(output / "curves.csv", found.curves)
    write_csv(output / "randomisation.csv", found.randomisation)
    write_csv(output / "agreement.csv", found.agreement)
    title = f"{loaded.name}, {found.counts['used']} images"
    figure = figures.plot_faithfulness(
        found.curves, found.randomisation, found.agreement, title=title
    )
    figures.save(figure, output, "faithfulness")
    facts = {
        **options.studied(loaded, images),
        "counts": found.counts,
        "methods": names,
        "explained": "the decision",
        "label": label,
        "steps": steps,
        "draws": draws,
        "cell": cell,
        "fill": fill,
        "seed": seed,
    }
    write_manifest(output, facts)
    options.console().print(_printed(found, title))
    print(f"tables in {output}")


def _printed(found: Faithfulness, title: str) -> Table:
    from rich.table import Table

    heads = ("method", "deletion gain", "insertion gain", "rank correlation, all layers random")
    table = Table(*heads, title=title, title_justify="left")
    summary = found.summary.set_index(["method", "kind"])
    last = found.randomisation[found.randomisation["share"] == 1]
    after = last.groupby("method")["spearman"].mean()
    for method in dict.fromkeys(found.randomisation["method"]):
        cells = []
        for kind in ("deletion", "insertion"):
            row = summary.loc[(method, kind)]
            cells.append(f"{row['gain']:+.3f} ({row['gain_low']:+.3f} … {row['gain_high']:+.3f})")
        table.add_row(method, *cells, f"{after.get(method, float('nan')):.2f}")
    return table
