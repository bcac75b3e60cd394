"""Sentences that follow from a stage's numbers alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...evaluation import LEVEL, MACRO, holm
from ...explain.faithfulness import RANDOM, Faithfulness
from ...histograms import MedianTestResult
from ...sensitivity import ColourResult, Transfer
from ...views.text import number
from .world import TRAINING_FAMILY

SANE = 0.5  # rank correlation with the map of a random network, above which a method fails


def colour_said(found: ColourResult) -> str:
    """Say what grey does to AP and to the fakes' probabilities, over all generators."""
    own = _whole(found.table)
    rgb, grey = own.loc["rgb"], own.loc["grey"]
    fall = -100 * grey["change_ap"]
    ends = sorted(-100 * grey[f"change_ap_{end}"] for end in ("low", "high"))
    drop = found.box[found.box["mode"] == "grey"]["drop_of_median"]
    return (
        f"Without colour AP goes from {100 * rgb['ap']:.1f} to {100 * grey['ap']:.1f}, a fall of "
        f"{fall:.1f} points [{ends[0]:.1f}, {ends[1]:.1f}] on average over the generators; the "
        f"mean logit of fakes changes by {grey['change_mean_logit_fake']:+.2f}, of reals by "
        f"{grey['change_mean_logit_real']:+.2f}. The median probability of the fakes that have at "
        f"least {found.facts['least_probability']:g} in RGB changes by "
        f"{number(-drop.max(), 2, sign=True)} to {number(-drop.min(), 2, sign=True)}, by generator."
    )


def conditional_said(found: MedianTestResult, k: int) -> str:
    """Say how many of the top maps are colour-conditional, published and strictest criterion."""
    shares = found.percentages.groupby("criterion", sort=False)["share"]
    first, last = (list(shares.groups)[place] for place in (0, -1))
    low, high = shares.min(), shares.max()
    return (
        f"Of the top {k} maps {100 * low[first]:.0f} to {100 * high[first]:.0f} % are "
        f"colour-conditional by Mood's median test at p ≤ 0.05 (published), by generator; "
        f"{100 * low[last]:.0f} to {100 * high[last]:.0f} % by a paired test after correction that "
        "also asks for an effect."
    )


def patches_said(table: pd.DataFrame, maps: int) -> str:
    """Say how large the patches are, and where none was found."""
    there = table["height"].notna()
    sides = np.sqrt((table["height"] * table["width"])[there].astype(float))
    lost = int((~there).sum())
    none = f" {lost} places hold no patch: the map is positive nowhere there." if lost else ""
    return (
        f"Each row is one of the {maps} maps of the highest ω; patches are what is left of the "
        f"images that excite it most after a cut at the 75th percentile of relevance. Their side "
        f"is {sides.median():.0f} pixels in the median ({sides.min():.0f} to {sides.max():.0f})."
        f"{none}"
    )


def transfer_said(found: Transfer, k: int) -> str:
    """Say how far the top maps of one generator are those of another; the training family apart."""
    table, agreement = found.table, found.agreement
    elsewhere = table[table["ranked_on"] != table["dropped_on"]]
    seen = elsewhere["ranked_on"] == TRAINING_FAMILY
    parts = []
    for rows, whose in ((elsewhere[seen], TRAINING_FAMILY), (elsewhere[~seen], "another family")):
        if len(rows):
            parts.append(
                f"ranked on {whose}, {rows['fall_ap_points'].mean():.1f} points (as many random "
                f"maps of the same layers {rows['fall_ap_points_matched'].mean():.1f})"
            )
    between = agreement[agreement["first"] != agreement["second"]]
    shared = int(found.transferability["transferable"].sum())
    notes = " ".join(f"({note})" for note in found.notes)
    return (
        f"What dropping the top {k} maps of one family takes from the AP on others: "
        f"{'; '.join(parts)}. Rankings of two generators agree with τ = "
        f"{between['kendall_tau'].min():.2f} to {between['kendall_tau'].max():.2f}, and their top "
        f"{k} overlap (Jaccard) by {between['jaccard'].min():.2f} to "
        f"{between['jaccard'].max():.2f}; {shared} maps are in the top {k} of all "
        f"{len(found.rankings)}. {notes}".strip()
    )


def faithfulness_said(found: Faithfulness) -> str:
    """Say which methods beat a random order, and which see that the network was made random."""
    summary = found.summary[found.summary["method"] != RANDOM]
    adjusted = holm(summary["p"].to_numpy())
    beaten = [
        f"{row['method']} ({row['kind']})"
        for row, p in zip(summary.to_dict("records"), adjusted, strict=True)
        if row["gain"] > 0 and p <= LEVEL
    ]
    whole = found.randomisation[found.randomisation["share"] == 1]
    means = whole.groupby("method", sort=False)["spearman"].mean()
    blind = [f"{method} (ρ = {value:.2f})" for method, value in means.items() if value > SANE]
    return (
        f"Better than a random order (Student's t over {summary['images'].max()} images, corrected "
        f"for {len(summary)} comparisons by Holm): {', '.join(beaten) or 'none'}. "
        "With all weights made random the maps change for all methods"
        + (f" but {', '.join(blind)}." if blind else ".")
    )


def robust_said(table: pd.DataFrame) -> str:
    """Say what training with grey images does to the fall of AP without colour."""
    parts = []
    for name, own in table.groupby("detector", sort=False):
        ap = {
            str(training): 100 * _whole(rows).loc[["rgb", "grey"], "ap"]
            for training, rows in own.groupby("training", sort=False)
        }
        falls = {training: values["rgb"] - values["grey"] for training, values in ap.items()}
        before, after = ap["baseline"], ap["colour-robust"]
        parts.append(
            f"{name}: without colour AP falls by {falls['baseline']:.1f} points, after "
            f"colour-robust training by {falls['colour-robust']:.1f} (in RGB it goes from "
            f"{before['rgb']:.1f} to {after['rgb']:.1f}, in grey from {before['grey']:.1f} to "
            f"{after['grey']:.1f})"
        )
    return "; ".join(parts) + " (means over the generators)."


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the macro mean's rows, or the only generator's, by mode."""
    macro = table[table["generator"] == MACRO]
    return (macro if len(macro) else table).set_index("mode")
