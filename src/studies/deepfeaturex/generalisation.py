"""DeepFeatureX's generalisation sets: generators seen in training (inner) and unseen (outer)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...records import REAL, ImageSet
from ...training.deepfeaturex_data import distinct
from .measures import as_binary, numbers, with_intervals

REAL_FOLDER, FAKE_FOLDER = "0_real", "1_fake"
SETS = (
    "inner_gan", "outer_gan", "io_gan", "inner_dm", "outer_dm", "io_dm", "inner_all", "outer_all",
    "all",
)  # fmt: skip


@dataclass(frozen=True)
class Families:
    """Which generators are GANs and diffusion models that were trained on (inner) or not (outer).

    Any of them may be empty; a set without generators is left out.
    """

    inner_gan: tuple[str, ...] = ("progan-like", "dcgan-like", "sngan-like", "cyclegan-like")
    outer_gan: tuple[str, ...] = ("stylegan2-like", "pixelshuffle-like")
    inner_dm: tuple[str, ...] = ("ddpm-like", "ldm-like")
    outer_dm: tuple[str, ...] = ()

    @property
    def diffusion(self) -> tuple[str, ...]:
        """All diffusion models."""
        return (*self.inner_dm, *self.outer_dm)

    def among(self, generators: Sequence[str]) -> Families:
        """Return those that there are images of."""
        here = set(generators)
        return Families(
            *(
                tuple(name for name in group if name in here)
                for group in (self.inner_gan, self.outer_gan, self.inner_dm, self.outer_dm)
            )
        )

    def sets(self) -> dict[str, tuple[str, ...]]:
        """Return the generators of each set that has any, in the published order."""
        gan, dm = (*self.inner_gan, *self.outer_gan), (*self.inner_dm, *self.outer_dm)
        inner, outer = (*self.inner_gan, *self.inner_dm), (*self.outer_gan, *self.outer_dm)
        named = dict(
            zip(
                SETS,
                (
                    self.inner_gan, self.outer_gan, gan, self.inner_dm, self.outer_dm, dm,
                    inner, outer, (*inner, *outer),
                ),
                strict=True,
            )
        )  # fmt: skip
        return {name: generators for name, generators in named.items() if generators}


def generalisation(
    table: pd.DataFrame, families: Families, *, seed: int = 0, resamples: int = 1000
) -> pd.DataFrame:
    """Return real against fake on each generalisation set, one row each.

    table: of ``predictions``; a set's fakes are drawn to be as many as the reals. Columns: set,
    generators, n_real, n_fake, accuracy and balanced accuracy with intervals drawn by photograph,
    precision, recall, f1 (positive: real).
    """
    rows = []
    for name, generators in families.sets().items():
        own = table[(table["label"] == REAL) | table["generator"].isin(generators)]
        missing = sorted(set(generators) - set(own.loc[own["label"] != REAL, "generator"]))
        if missing:
            raise UserError(f"generalisation set {name}: no images of {', '.join(missing)}")
        two = as_binary(own.reset_index(drop=True), seed)
        found = numbers(two, "binary")
        found.pop("accuracy")
        counts = two["truth"].value_counts()
        rows.append(
            {
                "set": name,
                "generators": " ".join(generators),
                "n_real": int(counts["real"]),
                "n_fake": int(counts["fake"]),
                **with_intervals(two, ("fake", "real"), seed, resamples),
                **found,
            }
        )
    return pd.DataFrame(rows)


def write_sets(images: ImageSet, families: Families, out: Path) -> dict[str, int]:
    """Write the published folders ``<set>/{0_real,1_fake}/*``; return each set's number of fakes.

    Files are hard links where the disk allows, else copies; a fake is called
    ``<generator>-<name>``, so that crops of one photograph keep their numbers at the end.
    """
    images = distinct(images)
    counts: dict[str, int] = {}
    for name, generators in families.sets().items():
        for entry in images:
            real = entry.label == REAL
            if not real and entry.generator not in generators:
                continue
            own = entry.path.name if real else f"{entry.generator}-{entry.path.name}"
            path = out / name / (REAL_FOLDER if real else FAKE_FOLDER) / own
            counts[name] = counts.get(name, 0) + (not real)
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(entry.path, path)
            except OSError:
                shutil.copyfile(entry.path, path)
    return counts
