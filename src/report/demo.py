"""The study of the embedded default: photographs → fakes → scores → ω → dropout → figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data import photographs, scan
from ..detectors import Detector, load_detector
from ..errors import UserError
from ..evaluation import evaluate, score
from ..figures import plot_ap_curve, plot_dropout, plot_omega, save
from ..files import write_csv, write_manifest, write_with
from ..fmap_ranking import rank, save_ranking
from ..forge import TRAINED, forge
from ..records import FAKE, REAL, ImageSet, Ranking
from ..sensitivity import PUBLISHED_K, DropoutResult, dropout, sentence

TRAINING_FAMILY = "progan-like"
DETECTORS = ("resnet50", "efficientnet-b0", "npr")
BATCH = 32
# Beside the published k, the largest k tried that leaves the reals' accuracy within 5 points on the
# validation photographs (docs/training.md): these maps blind the detector without damaging it.
OWN_K = {"resnet50": 200, "efficientnet-b0": 10}

# One line of progress: what is being done, and to what.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """One detector's part: its evaluation, its rankings and, where k is known, its dropout."""

    name: str
    evaluation: pd.DataFrame
    rankings: dict[str, Ranking]
    dropouts: dict[int, DropoutResult]
    sentences: dict[int, str]


@dataclass(frozen=True)
class Demo:
    """All of it, and how long each stage took in seconds."""

    folder: Path
    studies: tuple[Study, ...]
    families: tuple[str, ...]
    facts: dict[str, object]
    seconds: dict[str, float]


