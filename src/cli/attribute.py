"""``forensift attribute``: which family an image is of; the worlds and studies around DNA-Det."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .attribute_evaluate import evaluate
from .attribute_fingerprints import fingerprints
from .attribute_world import World

HELP = "Attribute fakes to the family that made them: the worlds and the studies around DNA-Det."


def forge(
    train: Annotated[
        int, typer.Option("--train", min=1, help="Pairs a network in the training set.")
    ] = 720,
    validation: Annotated[int, typer.Option("--validation", min=1)] = 60,
    test: Annotated[
        int, typer.Option("--test", min=1, help="Pairs a network in each test set.")
    ] = 75,
    size: Annotated[int, typer.Option("--size", help="Side of an image; a multiple of 4.")] = 128,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Of every training, instead of each one's own."),
    ] = None,
    regime: options.Regime = "matched",
    seed: options.Seed = 0,
    out: options.Out = Path("runs/attribution"),
) -> None:
    """Train four families again (another seed, another loss, fine-tuned, other photographs).

    Example: `forensift attribute forge --out runs/attribution`

    Then forges the sets closed/{train,validation,test} with the shipped networks, and cross_seed,
    cross_loss, cross_finetune, cross_dataset with the others, all test sets of the same crops of
    photographs that no detector was trained on; and weights/{train,test}, of one family's networks
    that differ by the seed alone. An interrupted run goes on where it stopped.

    Writes `networks/` with the weights, their histories and critics, the sets as
    `SET/GENERATOR/{0_real,1_fake}/*.png`, `networks.csv` and `manifest.json`.
    """
    from ..studies.dna_det import Sizes, forge_world

    output = options.output_folder(out)
    sizes = Sizes(train, validation, test, size, steps)
    with options.steps("making the world") as progress:
        table = forge_world(output, sizes, regime=regime, seed=seed, progress=progress)
    shown = table[["generator", "setting", "seed", "loss", "photos", "steps", "psnr", "seconds"]]
    print(shown.to_string(index=False, float_format="%.1f"))
    print(f"networks and image sets in {output}")


def page(
    data: World,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="By default attribution.md below --data."),
    ] = None,
) -> None:
    """Write what the studies found as one page of Markdown, from their tables alone.

    Example: `forensift attribute page --data runs/attribution --out docs/attribution.md`
    """
    from ..studies.dna_det import write_page

    path = out or data / "attribution.md"
    options.output_folder(path.parent)
    write_page(data, path)
    print(f"page in {path}")


VERBS: dict[str, Callable[..., None]] = {
    "forge": forge,
    "evaluate": evaluate,
    "fingerprints": fingerprints,
    "page": page,
}
