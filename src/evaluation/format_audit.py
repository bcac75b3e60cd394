"""Can reals and fakes be told apart without looking at a pixel? The audit of file facts.

A decision tree is given nothing but file format, size in pixels, JPEG quality and chroma
subsampling, and has to say of files it was not fitted on whether they are fake. Files of one
photograph are always held out together. Where it does better than chance, a detector may have
learnt the files instead of the traces of a generator, and its figures on this set prove little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier

from ..data.photos import photograph_names
from ..records import FAKE, REAL
from .metrics import roc_auc
from .resampling import resample_weights, weighted_roc_auc

FACTS = ("format", "size", "quality", "subsampling")
SAID = {
    "format": "file format",
    "size": "size in pixels",
    "quality": "JPEG quality",
    "subsampling": "chroma subsampling",
}
ALL, WHOLE = "all", "whole"
FOLDS = 5
FEWEST = 20  # files of each label; with fewer even a perfect split is weak evidence
FEWEST_PHOTOGRAPHS = 10
RESAMPLES = 1000
ERROR = 0.05  # chance that an audit of a set without any bias warns at all
SEPARATES, NOT_SEEN, UNTOLD = "separates", "not above chance", "cannot be told"
VERDICTS = (
    "generator",
    "n_real",
    "n_fake",
    "photographs",
    "balanced_accuracy",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "auc",
    "auc_low",
    "auc_high",
    "bound",
    *(f"balanced_accuracy_{fact}" for fact in FACTS),
    "verdict",
    "facts",
)


@dataclass(frozen=True)
class FormatAudit:
    """What the files of an image set give away.

    counts: generator, label, fact, value, images, share (of that generator and label).
    verdicts: one row a generator, then 'all', columns VERDICTS. Balanced accuracy and AUC of the
        tree on files held out, 95 % intervals drawn by photograph; bound: lower bound that decides,
        at a level that is shared out among the rows; balanced accuracy of each fact alone (NaN
        where it cannot differ; quality and subsampling among JPEGs only); verdict; facts: those
        that separate by themselves, the strongest first.
    warnings: a line a row that separates or cannot be told.
    """

    counts: pd.DataFrame
    verdicts: pd.DataFrame
    warnings: tuple[str, ...]

    @property
    def biased(self) -> bool:
        """Whether any generator, or the set as a whole, can be told from its reals by the files."""
        return bool((self.verdicts["verdict"] == SEPARATES).any())


def format_audit(formats: pd.DataFrame, *, seed: int = 0) -> FormatAudit:
    """Judge the files of an image set by the table of :func:`forensift.data.format_table`.

    A row separates where the lower bound of its balanced accuracy is above one half. Balanced
    accuracy is ½ for anything that does not look at the label, however many reals there are to a
    fake; the bound's level is 0.025 divided by the number of rows judged, so that a whole audit of
    a set without bias warns in about one case of forty at most.
    """
    generators = sorted(set(formats["generator"]))
    parts = [(str(name), formats[formats["generator"] == name]) for name in generators]
    if len(parts) > 1:
        parts.append((ALL, formats))
    enough = [_enough(part) for _, part in parts]
    level = ERROR / 2 / max(sum(enough), 1)
    rows = [
        _judged(name, part.reset_index(drop=True), level, seed) if can else _untold(name, part)
        for (name, part), can in zip(parts, enough, strict=True)
    ]
    verdicts = pd.DataFrame(rows, columns=list(VERDICTS))
    return FormatAudit(format_counts(formats), verdicts, tuple(_warnings(rows)))


def format_counts(formats: pd.DataFrame) -> pd.DataFrame:
    """Return how often each value of each fact occurs: see :class:`FormatAudit`."""
    sizes = zip(formats["width"], formats["height"], strict=True)
    qualities = zip(formats["quality"], formats["tables"], strict=True)
    shown = pd.DataFrame(
        {
            "generator": formats["generator"],
            "label": formats["label"],
            "format": formats["format"],
            "size": [f"{width} × {height}" for width, height in sizes],
            "quality": [_quality(*both) for both in qualities],
            "subsampling": formats["subsampling"],
        }
    )
    parts = []
    for fact in FACTS:
        counted = shown.groupby(["generator", "label", fact]).size().reset_index(name="images")
        counted = counted.rename(columns={fact: "value"}).assign(fact=fact)
        counted["share"] = counted["images"] / counted.groupby(["generator", "label"])[
            "images"
        ].transform("sum")
        parts.append(counted[counted["value"] != ""])
    order = ["generator", "label", "fact", "images", "value"]
    table = pd.concat(parts, ignore_index=True)
    table = table.sort_values(order, ascending=[True, True, True, False, True], kind="stable")
    return table[["generator", "label", "fact", "value", "images", "share"]].reset_index(drop=True)


def _quality(quality: int, tables: str) -> str:
    """Return the quality as the table says it, '' of what is no JPEG."""
    if not tables:
        return ""
    return str(quality) if tables == "standard" else f"about {quality}, unknown tables"


def _enough(part: pd.DataFrame) -> bool:
    counts = part["label"].value_counts()
    photographs = photograph_names(part["path"])
    return bool(
        min(counts.get(REAL, 0), counts.get(FAKE, 0)) >= FEWEST
        and all(
            len(set(photographs[(part["label"] == label).to_numpy()])) >= FEWEST_PHOTOGRAPHS
            for label in (REAL, FAKE)
        )
    )


def _untold(name: str, part: pd.DataFrame) -> dict[str, Any]:
    counts = part["label"].value_counts()
    row: dict[str, Any] = dict.fromkeys(VERDICTS, np.nan)
    return row | {
        "generator": name,
        "n_real": int(counts.get(REAL, 0)),
        "n_fake": int(counts.get(FAKE, 0)),
        "photographs": len(set(photograph_names(part["path"]))) if len(part) else 0,
        "verdict": UNTOLD,
        "facts": "",
    }


def _judged(name: str, part: pd.DataFrame, level: float, seed: int) -> dict[str, Any]:
    labels = part["label"].to_numpy()
    groups = photograph_names(part["path"])
    everywhere = np.ones(len(part), dtype=bool)
    jpegs = part["tables"].to_numpy() != ""
    photographs = len(set(groups))
    features = {fact: _features(part, fact) for fact in FACTS}
    judged = {WHOLE: (everywhere, np.hstack(list(features.values())))}
    for fact in FACTS:
        where = jpegs if fact in ("quality", "subsampling") else everywhere
        if _enough(part[where]) and len(np.unique(features[fact][where], axis=0)) > 1:
            judged[fact] = (where, features[fact])
    scores = {
        what: np.where(where, 0.0, np.nan) + _held_out(values, labels, groups, where, seed)
        for what, (where, values) in judged.items()
    }
    balanced, auc = _draws(labels, scores, groups, seed)
    row: dict[str, Any] = {
        "generator": name,
        "n_real": int((labels == REAL).sum()),
        "n_fake": int((labels == FAKE).sum()),
        "photographs": photographs,
        "balanced_accuracy": _balanced(labels, scores[WHOLE]),
        "auc": roc_auc(labels, scores[WHOLE]),
    }
    row["bound"] = _interval(row["balanced_accuracy"], balanced[WHOLE], level, photographs)[0]
    for key, draws in (("balanced_accuracy", balanced[WHOLE]), ("auc", auc)):
        row[f"{key}_low"], row[f"{key}_high"] = _interval(row[key], draws, 0.025, photographs)
    separates = row["bound"] > 0.5
    telling: dict[str, float] = {}
    for fact in FACTS:
        alone = _balanced(labels, scores[fact]) if fact in scores else np.nan
        row[f"balanced_accuracy_{fact}"] = alone
        if (
            separates
            and fact in scores
            and _interval(alone, balanced[fact], level, photographs)[0] > 0.5
        ):
            telling[fact] = alone
    row["verdict"] = SEPARATES if separates else NOT_SEEN
    row["facts"] = " ".join(sorted(telling, key=lambda fact: -telling[fact]))
    return row


def _features(part: pd.DataFrame, fact: str) -> np.ndarray:
    """Return one fact as numbers for a tree, (N, columns)."""
    if fact == "size":
        sides = part[["width", "height"]].to_numpy(dtype=float)
        return np.column_stack([sides, sides[:, 0] / np.maximum(sides[:, 1], 1)])
    if fact == "quality":
        quality = part["quality"].astype("Float64").fillna(0).to_numpy(dtype=float)
        return np.column_stack([quality, (part["tables"] == "unknown").to_numpy(dtype=float)])
    names = part[fact].to_numpy(dtype=object)
    return np.column_stack([(names == one).astype(float) for one in sorted(set(names))])


def _held_out(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, where: np.ndarray, seed: int
) -> np.ndarray:
    """Return P(fake) of each file (N,) by trees fitted on other photographs, files ``where`` only.

    ½ where a fold could not be judged.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    chosen = np.flatnonzero(where)
    scores = np.full(len(labels), 0.5)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, held in folds.split(chosen, labels[chosen], numbers[chosen]):
        fitted, held = chosen[fitted], chosen[held]
        if len(set(labels[fitted])) == 2 and len(held):
            tree = DecisionTreeClassifier(
                class_weight="balanced", max_leaf_nodes=16, min_samples_leaf=5, random_state=seed
            )
            tree.fit(features[fitted], labels[fitted])
            scores[held] = tree.predict_proba(features[held])[:, 1]
    return scores


