"""The published protocol of the T-FF study, on ForenSynths with the published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Unpack

import pandas as pd

from ...data import require_both_classes
from ...detectors import load_detector
from ...errors import UserError
from ...fmap_ranking import PUBLISHED_K
from ...histograms import first_instances
from ...records import ImageSet
from ...sweep import How
from .parts import CENTRE, FFRS, NATIVE, Parts, Protocol
from .study import INSTANCES, Reproduction, TffStudy
from .tables import (
    COLUMNS,
    FOLDERS,
    STUDIED,
    TABLES,
    check_generators,
    compare,
    published_cells,
)
from .weights import ARCHS, BASELINE, Slot


def reproduce_tff(
    images: ImageSet,
    weights: Mapping[Slot, Path],
    *,
    archs: Sequence[str] = ARCHS,
    tables: Sequence[str] = TABLES,
    generators: Sequence[str] = (),
    rank_images: ImageSet | None = None,
    protocol: Protocol | None = None,
    device: str = "cpu",
    **how: Unpack[How],
) -> Reproduction:
    """Run the published protocol and set published figures and ours side by side.

    images: ForenSynths, generators named as its folders. weights: see ``find_weights``.
    generators: published or folder names, by default all; those not in the data are reported.
    rank_images: the ProGAN validation set, for ``protocol.ranking`` 'own'.

    Dropout: k = 114 / 27 at native size; thresholds are the best ROC points of the whole network
    on the same images, 0.5 on ProGAN. Grey: Pillow's luma in all three channels.

    Raises:
        UserError: nothing in common between tables, data and weights, one class missing, an
            option out of range, parts of another plan, or too many unreadable images.
    """
    protocol = protocol or Protocol()
    _check(protocol, archs, tables, rank_images)
    names = check_generators(generators, tables)
    used = {slot: path for slot, path in weights.items() if slot[0] in archs}
    if not used:
        raise UserError(f"no weights of {' or '.join(archs)} were given")
    sets = _sets(images, names, protocol.limit)
    missed = how.setdefault("skipped", [])
    jobs = [(slot, table) for slot in used for table in tables if _applies(slot, table, sets)]
    if not jobs:
        raise UserError("none of the tables asked for is of these weights and generators")
    study = TffStudy(Parts(protocol, how), sets, Reproduction(pd.DataFrame()), rank_images)
    facts: dict[str, object] = {}
    for slot, path in used.items():
        detector = load_detector(slot[0], weights=path, preset=NATIVE, device=device)
        facts[", ".join(slot)] = asdict(detector.weights)
        mine = [table for one, table in jobs if one == slot]
        if "dropout" in mine or "median-test" in mine:
            ranking = study.ranking(detector)
        if "dropout" in mine:
            study.dropout(detector, ranking)
        if "median-test" in mine:
            study.median_test(detector, ranking)
        if "colour-robust" in mine:
            study.colour(detector, slot[1])
        if "cnndetection" in mine:
            study.cnndetection(detector)
    result = study.result
    wanted = published_cells(tables, archs)
    wanted = wanted[wanted["generator"].isin(names)]
    ours = pd.DataFrame(study.cells, columns=list(COLUMNS))
    result.cells = compare(wanted, ours, there=list(sets), weights=list(used))
    result.scores = pd.concat(study.scores, ignore_index=True) if study.scores else pd.DataFrame()
    result.skipped = tuple(dict.fromkeys(missed))
    result.facts = {
        "study": "tff",
        "tables": list(tables),
        "archs": list(archs),
        "weights": facts,
        **_of_images(images, sets, result),
        "missing_generators": [name for name in names if name not in sets],
        "rank_data": str(rank_images.root) if rank_images is not None else None,
        "presets": {"dropout and colour": NATIVE, "ranking": FFRS, "cropped": CENTRE},
        "k": {arch: PUBLISHED_K[arch] for arch in archs},
        "device": device,
        "seed": how.get("seed", 0),
        **asdict(protocol),
    }
    result.notes = _notes(result)
    return result


def _of_images(
    images: ImageSet, sets: Mapping[str, ImageSet], result: Reproduction
) -> dict[str, object]:
    """Return what the manifest says of the images, and of those ranked on."""
    chosen = ImageSet(images.root, tuple(one for own in sets.values() for one in own))
    return {
        "data": str(images.root),
        "image_set_sha256": chosen.hash(),
        "used": len(chosen) - len({one.path for one in result.skipped}),
        "skipped": len(result.skipped),
        "generators": {name: len(own) for name, own in sets.items()},
        "ranking_counts": {
            f"{arch} {kind}": dict(one.counts)
            for arch, kinds in result.rankings.items()
            for kind, one in kinds.items()
        },
    }


def _sets(images: ImageSet, names: Sequence[str], limit: int | None) -> dict[str, ImageSet]:
    """Return the images of each generator that is in the data, under its published name."""
    folders = {generator.lower(): generator for generator in images.generators}
    found = {
        name: images.only(generator=folders[FOLDERS[name]])
        for name in names
        if FOLDERS[name] in folders
    }
    if not found:
        asked = ", ".join(FOLDERS[name] for name in names)
        raise UserError(
            f"{images.root}: holds none of the generators {asked}; "
            f"it holds {', '.join(images.generators)}"
        )
    for own in found.values():
        require_both_classes(own)
    return found if limit is None else {k: first_instances(v, limit) for k, v in found.items()}


def _applies(slot: Slot, table: str, sets: Mapping[str, ImageSet]) -> bool:
    if table == "cnndetection":
        return slot == ("resnet50", BASELINE)
    studied = any(name in STUDIED for name in sets)
    return studied and (table == "colour-robust" or slot[1] == BASELINE)


def _check(
    protocol: Protocol, archs: Sequence[str], tables: Sequence[str], rank_images: ImageSet | None
) -> None:
    for given, known, what in ((archs, ARCHS, "architecture"), (tables, TABLES, "table")):
        unknown = [one for one in given if one not in known]
        if unknown or not given:
            raise UserError(f"no {what} {''.join(unknown[:1])!r}; there are {', '.join(known)}")
    if protocol.ranking not in ("published", "own"):
        raise UserError(f"no ranking {protocol.ranking!r}; there are published and own")
    if protocol.ranking == "own" and rank_images is None:
        raise UserError("a ranking of our own needs the ProGAN validation set (rank_images)")
    if protocol.draws < 1:
        raise UserError(f"{protocol.draws} draws: at least 1 is needed")


def _notes(result: Reproduction) -> list[str]:
    """Return the lines above the tables of ``reproduction.md``."""
    facts = result.facts
    used = "all images"
    if facts["limit"] is not None:
        of_each = f"the first {facts['limit']} reals and fakes of each generator and class"
        used = f"{of_each}, in sorted order"
    ranking = "the published rankings (fmap_relevances/)"
    if facts["ranking"] == "own":
        ranking = (
            f"FF-RS computed anew, the first {facts['rank_per_class']} reals and fakes of each "
            f"class of {facts['rank_data']} in sorted order, preset {FFRS}, start published"
        )
    lines = [
        "Percent. Intervals are 95 %: other images of the same kind (stratified bootstrap; "
        "accuracies also Wilson), thresholds held; those of random-k also hold other draws. A "
        "published figure is inside if it lies in our interval or within half of its last digit.",
        f"Images: {used}, at native size. Ranking: {ranking}. Thresholds: the best ROC point of "
        "the whole network on the same images, as published (optimistic); 0.5 on ProGAN. "
        f"random-k: scores averaged over {min(facts['draws'], 5)} draws, as published; every draw "
        "is in dropout.csv. Grey: luma in all three channels. Median test: the first "
        f"{INSTANCES} fakes of each class; no percentage is published, and its interval is over "
        "feature maps, not images.",
        "Look at the baseline rows first: where they are outside, images or weights are others "
        "than the published ones, and the rest says nothing about the method.",
    ]
    if facts["missing_generators"]:
        lines.append(f"Not in the data: {', '.join(facts['missing_generators'])}.")
    return [*result.notes, *lines]
