"""Photographs with a known trace: the ground truth that an explanation must find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import UserError
from ..files import write_bytes, write_csv
from ..rng import keyed_short
from .crops import random_crop, read_photograph
from .forge import png

Mode = Literal["luma", "chroma"]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom outside

LUMA = np.array([19595, 38470, 7471])  # Pillow's weights of R, G and B, in 1 / 65536
TRIES = 8  # crops looked at for one with room for the trace
ROOM = 0.99  # share of pixels with room at which a crop is taken at once


@dataclass(frozen=True)
class Trace:
    """A checkerboard that is added to an image.

    mode: 'luma' adds the same to all three channels. 'chroma' adds to red and takes from green
        (and a little from blue) so that Pillow's ``convert("L")`` stays the same, to the bit.
    period: pixels from one dark field to the next, along rows and columns; even. Fields are
        period / 2 wide and lie on the image's own grid, wherever the box is.
    strength: grey levels, ± this much: on every channel (luma) or on red (chroma).
    box: where; None is the whole image. Four numbers left, top, right, bottom, as shares of the
        side where all are ≤ 1, as pixels otherwise; or one number, the side of a square box as a
        share of the image's, which lies at another place in every image.
    """

    mode: Mode = "luma"
    period: int = 2
    strength: int = 8
    box: tuple[float, float, float, float] | float | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UserError(f"no trace {self.mode!r}; there are {', '.join(get_args(Mode))}")
        if self.period < 2 or self.period % 2:
            raise UserError(f"period {self.period}: must be even, 2 pixels or more")
        if not 1 <= self.strength <= 60:
            raise UserError(f"strength {self.strength}: must be 1 to 60 grey levels")

    @property
    def step(self) -> np.ndarray:
        """What a bright field adds to R, G and B, int64 (3,); a dark field takes it away."""
        s = self.strength
        if self.mode == "luma":
            return np.array([s, s, s])
        green = -round(s * LUMA[0] / LUMA[1])
        blue = -round((s * LUMA[0] + green * LUMA[1]) / LUMA[2])
        return np.array([s, green, blue])

    def box_in(self, side: int, rng: np.random.Generator) -> Box:
        """Return the box in an image of ``side`` pixels; ``rng`` places a random one.

        Raises:
            UserError: the box is empty or leaves the image.
        """
        if self.box is None:
            return 0, 0, side, side
        if isinstance(self.box, int | float):
            length = round(self.box * side)
            if not 1 <= length <= side:
                raise UserError(f"a box of {self.box:g} of the side is none; give 0 to 1")
            left, top = (int(one) for one in rng.integers(0, side - length + 1, 2))
            return left, top, left + length, top + length
        scale = side if max(self.box) <= 1 else 1
        left, top, right, bottom = (round(value * scale) for value in self.box)
        if not (0 <= left < right <= side and 0 <= top < bottom <= side):
            raise UserError(f"box {self.box} does not fit into an image of {side} pixels")
        return left, top, right, bottom


def luma(image: np.ndarray) -> np.ndarray:
    """Return what Pillow's ``convert("L")`` makes of uint8 (H, W, 3): int64 (H, W)."""
    return (image.astype(np.int64) @ LUMA + 0x8000) >> 16


def has_room(image: np.ndarray, trace: Trace) -> np.ndarray:
    """Return where neither a bright nor a dark field would leave 0 … 255: bool (H, W).

    A pixel without room carries no trace: clipping would turn chroma into luma.
    """
    # One more for the blue that keeps the rounded luma where it was.
    margin = np.abs(trace.step) + (np.array([0, 0, 1]) if trace.mode == "chroma" else 0)
    return ((image >= margin) & (image <= 255 - margin)).all(axis=2)


def plant(image: np.ndarray, trace: Trace, box: Box) -> tuple[np.ndarray, float]:
    """Return uint8 (H, W, 3) with the trace inside ``box``, and the share of the box that holds it.

    Pixels outside the box, and those without room, are as they were.
    """
    left, top, right, bottom = box
    part = image[top:bottom, left:right].astype(np.int64)
    rows, columns = np.mgrid[top:bottom, left:right] // (trace.period // 2)
    sign = np.where((rows + columns) % 2, 1, -1)
    room = has_room(image[top:bottom, left:right], trace)
    changed = part + np.where(room, sign, 0)[..., None] * trace.step
    if trace.mode == "chroma":
        # Integer steps miss the luma by up to 0.06: where that tips the rounding, one level of
        # blue (0.114 of luma) tips it back, so that not even a rounded trace of it stays.
        changed[..., 2] -= np.sign(luma(changed) - luma(part))
    found = image.copy()
    found[top:bottom, left:right] = changed.astype(np.uint8)
    return found, float(room.mean())


