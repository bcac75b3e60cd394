"""DeepFeatureX's robustness sets (§6.4 of the facts): what each filter does, and the folders."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from ...data import UnreadableImage, read_image
from ...data.conditions import FULL, Condition, parse_condition
from ...data.degrade import encode_jpeg
from ...errors import UserError
from ...files import write_bytes
from ...records import ImageSet, Skipped
from ...training.guidance import architecture_of, class_of

# Published tag → the condition (forensift.data.conditions), and what people call it.
_FILTERS = {
    **{f"jpegQF{q}": (f"jpeg444-{q}", f"JPEG {q}") for q in (90, 80, 70, 60, 50)},
    **{f"GaussNoise-{k}": (f"kernel-{k}", f"blur {k} × {k}, σ 4") for k in (3, 7, 15)},
    "scaling-50": ("area-0.5", "half size"),
    "scaling-200": ("area-2", "double size"),
    "mirror-B": ("mirror", "mirrored, both axes"),
    **{f"rotation-{degrees}": (f"turn-{degrees}", f"turned {degrees}°") for degrees in (45, 135)},
}
FILTERS = {tag: parse_condition(name) for tag, (name, _) in _FILTERS.items()}
WORDS = {tag: words for tag, (_, words) in _FILTERS.items()}


def chosen_filters(tags: Sequence[str]) -> dict[str, Condition]:
    """Return the filters of these tags; () is all of them.

    Raises:
        UserError: an unknown tag.
    """
    strange = [tag for tag in tags if tag not in FILTERS]
    if strange:
        raise UserError(f"no filter {strange[0]!r}; there are {', '.join(FILTERS)}")
    return {tag: FILTERS[tag] for tag in tags or FILTERS}


def write_filtered(
    images: ImageSet,
    out: Path,
    tags: Sequence[str] = (),
    *,
    diffusion: Sequence[str],
    skipped: list[Skipped] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[Path]:
    """Write ``testing_dset-<tag>/<class>/<architecture>/<name>`` for each filter; return folders.

    JPEG is written as JPEG (the published script fails to, and hides it), the others as PNG.
    Images that are there already are kept; unreadable ones are appended to ``skipped``.
    """
    filters = chosen_filters(tags)
    for place, entry in enumerate(images, 1):
        image: Image.Image | None = None
        for tag, change in filters.items():
            quality = int(change.value) if change.kind == "jpeg444" else 0
            folder = out / f"testing_dset-{tag}" / class_of(entry, diffusion)
            path = folder / architecture_of(entry) / entry.path.name
            path = path.with_suffix(".jpg" if quality else ".png")
            if path.is_file():
                continue
            try:
                image = image or read_image(entry.path)
            except UnreadableImage as error:
                if skipped is not None:
                    skipped.append(Skipped(entry.path, error.reason))
                break
            if quality:
                write_bytes(path, encode_jpeg(image, quality=quality, subsampling=FULL))
                continue
            buffer = io.BytesIO()
            change(image).save(buffer, "PNG")
            write_bytes(path, buffer.getvalue())
        if progress is not None:
            progress("filtering", place, len(images))
    return [out / f"testing_dset-{tag}" for tag in filters]
