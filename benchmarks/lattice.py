"""What takes the lattice of strided 1×1 convolutions out of ResNet-50's relevance, at what cost.

    python benchmarks/lattice.py --page docs/lattice.md

Photographs of the split are forged; a box of the fake is put into the real photograph, and the
splice counts where the detector calls it fake and the photograph real: the evidence is in the box,
which is half of the image (the detector averages over positions, and calls less of a fake real).
Measured of each candidate, with intervals by photograph: the lattice index of maps of whole fakes
(:func:`forensift.lrp.lattice.lattice_index`; 0 none, 1 nothing else), the share of positive
relevance in the box and the pointing game on splices, deletion and insertion on whole fakes (areas
under the probability of the decision, 8 × 8 cells, mean fill), and the time of a map, as a multiple
of beta0's in the same run. Every candidate is measured on validation photographs, those in FINAL,
which was chosen there, once on test photographs.
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
    "beta0, w² stem": "beta0,conv1=w2",
    "beta0, flat to layer1": f"beta0,{LOW}",
    "beta0, flat to layer1, γ above": f"beta0,{LOW},layer3.*=gamma,layer4.*=gamma",
    "beta0, spread, γ above": "beta0,spread,layer3.*=gamma,layer4.*=gamma",
    "epsilon-gamma-box": "epsilon-gamma-box",
    "epsilon-gamma-box, spread": "epsilon-gamma-box,spread",
}
SHIFTS = {"beta0, 4 shifts": 2}
FINAL = ("beta0, spread", "epsilon-gamma-box, spread")
DRAWN = ("beta0", "beta0, flat to layer1, γ above", "beta0, spread", "epsilon-gamma-box, spread")
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
        for path in sorted(root.glob("*/0_real/*.png"), key=_turn):  # photographs take turns
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


def _turn(path: Path) -> tuple[str, str]:
    photograph, number = path.stem.rsplit("-", 1)
    return number, photograph


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()


def runner(detector: Detector, name: str) -> Maps:
    """Return what makes the maps of a candidate."""
    lrp = LRP(detector, composite=COMPOSITES.get(name, "beta0"))
    if name in SHIFTS:
        return lambda batch: shift_averaged(lrp, batch, shifts=SHIFTS[name])
    return lambda batch: _signed(lrp(batch, layers=()).pixels)


def _signed(pixels: torch.Tensor | None) -> torch.Tensor:
    assert pixels is not None
    return pixels


def maps_of(detector: Detector, run: Maps, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the maps (N, H, W), summed over colour, and the processor seconds that they took."""
    found, spent = [], 0.0
    for part in torch.from_numpy(pixels).split(4):
        batch = detector.preset.normalise(part)
        begin = time.process_time()
        found.append(run(batch).double().sum(1).numpy())
        spent += time.process_time() - begin
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


def measure(detector: Detector, given: Pairs, name: str) -> pd.DataFrame:
    """Return one row an image; of beta0 also those of its blurred maps."""
    run = runner(detector, name)
    run(detector.preset.normalise(torch.from_numpy(given.fakes[:1])))  # the first call checks
    whole, first = maps_of(detector, run, given.fakes)
    splices, second = maps_of(detector, run, given.splices)
    kinds = {name: (whole, splices)}
    if name == "beta0":
        blurred = [np.stack([gaussian_filter(one, 8) for one in maps]) for maps in kinds[name]]
        kinds[BLURRED] = (blurred[0], blurred[1])
    tables = []
    for own, (of_fakes, of_splices) in kinds.items():
        table = in_box(of_splices, given.boxes)
        for period in PERIODS:
            table[f"lattice {period}"] = [lattice_index(one, period) for one in of_fakes]
        table = pd.concat([table, faithful(detector, given.fakes, of_fakes, given.names)], axis=1)
        table["seconds"] = (first + second) / (2 * len(of_fakes))
        tables.append(table.assign(candidate=own, image=given.names))
    print(f"· {name}: {first + second:.0f} s", flush=True)
    return pd.concat(tables, ignore_index=True)


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
    plain = table.loc[table["candidate"] == "beta0", "seconds"]
    base = float(plain.iloc[0]) if len(plain) else np.nan
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


def draw(path: Path, detector: Detector, given: Pairs, number: int = 3) -> None:
    """Draw the maps of a few fakes, a row an image, positive relevance to its 99th percentile."""
    import matplotlib.pyplot as plt

    fakes = given.fakes[:number]
    shown = {name: maps_of(detector, runner(detector, name), fakes)[0] for name in DRAWN}
    figure, axes = plt.subplots(
        number, len(shown) + 1, figsize=(2.2 * (len(shown) + 1), 2.35 * number), squeeze=False
    )
    for row in range(number):
        axes[row, 0].imshow(fakes[row].transpose(1, 2, 0))
        for axis, (name, maps) in zip(axes[row, 1:], shown.items(), strict=True):
            heat = np.maximum(maps[row], 0)
            axis.imshow(heat, cmap="inferno", vmin=0, vmax=np.percentile(heat, 99))
            if not row:
                axis.set_title(name, fontsize=9)
        for axis in axes[row]:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def page(tables: dict[str, pd.DataFrame], figure: str) -> str:
    """Return the page of both splits."""
    number = {split: len(table["image"].unique()) for split, table in tables.items()}
    texts = {**COMPOSITES, **{name: f"{n * n} rolls" for name, n in SHIFTS.items()}}
    named = pd.DataFrame({"candidate": texts.keys(), "`--composite`": texts.values()})
    parts = [
        TEXT.format(
            validation=number["validation"],
            test=number["test"],
            size=SIZE,
            steps=STEPS,
            final=" and ".join(f"`{COMPOSITES[one]}`" for one in FINAL),
            figure=figure,
        ),
        "## On validation photographs",
        "Percent; [ ] 95 % intervals drawn by photograph; time as a multiple of beta0's.",
        summary(tables["validation"]).to_markdown(index=False),
        "Less beta0 on the same image, in points:",
        gains(tables["validation"]).to_markdown(index=False),
        "## On test photographs, once",
        summary(tables["test"]).to_markdown(index=False),
        "Less beta0 on the same image, in points:",
        gains(tables["test"]).to_markdown(index=False),
        "## The candidates",
        named.to_markdown(index=False),
    ]
    return "\n\n".join(parts) + "\n"


