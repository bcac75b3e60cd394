"""The page of a DeepFeatureX study: every number and sentence comes from its tables."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ...figures import plot_confusion_matrix
from ...views import Shown, View, markdown_of
from ...views.text import number, percent
from ...views.view import Draw
from .filters import WORDS
from .study import CLEAN, Study

CLASS_WORDS = {"dm_generated": "diffusion", "gan_generated": "GAN", "real": "real"}
CHANCE = 1 / 3


PARTS = (
    ("measures", "Classes", ["detector", "protocol"], "three classes, and real against fake"),
    ("generalisation", "Generators seen in training (inner) or not (outer)", ["detector", "set"],
     "real against fake, as many fakes as reals"),
    ("robustness", "Robustness", ["detector", "filter"],
     "three classes, the images of inner generators after a filter"),
    ("base_models", "Base models", ["main"],
     "one class against the rest, all test images; positive: the main class"),
    ("comparison", "Backbones", ["detector"], "three classes"),
)  # fmt: skip
ABOUT = (
    "Percent; [ ] are 95 % intervals drawn by photograph. Balanced accuracy is the mean over the "
    "true classes, a third by chance. Of real against fake, real is the positive class, as "
    "published, and as many fakes are drawn as there are reals."
)


def view(study: Study) -> View:
    """Return every table that is not empty, and the page ``results.md``."""
    names = [name for name, *_ in PARTS] + ["predictions", "confusion"]
    tables = {name: getattr(study, name) for name in names if len(getattr(study, name))}
    shown = tuple(
        Shown(f"{title}: {words}; {ABOUT}" if not at else f"{title}: {words}",
              _rows(tables[name], keys), keys=len(keys))
        for at, (name, title, keys, words) in enumerate(PARTS)
        if name in tables
    )  # fmt: skip
    text = said(study.measures) if len(study.measures) else ""
    drawn: dict[str, Draw] = {}
    if len(study.confusion):
        drawn["confusion"] = lambda: plot_confusion_matrix(study.confusion, words=CLASS_WORDS)
    found = View("Real, GAN or diffusion?", text, tables, shown, drawn, facts=study.facts)
    page = f"{markdown_of(found, level=1)}\n"
    return replace(found, files={"results.md": lambda path: path.write_text(page, "utf-8")})


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
            shown[word] = [number(value, digits) for value in table[column]]
    return pd.DataFrame(shown)


def _word(value: object) -> str:
    text = str(value)
    return WORDS.get(text) or CLASS_WORDS.get(text) or ("as it is" if text == CLEAN else text)
