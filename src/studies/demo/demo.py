"""The whole study on the embedded default: photographs → fakes → every verb → its results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from ...data.colour import PUBLISHED_MODES
from ...detectors import Detector, load_detector, shipped_detectors, shipped_weights
from ...errors import UserError
from ...evaluation import ScoreLook, robustness, spectra
from ...forge import TRAINED
from ...records import ImageSet, Result
from ...report import report
from ...sensitivity import colour_of
from ...sweep import How, sweep
from ...views import View
from ..arms import ZEROED, arms
from ..stages import Asked, Say, Scale, Stages, facts_of, look_at, transferred
from ..world import TRAINING_FAMILY, forged
from .asked import Measured
from .pages import ABOUT, results_markdown
from .robust import ColourRobust

DETECTORS = ("resnet50", "efficientnet-b0", "npr", "vit")
ROBUST = "colour-robust"
TENTH = {"vit": 384}  # of its neurons; nothing is published of it, and no number of them matters
UNSEEN_COLLAGE = "dcgan-like"
PAGE = "index.html"


@dataclass(frozen=True, eq=False, repr=False)
class Demo(Result):
    """All of it: every stage's result, in the folder DETECTOR/STAGE, or STAGE where it is of all.

    studies: detector → stage → result; whole: stage → result of all detectors;
    passes: detector → images of the test set that its whole network saw in the shared sweep.
    """

    folder: Path
    studies: Mapping[str, Mapping[str, Result]]
    whole: Mapping[str, Result]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return the demo as pages; each stage has its own view."""
        page = report([self.folder], title="What do these detectors look at?", facts=self.facts)
        files = {
            "results.md": lambda path: path.write_text(results_markdown(self), "utf-8"),
            PAGE: lambda path: path.write_text(page.html(), "utf-8"),
        }
        return View("The whole study", page.said, {}, files=files, facts=self.facts)


def demo(
    out: Path,
    *,
    detectors: Sequence[str] = DETECTORS,
    families: Sequence[str] = TRAINED,
    scale: Scale | None = None,
    ks: Sequence[int] = (),
    device: str = "cpu",
    say: Say = print,
    **how: Unpack[How],
) -> Demo:
    """Run the whole study on photographs that no training saw, and save every stage's result.

    The *test* photographs are forged into every family and looked at; ω is ranked on fakes of the
    *validation* photographs, so that no image is used for both. One sweep over the test images
    feeds evaluation, colour, median test, patches and embedding of a detector.

    Args:
        detectors: whose weights the project ships. Feature maps are dropped as published (top by
            ω, zero in their place) and as pursuit with the shipped rankings takes them; the first
            of these detectors gets the transfer matrix too.
        families: the training family among them. scale: how much of everything.
        ks: further numbers of maps to drop beside the published one.

    Raises:
        UserError: weights or photographs are missing, or ``out`` holds other crops.
    """
    scale, out, seed, started = scale or Scale(), Path(out), how.get("seed", 0), time.monotonic()
    if TRAINING_FAMILY not in families:
        raise UserError(f"the families must hold {TRAINING_FAMILY}, which detectors are trained on")
    stages = Stages(out, how, say, scale)
    loaded = [load_detector(name, device=device) for name in detectors]
    about = f"forging {scale.pairs} pairs a family from held-out photographs: {', '.join(families)}"
    with stages.time("forge", about):
        sets = {
            kind: forged(out / "images" / kind, split, which, pairs, scale.side, seed)
            for kind, split, which, pairs in (
                ("test", "test", families, scale.pairs),
                ("rank", "validation", (TRAINING_FAMILY,), scale.rank_pairs),
                ("transfer", "validation", families, scale.transfer_pairs),
            )
        }
    with stages.time("spectra", f"spectra of {len(sets['test'])} images"):
        seen = spectra(sets["test"], **stages.how)
    stages.keep("", "spectra", seen)
    passes: dict[str, int] = {}
    has_transfer = False
    for detector in loaded:
        asked = _asked(detector, sets, ks)
        passes[detector.name] = look_at(detector, asked, stages)
        if asked.ks:
            stages.keep(detector.name, "asked", _measured(stages.found[detector.name], asked.ks))
            if not has_transfer:
                has_transfer = True
                transferred(detector, asked, sets["transfer"], stages)
    _robust(detectors, sets["test"], stages, device)
    every = {one.name: one for one in loaded}
    if tuple(detectors) == DETECTORS:  # nothing less was asked for
        every = shipped_detectors(device)
    with stages.time("robustness", f"{', '.join(every)}: {', '.join(scale.conditions)}"):
        found = robustness(every, sets["test"], scale.conditions, seen=stages.scored, **stages.how)
    stages.keep("", "robustness", found)
    stages.seconds["whole"] = round(time.monotonic() - started, 1)
    facts: dict[str, object] = {
        **facts_of(stages, loaded),
        "about": f"{len(sets['test'])} images of {len(families)} generators. {ABOUT}",
        "families": tuple(families),
        "training_family": TRAINING_FAMILY,
        "image_set_sha256": {kind: images.hash() for kind, images in sets.items()},
        "images": {kind: len(images) for kind, images in sets.items()},
        "network_passes_over_test_images": passes,
    }
    whole = stages.found.pop("")
    studies = {name: found for name, found in stages.found.items() if ROBUST not in name}
    return Demo(out, studies, whole, facts)


def _asked(detector: Detector, sets: Mapping[str, ImageSet], more: Sequence[int]) -> Asked:
    known = [ZEROED.get(detector.name) or TENTH.get(detector.name), *more]
    collages = [one for one in (TRAINING_FAMILY, UNSEEN_COLLAGE) if one in sets["test"].generators]
    return Asked(
        sets["test"],
        sets["rank"],
        training_family=TRAINING_FAMILY,
        ks=list(dict.fromkeys(k for k in known if k)),
        arm=arms(detector)[1] if detector.name in ZEROED else None,
        collages=collages,
        name=TRAINING_FAMILY,
    )


def _measured(found: Mapping[str, Result], ks: Sequence[int]) -> Measured:
    dropped = {k: found[f"dropout-k{k}"] for k in ks}
    causal = found.get("dropout-causal")
    return Measured.of(found["evaluation"], dropped, causal, TRAINING_FAMILY)


def _robust(detectors: Sequence[str], test: ImageSet, stages: Stages, device: str) -> None:
    """Put the colour-robust detectors beside the baseline: AP on RGB and on grey (T-FF)."""
    found = {}
    for name in detectors:
        if shipped_weights(name, ROBUST).is_file():
            spec = f"{name}-{ROBUST}"
            detector = load_detector(name, weights=ROBUST, device=device)
            with stages.time("colour", f"{name}, {ROBUST}: scoring in RGB and in grey"):
                look = ScoreLook(detector, colours=PUBLISHED_MODES)
                done = sweep(test, [look], what=f"{spec}: colours", **stages.how)
                found[name] = colour_of(look, done, seed=stages.how.get("seed", 0))
            stages.scored[spec] = look
            stages.keep(spec, "colour", found[name])
    if found:
        plain = {name: stages.found[name]["colour"] for name in found}
        stages.keep("", "colour-robust", ColourRobust.of(plain, found))
