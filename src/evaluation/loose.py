"""Images and folders of one's own: probabilities, sizes, and accuracy where labels are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from PIL import Image

from ..data import UnreadableImage, check_skipped, image_size
from ..data.conditions import CLEAN
from ..data.formats import format_facts
from ..data.loose import absolute, image_files
from ..data.names import folder_label
from ..data.presets import centre_crop
from ..detectors import Detector
from ..records import FAKE, REAL, ImageSet, Result, Skipped
from ..sweep import How, sweep
from .metrics import accuracies, average_precision
from .scores import ScoreLook

UNKNOWN = -1  # the label of an image in no folder that says real or fake
AGAIN = ("jpeg-90", "mirror", "resize-0.9")  # what a call that is worth something stands
CANNOT = "cannot say"


@dataclass(frozen=True, eq=False, repr=False)
class LooseScores(Result):
    """What a detector makes of files and folders.

    table: path, label (missing where unknown), height, width, format and quality of the file (of a
    JPEG, else missing), logit, score, verdict ('real', 'fake', or 'cannot say' where the call
    changes when the image is judged again), then score_low and score_high of all that was judged,
    and, of a detector with several classes, the probability of each (``p_NAME``); one row an image,
    in the set's order.
    summary: of all images, one row, see :func:`folder_summary`.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def labelled_files(paths: Sequence[Path]) -> ImageSet:
    """Return files and the images in folders; label UNKNOWN where no folder says what they are.

    A folder's own name counts (``score resnet50 biggan/1_fake``), those above it do not.

    Raises:
        UserError: a path that is not there, or a folder without images.
    """
    images = image_files(paths)
    given = [absolute(path) for path in paths]
    entries = []
    for entry in images:
        label = UNKNOWN
        for folder in given:
            if folder.is_dir() and entry.path.is_relative_to(folder):
                found = folder_label(entry.path.relative_to(folder.parent))
                label = UNKNOWN if found is None else found
                break
        entries.append(replace(entry, label=label))
    return ImageSet(images.root, tuple(entries), images.layout)


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Result):
    """What several detectors make of the same files.

    table: that of :class:`LooseScores`, after a column detector. agreement: path, and how many of
    the detectors say fake, real, and cannot say. results: detector → its own result.
    """

    table: pd.DataFrame
    agreement: pd.DataFrame
    results: Mapping[str, LooseScores]
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def score_loose(
    detector: Detector,
    images: ImageSet,
    *,
    crop: int | None = None,
    again: Sequence[str] = (),
    **how: Unpack[How],
) -> LooseScores:
    """Score loose images; see :class:`LooseScores`.

    crop: side of a centre crop before all else, zero-padded where an image is smaller (published:
    ``-c N``). again: conditions (:mod:`forensift.data.conditions`) that each image is judged under
    again, ``AGAIN`` for one. Images of all sizes go together; the network sees batches of one size.

    Raises:
        UserError: see :func:`forensift.sweep`.
    """

    def cropped(image: Image.Image, _: str) -> Image.Image:
        return centre_crop(image, crop or 0)

    look = ScoreLook(detector, conditions=(CLEAN, *again))
    done = sweep(images, [look], what="scoring", transform=cropped if crop else None, **how)
    table = look.table(done.used)[["path", "label", "logit", "score"]]
    files = [format_facts(entry.path) for entry in done.used]
    for at, name in enumerate(("height", "width", "format", "quality"), 2):
        table.insert(at, name, [getattr(one, name) for one in files])
    table["quality"] = table["quality"].astype("Int64")
    every = np.stack([look.table(done.used, one)["score"] for one in (CLEAN, *again)])
    calls = (every > 0.5).all(0) * 1 - (every <= 0.5).all(0) * 1
    table["verdict"] = np.array([CANNOT, "fake", "real"])[calls]
    if again:
        table["score_low"], table["score_high"] = every.min(0), every.max(0)
    if detector.classes:
        shares = look.shares(done.used)
        for at, name in enumerate(detector.classes):
            table[f"p_{name}"] = shares[:, at]
    table["label"] = table["label"].astype("Int64").replace(UNKNOWN, pd.NA)
    facts = {
        "detector": detector.name,
        "weights": detector.weights.path,
        "trained_on": list(detector.weights.data),
        "crop": crop,
        "judged_again": list(again),
        "used": len(table),
        "skipped": len(done.skipped),
    }
    summary = pd.DataFrame([folder_summary(table)])
    return LooseScores(table, summary, done.skipped, facts)


