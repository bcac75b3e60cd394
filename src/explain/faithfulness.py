"""Faithfulness and sanity of explanation methods on a few images of a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from ..data.conditions import CLEAN
from ..detectors import Detector
from ..errors import UserError, counted
from ..evaluation import sigmoid, widened
from ..records import FAKE, ImageSet, Result
from ..rng import keyed
from ..sweep import How, PixelLook, sweep
from .methods import Explainer, explainer, named_methods, pixel_map
from .parts import Parts
from .perturbation import KINDS, area, cell_sums, curves, falling, filled
from .sanity import randomised, rank_correlation, structural_similarity, top_overlap
from .target import named_target

CHOSEN = ("lrp", "guided-gradcam", "gradcam")
RANDOM = "random"
CELL = 8  # pixels
Maps = dict[str, np.ndarray]  # method → (N, H, W)


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness(Result):
    """What the tests of explanation methods found, as tidy tables.

    curves: image, method ('random' is the control), draw, kind (deletion, insertion), fraction of
        the cells replaced or put in, probability (of the decision made on the whole image).
    summary: method, kind, images, auc (area under the mean curve, 0 … 1), gain (over the random
        order of the same image, positive is more faithful), gain_low, gain_high (95 %, Student's t
        over images, within −1 … 1), p (two-sided, of no gain), intervals_over.
    randomisation: image, method, layers, share (of the layers, from the output, made random),
        spearman and ssim of the map before and after: near 0 is right, near 1 means that the
        method does not look at what was learnt.
    agreement: image, method_a, method_b, spearman, top_overlap (Jaccard of the top 5 % pixels).
    counts: images used, and left out by reason. notes: methods that do not apply, and why.
    """

    curves: pd.DataFrame
    summary: pd.DataFrame
    randomisation: pd.DataFrame
    agreement: pd.DataFrame
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def faithfulness(
    detector: Detector,
    images: ImageSet,
    *,
    methods: str | Sequence[str] = CHOSEN,
    n: int = 6,
    label: int | None = FAKE,
    steps: int = 5,
    draws: int = 1,
    cell: int = CELL,
    fill: str = "mean",
    shares: Sequence[float] = (0.0, 0.5, 1.0),
    composite: str = "beta0",
    **how: Unpack[How],
) -> Faithfulness:
    """Test explanation methods on ``n`` images, drawn at random by seed and image id.

    label: which images to take: 1 fakes, 0 reals, None both; those that the detector decides wrong
        are left out. Of a classifier's images labels say nothing and all count.
    steps: parts in which an image is deleted and inserted; draws: random orders an image;
    cell: side of the squares replaced, in pixels; fill: by the image's 'mean' colour, which
        detectors find neutral, or by a 'blur', which many of them take for a fake.
    shares: of the layers to make random for the sanity check, cascading from the output; 0 is the
        last layer alone, 1 all; none skips the check. composite: the rules of LRP.

    What is explained is the decision (fake or real; the arg-max class), so that positive relevance
    is evidence for it and its probability should follow.

    Raises:
        UserError: no such method or fill, an option out of its range, no image decided right, or
            no method that applies.
    """
    methods = tuple(named_methods(methods))
    _check(methods, n, steps, draws, cell, shares)
    seed = how.get("seed", 0)
    groups, counts = _select(detector, images, n, label, how)
    explain, notes = _ready(detector, methods, composite, groups[0][1][:1])
    methods = tuple(explain)
    curve_rows: list[dict[str, Any]] = []
    sanity_rows: list[dict[str, Any]] = []
    agreement_rows: list[dict[str, Any]] = []
    fractions = np.linspace(0, 1, steps + 1)
    plan = {"methods": methods, "images": groups[0][0], "n": n, "label": label, "steps": steps,
            "draws": draws, "cell": cell, "fill": fill, "shares": shares, "composite": composite,
            "seed": seed}  # fmt: skip
    number = sum(1 + len(shares) + len(keys) for keys, _ in groups)
    parts = Parts(detector, images, plan, counts["used"], number, how)
    for keys, pixels in groups:
        batch = detector.normalised(torch.from_numpy(pixels))
        maps = parts.arrays(partial(_every, explain, batch, detector))
        agreement_rows += _agreement(keys, maps)
        for share in shares:
            again = partial(_sanity, detector, keys, batch, maps, share, seed, composite)
            sanity_rows += parts.rows(again)
        for place, key in enumerate(keys):
            own = {method: maps[method][place] for method in methods}
            curve_rows += parts.rows(
                partial(_curves, detector, key, pixels[place], own, fractions, draws, cell, fill,
                        seed)
            )  # fmt: skip
    table = pd.DataFrame(curve_rows)
    return Faithfulness(
        table,
        summarise(table),
        pd.DataFrame(sanity_rows, columns=list(SANITY_COLUMNS)),
        pd.DataFrame(agreement_rows, columns=list(AGREEMENT_COLUMNS)),
        counts,
        tuple(notes),
        {
            "detector": detector.name,
            "methods": list(methods),
            "images": counts,
            "used": counts["used"],
            "steps": steps,
            "draws": draws,
            "cell": cell,
            "fill": fill,
            "composite": composite,
            "shares": list(shares),
            "seed": seed,
        },
    )


def _ready(
    detector: Detector, methods: Sequence[str], composite: str, pixels: np.ndarray
) -> tuple[dict[str, Explainer], list[str]]:
    """Return the methods that apply, tried on an image, and why the others do not.

    Raises:
        UserError: none applies.
    """
    explain: dict[str, Explainer] = {}
    notes = []
    for method in methods:
        try:
            explain[method] = explainer(detector, method, composite=composite)
            _maps(explain[method], detector.normalised(torch.from_numpy(pixels)), detector, method)
        except UserError as error:
            explain.pop(method, None)
            notes.append(f"{method} is left out: {error}.")
    if not explain:
        raise UserError(" ".join(notes))
    return explain, notes


SANITY_COLUMNS = ("image", "method", "layers", "share", "spearman", "ssim")
AGREEMENT_COLUMNS = ("image", "method_a", "method_b", "spearman", "top_overlap")


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of curves, see :class:`Faithfulness`."""
    keys = ["image", "method", "draw", "kind"]
    single = table.groupby(keys, sort=False).apply(
        lambda rows: area(rows["fraction"].to_numpy(), rows["probability"].to_numpy())
    )
    by_image = single.groupby(["image", "method", "kind"], sort=False).mean()
    rows = []
    for method in dict.fromkeys(table["method"]):
        for kind in KINDS:
            own = by_image.xs((method, kind), level=("method", "kind"))
            control = by_image.xs((RANDOM, kind), level=("method", "kind")).loc[own.index]
            gain = (own - control).to_numpy() * (1 if kind == "insertion" else -1)
            half = p = np.nan
            if len(gain) > 1:
                error = gain.std(ddof=1) / np.sqrt(len(gain))
                half = student.ppf(0.975, len(gain) - 1) * error
                p = 2 * student.sf(abs(gain.mean()) / error, len(gain) - 1) if error else np.nan
            ends = (gain.mean() - half, gain.mean() + half)
            if method != RANDOM:  # which gains nothing on itself, for certain
                ends = widened(gain.mean(), ends, len(gain), -1.0)
            rows.append(
                {
                    "method": method,
                    "kind": kind,
                    "images": len(gain),
                    "auc": own.mean(),
                    "gain": gain.mean(),
                    "gain_low": ends[0],
                    "gain_high": ends[1],
                    "p": p,
                    "intervals_over": "images (Student)",
                }
            )
    return pd.DataFrame(rows)


