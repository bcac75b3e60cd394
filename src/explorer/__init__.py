"""A local page: switch feature maps off, and watch a detector's probability move."""

from __future__ import annotations

from .bench import Bench, bench
from .gallery import Gallery, demo_images
from .server import Answers, application, listening, serve
from .turns import Turns
