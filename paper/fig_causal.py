"""Top maps taken away, published and causal: gap removed, fakes found and reals right along k."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forensift.cli.paper import Paper, script
from forensift.fmap_ranking import load_ranking
from forensift.studies.arms import CAUSAL, PUBLISHED, Arm, arms, experiment
from forensift.studies.causal import Causal


def fig_causal(
    run: Paper,
    pursuit: Annotated[
        Path | None,
        typer.Option(
            "--pursuit",
            help="A ranking of `forensift rank --by pursuit`; needed with weights of one's own. "
            "Default: that of the shipped weights.",
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Of each random control.")] = 20,
) -> None:
    """Top maps taken away, published and causal: gap removed, fakes found and reals right along k.

    Published: by omega, zero in their place. Causal: by pursuit, the mean over reals in their
    place. Dashed: as many random maps of the same layers.
    """
    found = {}
    for arch in run.archs:
        detector = run.detector(arch)
        if pursuit is None:
            both = arms(detector)
        else:
            both = [
                Arm(PUBLISHED, run.ranking(detector), run.k(arch), "zero"),
                Arm(CAUSAL, load_ranking(pursuit), run.k(arch), "mean-real"),
            ]
        for arm in both:
            found[arch, arm.name] = experiment(detector, run.images, arm, draws=draws, **run.how)
            run.keep(f"{arch}-{arm.name}", found[arch, arm.name])
    facts = {"seed": run.seed, "pairs": run.pairs, "side": run.size}
    run.keep("causal", Causal(found, {}, facts))


if __name__ == "__main__":
    script(fig_causal)
