"""The page of a DeepFeatureX study: every number and sentence comes from its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...files import write_bytes
from ...views.text import markdown, percent
from .filters import WORDS
from .study import CLEAN

CLASS_WORDS = {"dm_generated": "diffusion", "gan_generated": "GAN", "real": "real"}
CHANCE = 1 / 3


def write_page(folder: Path, path: Path) -> None:
    """Write the Markdown page of the tables in ``folder``; what was not run is left out.

    Raises:
        UserError: no measures.csv there.
    """
    measures = _read(folder / "measures.csv")
    if measures is None:
        raise UserError(f"{folder}: no measures.csv; make it with forensift deepfeaturex test")
    parts = [
        "# Real, GAN or diffusion?",
        "Made by `forensift deepfeaturex test`; no number is written by hand. Percent; [ ] are "
        "95 % intervals drawn by photograph. Balanced accuracy is the mean over the true classes, "
        "a third by chance. Of real against fake, real is the positive class, as published, and "
        "as many fakes are drawn as there are reals.",
        said(measures),
        markdown(_rows(measures, ["detector", "protocol"])),
    ]
    if (folder / "confusion.png").is_file():
        parts.append("![Confusion matrix](confusion.png)")
    for name, title, words, keys in (
        ("generalisation", "Generators seen in training (inner) or not (outer)",
         "Real against fake, as many fakes as reals.", ["detector", "set"]),
        ("robustness", "Robustness", "Three classes, the images of inner generators after a "
         "filter.", ["detector", "filter"]),
        ("base_models", "Base models", "One class against the rest, all test images; positive: "
         "the main class.", ["main"]),
        ("comparison", "Backbones", "Three classes.", ["detector"]),
    ):  # fmt: skip
        table = _read(folder / f"{name}.csv")
        if table is not None:
            parts += [f"## {title}", words, markdown(_rows(table, keys))]
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())


def said(measures: pd.DataFrame) -> str:
    """Return what the three-class numbers show, the first detector against the others."""
    rows = measures[measures["protocol"] == "three classes"].reset_index(drop=True)
    first = rows.iloc[0]
    above = "above" if first["balanced_accuracy_low"] > CHANCE else "not clearly above"
    text = (
        f"{first['detector']} tells the three classes apart with a balanced accuracy of "
        f"{percent(first, 'balanced_accuracy')}, {above} chance."
    )
    for _, other in rows.iloc[1:].iterrows():
        apart = (
            first["balanced_accuracy_low"] > other["balanced_accuracy_high"]
            or first["balanced_accuracy_high"] < other["balanced_accuracy_low"]
        )
        more = first["balanced_accuracy"] - other["balanced_accuracy"]
        text += (
            f" {other['detector']}: {percent(other, 'balanced_accuracy')}, "
            f"{abs(100 * more):.1f} points {'less' if more > 0 else 'more'}"
            f"{'' if apart else '; the intervals overlap'}."
        )
    return text


def _rows(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return a table for people: keys, n, accuracies with intervals, and what else there is."""
    shown = {key: [_word(value) for value in table[key]] for key in keys}
    counts = {
        "n": "n", "n_real": "real", "n_fake": "fake", "parameters": "parameters"
    }  # fmt: skip
    for column, word in counts.items():
        if column in table:
            shown[word] = [f"{value:,.0f}" for value in table[column]]
    for column, word in (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy")):
        if column in table:
            shown[word] = [percent(row, column) for row in table.to_dict("records")]
    others = {
        "precision": "precision", "recall": "recall", "f1": "F1",
        "real_or_fake_accuracy": "real or fake",
    }  # fmt: skip
    for column, word in others.items():
        if column in table:
            shown[word] = [f"{100 * value:.1f}" for value in table[column]]
    for column, word, digits in (
        ("megabytes", "MB", 1),
        ("seconds_an_image", "s an image", 3),
    ):
        if column in table:
            shown[word] = [f"{value:.{digits}f}" for value in table[column]]
    return pd.DataFrame(shown)


def _word(value: object) -> str:
    text = str(value)
    return WORDS.get(text) or CLASS_WORDS.get(text) or ("as it is" if text == CLEAN else text)


def _read(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() else None
