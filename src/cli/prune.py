"""``forensift prune``: a detector without chosen feature maps, its last layer fitted anew."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from ..files import command_line
from . import options
from .run import Run, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..pruning import Pruning


@verb
def prune(
    run: Run,
    refit: Annotated[
        Path,
        typer.Option(
            "--refit",
            metavar="DIR",
            help="Images of other photographs, which the last layer is fitted on.",
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="ranking|dear-corvi|dear-rajan|gaintseva",
            help="What to prune: the top k maps of a ranking; or, of what goes into the last "
            "layer, both ends of DEAR's regional activation discrepancy (the middle 60 or 40 "
            "percent stay), or what Gaintseva's greedy removal finds harmful.",
        ),
    ] = "ranking",
    ranking: Annotated[
        Path | None,
        typer.Option("--ranking", metavar="CSV", help="Of `forensift rank`; by any score."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="Feature maps from the ranking's top.")
    ] = None,
    units: options.Units = "neurons",
    value: Annotated[
        str,
        typer.Option(
            "--value",
            metavar="mean-real|mean|zero",
            help="What pruned feature maps hold: their mean over the reals of --refit, over all "
            "of it, or zero.",
        ),
    ] = "mean-real",
    draws: Annotated[
        int, typer.Option("--draws", min=0, help="Of random pruning, each fitted anew.")
    ] = 5,
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions",
            metavar="A,B",
            help="What is done to the test images, beside clean; see `forensift robustness`.",
        ),
    ] = "jpeg-75,blur-1,resize-0.5",
    refit_conditions: Annotated[
        str,
        typer.Option(
            "--refit-conditions",
            metavar="A,B",
            help="What is done to the images that the last layer is fitted on, beside clean.",
        ),
    ] = "clean",
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE.safetensors",
            help="Write the pruned detector's weights, which --weights reads.",
        ),
    ] = None,
) -> Pruning:
    """Prune feature maps, fit the last layer anew, and certify what that has changed.

    Example: `forensift prune resnet50 --data test --refit validation --ranking
    validation-fake.csv --k 114 --save pruned.safetensors`

    The detector itself stays as it is. Reals' and fakes' accuracy at threshold 0.5 and AP, clean
    and processed, stand beside the whole detector, the same detector whose last layer alone is
    fitted anew, and random pruning of as many units of the same layers: an improvement is the
    pruning's only where it is more than theirs. The last layer is a logistic regression; how
    strong its penalty is, cross-validation by photograph decides.

    Writes `certificate.csv`, `differences.csv` (paired, by photograph), `pruned.csv`, `fits.csv`,
    `scores.parquet`, `skipped.csv`, `manifest.json` and the figure `certificate`. Fractions.
    """
    from .. import pruning
    from ..detectors import save_weights, with_units
    from ..fmap_ranking import load_ranking

    if save is not None and save.suffix != ".safetensors":
        raise UserError(f"--save {save}: give a file that ends in .safetensors")
    detector = with_units(run.loaded, units)  # type: ignore[arg-type]
    found = pruning.prune(
        detector,
        run.images,
        scanned(refit),
        method,  # type: ignore[arg-type]
        ranking=load_ranking(ranking) if ranking else None,
        k=k,
        value=value,
        draws=draws,
        conditions=conditions.split(","),
        refit_conditions=refit_conditions.split(","),
        **run.how,
    )
    if save is not None:
        # Not as "command": a loaded file is said to be trained on the --data of its command.
        facts = {"preset": detector.preset.name, "pruned": shlex.join(command_line())}
        save_weights(save, found.detector.network.state_dict(), facts)
    return found
