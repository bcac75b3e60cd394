"""Every drawing: records in, figures out, nothing computed."""

from __future__ import annotations

from .dropout import plot_ap_curve, plot_dropout
from .omega import plot_omega
from .style import save

__all__ = ["plot_ap_curve", "plot_dropout", "plot_omega", "save"]
