"""The parts of a reproduction: each is computed once, kept on disk, and turned into cells."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...data import check_skipped, get_preset
from ...data.colour import PUBLISHED_MODES
from ...detectors import Detector
from ...evaluation import score
from ...fmap_ranking import rank, top
from ...fmap_ranking.omega import ranking_table
from ...histograms import Maxima, maxima
from ...records import FAKE, REAL, FeatureMap, ImageSet, Ranking, Skipped
from ...sensitivity import (
    PUBLISHED_K,
    Mask,
    baseline,
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    random_k,
    top_k,
)
from ...sensitivity.colour import colour
from ...sensitivity.scoring import masked_scores
from ...sweep import Partials

NATIVE, CENTRE, FFRS = "wang-nocrop", "wang-crop224", "tff-ffrs"
MIN_CONFIDENCE = 0.9
KINDS = {"fake": FAKE, "real": REAL}

State = dict[str, np.ndarray]
Told = Callable[[int, int, str], None]  # parts done, parts in all, what is being done


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers beside images and weights; the defaults are the published ones.

    ranking: 'published' (the shipped files) or 'own' (ω computed anew).
    draws: of each random control; the published figure is the ensemble of the first five.
    limit: use the first so many reals and fakes of each generator and class (None: all).
    rank_per_class: the first so many reals and fakes of each class are ranked on.
    """

    ranking: str = "published"
    draws: int = 20
    limit: int | None = None
    rank_per_class: int = 50
    batch_size: int = 32
    seed: int = 0
    max_skipped: float = 0.01


