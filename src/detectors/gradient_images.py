"""Images → gradient images (Tan et al. 2023, LGrad, stage 1), computed once and kept.

A gradient image is the derivative of a critic's score at the image: ∂ Σ D(x) / ∂x, sign kept,
stretched per image and jointly over channels to 0 … 255 and rounded to 8 bits. It is a function of
the pixels and the critic alone: images go through the critic one at a time, since StyleGAN's
minibatch statistics would let the others of a batch in.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from uuid import uuid4

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from ..data.decode import is_of_file
from ..data.presets import Preset
from ..errors import UserError
from ..files import write_with
from .critics import Critic, load_critic
from .precision import full_float32

PROCEDURE = "1"  # part of every key: a change of the procedure makes kept images out of date
MEMORY_BYTES = 256 * 2**20
DISK_BYTES = 2 * 2**30  # of the cache folder; what was asked for longest ago is removed
CHECK = 256  # files written between two looks at the folder's size
KEY, DIGEST = "forensift-gradient-of", "forensift-sha256"  # text chunks of a PNG


def gradient(critic: Critic, pixels: torch.Tensor) -> torch.Tensor:
    """Return ∂ Σ D(x) / ∂x, float32 (3, H, W), of one uint8 image (3, H, W); x = pixels/127.5 − 1.

    Raises:
        UserError: the critic does not take the image's size, or gives no finite gradient.
    """
    if critic.side is not None and tuple(pixels.shape[1:]) != (critic.side, critic.side):
        raise UserError(
            f"critic {critic.name}: takes {critic.side} × {critic.side} pixels, not "
            f"{pixels.shape[2]} × {pixels.shape[1]}"
        )
    with torch.inference_mode(False), torch.enable_grad(), full_float32():
        image = (pixels[None].to(torch.float32) / 127.5 - 1).requires_grad_()
        score = critic.score(image).float().sum()
        if not score.requires_grad:
            raise UserError(f"critic {critic.name}: its score does not depend on the image")
        (found,) = torch.autograd.grad(score, image)
    if not bool(torch.isfinite(found).all()):
        raise UserError(f"critic {critic.name}: its gradient is not finite")
    return found[0]


def to_8_bits(found: torch.Tensor) -> torch.Tensor:
    """Stretch a gradient (3, H, W) to 0 … 255 over all channels; uint8, halves to even.

    A constant gradient becomes 0 everywhere.
    """
    shifted = found - found.min()
    largest = shifted.max()
    if float(largest) != 0:
        shifted = shifted / largest
    return (shifted * 255).round().clamp(0, 255).to(torch.uint8)


def cache_folder() -> Path | None:
    """Return where gradient images are kept; it may be deleted at any time.

    ``FORENSIFT_CACHE`` names another cache folder, and 'off' none; the system's own else.
    """
    asked = os.environ.get("FORENSIFT_CACHE", "")
    if asked == "off":
        return None
    if asked:
        return Path(asked) / "gradients"
    own = os.environ.get("XDG_CACHE_HOME")
    if not own:
        if sys.platform == "win32":
            own = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
        else:
            own = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(own).expanduser() / "forensift" / "gradients"


class _Memory:
    """The images asked for last, up to so many bytes; safe to share between threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._images: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> np.ndarray | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def add(self, key: str, image: np.ndarray) -> None:
        with self._lock:
            if key in self._images:
                return
            self._images[key] = image
            self._held += image.nbytes
            while self._held > self._limit and len(self._images) > 1:
                self._held -= self._images.popitem(last=False)[1].nbytes


_MEMORY = _Memory(MEMORY_BYTES)


