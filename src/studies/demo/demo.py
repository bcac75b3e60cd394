"""The whole study on the embedded default: photographs → fakes → every stage → tables, figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...data import keep_pixels
from ...detectors import Detector, load_detector, shipped_detectors, shipped_weights
from ...errors import UserError
from ...evaluation import evaluate, score
from ...files import write_csv, write_manifest
from ...forge import TRAINED
from ...records import ImageSet, Ranking
from ...sensitivity import PUBLISHED_K, ColourResult, DropoutResult, dropout, sentence
from ...views.sections import Section, Table
from . import rows, stages
from .dropping import draw_dropout, rank_both, save_dropout
from .world import TRAINING_FAMILY, forged

DETECTORS = ("resnet50", "efficientnet-b0", "npr")
ROBUST = "colour-robust"
BATCH = 32
# Beside the published k, the largest k tried that leaves the reals' accuracy within 5 points on the
# validation photographs (docs/training.md): these maps blind the detector without damaging it.
OWN_K = {"resnet50": 200, "efficientnet-b0": 10}
UNSEEN_COLLAGE = "dcgan-like"
EVALUATED = "percent; [ ] 95 % intervals, drawn by photograph"

# One line of progress: what is being done, and to what.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How much of everything a run does; the defaults fit eight minutes on two cores.

    pairs: real and fake of each family to look at; rank_pairs: of the training family, to rank on;
    side: pixels of an image; draws: of each random control; maps: in a collage; transfer_pairs: of
    every family, to rank on for the transfer matrix; transfer_draws: of its control; explained:
    images that attribution methods are tested on; modes: of colour; conditions: that all shipped
    detectors are scored under.
    """

    pairs: int = 16
    rank_pairs: int = 36
    side: int = 128
    draws: int = 20
    maps: int = 8
    transfer_pairs: int = 12
    transfer_draws: int = 1
    explained: int = 4
    modes: tuple[str, ...] = stages.COLOUR_MODES
    conditions: tuple[str, ...] = ("clean", "jpeg-75", "blur-1", "grey")


@dataclass(frozen=True)
class Study:
    """One detector's part: its evaluation, rankings, dropout where k is known, and all sections."""

    name: str
    evaluation: pd.DataFrame
    rankings: dict[str, Ranking]
    dropouts: dict[int, DropoutResult]
    sentences: dict[int, str]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Demo:
    """All of it, and how long each stage took in seconds."""

    folder: Path
    studies: tuple[Study, ...]
    sections: tuple[Section, ...]
    families: tuple[str, ...]
    facts: dict[str, object]
    seconds: dict[str, float]


class _Clock:
    """Sums the seconds of each stage, and tells which one begins."""

    def __init__(self, say: Say) -> None:
        self.say, self.started = say, time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, text: str = "") -> Iterator[None]:
        if text:
            self.say(text)
        since = time.monotonic()
        yield
        took = self.seconds.get(name, 0.0) + time.monotonic() - since
        self.seconds[name] = round(took, 1)


def demo(
    out: Path,
    *,
    detectors: Sequence[str] = DETECTORS,
    families: Sequence[str] = TRAINED,
    scale: Scale | None = None,
    ks: Sequence[int] = (),
    seed: int = 0,
    device: str = "cpu",
    say: Say = print,
) -> Demo:
    """Run the whole study on photographs that no training saw, and save tables and figures.

    The *test* photographs are forged into every family and looked at; ω is ranked on fakes of the
    *validation* photographs, so that no image is used for both. Each image is decoded once.

    Args:
        detectors: whose weights the project ships; feature maps are dropped where k is published,
            and the first of these gets the transfer matrix too.
        families: the training family among them. scale: how much of everything.
        ks: further numbers of maps to drop beside the published one.

    Raises:
        UserError: weights or photographs are missing, or ``out`` holds other crops.
    """
    scale = scale or Scale()
    out = Path(out)
    if TRAINING_FAMILY not in families:
        raise UserError(f"the families must hold {TRAINING_FAMILY}, which detectors are trained on")
    clock = _Clock(say)
    loaded = [load_detector(name, device=device) for name in detectors]
    about = f"forging {scale.pairs} pairs a family from held-out photographs: {', '.join(families)}"
    with clock.stage("forge", about):
        test = forged(out / "images" / "test", "test", families, scale.pairs, scale.side, seed)
        ranked = forged(
            out / "images" / "rank", "validation", (TRAINING_FAMILY,), scale.rank_pairs,
            scale.side, seed,
        )  # fmt: skip
        everywhere = forged(
            out / "images" / "transfer", "validation", families, scale.transfer_pairs,
            scale.side, seed,
        )  # fmt: skip
    studies: list[Study] = []
    colours: dict[str, ColourResult] = {}
    robust: dict[str, ColourResult] = {}
    with keep_pixels() as kept:
        for detector in loaded:
            first = not any(study.dropouts for study in studies)
            study, colours[detector.name] = _study(
                detector, test, ranked, everywhere if first else None, out / detector.name, scale,
                ks, seed, clock,
            )  # fmt: skip
            studies.append(study)
        for name in detectors:
            if shipped_weights(name, ROBUST).is_file():
                other = load_detector(name, weights=ROBUST, device=device)
                folder = out / f"{name}-{ROBUST}"
                with clock.stage("colour", f"{name}, {ROBUST}: scoring in RGB and in grey"):
                    modes = ("rgb", "grey")
                    _, robust[name] = stages.colour_stage(other, test, folder, seed, modes)
    sections: tuple[Section, ...] = ()
    if robust:
        sections = (stages.robust_stage(colours, robust, out),)
    every = {one.name: one for one in loaded}
    if tuple(detectors) == DETECTORS:  # nothing less was asked for
        every = shipped_detectors(device)
    with clock.stage("robustness", f"{', '.join(every)}: {', '.join(scale.conditions)}"):
        sections += (stages.conditions_stage(every, test, scale.conditions, out, seed),)
    clock.seconds["whole"] = round(time.monotonic() - clock.started, 1)
    facts: dict[str, object] = {
        "detectors": {one.name: one.weights.sha256 for one in loaded},
        "families": tuple(families),
        "training_family": TRAINING_FAMILY,
        "scale": vars(scale),
        "seed": seed,
        "image_set_sha256": {"test": test.hash(), "rank": ranked.hash()},
        "images": {"test": len(test), "rank": len(ranked), "transfer": len(everywhere)},
        "images_decoded": kept.decoded,
        "images_asked_for": kept.given,
        "sentences": {study.name: study.sentences for study in studies},
        "seconds": clock.seconds,
    }
    write_manifest(out, facts)
    return Demo(out, tuple(studies), sections, tuple(families), facts, clock.seconds)


