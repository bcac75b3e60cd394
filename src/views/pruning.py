"""A pruned detector and its certificate."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..errors import counted
from ..evaluation import MACRO
from ..pruning import Pruning
from ..pruning.certificate import PROCESSED, PRUNED, RANDOM, REFITTED, WHOLE
from .text import percent
from .view import Shown, View, Write

HEADS = {"ap": "AP", "real_accuracy": "reals right", "fake_accuracy": "fakes found"}
CLEAN = "clean"
CAPTION = "percent, at threshold 0.5; [ ] 95 % intervals over {over}"


def view(result: Pruning) -> View:
    """Return what pruning did beside the whole detector, fitting alone, and random pruning."""
    facts, levels = result.facts, whole(result.certificate)
    over = levels["intervals_over"].iloc[0]
    title = f"{facts['pruned']} of {facts['of']} {facts['units']} pruned by {facts['method']}"
    where = f"mean over {n} generators; " if (n := _generators(result)) > 1 else ""
    shown = (
        Shown(where + CAPTION.format(over=over), rows(levels, "detector"), keys=2),
        Shown(
            f"{where}the pruned detector less another, in points, on the same draws (paired)",
            rows(whole(result.differences), "less", sign=True),
            keys=2,
        ),
    )
    drawn = {
        "certificate": lambda: figures.plot_intervals(
            _points(levels), xlabel="percent", title=f"{facts['detector']}: {title}"
        )
    }
    tables = {
        "certificate": result.certificate,
        "differences": result.differences,
        "pruned": result.pruned,
        "fits": result.fits,
    }
    scores: dict[str, Write] = {
        "scores.parquet": lambda path: result.scores.to_parquet(path, index=False)
    }
    return View(title, said(result), tables, shown, drawn, scores, facts)


def rows(table: pd.DataFrame, kind: str, *, sign: bool = False) -> pd.DataFrame:
    """Return levels or differences for people."""
    found = []
    for row in table.to_dict("records"):
        several = row["draws"] > 1
        name = str(row[kind]) + f" ({row['draws']} draws)" * several
        shown = {"condition": str(row["condition"]), kind: name}
        shown |= {head: percent(row, metric, sign=sign) for metric, head in HEADS.items()}
        found.append(shown)
    return pd.DataFrame(found)


def said(result: Pruning) -> str:
    """Say what became better or worse, and whether it is the pruning that did it."""
    facts = result.facts
    levels = whole(result.certificate).set_index(["condition", "detector"])
    changes = whole(result.differences).set_index(["condition", "less"])
    conditions = list(dict.fromkeys(levels.index.get_level_values(0)))
    last = PROCESSED if PROCESSED in conditions else conditions[-1]
    parts = [
        f"{facts['detector']} without {facts['pruned']} of {facts['of']} {facts['units']} "
        f"({facts['method']}), its last layer fitted anew on "
        f"{counted(int(result.fits['photographs'].iloc[0]), 'photograph')}:"
    ]
    for condition in dict.fromkeys((CLEAN, last)):
        where = "on clean images" if condition == CLEAN else _named(condition, facts)
        one, before = levels.loc[(condition, PRUNED)], levels.loc[(condition, WHOLE)]
        parts.append(
            f"{where} AP {100 * one['ap']:.1f} (the whole detector {100 * before['ap']:.1f}), "
            f"{100 * one['fake_accuracy']:.0f} % of fakes found "
            f"({100 * before['fake_accuracy']:.0f}), {100 * one['real_accuracy']:.0f} % of reals "
            f"right ({100 * before['real_accuracy']:.0f});"
        )
    text = " ".join(parts)[:-1] + "."
    for less, by in ((REFITTED, "fitting the last layer alone"), (RANDOM, "random pruning")):
        found = [
            f"{'clean' if one == CLEAN else 'processed'} {_change(changes.loc[(one, less)])}"
            for one in dict.fromkeys((CLEAN, last))
            if (one, less) in changes.index
        ]
        text += f" Against {by}: {'; '.join(found)}." if found else ""
    if shared := int(str(facts["shared_photographs"])):
        text += (
            f" {counted(shared, 'photograph')} of the test set {'is' if shared == 1 else 'are'} "
            "also what the last layer was fitted on: the numbers flatter it."
        )
    return text


def _named(condition: str, facts: object) -> str:
    if condition != PROCESSED:
        return f"under {condition}"
    tested = [one for one in facts["conditions"] if one != CLEAN]  # type: ignore[index]
    return f"over {', '.join(tested)}"


def _change(row: pd.Series) -> str:
    """Say what moved, as far as intervals tell."""
    own = row.to_dict()
    moved = [
        f"{head} {percent(own, metric, sign=True)} points"
        for metric, head in HEADS.items()
        if own[f"{metric}_low"] > 0 or own[f"{metric}_high"] < 0
    ]
    if moved:
        return ", ".join(moved)
    return f"no difference that these images show (AP {percent(own, 'ap', sign=True)} points)"


def _points(levels: pd.DataFrame) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "panel": head,
                "group": levels["condition"],
                "kind": levels["detector"],
                "value": levels[metric],
                "low": levels[f"{metric}_low"],
                "high": levels[f"{metric}_high"],
            }
        )
        for metric, head in HEADS.items()
    ]
    return pd.concat(parts, ignore_index=True)


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the mean over generators, or the only generator's."""
    macro = table[table["generator"] == MACRO]
    return macro if len(macro) else table


def _generators(result: Pruning) -> int:
    names = set(result.certificate["generator"]) - {MACRO}
    return len(names)
