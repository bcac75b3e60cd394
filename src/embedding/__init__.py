"""t-SNE of a detector's features, and how far reals and fakes are apart in them."""

from __future__ import annotations

from .embed import ALL, PER_GROUP, Embedding, drawn, embed, embedding_of, feature_look
from .features import CHANNELS, PENULTIMATE, FeatureLook, Pooling, weighted
from .neighbours import separation
from .tsne import SETTINGS, Projection, Settings, get_settings, project
