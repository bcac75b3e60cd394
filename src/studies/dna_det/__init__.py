"""The source attribution study: which family an image is of, under other trainings too."""

from __future__ import annotations

from .cams import LAYER, ClassMap, class_maps
from .fingerprints import Fingerprints, FingerprintSettings, study_fingerprints
from .page import (
    FINGERPRINTS,
    STUDY,
    WORDS,
    accuracy_rows,
    write_page,
)
from .splits import CLOSED, CROSS, FAMILIES, WEIGHTS, Sizes, generators_of, planned
from .study import (
    ALL_CROSS,
    Study,
    labelled,
    predictions,
    study,
    study_sets,
    tabulate,
    world_embedding,
)
from .world import NETWORKS, forge_world
