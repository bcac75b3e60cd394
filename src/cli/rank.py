"""``forensift rank``: which feature maps matter to a detector, by ω and by other scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from . import options
from .run import Run, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..fmap_ranking import Rankings

LABELS = {"both": ("fake", "real"), "fake": ("fake",), "real": ("real",)}
OTHERS = "Other scores than omega"


@dataclass(kw_only=True)
class Ranked(Run):
    """A run that ranks by other scores than ω as well."""

    by: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME...]",
            help="omega, omega-width, contrast, gradient-activation, eap-ig, conductance, rad, "
            "single, pursuit: see below. Several are compared.",
            rich_help_panel=OTHERS,
        ),
    ] = "omega"
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Which photograph each fake was made from (columns fake, photograph). Default: "
            "the real of its generator with its file name.",
            rich_help_panel=OTHERS,
        ),
    ] = None
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV|DIR",
            help="rad: where each fake was generated: path and left,top,right,bottom or mask; or "
            "pictures, white inside. Default: truth.csv, as `forensift planted` writes it.",
            rich_help_panel=OTHERS,
        ),
    ] = None
    steps: Annotated[
        int,
        typer.Option(min=1, help="eap-ig, conductance: steps of the path.", rich_help_panel=OTHERS),
    ] = 16
    maps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="single: how many are measured, 0 all (default 200, of the largest predicted "
            "effect); pursuit: how many are picked (default 400).",
            rich_help_panel=OTHERS,
        ),
    ] = None
    layers: Annotated[
        str,
        typer.Option(
            metavar="PATTERN,...",
            help="single, pursuit: the layers they choose from, e.g. 'layer[234]*'.",
            rich_help_panel=OTHERS,
        ),
    ] = ""
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images whose reals' mean stands in the place of a map (gradient-activation and "
            "eap-ig without pairs, single, pursuit). Default: the reals of --data.",
            rich_help_panel=OTHERS,
        ),
    ] = None
    k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Top maps whose overlap is compared; default 114 (resnet50), 27 (b0).",
            rich_help_panel=OTHERS,
        ),
    ] = None

    @property
    def ways(self) -> dict[str, Any]:
        """What other scores want to know, for the library's function."""
        found: dict[str, Any] = {"pairs": self.pairs, "masks": self.masks, "steps": self.steps}
        found |= {"reference": scanned(self.reference)} if self.reference else {}
        found |= {} if self.maps is None else {"maps": self.maps}
        found |= {"layers": self.layers.split(",")} if self.layers else {}
        return found | ({} if self.k is None else {"k": self.k})


@verb
def rank(
    run: Ranked,
    label: Annotated[
        str, typer.Option(metavar="both|fake|real", help="Which images to rank on by omega.")
    ] = "both",
    start: Annotated[
        str,
        typer.Option(
            metavar="predicted|published",
            help="Relevance at the logit: +1 for every image, so that evidence for the decision is "
            "positive; or -1 on reals, as published. Fakes are the same under both.",
        ),
    ] = "predicted",
    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            help="Use images whose true class has at least this probability, 0.5 to 1.",
        ),
    ] = 0.9,
    composite: options.Composite = "beta0",
    units: options.Units = "neurons",
    name: Annotated[
        str, typer.Option("--name", help="Of the set, in file names. Default: the folder's.")
    ] = "",
) -> Rankings:
    """Rank all feature maps by FF-RS omega: their mean share of their layer's relevance (LRP).

    Example: `forensift rank resnet50 --data progan_val --preset tff-ffrs --start published`

    Example: `forensift rank resnet50 --data progan_val --by omega,contrast,eap-ig,single`

    `--by` ranks by other scores of fakes, against their own photographs where these are there:
    omega-width (omega x width of the layer); contrast (mean activation, fake - photograph);
    gradient-activation (attribution patching), eap-ig (with the mean gradient from photograph to
    fake), conductance (layer conductance along that way); rad (activation inside - outside of a
    known mask); single (what of the fake-real gap the map alone takes away, measured); pursuit
    (the same, each given those before it). Of all, a high score says: without the map, evidence
    for fake is gone.

    Writes `<set>-fake.csv` and `<set>-real.csv` (key,mean_relevance, the published format; of
    another composite than beta0 `<set>-COMPOSITE-fake.csv`: that is another ranking),
    `<set>-NAME.csv` of other scores,
    `ranking.parquet` (with standard errors, omega x width and 95 % rank intervals), `skipped.csv`,
    `manifest.json` (images used, and left out by reason) and the figure `omega`; of several
    `alike.csv` and the figure `alike` (rank correlation, overlap of the top k).
    """
    if label not in LABELS:
        raise UserError(f"--label {label}: choose {', '.join(LABELS)}")
    from ..detectors import with_units
    from ..fmap_ranking import rankings
    from ..fmap_ranking.look import check_options

    return rankings(
        with_units(run.loaded, units),  # type: ignore[arg-type]
        run.images,
        by=run.by.split(","),
        labels=LABELS[label],  # type: ignore[arg-type]
        start=check_options(start, min_confidence),
        min_confidence=min_confidence,
        composite=composite,
        name=name,
        **run.ways,
        **run.how,
    )
