"""Parts into cells, one method a table of the T-FF study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ...data.colour import PUBLISHED_MODES
from ...detectors import Detector
from ...errors import UserError
from ...fmap_ranking import PUBLISHED_K, fitting, load_ranking, top
from ...histograms import first_instances
from ...histograms.median_test import judge
from ...records import FAKE, ImageSet, Ranking, Result, Skipped
from ...sensitivity import Mask
from ...sensitivity.tables import dropped_table, generator_rows, summarise
from ...views import View
from .intervals import (
    Cell,
    dropout_cells,
    median_cells,
    plain_cells,
    ranking_cells,
    threshold_of,
)
from .page import view
from .parts import CENTRE, NATIVE, Parts
from .tables import CROPPED, FOLDERS, GREY, KEYS, RGB, STUDIED, published_ranking
from .weights import BASELINE

TRAINED_ON = "ProGAN"
VALIDATION = "ProGAN validation"
INSTANCES = 500  # fakes of each class in the median test, whatever the published script is asked


@dataclass(eq=False, repr=False)
class Reproduction(Result):
    """What came out.

    cells: published against ours (``reproduction.csv``; COLUMNS), percent.
    dropout, dropped: the tables of ``forensift dropout`` by architecture, fractions; summary too.
    scores: logits behind the colour and CNNDetection tables, one row an image and input.
    median_test: the table of ``forensift median-test`` by architecture.
    rankings: by architecture and kind (fake, real), where ω was computed here.
    notes: what a reader of the cells must know.
    """

    cells: pd.DataFrame
    dropout: dict[str, pd.DataFrame] = field(default_factory=dict)
    summary: dict[str, pd.DataFrame] = field(default_factory=dict)
    dropped: dict[str, pd.DataFrame] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    median_test: dict[str, pd.DataFrame] = field(default_factory=dict)
    rankings: dict[str, dict[str, Ranking]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: tuple[Skipped, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return published against ours, table by table."""
        return view(self)


@dataclass
class TffStudy:
    """Turns parts into cells, one method a table."""

    parts: Parts
    sets: Mapping[str, ImageSet]
    result: Reproduction
    rank_images: ImageSet | None
    cells: list[Cell] = field(default_factory=list)
    scores: list[pd.DataFrame] = field(default_factory=list)

    def ranking(self, detector: Detector) -> Ranking:
        published = load_ranking(published_ranking(detector.name), label=FAKE)
        detector = fitting(published, detector)
        if self.parts.protocol.ranking == "published" or self.rank_images is None:
            return published
        chosen = first_instances(self.rank_images, self.parts.protocol.rank_per_class)
        own = {}
        for kind in ("fake", "real"):
            try:
                own[kind] = self.parts.ranking(detector, chosen, kind)
            except UserError as error:
                if kind == "fake":  # nothing can be dropped without it
                    raise
                self.result.notes.append(f"{detector.name}: no ranking on reals: {error}")
        self.result.rankings[detector.name] = own
        head = _head("ranking", detector.name, BASELINE, RGB, VALIDATION)
        k = PUBLISHED_K[detector.name]
        self.cells += ranking_cells(head, own["fake"], published, k)
        return own["fake"]

    def dropout(self, detector: Detector, ranking: Ranking) -> None:
        masks = self.parts.masks(detector, ranking)
        rows = []
        for name, images in self.sets.items():
            if name not in STUDIED:
                continue
            where = f"{detector.name}-{FOLDERS[name]}"
            logits = self.parts.dropped(detector, images, masks, where)
            labels, read = _read(images, logits[0])
            logits = logits[:, read]
            trained = name == TRAINED_ON
            threshold = threshold_of(labels, logits[0], trained)
            head = _head("dropout", detector.name, BASELINE, RGB, name)
            seed = self.parts.seed
            self.cells += dropout_cells(head, labels, logits, masks, threshold, seed)
            rule = "0.5, training family" if trained else "calibrated on these, nothing dropped"
            rows.append(generator_rows(name, labels, logits, masks, threshold, rule))
        self._keep(detector.name, rows, masks, ranking)

    def median_test(self, detector: Detector, ranking: Ranking) -> None:
        maps = top(ranking, PUBLISHED_K[detector.name])
        tests = []
        for name, images in self.sets.items():
            if name not in STUDIED:
                continue
            fakes = first_instances(images.only(label=FAKE), INSTANCES)
            found = self.parts.maxima(detector, fakes, maps)
            table, shares = judge(found)
            tests.append(table.assign(generator=name))
            head = _head("median-test", detector.name, BASELINE, f"{RGB}, {GREY}", name)
            self.cells += median_cells(head, shares, len(found.images))
        self.result.median_test[detector.name] = pd.concat(tests, ignore_index=True)

    def colour(self, detector: Detector, training: str) -> None:
        for name, images in self.sets.items():
            if name not in STUDIED:
                continue
            where = f"{detector.name}-{training}-{FOLDERS[name]}"
            state = self.parts.plain(detector, images, where, modes=PUBLISHED_MODES)
            for seen, mode in ((RGB, "rgb"), (GREY, "grey")):
                head = _head("colour-robust", detector.name, training, seen, name)
                self._plain(head, images, state[mode], ("ap",))

    def cnndetection(self, detector: Detector) -> None:
        for name, images in self.sets.items():
            for seen, preset in ((RGB, NATIVE), (CROPPED, CENTRE)):
                where = f"{detector.name}-{preset}-{FOLDERS[name]}"
                state = self.parts.plain(detector, images, where, preset)
                head = _head("cnndetection", detector.name, BASELINE, seen, name)
                self._plain(head, images, state["rgb"], ("ap", "accuracy"))

    def _plain(
        self, head: Cell, images: ImageSet, logits: np.ndarray, quantities: Sequence[str]
    ) -> None:
        labels, read = _read(images, logits)
        seed = self.parts.seed
        self.cells += plain_cells(head, labels, logits[read], quantities, seed)
        paths = [images.image_id(entry) for entry, known in zip(images, read, strict=True) if known]
        frame = pd.DataFrame({"path": paths, "label": labels, "logit": logits[read]})
        for at, key in enumerate(("table", "arch", "training", "input", "generator")):
            frame.insert(at, key, head[key])
        self.scores.append(frame)

    def _keep(
        self, arch: str, rows: list[pd.DataFrame], masks: Sequence[Mask], ranking: Ranking
    ) -> None:
        table = pd.concat(rows, ignore_index=True)
        family = TRAINED_ON if TRAINED_ON in self.sets else None
        omega = dict(zip(ranking.feature_maps(), ranking.table["omega"], strict=True))
        self.result.dropout[arch] = table
        self.result.summary[arch] = summarise(table, family)
        self.result.dropped[arch] = dropped_table(masks, omega)


def _head(table: str, arch: str, training: str, seen: str, generator: str) -> Cell:
    return dict(zip(KEYS, (table, arch, training, seen, generator), strict=False))


def _read(images: ImageSet, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the images that could be read, and which those are."""
    read = ~np.isnan(logits)
    labels = np.array([entry.label for entry in images])[read]
    if len(set(labels.tolist())) < 2:
        raise UserError(f"{images.root}: the reals or the fakes of a generator cannot be read")
    return labels, read
