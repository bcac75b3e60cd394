"""The source attribution study as Markdown: every table and every sentence is made of the CSVs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...files import write_bytes
from ...views.text import markdown, percent
from .fingerprints import fingerprints_said
from .splits import CROSS
from .study import ALL_CROSS, TEST

STUDY, FINGERPRINTS = "study", "fingerprints"  # folders beside the sets

WORDS = {
    TEST: "closed set",
    "cross_seed": "another seed",
    "cross_loss": "another loss (hinge)",
    "cross_finetune": "fine-tuned on other photographs",
    "cross_dataset": "trained on other photographs",
    ALL_CROSS: "all four together",
}


def write_page(data: Path, path: Path) -> None:
    """Write the page of a world's study; what was not run yet is left out.

    Raises:
        UserError: the world, or all of its studies, are missing.
    """
    networks = _read(data / "networks.csv")
    if networks is None:
        raise UserError(f"{data}: no networks.csv; make it with forensift attribute forge")
    parts = [
        "# Which family made it?",
        "Made by `forensift attribute page` from the tables of `forensift attribute forge`, "
        "`evaluate` and `fingerprints`; no number is written by hand. Detectors learn the real "
        "photographs and the fakes of one network of each family (the closed set). They are tested "
        "on crops of photographs that no training saw, re-synthesised by those networks and by "
        "networks of the same families that were trained in another way. Percent; [ ] are 95 % "
        "intervals drawn by photograph.",
        "## The networks",
        networks_said(networks),
        markdown(network_rows(networks)),
    ]
    metrics = _read(data / STUDY / "attribution.csv")
    if metrics is not None:
        parts += _study(data / STUDY, metrics)
    summary = _read(data / FINGERPRINTS / "fingerprints.csv")
    if summary is not None:
        parts += [
            "## Is a fingerprint the same all over an image?",
            "A small network learns patches from one position only and is tested at all positions "
            "of test crops: which of four families made the patch (architecture), or which of four "
            "networks of one family that differ by the seed (weights).",
            fingerprints_said(summary),
            markdown(fingerprint_rows(summary)),
        ]
        parts += _figures(data / FINGERPRINTS, path, "fingerprints")
    if metrics is None and summary is None:
        raise UserError(
            f"{data}: nothing to report yet; run forensift attribute evaluate or fingerprints"
        )
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())


def network_rows(networks: pd.DataFrame) -> pd.DataFrame:
    """Return the networks for people."""
    return pd.DataFrame(
        {
            "network": networks["generator"],
            "set": networks["setting"],
            "seed": networks["seed"],
            "loss": networks["loss"],
            "photographs": networks["photos"],
            "steps": networks["steps"],
            "PSNR (dB)": networks["psnr"].map("{:.1f}".format),
            "seconds": networks["seconds"].map("{:.0f}".format),
        }
    )


def networks_said(networks: pd.DataFrame) -> str:
    """Say how near the networks come to the crops, which a fall of accuracy has to be read with."""
    closed = networks["setting"] == "closed"
    tuned = networks["setting"] == "cross_finetune"
    parts = [
        f"{word} {own['psnr'].min():.1f} to {own['psnr'].max():.1f}"
        for word, own in (
            ("of the closed set", networks[closed]),
            ("fine-tuned", networks[tuned]),
            ("trained anew", networks[~closed & ~tuned]),
        )
        if len(own)
    ]
    said = f"PSNR in dB on the same crops of test photographs: {', '.join(parts)}."
    gap = networks[closed]["psnr"].mean() - networks[~closed & ~tuned]["psnr"].mean()
    if gap > 1:
        said += (
            f" Those trained anew are {gap:.1f} dB below the closed set's on average, and so "
            "coarser: where a detector fails on them, quality has changed too, not weights alone."
        )
    return said


def accuracy_rows(metrics: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Return sets down, detectors across: accuracy, and what the first has over each other one."""
    rows = []
    for name in _sets(metrics):
        own = metrics[metrics["set"] == name]
        accuracy = own[(own["metric"] == "accuracy") & (own["generator"].fillna("") == "")]
        shown = {"test set": WORDS[name], "images": str(int(accuracy["n"].iloc[0]))}
        for row in accuracy.to_dict("records"):
            shown[str(row["detector"])] = percent(row, "value", ends=("low", "high"))
        for row in differences[differences["set"] == name].to_dict("records"):
            head = f"{row['first']} − {row['second']}"
            shown[head] = percent(row, "difference", ends=("low", "high"), sign=True)
        rows.append(shown)
    return pd.DataFrame(rows)


def recall_rows(metrics: pd.DataFrame, detector: str) -> pd.DataFrame:
    """Return sets down, classes across: recall of one detector, and its macro F1."""
    rows = []
    mine = metrics[metrics["detector"] == detector]
    for name in _sets(mine):
        own = mine[mine["set"] == name]
        shown = {"test set": WORDS[name]}
        for row in own[own["metric"] == "recall"].to_dict("records"):
            shown[str(row["class"])] = f"{100 * row['value']:.1f}"
        macro = own[own["metric"] == "macro_f1"]["value"].iloc[0]
        shown["macro F1"] = f"{100 * macro:.1f}"
        rows.append(shown)
    return pd.DataFrame(rows).fillna("")


