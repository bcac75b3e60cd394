"""The leader board of explanation methods: detectors × methods, with intervals by photograph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import pandas as pd

from ...data.conditions import CLEAN
from ...data.photos import photograph_names
from ...detectors import Detector
from ...errors import UserError
from ...evaluation import cluster_mean
from ...explain.listing import UNIT
from ...records import FAKE, ImageSet, Result
from ...rng import keyed
from ...sweep import How, PixelLook, sweep
from ...views import View
from .trial import FLOORS, MEASURES, BoardLook

JUDGED = ("share", "hit", "deletion", "insertion", "flip")  # what a method must beat the floors in
LEAST = 6  # photographs below which nothing is called better: 2 / 2⁶ is under 5 %
LOWER = ("deletion",)  # is better when lower


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(Result):
    """How well each explanation method does, of each detector.

    trials: detector, path, method, and each of ``MEASURES``, one row an image.
    board: detector, method, images; of each of ``JUDGED`` and of spearman the mean with _low and
        _high (95 % over photographs), of JUDGED also _gain, the paired difference from
        the better of the floors, and _beats: whether that is certainly above 0, of ``LEAST``
        photographs or more; beats: in how many; gradients: the time in units of one gradient of
        that detector.
    """

    trials: pd.DataFrame
    board: pd.DataFrame
    notes: tuple[str, ...]
    facts: Mapping[str, Any]

    def view(self) -> View:
        """Return the board, its figure and its page."""
        from .page import view

        return view(self)


def leaderboard(
    detectors: Mapping[str, Detector],
    images: ImageSet,
    *,
    methods: str | Sequence[str] = "all",
    n: int = 6,
    cell: int = 8,
    **how: Unpack[How],
) -> Leaderboard:
    """Test explanation methods on fakes whose photographs are known, pixel for pixel.

    Planted truth: a quarter of the fake in its photograph, in a box at random; what makes the
    detector say fake lies in the box. Deletion and insertion put the photograph in the fake's
    place, so that no image leaves the distribution; see :class:`Trial` for the flip.

    images: FAMILY/{0_real,1_fake}/NAME, as ``forge`` writes; n: fakes of each detector, drawn at
    random among those that it calls fake; cell: side of the squares, pixels.

    Raises:
        UserError: no fake has its photograph beside it, or a detector calls none of them fake.
    """
    seed = how.get("seed", 0)
    pairs = {str(one.path): one.path.parents[1] / "0_real" / one.path.name
             for one in images if one.label == FAKE}  # fmt: skip
    pairs = {key: real for key, real in pairs.items() if real.is_file()}
    known = ImageSet(images.root, tuple(o for o in images if str(o.path) in pairs), images.layout)
    if not len(known):
        raise UserError(
            f"{images.root}: no fake has its photograph beside it; the leader board needs "
            "FAMILY/{0_real,1_fake} of the same names, as `forensift forge` writes"
        )
    parts, notes = [], list[str]()
    one_by_one: How = {**how, "batch_size": 1}  # so that each is kept as it comes
    for name, detector in detectors.items():
        chosen = _called_fake(detector, known, n, how)
        first = detector.batch(ImageSet(known.root, chosen.entries[:1], known.layout), seed)
        look = BoardLook(detector, pairs, first, methods, cell=cell, seed=seed)
        sweep(chosen, [look], what=f"testing methods of {name}", shard_size=1, **one_by_one)
        notes += look.notes.values()
        parts.append(_trials(name, look, chosen))
    trials = pd.concat(parts, ignore_index=True)
    facts = {
        "detectors": list(detectors),
        "methods": list(dict.fromkeys(trials["method"])),
        "asked": methods if isinstance(methods, str) else ",".join(methods),
        "n": n,
        "cell": cell,
        "seed": seed,
        "data": str(images.root),
    }
    return Leaderboard(trials, summarise(trials, seed), tuple(notes), facts)


def _called_fake(detector: Detector, known: ImageSet, n: int, how: How) -> ImageSet:
    """Return up to n fakes that the detector calls fake, drawn at random, photographs in turn."""
    seed = how.get("seed", 0)
    order = sorted(known, key=lambda entry: keyed(seed, known.image_id(entry)).random())
    turns: Counter[str] = Counter()
    turn = {}
    for entry, photograph in zip(order, photograph_names(o.path for o in order), strict=True):
        turn[entry] = turns[photograph]
        turns[photograph] += 1
    order.sort(key=turn.__getitem__)  # one of each photograph before a second of any
    found: list[Any] = []
    quiet: How = {"seed": seed, "max_skipped": 1.0, "batch_size": n}
    for start in range(0, len(order), n):
        part = ImageSet(known.root, tuple(order[start : start + n]), known.layout)
        look = PixelLook(detector, judged=True)
        used = sweep(part, [look], what="choosing images", **quiet).used
        rows = look.statistic.rows
        found += [one for one in used if rows[CLEAN, known.image_id(one)]["logit"] > 0]
        if len(found) >= n:
            break
    if not found:
        raise UserError(f"{known.root}: {detector.name} calls none of {len(order)} fakes fake")
    return ImageSet(known.root, tuple(found[:n]), known.layout)


def _trials(name: str, look: BoardLook, chosen: ImageSet) -> pd.DataFrame:
    rows = []
    for entry in chosen:
        key = chosen.image_id(entry)
        if not look.statistic.has(key):
            continue
        own = look.statistic.rows[CLEAN, key]
        for place, method in enumerate(look.names):
            values = {measure: float(own[measure][place]) for measure in MEASURES}
            rows.append({"detector": name, "path": key, "method": method, **values})
    return pd.DataFrame(rows)


def summarise(trials: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the board of trials, see :class:`Leaderboard`."""
    rows = []
    for detector, own in trials.groupby("detector", sort=False):
        wide = own.set_index(["path", "method"])
        tables = {m: wide[m].unstack(sort=False) for m in MEASURES}  # noqa: PD010
        clusters = photograph_names(tables["area"].index)
        unit = tables["seconds"].get(UNIT)
        for method in dict.fromkeys(own["method"]):
            row: dict[str, Any] = {"detector": detector, "method": method}
            row["images"] = len(tables["area"])
            row["area"] = tables["area"][method].mean()
            for measure in (*JUDGED, "spearman"):
                table = tables[measure]
                least = -1.0 if measure in ("spearman", "flip") else 0.0
                mean, low, high = cluster_mean(
                    table[method].to_numpy(), clusters, least=least, seed=seed
                )
                row |= {measure: mean, f"{measure}_low": low, f"{measure}_high": high}
                if measure in JUDGED and method not in FLOORS:
                    sign = -1 if measure in LOWER else 1
                    floor = max(FLOORS, key=lambda one: sign * table[one].mean())
                    enough = len(set(clusters[table[method].notna().to_numpy()])) >= LEAST
                    better = (sign * (table[method] - table[floor])).to_numpy()
                    gain, least_gain, _ = cluster_mean(
                        better, clusters, least=-2.0, most=2.0, seed=seed
                    )
                    row |= {
                        f"{measure}_gain": gain,
                        f"{measure}_beats": bool(enough and least_gain > 0),
                    }
            if method not in FLOORS:
                row["beats"] = sum(row[f"{measure}_beats"] for measure in JUDGED)
                if unit is not None:
                    row["gradients"] = tables["seconds"][method].median() / unit.median()
            rows.append(row)
    return pd.DataFrame(rows)
