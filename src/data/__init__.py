"""Find, check, decode, transform and batch images."""

from .batching import Batch, Transform, batches, check_skipped, content
from .decode import EXTENSIONS, FORMATS, UnreadableImage, image_size, read_image
from .kept import KeptPixels, keep_pixels
from .layouts import manifest_table, require_both_classes, scan
from .photos import photographs, split_photographs
from .presets import PRESETS, Preset, RandomResizedCrop, get_preset

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "PRESETS",
    "Batch",
    "KeptPixels",
    "Preset",
    "RandomResizedCrop",
    "Transform",
    "UnreadableImage",
    "batches",
    "check_skipped",
    "content",
    "get_preset",
    "image_size",
    "keep_pixels",
    "manifest_table",
    "photographs",
    "read_image",
    "require_both_classes",
    "scan",
    "split_photographs",
]
