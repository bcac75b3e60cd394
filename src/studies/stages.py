"""The stages of a study of one detector: every verb that fits it, on one set of images."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .. import views
from ..data.colour import PUBLISHED_MODES
from ..detectors import Detector
from ..embedding import embedding_of, feature_look
from ..errors import UserError
from ..evaluation import ScoreLook, evaluation_of
from ..explain import explain, explainer, faithfulness
from ..files import write_bytes
from ..fmap_ranking import Rankings, rankings, top
from ..histograms import MaximaLook, median_of
from ..patches import PeakLook, patches_of
from ..records import FAKE, REAL, ImageEntry, ImageSet, Ranking, Result
from ..sensitivity import colour_of, dropout, held_out_threshold, transfer
from ..sweep import How, Look, sweep
from .arms import Arm, experiment

METHODS = ("lrp", "guided-gradcam")
OTHERS = ("gradcam", "input-x-gradient", "gradient")  # where those do not apply
EXPLAINED = 4  # images of the panel
INSTEAD = "gradient-activation"  # what maps are ranked by where LRP has no rule for a layer

# One line of progress: what is being done, and to what.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How much of everything a run does; the defaults fit eight minutes on two cores.

    pairs: real and fake of each family to look at; rank_pairs: of the training family, to rank on;
    side: pixels of an image; draws: of each random control; maps: in a collage; transfer_pairs: of
    every family, to rank on for the transfer matrix; transfer_draws: of its control; explained:
    images that explanation methods are tested on; modes: of colour; conditions: that detectors are
    scored under.
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


@dataclass(frozen=True)
class Asked:
    """What a detector is asked.

    test: images to look at; rank: others, to rank feature maps on; training_family: the generator
    of the test images that the detector was trained on, None if unknown; ks: how many maps are
    dropped, the first with curves; arm: a second experiment of dropping, beside the published;
    collages: generators whose patches are cut out; name: of the images that are ranked on.
    """

    test: ImageSet
    rank: ImageSet
    training_family: str | None = None
    ks: Sequence[int] = ()
    arm: Arm | None = None
    collages: Sequence[str] = ()
    name: str = ""


class Stages:
    """Runs stages: says what is done, takes the time, saves each result as soon as it is there.

    strict: an error in a stage ends the study; else the stage is left out, and ``not_done`` says
    why.
    """

    def __init__(
        self, out: Path, how: How, say: Say, scale: Scale | None = None, *, strict: bool = True
    ) -> None:
        self.out, self.how, self.say, self.scale = out, how, say, scale or Scale()
        self.strict = strict
        self.seconds: dict[str, float] = {}
        self.found: dict[str, dict[str, Result]] = {}
        self.scored: dict[str, ScoreLook] = {}  # on the test images, in colour modes
        self.not_done: dict[str, str] = {}

    @contextmanager
    def time(self, stage: str, text: str = "") -> Iterator[None]:
        """Take a stage's time, and say what it does."""
        if text:
            self.say(text)
        since = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.monotonic() - since, 1)

    @contextmanager
    def attempt(self, name: str, stage: str) -> Iterator[None]:
        """Go on without a stage that does not fit, and keep the reason."""
        try:
            yield
        except UserError as error:
            if self.strict:
                raise
            self.leave_out(name, stage, " ".join(str(error).split()))
        except Exception as error:
            if self.strict:
                raise
            path = self.out / name / f"{stage}-error.txt"  # what to send with a question about it
            write_bytes(path, traceback.format_exc().encode("utf-8", "backslashreplace"))
            self.leave_out(name, stage, f"it failed: {type(error).__name__}, see {path}")

    def leave_out(self, name: str, stage: str, why: str) -> None:
        """Say that a stage is left out, and why."""
        self.not_done[f"{name}: {stage}" if name else stage] = why
        self.say(f"{name}: no {stage}: {why}")

    def keep(self, name: str, stage: str, result: Result) -> None:
        """Save a result to NAME/STAGE, or STAGE where ``name`` is empty."""
        with self.time("tables and figures"):
            views.save(result, self.out / name / stage, progress=self.how.get("progress"))
        self.found.setdefault(name, {})[stage] = result


