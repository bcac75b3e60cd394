"""The whole study of anybody's detector, on anybody's images."""

from __future__ import annotations

from .study import OwnStudy, study
