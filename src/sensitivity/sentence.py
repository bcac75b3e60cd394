"""The lines that say what dropout shows; every word and number comes from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..errors import counted
from ..evaluation import LEVEL, MACRO, draws_needed, holm
from .dropout import DropoutResult
from .masks import BASELINE, LAYER_MATCHED, MAGNITUDE_MATCHED, RANDOM, TOP
from .tables import FALLS, UNSEEN, spoken_of

CONTROLS = {
    RANDOM: "random maps of the whole network",
    LAYER_MATCHED: "random maps of the same layers",
    MAGNITUDE_MATCHED: "random maps that respond as strongly",
}
NUMBERS = dict(
    zip(FALLS, ("the fall of AP", "the fall of the fakes' logit", "the gap removed"), strict=True)
)
VALUES = {
    "zero": "zero",
    "mean": "the mean",
    "mean-real": "the mean over reals",
    "resample": "another real's maps",
    "paired": "their own photographs' maps in fakes",
    "optimal": "learnt constants",
}


def sentence(result: DropoutResult) -> str:
    """Return in plain words what dropping did, over the most general row there is.

    That is the mean over unseen generators, else over all, else the only generator, under the first
    value. AP and shares in percent with 95 % intervals by photograph, logits as their change
    against the whole network. What is said to stand out has a p-value of at most 0.05 by Holm's
    correction over all p-values in the sentence.
    """
    value = result.in_place[0]
    where = spoken_of(result.summary["generator"])
    spoken = {UNSEEN: "unseen generators", MACRO: "all generators"}.get(where, where)
    own, gap = (
        table[(table["generator"] == where) & (table["value"] == value)].set_index("mask")
        for table in (result.summary, result.gap)
    )
    k, maps = result.facts["k"], result.facts["feature_maps"]
    what = f"the top {k} of {maps} feature maps"
    doing = f"dropping {what}" if value == "zero" else f"putting {VALUES[value]} in place of {what}"
    lines = [
        f"On {spoken}, {doing} takes AP from {100 * own.loc[BASELINE, 'ap']:.1f} to "
        f"{100 * own.loc[TOP, 'ap']:.1f} and removes {_share(gap.loc[TOP], 'gap_removed')} of the "
        f"gap between fakes and reals ({_moves(own.loc[TOP])}): {own.loc[TOP, 'effect']}. At the "
        f"detector's own threshold {_decisions(gap.loc[TOP], gap.loc[BASELINE])}."
    ]
    there = [mask for mask in CONTROLS if mask in own.index]
    verdicts = _verdicts(own.loc[there], result.facts.get("max_draws") is not None)
    for mask, verdict in zip(there, verdicts, strict=True):
        row = own.loc[mask]
        lines.append(
            f"As many {CONTROLS[mask]} ({counted(int(row['draws']), 'draw')}) leave AP at "
            f"{100 * row['ap']:.1f} and remove {_share(gap.loc[mask], 'gap_removed')} of the gap "
            f"({_moves(row)}): {row['effect']}. {_shared(result, mask)}{verdict}"
        )
    return " ".join(lines + _spoofing(result, where))


def _share(row: pd.Series, column: str) -> str:
    """Return a share in percent with its interval, where there is one."""
    value, low, high = (
        np.round(100 * row[f"{column}{end}"]) + 0.0 for end in ("", "_low", "_high")
    )
    return f"{value:.0f} %" + ("" if np.isnan(low) else f" [{low:.0f}, {high:.0f}]")


def _moves(row: pd.Series) -> str:
    fake, real = row["change_mean_logit_fake"], row["change_mean_logit_real"]
    return f"mean logit of fakes {fake:+.2f}, of reals {real:+.2f}"


def _decisions(row: pd.Series, before: pd.Series) -> str:
    return " and ".join(
        f"{_share(row, column)} of {kind} are {done} ({100 * before[column]:.0f} % before)"
        for column, kind, done in (
            ("fake_accuracy_05", "fakes", "found"), ("real_accuracy_05", "reals", "right")
        )
    )  # fmt: skip


def _shared(result: DropoutResult, mask: str) -> str:
    """Say how many maps of a control's draws are top maps, where its choice ran out of others."""
    counts = [
        one.shared_with_top_k
        for one, value in zip(result.masks, result.in_place, strict=True)
        if one.name == mask and value == result.in_place[0]
    ]
    if not any(counts):
        return ""
    why = "layers hold" if mask == LAYER_MATCHED else "neighbourhoods hold"
    some = f"{min(counts)}" + f" to {max(counts)}" * (max(counts) > min(counts))
    return (
        f"Of each draw {some} of {result.facts['k']} are top maps themselves, as these {why} too "
        "few others: this control is close to the top maps by itself. "
    )


def _spoofing(result: DropoutResult, where: str) -> list[str]:
    """Say how much of what zero does is its own damage, where constants were learnt too."""
    if result.spoofing.empty:
        return []
    table = result.spoofing
    row = table[(table["generator"] == where) & (table["mask"] == TOP)].iloc[0]
    shares = [
        f"{_share(row, f'spoofing_{short}')} of {name}"
        for short, name in (("ap", "the fall of AP"), ("gap", "the gap removed"))
        if not np.isnan(row[f"spoofing_{short}"])
    ]
    if not shares:
        return ["What zero does cannot be told from nothing, so neither can its share of damage."]
    return [f"By learnt constants beside it, damage of zero itself is {_list(shares)}."]


def _verdicts(controls: pd.DataFrame, sequential: bool) -> list[str]:
    """Say for which of the three numbers the top k stands out from each control's draws.

    That is where Holm's p over all of these is at most 0.05; where no outcome of so few draws could
    have that, a number that no draw reaches is said to be open.
    """
    tests = controls[[f"p_{name}" for name in FALLS]].to_numpy(dtype=float)
    adjusted = holm(tests.ravel()).reshape(tests.shape)
    needed = draws_needed(tests.size)
    return [
        _verdict(tests[at], adjusted[at], int(draws), needed, tests.size, sequential)
        for at, draws in enumerate(controls["draws"])
    ]


def _verdict(
    tests: np.ndarray, adjusted: np.ndarray, draws: int, needed: int, asked: int, sequential: bool
) -> str:
    groups: dict[str, list[str]] = {"yes": [], "no": [], "open": []}
    for name, p, own in zip(NUMBERS.values(), tests, adjusted, strict=True):
        least = draws < needed and p <= max(LEVEL, 1 / (1 + draws))
        groups["yes" if own <= LEVEL else "open" if least else "no"].append(f"{name} (p = {p:.2g})")
    text = []
    if groups["yes"]:
        text.append(f"The top maps stand out from these in {_list(groups['yes'])}")
    if groups["no"]:
        start = "but not in " if groups["yes"] else "The top maps do not stand out in "
        text.append(start + _list(groups["no"]))
    said = [", ".join(text)] if text else []
    if groups["open"]:
        more = "" if sequential else " (draws auto)"
        said.append(
            f"{counted(draws, 'draw')} cannot tell whether they stand out in "
            f"{_list(groups['open'])}: that takes {needed}, corrected for {asked} numbers{more}"
        )
    return "".join(f"{one}. " for one in said).strip()


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
