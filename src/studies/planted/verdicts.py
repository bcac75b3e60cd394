"""Was what was planted found? Rules that were set before the study, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from ...evaluation import LEVEL, draws_needed
from ...forge.planted import Trace
from ...sensitivity import BASELINE, LAYER_MATCHED, TOP

LEARNT = 0.95  # AP of a detector that knows its trace
COLOURED = 0.5  # share of the top maps that must be colour-conditional on a chroma trace
LEFT = 0.1  # accuracy on fakes that top-k dropout may leave
MIXED = 0.6  # AP that it may leave where k was chosen for that; both looser than on validation
SPARED = 0.05  # what it may cost the accuracy on reals


class Verdict(NamedTuple):
    """One row of ``ground_truth.csv``: a rule and whether it is met.

    measured, low, high: with its 95 % interval where there is one (fractions of 1); chance: what a
    blind explanation would get (for dropout: random maps of the same layers, mean over draws);
    found: whether the rule holds.
    """

    trace: str
    question: str
    measured: float
    low: float
    high: float
    chance: float
    rule: str
    found: bool


def verdicts(name: str, trace: Trace, tables: Mapping[str, pd.DataFrame]) -> list[Verdict]:
    """Judge one trace by its tables (those of a ``PlantedStudy``, its own rows)."""
    dropped = tables["dropout"].set_index(["aim", "mask"])
    base = dropped.loc["decision", BASELINE]
    rows = [_learnt(name, base)]
    if trace.box is not None:
        rows += _located(name, tables["localisation"].set_index("method").loc["lrp"])
    rows += _coloured(name, trace, tables["colour"])
    for aim in ("decision", "order"):
        rows += _removed(name, aim, *(dropped.loc[aim, m] for m in (BASELINE, TOP, LAYER_MATCHED)))
    return rows


def _learnt(name: str, base: pd.Series) -> Verdict:
    low, high = float(base["ap_low"]), float(base["ap_high"])
    ap = float(base["ap"])
    rule = f"AP on held-out photographs at least {LEARNT:g}"
    return Verdict(name, "the detector learnt the trace", ap, low, high, 0.5, rule, ap >= LEARNT)


def _located(name: str, lrp: pd.Series) -> list[Verdict]:
    rows = []
    area = float(lrp["area"])
    for key, what in (
        ("share", "share of the positive relevance (LRP) inside the box"),
        ("hit", "largest relevance (LRP) inside the box"),
    ):
        value, low, high = (float(lrp[f"{key}{end}"]) for end in ("", "_low", "_high"))
        other = float(lrp[f"other_{key}_high"])
        rule = "interval above the box's area, and above that of another image's box"
        rows.append(Verdict(name, what, value, low, high, area, rule, low > max(area, other)))
    return rows


def _coloured(name: str, trace: Trace, colour: pd.DataFrame) -> list[Verdict]:
    fakes = colour[colour["images"] == "fakes"]
    value = float(fakes["colour_conditional_mood_q"].mean())
    what = f"share of the top {len(fakes)} maps that are colour-conditional (Mood, q ≤ 0.05)"
    if trace.mode == "chroma":
        rule, found = f"at least {COLOURED:g}", value >= COLOURED
    else:
        rule, found = "none", value == 0
    nan = float("nan")
    return [Verdict(name, what, value, nan, nan, 0.0, rule, found)]


def _removed(
    name: str, aim: str, base: pd.Series, top: pd.Series, matched: pd.Series
) -> list[Verdict]:
    k, draws = int(top["k"]), int(matched["draws"])
    nan = float("nan")
    key, what, most = (
        ("fake_accuracy", "accuracy on fakes", LEFT) if aim == "decision" else ("ap", "AP", MIXED)
    )
    value, low, high = (float(top[f"{key}{end}"]) for end in ("", "_low", "_high"))
    reals, whole = float(top["real_accuracy"]), float(base["real_accuracy"])
    reals_low, reals_high = float(top["real_accuracy_low"]), float(top["real_accuracy_high"])
    p = float(matched["p_fake_evidence"])
    without, needed = f"without the top {k} maps", draws_needed()
    rule = f"at most {LEVEL:g}" + (f" ({draws} draws cannot: {needed})" if draws < needed else "")
    return [
        Verdict(
            name, f"{what} {without}", value, low, high, float(matched[key]),
            f"at most {most:g}", value <= most,
        ),
        Verdict(
            name, f"accuracy on reals {without}", reals, reals_low, reals_high,
            float(matched["real_accuracy"]),
            f"at most {SPARED:g} below the whole detector's {whole:.3f}", reals >= whole - SPARED,
        ),
        Verdict(
            name, f"p: {k} random maps of the same layers lower the fakes' logit as much",
            p, nan, nan, 0.5, rule, p <= LEVEL,
        ),
    ]  # fmt: skip
