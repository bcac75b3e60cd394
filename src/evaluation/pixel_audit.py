"""What gives the fakes of a set away besides the network: file size, brightness, DCT statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.photos import photograph_names
from ..records import FAKE, ImageSet
from .intervals import metric_interval
from .resampling import bootstrap


def dct_statistics(image: np.ndarray) -> np.ndarray:
    """Return 64 features of uint8 (H, W, 3): log mean |coefficient| of the luma's 8×8 blocks."""
    luma = image.astype(float) @ np.array([0.299, 0.587, 0.114])
    height, width = (length - length % 8 for length in luma.shape)
    blocks = luma[:height, :width].reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3)
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    return np.log(np.abs(coefficients).mean((0, 1)) + 1e-3).ravel()


def pixel_audit(images: ImageSet, *, resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """Measure how well trivial properties separate real from fake, a row a generator and property.

    Columns: generator, property, auc (0.5: says nothing; below 0.5: fakes are lower), low, high
    (95 %, bootstrap over photographs). Properties: file_size in bytes, brightness (mean of all
    values), dct_probe (logistic regression on ``dct_statistics``, cross-validated in 5 folds by
    photograph, so that no photograph is on both sides).
    """
    rows = []
    for generator in images.generators:
        entries = images.only(generator=generator).entries
        pixels = []
        for entry in entries:
            with Image.open(entry.path) as opened:
                pixels.append(np.asarray(opened.convert("RGB")))
        labels = np.array([entry.label == FAKE for entry in entries], dtype=int)
        photographs = photograph_names(entry.path for entry in entries)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        folds = GroupKFold(min(5, len(set(photographs))))
        features = np.array([dct_statistics(image) for image in pixels])
        properties = {
            "file_size": np.array([float(entry.path.stat().st_size) for entry in entries]),
            "brightness": np.array([image.mean() for image in pixels]),
            "dct_probe": cross_val_predict(
                probe, features, labels, groups=photographs, cv=folds, method="decision_function"
            ),
        }
        for name, values in properties.items():
            auc = float(roc_auc_score(labels, values))
            drawn = bootstrap(labels, values, resamples=resamples, seed=seed, clusters=photographs)
            interval = metric_interval("auc", auc, drawn["auc"], labels, photographs)
            rows.append((generator, name, auc, *interval))
    return pd.DataFrame(rows, columns=["generator", "property", "auc", "low", "high"])
