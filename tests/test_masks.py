"""Choosing feature maps, and running a network without them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from forensift.detectors import registry
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.errors import UserError
from forensift.fmap_ranking import count_by_layer
from forensift.records import FAKE, FeatureMap, Ranking
from forensift.sensitivity import (
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    masked_logits,
    masked_parameters,
    random_k,
    top_k,
)

from .planted import fingerprint, planted_detector

WIDTHS = {"a": 4, "b": 6, "c": 90}
MAPS = tuple(FeatureMap(layer, c, width) for layer, width in WIDTHS.items() for c in range(width))


def ranked(zeros: int = 20) -> Ranking:
    omega = np.linspace(1, 0.01, len(MAPS))
    omega[len(MAPS) - zeros :] = 0
    table = pd.DataFrame(
        [(one.layer, one.channel, one.width) for one in MAPS], columns=["layer", "channel", "width"]
    )
    return Ranking(table.assign(omega=omega), FAKE)


def test_top_low_and_lowest_non_zero() -> None:
    ranking = ranked(zeros=20)
    assert top_k(ranking, 7).feature_maps == MAPS[:7]
    assert low_k(ranking, 7).feature_maps == MAPS[-7:]
    assert lowest_non_zero(ranking, 7).feature_maps == MAPS[-27:-20]
    assert lowest_non_zero(ranked(zeros=98), 7).feature_maps == MAPS[:2]
    assert lowest_non_zero(ranked(zeros=98), 7).shared_with_top_k == 2
    assert low_k(ranking, 60).shared_with_top_k == 20
    for k in (0, -1, 101):
        with pytest.raises(UserError, match=f"k = {k}.*100 feature maps"):
            top_k(ranking, k)
        with pytest.raises(UserError, match="100 feature maps"):
            low_k(ranking, k)


def test_random_maps_lie_outside_the_top_and_differ_by_draw() -> None:
    first = MAPS[:9]
    draws = [random_k(MAPS, first, 9, draw, seed=3) for draw in range(20)]
    for mask in draws:
        assert len(set(mask.feature_maps)) == 9
        assert not set(mask.feature_maps) & set(first)
    assert len({mask.feature_maps for mask in draws}) == 20
    assert draws[4] == random_k(MAPS, first, 9, 4, seed=3)
    assert draws[4] != random_k(MAPS, first, 9, 4, seed=4)
    with pytest.raises(UserError, match="only 40 of 100"):
        random_k(MAPS, MAPS[:60], 41, 0, seed=0)


def test_every_outside_map_is_drawn_equally_often() -> None:
    counts = dict.fromkeys(MAPS, 0)
    for draw in range(1000):
        for one in random_k(MAPS, MAPS[:10], 30, draw, seed=0).feature_maps:
            counts[one] += 1
    drawn = np.array([counts[one] for one in MAPS[10:]])
    # Each has probability 1/3: mean 333, standard deviation 14.9.
    assert abs(drawn - 1000 / 3).max() < 4.5 * 14.9


def test_layer_matched_maps_match_layer_by_layer() -> None:
    # Of layer a all 4 and of b 4 of 6 are top maps: a has none left outside, b two.
    first = (*MAPS[:8], *MAPS[10:15])
    seen = set()
    for draw in range(20):
        mask = layer_matched_random_k(MAPS, first, draw, seed=0)
        assert count_by_layer(mask.feature_maps) == count_by_layer(first)
        assert len(set(mask.feature_maps)) == len(first)
        shared = set(mask.feature_maps) & set(first)
        assert mask.shared_with_top_k == len(shared) == 4 + 2
        assert all(one.layer in "ab" for one in shared)
        assert set(MAPS[8:10]) <= set(mask.feature_maps)
        seen.add(mask.feature_maps)
    assert len(seen) == 20
    mask = layer_matched_random_k(MAPS, MAPS[10:15], 0, seed=0)
    assert mask.shared_with_top_k == 0


# --- running a network without them -------------------------------------------------------------


def real_detector(name: str) -> Detector:
    torch.manual_seed(0)
    network = registry.get_architecture(name).build()
    # One pass that fills the running statistics, without which the logits hardly see the image.
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, 3, 32, 32))
    return registry.describe(name, network, WeightsOrigin("initialisation", "", "bare"))


PIXELS = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)


def edited(detector: Detector, maps: list[FeatureMap]) -> torch.Tensor:
    """Return logits with hooks that zero the convolutions' outputs, one by one."""
    modules = dict(detector.network.named_modules())
    handles = []
    for one in maps:

        def zero(module: nn.Module, inputs: object, output: torch.Tensor, c: int = one.channel):
            output = output.clone()
            output[:, c] = 0
            return output

        handles.append(modules[one.layer].register_forward_hook(zero))
    try:
        return masked_logits(detector, {}, PIXELS)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", ["planted", "resnet50", "efficientnet-b0", "npr"])
