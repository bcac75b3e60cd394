"""Feature maps by ω and by other scores, and how far rankings agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from .. import figures
from ..errors import counted
from ..fmap_ranking import Rankings, count_by_layer, save_ranking, usual_k
from ..fmap_ranking.agreement import BETWEEN
from ..records import FAKE, Ranking
from .text import other_rules, with_interval
from .view import Draw, Shown, View, Write

SHOWN = 10
ERRORS = "rank: 95 % interval, images resampled in 20 groups"
CAPTION = f"ω: share of the layer's relevance; {ERRORS}"
OMEGA = (
    "Left: every map's score in falling order, both axes logarithmic, the band its standard error; "
    "maps right of the dashed line are not among the top. A steep fall means that few maps hold "
    "most. Right: how many of the top maps each layer holds, the width of the layer in brackets; "
    "strokes are what its width alone would give."
)
ALIKE = (
    "Each cell compares two rankings, with its 95 % interval below; the diagonal compares two "
    "halves of one ranking's photographs, which is the most agreement that could be expected."
)
BY_LRP = ("omega", "omega-width")
IN_WORDS = {
    "omega-width": "ω × width of the layer",
    "contrast": "mean activation on fakes − on reals",
    "gradient-activation": "logits, to first order",
    "eap-ig": "logits, mean gradient along the path",
    "conductance": "logits that pass through the map along the path",
    "rad": "mean activation inside − outside of what was generated",
    "single": "logits of the fake–real gap that the map alone takes away",
    "pursuit": "share of the objective that the pick takes away",
    "bias": "standard deviations that a bias moves the map by, at least",
}


def view(result: Ranking | Rankings) -> View:
    """Return the top feature maps of each ranking, in the published format beside it."""
    if isinstance(result, Ranking):
        kind = "fake" if result.label == FAKE else "real"
        kind = kind if result.by == "omega" else result.by
        facts = {**result.facts, "counts": {kind: dict(result.counts)}, "start": result.start}
        result = Rankings({kind: result}, {}, "ranking", facts=facts)
    first = next(iter(result.of.values()))
    k = usual_k(str(result.facts.get("detector")), len(first))
    shown = [
        Shown(_caption(ranking, kind), rows(ranking), keys=2) for kind, ranking in result.of.items()
    ]
    table = frame(result.of)
    rules = re.sub(r"[^\w.-]+", "_", str(result.facts.get("composite", "beta0")))
    files: dict[str, Write] = {}
    for kind, ranking in result.of.items():
        own = rules != "beta0" and ranking.by in BY_LRP
        files[f"{result.name}{f'-{rules}' * own}-{kind}.csv"] = _published(ranking)
    files["ranking.parquet"] = lambda path: table.to_parquet(path, index=False)

    about = _about(result, first)

    def omega(k: int = k) -> object:
        return figures.plot_omega(first.table, k, title=_finding(result, first, k), note=about)

    name = "omega" if first.by == "omega" else "ranking"
    drawn: dict[str, Draw] = {name: omega}
    captions = {name: OMEGA}
    tables = {"ranking": table}
    alike = result.alike
    if alike is not None:
        tables["alike"] = alike
        shown.append(_alike_rows(alike))
        of = str(result.facts.get("detector", ""))
        drawn["alike"] = lambda: figures.plot_alike(alike, title=of)
        captions["alike"] = ALIKE
    title = "Relevance" if set(result.of) <= {"fake", "real"} else "Rankings"
    told = said(result, k)
    return View(title, told, tables, tuple(shown), drawn, files, result.facts, captions)


def _finding(result: Rankings, ranking: Ranking, k: int) -> str:
    """Say in which layer most of the top maps are."""
    counts = ranking.table.head(k)["layer"].value_counts()
    most, layers = counts.index[0], ranking.table["layer"].nunique()
    return (
        f"{result.facts.get('detector', '')}: the top {k:,} maps lie in {len(counts)} of {layers} "
        f"layers, most in {most} ({counts.iloc[0]})"
    )


def _about(result: Rankings, ranking: Ranking) -> str:
    """Return what was ranked on, for the foot of a figure."""
    kind = "fakes" if ranking.label else "reals"
    used = dict(ranking.counts).get("used")
    by = "relevance (ω)" if ranking.by == "omega" else ranking.by
    n = "" if used is None else f"{used:,} "
    return f"{result.facts.get('detector', '')}; ranked by {by} on {n}{kind} of {result.name}"


def frame(rankings: Mapping[str, Ranking]) -> pd.DataFrame:
    """Return the table of ``ranking.parquet``: label, rank from 1, key, the ranking's columns.

    Where one is not by ω there is the column by, and its scores are in the column score.
    """
    parts = []
    others = any(ranking.by != "omega" for ranking in rankings.values())
    for ranking in rankings.values():
        keys = [str(one) for one in ranking.feature_maps()]
        label = "fake" if ranking.label == FAKE else "real"
        heads = {"label": label, "rank": range(1, len(ranking) + 1), "key": keys}
        heads |= {"by": ranking.by} if others else {}
        part = ranking.table.assign(**heads)
        parts.append(part[[*heads, *ranking.table.columns]])
    return pd.concat(parts, ignore_index=True)


def rows(ranking: Ranking) -> pd.DataFrame:
    """Return the first feature maps for people."""
    found = []
    maps = ranking.feature_maps(slice(0, SHOWN))
    omega = ranking.by == "omega"
    scores = ranking.scores
    for place, row in enumerate(ranking.table.head(SHOWN).to_dict("records")):
        known = row["rank_low"] == row["rank_low"]
        error, digits = row["standard_error"], ".4f" if omega else ".3g"
        found.append(
            {
                "rank": str(place + 1),
                "feature map": str(maps[place]),
                "ω" if omega else ranking.by: f"{scores[place]:{digits}}",
                "standard error": f"{error:{digits}}" if error >= 0 else "",
                **({"ω × width": f"{row['omega_width']:.1f}"} if omega else {}),
                "rank, 95 %": f"{row['rank_low']:.0f} … {row['rank_high']:.0f}" if known else "",
            }
        )
    return pd.DataFrame(found)


def said(result: Rankings, k: int) -> str:
    """Say how few maps hold how much, and on how many images that rests."""
    parts = []
    for kind, ranking in result.of.items():
        if ranking.by != "omega":
            continue
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
    others = {one.by: one for one in result.of.values() if one.by != "omega"}
    parts += _said_of_others(others, k)
    parts += [_missing(kind, why) for kind, why in result.missing.items()]
    if result.alike is not None:
        parts.append(_said_alike(result.alike))
    return " ".join(parts) + other_rules(result.facts)


def _missing(kind: str, why: str) -> str:
    return f"No ranking {f'by {kind}' if kind in BY_LRP else f'on {kind}s'}: {why}."


STAND_INS = {
    "contrast": "it is the difference of the means of fakes and reals",
    "gradient-activation": "the mean over reals stands in a map's place",
    "eap-ig": "the path begins at neutral grey",
    "conductance": "the path begins at neutral grey",
}


def _said_of_others(rankings: Mapping[str, Ranking], k: int) -> list[str]:
    """Say in how many layers the tops lie, on what that rests, and what stood in for pairs."""
    if not rankings:
        return []
    told = []
    for by, ranking in rankings.items():
        own = min(k, len(ranking))
        layers = count_by_layer(ranking.feature_maps(slice(0, own)))
        few = "" if own == k else f" (of {own})"
        told.append(f"{counted(len(layers), 'layer')} by {by}{few}")
    parts = [f"The top {counted(k, 'feature map')} lie in {', in '.join(told)}."]
    masked = [one.facts.get("regions") == "masks" for one in rankings.values()]
    facts = [
        one.facts
        for one, has in zip(rankings.values(), masked, strict=True)
        if one.facts.get("pairs") and not has
    ]
    if facts:
        without = facts[0].get("fakes_without_photograph")
        left_out = f"; {counted(without, 'fake')} without one left out" if without else ""
        parts.append(f"Compared: {facts[0]['pairs']} fakes with their photographs{left_out}.")
    for by, ranking in rankings.items():
        if by in STAND_INS and ranking.facts.get("pairs") == 0:
            parts.append(f"By {by}: no fake has its photograph; {STAND_INS[by]}.")
        if "regions" in ranking.facts:
            parts.append(f"By {by}: regions are {ranking.facts['regions']}.")
        measured = ranking.facts.get("measured", len(ranking))
        if measured < len(ranking):
            rest = "the others predicted to first order"
            parts.append(f"By {by}: {counted(measured, 'map')} measured, {rest}.")
    return parts


def _said_alike(alike: pd.DataFrame) -> str:
    between = alike[alike["kind"] == BETWEEN].dropna(subset="spearman")
    if between.empty:
        return ""
    alone = between["spearman"]
    ends = [between.loc[at] for at in (alone.idxmax(), alone.idxmin())]
    told = [
        f"{row['first']} and {row['second']} (ρ = {row['spearman']:.2f}, {row['shared']:.0f} of "
        f"the top {row['k']} in both)"
        for row in ends
    ]
    if len(between) == 1:
        return f"How alike: {told[0]}."
    return f"Most alike are {told[0]}, least {told[1]}."


def _alike_rows(alike: pd.DataFrame) -> Shown:
    found = [
        {
            "first": row["first"],
            "second": row["second"] if row["kind"] == BETWEEN else "its own halves",
            "Spearman's ρ": with_interval(row, "spearman", 2),
            "top k in both, %": with_interval(row, "overlap", 0, scale=100),
            "maps": f"{row['shared']:.0f} of {row['k']}" if row["kind"] == BETWEEN else "",
        }
        for row in alike.to_dict("records")
    ]
    chance = alike["overlap_by_chance"].max()
    caption = (
        f"by chance {100 * chance:.1f} % of the top k would be in both; [95 %]: "
        "photographs redrawn in up to 20 groups; its own halves: two rankings as alike as that are "
        "not told apart"
    )
    return Shown(caption, pd.DataFrame(found), keys=2)


def _caption(ranking: Ranking, kind: str) -> str:
    if ranking.by == "omega":
        return f"{_used(ranking, kind)}; {CAPTION}"
    return f"{_used(ranking, 'fake')}; {ranking.by}: {IN_WORDS[ranking.by]}; {ERRORS}"


def _used(ranking: Ranking, kind: str) -> str:
    counts = dict(ranking.counts)
    used, reals = counts.pop("used", 0), counts.pop("reals", 0)
    left_out = ", ".join(f"{n} {reason}" for reason, n in counts.items() if n)
    beside = f" and {reals} reals" if reals else ""
    return f"{used} {kind}s{beside} used" + (
        f", left out {left_out}" if left_out else ", none left out"
    )


def _published(ranking: Ranking) -> Write:
    def write(path: Path) -> None:
        save_ranking(ranking, path)

    return write
