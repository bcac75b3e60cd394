"""The published file format of rankings: ``key,mean_relevance``, one feature map a row."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import write_bytes
from ..records import FAKE, REAL, FeatureMap, Ranking
from .omega import ranking_table

COLUMNS = ("key", "mean_relevance")
# What feature maps can be ranked by; all but ω may be below 0.
RANKINGS = (
    "omega", "omega-width", "contrast", "gradient-activation", "eap-ig", "conductance", "rad",
    "single", "pursuit",
)  # fmt: skip
BIAS = "bias"  # what `bias-units` ranks by


def load_ranking(path: Path, *, label: int | None = None) -> Ranking:
    """Read a ranking in the published format.

    path: a CSV with the columns key and mean_relevance; others are ignored. A ``manifest.json``
        beside it that names ``start`` and ``counts`` is heeded.
    label: 1 fakes, 0 reals; by default what the file name ends in, ``-fake`` or ``-real``,
        and fakes where it ends in neither.

    What it ranks by is what the file name ends in (``progan-pursuit.csv``), ω by default. The rows
    are put in falling order of it; equal values keep the file's order. Standard errors and rank
    intervals are NaN, for the format does not hold them.

    Raises:
        UserError: the file cannot be read, a column or every row is missing, a key is no feature
            map or comes twice, or a value is no number, or an ω below 0.
    """
    path = Path(path)
    label = _label(path) if label is None else label
    by = next((one for one in (*RANKINGS[1:], BIAS) if path.stem.endswith(f"-{one}")), RANKINGS[0])
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            feature_maps, scores = _rows(path, opened, by)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no ranking can be read from it ({_reason(error)})") from None
    if not feature_maps:
        raise UserError(f"{path}: holds no feature map")
    facts = _manifest(path)
    table = ranking_table(feature_maps, np.array(scores), by).reset_index(drop=True)
    counts = facts.get("counts")
    kind = "fake" if label == FAKE else "real"
    counted = counts.get(kind, {}) if isinstance(counts, dict) else {}
    start = str(facts.get("start") or "published")
    return Ranking(table, label, start, counted if isinstance(counted, dict) else {}, facts, by)


def set_of(path: Path) -> str:
    """Return the name of the image set that a ranking is of: its file's without the last part."""
    ends = (*(f"-{one}" for one in (*RANKINGS, BIAS)), "-fake", "-real")
    return next((path.stem.removesuffix(one) for one in ends if path.stem.endswith(one)), path.stem)


def save_ranking(ranking: Ranking, path: Path, digits: int | None = None) -> None:
    """Write a ranking in the published format, whole or not at all.

    Rows are in falling order of scores, equal ones in the ranking's own order; each number is the
    shortest that reads back as the same float64, or has so many significant ``digits``. A published
    file read and written is the same to the byte.
    """
    text = io.StringIO()
    text.write(",".join(COLUMNS) + "\n")
    scores = ranking.scores
    writer = csv.writer(text, lineterminator="\n")
    feature_maps = ranking.feature_maps()
    for row in np.argsort(-scores, kind="stable"):
        value = float(scores[row])
        writer.writerow((str(feature_maps[row]), f"{value:.{digits}g}" if digits else repr(value)))
    write_bytes(Path(path), text.getvalue().encode())


def _rows(path: Path, opened: io.TextIOBase, by: str) -> tuple[list[FeatureMap], list[float]]:
    reader = csv.DictReader(opened)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: column {missing[0]} is missing; expected {','.join(COLUMNS)}")
    seen: dict[FeatureMap, float] = {}
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        try:
            feature_map = FeatureMap.parse(row["key"] or "")
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if feature_map in seen:
            raise UserError(f"{where}: {feature_map} is there twice")
        text = row["mean_relevance"]
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value) or (by == RANKINGS[0] and value < 0):
            least = " of 0 or more" if by == RANKINGS[0] else ""
            raise UserError(f"{where}: mean_relevance is {text!r}, not a number{least}")
        seen[feature_map] = value
    return list(seen), list(seen.values())


def _label(path: Path) -> int:
    for ending, label in (("fake", FAKE), ("real", REAL)):
        if path.stem == ending or path.stem.endswith(f"-{ending}"):
            return label
    return FAKE


def _manifest(path: Path) -> dict[str, object]:
    try:
        found = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    # Any folder may hold a manifest.json; only that of a ranking says how it was started.
    return found if isinstance(found, dict) and "start" in found else {}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
