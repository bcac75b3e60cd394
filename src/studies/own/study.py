"""Every verb that fits a detector and an image set, and the page of what they found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from ...detectors import Detector, shipped_weights
from ...errors import UserError, counted
from ...evaluation import robustness
from ...files import sha256
from ...records import FAKE, REAL, ImageSet, Result
from ...report import report
from ...sweep import How
from ...views import View
from ..arms import ZEROED, Arm, arms
from ..stages import Asked, Say, Scale, Stages, facts_of, look_at, transferred
from .sides import fewer, sides

PAGE = "index.html"
SHARE = 1 / 200  # of the feature maps that are dropped where no number is published: as ResNet-50's
LEAST = 8
COLLAGES = 2  # generators whose patches are cut out
PLANTED = (
    "trains detectors of its own on traces that are known; `forensift planted` does, and its "
    "results go on a page with these by `forensift report`"
)


@dataclass(frozen=True, eq=False, repr=False)
class OwnStudy(Result):
    """All that was found, in the folder DETECTOR/STAGE, or STAGE where it is not of one alone.

    found: 'DETECTOR/STAGE' → its result; not_done: stage → why it was left out.
    """

    folder: Path
    found: Mapping[str, Result]
    not_done: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return the page; each stage has its own view."""
        page = report([self.folder], title=str(self.facts["title"]), facts=self.facts)
        files = {PAGE: lambda path: path.write_text(page.html(), "utf-8")}
        return View("The whole study", page.said, {}, files=files, facts=self.facts)


def study(
    out: Path | str,
    detector: Detector,
    images: ImageSet,
    *,
    rank_images: ImageSet | None = None,
    ks: Sequence[int] = (),
    trained_on: str | None = None,
    per_generator: int = 100,
    scale: Scale | None = None,
    say: Say = print,
    **how: Unpack[How],
) -> OwnStudy:
    """Ask one detector everything, save each stage's result, and return them all.

    Stages that do not fit the detector or the images are left out, with the reason.

    images: generators that each hold reals and fakes. rank_images: others, to rank feature maps
        on; by default a third of the photographs of ``images``, which are then not looked at.
    ks: how many maps are dropped; by default as many as published of the architecture, else 0.5 %.
    trained_on: the generator that the detector was trained on, set apart from unseen ones.
    per_generator: most reals and most fakes of each, drawn by the seed and the photograph's name,
        so that pairs stay together; 0 takes all.

    Raises:
        UserError: no generator holds both reals and fakes, or ``trained_on`` is none of them.
    """
    out, seed, started = Path(out), how.get("seed", 0), time.monotonic()
    stages = Stages(out, how, say, scale, strict=False)
    kept = _whole(images, stages)
    if trained_on is not None and trained_on not in kept.generators:
        raise UserError(
            f"trained_on {trained_on}: {images.root} holds {', '.join(kept.generators)}"
        )
    test, rank = (kept, rank_images) if rank_images is not None else sides(kept, seed)
    if rank is test:
        stages.leave_out("", "ranking on other photographs", "there are too few to set some apart")
    test, rank = (fewer(one, per_generator, seed) for one in (test, rank))
    about = (
        f"{len(test)} images of {counted(len(test.generators), 'generator')} in {images.root}; "
        f"feature maps ranked on {len(rank)} {'of the same' if rank == test else 'other'} images"
    )
    say(about)
    asked = Asked(
        test,
        rank,
        training_family=trained_on,
        ks=list(ks) or [_usual_k(detector)],
        arm=_arm(detector, stages),
        collages=test.generators[:COLLAGES],
        name=images.root.name,
    )
    look_at(detector, asked, stages)
    if len(test.generators) > 1:
        transferred(detector, asked, None, stages)
    else:
        stages.leave_out(detector.name, "transfer", "it takes two generators, and there is one")
    conditions = stages.scale.conditions
    doing = f"{detector.name}: {', '.join(conditions)}"
    with stages.time("robustness", doing), stages.attempt("", "robustness"):
        every = {detector.name: detector}
        found = robustness(every, test, conditions, seen=stages.scored, **stages.how)
        stages.keep("", "robustness", found)
    stages.not_done["planted truth"] = PLANTED
    stages.seconds["whole"] = round(time.monotonic() - started, 1)
    facts = {
        **facts_of(stages, [detector]),
        "title": f"What does {detector.name} look at?",
        "about": about,
        "trained_on": trained_on,
        "per_generator": per_generator,
        "image_set_sha256": {"looked at": test.hash(), "ranked on": rank.hash()},
    }
    results = {
        f"{name}/{stage}" if name else stage: result
        for name, own in stages.found.items()
        for stage, result in own.items()
    }
    return OwnStudy(out, results, stages.not_done, facts)


def _whole(images: ImageSet, stages: Stages) -> ImageSet:
    """Return the images of generators that hold both labels; say which do not."""
    lacking = {
        name: word
        for name in images.generators
        for label, word in ((REAL, "reals"), (FAKE, "fakes"))
        if not len(images.only(label=label, generator=name))
    }
    kept = tuple(one for one in images if one.generator not in lacking)
    if not kept:
        raise UserError(
            f"{images.root}: no generator holds both reals and fakes; `forensift scan` says how "
            "the folders were read"
        )
    for name, word in lacking.items():
        stages.leave_out("", f"generator {name}", f"it holds no {word}")
    return ImageSet(images.root, kept, images.layout, images.left_out)


def _usual_k(detector: Detector) -> int:
    maps = len(detector.feature_maps)
    published = ZEROED.get(detector.name, 0)
    if 0 < published < maps // 4:
        return published
    return max(min(LEAST, maps // 4), round(SHARE * maps))


def _arm(detector: Detector, stages: Stages) -> Arm | None:
    """Return the experiment by pursuit, which only rankings of these very weights allow."""
    path = shipped_weights(detector.name)
    own = path.is_file() and detector.weights.sha256 == sha256(path)
    if own and detector.name in ZEROED:
        return arms(detector)[1]
    stages.leave_out(
        detector.name,
        "dropout-causal",
        "no ranking by pursuit is shipped of these weights; `forensift rank --by pursuit` makes "
        "one, `forensift dropout --value mean-real` drops its maps",
    )
    return None