def _study(
    detector: Detector,
    test: ImageSet,
    ranked: ImageSet,
    everywhere: ImageSet | None,
    folder: Path,
    scale: Scale,
    ks: Sequence[int],
    seed: int,
    clock: _Clock,
) -> tuple[Study, ColourResult]:
    """Run every stage for one detector; ``everywhere``: to rank on for the transfer matrix."""
    name = detector.name
    with clock.stage("evaluate", f"{name}: scoring {len(test)} images"):
        scores = score(detector, test, batch_size=BATCH, seed=seed)
        table = evaluate(scores, seed=seed)
        write_csv(folder / "scores.csv", scores)
        write_csv(folder / "evaluation.csv", table)
    sections = [
        Section("Evaluation", "", (Table(EVALUATED, rows.evaluation_rows(table)),), (), True)
    ]
    with clock.stage("rank", f"{name}: LRP on {len(ranked)} images for the ranking"):
        rankings = rank_both(detector, ranked, folder, seed, clock.say)
    fakes = rankings.get("fake")
    published = PUBLISHED_K.get(name)
    asked = [k for k in (published, OWN_K.get(name), *ks) if k and fakes is not None]
    dropouts: dict[int, DropoutResult] = {}
    for k in dict.fromkeys(asked):
        about = f"{name}: dropping {k} of {len(detector.feature_maps)} feature maps"
        with clock.stage("dropout", about):
            most = len(detector.feature_maps) // 2  # random maps must lie outside the top k
            dropouts[k] = dropout(
                detector,
                test,
                rankings["fake"],
                k,
                draws=scale.draws,
                training_family=TRAINING_FAMILY,
                held_out=ranked,
                batch_size=BATCH,
                seed=seed,
                ks=(k // 4, k, 4 * k) if k == asked[0] and 4 * k < most else (),
                band_draws=1,
            )
            save_dropout(dropouts[k], folder, k)
    said = {k: sentence(result) for k, result in dropouts.items()}
    with clock.stage("figures"):
        sections += draw_dropout(name, rankings, dropouts, said, folder)
    if dropouts:
        sections.append(
            Section(
                "Asked and measured",
                "",
                (
                    Table(
                        "points are of AP or accuracy in percent", rows.asked_rows(table, dropouts)
                    ),
                ),
                (),
                True,
            )
        )
    with clock.stage("colour", f"{name}: scoring in {len(scale.modes)} colour modes"):
        section, colours = stages.colour_stage(detector, test, folder, seed, scale.modes)
        sections.append(section)
    if fakes is not None and asked:
        k = asked[0]
        with clock.stage("median test", f"{name}: median tests of {k} maps"):
            sections.append(stages.median_stage(detector, test, fakes, k, folder, seed))
        collages = [one for one in (TRAINING_FAMILY, UNSEEN_COLLAGE) if one in test.generators]
        with clock.stage("patches", f"{name}: patches of {scale.maps} maps"):
            sections.append(
                stages.patches_stage(detector, test, fakes, scale.maps, collages, folder, seed)
            )
    with clock.stage("embedding", f"{name}: t-SNE of {len(test)} images"):
        ranking, k = (fakes, asked[0]) if asked else (None, 0)
        sections.append(stages.embedding_stage(detector, test, ranking, k, folder, seed))
    if everywhere is not None and asked:
        with clock.stage("transfer", f"{name}: ranking on every family, dropping on every other"):
            sections.append(
                stages.transfer_stage(
                    detector, test, everywhere, asked[0], folder, seed, scale.transfer_draws
                )
            )
    with clock.stage("explain", f"{name}: attribution, and tests of the methods"):
        sections.append(stages.explain_stage(detector, test, scale.explained, folder, seed))
    return Study(name, table, rankings, dropouts, said, tuple(sections)), colours
