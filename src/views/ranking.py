"""Feature maps by ω."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from .. import figures
from ..fmap_ranking import Rankings, count_by_layer, save_ranking
from ..records import FAKE, Ranking
from ..sensitivity import PUBLISHED_K
from .text import other_rules
from .view import Draw, Shown, View, Write

SHOWN = 10
CAPTION = "ω: share of the layer's relevance; rank: 95 % interval, images resampled in 20 groups"


def view(result: Ranking | Rankings) -> View:
    """Return the top feature maps of one label or both, in the published format beside it."""
    if isinstance(result, Ranking):
        kind = "fake" if result.label == FAKE else "real"
        facts = {**result.facts, "counts": {kind: dict(result.counts)}, "start": result.start}
        result = Rankings({kind: result}, {}, "ranking", facts=facts)
    first = next(iter(result.of.values()))
    few = min(100, max(1, len(first) // 10))
    k = PUBLISHED_K.get(str(result.facts.get("detector")), few)
    shown = tuple(
        Shown(f"{_counted(ranking, kind)}; {CAPTION}", rows(ranking), keys=2)
        for kind, ranking in result.of.items()
    )
    table = frame(result.of)
    rules = re.sub(r"[^\w.-]+", "_", str(result.facts.get("composite", "beta0")))
    stem = result.name if rules == "beta0" else f"{result.name}-{rules}"
    files: dict[str, Write] = {
        f"{stem}-{kind}.csv": _published(ranking) for kind, ranking in result.of.items()
    }
    files["ranking.parquet"] = lambda path: table.to_parquet(path, index=False)

    def omega(k: int = k) -> object:
        return figures.plot_omega(first.table, k, title=str(result.facts.get("detector", "")))

    drawn: dict[str, Draw] = {"omega": omega}
    tables = {"ranking": table}
    return View("Relevance", said(result, k), tables, shown, drawn, files, result.facts)


def frame(rankings: Mapping[str, Ranking]) -> pd.DataFrame:
    """Return the table of ``ranking.parquet``: label, rank from 1, key, the ranking's columns."""
    parts = []
    for kind, ranking in rankings.items():
        keys = [str(one) for one in ranking.feature_maps()]
        heads = {"label": kind, "rank": range(1, len(ranking) + 1), "key": keys}
        part = ranking.table.assign(**heads)
        parts.append(part[[*heads, *ranking.table.columns]])
    return pd.concat(parts, ignore_index=True)


def rows(ranking: Ranking) -> pd.DataFrame:
    """Return the first feature maps for people."""
    found = []
    maps = ranking.feature_maps(slice(0, SHOWN))
    for place, row in enumerate(ranking.table.head(SHOWN).to_dict("records")):
        known = row["rank_low"] == row["rank_low"]
        found.append(
            {
                "rank": str(place + 1),
                "feature map": str(maps[place]),
                "ω": f"{row['omega']:.4f}",
                "standard error": f"{row['standard_error']:.4f}"
                if row["standard_error"] >= 0
                else "",
                "ω × width": f"{row['omega_width']:.1f}",
                "rank, 95 %": f"{row['rank_low']:.0f} … {row['rank_high']:.0f}" if known else "",
            }
        )
    return pd.DataFrame(found)


def said(result: Rankings, k: int) -> str:
    """Say how few maps hold how much, and on how many images that rests."""
    parts = []
    for kind, ranking in result.of.items():
        omega = ranking.table["omega"]
        if not omega.any():
            parts.append(f"On {kind}s no feature map of the {len(ranking)} has positive relevance.")
            continue
        top, layers = min(k, len(ranking)), len(set(ranking.table["layer"]))
        held = omega.head(top).sum() / omega.sum()
        used = count_by_layer(ranking.feature_maps(slice(0, top)))
        parts.append(
            f"On {kind}s the top {top} of {len(ranking)} feature maps hold {100 * held:.0f} % of "
            f"all ω; they lie in {len(used)} of {layers} layers."
        )
    parts += [f"No ranking on {kind}s: {why}." for kind, why in result.missing.items()]
    return " ".join(parts) + other_rules(result.facts)


def _counted(ranking: Ranking, kind: str) -> str:
    counts = dict(ranking.counts)
    used = counts.pop("used", 0)
    left_out = ", ".join(f"{number} {reason}" for reason, number in counts.items() if number)
    return f"{used} {kind}s used" + (f", left out {left_out}" if left_out else ", none left out")


def _published(ranking: Ranking) -> Write:
    def write(path: Path) -> None:
        save_ranking(ranking, path)

    return write
