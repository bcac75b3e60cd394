"""Which class an image is attributed to, and how well that goes, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from ..data.conditions import CLEAN
from ..detectors import Detector
from ..errors import UserError
from ..files import sha256
from ..records import REAL, ImageEntry, ImageSet
from ..sweep import How, sweep
from .intervals import percentile_interval, units_of, widened, wilson
from .resampling import RESAMPLES, resample_weights
from .scores import ScoreLook

COLUMNS = ("metric", "class", "generator", "n", "value", "low", "high")
MACRO = ("macro_f1", "macro_recall", "macro_f1_published", "macro_recall_published")


def without_repeats(entries: Iterable[ImageEntry]) -> tuple[ImageEntry, ...]:
    """Return the entries, of byte-identical files the first: generators often share their reals."""
    found: dict[str, ImageEntry] = {}
    for entry in entries:
        found.setdefault(sha256(entry.path), entry)
    return tuple(found.values())


def attribute(
    detector: Detector,
    images: ImageSet,
    *,
    sources: Mapping[str, str] | None = None,
    what: str = "attributing",
    **how: Unpack[How],
) -> pd.DataFrame:
    """Name the source of every image; see :func:`attributed`.

    Reals that several generators share are listed once.

    Raises:
        UserError: a detector without classes, a generator that is none of them, an output that is
            not finite, or see :func:`forensift.sweep`.
    """
    check_classes(detector, images, sources)  # before anything is computed
    kept = set(without_repeats(images.only(label=REAL)))
    entries = tuple(entry for entry in images if entry.label != REAL or entry in kept)
    chosen = ImageSet(images.root, entries, images.layout)
    look = ScoreLook(detector)
    used = sweep(chosen, [look], what=what, **how).used
    return attributed(look, used, sources=sources)


def attributed(
    look: ScoreLook,
    images: ImageSet,
    *,
    sources: Mapping[str, str] | None = None,
    condition: str = CLEAN,
) -> pd.DataFrame:
    """Return path, label, generator, truth, predicted and p:CLASS of images that a look has seen.

    truth: of a real image, the detector's real class; of a fake, the class that ``sources`` gives
    its generator, or else the generator's own name. p:CLASS: softmax of the class logits, 0 … 1.

    Raises:
        UserError: a detector without classes, or a generator that is none of them.
    """
    names = look.detector.classes
    real, fakes = check_classes(look.detector, images, sources)
    rows = [
        (
            images.image_id(entry),
            entry.label,
            entry.generator,
            real if entry.label == REAL else fakes[entry.generator],
            names[int(row.argmax())],
            *row,
        )
        for entry, row in zip(images, look.shares(images, condition), strict=True)
    ]
    columns = ["path", "label", "generator", "truth", "predicted", *(f"p:{one}" for one in names)]
    return pd.DataFrame(rows, columns=columns)


def check_classes(
    detector: Detector, images: ImageSet, sources: Mapping[str, str] | None
) -> tuple[str, dict[str, str]]:
    """Return the real class, and the class that each generator's fakes are of.

    Raises:
        UserError: a detector without classes, or a generator that is none of them.
    """
    names, real = detector.classes, detector.real
    if not names or real is None:
        raise UserError(
            f"{detector.name} has no classes of reals and fakes; nothing can be attributed"
        )
    sources = sources or {}
    fakes = {one: sources.get(one, one) for one in {e.generator for e in images if e.label != REAL}}
    strange = sorted(one for one, name in fakes.items() if name not in names)
    if strange:
        raise UserError(
            f"{images.root}: generator {strange[0]!r} is no class of {detector.name} "
            f"({', '.join(names)}); say which class it counts as, or leave it out"
        )
    return names[real], fakes


def class_metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, recall and the macro means of confusion matrices (…, K, K), truth in rows.

    recall (…, K) is NaN for a class without images. ``macro_…`` averages over the classes that
    have images; ``macro_…_published`` over those that have images or are predicted (scikit-learn's
    default), where one stray prediction of an absent class counts as a whole class of errors.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    images, called = confusion.sum(axis=-1), confusion.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / images
        f1 = 2 * hits / (images + called)
        found = {"accuracy": hits.sum(axis=-1) / images.sum(axis=-1), "recall": recall}
    for name, value in (("f1", f1), ("recall", np.nan_to_num(recall))):
        for kind, counted in (("", images > 0), ("_published", images + called > 0)):
            total = np.where(counted, value, 0.0).sum(axis=-1)
            found[f"macro_{name}{kind}"] = total / counted.sum(axis=-1)
    return found


def confusion_table(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return counts of images, truth in rows (column ``truth``), predicted classes in columns."""
    counts = confusion_matrix(table["truth"], table["predicted"], labels=list(classes))
    counted = pd.DataFrame(counts, columns=list(classes))
    counted.insert(0, "truth", list(classes))
    return counted


def evaluate_source_attribution(
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return the metrics of :func:`attribute`'s table with 95 % intervals, columns COLUMNS.

    Rows: accuracy; the macro means; recall of each class that has images; accuracy of each
    generator's fakes and of the reals (generator 'real'). Intervals of shares are Wilson's, of the
    macro means a bootstrap stratified by class; with ``clusters`` (N,), names of what images
    depend on (their photograph), all are bootstraps of whole clusters. See :func:`widened`.
    """
    index = {name: at for at, name in enumerate(classes)}
    truth = table["truth"].map(index).to_numpy()
    predicted = table["predicted"].map(index).to_numpy()
    groups = np.where(table["label"] == REAL, "real", table["generator"])
    cells = np.eye(len(classes) ** 2)[truth * len(classes) + predicted]
    weights = np.concatenate(
        list(
            resample_weights(
                truth, clusters=clusters, key="attribution", resamples=resamples, seed=seed
            )
        )
    )
    shape = (-1, len(classes), len(classes))
    here = {key: value[0] for key, value in class_metrics(cells.sum(0).reshape(shape)).items()}
    means = class_metrics((weights @ cells).reshape(shape))
    right = (truth == predicted).astype(np.float64)

    def share(metric: str, which: np.ndarray, name: str = "", generator: str = "") -> tuple:
        n, hits = int(which.sum()), int(right[which].sum())
        if clusters is None:
            interval = wilson(hits, n)
        else:
            with np.errstate(invalid="ignore"):
                drawn = (weights @ (right * which)) / (weights @ which)
            units = units_of(which, clusters, True)
            interval = widened(hits / n, percentile_interval(drawn), units)
        return metric, name, generator, n, hits / n, *interval

    rows = [share("accuracy", np.ones(len(table), dtype=bool))]
    rows += [
        (
            one,
            "",
            "",
            len(table),
            float(here[one]),
            *widened(float(here[one]), percentile_interval(means[one]), units_of(truth, clusters)),
        )
        for one in MACRO
    ]
    rows += [
        share("recall", truth == index[name], name) for name in classes if index[name] in truth
    ]
    rows += [share("accuracy", groups == one, "", str(one)) for one in sorted(set(groups))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def result_lines(table: pd.DataFrame, classes: Sequence[str]) -> str:
    """Return DNA-Det's ``result.txt``: a line an image, path TAB number of the predicted class."""
    index = {name: at for at, name in enumerate(classes)}
    pairs = zip(table["path"], table["predicted"], strict=True)
    return "".join(f"{path}\t{index[predicted]}\n" for path, predicted in pairs)
