"""Ground truth: plant a known trace, train a detector on it, and see whether it is found again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ...data import photographs, read_image, scan
from ...data.photos import photograph_names
from ...detectors import Detector
from ...errors import UserError
from ...fmap_ranking import rank
from ...forge.planted import Trace, forge_planted
from ...records import FAKE, ImageSet, Result
from ...sweep import How
from ...training.small import train_small
from ...views import View
from .localisation import METHODS
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


@dataclass(frozen=True, eq=False, repr=False)
class Planted(Result):
    """All measurements of the study; each table has a column ``trace`` in front.

    verdicts: ``ground_truth.csv``, what was asked and measured; see :class:`Verdict`.
    localisation: per method, see :func:`localisation_table`; boxes only.
    colour: per map of the top ``colour_k``, the table of the median test, on the fakes and (column
        ``images``) on their twins, the same crops without the trace.
    dropout: per chosen k (column ``aim``) and mask, accuracies at 0.5, AP and mean logits with
        intervals over photographs.
    along_k: see :func:`along_k`; on validation images, which k is chosen by, and on test images.
    history: loss of each training.
    """

    verdicts: pd.DataFrame
    localisation: pd.DataFrame
    colour: pd.DataFrame
    dropout: pd.DataFrame
    along_k: pd.DataFrame
    history: pd.DataFrame
    facts: Mapping[str, Any]
    examples: tuple[Example, ...] = ()

    def view(self) -> View:
        """Return what was asked and measured, and three figures."""
        from .page import view

        return view(self)


def planted(
    out: Path,
    traces: Mapping[str, Trace] | None = None,
    *,
    pairs: int = 800,
    held_out: int = 120,
    side: int = 64,
    steps: int = 400,
    colour_k: int = 12,
    draws: int = 20,
    composite: str = "beta0",
    say: Say = print,
    **how: Unpack[How],
) -> Planted:
    """Plant each trace, train a small detector on it, and look for it with the workbench.

    Crops of the training photographs train the detector; those of the validation photographs are
    ranked on and choose k; those of the test photographs are measured.

    Args:
        out: where the images go, and their truth.
        traces: name → trace; by default :func:`default_traces`.
        pairs: for training; held_out: for validation and for test, each.
        side: pixels of an image; steps: of training; colour_k: maps in the median test.
        draws: of each random control of the dropout. composite: the rules of LRP.

    Raises:
        UserError: no ranking is possible because a detector did not learn its trace.
    """
    traces = default_traces() if traces is None else traces
    started, processor = time.monotonic(), time.process_time()
    how = {"seed": 0, **how, "batch_size": BATCH}
    seed = how["seed"]
    sets = _planted_sets(Path(out), traces, pairs, held_out, side, seed, say)
    truth = pd.read_csv(Path(out) / "images" / "test" / "truth.csv").set_index("path")
    parts: dict[str, list[pd.DataFrame]] = {}
    ks: dict[str, dict[str, int]] = {}
    examples: list[Example] = []
    for name, trace in traces.items():
        say(f"{name}: training")
        own = {key: images.only(generator=name) for key, images in sets.items()}
        detector, history = train_small(own["train"], side=side, steps=steps, seed=seed, name=name)
        tables, ks[name], maps = _looked_for(
            detector, own, truth, colour_k, draws, composite, say, how
        )
        tables["history"] = history
        if trace.box is None:
            del tables["localisation"]
        for key, table in tables.items():
            table.insert(0, "trace", name)
            parts.setdefault(key, []).append(table)
        examples += _examples(name, own["test"], truth, maps)
    tables = {key: pd.concat(found, ignore_index=True) for key, found in parts.items()}
    tables.setdefault("localisation", pd.DataFrame({"trace": []}))
    rows: list[Verdict] = []
    for name, trace in traces.items():
        rows += verdicts(
            name, trace, {key: table[table["trace"] == name] for key, table in tables.items()}
        )
    judged = pd.DataFrame(rows)
    facts: dict[str, Any] = {
        "traces": {name: vars(trace) for name, trace in traces.items()},
        "k": ks,
        "colour_k": colour_k,
        "pairs": pairs,
        "held_out": held_out,
        "side": side,
        "steps": steps,
        "draws": draws,
        "composite": composite,
        "seed": seed,
        "feature_maps": len(detector.feature_maps),
        "carried": {n: float(g["carried"].mean()) for n, g in truth.groupby("generator")},
        "image_set_sha256": {name: images.hash() for name, images in sets.items()},
        "found": int(judged["found"].sum()),
        "asked": len(judged),
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }
    return Planted(verdicts=judged, **tables, facts=facts, examples=tuple(examples))


def _planted_sets(
    out: Path,
    traces: Mapping[str, Trace],
    pairs: int,
    held_out: int,
    side: int,
    seed: int,
    say: Say,
) -> dict[str, ImageSet]:
    sets = {}
    for name in SETS:
        number = pairs if name == "train" else held_out
        traced = "a trace" if len(traces) == 1 else f"{len(traces)} traces"
        say(f"planting {traced} in {number} crops, {name}")
        folder = out / "images" / name
        forge_planted(photographs(name), traces, folder, pairs=number, side=side, seed=seed)  # type: ignore[arg-type]
        sets[name] = scan(folder)
    return sets


def _looked_for(
    detector: Detector,
    own: Mapping[str, ImageSet],
    truth: pd.DataFrame,
    colour_k: int,
    draws: int,
    composite: str,
    say: Say,
    how: How,
) -> tuple[dict[str, pd.DataFrame], dict[str, int], dict[str, np.ndarray]]:
    """Return the tables of one trace, k by aim, and the methods' maps of the test fakes."""
    seed = how["seed"]
    try:
        ranking = rank(detector, own["validation"], composite=composite, **how)
    except UserError as error:
        why = str(error).split("; ")[0].removeprefix(f"{detector.name}: ")
        raise UserError(
            f"{detector.name}: the detector did not learn its trace: {why}; take more steps"
        ) from None
    along = along_k(detector, own["validation"], ranking)
    ks = choice_of_k(along)
    said = " and ".join(str(k) for k in dict.fromkeys(ks.values()))
    say(f"{detector.name}: dropping {said} of {len(detector.feature_maps)} maps")
    both = {"validation": along, "test": along_k(detector, own["test"], ranking)}
    drops = [
        dropped(detector, own["test"], ranking, k, draws, seed).assign(aim=aim)
        for aim, k in ks.items()
    ]
    maps, in_boxes = localised(detector, own["test"], truth, seed, composite)
    tables = {
        "along_k": pd.concat([one.assign(images=name) for name, one in both.items()]),
        "dropout": pd.concat(drops),
        "colour": colour_tests(detector, own["test"], ranking, colour_k, seed),
        "localisation": in_boxes,
    }
    return tables, ks, maps


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
        own = {key: maps[key][at] for key in METHODS}
        fake = np.asarray(read_image(entry.path))
        found.append(Example(name, real, fake, own, (left, top_, right, bottom)))
    return found
