"""``forensift explain``: where in an image the evidence for a detector's decision lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from ..explain import Explanation

METHODS = "lrp|gradcam|guided-gradcam|guided-backprop|gradient"


def explain(
    detector: Annotated[
        str,
        typer.Argument(
            metavar="DETECTOR",
            help="A detector (resnet50, efficientnet-b0, npr …) or an ImageNet classifier "
            "(resnet50-imagenet, efficientnet-b0-imagenet, efficientnet-lite0-imagenet).",
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Files, or folders with images at any depth."),
    ],
    method: Annotated[str, typer.Option("--method", metavar=METHODS)] = "lrp",
    weights: options.Weights = None,
    preset: options.PresetName = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="CLASS",
            help="What to explain. Of several classes: one by number or name, by default the one "
            "with the largest logit. Of one logit: fake, real or decision, by default the logit.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            help="Of Grad-CAM; several with commas between count as one. Default: the last stage, "
            "or _conv_head of EfficientNet.",
        ),
    ] = None,
    scaling: Annotated[
        str,
        typer.Option(
            metavar="percentile-P|max|signed",
            help="Of the drawings alone: positive relevance divided by its percentile or maximum "
            "(max is the published one), or both signs.",
        ),
    ] = "percentile-99",
    device: options.Device = "auto",
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 1.0,
    out: options.Out = Path("output/explain"),
) -> None:
    """Show which pixels a decision rests on: LRP, Grad-CAM, Guided Grad-CAM or the gradient.

    Example: `forensift explain resnet50 photos/chelsea.jpg --method guided-gradcam`

    Writes per image `<stem>.npy` (raw signed relevance, float32, 3 x H x W; Grad-CAM H x W),
    `<stem>.png` (overlay, pixel for pixel) and `<stem>.pdf` (image and overlay, with the scaling
    in its caption); `explained.csv` (image, target, logit, sums, scaling), `skipped.csv`,
    `manifest.json`. Images below different folders keep their folders.
    """
    import pandas as pd

    from ..data import check_skipped
    from ..detectors.classifiers import load_any
    from ..explain import attributor, explanations, image_files, named_target, output_names
    from ..explain.heat import BLUR, check_scaling, scaling_words
    from ..files import write_csv, write_manifest

    check_scaling(scaling)
    files = image_files(images)
    loaded = load_any(
        detector, weights=weights, preset=preset, device=options.choose_device(device)
    )
    attributor(loaded, method, layer)  # before anything is written
    wanted = named_target(loaded, target)
    output = options.output_folder(out)
    blur = BLUR if method == "lrp" else 0
    names = dict(zip((entry.path for entry in files), output_names(files), strict=True))
    order = {entry.path: place for place, entry in enumerate(files)}
    rows: list[dict[str, Any]] = []
    with (
        options.skipped_images(output) as skipped,
        options.progress(f"explaining by {method}", len(files)) as advance,
    ):
        for one in explanations(
            loaded, files, method, target=wanted, layer=layer, batch_size=batch_size,
            seed=seed, skipped=skipped,
        ):  # fmt: skip
            assert one.path is not None
            name = names[one.path]
            row = _save(one, output, name, loaded.name, scaling, blur)
            rows.append({"place": order[one.path]} | row)
            advance(1)
    check_skipped(skipped, len(files), max_skipped)
    table = pd.DataFrame(rows).sort_values("place").drop(columns="place")
    write_csv(output / "explained.csv", table)
    facts = {
        "detector": loaded.name,
        "weights": {"file": loaded.weights.path, "sha256": loaded.weights.sha256},
        "preset": loaded.preset.name,
        "data": str(files.root),
        "method": method,
        "target": target or "the only logit, or the largest",
        "layer": layer or "default",
        "scaling": scaling,
        "drawn": scaling_words(scaling, blur, method),
        "blend": "0.55 heat + 0.45 image",
        "image_set_sha256": files.hash(),
        "used": len(rows),
        "skipped": len(skipped),
        "seed": seed,
        "batch_size": batch_size,
    }
    write_manifest(output, facts)
    if empty := int((table["positive_sum"] == 0).sum()):
        print(f"{empty} of {len(table)} maps hold nothing positive; try --target decision")
    print(f"{len(table)} image{'s' * (len(table) > 1)} explained in {output}")


def _save(
    one: Explanation, output: Path, name: str, detector: str, scaling: str, blur: int
) -> dict[str, Any]:
    """Write the files of one image and return its row of ``explained.csv``."""
    import numpy as np

    from .. import figures
    from ..explain.heat import heat, scaling_words
    from ..files import write_with

    drawn, unit = heat(one.map, scaling, blur)
    said = f"{one.method} of {one.target_name} in {detector}, logit {one.logit:.3g}"
    caption = f"{said}.\n{scaling_words(scaling, blur, one.method)}."
    target = output / name

    def save_raw(path: Path) -> None:
        with path.open("wb") as opened:
            np.save(opened, one.relevance)

    write_with(target.with_name(f"{target.name}.npy"), save_raw)
    figures.save_overlay(
        target.parent, target.name, one.pixels, drawn, signed=scaling == "signed", caption=caption
    )
    raw = one.relevance.astype(np.float64)
    return {
        "path": one.key,
        "file": f"{name}.npy",
        "method": one.method,
        "target": one.target,
        "target_name": one.target_name,
        "logit": one.logit,
        "sum": raw.sum(),
        "positive_sum": raw[raw > 0].sum(),
        "scaling": scaling,
        "drawn_as_1": unit,
        "height": one.pixels.shape[1],
        "width": one.pixels.shape[2],
    }
