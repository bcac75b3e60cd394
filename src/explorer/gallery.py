"""The images that can be picked, those that were dropped on the page, and what is done to them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from PIL import Image

from ..data import UnreadableImage, image_size, photographs, read_image, scan
from ..data.conditions import parse_condition
from ..data.loose import image_files
from ..errors import UserError
from ..forge import forge
from ..records import FAKE, ImageEntry, ImageSet

UPLOAD_BYTES, UPLOAD_PIXELS, UPLOADS = 32 * 2**20, 25_000_000, 50
PICKED = 400  # images of a folder that are offered, at most
THUMBNAIL = 96  # pixels
DEMO = ("progan-like", "cyclegan-like")  # the family that detectors were trained on, and another
UPLOADED = "upload-"
KEPT = 6  # images as they are after JPEG, blur …, of which the pixels are kept
ORDER = ("resize", "blur", "grey", "jpeg")  # as an image travels: the last thing is its file


def demo_images(folder: Path, photos: int = 8) -> ImageSet:
    """Forge a few test photographs into ``folder``, and return crops and fakes."""
    forge(photographs("test")[:photos], DEMO, folder, per_family=photos)
    images = scan(folder)
    once: dict[tuple[int, str], ImageEntry] = {}
    for entry in images:  # all families have the same crops
        key = entry.label, entry.path.name + entry.generator * (entry.label == FAKE)
        once.setdefault(key, entry)
    # First what was trained on, then the photographs, then what was not.
    rank = {(FAKE, DEMO[0]): 0, (FAKE, DEMO[1]): 2}
    entries = sorted(once.values(), key=lambda one: rank.get((one.label, one.generator), 1))
    return ImageSet(images.root, tuple(entries), images.layout)


@dataclass(frozen=True)
class Shot:
    """An image and what is done to it before a detector sees it: names of conditions, in order."""

    image: str
    conditions: tuple[str, ...] = ()


class Gallery:
    """Images by id: those of a set under their ids there, and uploads in a temporary folder.

    studied: images that maps are looked at in, as fakes: those of the set, or, where it knows
    neither fakes nor reals, all of it.
    """

    def __init__(self, images: ImageSet, folder: Path) -> None:
        """folder: for uploads; whoever made it removes it."""
        self.folder = folder
        kept = ImageSet(images.root, images.entries[:PICKED], images.layout)
        self.entries = {kept.image_id(entry): entry for entry in kept}
        self.root, self.labelled = images.root, bool(images.layout)
        every = [
            ImageEntry(one.path, FAKE if not self.labelled else one.label, one.generator)
            for one in images
        ]
        self.studied = ImageSet(images.root, tuple(every), images.layout).only(label=FAKE)
        self._shots: dict[Shot, Image.Image] = {}
        self._lock = Lock()

    @classmethod
    def of(cls, data: Path, folder: Path) -> Gallery:
        """Return the images of a folder or manifest, with or without labels."""
        try:
            images = scan(data)
        except UserError:
            if not data.is_dir():
                raise
            images = image_files(data)
        return cls(images, folder)

    def listed(self) -> list[dict[str, str]]:
        """Return id, name and what is known of each image that can be picked, uploads last."""
        rows = []
        for key, entry in self.entries.items():
            kind = "fake" if entry.label == FAKE else "real"
            upload = key.startswith(UPLOADED)
            known = "uploaded" if upload else kind if self.labelled else ""
            rows.append(
                {
                    "id": key,
                    "name": entry.class_name if upload else entry.path.name,
                    "kind": known,
                    "generator": entry.generator if kind == "fake" and not upload else "",
                }
            )
        return rows

    def add(self, name: str, content: bytes) -> str:
        """Take in an uploaded image and return its id.

        Raises:
            UserError: too many bytes or pixels, or nothing that can be read as an image.
        """
        name = Path(name.replace("\\", "/")).name[:80] or "image"
        if len(content) > UPLOAD_BYTES:
            raise UserError(f"{name}: larger than {UPLOAD_BYTES // 2**20} MB")
        key = UPLOADED + hashlib.sha256(content).hexdigest()[:12]
        path = self.folder / key  # without a suffix: its content alone says what it is
        with self._lock:
            held = [one for one in self.entries if one.startswith(UPLOADED)]
            if key not in held and len(held) >= UPLOADS:
                oldest = self.entries.pop(held[0])
                oldest.path.unlink(missing_ok=True)
            path.write_bytes(content)
            try:
                _, width, height = image_size(path)
                if width * height > UPLOAD_PIXELS:
                    raise UnreadableImage(
                        f"{width} × {height} pixels, and {UPLOAD_PIXELS // 10**6} million are the "
                        "most here"
                    )
                read_image(path)
            except UnreadableImage as error:
                path.unlink()
                self.entries.pop(key, None)
                reason = error.reason if " " in error.reason else "no image that can be read"
                raise UserError(f"{name}: {reason}") from None
            self.entries[key] = ImageEntry(path, FAKE, "", name)
        return key

    def picture(self, shot: Shot) -> Image.Image:
        """Return the RGB image under its conditions, at its own size.

        Raises:
            UserError: there is no such image or condition, or it cannot be read.
        """
        with self._lock:
            if shot in self._shots:
                return self._shots[shot]
            entry = self.entries.get(shot.image)
        if entry is None:
            what = "was dropped here earlier" if shot.image.startswith(UPLOADED) else "is not here"
            raise UserError(f"the image of this address {what}: pick or drop one")
        try:
            image = read_image(entry.path)
        except UnreadableImage as error:
            raise UserError(f"{entry.path.name}: {error.reason}") from None
        for change in map(parse_condition, shot.conditions):
            image = change(image)
        with self._lock:
            self._shots[shot] = image
            while len(self._shots) > KEPT:
                self._shots.pop(next(iter(self._shots)))
        return image

    def thumbnail(self, key: str) -> bytes:
        """Return a small PNG of an image; see :meth:`picture` for errors."""
        image = self.picture(Shot(key)).copy()
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


def conditions_of(given: dict[str, float]) -> tuple[str, ...]:
    """Return the names of conditions for the page's sliders, in ``ORDER``.

    Raises:
        UserError: no such condition, or a number outside its range.
    """
    if unknown := sorted(set(given) - set(ORDER)):
        raise UserError(f"no condition {unknown[0]!r}; there are {', '.join(ORDER)}")
    names = [one if one == "grey" else f"{one}-{given[one]:g}" for one in ORDER if one in given]
    return tuple(parse_condition(name).name for name in names)
