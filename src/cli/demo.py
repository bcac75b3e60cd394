"""``forensift demo``: the whole study on what forensift carries itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from ..studies import Scale, Section


def demo(
    detectors: Annotated[
        str, typer.Option("--detectors", metavar="A,B", help="Which detectors to study.")
    ] = "resnet50,efficientnet-b0,npr",
    families: Annotated[
        str, typer.Option("--families", metavar="all|A,B", help="Which generators to look at.")
    ] = "all",
    per_family: Annotated[
        int, typer.Option("--per-family", min=15, help="Pairs of real and fake for each family.")
    ] = 16,
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
    controls; then colour ablation, median tests, patches, t-SNE, the transfer matrix, attribution
    and its tests. Writes tables, figures, `index.html`, `results.md` and `manifest.json`.
    """
    from rich.rule import Rule

    from .. import studies
    from ..detectors import get_architecture
    from ..forge import TRAINED

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

    done = studies.demo(
        output,
        detectors=names,
        families=TRAINED if families == "all" else families.split(","),
        scale=_scale(per_family, size, draws),
        ks=more,
        seed=seed,
        device=options.choose_device(device),
        say=say,
    )
    studies.write_index(done, output / "index.html")
    studies.write_results(done, output / "results.md")
    for study in done.studies:
        console.print(Rule(study.name))
        _print(console, study.sections)
    if done.sections:
        console.print(Rule("all detectors"))
        _print(console, done.sections)
    took = ", ".join(f"{stage} {value:.0f} s" for stage, value in done.seconds.items())
    console.print(f"{took}. Everything is in {output}; open {output / 'index.html'}")


def _scale(per_family: int, size: int, draws: int) -> Scale:
    """Return how much of everything, in proportion to the pairs a family."""
    from ..data.colour import MODES
    from ..data.conditions import CONDITIONS
    from ..studies import Scale

    more = per_family / Scale().pairs
    if more <= 1:
        return Scale(pairs=per_family, side=size, draws=draws)
    return Scale(
        pairs=per_family,
        rank_pairs=max(Scale().rank_pairs, per_family),
        side=size,
        draws=draws,
        maps=min(20, round(Scale().maps * more)),
        transfer_pairs=min(per_family, round(Scale().transfer_pairs * more)),
        transfer_draws=min(5, round(more)),
        explained=min(24, round(Scale().explained * more)),
        modes=MODES if more >= 2 else Scale().modes,
        conditions=CONDITIONS if more >= 2 else Scale().conditions,
    )


def _print(console: Console, sections: Sequence[Section]) -> None:
    for section in sections:
        if section.short:
            for table in section.tables:
                console.print(_table(table.rows, f"{section.title}: {table.caption}"))
        if section.said:
            said = section.said if section.short else f"{section.title}: {section.said}"
            console.print(said, markup=False, highlight=False)


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
