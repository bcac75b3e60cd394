"""``forensift demo``: the whole study on what forensift carries itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .run import Sweeping
from .verb import verb

if TYPE_CHECKING:
    from ..studies.demo import Demo, Scale


@dataclass(kw_only=True)
class DemoRun(Sweeping):
    """The whole study."""

    batch_size: options.BatchSize = 16  # small feature maps stay in the processor's cache


@verb
def demo(
    run: DemoRun,
    detectors: options.Detectors = "resnet50,efficientnet-b0,npr,vit",
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
    draws: Annotated[int, typer.Option("--draws", min=2, help="Of each random control.")] = 5,
) -> Demo:
    """Find the transferable forensic features of the detectors that forensift carries.

    Example: `forensift demo --detectors resnet50,npr --out output/demo`

    Held-out photographs are forged into all families; the detectors, trained on one family, are
    evaluated on all; their feature maps are ranked by omega and the top ones dropped, beside
    controls; then colour ablation, median tests, patches, t-SNE, the transfer matrix, explanations
    and their tests. About eight minutes on two cores, 3 GB.

    Writes a folder DETECTOR/STAGE a result, with the files of the verb of that name, and
    `index.html`, `results.md` and `manifest.json`.
    """
    from ..detectors import get_architecture
    from ..forge import TRAINED
    from ..studies.demo import demo as study
    from .tables import console, show

    names = detectors.split(",")
    for name in names:
        get_architecture(name)
    more = options.numbers("--k", ks)
    on = console(stderr=run.json)
    done = study(
        run.folder,
        detectors=names,
        families=TRAINED if families == "all" else families.split(","),
        scale=_scale(per_family, size, draws),
        ks=more,
        device=run.chosen_device,
        say=run.say,
        **run.how,
    )
    for name, stages in [*done.studies.items(), ("all detectors", done.whole)]:
        on.rule(name)
        for result in stages.values():
            show(result._view(), on)
    return done


def _scale(per_family: int, size: int, draws: int) -> Scale:
    """Return how much of everything, in proportion to the pairs a family."""
    from ..data.colour import MODES
    from ..data.conditions import CONDITIONS
    from ..studies.demo import Scale

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
