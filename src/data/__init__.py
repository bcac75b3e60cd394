"""Find, check, decode, transform and batch images."""

from .batching import Batch, Transform, batches, check_skipped, content
from .decode import EXTENSIONS, FORMATS, UnreadableImage, image_size, read_image
from .equalise import JpegEqualiser, jpeg_equaliser
from .formats import FormatFacts, format_facts, format_table
from .layouts import manifest_table, require_both_classes, scan
from .photos import photographs, split_photographs
from .presets import PRESETS, Preset, RandomResizedCrop, get_preset
