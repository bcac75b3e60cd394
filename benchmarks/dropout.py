"""Time of a forward pass with something else in the place of maps, over that of a plain one.

    python benchmarks/dropout.py [--detector resnet50] [--size 128] [--batch 8] [--k 114]

Prints, for maps of few layers and for random ones of all, the ratio under each kind of value: zero,
a constant a map, and another image's maps (which take a second image's pass). Plain and ablated
passes are timed in turn, in processor time; the first line is plain over plain,
which says how far apart two equal passes are. Networks have random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from forensift.ablation import put
from forensift.detectors import registry
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.records import FeatureMap


def seconds(call: Callable[[], object]) -> float:
    """Return the processor time of one call, which other programs do not lengthen."""
    start = time.process_time()
    call()
    return time.process_time() - start


def ablated(
    detector: Detector, pixels: torch.Tensor, maps: list[FeatureMap], **how: Any
) -> Callable[[], object]:
    """Return a call that makes the mask and runs the network under it."""

    def call() -> object:
        with put(detector.network, maps, **how):
            return detector.logits(pixels)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="resnet50")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--k", type=int, default=114)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    network = registry.get_architecture(options.detector).build().eval()
    if options.channels_last:
        network = network.to(memory_format=torch.channels_last)
    origin = WeightsOrigin("initialisation", "", "bare")
    detector = registry.describe(options.detector, network, origin)
    shape = (options.batch, 3, options.size, options.size)
    pixels = torch.randint(0, 256, shape).to(torch.uint8)
    maps = list(detector.feature_maps)
    drawn = np.random.default_rng(0).choice(len(maps), options.k, replace=False)
    masks = {"first maps": maps[: options.k], "random maps": [maps[i] for i in drawn]}
    constants = {layer: torch.zeros(width, 1) + 0.1 for layer, width in detector.layers.items()}
    calls: dict[str, Callable[[], object]] = {"plain again": lambda: detector.logits(pixels)}
    for name, mask in masks.items():
        calls[f"{name}: zero"] = ablated(detector, pixels, mask)
        calls[f"{name}: constant"] = ablated(detector, pixels, mask, constants=constants)
        both = torch.cat([pixels, pixels])
        calls[f"{name}: another image's"] = ablated(detector, both, mask, from_first_half=True)
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    whole = []
    for turn in range(options.repeats + 2):
        for name, call in calls.items():
            plain, own = seconds(lambda: detector.logits(pixels)), seconds(call)
            if turn > 1:  # the first two warm up
                ratios[name].append(own / plain)
                whole.append(plain)
    print(
        f"{options.detector}, {options.batch} × {options.size}², k = {options.k}, "
        f"{torch.get_num_threads()} threads; plain {1000 * statistics.median(whole):.1f} ms"
    )
    for name, own in ratios.items():
        low, middle, high = np.quantile(own, [0.25, 0.5, 0.75])
        print(f"{name:30} {middle:.3f} × plain, half of {len(own)} pairs {low:.3f} … {high:.3f}")


if __name__ == "__main__":
    main()
