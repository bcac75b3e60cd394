"""How long LRP takes, as a multiple of a plain input gradient of the same network.

    python benchmarks/lrp.py [--network resnet50|efficientnet-b0|all] [--pairs 15] [--threads N]
    python benchmarks/lrp.py --composites [--pairs 5]

Both are timed in one process, a pair at a time (gradient, then LRP), and the ratio is the median
over pairs of LRP ÷ gradient, so that whatever else the machine does touches both alike. The
gradient is ``torch.autograd.grad(network(x).sum(), x)`` of the network in evaluation mode with its
parameters frozen. LRP returns the relevance of the pixels and of every feature map. In
convolution-equivalents the gradient costs 2 and β = 0 costs 3 where inputs are ≥ 0 and 5 where
they are not, so 1.5 and 2.5 would be the ratios if nothing but convolutions took time. zennit's
EpsilonPlus, which records no feature maps, is timed the same way where it is installed.

``--composites`` times every composite of ResNet-50 against zennit's of the same definition, a pair
at a time, pixels alone, and says how far the two maps are apart in float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

import forensift  # noqa: F401  (makes torchvision importable beside a torch it does not fit)
from forensift.lrp import IMAGENET_BOX, LRP

NETWORKS = ("resnet50", "efficientnet-b0")


def build(name: str) -> nn.Module:
    """Return a randomly initialised network with one logit, in evaluation mode, frozen."""
    torch.manual_seed(0)
    network: nn.Module
    if name == "resnet50":
        from torchvision.models import resnet50

        network = resnet50(weights=None, num_classes=1)
    else:
        from efficientnet_pytorch import EfficientNet

        network = EfficientNet.from_name(name, num_classes=1, image_size=None)
    return network.eval().requires_grad_(False)


def gradient(network: nn.Module, batch: Tensor) -> Tensor:
    """Return the plain gradient of the summed logits with respect to the batch."""
    leaf = batch.detach().requires_grad_()
    return torch.autograd.grad(network(leaf).sum(), leaf)[0]


def zennit_lrp(network: nn.Module, name: str) -> Callable[[Tensor], Tensor] | None:
    """Return zennit's EpsilonPlus for a ResNet, or None without zennit or a canoniser."""
    try:
        from zennit.attribution import Gradient
        from zennit.composites import EpsilonPlus
        from zennit.torchvision import ResNetCanonizer
    except ImportError:
        return None
    if name != "resnet50":
        return None
    composite = EpsilonPlus(canonizers=[ResNetCanonizer()])

    def run(batch: Tensor) -> Tensor:
        with Gradient(model=network, composite=composite) as attributor:
            return attributor(batch, torch.ones(len(batch), 1))[1]

    return run


def zennit_composites() -> dict[str, object]:
    """Return zennit's composite of each of our names; two of them are its rules in every layer."""
    from zennit import composites, rules
    from zennit.torchvision import ResNetCanonizer
    from zennit.types import Linear

    base, given = composites.layer_map_base(), {"canonizers": [ResNetCanonizer()]}
    low, high = (torch.full((1, 3, 1, 1), end) for end in IMAGENET_BOX)
    every = composites.LayerMapComposite
    return {
        "epsilon": every([*base, (Linear, rules.Epsilon())], **given),
        "gamma": every([*base, (Linear, rules.Gamma())], **given),
        "alpha2-beta1": composites.EpsilonAlpha2Beta1(**given),
        "epsilon-plus": composites.EpsilonPlus(**given),
        "epsilon-plus-flat": composites.EpsilonPlusFlat(**given),
        "epsilon-gamma-box": composites.EpsilonGammaBox(low=low, high=high, **given),
        "alpha2-beta1-flat": composites.EpsilonAlpha2Beta1Flat(**given),
    }


def compare_composites(given: argparse.Namespace) -> None:
    """Print a table: each composite's time against zennit's and against a plain gradient."""
    from zennit.attribution import Gradient

    network = build("resnet50")
    batch = torch.randn(given.images, 3, given.size, given.size).clamp(*IMAGENET_BOX)
    start = torch.ones(given.images, 1)
    rows = []
    for name, theirs in zennit_composites().items():
        lrp = LRP(network, composite=name)

        def own(lrp: LRP = lrp) -> Tensor:
            found = lrp(batch, start, layers=()).pixels
            assert found is not None
            return found

        def other(composite: object = theirs) -> Tensor:
            with Gradient(model=network, composite=composite) as attributor:
                found: Tensor = attributor(batch, start)[1]
            return found

        expected, found = other(), own()
        apart = float((found - expected).norm() / expected.norm())
        middle, low, high, slow, fast = ratio(own, other, given.pairs)
        plain, *_ = ratio(own, lambda: gradient(network, batch), given.pairs)
        rows.append(
            {
                "composite": name,
                "ours ÷ zennit": f"{middle:.2f} ({low:.2f}–{high:.2f})",
                "zennit, ms": f"{slow * 1e3:.0f}",
                "ours, ms": f"{fast * 1e3:.0f}",
                "ours ÷ gradient": f"{plain:.2f}",
                "apart, float32": f"{apart:.1e}",
            }
        )
    print(pd.DataFrame(rows).to_markdown(index=False))


def seconds(function: Callable[[], object]) -> float:
    """Return the wall-clock time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def ratio(
    function: Callable[[], object], baseline: Callable[[], object], pairs: int
) -> tuple[float, float, float, float, float]:
    """Return the median, lower and upper quartile of function ÷ baseline, and both medians [s]."""
    baseline(), function()  # the first calls allocate, check and choose kernels
    timed = [(seconds(baseline), seconds(function)) for _ in range(pairs)]
    ratios = sorted(b / a for a, b in timed)
    low, _, high = statistics.quantiles(ratios, n=4)
    return (
        statistics.median(ratios), low, high,
        statistics.median(a for a, _ in timed), statistics.median(b for _, b in timed),
    )  # fmt: skip


def compare(name: str, given: argparse.Namespace) -> None:
    """Print the ratios of one network."""
    network = build(name)
    batch = torch.randn(given.images, 3, given.size, given.size)
    lrp = LRP(network)
    methods: dict[str, Callable[[], object]] = {"forensift LRP": lambda: lrp(batch)}
    other = None if given.no_zennit else zennit_lrp(network, name)
    if other is not None:
        methods["zennit EpsilonPlus"] = lambda: other(batch)
    for label, method in methods.items():
        pairs = given.pairs if label.startswith("forensift") else max(given.pairs // 3, 3)
        middle, low, high, plain, own = ratio(method, lambda: gradient(network, batch), pairs)
        print(
            f"{name:16s} {label:20s} {middle:5.2f} × plain gradient "
            f"(quartiles {low:.2f}–{high:.2f}; {own * 1e3:.0f} ms against {plain * 1e3:.0f} ms)"
        )


def main() -> None:
    """Print one line per network and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    parser.add_argument("--no-zennit", action="store_true")
    parser.add_argument("--composites", action="store_true", help="each against zennit's")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32 on CPU, "
        f"{given.images} × 3 × {given.size} × {given.size}, median of {given.pairs} pairs"
    )
    if given.composites:
        compare_composites(given)
        return
    for name in NETWORKS if given.network == "all" else [given.network]:
        compare(name, given)


if __name__ == "__main__":
    main()
