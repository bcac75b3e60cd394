"""Explanations of images by any method: what ``forensift explain`` computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data import Batch
from ..data.loose import image_files
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import sigmoid
from ..records import ImageEntry, ImageSet, Result, Skipped
from ..sweep import BATCH_SIZE, How, Look, Rows, Seen, sweep
from .attribution import LARGE, shrink
from .methods import METHODS, Explainer, explainer, named_methods, pixel_map, shared
from .target import RawExplanation, Target, named_target, target_name

NO_FILE = Path("pixels")  # root of images that have no file
FIGURE = "beta0,spread"  # of maps that people look at: chosen in docs/lattice.md
Images = ImageSet | Path | str | Sequence[Path | str] | np.ndarray | Tensor


@dataclass(frozen=True)
class Explanation:
    """Why a network gave one image its logit, as far as one method can say.

    key: the image's id in its set, or its number; path: its file, if it has one; pixels: uint8
    (3, H, W) as the network saw them; relevance: float32, raw and signed, (3, H, W), or (H, W)
    where the method gives a map; target: the output explained, with its name and its logit; sign:
    −1 where minus the logit is explained; decision: what the network decides, probability: of
    that, 0 … 1.
    """

    key: str
    path: Path | None
    pixels: np.ndarray
    relevance: np.ndarray
    method: str
    target: int
    target_name: str
    logit: float
    sign: int = 1
    decision: str = ""
    probability: float = np.nan

    @property
    def map(self) -> np.ndarray:
        """One signed number a pixel, float32 (H, W): see :func:`pixel_map`."""
        return pixel_map(self.relevance, self.method)

    @property
    def empty(self) -> bool:
        """Whether nothing in the map is positive: no evidence for what was asked."""
        return not (self.map > 0).any()

    @property
    def caption(self) -> str:
        """What is shown of what, and what the network decides."""
        none = "; no evidence: nothing in the map is positive" if self.empty else ""
        return (
            f"decided {self.decision} (p = {self.probability:.2g}); {self.method} of "
            f"{self.target_name}, logit {self.logit:.3g}{none}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Result, Sequence[Explanation]):
    """A list of explanations: the images in their order, for each all methods in turn.

    table: one row each: path, method, target, target_name, logit, sum, positive_sum, height, width,
    decision, probability. Where explanations were handed on as they came, ``found`` is empty.
    notes: methods of 'all' that do not apply, and why.
    """

    found: tuple[Explanation, ...]
    table: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, place: Any) -> Any:
        return self.found[place]

    def __len__(self) -> int:
        return len(self.found)

    def of(self, method: str) -> list[Explanation]:
        """Return one method's explanations."""
        return [one for one in self.found if one.method == method]