@dataclass
class Parts:
    """Computes parts, or finds them in ``folder`` where ``resume`` allows it.

    A part is a folder with its plan (every fact that decides it) and one file of arrays, written
    whole. Everything that follows from the arrays is computed anew, so that a run that went on
    after a crash ends with the same bytes.
    """

    folder: Path
    protocol: Protocol
    device: str
    resume: bool
    total: int
    told: Told | None = None
    done: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def masks(self, detector: Detector, ranking: Ranking) -> list[Mask]:
        """Return what is dropped, in the order of the rows of :meth:`dropped`."""
        k, maps, p = PUBLISHED_K[detector.name], detector.feature_maps, self.protocol
        first = top(ranking, k)
        return [
            baseline(),
            top_k(ranking, k),
            *(random_k(maps, first, k, draw, p.seed) for draw in range(p.draws)),
            *(layer_matched_random_k(maps, first, draw, p.seed) for draw in range(p.draws)),
            low_k(ranking, k),
            lowest_non_zero(ranking, k),
        ]

    def dropped(
        self, detector: Detector, images: ImageSet, masks: Sequence[Mask], name: str
    ) -> np.ndarray:
        """Return the logits (masks, images) of one generator; NaN where one cannot be read."""
        what = "\n".join(f"{mask.name} {mask.draw} {mask.feature_maps}" for mask in masks)

        def compute(missed: list[Skipped], progress: Callable[[int], None]) -> State:
            sets = [mask.feature_maps for mask in masks]
            found = masked_scores(
                detector, images, sets, skipped=missed, progress=progress, **self._how()
            )
            return {"logits": found}

        plan = {"masks": hashlib.sha256(what.encode()).hexdigest()}
        return self._part(f"dropout-{name}", detector, images, plan, compute)["logits"]

    def plain(self, detector: Detector, images: ImageSet, preset: str, name: str) -> State:
        """Return 'logits' (images,) of the whole network under a preset; NaN where unreadable."""
        loaded = detector.with_preset(get_preset(preset))

        def compute(missed: list[Skipped], progress: Callable[[int], None]) -> State:
            table = score(loaded, images, skipped=missed, progress=progress, **self._how())
            return {"logits": _aligned(images, table)}

        return self._part(f"plain-{name}", loaded, images, {}, compute)

    def colour(self, detector: Detector, images: ImageSet, name: str) -> State:
        """Return logits (images,) by colour mode, 'rgb' and 'grey'; NaN where unreadable."""

        def compute(missed: list[Skipped], progress: Callable[[int], None]) -> State:
            modes = PUBLISHED_MODES
            kept: dict[str, Any] = {"max_skipped": self.protocol.max_skipped, "skipped": missed}
            found = colour(detector, images, modes, progress=progress, **kept, **self._how())
            scores = found.scores
            return {mode: _aligned(images, scores[scores["mode"] == mode]) for mode in modes}

        return self._part(f"colour-{name}", detector, images, {}, compute)

    def maxima(
        self, detector: Detector, images: ImageSet, feature_maps: Sequence[FeatureMap], name: str
    ) -> Maxima:
        """Return the spatial maxima of the feature maps on the images, in rgb and in grey."""

        def compute(missed: list[Skipped], progress: Callable[[int], None]) -> State:
            found = maxima(
                detector, images, feature_maps, skipped=missed, progress=progress, **self._how()
            )
            there = {entry.path for entry in found.images}
            read = np.array([entry.path in there for entry in images])
            return {"maxima": found.maxima, "read": read}

        plan = {"feature_maps": [str(one) for one in feature_maps]}
        state = self._part(f"maxima-{name}", detector, images, plan, compute)
        entries = tuple(one for one, read in zip(images, state["read"], strict=True) if read)
        shown = ImageSet(images.root, entries, images.layout)
        return Maxima(shown, PUBLISHED_MODES, tuple(feature_maps), state["maxima"])

    def ranking(self, detector: Detector, images: ImageSet, kind: str) -> Ranking:
        """Return ω of one kind of image, by the published protocol (start: −1 on reals).

        Raises:
            UserError: as :func:`forensift.rank`.
        """
        chosen = images.only(label=KINDS[kind])
        p = self.protocol
        name = f"ranking-{detector.name}-{kind}"

        def compute(missed: list[Skipped], progress: Callable[[int], None]) -> State:
            found = rank(
                detector,
                chosen,
                label=KINDS[kind],
                start="published",
                min_confidence=MIN_CONFIDENCE,
                preset=FFRS,
                max_skipped=p.max_skipped,
                skipped=missed,
                partials=self.folder / name / "shards",
                resume=self.resume,
                progress=progress,
                **self._how(),
            )
            place = {one: at for at, one in enumerate(found.feature_maps())}
            order = [place[one] for one in detector.feature_maps]
            table = found.table.iloc[order]
            columns = ("omega", "standard_error", "rank_low", "rank_high")
            arrays = {column: table[column].to_numpy(np.float64) for column in columns}
            return arrays | {f"count/{key}": np.array(n) for key, n in found.counts.items()}

        plan = {"preset": FFRS, "start": "published", "min_confidence": MIN_CONFIDENCE}
        state = self._part(name, detector, chosen, plan, compute)
        table = ranking_table(detector.feature_maps, state["omega"])
        order = table.index.to_numpy()
        for column in ("standard_error", "rank_low", "rank_high"):
            table[column] = state[column][order]
        counts = {
            key.removeprefix("count/"): int(value)
            for key, value in state.items()
            if key.startswith("count/")
        }
        return Ranking(table.reset_index(drop=True), KINDS[kind], "published", counts)

    def _part(
        self,
        name: str,
        detector: Detector,
        images: ImageSet,
        plan: Mapping[str, Any],
        compute: Callable[[list[Skipped], Callable[[int], None]], State],
    ) -> State:
        facts = {
            "part": name,
            "weights_sha256": detector.weights.sha256,
            "image_set": images.hash(),
            "preset": detector.preset.name,
            "seed": self.protocol.seed,
            "batch_size": self.protocol.batch_size,
            "device": self.device,
            **plan,
        }
        partials = Partials(self.folder / name, facts, resume=self.resume)
        kept = partials.read(0)
        if kept is None:
            missed: list[Skipped] = []
            seen = 0

            def progress(images_done: int) -> None:
                nonlocal seen
                seen += images_done
                self._tell(f"{name} {seen}/{len(images)}")

            self._tell(name)
            try:
                state = compute(missed, progress)
                check_skipped(missed, len(images), self.protocol.max_skipped)
            finally:
                self.skipped += missed
            partials.write(0, [state], missed)
        else:
            (state,), missed = kept
            self.skipped += missed
        self.done += 1
        self._tell(name)
        return state

    def _how(self) -> dict[str, Any]:
        return {"batch_size": self.protocol.batch_size, "seed": self.protocol.seed}

    def _tell(self, text: str) -> None:
        if self.told:
            self.told(self.done, self.total, text)


def _aligned(images: ImageSet, table: pd.DataFrame) -> np.ndarray:
    """Return the column logit in the set's order; NaN for an image without a row."""
    where = {images.image_id(entry): at for at, entry in enumerate(images)}
    found = np.full(len(images), np.nan)
    found[[where[path] for path in table["path"]]] = table["logit"]
    return found
