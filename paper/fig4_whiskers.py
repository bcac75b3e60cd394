"""Fig. 4: the probability of fake of the same fakes in colour and in grey, as box plots."""

from __future__ import annotations

import forensift as ff
from forensift.cli.paper import Paper, script


def fig4_whiskers(run: Paper) -> None:
    """Fig. 4: the probability of fake of the same fakes in colour and in grey, as box plots."""
    for arch in run.archs:
        run.keep(arch, ff.colour(run.detector(arch), run.images, ("rgb", "grey"), **run.how))


if __name__ == "__main__":
    script(fig4_whiskers)
