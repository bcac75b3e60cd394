"""Ground truth: plant a known trace, train a detector on it, and see whether it is found again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ...data import photographs, read_image, scan
from ...data.photos import photograph_names
from ...files import write_csv, write_manifest, write_with
from ...fmap_ranking import rank, save_ranking
from ...forge.planted import Trace, forge_planted
from ...records import FAKE, ImageSet
from ...training.small import train_small
from .localisation import ATTRIBUTIONS
from .parts import (
    BATCH,
    along_k,
    choice_of_k,
    colour_tests,
    dropped,
    localised,
)
from .verdicts import Verdict, verdicts

Say = Callable[[str], None]

EXAMPLES = 3  # images kept for the figure
SETS = ("train", "validation", "test")


def default_traces(period: int = 2, strength: int = 8) -> dict[str, Trace]:
    """Return the four traces of the study: luma and chroma, everywhere and in a random box.

    The box has half the side of the image, a quarter of its area.
    """
    return {
        f"{mode}-{place}": Trace(mode, period, strength, box)  # type: ignore[arg-type]
        for mode in ("luma", "chroma")
        for place, box in (("whole", None), ("box", 0.5))
    }


@dataclass(frozen=True)
class Example:
    """What the figure shows of one image: uint8 (H, W, 3) twice, and maps float64 (H, W)."""

    trace: str
    real: np.ndarray
    fake: np.ndarray
    maps: dict[str, np.ndarray]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class PlantedStudy:
    """All tables of the study; each has a column ``trace`` in front.

    verdicts: ``ground_truth.csv``, what was asked and measured; see :class:`Verdict`.
    localisation: per attribution, see :func:`localisation_table`; boxes only.
    colour: per map of the top ``colour_k``, the table of the median test, on the fakes and (column
        ``images``) on their twins, the same crops without the trace.
    dropout: per chosen k (column ``aim``) and mask, accuracies at 0.5, AP and mean logits with
        intervals over photographs.
    along_k: see :func:`along_k`; on validation images, which k is chosen by, and on test images.
    history: loss of each training.
    """

    folder: Path
    verdicts: pd.DataFrame
    localisation: pd.DataFrame
    colour: pd.DataFrame
    dropout: pd.DataFrame
    along_k: pd.DataFrame
    history: pd.DataFrame
    facts: dict[str, object]
    examples: list[Example] = field(default_factory=list)


def planted_study(
    out: Path,
    traces: Mapping[str, Trace] | None = None,
    *,
    pairs: int = 800,
    held_out: int = 120,
    side: int = 64,
    steps: int = 400,
    colour_k: int = 12,
    draws: int = 20,
    seed: int = 0,
    say: Say = print,
) -> PlantedStudy:
    """Plant each trace, train a small detector on it, look for it with the workbench; save tables.

    Crops of the training photographs train the detector; those of the validation photographs are
    ranked on and choose k; those of the test photographs are measured.

    Args:
        traces: name → trace; by default :func:`default_traces`.
        pairs: for training; held_out: for validation and for test, each.
        side: pixels of an image; steps: of training; colour_k: maps in the median test.
        draws: of each random control of the dropout.

    Raises:
        UserError: no ranking is possible because a detector did not learn its trace.
    """
    traces = default_traces() if traces is None else traces
    started, processor = time.monotonic(), time.process_time()
    out = Path(out)
    sets: dict[str, ImageSet] = {}
    for name in SETS:
        number = pairs if name == "train" else held_out
        say(f"planting {len(traces)} traces in {number} crops, {name}")
        forge_planted(
            photographs(name),  # type: ignore[arg-type]
            traces, out / "images" / name, pairs=number, side=side, seed=seed,
        )  # fmt: skip
        sets[name] = scan(out / "images" / name)
    truth = pd.read_csv(out / "images" / "test" / "truth.csv").set_index("path")
    parts: dict[str, list[pd.DataFrame]] = {}
    chosen_k: dict[str, dict[str, int]] = {}
    examples: list[Example] = []
    for name, trace in traces.items():
        say(f"{name}: training")
        own = {key: images.only(generator=name) for key, images in sets.items()}
        detector, history = train_small(own["train"], side=side, steps=steps, seed=seed, name=name)
        ranking = rank(detector, own["validation"], batch_size=BATCH, seed=seed)
        save_ranking(ranking, out / name / f"{name}-fake.csv")
        along = along_k(detector, own["validation"], ranking)
        ks = choice_of_k(along)
        chosen_k[name] = ks
        said = " and ".join(str(k) for k in dict.fromkeys(ks.values()))
        say(f"{name}: dropping {said} of {len(detector.feature_maps)} maps")
        tables = {
            "history": history,
            "along_k": pd.concat(
                [
                    along.assign(images="validation"),
                    along_k(detector, own["test"], ranking).assign(images="test"),
                ],
                ignore_index=True,
            ),
            "dropout": pd.concat(
                [
                    dropped(detector, own["test"], ranking, k, draws, seed).assign(aim=aim)
                    for aim, k in ks.items()
                ],
                ignore_index=True,
            ),
            "colour": colour_tests(detector, own["test"], ranking, colour_k, seed),
        }
        maps, in_boxes = localised(detector, own["test"], truth, seed)
        if trace.box is not None:
            tables["localisation"] = in_boxes
        for key, table in tables.items():
            table.insert(0, "trace", name)
            parts.setdefault(key, []).append(table)
        examples += _examples(name, own["test"], truth, maps)
    tables = {key: pd.concat(found, ignore_index=True) for key, found in parts.items()}
    tables.setdefault("localisation", pd.DataFrame({"trace": []}))
    rows: list[Verdict] = []
    for name, trace in traces.items():
        own_tables = {key: table[table["trace"] == name] for key, table in tables.items()}
        rows += verdicts(name, trace, own_tables)
    tables["ground_truth"] = pd.DataFrame(rows)
    for key, table in tables.items():
        write_csv(out / f"{key}.csv", table)
    facts: dict[str, object] = {
        "traces": {name: vars(trace) for name, trace in traces.items()},
        "k": chosen_k,
        "colour_k": colour_k,
        "pairs": pairs,
        "held_out": held_out,
        "side": side,
        "steps": steps,
        "draws": draws,
        "seed": seed,
        "feature_maps": len(detector.feature_maps),
        "carried": {n: float(g["carried"].mean()) for n, g in truth.groupby("generator")},
        "image_set_sha256": {name: images.hash() for name, images in sets.items()},
        "found": int(tables["ground_truth"]["found"].sum()),
        "asked": len(tables["ground_truth"]),
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }
    _save_examples(out, examples)
    write_manifest(out, facts)
    return PlantedStudy(
        folder=out,
        verdicts=tables["ground_truth"],
        localisation=tables["localisation"],
        colour=tables["colour"],
        dropout=tables["dropout"],
        along_k=tables["along_k"],
        history=tables["history"],
        facts=facts,
        examples=examples,
    )


def _examples(
    name: str, images: ImageSet, truth: pd.DataFrame, maps: Mapping[str, np.ndarray]
) -> list[Example]:
    """Return crops of different photographs: fakes with their real neighbours."""
    fakes = images.only(label=FAKE)
    names = photograph_names(entry.path for entry in fakes).tolist()
    first = [names.index(photo) for photo in dict.fromkeys(names)]
    found = []
    for at in first[:: max(1, len(first) // EXAMPLES)][:EXAMPLES]:
        entry = fakes.entries[at]
        row = truth.loc[images.image_id(entry), ["left", "top", "right", "bottom"]]
        left, top_, right, bottom = (int(value) for value in row)
        real = np.asarray(read_image(entry.path.parents[1] / "0_real" / entry.path.name))
        own = {key: maps[key][at] for key in ATTRIBUTIONS}
        fake = np.asarray(read_image(entry.path))
        found.append(Example(name, real, fake, own, (left, top_, right, bottom)))
    return found


def _save_examples(out: Path, examples: Sequence[Example]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, one in enumerate(examples):
        key = f"{number}-{one.trace}"
        arrays |= {f"{key}/real": one.real, f"{key}/fake": one.fake}
        arrays |= {f"{key}/{name}": values for name, values in one.maps.items()}
        arrays[f"{key}/box"] = np.array(one.box)

    def fill(path: Path) -> None:
        with path.open("wb") as opened:
            np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]

    write_with(out / "examples.npz", fill)
