"""The whole study on the embedded default: photographs → fakes → every verb → its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from ... import views
from ...data.colour import PUBLISHED_MODES
from ...detectors import Detector, load_detector, shipped_detectors, shipped_weights
from ...embedding import embedding_of, feature_look
from ...errors import UserError
from ...evaluation import ScoreLook, evaluation_of, robustness
from ...explain import explain, faithfulness
from ...fmap_ranking import rankings, top
from ...forge import TRAINED
from ...histograms import MaximaLook, median_of
from ...patches import PeakLook, patches_of
from ...records import FAKE, REAL, ImageSet, Ranking, Result
from ...sensitivity import colour_of, dropout, held_out_threshold, transfer
from ...sweep import How, Look, sweep
from ...views import View
from ..arms import ZEROED, arms, experiment
from ..world import TRAINING_FAMILY, forged
from .asked import Asked
from .pages import results_markdown, write_index
from .robust import ColourRobust

DETECTORS = ("resnet50", "efficientnet-b0", "npr", "vit")
ROBUST = "colour-robust"
TENTH = {"vit": 384}  # of its neurons; nothing is published of it, and no number of them matters
UNSEEN_COLLAGE = "dcgan-like"
METHODS = ("lrp", "guided-gradcam")

# One line of progress: what is being done, and to what.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How much of everything a run does; the defaults fit eight minutes on two cores.

    pairs: real and fake of each family to look at; rank_pairs: of the training family, to rank on;
    side: pixels of an image; draws: of each random control; maps: in a collage; transfer_pairs: of
    every family, to rank on for the transfer matrix; transfer_draws: of its control; explained:
    images that explanation methods are tested on; modes: of colour; conditions: that all shipped
    detectors are scored under.
    """

    pairs: int = 16
    rank_pairs: int = 36
    side: int = 128
    draws: int = 5
    maps: int = 8
    transfer_pairs: int = 12
    transfer_draws: int = 1
    explained: int = 4
    modes: tuple[str, ...] = ("rgb", "grey", "chroma-only", "swap-gbr")
    conditions: tuple[str, ...] = ("clean", "jpeg-75", "blur-1", "grey")


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
        files = {"results.md": lambda path: path.write_text(results_markdown(self), "utf-8")}
        files["index.html"] = lambda path: write_index(self, path)
        said = " ".join(
            f"{name}: {stages['evaluation'].said}" for name, stages in self.studies.items()
        )
        return View("The whole study", said, {}, files=files, facts=self.facts)


class _Stages:
    """Runs stages: says what is done, takes the time, saves each result as soon as it is there."""

    def __init__(self, out: Path, how: How, say: Say) -> None:
        self.out, self.how, self.say = out, how, say
        self.seconds: dict[str, float] = {}
        self.found: dict[str, dict[str, Result]] = {}
        self.scored: dict[str, ScoreLook] = {}  # on the test images, in colour modes

    @contextmanager
    def time(self, stage: str, text: str = "") -> Iterator[None]:
        if text:
            self.say(text)
        since = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.monotonic() - since, 1)

    def keep(self, name: str, stage: str, result: Result) -> None:
        """Save a result to NAME/STAGE, or STAGE where ``name`` is empty."""
        with self.time("tables and figures"):
            views.save(result, self.out / name / stage)
        self.found.setdefault(name, {})[stage] = result


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
    stages = _Stages(out, how, say)
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
    passes: dict[str, int] = {}
    transferred = False
    for detector in loaded:
        asked = _ks(detector, ks)
        passes[detector.name] = _study(detector, sets, asked, scale, stages)
        if asked and not transferred and "ranking" in stages.found[detector.name]:
            transferred = True
            _transfer(detector, sets, asked[0], scale, stages)
    _robust(detectors, sets["test"], stages, device)
    every = {one.name: one for one in loaded}
    if tuple(detectors) == DETECTORS:  # nothing less was asked for
        every = shipped_detectors(device)
    with stages.time("robustness", f"{', '.join(every)}: {', '.join(scale.conditions)}"):
        found = robustness(every, sets["test"], scale.conditions, seen=stages.scored, **stages.how)
    stages.keep("", "robustness", found)
    stages.seconds["whole"] = round(time.monotonic() - started, 1)
    facts: dict[str, object] = {
        "detectors": {one.name: one.weights.sha256 for one in loaded},
        "families": tuple(families),
        "training_family": TRAINING_FAMILY,
        "scale": vars(scale),
        "seed": seed,
        "image_set_sha256": {kind: images.hash() for kind, images in sets.items()},
        "images": {kind: len(images) for kind, images in sets.items()},
        "network_passes_over_test_images": passes,
        "seconds": stages.seconds,
    }
    whole = stages.found.pop("")
    studies = {name: found for name, found in stages.found.items() if ROBUST not in name}
    return Demo(out, studies, whole, facts)


def _ks(detector: Detector, more: Sequence[int]) -> list[int]:
    known = [ZEROED.get(detector.name) or TENTH.get(detector.name), *more]
    return list(dict.fromkeys(k for k in known if k))


