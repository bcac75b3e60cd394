"""Images and folders of one's own: probabilities, sizes, and accuracy where labels are known."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ...data import UnreadableImage, batches, image_size
from ...data.layouts import folder_label
from ...data.presets import centre_crop
from ...detectors import Detector
from ...errors import UserError
from ...evaluation import accuracies, average_precision
from ...explain import image_files
from ...records import FAKE, REAL, ImageSet, Skipped
from .measure import published_scores

UNKNOWN = -1  # the label of an image in no folder that says real or fake


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


def absolute(path: Path) -> Path:
    """Return where a path leads, as the entries of an image set say it."""
    return Path(os.path.normpath(Path(path).expanduser().absolute()))


def score_files(
    detector: Detector,
    images: ImageSet,
    *,
    crop: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    skipped: list[Skipped],
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Return path, label (missing where unknown), logit, score and, of a detector with several
    classes, the probability of each (``p_NAME``); one row a readable image, in the set's order.

    score: the probability of being synthetic, 0 … 1, the float32 sigmoid of the logit. crop: side
    of a centre crop before all else, zero-padded where an image is smaller (published: ``-c N``).
    Images of all sizes go together; the network sees batches of one size.
    """

    def cropped(image: Image.Image, _: str) -> Image.Image:
        return centre_crop(image, crop or 0)

    rows: dict[int, dict[str, Any]] = {}
    for batch in batches(
        images,
        detector.preset,
        batch_size,
        seed=seed,
        skipped=skipped,
        transform=cropped if crop else None,
    ):
        outputs = detector.outputs(batch.pixels)
        logits = detector.decide(outputs).numpy().astype(np.float64)
        shares = class_probabilities(detector, outputs)
        for place, index in enumerate(batch.indices.tolist()):
            entry = images.entries[index]
            row = {"path": images.image_id(entry), "label": entry.label, "logit": logits[place]}
            row["score"] = float(published_scores(logits[place : place + 1])[0])
            rows[index] = row | {f"p_{name}": share[place] for name, share in shares.items()}
        if progress is not None:
            progress(len(batch.indices))
    if not rows:
        first = skipped[0]
        raise UserError(f"{first.path}: {first.reason}; nothing could be read")
    table = pd.DataFrame([rows[index] for index in sorted(rows)])
    table["label"] = table["label"].astype("Int64").replace(UNKNOWN, pd.NA)
    return table


def class_probabilities(detector: Detector, outputs: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the softmax (N,) of each class by its name; nothing for a detector with one logit."""
    if not detector.classes:
        return {}
    shares = torch.softmax(outputs.double(), dim=1).numpy()
    return {name: shares[:, at] for at, name in enumerate(detector.classes)}


def image_sizes(images: ImageSet, skipped: list[Skipped]) -> pd.DataFrame:
    """Return path, label, height and width by the files' headers; unreadable ones are skipped."""
    rows = []
    for entry in images:
        try:
            _, width, height = image_size(entry.path)
        except UnreadableImage as error:
            skipped.append(Skipped(entry.path, error.reason))
            continue
        rows.append((images.image_id(entry), entry.label, height, width))
    if not rows:
        raise UserError(f"{skipped[0].path}: {skipped[0].reason}; nothing could be read")
    table = pd.DataFrame(rows, columns=["path", "label", "height", "width"])
    table["label"] = table["label"].astype("Int64").replace(UNKNOWN, pd.NA)
    return table


def folder_summary(table: pd.DataFrame) -> dict[str, float]:
    """Return the statistics of the published folder demo, NaN where they have no meaning.

    table: columns label, height, width and, where the network ran, score. Heights and widths in
    pixels, mean and (population) standard deviation; megapixels likewise; counts; ap, accuracy,
    real_accuracy, fake_accuracy of the images whose label is known, and called_fake, the share of
    all images with a score above 0.5: fractions.
    """
    height, width = (table[key].to_numpy(np.float64) for key in ("height", "width"))
    found: dict[str, float] = {}
    for key, values in (("height", height), ("width", width), ("mpix", height * width / 1e6)):
        found |= {f"{key}_mean": float(values.mean()), f"{key}_sd": float(values.std())}
    labels = table["label"].fillna(UNKNOWN).to_numpy(np.int64)
    found["n_real"] = int((labels == REAL).sum())
    found["n_fake"] = int((labels == FAKE).sum())
    found["n_unknown"] = int((labels == UNKNOWN).sum())
    names = ("ap", "accuracy", "real_accuracy", "fake_accuracy", "called_fake")
    found |= dict.fromkeys(names, math.nan)
    if "score" not in table:
        return found
    scores = table["score"].to_numpy(np.float64)
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
