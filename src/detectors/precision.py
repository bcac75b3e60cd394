"""The one policy of precision: what a detector gives on a GPU is computed in full float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep TF32 out of convolutions and matrix products; every other setting stays as it is.

    Residual sums of LRP amplify TF32's rounding beyond use, and all verbs must see one logit.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