def _study(
    detector: Detector,
    sets: Mapping[str, ImageSet],
    asked: Sequence[int],
    scale: Scale,
    stages: _Stages,
) -> int:
    """Run every stage of one detector; return the images that its network saw in the sweep."""
    name, test, seed = detector.name, sets["test"], stages.how.get("seed", 0)
    with stages.time("rank", f"{name}: LRP on {len(sets['rank'])} images for the ranking"):
        ranked = rankings(detector, sets["rank"], name=TRAINING_FAMILY, **stages.how)
    stages.keep(name, "ranking", ranked)
    fakes = ranked.of.get("fake")
    ks = list(asked) if fakes is not None else []
    scores = ScoreLook(detector, colours=scale.modes)
    features = feature_look(detector, test, *((fakes, ks[0]) if fakes and ks else ()))
    looks: list[Look] = [scores, features]
    maxima, peaks = None, []
    if fakes is not None and ks:
        maxima = MaximaLook(detector, top(fakes, ks[0]), PUBLISHED_MODES, test.only(label=FAKE))
        collages = [one for one in (TRAINING_FAMILY, UNSEEN_COLLAGE) if one in test.generators]
        peaks = [PeakLook(detector, top(fakes, scale.maps), 5, one) for one in collages]
        looks += [maxima, *peaks]
    about = f"{name}: {len(test)} images in {len(scale.modes)} colour modes"
    with stages.time("sweep", about):
        done = sweep(test, looks, what=f"{name}: looking", **stages.how)
    stages.scored[name] = scores
    with stages.time("evaluate"):
        evaluation = evaluation_of(scores, done, seed=seed)
    stages.keep(name, "evaluation", evaluation)
    if fakes is not None and ks:
        _dropouts(detector, fakes, ks, sets, scale, stages)
        dropped = {k: stages.found[name][f"dropout-k{k}"] for k in ks}
        causal = stages.found[name].get("dropout-causal")
        stages.keep(name, "asked", Asked.of(evaluation, dropped, causal, TRAINING_FAMILY))
    with stages.time("colour"):
        colours = colour_of(scores, done, seed=seed)
    stages.keep(name, "colour", colours)
    if maxima is not None:
        with stages.time("median test", f"{name}: median tests of {ks[0]} maps"):
            tested = median_of(maxima, done, facts={"seed": seed})
        stages.keep(name, "median-test", replace(tested, drawn=(TRAINING_FAMILY,)))
    for look in peaks:
        assert fakes is not None
        with stages.time("patches", f"{name}: patches of {scale.maps} maps, {look.generator}"):
            found = patches_of(look, done, fakes, **stages.how)
        stages.keep(name, f"patches-{look.generator}", found)
    with stages.time("embedding", f"{name}: t-SNE of {len(test)} images"):
        embedding = embedding_of(features, done, fakes if ks else None, seed=seed)
    stages.keep(name, "embedding", embedding)
    _explain(detector, test, scale, stages)
    return done.networks // max(1, len(scale.modes))


def _dropouts(
    detector: Detector,
    ranking: Ranking,
    ks: Sequence[int],
    sets: Mapping[str, ImageSet],
    scale: Scale,
    stages: _Stages,
) -> None:
    name, whole = detector.name, len(detector.feature_maps)
    with stages.time("dropout", f"{name}: a threshold on the validation photographs"):
        threshold = held_out_threshold(detector, sets["rank"], **stages.how)
    for k in ks:
        # Random maps must lie outside the top k.
        grid = (k // 4, k, 4 * k) if k == ks[0] and 4 * k < whole // 2 else ()
        with stages.time("dropout", f"{name}: dropping {k} of {whole} feature maps"):
            found = dropout(
                detector,
                sets["test"],
                ranking,
                k,
                draws=scale.draws,
                ks=grid,
                band_draws=1,
                training_family=TRAINING_FAMILY,
                held_out=threshold,
                **stages.how,
            )
        stages.keep(name, f"dropout-k{k}", found)
    if name in ZEROED:
        arm = arms(detector)[1]
        grid = (arm.k // 4, arm.k, 2 * arm.k)
        with stages.time("dropout", f"{name}: {arm.value} in the place of {arm.k} maps by pursuit"):
            found = experiment(
                detector, sets["test"], arm, draws=scale.draws, ks=grid, band_draws=1,
                held_out=threshold, **stages.how,
            )  # fmt: skip
        stages.keep(name, "dropout-causal", found)


def _transfer(
    detector: Detector,
    sets: Mapping[str, ImageSet],
    k: int,
    scale: Scale,
    stages: _Stages,
) -> None:
    name = detector.name
    with stages.time("transfer", f"{name}: ranking on every family, dropping on every other"):
        found = transfer(
            detector,
            sets["test"],
            k,
            rank_images=sets["transfer"],
            training_family=TRAINING_FAMILY,
            draws=scale.transfer_draws,
            **stages.how,
        )
    stages.keep(name, "transfer", found)


def _explain(detector: Detector, images: ImageSet, scale: Scale, stages: _Stages) -> None:
    """Show where decisions come from, and test the methods that say so."""
    name, how = detector.name, stages.how
    seen = images.only(generator=TRAINING_FAMILY)
    # A real beside its fake of the family seen, then other photographs' fakes of families that
    # were not.
    few = [seen.only(label=label).entries[0] for label in (REAL, FAKE)]
    for place, one in enumerate([one for one in images.generators if one != TRAINING_FAMILY][:3]):
        fakes = images.only(label=FAKE, generator=one).entries
        few.append(fakes[(place + 1) * len(fakes) // 4])
    with stages.time("explain", f"{name}: explanations, and tests of the methods"):
        some = ImageSet(images.root, tuple(few), images.layout)
        shown = explain(detector, some, METHODS, **how)
        tested = faithfulness(detector, images, n=scale.explained, **how)
    stages.keep(name, "explanation", shown)
    stages.keep(name, "faithfulness", tested)


def _robust(detectors: Sequence[str], test: ImageSet, stages: _Stages, device: str) -> None:
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
