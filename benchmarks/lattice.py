"""What takes the lattice of strided 1×1 convolutions out of ResNet-50's relevance, at what cost.

    python benchmarks/lattice.py --split validation [--pairs 24] [--figure F.png] [--page F.md]

Photographs of the split are forged; a box of the fake is put into the real photograph, and the
splice counts where the detector calls it fake and the photograph real: the evidence is in the box,
which is half of the image (the detector averages over positions, and calls less of a fake real).
Measured of each candidate, with intervals by photograph: the lattice index of maps of whole fakes
(:func:`forensift.lrp.lattice.lattice_index`; 0 none, 1 nothing else), the share of positive
relevance in the box and the pointing game on splices, deletion and insertion on whole fakes (areas
under the probability of the decision, 8 × 8 cells, mean fill), and the time of a map, as a multiple
of beta0's in the same run. ``--only`` judges chosen candidates, as the test split does once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import forensift  # noqa: F401  (makes torchvision importable beside a torch it does not fit)
from forensift.data import photographs
from forensift.data.photos import photograph_names
from forensift.detectors import Detector, load_detector
from forensift.evaluation import cluster_mean, sigmoid
from forensift.explain.perturbation import area, cell_sums, curves, falling, filled
from forensift.forge import forge
from forensift.lrp import LRP
from forensift.lrp.lattice import PERIODS, lattice_index, shift_averaged
from forensift.rng import keyed
from forensift.studies.planted.localisation import in_box

SIZE, STEPS = 224, 5
FAMILIES = ("progan-like", "sngan-like")
LOW = "conv1=flat,layer1.*=flat"
COMPOSITES = {  # candidates of one pass each
    "beta0": "beta0",
    "beta0, spread": "beta0,spread",
    "beta0, flat stem": "beta0,conv1=flat",
    "beta0, w² stem": "beta0,conv1=w2",
    "beta0, flat to layer1": f"beta0,{LOW}",
    "beta0, flat to layer1, γ above": f"beta0,{LOW},layer3.*=gamma,layer4.*=gamma",
    "beta0, spread, flat stem": "beta0,spread,conv1=flat",
    "beta0, spread, γ above": "beta0,spread,layer3.*=gamma,layer4.*=gamma",
    "epsilon-plus-flat": "epsilon-plus-flat",
    "epsilon-gamma-box": "epsilon-gamma-box",
    "epsilon-gamma-box, spread": "epsilon-gamma-box,spread",
    "alpha2-beta1-flat": "alpha2-beta1-flat",
}
SHIFTS = {"beta0, 4 shifts": 2, "beta0, 16 shifts": 4}
BLURRED = "beta0, Gaussian σ = 8"  # not an explanation: what a plain blur of the map buys
Maps = Callable[[torch.Tensor], torch.Tensor]  # images → (N, 3, H, W)


@dataclass(frozen=True)
class Pairs:
    """Whole fakes and splices, uint8 (N, 3, H, W), the splices' boxes (N, 4), and their names."""

    fakes: np.ndarray
    splices: np.ndarray
    boxes: np.ndarray
    names: list[str]


