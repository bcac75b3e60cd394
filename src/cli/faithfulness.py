"""``forensift faithfulness``: can the explanations of a detector be trusted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import completion, options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..explain import Faithfulness
    from ..studies.leaderboard import Leaderboard

CHOSEN = "lrp,guided-gradcam,gradcam"
LABELS = {"fake": 1, "real": 0, "both": None}


Methods = Annotated[
    str,
    typer.Option(
        "--method",
        "--methods",
        metavar="A,B|all",
        help="Explanation methods to test. Default: lrp,guided-gradcam,gradcam; with --board all.",
        autocompletion=completion.methods,
    ),
]


@verb
def faithfulness(
    run: Run,
    methods: Methods = "",
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="Images, drawn at random: 24, with --board 6 of each."),
    ] = None,
    board: Annotated[
        bool,
        typer.Option(
            "--board",
            help="The leader board: also where truth is planted, and against noise and edges. "
            "DETECTOR may then be several with commas between, or all.",
        ),
    ] = False,
    label: Annotated[
        str, typer.Option(metavar="fake|real|both", help="Which images, of those decided right.")
    ] = "fake",
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="Parts that an image is deleted in.")
    ] = 10,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random orders an image.")] = 3,
    cell: Annotated[
        int, typer.Option("--cell", min=1, help="Side of the squares replaced, pixels.")
    ] = 8,
    composite: options.Composite = "beta0",
    fill: Annotated[
        str, typer.Option(metavar="mean|blur", help="What the squares are replaced by.")
    ] = "mean",
) -> Faithfulness | Leaderboard:
    """Test explanation methods: deletion, insertion, randomised weights, and their agreement.

    Example: `forensift faithfulness resnet50 --data CNN_synth_testset --n 50`,
    `forensift faithfulness npr,dna-det --board --data forged`

    Deletion: cover the squares that a map ranks highest; a map that found the evidence kills the
    decision sooner than a random order does. Insertion: the other way round. Randomised weights: a
    map that stays as it was does not look at what was learnt. Methods that do not apply to the
    network are left out and named.

    Writes `faithfulness.csv` (the summary), `curves.csv`, `randomisation.csv`, `agreement.csv`,
    `skipped.csv`, `manifest.json` and the figure `faithfulness`. With --board (docs/methods.md):
    `board.csv`, `trials.csv`, the page `methods.md` and the figure `leaderboard`; --data must hold
    each fake's photograph beside it, as `forensift forge` writes.
    """
    if label not in LABELS:
        raise UserError(f"--label {label}: choose {', '.join(LABELS)}")
    if board:
        own = {"steps": (steps, 10), "draws": (draws, 3), "fill": (fill, "mean"),
               "label": (label, "fake"), "composite": (composite, "beta0")}  # fmt: skip
        if given := [f"--{name}" for name, (value, usual) in own.items() if value != usual]:
            raise UserError(f"--board: {' and '.join(given)} do not apply to it")
        from ..studies.leaderboard import leaderboard

        return leaderboard(
            run.every, run.images, methods=methods or "all", n=n or 6, cell=cell, **run.how
        )
    from ..explain import faithfulness as test

    return test(
        run.loaded,
        run.images,
        methods=methods or CHOSEN,
        n=n or 24,
        label=LABELS[label],
        steps=steps,
        draws=draws,
        cell=cell,
        fill=fill,
        composite=composite,
        **run.how,
    )
