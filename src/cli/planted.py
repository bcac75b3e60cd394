"""``forensift planted``: traces of known place and kind, and whether the workbench finds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Sweeping
from .verb import verb

if TYPE_CHECKING:
    from ..studies.planted import Planted


@verb
def planted(
    run: Sweeping,
    traces: Annotated[
        str,
        typer.Option(
            "--traces",
            metavar="all|A,B",
            help="Of luma-whole, luma-box, chroma-whole, chroma-box.",
        ),
    ] = "all",
    period: Annotated[
        int, typer.Option("--period", min=2, help="Of the checkerboard, in pixels; even.")
    ] = 2,
    strength: Annotated[
        int, typer.Option("--strength", min=1, max=60, help="Plus and minus so many grey levels.")
    ] = 8,
    pairs: Annotated[
        int, typer.Option("--pairs", min=16, help="Pairs that each detector is trained on.")
    ] = 800,
    held_out: Annotated[
        int, typer.Option("--held-out", min=15, help="Pairs for validation and for test, each.")
    ] = 120,
    size: Annotated[int, typer.Option("--size", min=16, help="Side of an image.")] = 64,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps, 32 images.")] = 400,
    draws: Annotated[int, typer.Option("--draws", min=2, help="Of each random control.")] = 20,
    composite: options.Composite = "beta0",
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Also write the study as Markdown."),
    ] = None,
) -> Planted:
    """Plant known traces, train small detectors on them, and check that they are found again.

    Example: `forensift planted --out runs/planted --page docs/ground-truth.md`

    Asks of each trace: does the relevance lie in its box, are the top maps colour-conditional where
    the trace is chroma alone and not where it is luma, and does top-k dropout remove the detection?
    Runs on the CPU, in minutes. Writes `ground_truth.csv` (asked and measured),
    `localisation.csv`, `colour.csv`, `dropout.csv`, `along_k.csv`, `history.csv`, `examples.npz`,
    the images with `truth.csv`, `manifest.json` and the figures `examples`, `found`, `along_k`.
    """
    from ..studies.planted import default_traces, write_page
    from ..studies.planted import planted as study

    chosen = default_traces(period, strength)
    if traces != "all":
        unknown = [name for name in traces.split(",") if name not in chosen]
        if unknown:
            raise UserError(f"--traces {unknown[0]}: choose all or some of {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in traces.split(",")}
    found = study(
        run.folder,
        chosen,
        pairs=pairs,
        held_out=held_out,
        side=size,
        steps=steps,
        draws=draws,
        composite=composite,
        say=run.say,
        **run.how,
    )
    if page is not None:
        write_page(found, page)
    return found
