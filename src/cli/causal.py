"""``forensift causal``: the published dropout beside one that takes evidence away and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Sweeping
from .verb import verb

if TYPE_CHECKING:
    from ..studies.causal import Causal, Choices


@verb
def causal(
    run: Sweeping,
    detectors: options.Detectors = "resnet50,efficientnet-b0,npr",
    choose: Annotated[
        bool,
        typer.Option(
            "--choose",
            help="Make the rankings anew instead: pursuit on training photographs, and what to "
            "take of it on validation photographs. No test photograph is looked at.",
        ),
    ] = False,
    pairs: Annotated[
        int, typer.Option("--pairs", min=2, help="Real and fake of each family, of the test.")
    ] = 15,
    size: Annotated[int, typer.Option("--size", min=16, help="Side of an image.")] = 128,
    draws: Annotated[
        str,
        typer.Option(
            metavar="N|auto", help="Of each random control; auto: until the answer is clear."
        ),
    ] = "20",
) -> Causal | Choices:
    """Ask whether dropout removes evidence or damages the network, on test photographs.

    Example: `forensift causal --seed 11 --out runs/causal`

    For each detector two experiments on the same images of eight families: the published one (top
    maps by omega, zero in their place) and a causal one (maps by pursuit on pairs of the training
    family, with what was chosen in their place), each along k and beside random maps of the same
    layers with the same value. Which layers, value and k were taken was decided on validation
    photographs (`choice.csv` beside the shipped rankings; `--choose` does it again, in half an hour
    on two cores; the study takes about as long).

    Writes `causal.csv`, `asked.csv`, the results of `forensift dropout` for each experiment,
    `causal.md`, `manifest.json` and the figure `causal`. With `--choose`: of each detector
    `choice.csv`, `progan-like-pursuit.csv` and `progan-like-means.parquet`.
    """
    from ..studies import causal as study

    names = detectors.split(",")
    unknown = [name for name in names if name not in study.CANDIDATES]
    if unknown:
        raise UserError(f"--detectors {unknown[0]}: choose of {', '.join(study.CANDIDATES)}")
    if draws != "auto" and not (draws.isdecimal() and int(draws)):
        raise UserError(f"--draws {draws}: give auto or a number")
    if choose:
        return study.choices(run.folder, names, side=size, device=run.chosen_device, **run.how)
    return study.causal(
        run.folder,
        names,
        pairs=pairs,
        side=size,
        draws="auto" if draws == "auto" else int(draws),
        device=run.chosen_device,
        **run.how,
    )