def look_at(detector: Detector, asked: Asked, stages: Stages) -> int:
    """Run every stage of one detector; return the images that its network saw in the sweep.

    One sweep over the test images feeds evaluation, colour, median test, patches and embedding.
    """
    name, test, scale, seed = detector.name, asked.test, stages.scale, stages.how.get("seed", 0)
    ranked = _ranked(detector, asked, stages)
    fakes = _first(ranked)
    ks = [k for k in asked.ks if fakes is not None and k < len(fakes)]
    scores = ScoreLook(detector, colours=scale.modes)
    features = feature_look(detector, test, *((fakes, ks[0]) if fakes is not None and ks else ()))
    looks: list[Look] = [scores, features]
    maxima, peaks = None, []
    if fakes is not None and ks:
        maxima = MaximaLook(detector, top(fakes, ks[0]), PUBLISHED_MODES, test.only(label=FAKE))
        looks.append(maxima)
        if fakes.by == "omega":
            peaks = [PeakLook(detector, top(fakes, scale.maps), 5, one) for one in asked.collages]
            looks += peaks
        else:
            stages.leave_out(name, "patches", "patches are cut where LRP's relevance is largest")
    about = f"{name}: {len(test)} images in {len(scale.modes)} colour modes"
    with stages.time("sweep", about):
        done = sweep(test, looks, what=f"{name}: looking", **stages.how)
    stages.scored[name] = scores
    with stages.time("evaluate"), stages.attempt(name, "evaluation"):
        stages.keep(name, "evaluation", evaluation_of(scores, done, seed=seed))
    if fakes is not None:
        _dropouts(detector, fakes, ks, asked, stages)
    with stages.time("colour"), stages.attempt(name, "colour"):
        stages.keep(name, "colour", colour_of(scores, done, seed=seed))
    if maxima is not None:
        about = f"{name}: median tests of {ks[0]} maps"
        with stages.time("median test", about), stages.attempt(name, "median-test"):
            tested = median_of(maxima, done, facts={"seed": seed})
            drawn = tuple(asked.collages[:1]) or test.generators[:1]
            stages.keep(name, "median-test", replace(tested, drawn=drawn))
    for look in peaks:
        assert fakes is not None
        about, stage = f"{name}: patches of {scale.maps} maps, {look.generator}", _patches(look)
        with stages.time("patches", about), stages.attempt(name, stage):
            stages.keep(name, stage, patches_of(look, done, fakes, **stages.how))
    about = f"{name}: t-SNE of {len(test)} images"
    with stages.time("embedding", about), stages.attempt(name, "embedding"):
        found = embedding_of(features, done, fakes if ks else None, seed=seed)
        stages.keep(name, "embedding", found)
    _explain(detector, asked, stages)
    return done.networks // max(1, len(scale.modes))


def _patches(look: PeakLook) -> str:
    return f"patches-{str(look.generator).replace('/', '-')}"


def _ranked(detector: Detector, asked: Asked, stages: Stages) -> Rankings | None:
    """Rank by ω, or by gradient × activation where LRP cannot."""
    name = detector.name
    about = f"{name}: LRP on {len(asked.rank)} images for the ranking"
    found: list[Rankings] = []
    with stages.time("rank", about), stages.attempt(name, "ranking by omega"):
        found.append(rankings(detector, asked.rank, name=asked.name, **stages.how))
    if not found or not found[0].of:
        about = f"{name}: {INSTEAD} on {len(asked.rank)} images instead"
        with stages.time("rank", about), stages.attempt(name, "ranking"):
            found = [rankings(detector, asked.rank, by=(INSTEAD,), name=asked.name, **stages.how)]
    if not found:
        return None
    stages.keep(name, "ranking", found[0])
    return found[0]


def _first(ranked: Rankings | None) -> Ranking | None:
    """Return the ranking of fakes that maps are dropped by."""
    if ranked is None:
        return None
    return ranked.of.get("fake") or ranked.of.get(INSTEAD)