def _balanced(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of the shares of reals and of fakes that are right, NaN scores left out."""
    there = ~np.isnan(scores)
    shares = [_right(scores[there & (labels == at)], at).mean() for at in (REAL, FAKE)]
    return float(np.mean(shares))


def _right(scores: np.ndarray, label: int) -> np.ndarray:
    """Return 1 where the tree is right, 0 where wrong, ½ where it has no opinion."""
    fake = 0.5 * (1 + np.sign(np.round(scores - 0.5, 12)))
    return fake if label == FAKE else 1 - fake


def _draws(
    labels: np.ndarray, scores: Mapping[str, np.ndarray], groups: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return balanced accuracy by what was judged, and AUC of WHOLE, over draws of photographs."""
    right, there = {}, {}
    for what, values in scores.items():
        defined = ~np.isnan(values)
        for at in (REAL, FAKE):
            there[what, at] = (defined & (labels == at)).astype(float)
            right[what, at] = np.where(there[what, at] > 0, _right(values, at), 0.0)
    balanced: dict[str, list[np.ndarray]] = {what: [] for what in scores}
    auc = []
    for weights in resample_weights(labels, clusters=groups, resamples=RESAMPLES, seed=seed):
        for what, found in balanced.items():
            with np.errstate(invalid="ignore"):
                shares = [
                    weights @ right[what, at] / (weights @ there[what, at]) for at in (REAL, FAKE)
                ]
            found.append((shares[0] + shares[1]) / 2)
        auc.append(weighted_roc_auc(labels, scores[WHOLE], weights))
    return {what: np.concatenate(found) for what, found in balanced.items()}, np.concatenate(auc)


def _interval(
    point: float, draws: np.ndarray, level: float, photographs: int
) -> tuple[float, float]:
    """Return the interval of a cross-validated share that leaves ``level`` out at each end.

    The folds' trees share most of their files, which redrawing files does not show: the variance
    is widened as Nadeau and Bengio (2003) do, 1/K becoming 1/K + held out / fitted on. Student's
    t with a degree of freedom less than there are photographs.
    """
    spread = float(np.nanstd(draws)) * np.sqrt(1 + FOLDS / (FOLDS - 1))
    half = float(student.ppf(1 - level, photographs - 1)) * spread
    return max(0.0, point - half), min(1.0, point + half)


def _warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in a line each which rows separate, by what, and which cannot be told."""
    lines = []
    for row in rows:
        where = "all generators together" if row["generator"] == ALL else row["generator"]
        if row["verdict"] == UNTOLD:
            lines.append(
                f"{where}: {UNTOLD}, {row['n_real']} reals and {row['n_fake']} fakes of "
                f"{row['photographs']} photographs are too few (at least {FEWEST} of each, of "
                f"{FEWEST_PHOTOGRAPHS} photographs)"
            )
        elif row["verdict"] == SEPARATES:
            facts = [
                f"{SAID[fact]} ({100 * row[f'balanced_accuracy_{fact}']:.0f} %)"
                for fact in row["facts"].split()
            ]
            by = ", ".join(facts) if facts else "several facts together"
            low, high = row["balanced_accuracy_low"], row["balanced_accuracy_high"]
            lines.append(
                f"WARNING {where}: the files alone tell reals from fakes, "
                f"{100 * row['balanced_accuracy']:.0f} % right [{100 * low:.0f}, {100 * high:.0f}] "
                f"where chance is 50: {by}. A detector may have learnt this instead"
            )
    return lines
