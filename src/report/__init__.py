"""One page of any saved results: a single HTML file that asks nothing of any network."""

from __future__ import annotations

from .found import Part, read
from .page import Report, report
