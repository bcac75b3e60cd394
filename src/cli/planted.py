"""``forensift planted``: traces of known place and kind, and whether the workbench finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from . import options


def planted(
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
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Also write the study as Markdown."),
    ] = None,
    seed: options.Seed = 0,
    out: options.Out = Path("output/planted"),
) -> None:
    """Plant known traces, train small detectors on them, and check that they are found again.

    Example: `forensift planted --out runs/planted --page docs/ground-truth.md`

    Asks of each trace: does the relevance lie in its box, are the top maps colour-conditional where
    the trace is chroma alone and not where it is luma, and does top-k dropout remove the detection?
    Runs on the CPU, in minutes. Writes `ground_truth.csv` (asked and measured),
    `localisation.csv`, `colour.csv`, `dropout.csv`, `along_k.csv`, `history.csv`, `examples.npz`,
    the images with `truth.csv`, `manifest.json` and the figures `examples`, `found`, `along_k`.
    """
    from ..studies.planted import default_traces, draw_planted, planted_study, write_planted_page

    chosen = default_traces(period, strength)
    if traces != "all":
        unknown = [name for name in traces.split(",") if name not in chosen]
        if unknown:
            raise UserError(f"--traces {unknown[0]}: choose all or some of {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in traces.split(",")}
    output = options.output_folder(out)
    console = options.console()

    def say(text: str) -> None:
        console.print(f"[dim]· {text}[/dim]", highlight=False)

    study = planted_study(
        output,
        chosen,
        pairs=pairs,
        held_out=held_out,
        side=size,
        steps=steps,
        draws=draws,
        seed=seed,
        say=say,
    )
    draw_planted(study)
    if page is not None:
        write_planted_page(study, page)
    for row in study.verdicts.to_dict("records"):
        interval = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] == row["low"] else ""
        console.print(
            f"{'found' if row['found'] else 'NOT FOUND'}: {row['trace']}: {row['question']}: "
            f"{row['measured']:.2f}{interval} ({row['rule']})",
            markup=False,
            highlight=False,
        )
    facts = study.facts
    print(
        f"{facts['found']} of {facts['asked']} rules met, {facts['seconds']:.0f} s; "
        f"tables in {output}" + (f", page {page}" if page else "")
    )
