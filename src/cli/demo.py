"""``forensift demo``: the whole study on what forensift carries itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def demo(
    detectors: Annotated[
        str, typer.Option("--detectors", metavar="A,B", help="Which detectors to study.")
    ] = "resnet50,efficientnet-b0,npr",
    per_family: Annotated[
        int, typer.Option("--per-family", min=15, help="Pairs of real and fake for each family.")
    ] = 36,
    size: Annotated[int, typer.Option("--size", help="Side of an image; a multiple of 4.")] = 128,
    ks: Annotated[
        str,
        typer.Option("--k", metavar="N,N", help="Numbers of maps to drop beside the published."),
    ] = "",
    draws: Annotated[int, typer.Option("--draws", min=2, help="Of each random control.")] = 20,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    out: options.Out = Path("demo-out"),
) -> None:
    """Find the transferable forensic features of the detectors that forensift carries.

    Held-out photographs are forged into all families; the detectors, trained on one family, are
    evaluated on all; their feature maps are ranked by omega and the top ones dropped, beside
    controls. Writes tables, figures, `index.html`, `results.md` and `manifest.json`.
    """
    from rich.rule import Rule

    from .. import report
    from ..detectors import get_architecture

    names = detectors.split(",")
    for name in names:
        get_architecture(name)
    try:
        more = [int(k) for k in ks.split(",") if k]
    except ValueError:
        raise UserError(f"--k {ks}: give numbers with commas between") from None
    output = options.output_folder(out)
    console = options.console()

    def say(text: str) -> None:
        console.print(f"[dim]· {text}[/dim]", highlight=False)

    done = report.demo(
        output,
        detectors=names,
        per_family=per_family,
        side=size,
        ks=more,
        draws=draws,
        seed=seed,
        device=options.choose_device(device),
        say=say,
    )
    report.write_index(done, output / "index.html")
    report.write_results(done, output / "results.md")
    for study in done.studies:
        console.print(Rule(study.name))
        title = "percent; [ ] 95 % intervals, drawn by photograph"
        console.print(_table(report.pages.evaluation_rows(study), title))
        for k, result in study.dropouts.items():
            title = f"{k} feature maps dropped; logits: mean, below it the change"
            console.print(_table(report.pages.dropout_rows(result.summary), title))
            console.print(study.sentences[k], markup=False, highlight=False)
        console.print(_table(report.pages.asked_rows(study), "asked and measured"))
    took = ", ".join(f"{stage} {value:.0f} s" for stage, value in done.seconds.items())
    console.print(f"{took}. Everything is in {output}; open {output / 'index.html'}")


def _table(table: pd.DataFrame, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=escape(title), title_justify="left")
    for number, head in enumerate(table.columns):
        drawn.add_column(str(head), justify="left" if number == 0 else "right")
    last = None
    for row in table.astype(str).to_numpy().tolist():
        grouped = "mask" in table.columns
        first = "" if grouped and row[0] == last else row[0]
        if grouped and last not in (None, row[0]):
            drawn.add_section()
        drawn.add_row(*(escape(cell) for cell in [first, *row[1:]]))
        last = row[0]
    return drawn
