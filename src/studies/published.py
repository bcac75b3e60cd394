"""Published figures, and one comparison with ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import home

INSIDE, OUTSIDE = "inside the interval", "outside the interval"
NO_DATA, OTHER_WEIGHTS = "not in the data", "other weights"
NO_WEIGHTS, NOTHING = "no weights given", "nothing published"
CORRUPT = "published cell known corrupt"
ROUNDING = 0.05  # percent: published figures have one decimal


def published_table(name: str) -> pd.DataFrame:
    """Return a table of ``published/`` as it is; only its empty cells are missing values.

    Raises:
        UserError: it is missing from the clone.
    """
    path = home() / "published" / name
    if not path.is_file():
        raise UserError(f"{path} is missing; it is a part of forensift's clone")
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def within(
    published: pd.Series | float,
    low: pd.Series | float,
    high: pd.Series | float,
    rounding: np.ndarray | float = ROUNDING,
) -> np.ndarray:
    """Return whether published figures lie in our intervals, widened by half a unit of their last
    digit; all percent. False where either is missing."""
    return np.asarray((published >= low - rounding) & (published <= high + rounding))