def _check(
    methods: Sequence[str], n: int, steps: int, draws: int, cell: int, shares: Sequence[float]
) -> None:
    for name, value, least in (("n", n, 1), ("steps", steps, 2), ("draws", draws, 1)):
        if value < least:
            raise UserError(f"{name} = {value}: must be {least} or more")
    if not methods or cell < 1 or not all(0 <= share <= 1 for share in shares):
        raise UserError("faithfulness: needs a method, cells of 1 pixel or more, shares of 0 … 1")


def _select(
    detector: Detector, images: ImageSet, n: int, label: int | None, how: How
) -> tuple[list[tuple[list[str], np.ndarray]], dict[str, int]]:
    """Return up to n images decided right, as (ids, uint8 (N, 3, H, W)) of one size each."""
    judged, seed = detector.real is not None, how.get("seed", 0)
    chosen = images.only(label=label) if judged else images
    if not len(chosen):
        raise UserError(f"{images.root}: holds no images of label {label}")
    order = sorted(chosen, key=lambda entry: keyed(seed, images.image_id(entry)).random())
    found: dict[tuple[int, ...], tuple[list[str], list[np.ndarray]]] = {}
    counts = {"used": 0, "decided wrong": 0, "unusable": 0}
    few: How = {**how, "batch_size": n, "max_skipped": 1.0}
    few.pop("partials", None)  # a handful of images, whose pixels are kept
    for first in range(0, len(order), n):
        if counts["used"] == n:
            break
        part = ImageSet(images.root, tuple(order[first : first + n]), images.layout)
        look = PixelLook(detector, judged=judged)
        done = sweep(part, [look], what="choosing images", **few)
        counts["unusable"] += len(done.skipped)
        for entry in done.used:
            row = look.statistic.rows[CLEAN, images.image_id(entry)]
            if judged and (row["logit"] > 0) != (entry.label == FAKE):
                counts["decided wrong"] += 1
            elif counts["used"] < n:
                keys, kept = found.setdefault(row["pixels"].shape, ([], []))
                keys.append(images.image_id(entry))
                kept.append(row["pixels"])
                counts["used"] += 1
    if not found:
        raise UserError(
            f"{images.root}: {detector.name} decides none of {counted(len(order), 'image')} right"
        )
    return [(keys, np.stack(kept)) for keys, kept in found.values()], counts


