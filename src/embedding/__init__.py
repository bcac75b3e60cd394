"""t-SNE of a detector's features, and how far reals and fakes are apart in them."""

from __future__ import annotations

from .embed import ALL, PER_GROUP, Embedding, drawn, embed, placed
from .features import (
    CHANNELS,
    PENULTIMATE,
    FeatureObserver,
    Features,
    FeatureStatistic,
    Observed,
    Pooling,
    weighted,
)
from .neighbours import separation
from .tsne import SETTINGS, Projection, Settings, get_settings, project

__all__ = [
    "ALL",
    "CHANNELS",
    "PENULTIMATE",
    "PER_GROUP",
    "SETTINGS",
    "Embedding",
    "FeatureObserver",
    "FeatureStatistic",
    "Features",
    "Observed",
    "Pooling",
    "Projection",
    "Settings",
    "drawn",
    "embed",
    "get_settings",
    "placed",
    "project",
    "separation",
    "weighted",
]
