"""The study as people read it: asked and measured, a table, a figure, and ``causal.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ... import figures
from ...sensitivity import BASELINE, LAYER_MATCHED, TOP, VALUES
from ...views import Shown, View, markdown
from ...views.text import number, with_interval
from ..arms import CAUSAL, PUBLISHED, asked_of
from .study import Causal

TITLE = "What was really removed?"
CAPTION = (
    "percent; unseen families; [ ] 95 %, photographs left out one after another; fakes found and "
    "reals right at the detector's own threshold; matched: as many random maps of the same layers, "
    "the same value in their place"
)


def view(result: Causal) -> View:
    """Return the tables, the figure, what they say, and the page."""
    asked_rows = asked(result)
    tables = {"causal": result.gaps, "along_k": result.curves, "asked": asked_rows}
    unseen = result.curves[result.curves["generator"] == result.where]
    shown = [Shown(CAPTION, rows(result), keys=2), Shown("percent", asked_rows, keys=2)]
    drawn = {"causal": lambda: figures.plot_causal(unseen)}
    files = {"causal.md": lambda path: path.write_text(_page(result), encoding="utf-8")}
    return View(TITLE, said(result), tables, shown, drawn, files, result.facts)


def rows(result: Causal) -> pd.DataFrame:
    """Return a row a detector and experiment over the unseen families, the whole network first."""
    found = []
    for detector in result.detectors:
        whole = result.row(detector, PUBLISHED, BASELINE)
        found.append({"detector": detector, "experiment": "nothing taken away", **_cells(whole)})
        for arm in (PUBLISHED, CAUSAL):
            facts = result.of[detector, arm].facts
            told = f"{arm}: {facts['k']} by {facts['ranking_by']}, {facts['value']}"
            own = _cells(result.row(detector, arm, TOP), moved=True)
            draws = int(result.row(detector, arm, LAYER_MATCHED)["draws"])
            drawn = _cells(result.row(detector, arm, LAYER_MATCHED), moved=True)
            found.append({"detector": detector, "experiment": told, **own})
            found.append({"detector": detector, "experiment": f"matched, {draws} draws", **drawn})
    return pd.DataFrame(found).fillna("")


def _cells(row: Mapping[str, Any], *, moved: bool = False) -> dict[str, str]:
    cells = {
        "fakes found": with_interval(row, "fake_accuracy_05", 1, scale=100),
        "reals right": with_interval(row, "real_accuracy_05", 1, scale=100),
        "AP": with_interval(row, "ap", 1, scale=100),
    }
    if not moved:
        return cells
    return {
        "gap removed": with_interval(row, "gap_removed", 0, scale=100),
        "reals' move, of fakes'": number(100 * row["change_real_of_fake"], 0),
        **cells,
    }


def asked(result: Causal) -> pd.DataFrame:
    """Return what was asked of the causal experiment: detector, what, asked, measured, met."""
    found = [
        (detector, *line)
        for detector in result.detectors
        for one in [result.of[detector, CAUSAL]]
        for line in asked_of(one.gap, int(str(one.facts["k"])), result.where)
    ]
    return pd.DataFrame(found, columns=["detector", "what", "asked", "measured", "met"])


def said(result: Causal) -> str:
    """Say in a sentence a detector what either experiment removed."""
    parts = []
    for detector in result.detectors:
        published, own = (result.row(detector, arm, TOP) for arm in (PUBLISHED, CAUSAL))
        facts = result.of[detector, CAUSAL].facts
        parts.append(
            f"{detector}: the published dropout removes {100 * published['gap_removed']:.0f} % of "
            f"what tells unseen fakes from their photographs and leaves "
            f"{100 * published['fake_accuracy_05']:.0f} % of the fakes found and "
            f"{100 * published['real_accuracy_05']:.0f} % of the reals right; {facts['k']} maps by "
            f"pursuit, {VALUES[str(facts['value'])]} in their place, remove "
            f"{100 * own['gap_removed']:.0f} %, and leave "
            f"{100 * own['fake_accuracy_05']:.0f} % and {100 * own['real_accuracy_05']:.0f} %."
        )
    return " ".join(parts)


def families(result: Causal, detector: str) -> pd.DataFrame:
    """Return the causal experiment family by family, for people."""
    table = result.of[detector, CAUSAL].gap
    found = []
    for generator in dict.fromkeys(table["generator"]):
        own = table[table["generator"] == generator].set_index("mask")
        top, before = own.loc[TOP].to_dict(), own.loc[BASELINE].to_dict()
        found.append(
            {
                "family": str(generator),
                "found before": number(100 * before["fake_accuracy_05"]),
                "found": with_interval(top, "fake_accuracy_05", 1, scale=100),
                "reals right": with_interval(top, "real_accuracy_05", 1, scale=100),
                "gap removed": with_interval(top, "gap_removed", 0, scale=100),
                "matched: gap removed": number(100 * own.loc[LAYER_MATCHED, "gap_removed"], 0),
                "matched: found": number(100 * own.loc[LAYER_MATCHED, "fake_accuracy_05"]),
                "distance to own photograph": number(top["residual"])
                + f" (before: {number(top['residual_before'])})",
            }
        )
    return pd.DataFrame(found)


def damage(result: Causal) -> pd.DataFrame:
    """Return how much of what zero does is damage, a row a detector."""
    found = []
    for detector, one in result.damage.items():
        table = one.spoofing
        chosen = table[(table["generator"] == result.where) & (table["mask"] == TOP)]
        if not len(chosen):
            continue
        row = chosen.iloc[0].to_dict()
        found.append(
            {
                "detector": detector,
                "maps": str(one.facts["k"]),
                "AP falls under zero": number(100 * row["fall_ap_zero"]),
                "under learnt constants": number(100 * row["fall_ap_optimal"]),
                "share of damage": with_interval(row, "spoofing_ap", 0, scale=100),
                "gap removed under zero": number(100 * row["gap_removed_zero"], 0),
                "under learnt constants ": number(100 * row["gap_removed_optimal"], 0),
            }
        )
    return pd.DataFrame(found)


def _page(result: Causal) -> str:
    facts = result.facts
    parts = [
        f"# {TITLE}",
        f"Made by `make causal` (`forensift causal --seed {facts['seed']}`): {facts['pairs']} pairs"
        f" a family of {facts['side']} pixels, forged anew from the test photographs; no ranking, "
        "value or k has seen them.",
        INTRODUCTION,
        "## What was asked and measured",
        markdown(asked(result)),
        "## Both experiments, unseen families",
        CAPTION[0].upper() + CAPTION[1:] + ".",
        markdown(rows(result)),
        "![gap removed, fakes found and reals right along k](causal.png)",
        said(result),
    ]
    for detector in result.detectors:
        parts += [
            f"## {detector}",
            " ".join(result.of[detector, arm].said for arm in (PUBLISHED, CAUSAL)),
            markdown(families(result, detector)),
        ]
    parts += [
        "## How much of the published fall is damage",
        DAMAGE,
        markdown(damage(result)),
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
The published experiment puts zero in the place of the top maps by ω and watches AP fall. Two things
may be wrong with that. Zero is not a neutral value: behind its BatchNorm the map becomes a constant
that the network may never have seen. And ω says where relevance passes, not which maps carry the
difference between a photograph and its fake. So a second experiment stands beside it: maps picked
by *pursuit* (`forensift rank --by pursuit`), each for what it does to pairs of a photograph and its
fake given those before it. Pursuit has seen pairs of the training photographs; layers, k and what
stands in a map's place (its mean over real photographs, or zero) were chosen on the validation
photographs; all of them of the one family that the detectors were trained on (`make causal-choice`;
what was tried is in `choice.csv` beside the shipped rankings). So other families and other
photographs are what the claim is tested on.

The measure is the share of the gap removed: 1 − (mean logit of fakes − of reals) without the maps,
over the same of the whole network. At 100 % nothing tells them apart any more on average."""

DAMAGE = """\
Learnt constants are those under which the network's logits on validation photographs stay nearest
to what they are (optimal ablation, Li and Janson 2024). What zero does beyond that is damage of
zero itself, not loss of what the maps carry."""

LIMITS = """\
## Limits

* The fakes are re-syntheses of photographs, so each has its own photograph. Where there are no
  pairs pursuit draws fakes to the mean logit of reals instead; it then knows less of each image.
* One set of photographs (15 for the test), one training family, detectors of one training each.
  Intervals are over photographs; they do not say how other trainings would come out.
* Random maps of the same layers with the same value remove part of the gap too, more so in narrow
  early layers: what a set of maps does must be read beside its matched draws.
* That no fake is found does not mean that nothing is left: where AP stays above 50 fakes still have
  larger logits than photographs, all below the threshold, and another threshold would find some
  again, nearly all where AP has hardly moved.
* Means over reals are of the validation photographs. On other photographs
  `forensift dropout --reference DIR` takes them from there."""
