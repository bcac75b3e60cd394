"""Feature-map dropout: AP and accuracies without the top-k, random-k and low-k maps."""

from __future__ import annotations

from typing import Annotated

import typer

import forensift as ff
from forensift.cli.paper import Paper, script


def table_dropout(
    run: Paper,
    draws: Annotated[int, typer.Option("--draws", help="Of each random control.")] = 20,
) -> None:
    """Feature-map dropout: AP and accuracies without the top-k, random-k and low-k maps.

    The published random-k is the row random-k-ensemble.
    """
    for arch in run.archs:
        detector = run.detector(arch)
        found = ff.dropout(
            detector,
            run.images,
            run.ranking(detector),
            run.k(arch),
            draws=draws,
            ks=(),
            training_family=run.training_family,
            **run.how,
        )
        run.keep(arch, found)


if __name__ == "__main__":
    script(table_dropout)
