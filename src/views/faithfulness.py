"""Whether heat maps can be trusted."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..evaluation import LEVEL, holm
from ..explain import Faithfulness
from ..explain.faithfulness import RANDOM
from .text import other_rules
from .view import Shown, View

SANE = 0.5  # rank correlation with the map of a random network, above which a method fails

CAPTION = (
    "Deletion replaces the cells a method finds most relevant first: the lower the line, the "
    "better. Insertion puts them in first: the higher, the better. What is all replaced may "
    "itself be called fake, which is where a line comes up again. Randomisation: the correlation "
    "of a map with the map of a network whose last, half or all layers are made random; a method "
    "that stays near 1 does not look at the network. Last: how alike two methods' maps are."
)


def view(result: Faithfulness) -> View:
    """Return deletion, insertion, randomisation and agreement of explanation methods."""
    name, used = result.facts["detector"], result.counts["used"]
    tables = {
        "faithfulness": result.summary,
        "curves": result.curves,
        "randomisation": result.randomisation,
        "agreement": result.agreement,
    }
    shown = Shown(
        f"area under the curve over {used} images, and what it gains on {orders(result)} of each; "
        "[ ] 95 % intervals over images",
        rows(result.summary),
    )
    drawn = {
        "faithfulness": lambda: figures.plot_faithfulness(
            result.curves,
            result.randomisation,
            result.agreement,
            title=_finding(result),
            note=f"{name}; {used} images, {orders(result)} of each; bands: standard error",
        )
    }
    captions = {"faithfulness": CAPTION}
    title = "Whether to trust the explanations"
    told = said(result)
    return View(title, told, tables, (shown,), drawn, facts=result.facts, captions=captions)


def _finding(result: Faithfulness) -> str:
    """Say how many methods are better than a random order."""
    better = list(dict.fromkeys(one.split(" (")[0] for one in _better(result)))
    methods = result.summary.loc[result.summary["method"] != RANDOM, "method"].nunique()
    which = f": {', '.join(better)}" if better else ""
    return (
        f"{result.facts['detector']}: {len(better) or 'none'} of {methods} methods "
        f"{'is' if len(better) < 2 else 'are'} better than a random order beyond doubt{which}"
    )


def _better(result: Faithfulness) -> list[str]:
    """Return the methods that beat a random order, and in what."""
    summary = result.summary[result.summary["method"] != RANDOM]
    adjusted = holm(summary["p"].to_numpy())
    return [
        f"{row['method']} ({row['kind']})"
        for row, p in zip(summary.to_dict("records"), adjusted, strict=True)
        if row["gain"] > 0 and p <= LEVEL
    ]


def orders(result: Faithfulness) -> str:
    """Return how many random orders each image was deleted and inserted in."""
    draws = result.facts["draws"]
    return "one random order" if draws == 1 else f"{draws} random orders"


def rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return methods down, deletion and insertion across: area, and gain over a random order."""
    found = []
    for method, own in summary.groupby("method", sort=False):
        shown = {"method": str(method)}
        for row in own.to_dict("records"):
            shown[str(row["kind"])] = f"{row['auc']:.2f}"
            if method != RANDOM:
                known = row["gain_low"] == row["gain_low"]
                ends = f" [{row['gain_low']:+.2f}, {row['gain_high']:+.2f}]" if known else ""
                shown[f"{row['kind']}, gain"] = f"{row['gain']:+.2f}{ends}"
        found.append(shown)
    return pd.DataFrame(found).fillna("")


def said(result: Faithfulness) -> str:
    """Say which methods beat a random order, and which see that the network was made random."""
    summary = result.summary[result.summary["method"] != RANDOM]
    beaten = _better(result)
    text = (
        f"Better than {orders(result)} an image (Student's t over {result.counts['used']} images, "
        f"corrected for {len(summary)} comparisons by Holm): {', '.join(beaten) or 'none'}."
    )
    if result.counts["used"] < 2:
        text = "One image has no interval: whether a method beats a random order cannot be said."
    whole = result.randomisation[result.randomisation["share"] == 1]
    if len(whole):
        means = whole.groupby("method", sort=False)["spearman"].mean()
        blind = [f"{method} (ρ = {value:.2f})" for method, value in means.items() if value > SANE]
        text += " With all weights made random the maps change for all methods"
        text += f" but {', '.join(blind)} (ρ above {SANE:g})." if blind else "."
    return " ".join([text, *result.notes]) + other_rules(result.facts)