def drop_rows(drops: pd.DataFrame) -> pd.DataFrame:
    """Return detectors and sets down: accuracy on the same crops, closed and crossed."""
    rows = []
    for row in drops.to_dict("records"):
        rows.append(
            {
                "detector": str(row["detector"]),
                "test set": WORDS[str(row["set"])],
                "fakes": str(row["n"]),
                "closed networks": f"{100 * row['closed']:.1f}",
                "these networks": f"{100 * row['crossed']:.1f}",
                "fall (points)": percent(row, "drop", ends=("low", "high"), sign=True),
            }
        )
    return pd.DataFrame(rows)


def confusion_rows(confusion: pd.DataFrame, detector: str, name: str) -> pd.DataFrame:
    """Return the counts of one detector and set, truth down, predicted classes across."""
    own = confusion[(confusion["detector"] == detector) & (confusion["set"] == name)]
    classes = list(dict.fromkeys(own["truth"]))
    table = own.pivot_table("n", "truth", "predicted", "sum").loc[classes, classes]
    table = table[table.sum(axis=1) > 0].astype(int)
    return table.rename_axis(columns=None).reset_index(names="truth")


def fingerprint_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the two tasks down: accuracy where it was trained, elsewhere, in and out of phase."""
    rows = []
    for row in summary.to_dict("records"):
        rows.append(
            {
                "task": str(row["task"]),
                "classes": str(row["classes"]),
                "chance": f"{100 * row['chance']:.0f}",
                "place of training": percent(row, "trained"),
                "elsewhere": percent(row, "elsewhere"),
                "worst place": f"{100 * row['worst']:.1f}",
                "fall (points)": percent(row, "fall", sign=True),
                "shifted by 4": percent(row, "in_phase"),
                "shifted by 1-3": percent(row, "out_of_phase"),
            }
        )
    return pd.DataFrame(rows)


def study_said(metrics: pd.DataFrame, differences: pd.DataFrame, drops: pd.DataFrame) -> str:
    """Say how far the first detector's accuracy falls, and how it does against the others."""
    first = str(metrics["detector"].iloc[0])
    own = drops[(drops["detector"] == first) & (drops["set"] == ALL_CROSS)].iloc[0]
    said = (
        f"{first} names the family of {100 * own['closed']:.1f} % of the closed set's fakes, and "
        f"of {100 * own['crossed']:.1f} % where another training made the same crops."
    )
    for row in differences[differences["set"] == ALL_CROSS].to_dict("records"):
        points = 100 * row["difference"]
        ends = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        if row["low"] > 0:
            verdict = "better than"
        elif row["high"] < 0:
            verdict = "worse than"
        else:
            verdict = "not clearly different from"
        said += (
            f" On those it is {verdict} {row['second']}: {points:+.1f} points {ends} of accuracy."
        )
    return said


def _study(folder: Path, metrics: pd.DataFrame) -> list[str]:
    differences, drops = _read(folder / "differences.csv"), _read(folder / "drops.csv")
    confusion = _read(folder / "confusion.csv")
    if differences is None or drops is None or confusion is None:
        raise UserError(f"{folder}: tables are missing; run forensift attribute evaluate again")
    parts = [
        "## Does naming the family survive another training?",
        study_said(metrics, differences, drops),
        markdown(accuracy_rows(metrics, differences)),
        "The same crops, made by the closed set's networks and by the others (fakes only):",
        markdown(drop_rows(drops)),
    ]
    detectors = list(dict.fromkeys(metrics["detector"]))
    for detector in detectors:
        parts += [f"Recall of each class, {detector}:", markdown(recall_rows(metrics, detector))]
    for name in (TEST, ALL_CROSS):
        table = confusion_rows(confusion, detectors[0], name)
        parts += [f"Confusion of {detectors[0]}, {WORDS[name]} (images):", markdown(table)]
    manifest = folder / "manifest.json"
    if manifest.is_file():
        facts = json.loads(manifest.read_text())
        files = [f"{one['name']}: `{one['file']}`" for one in facts.get("detectors", [])]
        parts.append(f"Weights: {', '.join(files)}; seed {facts.get('seed')}.")
    return parts


def _figures(folder: Path, page: Path, *names: str) -> list[str]:
    """Return links to the figures that are there and beside the page or below it."""
    found = []
    for name in names:
        figure = folder / f"{name}.png"
        if figure.is_file() and figure.resolve().is_relative_to(page.parent.resolve()):
            inside = figure.resolve().relative_to(page.parent.resolve()).as_posix()
            found.append(f"![{name}]({inside})")
    return found


def _sets(metrics: pd.DataFrame) -> list[str]:
    there = set(metrics["set"])
    return [name for name in (TEST, *CROSS, ALL_CROSS) if name in there]


def _read(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() else None
