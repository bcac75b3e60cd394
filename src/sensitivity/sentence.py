"""The line that says what a dropout table shows; every word and number comes from the table."""

from __future__ import annotations

import pandas as pd

from ..evaluation import LEVEL, MACRO, draws_needed, holm
from .dropout import DropoutResult
from .masks import BASELINE, LAYER_MATCHED, MAGNITUDE_MATCHED, RANDOM, TOP
from .tables import UNSEEN

CONTROLS = {
    RANDOM: "random maps of the whole network",
    LAYER_MATCHED: "random maps of the same layers",
    MAGNITUDE_MATCHED: "random maps that respond as strongly",
}


def sentence(result: DropoutResult) -> str:
    """Return in plain words what dropping did, over the most general row there is.

    That is the mean over unseen generators, else over all, else the only generator. AP in percent,
    logits as their change against the whole network.
    """
    summary = result.summary
    names = list(dict.fromkeys(summary["generator"]))
    where = next((name for name in (UNSEEN, MACRO) if name in names), names[0])
    spoken = {UNSEEN: "unseen generators", MACRO: "all generators"}.get(where, where)
    own = summary[summary["generator"] == where].set_index("mask")
    k, maps = result.facts["k"], result.facts["feature_maps"]
    lines = [
        f"On {spoken}, dropping the top {k} of {maps} feature maps takes AP from "
        f"{100 * own.loc[BASELINE, 'ap']:.1f} to {100 * own.loc[TOP, 'ap']:.1f} "
        f"({_moves(own.loc[TOP])}): {own.loc[TOP, 'effect']}."
    ]
    for mask, what in CONTROLS.items():
        if mask not in own.index:
            continue
        row = own.loc[mask]
        lines.append(
            f"As many {what} ({int(row['draws'])} draws) leave AP at {100 * row['ap']:.1f} "
            f"({_moves(row)}): {row['effect']}. {_verdict(row)}"
        )
    return " ".join(lines)


def _moves(row: pd.Series) -> str:
    fake, real = row["change_mean_logit_fake"], row["change_mean_logit_real"]
    return f"mean logit of fakes {fake:+.2f}, of reals {real:+.2f}"


def _verdict(control: pd.Series) -> str:
    """Say for which of the three numbers the top k stands out from the control's draws.

    That is where Holm's p over the three is at most 0.05; where no outcome of so few draws could
    have that, a number that no draw reaches is said to be open.
    """
    tested = {
        "the fall of AP": control["p_fall_ap"],
        "the fall of the fakes' logit": control["p_fake_evidence"],
        "the loss of separation": control["p_separation"],
    }
    draws, needed = int(control["draws"]), draws_needed(len(tested))
    adjusted = holm(list(tested.values()))
    groups: dict[str, list[str]] = {"yes": [], "no": [], "open": []}
    for (name, p), own in zip(tested.items(), adjusted, strict=True):
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
        said.append(
            f"{draws} draws cannot tell whether they stand out in {_list(groups['open'])}: that "
            f"takes {needed}, corrected for {len(tested)} numbers"
        )
    return "".join(f"{one}. " for one in said).strip()


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