class GradientImages:
    """Gradient images of a critic, each computed once: kept in memory, and in a folder of PNGs.

    folder: None keeps nothing on disk. Only gradient images of files go there (see
    :func:`remember_file`): those of edited images (colour modes, patches, conditions) stay in
    memory. The folder is held below ``DISK_BYTES``. A file that cannot be read, is of another image
    or was tampered with is computed anew; files are written whole or not at all, so that several
    programs may share a folder. computed: how often the critic has been asked.
    """

    def __init__(self, critic: Critic, folder: Path | None = None) -> None:
        self.critic, self.folder = critic, folder if critic.sha256 else None
        self.computed, self._written = 0, 0
        # Without a file's digest, what is kept belongs to this object alone.
        self._identity = critic.sha256 or uuid4().hex

    def __repr__(self) -> str:
        return f"GradientImages({self.critic!r})"

    def key(self, pixels: np.ndarray, device: torch.device | str = "cpu") -> str:
        """Return the SHA-256 of all that decides the gradient image of uint8 (3, H, W)."""
        facts = f"{PROCEDURE} {self._identity} {pixels.shape} {_arithmetic(torch.device(device))} "
        digest = hashlib.sha256(facts.encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        return digest.hexdigest()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the gradient images of uint8 (N, 3, H, W): the same shape, type and device."""
        if not len(pixels):
            return pixels
        self.critic.to(pixels.device)
        found = np.stack([self._one(image) for image in pixels])
        return torch.from_numpy(found).to(pixels.device)

    def _one(self, pixels: torch.Tensor) -> np.ndarray:
        own = pixels.cpu().numpy()
        key = self.key(own, pixels.device)
        known = _MEMORY.get(key)
        if known is None and self.folder is not None:
            known = read_gradient(self._path(key), key)
            if known is not None:
                with suppress(OSError):  # what was used longest ago is removed first
                    os.utime(self._path(key))
        if known is None:
            self.computed += 1
            known = to_8_bits(gradient(self.critic, pixels)).cpu().numpy()
            if self.folder is not None and _content(own) in _OF_FILES:
                self._keep(key, known)
        _MEMORY.add(key, known)
        return known

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.png"

    def _keep(self, key: str, image: np.ndarray) -> None:
        try:
            write_gradient(self._path(key), image, key)
            if self._written % CHECK == 0:
                _bound(self.folder, DISK_BYTES)
            self._written += 1
        except OSError:  # a full disk or a folder without permission: go on without
            self.folder = None


_OF_FILES: set[bytes] = set()


def remember_file(pixels: np.ndarray) -> None:
    """Say that pixels, uint8 (3, H, W), are a file's own: their gradient image may be kept."""
    _OF_FILES.add(_content(pixels))


def _content(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()


def _arithmetic(device: torch.device) -> str:
    """Return what makes the same gradient come out otherwise: the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _bound(folder: Path | None, limit: int) -> None:
    """Remove the files used longest ago until a cache folder is a tenth below its limit."""
    if folder is None:
        return
    found = []
    for path in folder.rglob("*.png"):
        with suppress(OSError):  # another program may remove it at this moment
            facts = path.stat()
            found.append((facts.st_mtime_ns, facts.st_size, path))
    held = sum(size for _, size, _ in found)
    if held <= limit:
        return
    for _, size, path in sorted(found):
        if held <= 0.9 * limit:
            return
        with suppress(OSError):
            path.unlink()
        held -= size


def write_gradient(path: Path, image: np.ndarray, key: str) -> None:
    """Write a gradient image, uint8 (3, H, W), as a PNG that says whose it is."""
    facts = PngImagePlugin.PngInfo()
    facts.add_text(KEY, key)
    facts.add_text(DIGEST, hashlib.sha256(image.tobytes()).hexdigest())
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    write_with(path, lambda out: picture.save(out, "PNG", pnginfo=facts))


def read_gradient(path: Path, key: str) -> np.ndarray | None:
    """Return what :func:`write_gradient` wrote, uint8 (3, H, W); None if it is not that, intact."""
    try:
        with Image.open(path, formats=("PNG",)) as opened:
            picture = np.asarray(opened.convert("RGB"))
            facts = dict(opened.info)
    except FileNotFoundError:
        return None
    # Pillow's decoders raise many kinds of error on bytes that were tampered with.
    except Exception:
        return None
    image = np.ascontiguousarray(picture.transpose(2, 0, 1))
    intact = hashlib.sha256(image.tobytes()).hexdigest() == facts.get(DIGEST)
    return image if intact and facts.get(KEY) == key else None


@dataclass(frozen=True)
class GradientPreset(Preset):
    """Geometry, then the gradient image, then ImageNet normalisation.

    All that works on pixels (colour ablation, patches, scores) works as before. The network sees
    the gradient image: relevance at its input belongs to that image's pixels, which have the places
    of the image's own pixels.
    """

    images: GradientImages = field(kw_only=True)

    def geometry(self, image: Image.Image, key: str = "", seed: int = 0) -> Image.Image:
        """Return the RGB image resized and cropped; a file's own is remembered as such."""
        found = super().geometry(image, key, seed)
        if is_of_file(image):
            remember_file(np.array(found).transpose(2, 0, 1))
        return found

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the gradient images of uint8 pixels (N, 3, H, W), normalised, float32."""
        return super().normalise(self.images(pixels))

    @property
    def facts(self) -> dict[str, object]:
        """What a manifest says beside the preset's name: the critic and its weights' SHA-256."""
        return {"critic": self.images.critic.facts}


def gradient_preset(
    critic: Critic | Path | str | None = None, *, side: int | None = None, cache: bool = True
) -> GradientPreset:
    """Return the preprocessing of LGrad with a critic (the project's own by default).

    side: side in pixels that images are forced to, aspect lost; 0 keeps the native size; by default
    the critic's own (256, published), and the native size for a critic that takes any.
    cache: keep gradient images in :func:`cache_folder`.
    """
    if not isinstance(critic, Critic):
        critic = load_critic(critic)
    side = (critic.side or 0) if side is None else side
    name = f"lgrad{f'-{side}' if side else ''}:{critic.name}"
    name += f"@{critic.sha256[:12]}" if critic.sha256 else ""
    images = GradientImages(critic, cache_folder() if cache else None)
    return GradientPreset(name, squash=(side, side) if side else None, images=images)
