"""From the relevance of the pixels for one feature map to the piece of the image it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..records import FeatureMap

PERCENTILE = 75.0  # published
TILE = 224  # pixels, published


@dataclass(frozen=True)
class Box:
    """Rows top … bottom − 1 and columns left … right − 1 of an image."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return a copy of the part of ``image`` (H, W, …) inside the box."""
        return image[self.top : self.bottom, self.left : self.right].copy()


@dataclass(frozen=True)
class Patch:
    """The piece of one image that one feature map responds to most.

    omega: of the map; place: 1 for the image of the largest maximum; image: id in the set.
    maximum, y, x: largest value of the plain network's convolution output and its position in the
    map; this is what images are ranked by.
    start, start_y, start_x: largest value of the *folded* convolution's output and where, the
    position that relevance starts from. A BatchNorm of negative scale turns a map over, and then
    this is another position.
    box: of the crop, in pixels of the decoded image; None where there is no patch, and ``note``
    says why. share_of_relevance: how much of the image's positive relevance lies inside the box;
    share_of_image: the box's area against the image's. reach: the box of all pixels that any
    relevance gets to: the receptive field, cut off at the image's edge.
    crop: uint8 (height, width, 3).
    """

    feature_map: FeatureMap
    omega: float
    place: int
    image: str
    path: Path
    generator: str
    maximum: float
    y: int
    x: int
    start: float
    start_y: int
    start_x: int
    box: Box | None
    share_of_relevance: float
    share_of_image: float
    reach: Box | None
    crop: np.ndarray | None
    note: str = ""


def heat(relevance: np.ndarray) -> np.ndarray:
    """Return the positive relevance of each place, (H, W), 0 … 1, from relevance (3, H, W).

    Summed over colour, negatives set to 0, divided by the maximum; all 0 where nothing is positive.
    """
    positive = np.maximum(relevance.astype(np.float64).sum(axis=0), 0)
    most = positive.max(initial=0.0)
    return positive / most if most > 0 else positive


def bounding_box(
    values: np.ndarray, percentile: float = PERCENTILE, *, published_edge: bool = False
) -> Box | None:
    """Return the smallest box of all places above the percentile of ``values`` (H, W) ≥ 0.

    The percentile is that of all the image's places, those of no relevance among them, as
    published. Where fewer than a quarter of the places hold any, it is 0, and the box holds all
    positive relevance: so it is for layers that see a small part of the image. Of a map that sees
    all of it, a quarter of the places are above, and the box is often most of the image.

    published_edge: leave out the last row and the last column, as the published code does.
    None where nothing is positive, or the published edge leaves nothing; the whole image where all
    its places hold the same.
    """
    if not (values > 0).any():
        return None
    above = values > np.percentile(values, percentile)
    if not above.any():
        above = values > 0
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    more = 0 if published_edge else 1
    box = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + more, int(columns[-1]) + more)
    return box if box.height and box.width else None


def tile(crop: np.ndarray, size: int = TILE) -> np.ndarray:
    """Return a crop as size × size pixels by nearest neighbour with a black frame of one pixel.

    Every crop becomes a square, as published: one that is not square is stretched.
    """
    scaled = np.array(Image.fromarray(crop).resize((size, size), Image.Resampling.NEAREST))
    scaled[[0, -1]] = 0
    scaled[:, [0, -1]] = 0
    return scaled
