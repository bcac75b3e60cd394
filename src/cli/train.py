"""``forensift train``: train a detector by a published recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .trainings import train_classes, train_one_logit

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
            "--recipe",
            metavar="NAME",
            help="One logit: blur-jpg-0.5, blur-jpg-0.1, colour-robust, npr, npr-genimage, lgrad. "
            "Classes: dna-det-celeba, dna-det-lsun, dna-det-in-the-wild, dna-det-pretrain, "
            "deepfeaturex.",
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
    classes: Annotated[
        str,
        typer.Option(
            "--classes", metavar="A,B", help="Use these classes' images alone (car,cat,chair,horse)"
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe (again for each); a wrong name lists them all. "
            "DNA-Det: width, crops, classes, contrastive …; DeepFeatureX: backbone, share …; "
            "LGrad: stages.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="Preprocessing that goes with the weights: it is kept in their header.",
        ),
    ] = None,
    guidance: Annotated[
        Path | None,
        typer.Option(
            "--guidance", metavar="FILE", help="DeepFeatureX: which image trains what; else made."
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="DNA-Det, DeepFeatureX: train the plain baseline (too)."),
    ] = False,
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
    class_bal: Annotated[
        bool,
        typer.Option(
            "--class-bal",
            help="Draw reals and fakes equally often, with replacement; an epoch stays as long.",
        ),
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
        int,
        typer.Option("--bits", help="Of the weights written: 32, 16, or 8 and fewer (rounded)."),
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
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of everything random. Default: the recipe's.")
    ] = None,
    out: options.Out = Path("output/train"),
) -> None:
    """Train a detector; run the same command again to go on after an interruption.

    Examples:

    `forensift train resnet50 --data progan_train --validation progan_val --recipe blur-jpg-0.5
    --init resnet50-19c8e357.pth`

    `forensift train dna-det --data celeba --recipe dna-det-celeba --set width=32`

    `forensift train deepfeaturex --data datasets --recipe deepfeaturex --set backbone=resnet18`

    A recipe's sizes are the published ones (256 → 224); on smaller images give `--load-size 0
    --crop-size N`. Early stopping is the recipe's. Writes `DETECTOR.safetensors` (best epoch),
    `history.csv`, `checkpoint.pth` (to go on from) and `manifest.json`; DeepFeatureX, which is four
    trainings, into a folder for each.
    """
    from ..detectors import get_architecture, read_checkpoint
    from ..training.classes import RECIPES as OF_CLASSES
    from ..training.train import PRECISIONS

    get_architecture(detector)
    if class_bal and pairs:
        raise UserError("--class-bal: pairs are balanced already; leave out --pairs or it")
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: choose {' or '.join(PRECISIONS)}")
    if bits not in (*range(2, 9), 16, 32):
        raise UserError(f"--bits {bits}: choose 32, 16, or 8 and fewer")
    if difference is not None:
        read_checkpoint(difference)  # before anything is computed
    common = {
        "start": start,
        "max_steps": max_steps,
        "epoch_steps": epoch_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    whole = detector == "deepfeaturex"
    sets = _image_sets(data, validation, generator, classes, whole)
    device = options.choose_device(device)
    if recipe in OF_CLASSES or whole or detector == "dna-det":
        given = {
            **{key: value for key, value in common.items() if value},
            "seed": seed,
            "preset": preset,
            "crop_size": crop_size or None,
        }
        train_classes(
            detector, recipe, sets, given, settings or [], options.output_folder(out),
            guidance=guidance, plain=plain, bits=bits, workers=workers, device=device,
        )  # fmt: skip
        return
    given = {
        **common,
        "load_size": load_size,
        "crop_size": crop_size,
        "pairs": pairs,
        "precision": precision,
        "published_blur": published_blur,
        "balanced": class_bal,
        "workers": workers,
        "freeze": tuple(prefix for prefix in freeze.split(",") if prefix),
        "options": tuple(_build_option(pair) for pair in settings or []),
    }
    train_one_logit(
        detector, recipe, sets, given, options.output_folder(out), seed=seed, preset=preset,
        settle=settle, settle_crop=settle_crop, bits=bits, difference=difference, device=device,
    )  # fmt: skip


def _image_sets(
    data: Path, validation: Path | None, generator: str | None, classes: str, whole: bool
) -> list[ImageSet]:
    """Return the training and the validation set, or the ``whole`` data alone."""
    from ..data import require_both_classes, scan
    from ..records import ImageSet

    folders = [data]
    if not whole:
        if validation is None:
            if not (data / "val").is_dir() or not (data / "train").is_dir():
                raise UserError(f"{data} holds no train and val folder; give --validation DIR")
            data, validation = data / "train", data / "val"
        folders = [data, validation]
    sets = []
    for folder in folders:
        images = scan(folder)
        if generator is not None:
            if generator not in images.generators:
                raise UserError(f"{folder}: no generator {generator!r}; {images.generators}")
            images = images.only(generator=generator)
        if classes:
            names = classes.split(",")
            known = sorted({entry.class_name for entry in images})
            if missing := [name for name in names if name not in known]:
                raise UserError(f"{folder}: no class {', '.join(missing)}; there are {known}")
            chosen = tuple(entry for entry in images if entry.class_name in names)
            images = ImageSet(images.root, chosen, images.layout)
        if not whole:  # DeepFeatureX's published folders hold reals or fakes, not both
            require_both_classes(images)
        sets.append(images)
    return sets


def _build_option(pair: str) -> tuple[str, int | str]:
    name, sign, value = pair.partition("=")
    if not sign:
        raise UserError(f"--set {pair}: give KEY=VALUE")
    return name, int(value) if value.isdecimal() else value
