"""What the verbs share: options, the choice of a device, the output folder, a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from .. import detectors
    from ..records import ImageSet, Skipped

Detector = Annotated[
    str,
    typer.Argument(
        metavar="DETECTOR",
        help="resnet50, efficientnet-b0, npr … (`forensift doctor` lists them), or one's own: "
        "file.py:function, package.module:function or timm:NAME.",
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Image set: a folder in any layout that `forensift scan` knows, or its manifest.csv.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Checkpoint of the detector, as published or from `forensift train`. "
        "Default: the weights that forensift ships.",
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Preprocessing: wang-nocrop, wang-crop224, npr-native, npr-forensynths, "
        "npr-SUITE (docs/commands.md), tff-ffrs, tff-ffrs-SIZE, imagenet. Default: the "
        "detector's own.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda", help="auto takes a GPU if there is one.")
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images at a time. Changes memory and speed; results to rounding.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is random.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for the results; made if missing.")
]
Regime = Annotated[
    str,
    typer.Option(
        metavar="quick|matched",
        help="Training of variants: half a minute each, or a minute to the shipped quality.",
    ),
]
MaxSkipped = Annotated[
    float,
    typer.Option(
        "--max-skipped",
        min=0.0,
        max=1.0,
        help="Largest share of unreadable images to go on with, 0 to 1. All are in skipped.csv.",
    ),
]


def choose_device(asked: str) -> str:
    """Return 'cpu' or 'cuda' for what ``--device`` asks.

    Raises:
        UserError: another word, or CUDA where torch finds none.
    """
    if asked == "cpu":
        return asked
    if asked not in ("auto", "cuda"):
        raise UserError(f"--device {asked}: choose auto, cpu or cuda")
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        build = torch.version.cuda
        why = f"no GPU that fits CUDA {build}" if build else "this torch is built without CUDA"
        raise UserError(f"--device cuda: {why}; use --device cpu or see `forensift doctor`")
    return "cpu"


def output_folder(out: Path) -> Path:
    """Make the folder for the results before anything is computed, and return it.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made: {error.strerror}") from None
    if not os.access(out, os.W_OK):
        raise UserError(f"--out {out}: no permission to write there")
    return out


@contextmanager
def skipped_images(output: Path) -> Iterator[list[Skipped]]:
    """Yield a list for images that cannot be read; it is ``skipped.csv``, also after an error."""
    from ..files import write_csv
    from ..records import skipped_table

    skipped: list[Skipped] = []
    try:
        yield skipped
    finally:
        write_csv(output / "skipped.csv", skipped_table(skipped))


def studied(detector: detectors.Detector, images: ImageSet) -> dict[str, object]:
    """Return what every manifest says of the detector and the image set."""
    return {
        "detector": detector.name,
        "weights": {"file": detector.weights.path, "sha256": detector.weights.sha256},
        "preset": detector.preset.name,
        **getattr(detector.preset, "facts", {}),
        "data": str(images.root),
        "image_set_sha256": images.hash(),
    }


def console() -> Console:
    """Return where tables are printed: as wide as the terminal, 140 columns in a file or pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a bar on by so many of ``total``; quiet unless on a terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def steps(what: str) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a function that is told (done, in all, text); quiet unless on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, text="")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, text=text)
