"""Fig. 6: the largest activations of the top maps in colour and in grey, and the median tests."""

from __future__ import annotations

from typing import Annotated

import typer

import forensift as ff
from forensift.cli.paper import Paper, script


def fig6_median_test(
    run: Paper,
    num_instances: Annotated[int, typer.Option("--num-instances", help="Fakes of a class.")] = 500,
) -> None:
    """Fig. 6 and its table: which of the top maps respond to colour, by four criteria."""
    for arch in run.archs:
        detector = run.detector(arch)
        found = ff.median_test(
            detector,
            run.images,
            run.ranking(detector),
            run.k(arch),
            num_instances=num_instances,
            **run.how,
        )
        run.keep(arch, found)


if __name__ == "__main__":
    script(fig6_median_test)
