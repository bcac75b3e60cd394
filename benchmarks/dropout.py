"""Time of a forward pass with feature maps dropped, over that of a plain one.

    python benchmarks/dropout.py [--detector resnet50] [--size 224] [--batch 4] [--k 114]

Prints the ratio for top-k-like masks (few layers) and for random ones (all layers), and the time
that making a mask takes, once per mask and chunk of images. Networks have random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from forensift.detectors import registry
from forensift.detectors.detector import WeightsOrigin
from forensift.sensitivity import masked_logits, masked_parameters


def seconds(call: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--k", type=int, default=114)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    network = registry.get_architecture(options.detector).build().eval()
    origin = WeightsOrigin("initialisation", "", "bare")
    detector = registry.describe(options.detector, network, origin)
    pixels = torch.randint(0, 256, (options.batch, 3, options.size, options.size)).to(torch.uint8)
    maps = detector.feature_maps
    drawn = np.random.default_rng(0).choice(len(maps), options.k, replace=False)
    masks = {"first maps": maps[: options.k], "random maps": [maps[i] for i in drawn]}
    plain = partial(masked_logits, detector, {}, pixels)
    print(
        f"{options.detector}, {options.batch} × {options.size}², k = {options.k}, "
        f"{torch.get_num_threads()} threads; plain forward {1000 * seconds(plain):.1f} ms"
    )
    for name, mask in masks.items():
        make = partial(masked_parameters, network, mask)
        overrides = make()
        masked = partial(masked_logits, detector, overrides, pixels)
        masked()
        # Each pair is measured in direct succession, so that load on the machine hits both.
        ratios = [seconds(masked) / seconds(plain) for _ in range(options.repeats)]
        making = statistics.median(seconds(make) for _ in range(options.repeats))
        print(
            f"{name:12} {statistics.median(ratios):.3f} × plain, median of {options.repeats} pairs "
            f"({len(overrides)} layers; made in {1000 * making:.1f} ms)"
        )


if __name__ == "__main__":
    main()
