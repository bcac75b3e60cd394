"""Every drawing: records in, figures out, nothing computed."""

from __future__ import annotations

from .attribution import overlay, plot_attributions, plot_overlay, save_overlay
from .collage import plot_collage, save_pages
from .colour import plot_colour_boxes, plot_colour_modes
from .dropout import plot_ap_curve, plot_dropout
from .embedding import caption as tsne_caption
from .embedding import plot_embedding
from .faithfulness import plot_faithfulness
from .histograms import plot_densities, plot_density_legend
from .intervals import plot_intervals
from .omega import plot_omega
from .reproduce import plot_reproduction
from .show import Picture, show
from .style import save
from .transfer import plot_transfer

__all__ = [
    "Picture",
    "overlay",
    "plot_ap_curve",
    "plot_attributions",
    "plot_collage",
    "plot_colour_boxes",
    "plot_colour_modes",
    "plot_densities",
    "plot_density_legend",
    "plot_dropout",
    "plot_embedding",
    "plot_faithfulness",
    "plot_intervals",
    "plot_omega",
    "plot_overlay",
    "plot_reproduction",
    "plot_transfer",
    "save",
    "save_overlay",
    "save_pages",
    "show",
    "tsne_caption",
]
