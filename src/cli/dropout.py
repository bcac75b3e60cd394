"""``forensift dropout``: what a detector still knows without its top feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Run, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..ablation import Means
    from ..detectors import Detector
    from ..records import ImageSet
    from ..sensitivity import DropoutResult


@verb
def dropout(
    run: Run,
    ranking: options.RankingCsv,
    k: options.K,
    value: Annotated[
        str,
        typer.Option(
            "--value",
            metavar="zero|mean|mean-real|resample|paired|optimal[,...]",
            help="What stands in the maps' place: zero (published), their mean over a reference "
            "or its reals, another real's maps, in a fake its own photograph's, or constants "
            "learnt so that logits change least. Several give tables of all.",
        ),
    ] = "zero",
    site: Annotated[
        str,
        typer.Option(
            "--site",
            metavar="conv|bn|activation",
            help="Where zero and mean are taken: at the convolution (published), behind its "
            "BatchNorm, or behind its activation.",
        ),
    ] = "conv",
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="DIR|FILE.parquet",
            help="Images that means and constants are taken from, or a file of means. Default: "
            "SET-means.parquet beside the ranking (for mean-real at conv or bn), else the images "
            "themselves.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="CSV",
            help="Columns fake and photograph: which photograph a fake was made from. Default: "
            "by file name, as `forensift forge` writes them.",
        ),
    ] = None,
    draws: Annotated[
        str | None,
        typer.Option(
            "--draws",
            metavar="N|auto",
            show_default="20; 3 under optimal",
            help="Of each random control; auto: until the answer is clear.",
        ),
    ] = None,
    max_draws: Annotated[
        int, typer.Option("--max-draws", min=1, help="With --draws auto, at most so many.")
    ] = 199,
    magnitude_matched: Annotated[
        bool,
        typer.Option(
            "--magnitude-matched",
            help="Also draw maps that respond as strongly as the top k, whatever their layer.",
        ),
    ] = False,
    ks: Annotated[
        str,
        typer.Option(
            "--ks",
            metavar="auto|none|N,N,…",
            help="Where the AP(k) curve is computed; auto: from k/8 to 4k.",
        ),
    ] = "auto",
    band_draws: Annotated[
        int | None,
        typer.Option(
            "--band-draws",
            min=0,
            show_default="5; 1 under optimal",
            help="Random draws at each k of the curve.",
        ),
    ] = None,
    training_family: options.TrainingFamily = None,
    cluster: options.Cluster = "photograph",
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            metavar="DIR",
            help="Other images to calibrate a threshold on; adds the columns ..._held_out.",
        ),
    ] = None,
) -> DropoutResult:
    """Take the top k feature maps away, and as many others, and measure every generator again.

    Example: `forensift dropout resnet50 --data CNN_synth_testset --ranking progan_val-fake.csv
    --k 114`

    Zero, as published, is far from anything that many maps ever hold, so a fall may be damage;
    `--value mean-real` puts the mean over reals in their place, `--value zero,optimal` tells how
    much of the fall is damage. Controls get the same value.

    `gap.csv` says what share of the gap between fakes and reals went, what became of found fakes
    and right reals at the detector's own threshold, and how far fakes still are from their own
    photographs, with intervals by photograph; `gap_curve.csv` the same along k, `gap_area.csv` the
    area under it, `spoofing.csv` the share of damage.

    Controls: random-k and layer-matched random-k (--draws seeded draws each, and the published
    AP of the scores averaged over five), low-k, and the lowest maps with omega above zero.
    Accuracies are at the threshold that suits the whole model best on the same images (as
    published, optimistic), and at 0.5. The change of the mean logit on fakes and on reals says
    what was removed: AP alone cannot.

    Writes `dropout.csv` (every draw), `dropout_summary.csv`, `ap_curve.csv`, `dropped.csv` (the
    feature maps of each mask), `scores.parquet` (every logit), `skipped.csv`, `manifest.json` and
    the figures `dropout` and `ap_curve`. AP and accuracies are fractions.
    """
    from .. import sensitivity
    from ..ablation import pairs_of
    from ..fmap_ranking import fitting, load_ranking

    ranked = load_ranking(ranking)
    detector, values = fitting(ranked, run.loaded), value.split(",")
    return sensitivity.dropout(
        detector,
        run.images,
        ranked,
        k,
        value=values,  # type: ignore[arg-type]
        site=site,  # type: ignore[arg-type]
        reference=_reference(reference, ranking, detector, values, site),
        pairs=pairs_of(run.images, pairs) if pairs else None,
        draws=_draws(draws),  # type: ignore[arg-type]
        max_draws=max_draws,
        ks=_grid(ks),
        band_draws=band_draws,
        magnitude_matched=magnitude_matched,
        training_family=training_family,
        cluster=cluster,  # type: ignore[arg-type]
        held_out=scanned(held_out) if held_out else None,
        **run.how,
    )


def _reference(
    given: Path | None, ranking: Path, detector: Detector, values: list[str], site: str
) -> ImageSet | Means | None:
    """Return what was given, or the means that lie beside a ranking where they suffice."""
    from ..ablation import load_means
    from ..fmap_ranking import set_of

    if given is not None:
        return load_means(given, detector) if given.suffix == ".parquet" else scanned(given)
    beside = ranking.with_name(f"{set_of(ranking)}-means.parquet")
    if set(values) <= {"zero", "mean-real"} and "mean-real" in values and site != "activation":
        return load_means(beside, detector) if beside.is_file() else None
    return None


def _draws(given: str | None) -> int | str | None:
    if given is None or given == "auto":
        return given
    try:
        return int(given)
    except ValueError:
        raise UserError(f"--draws {given}: give auto or a number") from None


def _grid(ks: str) -> list[int] | None:
    if ks in ("auto", "none"):
        return None if ks == "auto" else []
    try:
        return [int(one) for one in ks.split(",")]
    except ValueError:
        raise UserError(f"--ks {ks}: give auto, none or numbers with commas between") from None
