"""Rankings beside ω: against slow float64 formulas, captum, and a planted truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from captum.attr import LayerConductance
from torch import Tensor, nn

from forensift.ablation import ablation, put
from forensift.data import Batch, Preset, get_preset, read_image
from forensift.detectors import own_detector, with_units
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.fmap_ranking import rank, rankings
from forensift.fmap_ranking.path import path_effects
from forensift.records import FAKE, REAL, ImageSet

from .planted import fingerprint, planted_detector, planted_images
from .test_lrp_transformers import headed

PATHS = ("gradient-activation", "eap-ig", "conductance")
ALL = ("contrast", *PATHS, "single", "pursuit")


def smooth_detector() -> Detector:
    """Return a small network in float64 that bends everywhere and jumps nowhere."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, 4, 3, stride=2, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(4))
    network.add_module("act1", nn.SiLU(inplace=True))
    network.add_module("conv2", nn.Conv2d(4, 5, 3))
    network.add_module("act2", nn.Tanh())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(5, 1))
    network.double().eval()
    return Detector(
        "smooth", network, get_preset("wang-nocrop"), find_feature_maps(network),
        WeightsOrigin("initialisation", "", "bare"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, ImageSet]:
    return planted_detector(), planted_images(tmp_path_factory.mktemp("pairs"))


def ends(n: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 3, 12, 12).double(), torch.randn(n, 3, 12, 12).double()


def by_hand(detector: Detector, batch: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return logits, and maps and gradients of both layers, step by step."""
    net = detector.network
    one = net.conv1(batch)
    two = net.conv2(nn.functional.silu(net.bn1(one)))
    logits = net.fc(torch.tanh(two).mean(dim=(2, 3)))[:, 0]
    return logits, [one, two], list(torch.autograd.grad(logits.sum(), [one, two]))


def test_the_three_gradients_are_their_formulas() -> None:
    detector, (start, end), steps = smooth_detector(), ends(), 6
    found = path_effects(detector, start, end, PATHS, steps)
    points = [by_hand(detector, start + at / steps * (end - start)) for at in range(steps + 1)]
    expected: dict[str, list[Tensor]] = {name: [] for name in PATHS}
    for layer in range(2):
        maps, slopes = ([one[part][layer] for one in points] for part in (1, 2))
        moved = maps[-1] - maps[0]
        mean = (slopes[0] / 2 + sum(slopes[1:-1]) + slopes[-1] / 2) / steps
        along = [
            (slopes[at] + slopes[at + 1]) / 2 * (maps[at + 1] - maps[at]) for at in range(steps)
        ]
        sums = (slopes[-1] * moved, mean * moved, sum(along))
        for name, one in zip(PATHS, sums, strict=True):
            expected[name].append(one.sum(dim=(2, 3)))
    for name in PATHS:
        np.testing.assert_allclose(found[name], torch.cat(expected[name], 1).detach(), rtol=1e-9)


def test_conductance_is_captums_on_average_of_both_directions() -> None:
    """Captum takes the gradient at the near end of each step; ours is the mean of both ends."""
    detector, (start, end), steps = smooth_detector(), ends(), 5
    found = path_effects(detector, start, end, ["conductance"], steps)["conductance"]
    parts = []
    for layer in (detector.network.conv1, detector.network.conv2):
        conductance = LayerConductance(detector.network, layer)
        there, back = (
            conductance.attribute(
                to, baselines=since, target=0, n_steps=steps, method="riemann_trapezoid"
            )
            for since, to in ((start, end), (end, start))
        )
        parts.append(((there - back) / 2).sum(dim=(2, 3)))
    # its places along the path are float32
    np.testing.assert_allclose(found, torch.cat(parts, 1).detach(), rtol=1e-6)


def test_conductance_of_every_cut_and_eap_ig_of_the_first_layer_sum_to_the_logit() -> None:
    detector, (start, end) = smooth_detector(), ends()
    found = path_effects(detector, start, end, PATHS, 200)
    with torch.no_grad():
        moved = (detector.network(end) - detector.network(start))[:, 0].numpy()
    for maps in (slice(0, 4), slice(4, 9)):
        np.testing.assert_allclose(found["conductance"][:, maps].sum(axis=1), moved, rtol=1e-3)
    np.testing.assert_allclose(found["eap-ig"][:, :4].sum(axis=1), moved, rtol=1e-3)
    assert abs(found["gradient-activation"][:, :4].sum(axis=1) / moved - 1).min() > 0.01


def test_attribution_patching_is_the_difference_in_the_limit() -> None:
    """Of images that differ little, what patching a map in truth does to the logit."""
    detector, (start, _) = smooth_detector(), ends()
    torch.manual_seed(2)
    end = start + 1e-5 * torch.randn_like(start)
    found = path_effects(detector, start, end, ["gradient-activation"])["gradient-activation"]
    net = detector.network
    with torch.no_grad():
        for at, layer in enumerate((net.conv1, net.conv2)):
            own: list[Tensor] = []
            handle = layer.register_forward_hook(lambda m, a, o, own=own: own.append(o.clone()))
            net(start)
            handle.remove()
            for channel in range(layer.out_channels):

                def patched(module: nn.Module, args: object, output: Tensor,
                            channel: int = channel, own: list[Tensor] = own) -> Tensor:  # fmt: skip
                    output[:, channel] = own[0][:, channel]
                    return output

                whole = net(end)[:, 0]
                handle = layer.register_forward_hook(patched)
                change = whole - net(end)[:, 0]
                handle.remove()
                column = found[:, 4 * at + channel]
                np.testing.assert_allclose(column, change, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("kind", ["neurons", "heads", "channels", "windows"])
def test_units_of_transformers_are_patched_alike(kind: str) -> None:
    """In the limit of images that differ little; windows of Swin are images of a batch."""
    torch.manual_seed(0)
    side, network = 16, headed()
    if kind == "windows":
        side = 56
        network = timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=side, depths=(2, 1), embed_dim=16,
            num_heads=(2, 2), num_classes=1,
        ).eval()  # fmt: skip
    units = "heads" if kind == "windows" else kind
    detector = with_units(own_detector(network.float(), preset=Preset("x", crop=side)), units)
    network = detector.network.double()
    start = torch.randn(2, 3, side, side).double()
    end = start + 1e-5 * torch.randn_like(start)
    found = path_effects(detector, start, end, ["gradient-activation"])["gradient-activation"]
    with torch.no_grad():
        whole = network(end)[:, 0]
        for at in range(0, len(detector.feature_maps), 5):
            with put(network, [detector.feature_maps[at]], from_first_half=True):
                patched = network(torch.cat([start, end]))[2:, 0]
            np.testing.assert_allclose(found[:, at], whole - patched, rtol=1e-2, atol=1e-11)
    assert np.abs(found).max() > 1e-9


def test_the_planted_maps_are_on_top_of_every_ranking(world: tuple[Detector, ImageSet]) -> None:
    detector, images = world
    before = fingerprint(detector.network)
    found = rankings(detector, images, by=("omega", *ALL), k=2)
    assert fingerprint(detector.network) == before
    planted = {"conv1.#0(T=8)", "conv2.#0(T=8)"}
    for name, ranking in found.of.items():
        first = [str(one) for one in ranking.feature_maps(slice(0, 2))]
        if name in (*PATHS, "single", "fake"):
            assert set(first) == planted, name
        elif name != "real":  # the mean of a Laplacian is 0; a pick leaves nothing to the next
            assert first[0] in planted, name
        assert ranking.by == ("omega" if name in ("fake", "real") else name)
    assert list(found.of["pursuit"].table.columns)[3] == "score"


def test_contrast_is_the_mean_difference_of_pairs(world: tuple[Detector, ImageSet]) -> None:
    detector, images = world
    ranking = rank(detector, images, by="contrast", batch_size=5)
    means = {}
    for entry in images:
        whole = torch.cat(maps_of(detector, entry.path), 1)[0].double()
        means[entry.path] = whole.mean(dim=(1, 2)).numpy()
    pairs = [
        means[one.path] - means[Path(str(one.path).replace("1_fake", "0_real"))]
        for one in images.only(label=FAKE)
    ]
    expected = dict(zip(detector.feature_maps, np.mean(pairs, axis=0), strict=True))
    np.testing.assert_allclose(
        ranking.scores, [expected[one] for one in ranking.feature_maps()], rtol=1e-5, atol=1e-7
    )
    assert (np.diff(ranking.scores) <= 0).all()


def test_single_is_what_putting_the_mean_there_does(world: tuple[Detector, ImageSet]) -> None:
    detector, images = world
    ranking = rank(detector, images, by="single", maps=3, batch_size=7)
    assert ranking.table["measured"].sum() == 3
    reals = images.only(label=REAL)
    stand_in = ablation(detector, reals, "mean-real")
    scores = dict(zip(ranking.feature_maps(), ranking.scores, strict=True))
    measured = [one for one, is_ in zip(ranking.feature_maps(), ranking.table["measured"],
                                        strict=True) if is_]  # fmt: skip
    for one in measured:
        falls = []
        for part in (images.only(label=FAKE), reals):
            batch = Batch(pixels(part), part.entries, tuple(map(part.image_id, part)))
            falls.append((stand_in.logits(batch, ()) - stand_in.logits(batch, (one,))).mean())
        np.testing.assert_allclose(scores[one], falls[0] - falls[1], rtol=1e-4, atol=1e-6)
    every = rank(detector, images, by="single", maps=0)
    assert every.table["measured"].all()


def pixels(images: ImageSet) -> Tensor:
    whole = [torch.from_numpy(np.array(read_image(one.path))).permute(2, 0, 1) for one in images]
    return torch.stack(whole)


def maps_of(detector: Detector, path: Path) -> tuple[Tensor, Tensor]:
    """Return the maps of both layers of the planted detector, step by step."""
    net = detector.network
    with torch.no_grad():
        one = net.conv1(detector.batch([path]))
        return one, net.conv2(net.relu1(net.bn1(one)))
