"""Agreement with the reference relevances, computed in float64 with the published rules.

The EfficientNet-B0 file needs care. Its relevances were not made with the weights that its README
rule gives to the squeeze-excite convolutions: the published wrapper copies a convolution only
together with the BatchNorm that follows it, and these have none, so its copy keeps whatever they
held when it was built. The file contradicts itself there: by the ε rules the sums at ``_conv_head``
are mean activation · weight ÷ logit, and they do not fit the file's own logits. What the gates do
not touch (logits, relevance started before the first gate) is compared with the file; all the
rest with a slow twin of the whole network, written out by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from forensift.lrp import LRP

from .lrp_reference import (
    reference,
    relative_error,
    seeded_images,
    seeded_network,
    slow_efficientnet,
)

BAR = {torch.float64: 1e-6, torch.float32: 5e-3}


def sums(maps: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What the reference files hold of each layer's relevance."""
    found = {}
    for layer, relevance in maps.items():
        r = relevance.double()
        found[f"signed_sum/{layer}"] = r.sum((2, 3)).numpy()
        found[f"positive_sum/{layer}"] = r.clamp(min=0).sum((2, 3)).numpy()
        found[f"abs_total/{layer}"] = r.abs().sum((1, 2, 3)).numpy()
    return found


def check_channels(lrp: LRP, batch: Tensor, arrays: dict[str, Any], prefix: str = "") -> int:
    checked = 0
    for key in arrays:
        if key.startswith(f"channel_max/{prefix}"):
            name = key.removeprefix("channel_max/")
            layer, channel = name.rsplit(".#", 1)
            found = lrp.from_feature_map(batch, layer, int(channel))
            bar = BAR[batch.dtype]
            assert relative_error(found.maxima[:1], arrays[key]) < bar
            expected = arrays[f"channel_pixel_relevance/{name}"]
            assert relative_error(found.pixels[:1], expected) < bar
            checked += 1
    return checked


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_resnet50(dtype: torch.dtype) -> None:
    meta, arrays = reference("resnet50")
    lrp = LRP(seeded_network(meta).to(dtype))
    batch = seeded_images(meta).to(dtype)
    found = lrp(batch)
    bar = BAR[dtype]
    assert {layer: list(r.shape[1:]) for layer, r in found.feature_maps.items()} == meta["layers"]
    assert relative_error(found.logits[:1, 0], arrays["logits"]) < bar
    assert relative_error(found.pixels[:1], arrays["pixel_relevance"]) < bar
    for key, value in sums(found.feature_maps).items():
        assert relative_error(value[:1], arrays[key]) < bar, key
    assert check_channels(lrp, batch, arrays) == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_efficientnet_b0(dtype: torch.dtype) -> None:
    meta, arrays = reference("efficientnet_b0")
    model = seeded_network(meta)
    batch = seeded_images(meta)
    logits, pixels, maps = slow_efficientnet(model.double(), batch.double())
    lrp = LRP(model.to(dtype))
    found = lrp(batch.to(dtype))
    bar = BAR[dtype]
    assert {layer: list(r.shape[1:]) for layer, r in found.feature_maps.items()} == meta["layers"]
    assert relative_error(logits[:1, 0], arrays["logits"]) < 1e-9
    assert relative_error(found.logits, logits) < bar
    assert relative_error(found.pixels, pixels) < bar
    expected = sums(maps)
    for key, value in sums(found.feature_maps).items():
        assert relative_error(value, expected[key]) < bar, key
    assert check_channels(lrp, batch.to(dtype), arrays, "_blocks.0._depthwise_conv") == 1


def test_the_efficientnet_file_contradicts_its_own_logits() -> None:
    meta, arrays = reference("efficientnet_b0")
    model = seeded_network(meta).double()
    head = model._fc
    with torch.no_grad():
        mean = model.extract_features(seeded_images(meta).double()).mean((2, 3))
        terms = mean * head.weight[0]
        logits = terms.sum(1) + head.bias
        expected = terms / logits[:, None]  # what the ε rules put on each channel
    assert relative_error(logits[:1], arrays["logits"]) < 1e-9
    assert relative_error(arrays["signed_sum/_conv_head"], expected[:1]) > 0.5
    found = LRP(model)(seeded_images(meta).double()).feature_maps["_conv_head"].sum((2, 3))
    assert relative_error(found, expected) < 1e-5
