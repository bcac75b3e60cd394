"""Pictures inside a page: PNGs as data addresses, heat as colours whose opacity is its strength."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

# The upper part of Matplotlib's inferno, as overlays of `forensift explain` have it: weak … strong.
_RAMP = np.array([[203, 65, 73], [237, 105, 37], [251, 155, 6], [247, 209, 61], [252, 255, 164]])


def png(pixels: np.ndarray) -> str:
    """Return uint8 pixels (H, W, 3 or 4) as a data address."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def heat_png(heat: np.ndarray) -> str:
    """Return heat (H, W), 0 … 1, in colours whose opacity is its root, as a data address."""
    places = np.linspace(0, 1, len(_RAMP))
    colours = [np.interp(heat, places, _RAMP[:, channel]) for channel in range(3)]
    opacity = 255 * np.sqrt(np.clip(heat, 0, 1))
    return png(np.rint(np.stack([*colours, opacity], axis=-1)).astype(np.uint8))
