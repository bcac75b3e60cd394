"""Known traces, planted and looked for: the test of the whole instrument."""

from __future__ import annotations

from .page import write_page
from .study import Planted, default_traces, planted