def _dropouts(
    detector: Detector, ranking: Ranking, ks: Sequence[int], asked: Asked, stages: Stages
) -> None:
    name, whole, scale = detector.name, len(detector.feature_maps), stages.scale
    threshold: list[float] = []
    about = f"{name}: a threshold on images that are not looked at"
    with stages.time("dropout", about), stages.attempt(name, "held-out threshold"):
        threshold.append(held_out_threshold(detector, asked.rank, **stages.how))
    held_out = threshold[0] if threshold else None
    for k in ks:
        # Random maps must lie outside the top k.
        grid = (k // 4, k, 4 * k) if k == ks[0] and k >= 4 and 4 * k < whole // 2 else ()
        about = f"{name}: dropping {k} of {whole} feature maps"
        with stages.time("dropout", about), stages.attempt(name, f"dropout-k{k}"):
            found = dropout(
                detector, asked.test, ranking, k, draws=scale.draws, ks=grid, band_draws=1,
                training_family=asked.training_family, held_out=held_out, **stages.how,
            )  # fmt: skip
            stages.keep(name, f"dropout-k{k}", found)
    if asked.arm is not None:
        arm = asked.arm
        grid = (arm.k // 4, arm.k, 2 * arm.k)
        about = f"{name}: {arm.value} in the place of {arm.k} maps by pursuit"
        with stages.time("dropout", about), stages.attempt(name, "dropout-causal"):
            found = experiment(
                detector, asked.test, arm, draws=scale.draws, ks=grid, band_draws=1,
                held_out=held_out, **stages.how,
            )  # fmt: skip
            stages.keep(name, "dropout-causal", found)


def transferred(
    detector: Detector, asked: Asked, rank_images: ImageSet | None, stages: Stages
) -> None:
    """Rank on every generator, drop on every other; rank_images: other ones to rank on."""
    name = detector.name
    about = f"{name}: ranking on every generator, dropping on every other"
    with stages.time("transfer", about), stages.attempt(name, "transfer"):
        found = transfer(
            detector,
            asked.test,
            asked.ks[0],
            rank_images=rank_images,
            training_family=asked.training_family,
            draws=stages.scale.transfer_draws,
            **stages.how,
        )
        stages.keep(name, "transfer", found)


def _explain(detector: Detector, asked: Asked, stages: Stages) -> None:
    """Show where decisions come from, and test the methods that say so."""
    name, how, images = detector.name, stages.how, asked.test
    few = _explained(images, asked.training_family)
    about = f"{name}: explanations, and tests of the methods"
    with stages.time("explain", about):
        with stages.attempt(name, "explanation"):
            some = ImageSet(images.root, tuple(few), images.layout)
            stages.keep(name, "explanation", explain(detector, some, _methods(detector), **how))
        with stages.attempt(name, "faithfulness"):
            tested = faithfulness(detector, images, n=stages.scale.explained, **how)
            stages.keep(name, "faithfulness", tested)


def _explained(images: ImageSet, seen: str | None) -> list[ImageEntry]:
    """Return a real beside a fake of the generator seen, then other photographs' of others."""
    fakes = images.only(label=FAKE)
    first = seen if seen in fakes.generators else fakes.generators[0]
    few = [*images.only(label=REAL, generator=first).entries[:1]]
    few.append(fakes.only(generator=first).entries[0])
    for place, one in enumerate([one for one in fakes.generators if one != first]):
        own = fakes.only(generator=one).entries
        few.append(own[(place + 1) * len(own) // EXPLAINED % len(own)])
    return few[:EXPLAINED]


def _methods(detector: Detector) -> list[str]:
    """Return two methods that apply to a detector, the best known first."""
    applied: list[str] = []
    for name in (*METHODS, *OTHERS):
        try:
            explainer(detector, name)
        except UserError:
            continue
        applied.append(name)
        if len(applied) == len(METHODS):
            break
    return applied or list(METHODS)


def facts_of(stages: Stages, detectors: Sequence[Detector]) -> Mapping[str, object]:
    """Return what the manifest of a whole study says of its run."""
    return {
        "detectors": {one.name: one.weights.sha256 for one in detectors},
        "scale": vars(stages.scale),
        "seed": stages.how.get("seed", 0),
        "not_done": stages.not_done,
        "seconds": stages.seconds,
    }