def pairs(detector: Detector, split: str, number: int, seed: int) -> Pairs:
    """Return pairs that the detector decides as the truth has it, in turns of the families."""
    found: list[tuple[np.ndarray, np.ndarray, tuple[int, ...], str]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        forge(photographs(split), FAMILIES, root, per_family=2 * number + 6, side=SIZE, seed=seed)
        kept = dict.fromkeys(FAMILIES, 0)
        for path in sorted(root.glob("*/0_real/*.png")):
            family = path.parts[-3]
            if kept[family] == -(-number // len(FAMILIES)):
                continue
            real, fake = (_pixels(root / family / kind / path.name) for kind in
                          ("0_real", "1_fake"))  # fmt: skip
            rng = keyed(seed, family, path.name, "box")
            side = int(rng.integers(144, 169))
            left, top = (int(rng.integers(0, SIZE - side + 1)) for _ in range(2))
            splice = real.copy()
            part = np.s_[:, top : top + side, left : left + side]
            splice[part] = fake[part]
            logits = detector.logits(torch.from_numpy(np.stack([real, fake, splice])))
            if logits[0] < 0 < min(logits[1], logits[2]):
                kept[family] += 1
                found.append((fake, splice, (left, top, left + side, top + side), path.name))
    fakes, splices, boxes, names = zip(*found, strict=True)
    print(f"{split}: {kept} splices that are called fake, of photographs that are called real")
    return Pairs(np.stack(fakes), np.stack(splices), np.array(boxes), list(names))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()


def candidates(detector: Detector, only: list[str]) -> dict[str, Maps]:
    """Return what makes the maps of each candidate."""

    def one(composite: str) -> Maps:
        lrp = LRP(detector, composite=composite)
        return lambda batch: _signed(lrp(batch, layers=()).pixels)

    plain = LRP(detector)
    made: dict[str, Maps] = {name: one(text) for name, text in COMPOSITES.items()}
    for name, shifts in SHIFTS.items():
        made[name] = lambda batch, shifts=shifts: shift_averaged(plain, batch, shifts=shifts)  # type: ignore[misc]
    return {name: run for name, run in made.items() if not only or name in only}


def _signed(pixels: torch.Tensor | None) -> torch.Tensor:
    assert pixels is not None
    return pixels


def maps_of(detector: Detector, run: Maps, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the maps (N, H, W), summed over colour, and the seconds that they took."""
    found, spent = [], 0.0
    for part in torch.from_numpy(pixels).split(4):
        batch = detector.preset.normalise(part)
        begin = time.perf_counter()
        found.append(run(batch).double().sum(1).numpy())
        spent += time.perf_counter() - begin
    return np.concatenate(found), spent


def faithful(
    detector: Detector, pixels: np.ndarray, maps: np.ndarray, names: list[str]
) -> pd.DataFrame:
    """Return deletion and insertion, the areas under the probability of 'fake', of each image."""
    fractions = np.linspace(0, 1, STEPS + 1)

    def score(many: np.ndarray) -> np.ndarray:
        return sigmoid(detector.logits(torch.from_numpy(many)).numpy().astype(np.float64))

    rows = []
    for image, own, name in zip(pixels, maps, names, strict=True):
        order = falling(cell_sums(own, 8), keyed(0, name, "order"))
        found = curves(image, order, score, fractions, cell=8, fill=filled(image, "mean"))
        rows.append({kind: area(fractions, values) for kind, values in found.items()})
    return pd.DataFrame(rows)


def measure(
    detector: Detector, given: Pairs, only: list[str]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return one row a candidate and image, and the maps of the whole fakes."""
    tables, shown = [], {}
    runs = candidates(detector, only)
    for run in runs.values():
        run(detector.preset.normalise(torch.from_numpy(given.fakes[:1])))  # the first call checks
    for name, run in runs.items():
        whole, first = maps_of(detector, run, given.fakes)
        splices, second = maps_of(detector, run, given.splices)
        kinds = {name: (whole, splices)}
        if name == "beta0":
            kinds[BLURRED] = tuple(  # type: ignore[assignment]
                np.stack([gaussian_filter(one, 8) for one in maps]) for maps in (whole, splices)
            )
        for own, (of_fakes, of_splices) in kinds.items():
            table = in_box(of_splices, given.boxes)
            for period in PERIODS:
                table[f"lattice {period}"] = [lattice_index(one, period) for one in of_fakes]
            table = pd.concat(
                [table, faithful(detector, given.fakes, of_fakes, given.names)], axis=1
            )
            table["seconds"] = (first + second) / (2 * len(of_fakes))
            tables.append(table.assign(candidate=own, image=given.names))
            shown[own] = of_fakes
        print(f"· {name}: {first + second:.0f} s", flush=True)
    return pd.concat(tables, ignore_index=True), shown


MEASURES = {  # column → heading, least, most
    "lattice 32": ("lattice, 32 px", -1.0, 1.0), "lattice 16": ("16 px", -1.0, 1.0),
    "lattice 8": ("8 px", -1.0, 1.0), "share": ("share in the box", 0.0, 1.0),
    "hit": ("pointing", 0.0, 1.0), "area": ("area of the box", 0.0, 1.0),
    "deletion": ("deletion ↓", 0.0, 1.0),
    "insertion": ("insertion ↑", 0.0, 1.0),
}  # fmt: skip


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means with intervals by photograph, percent, and time against beta0."""
    rows = []
    base = float(table.loc[table["candidate"] == "beta0", "seconds"].iloc[0])
    for name, own in table.groupby("candidate", sort=False):
        row: dict[str, str] = {"candidate": str(name)}
        clusters = photograph_names(own["image"])
        for column, (heading, least, most) in MEASURES.items():
            mean, low, high = cluster_mean(own[column].to_numpy(), clusters, least=least, most=most)
            row[heading] = f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        row["time"] = f"{own['seconds'].iloc[0] / base:.1f} ×"
        rows.append(row)
    return pd.DataFrame(rows)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return each candidate less beta0 on the same image, points, intervals by photograph."""
    rows = []
    wide = {name: own.set_index("image") for name, own in table.groupby("candidate", sort=False)}
    base = wide["beta0"]
    for name, own in wide.items():
        if name == "beta0":
            continue
        row: dict[str, str] = {"candidate": str(name)}
        for column, (heading, _, _) in MEASURES.items():
            if column == "area":
                continue
            values = (own[column] - base[column]).to_numpy()
            mean, low, high = cluster_mean(
                values, photograph_names(own.index), least=-2.0, most=2.0
            )
            row[heading] = f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        rows.append(row)
    return pd.DataFrame(rows)


def draw(path: Path, given: Pairs, shown: dict[str, np.ndarray], number: int = 3) -> None:
    """Draw the maps of a few fakes, a row an image, positive relevance to its 99th percentile."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        number, len(shown) + 1, figsize=(2.2 * (len(shown) + 1), 2.35 * number), squeeze=False
    )
    for row in range(number):
        axes[row, 0].imshow(given.fakes[row].transpose(1, 2, 0))
        for axis, (name, maps) in zip(axes[row, 1:], shown.items(), strict=True):
            heat = np.maximum(maps[row], 0)
            axis.imshow(heat, cmap="inferno", vmin=0, vmax=np.percentile(heat, 99))
            if not row:
                axis.set_title(name, fontsize=7)
        for axis in axes[row]:
            axis.set_xticks([]), axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure, print the tables, and write what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=["train", "validation", "test"], default="validation")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], metavar="CANDIDATE")
    parser.add_argument("--csv", type=Path, help="one row a candidate and image")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    detector = load_detector("resnet50")
    given = pairs(detector, asked.split, asked.pairs, asked.seed)
    table, shown = measure(detector, given, asked.only and ["beta0", *asked.only])
    if asked.csv:
        table.to_csv(asked.csv, index=False)
    print(summary(table).to_markdown(index=False))
    print()
    print(gains(table).to_markdown(index=False))
    if asked.figure:
        draw(asked.figure, given, shown)


if __name__ == "__main__":
    main()
