"""The results of a demo as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ... import views
from ...records import Result
from .weights import weights_rows

if TYPE_CHECKING:
    from .demo import Demo

ABOUT = (
    "Fakes are held-out photographs re-synthesised by small trained networks. Detectors are "
    "trained on `progan-like` fakes of training photographs only; ω is ranked on validation "
    "photographs; the rest is measured on test photographs. Accuracies under dropout use the "
    "threshold that suits the whole network best on the same images (0.5 on the training family), "
    "as published."
)


def results_markdown(demo: Demo) -> str:
    """Return the results as Markdown: every stage's sentence and tables, seeds and times."""
    parts = [
        "# Results on the embedded default",
        f"Made by `forensift demo`. {ABOUT}",
        _scale(demo),
    ]
    heading = ""
    for name, _, result in _every(demo):
        if name != heading:
            parts.append(f"## {name or 'All detectors'}")
            heading = name
        parts.append(views.markdown_of(views.view_of(result)))
    parts += [
        "## Where the weights come from",
        "Minutes are of two CPU cores that had other work too. The images that the detectors were "
        "trained on are made by the commands in [training.md](training.md).",
        views.markdown(weights_rows()),
    ]
    return "\n\n".join(parts) + "\n"


def _every(demo: Demo) -> Iterator[tuple[str, str, Result]]:
    for name, stages in [*demo.studies.items(), ("", demo.whole)]:
        for stage, result in stages.items():
            yield name, stage, result


def _scale(demo: Demo) -> str:
    scale, seconds = demo.facts["scale"], demo.facts["seconds"]
    took = ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items())
    return (
        f"{scale['pairs']} pairs a family, {scale['side']} pixels, seed {demo.facts['seed']}, "
        f"{scale['draws']} draws of each random control. Time: {took}."
    )
