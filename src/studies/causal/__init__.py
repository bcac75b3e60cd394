"""Is evidence removed, or the network damaged? The published dropout beside a causal one."""

from __future__ import annotations

from .choice import CANDIDATES, Choice, Choices, choices, choose
from .study import Causal, causal
