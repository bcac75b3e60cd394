"""A detector's logits of an image set: the table of ``scores.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd

from ..data import Batch, JpegEqualiser, Transform
from ..data.conditions import CLEAN
from ..data.loose import image_files
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageSet
from ..sweep import RGB, How, Look, PerImage, Rows, Seen, sweep
from .metrics import sigmoid

COLUMNS = ("path", "label", "generator", "class", "logit", "score")


class ScoreLook(Look):
    """The logits of one detector, under any conditions and in any colour modes."""

    statistic: PerImage

    def __init__(
        self,
        detector: Detector,
        *,
        colours: Sequence[str] = (RGB,),
        conditions: Sequence[str] = (CLEAN,),
    ) -> None:
        super().__init__(detector, PerImage(), colours=colours, conditions=conditions)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the logits (N, colours), float64, and the shares of classes, if any (N, K).

        Raises:
            UserError: a logit is not finite.
        """
        logits = np.stack([seen[colour].logits for colour in self.colours], axis=1)
        bad = np.argwhere(~np.isfinite(logits))
        if len(bad):
            image, colour = bad[0]
            where = [str(batch.entries[image].path)]
            where += [f"in mode {self.colours[colour]}"] * (self.colours[colour] != RGB)
            where += [f"under {batch.condition}"] * (batch.condition != CLEAN)
            raise UserError(
                f"{self.detector.name} gives a logit that is not finite for {' '.join(where)}"
            )
        if not self.detector.classes:
            return {"logit": logits}
        shares = seen[self.colours[0]].outputs.double().softmax(dim=1).numpy()
        if not np.isfinite(shares).all():
            row = int(np.argwhere(~np.isfinite(shares))[0, 0])
            path = batch.entries[row].path
            raise UserError(f"{self.detector.name} gives an output that is not finite for {path}")
        return {"logit": logits, "share": shares}

    def shares(self, images: ImageSet, condition: str = CLEAN) -> np.ndarray:
        """Return the softmax (N, K) of the classes of ``images``, NaN where one was not seen."""
        ids = [images.image_id(entry) for entry in images]
        return self.statistic.of(ids, "share", condition)

    def table(self, images: ImageSet, condition: str = CLEAN, colour: str = RGB) -> pd.DataFrame:
        """Return the table COLUMNS of those ``images`` that were seen, in the set's order."""
        seen = [one for one in images if self.statistic.has(images.image_id(one), condition)]
        facts = [(images.image_id(e), e.label, e.generator, e.class_name) for e in seen]
        table = pd.DataFrame(facts, columns=list(COLUMNS[:4]))
        logits = self.statistic.of([row[0] for row in facts], "logit", condition)
        table["logit"] = logits[:, self.colours.index(colour)]
        return table.assign(score=sigmoid(table["logit"].to_numpy()))


def score(
    detector: Detector,
    images: ImageSet | Path | str | Sequence[Path | str],
    *,
    what: str = "scoring",
    transform: Transform | JpegEqualiser | None = None,
    **how: Unpack[How],
) -> pd.DataFrame:
    """Return path, label, generator, class, logit and score of every image that can be used.

    images: an image set, or files and folders, whose labels then say nothing. path is the image's
    id, below ``images.root``; rows are in the set's order; score is the
    sigmoid of the logit in float64. what: names the pass; transform: see
    :func:`forensift.data.batches`.

    Raises:
        UserError: the detector gives a logit that is not finite, or see :func:`forensift.sweep`.
    """
    images = images if isinstance(images, ImageSet) else image_files(images)
    look = ScoreLook(detector)
    sweep(images, [look], what=what, transform=transform, **how)
    return look.table(images)