def test_a_mask_is_zeroed_convolution_outputs(name: str) -> None:
    detector = planted_detector() if name == "planted" else real_detector(name)
    rng = np.random.default_rng(0)
    k = min(40, len(detector.feature_maps) // 2)
    picked = rng.choice(len(detector.feature_maps), k, replace=False)
    maps = [detector.feature_maps[i] for i in picked]
    before = fingerprint(detector.network)
    overrides = masked_parameters(detector.network, maps)
    assert {key.rsplit(".", 1)[0] for key in overrides} == {one.layer for one in maps}
    dropped = masked_logits(detector, overrides, PIXELS)
    assert fingerprint(detector.network) == before
    torch.testing.assert_close(dropped, edited(detector, maps), rtol=1e-5, atol=1e-6)
    plain = detector.logits(PIXELS)
    nothing = masked_logits(detector, masked_parameters(detector.network, []), PIXELS)
    with torch.no_grad():
        batch = detector.preset.normalise(PIXELS).contiguous(memory_format=torch.channels_last)
        assert torch.equal(nothing, detector.network(batch).reshape(-1))
    torch.testing.assert_close(nothing, plain, rtol=1e-3, atol=1e-4)
    assert (dropped - plain).abs().max() > 1e-4


def test_a_mask_equals_a_network_with_edited_weights_to_the_bit() -> None:
    detector = planted_detector()
    maps = [FeatureMap("conv2", 0, 8), FeatureMap("conv2", 3, 8), FeatureMap("conv1", 5, 8)]
    other = planted_detector()
    with torch.no_grad():
        other.network.conv2.weight[[0, 3]] = 0
        other.network.conv2.bias[[0, 3]] = 0
        other.network.conv1.weight[5] = 0
    expected = masked_logits(other, {}, PIXELS)
    dropped = masked_logits(detector, masked_parameters(detector.network, maps), PIXELS)
    assert torch.equal(dropped, expected)


def test_without_any_map_the_output_is_constant() -> None:
    detector = planted_detector()
    overrides = masked_parameters(detector.network, detector.feature_maps)
    dropped = masked_logits(detector, overrides, PIXELS)
    assert dropped.std() == 0
    # conv2 is all zero after the mask, so only the last layer's bias is left.
    torch.testing.assert_close(dropped[0], detector.network.fc.bias[0].detach())


def test_the_network_is_as_before_after_an_error() -> None:
    detector = planted_detector()
    before = fingerprint(detector.network)
    overrides = masked_parameters(detector.network, detector.feature_maps[:3])
    with pytest.raises(RuntimeError):
        masked_logits(detector, overrides, PIXELS[:, :2].repeat(1, 2, 1, 1)[:, :4])
    assert fingerprint(detector.network) == before


def test_maps_the_network_does_not_have_are_refused() -> None:
    network = planted_detector().network
    for one in (FeatureMap("conv9", 0, 8), FeatureMap("conv1", 8, 9), FeatureMap("fc", 0, 1)):
        with pytest.raises(UserError, match=f"no feature map {one.layer}"):
            masked_parameters(network, [one])