def forge_planted(
    photographs: Sequence[Path],
    traces: Mapping[str, Trace],
    out: Path,
    *,
    pairs: int = 100,
    side: int = 64,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """Write ``<name>/{0_real,1_fake}/<photograph>-<n>.png`` for every trace, and ``truth.csv``.

    Real and fake of a pair are the same crop of a photograph, so that the trace alone differs, and
    all traces get the same crops. Photographs take turns. A crop (scale, place) and a random box
    are keyed by seed, photograph and number: equal seeds give equal bytes. Of up to 8 crops the
    first is taken that has room for the strongest trace in 99 % of its pixels, else the roomiest.

    Returns:
        The truth, one row a fake: path (below ``out``, forward slashes), generator, mode, period,
        strength, left, top, right, bottom (pixels), area (the box's share of the image) and
        carried (the share of the box's pixels that had room for the trace).

    Raises:
        UserError: no photographs or traces, two photographs of one name, one that is too small for
            the crop, a box outside the image, or ``out`` holds images of another run.
    """
    if not photographs or not traces:
        raise UserError("planting needs photographs and traces")
    if len({path.stem for path in photographs}) < len(photographs):
        raise UserError("two photographs share a file name; their crops would overwrite each other")
    _refuse_others(Path(out), photographs, traces, pairs)
    rows = []
    done, total = 0, pairs * len(traces)
    for turn, path in enumerate(photographs):
        numbers = range(len(range(turn, pairs, len(photographs))))
        if not numbers:
            break
        photo = read_photograph(path)
        for number in numbers:
            crop = _roomy_crop(photo, path, side, seed, number, traces)
            name = f"{path.stem}-{number:03d}.png"
            for generator, trace in traces.items():
                rng = keyed_short(seed, "box", generator, path.name, number)
                box = trace.box_in(side, rng)
                fake, carried = plant(crop, trace, box)
                relative = Path(generator, "1_fake", name)
                write_bytes(out / generator / "0_real" / name, png(crop))
                write_bytes(out / relative, png(fake))
                area = (box[2] - box[0]) * (box[3] - box[1]) / side**2
                facts = (generator, trace.mode, trace.period, trace.strength)
                rows.append((relative.as_posix(), *facts, *box, area, carried))
                done += 1
                if progress is not None:
                    progress(done, total, generator)
    names = ["path", "generator", "mode", "period", "strength"]
    names += ["left", "top", "right", "bottom", "area", "carried"]
    truth = pd.DataFrame(rows, columns=names).sort_values("path", ignore_index=True)
    write_csv(Path(out) / "truth.csv", truth)
    return truth


def _refuse_others(
    out: Path, photographs: Sequence[Path], traces: Mapping[str, Trace], pairs: int
) -> None:
    """Keep images of another run out of a set whose truth this run writes."""
    names = {
        f"{path.stem}-{number:03d}.png"
        for turn, path in enumerate(photographs)
        for number in range(len(range(turn, pairs, len(photographs))))
    }
    for path in out.glob("*/*/*.png"):
        if path.name not in names or path.parents[1].name not in traces:
            raise UserError(f"{out} holds images of another run; delete it or give another --out")


def _roomy_crop(
    photo: Image.Image,
    path: Path,
    side: int,
    seed: int,
    number: int,
    traces: Mapping[str, Trace],
) -> np.ndarray:
    best, most = None, -1.0
    for attempt in range(TRIES):
        rng = keyed_short(seed, "planted", path.name, number, attempt)
        try:
            crop = np.asarray(random_crop(photo, side, rng))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        room = min(float(has_room(crop, trace).mean()) for trace in traces.values())
        if room > most:
            best, most = crop, room
        if most >= ROOM:
            break
    assert best is not None
    return best