def demo(
    out: Path,
    *,
    detectors: Sequence[str] = DETECTORS,
    per_family: int = 36,
    side: int = 128,
    ks: Sequence[int] = (),
    draws: int = 20,
    seed: int = 0,
    device: str = "cpu",
    say: Say = print,
) -> Demo:
    """Run the whole study on photographs that no training saw, and save tables and figures.

    The *test* photographs are forged into every family for evaluation and dropout; ω is ranked on
    the training family's fakes of the *validation* photographs, so that no image is used for both.

    Args:
        detectors: whose weights the project ships; feature maps are dropped where k is published.
        per_family: pairs of real and fake a family; side: pixels of an image.
        ks: further numbers of maps to drop beside the published one.
        draws: of each random control.

    Raises:
        UserError: weights or photographs are missing, or ``out`` holds other crops.
    """
    started = time.monotonic()
    seconds: dict[str, float] = {}

    def lap(stage: str, since: float) -> None:
        seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - since, 1)

    loaded = [load_detector(name, device=device) for name in detectors]
    say(f"forging {per_family} pairs a family from held-out photographs: {', '.join(TRAINED)}")
    since = time.monotonic()
    test = _forged(out / "images" / "test", "test", TRAINED, per_family, side, seed)
    ranked = _forged(
        out / "images" / "rank", "validation", (TRAINING_FAMILY,), per_family, side, seed
    )
    lap("forge", since)
    studies = []
    for detector in loaded:
        folder = out / detector.name
        say(f"{detector.name}: scoring {len(test)} images")
        since = time.monotonic()
        scores = score(detector, test, batch_size=BATCH, seed=seed)
        table = evaluate(scores, seed=seed, clusters=_photographs(scores))
        write_csv(folder / "scores.csv", scores)
        write_csv(folder / "evaluation.csv", table)
        lap("evaluate", since)
        since = time.monotonic()
        say(f"{detector.name}: LRP on {len(ranked)} images for the ranking")
        rankings = _rankings(detector, ranked, folder, seed, say)
        lap("rank", since)
        since = time.monotonic()
        dropouts: dict[int, DropoutResult] = {}
        most = len(detector.feature_maps) // 2  # random maps must lie outside the top k
        own = (PUBLISHED_K.get(detector.name), OWN_K.get(detector.name), *ks)
        asked = [k for k in own if k and "fake" in rankings]
        for k in dict.fromkeys(asked):
            say(f"{detector.name}: dropping {k} of {len(detector.feature_maps)} feature maps")
            dropouts[k] = dropout(
                detector,
                test,
                rankings["fake"],
                k,
                draws=draws,
                training_family=TRAINING_FAMILY,
                held_out=ranked,
                batch_size=BATCH,
                seed=seed,
                ks=(k // 4, k, 4 * k) if k == asked[0] and 4 * k < most else (),
                band_draws=2,
            )
            _save_dropout(dropouts[k], folder, k)
        lap("dropout", since)
        said = {k: sentence(result) for k, result in dropouts.items()}
        studies.append(Study(detector.name, table, rankings, dropouts, said))
        since = time.monotonic()
        _draw(studies[-1], folder)
        lap("figures", since)
    seconds["whole"] = round(time.monotonic() - started, 1)
    facts: dict[str, object] = {
        "detectors": {one.name: one.weights.sha256 for one in loaded},
        "families": TRAINED,
        "training_family": TRAINING_FAMILY,
        "pairs": per_family,
        "side": side,
        "draws": draws,
        "seed": seed,
        "image_set_sha256": {"test": test.hash(), "rank": ranked.hash()},
        "sentences": {study.name: study.sentences for study in studies},
        "seconds": seconds,
    }
    write_manifest(out, facts)
    return Demo(Path(out), tuple(studies), TRAINED, facts, seconds)


def _forged(
    folder: Path, split: str, families: Sequence[str], pairs: int, side: int, seed: int
) -> ImageSet:
    forge(photographs(split), families, folder, per_family=pairs, side=side, seed=seed)  # type: ignore[arg-type]
    images = scan(folder)
    if len(images) != 2 * pairs * len(families):
        raise UserError(
            f"{folder} holds {len(images)} images where this run makes "
            f"{2 * pairs * len(families)}; give another --out or delete it"
        )
    return images


def _photographs(scores: pd.DataFrame) -> np.ndarray:
    """Crops of one photograph are no independent images: intervals draw photographs."""
    return np.array([Path(path).stem.rsplit("-", 1)[0] for path in scores["path"]])


def _rankings(
    detector: Detector, images: ImageSet, folder: Path, seed: int, say: Say
) -> dict[str, Ranking]:
    rankings = {}
    for kind, label in (("fake", FAKE), ("real", REAL)):
        try:
            ranking = rank(detector, images, label=label, batch_size=BATCH, seed=seed)
        except UserError as error:  # nothing confident enough of that kind: the rest still holds
            say(f"{detector.name}: no ranking on {kind}s: {error}")
            continue
        save_ranking(ranking, folder / f"{TRAINING_FAMILY}-{kind}.csv")
        table = ranking.table
        path = folder / f"ranking-{kind}.parquet"
        write_with(path, lambda out, table=table: table.to_parquet(out, index=False))  # type: ignore[misc]
        rankings[kind] = ranking
    return rankings


def _save_dropout(result: DropoutResult, folder: Path, k: int) -> None:
    tables = {
        "dropout": result.table,
        "dropout_summary": result.summary,
        "dropped": result.dropped(),
    }
    for name, table in tables.items():
        write_csv(folder / f"{name}-k{k}.csv", table)
    if len(result.curve):
        write_csv(folder / "ap_curve.csv", result.curve)


def _draw(study: Study, folder: Path) -> None:
    k = PUBLISHED_K.get(study.name, 100)
    if "fake" in study.rankings:
        save(plot_omega(study.rankings["fake"].table, k, title=study.name), folder, "omega")
    for k, result in study.dropouts.items():
        title = f"{study.name}: {k} of {result.facts['feature_maps']} feature maps dropped"
        save(plot_dropout(result.summary, title=title), folder, f"dropout-k{k}")
        if len(result.curve):
            save(plot_ap_curve(result.curve, k, title=study.name), folder, "ap_curve")
