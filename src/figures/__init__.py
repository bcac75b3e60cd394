"""Every drawing: records in, figures out, nothing computed."""

from __future__ import annotations

from .alike import plot_alike
from .answer import plot_answer
from .causal import plot_causal
from .collage import collage_pages, plot_collage
from .colour import plot_colour_boxes, plot_colour_modes
from .confusion import plot_confusion_matrix
from .doses import plot_doses
from .dropout import plot_ap_curve, plot_dropout, plot_gap_curve
from .embedding import caption as tsne_caption
from .embedding import one_panel, plot_embedding
from .evaluation import plot_calibration, plot_curves, plot_mistakes, plot_scores
from .explanation import overlay, plot_explanations, plot_methods, plot_overlay, save_overlay
from .faithfulness import plot_faithfulness
from .histograms import plot_densities, plot_density_legend
from .intervals import plot_intervals
from .leaderboard import plot_leaderboard
from .omega import plot_omega
from .reproduce import plot_reproduction
from .robustness import plot_robustness, said
from .source_attribution import (
    class_overlay,
    heat_colours,
    plot_class_maps,
    plot_confusions,
    plot_fingerprints,
    plot_source_attribution,
    plot_world_embedding,
)
from .spectra import plot_radial, plot_spectra
from .style import save, svg
from .transfer import plot_transfer
