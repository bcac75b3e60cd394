"""AP on RGB and on grey input: the baseline against its colour-robust (CR) version."""

from __future__ import annotations

import forensift as ff
from forensift.cli.paper import Paper, script
from forensift.studies.demo import ColourRobust


def table_colour_robust(run: Paper) -> None:
    """AP on RGB and on grey input: the baseline against its colour-robust (CR) version."""
    found = {"baseline": {}, "CR": {}}
    for arch in run.archs:
        for training, results in found.items():
            detector = run.detector(arch, training)
            if detector is not None:
                results[arch] = ff.colour(detector, run.images, ("rgb", "grey"), **run.how)
    run.keep("colour_robust", ColourRobust.of(found["baseline"], found["CR"]))


if __name__ == "__main__":
    script(table_colour_robust)
