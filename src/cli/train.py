"""``forensift train``: train a detector by a published recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from ..records import ImageSet


def train(
    detector: options.Detector,
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", help="Image set, or a folder with `train` and `val` in it."
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="NAME", help="blur-jpg-0.5, blur-jpg-0.1, colour-robust or npr."
        ),
    ],
    validation: Annotated[
        Path | None,
        typer.Option("--validation", metavar="DIR", help="Image set; default: `DATA/val`."),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option("--generator", metavar="NAME", help="Use this generator's images alone."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--init",
            metavar="default|high-pass|FILE",
            help="Where to start: PyTorch's initialisation; one that ignores smooth content and "
            "starts shallow, for training without ImageNet weights; or a checkpoint, such as "
            "ImageNet weights (the published choice for blur-jpg).",
        ),
    ] = "default",
    max_steps: Annotated[
        int, typer.Option("--max-steps", min=0, help="End after so many steps; 0: the recipe's.")
    ] = 0,
    epoch_steps: Annotated[
        int, typer.Option("--epoch-steps", min=0, help="Steps between validations; 0: all data.")
    ] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=0, help="Images a step; 0: the recipe's.")
    ] = 0,
    learning_rate: Annotated[
        float, typer.Option("--lr", min=0.0, help="Learning rate; 0: the recipe's.")
    ] = 0.0,
    load_size: Annotated[
        int | None,
        typer.Option("--load-size", min=0, help="Shorter side before the crop; 0: native size."),
    ] = None,
    crop_size: Annotated[
        int, typer.Option("--crop-size", min=0, help="Side of the crop; 0: 7/8 of the load size.")
    ] = 0,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs/--no-pairs",
            help="Put real and fake of the same file name into the same batch, cropped and "
            "compressed alike, so that only the generator differs.",
        ),
    ] = False,
    precision: Annotated[
        str, typer.Option("--precision", metavar="float32|bf16", help="bf16 is faster.")
    ] = "float32",
    published_blur: Annotated[
        bool,
        typer.Option("--published-blur", help="Truncate to 8 bits after each pass of the blur."),
    ] = False,
    settle: Annotated[
        int,
        typer.Option(
            "--settle",
            min=0,
            metavar="N",
            help="At the end, measure BatchNorm's statistics anew over N batches and write the "
            "last step instead of the best epoch.",
        ),
    ] = 0,
    settle_crop: Annotated[
        int,
        typer.Option(
            "--settle-crop", min=0, help="Side of the crops for --settle; 0: as in training."
        ),
    ] = 0,
    bits: Annotated[
        int, typer.Option("--bits", help="Of the weights written: 32, 16 or 8 (in 8-bit steps).")
    ] = 32,
    freeze: Annotated[
        str,
        typer.Option(
            "--freeze",
            metavar="A,B",
            help="Modules (name prefixes) whose convolutions keep the weights they start with.",
        ),
    ] = "",
    difference: Annotated[
        Path | None,
        typer.Option(
            "--difference",
            metavar="FILE",
            help="Write only the tensors that differ from these weights, which must then lie "
            "beside the new ones, or be shipped.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that load images.")
    ] = 1,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    out: options.Out = Path("output/train"),
) -> None:
    """Train a detector; run the same command again to go on after an interruption.

    Example: `forensift train resnet50 --data progan_train --validation progan_val --recipe
    blur-jpg-0.5 --init resnet50-19c8e357.pth`

    A recipe's sizes are the published ones (256 → 224); on smaller images give `--load-size 0
    --crop-size N`. Early stopping is the recipe's. Writes `DETECTOR.safetensors` (best epoch),
    `history.csv`, `checkpoint.pth` (to go on from) and `manifest.json`.
    """
    import dataclasses

    from ..data import require_both_classes, scan
    from ..detectors import get_architecture, header, read_checkpoint, save_weights
    from ..files import provenance, sha256, write_manifest
    from ..training import Settings, get_recipe, settled
    from ..training import train as run
    from ..training.train import PRECISIONS

    get_architecture(detector)
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: choose {' or '.join(PRECISIONS)}")
    if bits not in (8, 16, 32):
        raise UserError(f"--bits {bits}: choose 32, 16 or 8")
    if validation is None:
        if not (data / "val").is_dir() or not (data / "train").is_dir():
            raise UserError(f"{data} holds no train and val folder; give --validation DIR")
        data, validation = data / "train", data / "val"
    sets: list[ImageSet] = []
    for folder in (data, validation):
        images = scan(folder)
        if generator is not None:
            if generator not in images.generators:
                raise UserError(f"{folder}: no generator {generator!r}; {images.generators}")
            images = images.only(generator=generator)
        require_both_classes(images)
        sets.append(images)
    settings = Settings(
        recipe=get_recipe(recipe),
        start=start,
        seed=seed,
        max_steps=max_steps,
        epoch_steps=epoch_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        load_size=load_size,
        crop_size=crop_size,
        pairs=pairs,
        precision=precision,
        published_blur=published_blur,
        workers=workers,
        freeze=tuple(prefix for prefix in freeze.split(",") if prefix),
    )
    if difference is not None:
        read_checkpoint(difference)  # before anything is computed
    output = options.output_folder(out)
    with options.steps(f"training {detector}") as progress:
        history = run(
            detector,
            sets[0],
            sets[1],
            settings,
            output,
            device=options.choose_device(device),
            progress=progress,
        )
    weights = output / f"{detector}.safetensors"
    if settle:
        what = f"last step, norms settled over {settle} batches"
        state, best = settled(
            detector,
            output / "checkpoint.pth",
            sets[0],
            sets[1],
            settings,
            settle,
            crop_size=settle_crop,
            device=options.choose_device(device),
        )
    else:
        row = history.loc[history[["accuracy", "clean_ap"]].apply(tuple, axis=1).idxmax()]
        what = f"best epoch {int(row['epoch'])} of {len(history)}"
        state, best = read_checkpoint(weights)[0], row.to_dict()
    result = (
        f"validation accuracy {best['accuracy']:.3f} with blur and JPEG, "
        f"{best['clean_accuracy']:.3f} without, AP {best['clean_ap']:.3f}"
    )
    before = header(Path(start)) if Path(start).is_file() else {}
    told = provenance(before, float(history["seconds"].iloc[-1]))
    told |= {"seed": str(seed), "result": result}
    save_weights(weights, state, header(weights) | told, bits=bits, base=difference)
    facts = {
        "detector": detector,
        "settings": dataclasses.asdict(settings),
        "images": [len(images) for images in sets],
        "image_set_sha256": [images.hash() for images in sets],
        "weights_sha256": sha256(weights),
        "seconds": float(history["seconds"].iloc[-1]),
    }
    write_manifest(output, facts)
    print(f"{detector}: {what}: {result}; {weights}")
