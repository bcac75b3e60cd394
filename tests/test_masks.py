"""Choosing feature maps, and running a network without them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from forensift.ablation import put
from forensift.detectors import registry
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.errors import UserError
from forensift.fmap_ranking import count_by_layer
from forensift.records import FAKE, FeatureMap, Ranking
from forensift.sensitivity import (
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
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


def without(detector: Detector, maps: Sequence[FeatureMap]) -> torch.Tensor:
    """Return the logits with these feature maps dropped."""
    with put(detector.network, maps):
        return detector.logits(PIXELS)


def edited(detector: Detector, maps: Sequence[FeatureMap]) -> torch.Tensor:
    """Return the logits of a copy whose filters, biases included, are zero for these maps."""
    network = copy.deepcopy(detector.network)
    modules = dict(network.named_modules())
    with torch.no_grad():
        for one in maps:
            module = modules[one.layer]
            module.weight[one.channel] = 0
            if module.bias is not None:
                module.bias[one.channel] = 0
    return replace(detector, network=network).logits(PIXELS)


@pytest.mark.parametrize("name", ["planted", "resnet50", "efficientnet-b0", "npr"])
def test_dropped_maps_are_zeroed_filters_to_the_bit(name: str) -> None:
    detector = planted_detector() if name == "planted" else real_detector(name)
    rng = np.random.default_rng(0)
    k = min(40, len(detector.feature_maps) // 2)
    picked = rng.choice(len(detector.feature_maps), k, replace=False)
    maps = [detector.feature_maps[i] for i in picked]
    before, plain = fingerprint(detector.network), detector.logits(PIXELS)
    found = without(detector, maps)
    assert fingerprint(detector.network) == before
    assert torch.equal(found, edited(detector, maps))
    assert torch.equal(without(detector, []), plain)
    assert torch.equal(detector.logits(PIXELS), plain)
    assert (found - plain).abs().max() > 1e-4


class Twice(nn.Module):
    """A network that calls one convolution two times, each on what the other did not see."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        once = self.shared(self.first(batch).relu()).relu()
        return self.fc(self.shared(once + 1).mean(dim=(2, 3)))


def test_a_map_is_dropped_in_every_call_of_its_convolution() -> None:
    torch.manual_seed(0)
    detector = replace(planted_detector(), network=Twice().eval())
    for channels in ([2], [0, 3], [0, 1, 2, 3]):
        maps = [FeatureMap("shared", channel, 4) for channel in channels]
        assert torch.equal(without(detector, maps), edited(detector, maps))
    calls: list[torch.Tensor] = []
    hook = detector.network.shared.register_forward_hook(lambda m, i, o: calls.append(o))
    without(detector, [FeatureMap("shared", 1, 4)])
    hook.remove()
    assert len(calls) == 2
    for output in calls:  # other hooks see what is left as well
        assert not output[:, 1].any()
        assert output[:, [0, 2, 3]].any()


def test_without_any_map_the_output_is_constant() -> None:
    detector = planted_detector()
    found = without(detector, detector.feature_maps)
    assert found.std() == 0
    # conv2 is all zero after the mask, so only the last layer's bias is left.
    torch.testing.assert_close(found[0], detector.network.fc.bias[0].detach())


def test_the_network_is_as_before_after_an_error() -> None:
    detector = planted_detector()
    before, plain = fingerprint(detector.network), detector.logits(PIXELS)
    with pytest.raises(RuntimeError), put(detector.network, detector.feature_maps[:3]):
        detector.network(torch.zeros(1, 5, 8, 8))
    assert fingerprint(detector.network) == before
    known, unknown = detector.feature_maps[0], FeatureMap("conv9", 0, 8)
    with pytest.raises(UserError), put(detector.network, [known, unknown]):
        pass
    assert fingerprint(detector.network) == before
    assert torch.equal(detector.logits(PIXELS), plain)


def test_maps_the_network_does_not_have_are_refused() -> None:
    network = planted_detector().network
    for one in (FeatureMap("conv9", 0, 8), FeatureMap("conv1", 8, 9), FeatureMap("fc", 0, 1)):
        with pytest.raises(UserError, match=f"no feature map {one.layer}"), put(network, [one]):
            pass