def agreement(detectors: Mapping[str, Detector], images: ImageSet, **options: Any) -> Agreement:
    """Score loose images by several detectors; options: of :func:`score_loose`.

    Raises:
        UserError: see :func:`score_loose`.
    """
    results = {name: score_loose(one, images, **options) for name, one in detectors.items()}
    table = pd.concat(
        [one.table.assign(detector=name) for name, one in results.items()], ignore_index=True
    )
    table = table[["detector", *table.columns.drop("detector")]]
    counts = pd.crosstab(table["path"], table["verdict"])
    counts = counts.reindex(
        index=table["path"].unique(), columns=["fake", "real", CANNOT], fill_value=0
    )
    skipped = tuple(dict.fromkeys(bad for one in results.values() for bad in one.skipped))
    facts = {"detectors": {name: dict(one.facts) for name, one in results.items()}}
    return Agreement(table, counts.rename_axis(None, axis=1).reset_index(), results, skipped, facts)


def loose_sizes(images: ImageSet, **how: Unpack[How]) -> LooseScores:
    """Return heights and widths by the files' headers, without scores; see :class:`LooseScores`.

    Raises:
        UserError: too many files are no images.
    """
    rows, skipped = [], how.setdefault("skipped", [])
    for entry in images:
        try:
            _, width, height = image_size(entry.path)
        except UnreadableImage as error:
            skipped.append(Skipped(entry.path, error.reason))
            continue
        rows.append((images.image_id(entry), entry.label, height, width))
    check_skipped(skipped, len(images), how.get("max_skipped", 0.01))
    table = pd.DataFrame(rows, columns=["path", "label", "height", "width"])
    table["label"] = table["label"].astype("Int64").replace(UNKNOWN, pd.NA)
    summary = pd.DataFrame([folder_summary(table.assign(score=math.nan))])
    facts = {"used": len(table), "skipped": len(skipped)}
    return LooseScores(table, summary, tuple(skipped), facts)


def folder_summary(table: pd.DataFrame) -> dict[str, float]:
    """Return the statistics of the published folder demo, NaN where they have no meaning.

    table: columns label, height, width and score. Heights and widths in pixels, mean and
    (population) standard deviation; megapixels likewise; counts; ap, accuracy, real_accuracy,
    fake_accuracy of the images whose label is known, and called_fake, the share of all images with
    a score above 0.5: fractions.
    """
    height, width = (table[key].to_numpy(np.float64) for key in ("height", "width"))
    found: dict[str, float] = {}
    for key, values in (("height", height), ("width", width), ("mpix", height * width / 1e6)):
        found |= {f"{key}_mean": float(values.mean()), f"{key}_sd": float(values.std())}
    labels = table["label"].fillna(UNKNOWN).to_numpy(np.int64)
    found["n_real"] = int((labels == REAL).sum())
    found["n_fake"] = int((labels == FAKE).sum())
    found["n_unknown"] = int((labels == UNKNOWN).sum())
    found |= dict.fromkeys(("ap", "accuracy", "real_accuracy", "fake_accuracy"), math.nan)
    scores = table["score"].to_numpy(np.float64)
    if np.isnan(scores).all():
        return found | {"called_fake": math.nan}
    found["called_fake"] = float((scores > 0.5).mean())
    known = labels != UNKNOWN
    labels, scores = labels[known], scores[known]
    if found["n_real"] and found["n_fake"]:
        right = accuracies(labels, scores)
        found |= {"ap": average_precision(labels, scores), "accuracy": right.accuracy}
    for label, key in ((REAL, "real_accuracy"), (FAKE, "fake_accuracy")):
        if (labels == label).any():
            found[key] = float(((scores > 0.5) == label)[labels == label].mean())
    return found
