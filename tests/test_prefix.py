"""Activations kept up to the first replaced layer: the logits are those of the whole network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forensift.ablation import Ablation, Prefix
from forensift.data import Batch
from forensift.detectors import Detector, load_detector
from forensift.detectors.units import find_feature_maps, with_units
from forensift.records import ImageEntry


def batch_of(side: int, images: int = 1) -> Batch:
    pixels = torch.randint(
        0, 256, (images, 3, side, side), dtype=torch.uint8, generator=torch.manual_seed(1)
    )
    entries = tuple(ImageEntry(Path(f"{place}.png"), 1, "") for place in range(images))
    return Batch(pixels, entries, tuple(one.path.name for one in entries))


@pytest.mark.parametrize(
    "name",
    ["efficientnet-b0", "npr", "vit", "vit channels", "dna-det", "deepfeaturex", "lgrad"],
)
def test_logits_are_the_whole_networks(name: str) -> None:
    detector = load_detector(name.split()[0])
    if name.endswith("channels"):
        detector = with_units(detector, "channels")
    batch = batch_of(detector.preset.side or 96, 2)
    prefix, plain = Prefix(detector, batch.pixels), Ablation(detector)
    assert torch.equal(prefix.logits, detector.logits(batch.pixels))
    layers = list(detector.layers)
    last = -1.0
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        maps = [one for one in detector.feature_maps if one.layer == layer][::3]
        whole = plain.logits(batch, maps)
        with prefix.upto(maps):
            assert np.array_equal(plain.logits(batch, maps), whole)
        assert not np.array_equal(whole, prefix.logits.double().numpy())
        begun = max(prefix._exact)
        assert prefix._exact[begun]
        assert begun > last or len(layers) < 3
        last = begun
    assert not any("forward" in vars(one) for one in detector.network.modules())
    assert torch.equal(prefix.logits, detector.logits(batch.pixels))


def test_modules_before_the_layer_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = load_detector("npr")
    batch = batch_of(64)
    prefix, plain = Prefix(detector, batch.pixels), Ablation(detector)
    last = [one for one in detector.feature_maps if one.layer == list(detector.layers)[-1]]
    ran: list[str] = []
    names = {module: name for name, module in detector.network.named_modules()}
    whole = nn.Conv2d.forward

    def noted(self: nn.Conv2d, given: Tensor) -> Tensor:
        ran.append(names[self])
        return whole(self, given)

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    with prefix.upto(last):
        ran.clear()
        plain.logits(batch, last)
    assert ran == [last[0].layer]
    plain.logits(batch, last)
    assert len(ran) == 1 + len(detector.layers)


class Odd(nn.Module):
    """Calls one convolution twice, and an activation whose output it does not ask for."""

    def __init__(self, ignored: bool) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last, self.relu = nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
        self.head, self.ignored = nn.Linear(4, 1), ignored

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.twice(self.twice(x))
        if self.ignored:
            self.relu(y)
        else:
            y = self.relu(y)
        y += x
        return self.head(self.last(y).mean(dim=(2, 3)))


@pytest.fixture
def odd() -> Callable[[bool], Detector]:
    def make(ignored: bool) -> Detector:
        torch.manual_seed(0)
        network = Odd(ignored).eval()
        return replace(
            load_detector("npr"), network=network, feature_maps=find_feature_maps(network)
        )

    return make


@pytest.mark.parametrize("ignored", [False, True])
def test_odd_networks_are_exact_too(odd: Callable[[bool], Detector], ignored: bool) -> None:
    detector, batch = odd(ignored), batch_of(16, 3)
    prefix, plain = Prefix(detector, batch.pixels), Ablation(detector)
    for layer in detector.layers:
        maps = [one for one in detector.feature_maps if one.layer == layer][:2]
        whole = plain.logits(batch, maps)
        with prefix.upto(maps):
            assert np.array_equal(plain.logits(batch, maps), whole)
    # What changes its input in place, unasked, is found out: the last layer's pass is whole then.
    assert prefix._exact[max(prefix._exact)] is not ignored


def test_a_network_of_ones_own_forward_comes_back(odd: Callable[[bool], Detector]) -> None:
    detector, batch = odd(False), batch_of(16)
    first = detector.network.first
    own = first.forward = lambda x, run=first.forward: 2 * run(x)
    prefix = Prefix(detector, batch.pixels)
    with prefix.upto(detector.feature_maps[-1:]):
        assert first.forward is not own
    assert first.forward is own
    assert "forward" not in vars(detector.network.twice)
