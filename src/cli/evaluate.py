"""``forensift evaluate``: how well a detector tells fakes from reals, generator by generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import options
from .run import Run
from .verb import verb

if TYPE_CHECKING:
    from ..evaluation import Evaluation


@verb
def evaluate(
    run: Run,
    cluster: options.Cluster = "photograph",
    equalise_jpeg: options.EqualiseJpeg = "none",
) -> Evaluation:
    """Score an image set and print AP, accuracies, AUC and EER for each generator.

    Example: `forensift evaluate resnet50=blur_jpg_prob0.5.pth --data CNN_synth_testset`

    A score above 0.5 means fake. The calibrated accuracy uses each generator's own best threshold
    on these very images: an upper bound, not what a user would see. Images of different sizes go
    through the network at their own size, batched by size.

    Beside these: how many fakes are found where 1 or 0.1 % of the reals are called fake (given
    enough reals), whether the probability means what it says (ECE, Brier score), and figures: the
    logits, ROC and PR curves, calibration, and the worst mistakes.

    Writes `evaluation.csv` (fractions), `scores.csv` (one row an image), `curves.csv`,
    `reliability.csv`, the figures, `skipped.csv` and `manifest.json`.
    """
    from .. import evaluation

    return evaluation.evaluate(
        run.loaded,
        run.images,
        cluster=cluster,  # type: ignore[arg-type]
        equalise_jpeg=equalise_jpeg,
        **run.how,
    )