TEXT = """# The lattice of ResNet-50, and what takes it out

Made by `python benchmarks/lattice.py --page docs/lattice.md`.

The shortcuts of ResNet-50 that halve the map are 1×1 convolutions of stride 2: they read every
second position. Three of them, below the two halvings of the stem, leave one pixel in 32 in each
direction that lies on every path, and relevance that goes down the shortcuts gathers there: β = 0
draws dots 32 pixels apart, on any image.

`spread` treats such a convolution as if a triangle as wide as its stride had averaged |x| before it
read: R_in = |x| · kᵀ(R ⊘ k ∗ |x|). It is still one pass, each layer keeps its sum, the relevance of
convolutions below changes with it, and a network without such convolutions is explained as before.
It is no part of any published rule, and what the network computes is not changed: positions between
do get relevance for which the network did not read them there, as their neighbours' stand-ins. The
alternative that claims less, to average the explanations of shifted images, is
`forensift.lrp.lattice.shift_averaged`.

![maps]({figure})

*Whole fakes of test photographs; positive relevance to its 99th percentile.*

What is measured, on {validation} pairs of validation photographs and {test} of test photographs
({size} × {size}, `progan-like` and `sngan-like`): the **lattice index**, the share of a map's
variance that repeats every 32 (16, 8) pixels, less what chance gives (by Parseval the share of
spectral energy at multiples of 1/32 cycles a pixel); on splices (a box of the fake in the
photograph, called fake where the photograph is not) the **share** of positive relevance **in the
box** and the **pointing** game; on whole fakes **deletion** and **insertion** (areas in {steps}
steps, squares of 8 pixels, mean colour); and the processor time. The box is half of the image: this
detector averages over positions and calls less of a fake real. `planted` cannot stand in, for its
small networks have no such convolution.

{final} were chosen on the validation photographs and judged on the test photographs. On a ResNet
`epsilon-gamma-box,spread` has the best map of all: no lattice, and of the two the better
deletion. It needs a convolution that reads the pixels themselves, which NPR has not, and has
been measured on this detector alone; what `explain` draws if nothing is said is therefore
`beta0,spread`: the published rules without the lattice, for every network, in one pass. Flat or w²
rules at the stem leave the lattice where it is, for it is made above them; γ thins it; four shifts
move it to 16 pixels. The price of `beta0,spread` is deletion, which the published rules win;
insertion gains more. `--composite beta0` gives the published arrays; `rank`, `patches`, `planted`
and `faithfulness` use these unless told otherwise."""


def measured(
    detector: Detector, split: str, number: int, names: list[str], kept: Path
) -> tuple[Pairs, pd.DataFrame]:
    """Return the pairs of a split and the table of the candidates, read where they are kept."""
    folder = kept / split
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pairs.npz").is_file():
        found = pairs(detector, split, number, 0)
        np.savez_compressed(folder / "pairs.npz", **vars(found))
    with np.load(folder / "pairs.npz") as read:
        given = Pairs(read["fakes"], read["splices"], read["boxes"], read["names"].tolist())
    tables = []
    for name in names:
        file = folder / f"{name}.csv"
        if not file.is_file():
            measure(detector, given, name).to_csv(file, index=False)
        tables.append(pd.read_csv(file))
    return given, pd.concat(tables, ignore_index=True)


def main() -> None:
    """Measure, print the page, and write it where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kept = "folder of what is measured; what is there is not measured again"
    every = ["beta0", *(one for one in (*COMPOSITES, *SHIFTS) if one != "beta0")]
    parser.add_argument("--kept", type=Path, default=Path("output/lattice"), help=kept)
    parser.add_argument("--validation", type=int, default=12, help="pairs that all are judged on")
    parser.add_argument("--test", type=int, default=12, help="pairs that FINAL is judged on")
    parser.add_argument("--only", action="append", metavar="CANDIDATE", choices=every,
                        help="measure this one on validation pairs and stop")  # fmt: skip
    parser.add_argument("--page", type=Path, help="Markdown, and its figure beside it")
    asked = parser.parse_args()
    detector = load_detector("resnet50")
    _, chosen_on = measured(detector, "validation", asked.validation, asked.only or every,
                            asked.kept)  # fmt: skip
    if asked.only:
        print(summary(chosen_on).to_markdown(index=False))
        return
    given, judged_on = measured(detector, "test", asked.test, ["beta0", *FINAL], asked.kept)
    figure = (asked.page or asked.kept / "lattice").with_suffix(".png")
    draw(figure, detector, given)
    text = page({"validation": chosen_on, "test": judged_on}, figure.name)
    print(text)
    if asked.page:
        asked.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
