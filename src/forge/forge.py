"""Turn photographs into a ForenSynths-style set of pairs: real crops and their fakes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import UserError
from ..files import sha256, write_bytes
from ..records import Result
from ..rng import keyed_short
from .crops import random_crop, read_photograph
from .families import get_family
from .families.family import STRIDE
from .generators import MARGIN, load_family, member_files, resynthesise, varied


@dataclass(frozen=True, eq=False, repr=False)
class Forged(Result):
    """What a forging run wrote: folder, families, pairs a family; facts: for the manifest.

    audit: how well trivial properties tell real from fake; None where it was not asked.
    """

    folder: Path
    families: tuple[str, ...]
    pairs: int
    facts: Mapping[str, Any]
    audit: pd.DataFrame | None = None


def png(image: np.ndarray) -> bytes:
    """Return uint8 (H, W, 3) as PNG bytes; real and fake of a pair are saved alike."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def forge(
    photographs: Sequence[Path],
    families: Sequence[str],
    out: Path,
    *,
    per_family: int = 100,
    side: int = 128,
    seed: int = 0,
    vary: float = 0.0,
    weights: Path | None = None,
    members: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Forged:
    """Write ``<family>/{0_real,1_fake}/<photograph>-<n>.png``, ``per_family`` pairs each.

    Photographs take turns, and so do the members of a family. Scale and position of a crop are
    keyed by seed, photograph and number, so that every family gets the same real crops, to the
    byte, and equal seeds give equal files.
    Real and fake share decode, rescale, crop and PNG encoder: only the network differs. Each image
    goes through the network alone, so that no neighbour in a batch changes a bit. Pairs that are
    there already are kept, so an interrupted run goes on where it stopped, and a later one adds
    families or pairs.

    Args:
        vary: make each fake with its own variation of the network, of a strength drawn from 0 to
            ``vary`` (see ``varied``); for training sets.
        weights: a folder of ``<family>.safetensors`` (``<family>-2`` …); by default the weights
            that the project ships. A variant, ``<family>--<name>``, is a family of one.
        members: let the first so many members of a family take turns; by default all do.
        progress: is told (pairs done, pairs in all, family).

    Raises:
        UserError: no photographs, an unknown family, missing weights, a photograph too small, a
            size that is no multiple of 4, or ``out`` holds crops of other settings.
    """
    if not photographs:
        raise UserError("there are no photographs to forge from")
    if side % STRIDE or side < STRIDE:
        raise UserError(f"the size must be a multiple of {STRIDE}; {side} is not")
    generators = {name: load_family(name, weights, members) for name in families}
    duplicates = {path.stem for path in photographs}
    if len(duplicates) < len(photographs):
        raise UserError("two photographs share a file name; their crops would overwrite each other")
    _claim(Path(out), photographs, side, seed, vary)
    total, done = per_family * len(families), 0
    for turn, path in enumerate(photographs):
        numbers = range(len(range(turn, per_family, len(photographs))))
        if not numbers:
            break
        photo = read_photograph(path)
        for number in numbers:
            name = f"{path.stem}-{number:03d}.png"
            crop = _crop(photo, path, side, seed, number)
            for family, networks in generators.items():
                # Members take turns over the crops of a photograph, and start at another each time.
                generator = networks[(turn + number) % len(networks)]
                real, fake = (out / family / kind / name for kind in ("0_real", "1_fake"))
                if not (real.is_file() and fake.is_file()):
                    source = crop
                    if generator is None:  # another crop: an identical pair would show nothing
                        source = _crop(photo, path, side, seed, number, "identity")
                    elif vary:
                        rng = keyed_short(seed, "vary", family, path.name, number)
                        generator = varied(generator, rng.uniform(0, vary), rng)
                    write_bytes(fake, png(_inside(resynthesise(generator, source), side)))
                    write_bytes(real, png(_inside(crop, side)))
                done += 1
                if progress is not None:
                    progress(done, total, family)
    facts = {"families": list(families), "pairs": per_family, "size": side, "seed": seed}
    facts |= {"vary": vary, "weights_sha256": _digests(families, weights, members)}
    return Forged(Path(out), tuple(families), per_family, facts)


def _digests(families: Sequence[str], weights: Path | None, members: int | None) -> dict[str, str]:
    return {
        path.name: sha256(path)
        for name in families
        if get_family(name).trained
        for path in member_files(name, weights, members)
    }


def _claim(out: Path, photographs: Sequence[Path], side: int, seed: int, vary: float) -> None:
    """Note what the crops in ``out`` are, and refuse to mix them with others."""
    names = "\n".join(sorted(path.name for path in photographs))
    digest = hashlib.sha256(names.encode()).hexdigest()
    claim = {"side": side, "seed": seed, "vary": vary, "photographs": digest}
    note = out / "forge.json"
    if note.is_file() and json.loads(note.read_text()) != claim:
        raise UserError(
            f"{out} holds crops of another size, seed or set of photographs; give another --out "
            "or delete it"
        )
    write_bytes(note, (json.dumps(claim, indent=2) + "\n").encode())


def _crop(
    photo: Image.Image, path: Path, side: int, seed: int, number: int, *salt: str
) -> np.ndarray:
    rng = keyed_short(seed, "forge", path.name, number, *salt)
    try:
        return np.asarray(random_crop(photo, side + 2 * MARGIN, rng))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _inside(image: np.ndarray, side: int) -> np.ndarray:
    return np.ascontiguousarray(image[MARGIN : MARGIN + side, MARGIN : MARGIN + side])
