"""``forensift attribute evaluate``: how well detectors name the family."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .attribute_world import World

if TYPE_CHECKING:
    from ..studies.dna_det import ClassMap, Study


def evaluate(
    detector: options.Detector,
    data: World,
    weights: Annotated[
        list[str],
        typer.Option(
            "--weights",
            metavar="NAME=FILE",
            help="Weights and a name for tables; several are compared, the first with each other. "
            "NAME= may be left out: the file's own.",
        ),
    ],
    preset: options.PresetName = None,
    per_group: Annotated[
        int, typer.Option("--per-group", min=0, help="t-SNE images of a network; 0 draws none.")
    ] = 25,
    crops: Annotated[
        int, typer.Option("--crops", min=0, help="Crops that Grad-CAM is drawn of; 0 draws none.")
    ] = 1,
    layer: Annotated[
        str, typer.Option("--layer", help="Of Grad-CAM; the published one of DNA-Det.")
    ] = "main.3.main.2",
    resamples: Annotated[int, typer.Option("--resamples", min=1, help="Of the intervals.")] = 2000,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="By default study/ below --data.")
    ] = None,
) -> None:
    """Name the family of closed and cross sets, and compare detectors on the same images.

    Example: `forensift attribute evaluate dna-det --data runs/attribution
    --weights DNA-Det=runs/dna/dna-det.safetensors --weights plain=runs/plain/dna-det.safetensors`

    The detectors need the classes real and the families' names. Intervals draw photographs with
    replacement; a difference of two detectors draws them once for both.

    Writes `attribution.csv` (set, metric, class, n, value, interval), `confusion.csv`,
    `differences.csv`, `drops.csv` (closed against crossed networks on the same crops),
    `predictions.csv`, `NAME/SET/pred/result.txt` (path TAB class number, as published) beside
    `NAME/SET/annotations.txt`, figures of accuracy, confusion, t-SNE (pooled features, published
    settings) and Grad-CAM (probability of the predicted class), `embedding.csv`, `manifest.json`.
    """
    import pandas as pd

    from .. import figures
    from ..data import check_skipped
    from ..detectors import load_detector
    from ..files import write_bytes, write_csv, write_manifest
    from ..studies.dna_det import (
        STUDY,
        WORDS,
        class_maps,
        predictions,
        study,
        study_sets,
        world_embedding,
    )

    named = [_named(one) for one in weights]
    if len({name for name, _ in named}) < len(named):
        raise UserError("--weights: two of the same name; write NAME=FILE")
    sets = study_sets(data)
    loaded = {
        name: load_detector(
            detector, weights=path, preset=preset, device=options.choose_device(device)
        )
        for name, path in named
    }
    output = options.output_folder(out or data / STUDY)
    total = sum(len(images) for images in sets.values())
    found = {}
    with options.skipped_images(output) as skipped:
        for name, one in loaded.items():
            with options.progress(f"attributing with {name}", total) as advance:
                found[name] = predictions(
                    one, sets, batch_size=batch_size, skipped=skipped, progress=advance
                )
            check_skipped(skipped, total * len(loaded))
    classes = {name: one.classes for name, one in loaded.items()}
    result = study(found, classes, resamples=resamples, seed=seed)
    for stem in ("predictions", "confusion", "differences", "drops"):
        write_csv(output / f"{stem}.csv", getattr(result, stem))
    write_csv(output / "attribution.csv", result.metrics)
    for (name, one), own in result.predictions.groupby(["detector", "set"], sort=False):
        number = {label: at for at, label in enumerate(classes[str(name)])}
        folder = output / _slug(str(name)) / str(one)
        for column, file in (("truth", "annotations.txt"), ("predicted", "pred/result.txt")):
            pairs = zip(own["path"], own[column], strict=True)
            lines = "".join(f"{path}\t{number[label]}\n" for path, label in pairs)
            write_bytes(folder / file, lines.encode())
    whole = (result.metrics["metric"] == "accuracy") & (result.metrics["generator"] == "")
    figures.save(figures.plot_attribution(result.metrics[whole], WORDS), output, "accuracy")
    for name, own in result.confusion.groupby("detector", sort=False):
        drawn = figures.plot_confusions(own, WORDS, title=str(name))
        figures.save(drawn, output, f"confusion-{_slug(str(name))}")
    embedded, qualities = [], []
    for name, one in loaded.items():
        if per_group:
            embedding = world_embedding(one, sets, per_group=per_group, seed=seed)
            quality = embedding.quality.iloc[0].to_dict()
            title = f"{name}, pooled features"
            drawn = figures.plot_world_embedding(embedding.table, quality, WORDS, title=title)
            figures.save(drawn, output, f"tsne-{_slug(name)}")
            embedded.append(embedding.table.assign(detector=name))
            qualities.append({"detector": name, **quality})
        if crops:
            maps = class_maps(one, sets, crops=crops, layer=layer, batch_size=batch_size)
            _save_maps(maps, output, name)
    if embedded:
        write_csv(output / "embedding.csv", pd.concat(embedded, ignore_index=True))
        write_csv(output / "embedding-quality.csv", pd.DataFrame(qualities))
    facts = {
        "data": str(data),
        "detectors": [
            {"name": name, "file": one.weights.path, "sha256": one.weights.sha256,
             "preset": one.preset.name, "classes": one.classes}
            for name, one in loaded.items()
        ],
        "image_sets_sha256": {name: images.hash() for name, images in sets.items()},
        "images": total,
        "skipped": len(skipped),
        "resamples": resamples,
        "layer": layer,
        "seed": seed,
    }  # fmt: skip
    write_manifest(output, facts)
    _print_accuracies(result)
    print(f"{total} images a detector, {len(skipped)} skipped; tables and figures in {output}")


def _named(weights: str) -> tuple[str, Path]:
    name, equals, file = weights.partition("=")
    path = Path(file if equals else weights)
    if not path.is_file():
        raise UserError(f"--weights {weights}: {path} is no file")
    return (name if equals else path.stem), path


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-").lower()


def _save_maps(maps: Sequence[ClassMap], output: Path, name: str) -> None:
    """Save a figure a crop, and the published files of each image."""
    from .. import figures
    from ..files import write_bytes
    from ..forge.forge import png
    from ..studies.dna_det import WORDS

    crops = list(dict.fromkeys(Path(one.path).name for one in maps))
    for crop in crops:
        own = [one for one in maps if Path(one.path).name == crop]
        cells = {
            (one.truth, one.set): (
                one.pixels,
                one.heat,
                f"{one.predicted} {100 * one.probability:.0f} %",
                one.predicted == one.truth,
            )
            for one in own
        }
        rows = list(dict.fromkeys(one.truth for one in own))
        columns = list(dict.fromkeys(one.set for one in own))
        drawn = figures.plot_class_maps(
            cells, rows, columns, titles=WORDS, title=f"{name}: where it looks for its answer"
        )
        figures.save(drawn, output, f"gradcam-{_slug(name)}-{Path(crop).stem}")
    for one in maps:
        folder = output / _slug(name) / one.set / "gradcam"
        pictures = {
            "inputs": one.pixels.transpose(1, 2, 0),
            "cam": figures.class_overlay(one.pixels, one.heat),
            "heatmap": figures.heat_colours(one.heat),
        }
        for kind, picture in pictures.items():
            file = folder / f"{Path(one.path).stem}_{kind}_{one.truth}_{one.predicted}.png"
            write_bytes(file, png(picture))


def _print_accuracies(result: Study) -> None:
    from rich.table import Table

    from ..studies.dna_det import accuracy_rows

    rows = accuracy_rows(result.metrics, result.differences)
    drawn = Table(title="accuracy in percent [95 %, by photograph]", title_justify="left")
    for column in rows.columns:
        drawn.add_column(str(column), justify="left" if column == "test set" else "right")
    for row in rows.to_dict("records"):
        shown = [str(value).replace("[", "\\[") for value in row.values()]
        drawn.add_row(*shown)
    options.console().print(drawn)
