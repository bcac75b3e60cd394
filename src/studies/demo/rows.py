"""Tables for people, made of the tidy tables alone: percent, intervals in brackets."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ...evaluation import MACRO
from ...sensitivity import UNSEEN, DropoutResult
from ...views.text import percent, with_interval
from .world import TRAINING_FAMILY


def evaluation_rows(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluation for people: percent with one decimal, intervals in brackets."""
    rows = []
    for row in evaluation.to_dict("records"):
        shown: dict[str, str] = {"generator": str(row["generator"])}
        shown["images"] = f"{row['n_real']} + {row['n_fake']}"
        for key, head in (
            ("ap", "AP"),
            ("accuracy", "accuracy"),
            ("real_accuracy", "on reals"),
            ("fake_accuracy", "on fakes"),
        ):
            shown[head] = percent(row, key)
        shown["AUC"], shown["EER"] = f"{100 * row['auc']:.1f}", f"{100 * row['eer']:.1f}"
        rows.append(shown)
    return pd.DataFrame(rows)


def dropout_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the dropout summary for people: percent, and the signed change of the mean logits."""
    rows = []
    for row in summary.to_dict("records"):
        spread = f" ± {100 * row['ap_sd']:.1f}" if row["draws"] > 1 else ""
        plain = row["mask"] == "baseline"
        signs = ("", "") if plain else ("change_", "+")
        draws = f" ({row['draws']} draws)" if row["draws"] > 1 else ""
        rows.append(
            {
                "generator": str(row["generator"]),
                "mask": f"{row['mask']}{draws}",
                "AP": f"{100 * row['ap']:.1f}{spread}",
                "reals right": f"{100 * row['real_accuracy']:.1f}",
                "fakes right": f"{100 * row['fake_accuracy']:.1f}",
                "reals' logit": f"{row[signs[0] + 'mean_logit_real']:{signs[1]}.2f}",
                "fakes' logit": f"{row[signs[0] + 'mean_logit_fake']:{signs[1]}.2f}",
                "effect": "" if plain else str(row["effect"]),
            }
        )
    return pd.DataFrame(rows)


def asked_rows(evaluation: pd.DataFrame, dropouts: Mapping[int, DropoutResult]) -> pd.DataFrame:
    """Return what a study of transferable features must show, asked against measured."""
    rows: list[tuple[str, str, str, str]] = []
    training = evaluation.set_index("generator")
    family = TRAINING_FAMILY
    unseen = [name for name in training.index if name not in (family, MACRO)]
    rows.append(_asked("AP on the training family", "≥ 98", 100 * training.loc[family, "ap"], 98))
    for name in unseen:
        rows.append(_asked(f"AP on {name}, unseen", "≥ 85", 100 * training.loc[name, "ap"], 85))
    for k, result in dropouts.items():
        own = result.summary[result.summary["generator"] == UNSEEN].set_index("mask")
        base, top, random = own.loc["baseline"], own.loc["top-k"], own.loc["random-k"]
        fall = float(top["fall_ap_points"])
        fakes = 100 * float(base["fake_accuracy"] - top["fake_accuracy"])
        reals = 100 * float(base["real_accuracy"] - top["real_accuracy"])
        met = "yes" if fall >= 25 or fakes >= 50 else "no"
        rows.append(
            (
                f"top-{k}: fall of AP, or of the accuracy on fakes, on unseen families",
                "≥ 25, or ≥ 50 points",
                f"{fall:.1f}, {fakes:.1f}",
                met,
            )
        )
        rows.append(_asked(f"top-{k}: fall of the accuracy on reals", "≤ 10", reals, 10, most=True))
        fall = float(random["fall_ap_points"])
        rows.append(_asked(f"random-{k}: mean fall of AP", "≤ 5", fall, 5, most=True))
        if "random-k-layer-matched" in own.index:
            matched = own.loc["random-k-layer-matched"]
            text = (
                f"AP falls by {matched['fall_ap_points']:.1f}; logit of reals "
                f"{matched['change_mean_logit_real']:+.2f}, of fakes "
                f"{matched['change_mean_logit_fake']:+.2f}: {matched['effect']}"
            )
            rows.append((f"layer-matched random-{k}", "whatever it says", text, ""))
    return pd.DataFrame(rows, columns=["", "asked", "measured", "met"])


def _asked(
    what: str, asked: str, value: float, limit: float, *, most: bool = False
) -> tuple[str, str, str, str]:
    met = value <= limit if most else value >= limit
    return what, asked, f"{value:.1f}", "yes" if met else "no"


def colour_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return AP by generator (down) and colour mode, and what the fakes' logit does in grey."""
    rows = []
    for generator, own in table.groupby("generator", sort=False):
        modes = {str(row["mode"]): row for row in own.to_dict("records")}
        shown = {"generator": str(generator)}
        shown |= {f"AP, {mode}": percent(row, "ap") for mode, row in modes.items()}
        if "grey" in modes:
            for kind in ("fake", "real"):
                change = modes["grey"][f"change_mean_logit_{kind}"]
                shown[f"{kind}s' logit in grey"] = f"{change:+.2f}"
        rows.append(shown)
    return pd.DataFrame(rows)


def conditional_rows(percentages: pd.DataFrame) -> pd.DataFrame:
    """Return the share of colour-conditional maps: generators down, criteria across."""
    rows = []
    for generator, own in percentages.groupby("generator", sort=False):
        shown = {"generator": str(generator), "dead": str(own["dead"].iloc[0])}
        for row in own.to_dict("records"):
            shown[str(row["criterion"])] = percent(row, "share", ends=("low", "high"))
        rows.append(shown)
    return pd.DataFrame(rows)


def neighbour_rows(neighbours: pd.DataFrame) -> pd.DataFrame:
    """Return nearest-neighbour accuracy: generators down, kinds of features across."""
    rows = []
    for generator, own in neighbours.groupby("generator", sort=False):
        shown = {"generator": str(generator), "chance": f"{100 * own['chance'].iloc[0]:.0f}"}
        for row in own.to_dict("records"):
            shown[str(row["kind"])] = percent(row, "knn_accuracy")
        rows.append(shown)
    return pd.DataFrame(rows)


def matrix_rows(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return a matrix of falls in points, one decimal."""
    shown = matrix.map(lambda value: "" if value != value else f"{value:.1f}")
    return shown.rename_axis(columns=None).reset_index(names="ranked on")


def faithfulness_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return methods down, deletion and insertion across: area, and gain over a random order."""
    rows = []
    for method, own in summary.groupby("method", sort=False):
        shown = {"method": str(method)}
        for row in own.to_dict("records"):
            shown[str(row["kind"])] = f"{row['auc']:.2f}"
            if method != "random":
                gain = with_interval(row, "gain", decimals=2, sign=True)
                shown[f"{row['kind']}, gain"] = gain
        rows.append(shown)
    return pd.DataFrame(rows).fillna("")


def robust_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the published table's shape: detector, training and colours down, families across."""
    rows = []
    for (name, training, mode), own in table.groupby(["detector", "training", "mode"], sort=False):
        shown = {"": f"{name}, {training}, {'RGB' if mode == 'rgb' else mode}"}
        shown |= {str(row["generator"]): percent(row, "ap") for row in own.to_dict("records")}
        rows.append(shown)
    return pd.DataFrame(rows)
