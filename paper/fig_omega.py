"""How ω (FF-RS) is distributed over all feature maps, and which layers hold the top ones."""

from __future__ import annotations

from forensift.cli.paper import Paper, script


def fig_omega(run: Paper) -> None:
    """How ω (FF-RS) is distributed over all feature maps, and which layers hold the top ones."""
    for arch in run.archs:
        run.keep(arch, run.ranking(run.detector(arch)))


if __name__ == "__main__":
    script(fig_omega)