def _every(explain: Mapping[str, Explainer], batch: torch.Tensor, detector: Detector) -> Maps:
    return {method: _maps(one, batch, detector, method) for method, one in explain.items()}


def _maps(explain: Explainer, batch: torch.Tensor, detector: Detector, method: str) -> np.ndarray:
    """Return one map an image, (N, H, W), of the evidence for the decision."""
    target = named_target(detector, "decision")
    return pixel_map(explain(batch, target).relevance.cpu().numpy(), method)


def _probability(detector: Detector, pixels: np.ndarray) -> Callable[..., np.ndarray]:
    """Return the probability of the decision that is made on ``pixels`` (3, H, W) as a function."""
    several, outputs = bool(detector.classes), detector.outputs
    first = (outputs if several else detector.logits)(torch.from_numpy(pixels[None]))
    if not several:
        sign = 1.0 if float(first[0]) >= 0 else -1.0
        return lambda many: sigmoid(
            sign * detector.logits(torch.from_numpy(many)).numpy().astype(np.float64)
        )
    output = int(first[0].argmax())
    return lambda many: outputs(torch.from_numpy(many)).double().softmax(dim=1)[:, output].numpy()


def _curves(
    detector: Detector,
    key: str,
    pixels: np.ndarray,
    maps: Maps,
    fractions: np.ndarray,
    draws: int,
    cell: int,
    fill: str,
    seed: int,
) -> Iterator[dict[str, Any]]:
    score = _probability(detector, pixels)
    replaced = filled(pixels, fill)
    whole, gone = score(np.stack([pixels, replaced]))
    rng = keyed(seed, key, "order")
    orders = [(method, 0, falling(cell_sums(own, cell), rng)) for method, own in maps.items()]
    count = len(orders[0][2])
    orders += [(RANDOM, draw, rng.permutation(count)) for draw in range(draws)]
    for method, draw, order in orders:
        found = curves(
            pixels, order, score, fractions, cell=cell, fill=replaced, ends=(whole, gone)
        )
        for kind, values in found.items():
            for fraction, value in zip(fractions, values, strict=True):
                yield {
                    "image": key,
                    "method": method,
                    "draw": draw,
                    "kind": kind,
                    "fraction": fraction,
                    "probability": value,
                }


def _agreement(keys: list[str], maps: Maps) -> Iterator[dict[str, Any]]:
    for one, other in combinations(maps, 2):
        for place, key in enumerate(keys):
            pair = maps[one][place], maps[other][place]
            yield dict(
                zip(
                    AGREEMENT_COLUMNS,
                    (key, one, other, rank_correlation(*pair), top_overlap(*pair)),
                    strict=True,
                )
            )


def _sanity(
    detector: Detector,
    keys: list[str],
    batch: torch.Tensor,
    maps: Maps,
    share: float,
    seed: int,
    composite: str,
) -> Iterator[dict[str, Any]]:
    twin, layers = randomised(detector.network, share, batch, seed)
    for method, before in maps.items():
        explain = explainer(replace(detector, network=twin), method, composite=composite)
        after = _maps(explain, batch, detector, method)
        for place, key in enumerate(keys):
            pair = before[place], after[place]
            alike = rank_correlation(*pair), structural_similarity(*pair)
            yield dict(zip(SANITY_COLUMNS, (key, method, layers, share, *alike), strict=True))
