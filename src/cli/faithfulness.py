"""``forensift faithfulness``: can the explanations of a detector be trusted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..explain import Faithfulness

LABELS = {"fake": 1, "real": 0, "both": None}


@verb
def faithfulness(
    run: Run,
    methods: Annotated[
        str, typer.Option("--methods", metavar="A,B", help="Explanation methods to test.")
    ] = "lrp,guided-gradcam,gradcam",
    n: Annotated[int, typer.Option("--n", min=1, help="Images, drawn at random.")] = 24,
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
) -> Faithfulness:
    """Test explanation methods: deletion, insertion, randomised weights, and their agreement.

    Example: `forensift faithfulness resnet50 --data CNN_synth_testset --n 50`

    Deletion: cover the squares that a map ranks highest; a map that found the evidence kills the
    decision sooner than a random order does. Insertion: the other way round. Randomised weights: a
    map that stays as it was does not look at what was learnt. Methods that do not apply to the
    network are left out and named.

    Writes `faithfulness.csv` (the summary), `curves.csv`, `randomisation.csv`, `agreement.csv`,
    `skipped.csv`, `manifest.json` and the figure `faithfulness`.
    """
    if label not in LABELS:
        raise UserError(f"--label {label}: choose {', '.join(LABELS)}")
    from ..explain import faithfulness as test

    return test(
        run.loaded,
        run.images,
        methods=methods.split(","),
        n=n,
        label=LABELS[label],
        steps=steps,
        draws=draws,
        cell=cell,
        fill=fill,
        composite=composite,
        **run.how,
    )
