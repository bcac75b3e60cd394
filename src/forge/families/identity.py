"""No network at all: what the forge itself leaves on an image, for audits."""

from __future__ import annotations

from .family import Family

FAMILY = Family("identity", "nothing: the crop is passed through unchanged", None)
