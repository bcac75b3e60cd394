"""Time of every ranking relative to ω, and how nearly paths of so many steps are complete.

    python benchmarks/rankings.py [--detector resnet50] [--pairs 12] [--maps 20]

Pairs of the first validation photographs and their progan-like fakes. Time is of the processor. A
path is complete where the conductances of the first layer sum to the difference of the logits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import forensift as ff
from forensift.fmap_ranking.by import LOOKS
from forensift.fmap_ranking.path import CONDUCTANCE, path_effects
from forensift.records import FAKE, REAL, ImageSet


def made(folder: Path, pairs: int) -> ImageSet:
    photographs = ff.photographs("validation")
    each = -(-pairs // len(photographs))
    ff.forge(photographs, ["progan-like"], folder, per_family=each * len(photographs), side=128)
    images = ff.scan(folder)
    stems = sorted({one.path.stem for one in images}, key=lambda stem: stem[::-1])[:pairs]
    kept = tuple(one for one in images if one.path.stem in stems)
    return ImageSet(images.root, kept, images.layout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="resnet50")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--maps", type=int, default=20)
    options = parser.parse_args()
    detector = ff.load_detector(options.detector)
    with tempfile.TemporaryDirectory() as folder:
        images = made(Path(folder), options.pairs)
        plain = 0.0
        for name in ("omega", *LOOKS, "single"):
            since = time.process_time()
            ff.rank(detector, images, by=name, min_confidence=0.5, maps=options.maps)
            spent = time.process_time() - since
            plain = plain or spent
            measured = f", {options.maps} maps measured" if name == "single" else ""
            print(f"{name:20} {spent:6.1f} s {spent / plain:6.2f} × ω{measured}", flush=True)
        first, width = next(iter(detector.layers.items()))
        few = [images.only(label=label)[:4] for label in (REAL, FAKE)]
        start, end = (detector.batch(part) for part in few)
        with torch.no_grad():
            logits = [detector.decide(detector.network(one).flatten(1)) for one in (start, end)]
        moved = (logits[1] - logits[0]).double().cpu().numpy()
        for steps in (8, 16, 64):
            found = path_effects(detector, start, end, [CONDUCTANCE], steps)[CONDUCTANCE]
            off = np.abs(found[:, :width].sum(axis=1) / moved - 1).max()
            print(f"{steps:3} steps: sums of {first} are off by {100 * off:.2f} % at most")


if __name__ == "__main__":
    main()
