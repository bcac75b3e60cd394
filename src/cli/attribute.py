"""``forensift attribute``: which family an image is of; the worlds and studies around DNA-Det."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .run import Out, Seeded, Sweeping
from .verb import one_line_errors, verb

if TYPE_CHECKING:
    from ..studies.dna_det import Fingerprints, Study

app = typer.Typer(
    help="Attribute fakes to the family that made them: worlds and studies around DNA-Det.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

World = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="The folder that `forensift attribute forge` made."),
]


@dataclass(kw_only=True)
class WorldRun(Out):
    """A run on the worlds of `forensift attribute forge`; writes into fingerprints/ below them."""

    data: World
    seed: options.Seed = 0

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {**super().facts(), "data": str(self.data)}


@dataclass(kw_only=True)
class StudyRun(Sweeping):
    """A run of detectors on the worlds; writes into study/ below them."""

    data: World

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {**super().facts(), "data": str(self.data)}


@verb
def forge(
    run: Seeded,
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

    run.out = run.out or Path("runs/attribution")
    table = forge_world(
        run.folder,
        Sizes(train, validation, test, size, steps),
        regime=regime,
        seed=run.seed,
        progress=lambda *done: run.tell("making the world", *done),
    )
    shown = table[["generator", "setting", "seed", "loss", "photos", "steps", "psnr", "seconds"]]
    print(shown.to_string(index=False, float_format="%.1f"))
    print(f"networks and image sets in {run.folder}")


@verb
def evaluate(
    run: StudyRun,
    detectors: Annotated[
        list[str],
        typer.Option(
            "--detector",
            metavar="LABEL:=NAME=FILE",
            help="A detector, NAME, NAME:VARIANT or NAME=FILE (dna-det=…), with a label for tables "
            "if LABEL:= stands before it. Repeat it to compare the first with the others.",
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
) -> Study:
    """Name the family of closed and cross sets, and compare detectors on the same images.

    Example: `forensift attribute evaluate --data runs/attribution
    --detector DNA-Det:=dna-det=runs/dna/dna-det.safetensors
    --detector plain:=dna-det=runs/plain/dna-det.safetensors`

    The detectors need the classes real and the families' names. Intervals draw photographs with
    replacement; a difference of two detectors draws them once for both.

    Writes `attribution.csv` (set, metric, class, n, value, interval), `confusion.csv`,
    `differences.csv`, `drops.csv` (closed against crossed networks on the same crops),
    `predictions.csv`, `NAME/SET/pred/result.txt` (path TAB class number, as published) beside
    `NAME/SET/annotations.txt`, figures of accuracy, confusion, t-SNE (pooled features, published
    settings) and Grad-CAM (probability of the predicted class), `embedding.csv`, `manifest.json`.
    """
    from ..detectors import load_detector
    from ..studies.dna_det import STUDY, labelled, study

    run.out = run.out or run.data / STUDY
    loaded = {
        label: load_detector(spec, preset=preset, device=run.chosen_device)
        for label, spec in labelled(detectors).items()
    }
    return study(
        loaded,
        run.data,
        per_group=per_group,
        crops=crops,
        layer=layer,
        resamples=resamples,
        **run.how,
    )


@verb
def fingerprints(
    run: WorldRun,
    patch: Annotated[int, typer.Option(min=8, help="Side of a patch.")] = 32,
    place: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="TOP LEFT", help="Trained on; by default the middle."),
    ] = None,
    stride: Annotated[
        int, typer.Option(min=4, help="Of the grid of test places; a multiple of 4.")
    ] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps a task.")] = 1500,
) -> Fingerprints:
    """Train on patches of one place, test on all: are a generator's traces the same everywhere?

    Example: `forensift attribute fingerprints --data runs/attribution`

    The empirical study of the DNA-Det paper (section 3), for two questions: which of four families
    made a patch (architecture), and which of four networks of one family that differ by the seed
    (weights). All classes get the same crops, of any part of any photograph: content is not
    aligned with places, as it is in the paper's faces.

    Writes `positions.csv` (accuracy at each place), `fingerprints.csv` (a row a task),
    `history.csv`, `fingerprints.pdf` and `.png`, and `manifest.json`.
    """
    from ..studies.dna_det import FINGERPRINTS, FingerprintSettings, study_fingerprints

    run.out = run.out or run.data / FINGERPRINTS
    settings = FingerprintSettings(patch, place, stride, steps, seed=run.seed)
    return study_fingerprints(
        run.data, settings, progress=lambda *done: run.tell("training on one place", *done)
    )


@app.command("page")
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
    with one_line_errors([]):
        write_page(data, path)
    print(f"page in {path}")


for _name, _verb in {"forge": forge, "evaluate": evaluate, "fingerprints": fingerprints}.items():
    app.command(_name)(_verb)