class ExplainLook(Look):
    """The explanations of each image by some methods; ``take`` gets each as it comes."""

    statistic: Taken

    def __init__(
        self,
        detector: Detector,
        methods: Sequence[str],
        target: Target = "decision",
        layer: str | None = None,
        images: ImageSet | None = None,
        take: Callable[[Explanation], dict[str, Any]] | None = None,
        composite: str = FIGURE,
    ) -> None:
        """images: in the order of ``target``, where that is one for each.

        methods: 'all' among them leaves those out that do not apply, see ``notes``.
        """
        self.lenient, self.notes = "all" in methods, dict[str, str]()
        methods = named_methods(methods)
        self.explain: dict[str, Explainer] = {}
        ready = shared(detector) if len(methods) > 1 else lambda name: detector
        for one in methods:
            with self._left_out(one, on_purpose=self.lenient):
                self.explain[one] = explainer(ready(one), one, layer, composite)
        self.target = named_target(detector, target)
        facts = {"methods": methods, "layer": layer, "target": repr(target)}
        if "lrp" in methods:
            facts["composite"] = composite
        facts |= getattr(take, "facts", {})
        super().__init__(detector, Taken(detector, take), colours=(), facts=facts)
        self.by_id: dict[str, int] | None = None
        self.worked: set[str] = set()
        several = isinstance(self.target, (Sequence, Tensor)) and not isinstance(self.target, str)
        if several and images is not None:
            given = torch.as_tensor(self.target).reshape(-1)
            if len(given) not in (1, len(images)):
                raise UserError(f"{len(given)} targets for {len(images)} images")
            ids = [images.image_id(entry) for entry in images]
            self.by_id = dict(zip(ids, given.expand(len(ids)).tolist(), strict=True))
            self.alone = True

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return of each method the relevance, and target, sign, logits (N, K) of each image."""
        pixels = self.detector.normalised(batch.pixels)
        target = self.target
        if self.by_id is not None:
            target = [self.by_id.get(one, 0) for one in batch.ids]
        rows: dict[str, np.ndarray] = {}
        number = len(self.explain)
        for place, (method, explain) in enumerate(list(self.explain.items())):
            self.through(place / number)
            found: RawExplanation | None = None
            with self._left_out(method, on_purpose=self.lenient and method not in self.worked):
                found = explain(pixels, target)
            if found is None:
                continue
            self.worked.add(method)
            rows[f"{method}/relevance"] = found.relevance.float().cpu().numpy()
            rows[f"{method}/target"] = found.targets.cpu().numpy()
            rows[f"{method}/sign"] = found.signs.cpu().numpy()
            rows[f"{method}/logits"] = found.logits.double().cpu().numpy()
        return rows

    @contextmanager
    def _left_out(self, method: str, *, on_purpose: bool) -> Iterator[None]:
        """Note why a method does not apply, where that is no error."""
        try:
            yield
        except UserError as error:
            if not on_purpose:
                raise
            self.explain.pop(method, None)
            self.notes[method] = f"{method} does not apply: {error}."


class Taken:
    """The explanations that came, by image and method; mergeable.

    take: makes a row of numbers of each, which alone is kept; without it they are kept whole.
    """

    def __init__(
        self, detector: Detector, take: Callable[[Explanation], dict[str, Any]] | None = None
    ) -> None:
        self.detector, self.take = detector, take
        self.found: dict[tuple[str, str], Explanation] = {}
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def empty(self) -> Taken:
        """Return the same without any."""
        return Taken(self.detector, self.take)

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch."""
        for method in dict.fromkeys(name.split("/")[0] for name in rows):
            own = {name: rows[f"{method}/{name}"] for name in ("relevance", "target", "sign")}
            for place, (entry, key) in enumerate(zip(batch.entries, batch.ids, strict=True)):
                logits = rows[f"{method}/logits"][place]
                target, sign = int(own["target"][place]), int(own["sign"][place])
                decision, probability = decided(self.detector, logits)
                one = Explanation(
                    key=key,
                    path=None if entry.path.parent == NO_FILE else entry.path,
                    pixels=batch.pixels[place].numpy().copy(),
                    relevance=np.ascontiguousarray(own["relevance"][place]),
                    method=method,
                    target=target,
                    target_name=target_name(self.detector, target, sign),
                    logit=float(logits[target]),
                    sign=sign,
                    decision=decision,
                    probability=probability,
                )
                more = self.take(one) if self.take else {}
                head = {name: more[name] for name in ("file",) if name in more}
                self.rows[key, method] = {"path": key, **head, **_row(one), **more}
                if self.take is None:
                    self.found[key, method] = one
        if finish := getattr(self.take, "finish", None):
            finish()

    def merge(self, other: Taken) -> None:
        """Take in what ``other`` has."""
        self.found.update(other.found)
        self.rows.update(other.rows)

    def state(self) -> dict[str, np.ndarray]:
        """Return all as plain arrays."""
        sources = {key: str(one.path or "") for key, one in self.found.items()}
        found = [[list(key), row, sources.get(key, "")] for key, row in self.rows.items()]
        arrays = {"rows": np.array(json.dumps(found))}
        for place, key in enumerate(self.rows):
            if key in self.found:
                arrays[f"{place}/pixels"] = self.found[key].pixels
                arrays[f"{place}/relevance"] = self.found[key].relevance
        return arrays

    def from_state(self, state: Mapping[str, np.ndarray]) -> Taken:
        """Return the same with what :meth:`state` gave."""
        found = self.empty()
        for place, ((key, method), row, source) in enumerate(json.loads(str(state["rows"]))):
            found.rows[key, method] = row
            if f"{place}/pixels" in state:
                names = ("target", "target_name", "logit", "sign", "decision", "probability")
                path = Path(source) if source else None
                found.found[key, method] = Explanation(
                    key, path, state[f"{place}/pixels"], state[f"{place}/relevance"], method,
                    **{name: row[name] for name in names},
                )  # fmt: skip
        return found

    def result(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return a row for each image and method."""
        return self.rows


def explain(
    detector: Detector,
    images: Images,
    method: str | Sequence[str] = "lrp",
    *,
    target: Target = "decision",
    layer: str | None = None,
    composite: str = FIGURE,
    take: Callable[[Explanation], dict[str, Any]] | None = None,
    **how: Unpack[How],
) -> Explanations:
    """Explain images by one method or several.

    images: an image set; files and folders (all images in them, recursively); or uint8 pixels
        (N, 3, H, W), of which nothing is resized or cropped. Files go through the detector's own
        preprocessing.
    method: of ``METHODS``, several with commas between or as a list; 'all' is all that apply.
    target: see :func:`forensift.explain.target.chosen`, one for all images or one for each, by
        default what the detector decides; a class may be given by its name.
    layer: see :class:`GradCAM`. composite: the rules of LRP; the published ones are "beta0", whose
        maps of a ResNet are mostly a lattice of dots 32 pixels apart (docs/lattice.md).
    take: gets each explanation as it comes and returns what the table is to hold of it besides;
        explanations are then not kept, so that memory does not grow with the images. Its ``facts``,
        where it has any, decide whether an interrupted run is gone on with; its ``finish`` is
        called when a batch is through.

    Raises:
        UserError: see :func:`explainer`; a target that is none; no images; or see
            :func:`forensift.sweep`.
    """
    methods = method.split(",") if isinstance(method, str) else list(method)
    if isinstance(images, (np.ndarray, Tensor)):
        known = _numbered(torch.as_tensor(images))
        look = ExplainLook(detector, methods, target, layer, known, take, composite)
        size = how.get("batch_size", BATCH_SIZE)
        for first in range(0, len(known), size):
            part = known[first : first + size]
            ids = tuple(part.image_id(entry) for entry in part)
            batch = Batch(torch.as_tensor(images)[first : first + size], part.entries, ids)
            look.statistic.update(batch, look.observe(batch, {}))
        skipped: tuple[Skipped, ...] = ()
    else:
        known = images if isinstance(images, ImageSet) else image_files(images)
        look = ExplainLook(detector, methods, target, layer, known, take, composite)
        done = sweep(known, [look], what="explaining", **how)
        known, skipped = done.used, done.skipped
    taken, methods = look.statistic, named_methods(methods)
    keys = [(known.image_id(entry), one) for entry in known for one in methods]
    keys = [key for key in keys if key in taken.rows]
    if not keys:
        raise UserError(" ".join(look.notes.values()))
    table = pd.DataFrame([taken.rows[key] for key in keys]).drop(columns="sign")
    found = tuple(taken.found[key] for key in keys if key in taken.found)
    facts = {"detector": detector.name, "preset": detector.preset.name, **look.facts}
    notes = (*look.notes.values(), *_seen_smaller(detector, table))
    return Explanations(found, table, skipped, notes, {**facts, "used": len(known)})


def _seen_smaller(detector: Detector, table: pd.DataFrame) -> list[str]:
    """Say which methods saw a large image smaller, and by how much."""
    small = table[table["method"].map(lambda one: METHODS[one].small)]
    sides = {
        size: shrink(detector.network, size)
        for size in set(zip(small["height"], small["width"], strict=True))
    }
    most = max(sides.values(), default=1)
    if most <= 1:
        return []
    squares = f"{'up to ' * (len(set(sides.values())) > 1)}{most} × {most}"
    return [
        f"{', '.join(dict.fromkeys(small['method']))} saw images of more than {LARGE} pixels as "
        f"means of {squares}: they take many passes, and traces finer than that are not in them."
    ]


def decided(detector: Detector, logits: np.ndarray) -> tuple[str, float]:
    """Return what the network decides by its logits (K,), and the probability of that."""
    if detector.classes:
        shares = np.exp(logits - logits.max())
        best = int(logits.argmax())
        return detector.classes[best], float(shares[best] / shares.sum())
    probability = float(sigmoid(np.abs(logits[:1]))[0])
    return ("fake" if logits[0] > 0 else "real"), probability


def _row(one: Explanation) -> dict[str, Any]:
    raw = one.relevance.astype(np.float64)
    return {
        "method": one.method,
        "target": one.target,
        "target_name": one.target_name,
        "logit": one.logit,
        "sum": float(raw.sum()),
        "positive_sum": float(raw[raw > 0].sum()),
        "height": one.pixels.shape[1],
        "width": one.pixels.shape[2],
        "decision": one.decision,
        "probability": one.probability,
        "sign": one.sign,
    }


def _numbered(pixels: Tensor) -> ImageSet:
    """Return a set of images without files, whose ids are their numbers."""
    if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1] != 3:
        raise UserError(
            f"pixels must be uint8 (N, 3, H, W); got {pixels.dtype} {tuple(pixels.shape)}"
        )
    return ImageSet(
        NO_FILE, tuple(ImageEntry(NO_FILE / str(at), 0, "") for at in range(len(pixels)))
    )
