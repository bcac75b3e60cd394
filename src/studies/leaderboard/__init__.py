"""Which explanation method to trust: all methods on one detector or several, on planted truth."""

from __future__ import annotations

from .board import Leaderboard, leaderboard
