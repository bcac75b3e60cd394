"""What stands in the place of feature maps: each value against a slow twin in float64."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from efficientnet_pytorch.utils import MemoryEfficientSwish
from torch import nn

from forensift.ablation import ablation, first_order, means, pairs_of, put
from forensift.ablation.pairs import pixels_of
from forensift.ablation.sites import chains
from forensift.data import photographs, scan
from forensift.detectors import registry
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.detectors.units import find_feature_maps, with_units
from forensift.errors import UserError
from forensift.forge import Trace, forge_planted
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet
from forensift.sensitivity.scoring import masked_scores

from .planted import fingerprint, planted_detector, planted_images

VALUES = ("zero", "mean", "mean-real", "resample", "paired", "optimal")


class Small(nn.Module):
    """Every way from a convolution to what follows: modules, functions, in place, alone or not."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, width, 3, padding=1)
        self.bn_module = nn.BatchNorm2d(width)
        self.relu_module = nn.ReLU()
        self.inplace = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn_inplace = nn.BatchNorm2d(width)
        self.relu_inplace = nn.ReLU(inplace=True)
        self.functional = nn.Conv2d(width, width, 1)
        self.bn_functional = nn.BatchNorm2d(width)
        self.swish = nn.Conv2d(width, width, 3, padding=1)
        self.bn_swish = nn.BatchNorm2d(width)
        self.memory_swish = MemoryEfficientSwish()
        self.summed = nn.Conv2d(width, width, 1)
        self.bn_summed = nn.BatchNorm2d(width)
        self.twice = nn.Conv2d(width, width, 3, padding=1)
        self.fc = nn.Linear(width, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        x = self.relu_module(self.bn_module(self.module(batch)))
        x = self.relu_inplace(self.bn_inplace(self.inplace(x)))
        x = nn.functional.relu(self.bn_functional(self.functional(x)), inplace=True)
        x = self.memory_swish(self.bn_swish(self.swish(x)))
        x = (x + self.bn_summed(self.summed(x))).relu()
        x = self.twice(self.twice(x).relu() + 1)
        return self.fc(x.mean(dim=(2, 3)))


ALONE = ("module", "inplace", "functional", "swish")  # an activation of their own


def small_detector(seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    network = Small().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(3)
        network.fc.weight.mul_(5)
    network.requires_grad_(False)
    origin = WeightsOrigin("initialisation", "", "bare")
    return Detector(
        "small", network, planted_detector().preset, find_feature_maps(network), origin
    )  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return planted_images(tmp_path_factory.mktemp("planted"), n=5)


def picked(detector: Detector, number: int = 7, seed: int = 0) -> list[FeatureMap]:
    rng = np.random.default_rng(seed)
    return [detector.feature_maps[i] for i in rng.permutation(len(detector.feature_maps))[:number]]


def pixels(detector: Detector, images: ImageSet) -> torch.Tensor:
    return pixels_of(detector, images, images.entries)


# --- twins: float64, one image at a time, hooks written out by hand ------------------------------


def outputs_of(network: nn.Module, one: torch.Tensor, layer: str) -> list[torch.Tensor]:
    """Return what a layer gives in each of its calls."""
    found: list[torch.Tensor] = []
    module = dict(network.named_modules())[layer]
    handle = module.register_forward_hook(lambda m, i, o: found.append(o.clone()))
    network(one)
    handle.remove()
    return found


def slow_logit(network: nn.Module, one: torch.Tensor, instead) -> float:
    """Return the logit where instead(layer, call, output) is what each layer gives."""
    handles, calls = [], dict.fromkeys(dict(network.named_modules()), 0)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):

            def hook(module: nn.Module, args, output, name: str = name) -> torch.Tensor:
                calls[name] += 1
                return instead(name, calls[name] - 1, output.clone())

            handles.append(module.register_forward_hook(hook))
    found = float(network(one))
    for handle in handles:
        handle.remove()
    return found


def slow(detector: Detector, images: ImageSet, value: str, maps: list[FeatureMap]) -> np.ndarray:
    """Return the logits of all images under one value at the convolution."""
    network = copy.deepcopy(detector.network).double()
    batch = detector.normalised(pixels(detector, images)).double()
    under = ablation(detector, images, value)  # for who is whose partner alone
    ids = [images.image_id(entry) for entry in images]
    kinds = np.array([entry.label for entry in images])
    chosen = kinds == REAL if value == "mean-real" else np.ones(len(kinds), dtype=bool)
    mean = {}
    for layer in {one.layer for one in maps} if value.startswith("mean") else ():
        calls = [torch.stack(outputs_of(network, one[None], layer)) for one in batch[chosen]]
        mean[layer] = torch.stack(calls).mean(dim=(0, 1, 2, 4, 5))
    found = []
    for key, one in zip(ids, batch, strict=True):
        partner = under.partners.get(key)
        if value in ("resample", "paired") and partner is None:
            found.append(float(network(one[None])))
            continue
        theirs = {}
        if partner is not None:
            other = batch[ids.index(images.image_id(partner))][None]
            theirs = {layer: outputs_of(network, other, layer) for layer in detector.layers}

        def instead(layer: str, call: int, output: torch.Tensor, theirs=theirs) -> torch.Tensor:
            for own in maps:
                if own.layer == layer:
                    put_there = theirs[layer][call][:, own.channel] if theirs else 0.0
                    at = mean[layer][own.channel] if layer in mean else put_there
                    output[:, own.channel] = at
            return output

        found.append(slow_logit(network, one[None], instead))
    return np.array(found)


@pytest.mark.parametrize("value", ["zero", "mean", "mean-real", "resample", "paired"])
def test_each_value_is_its_slow_twin(images: ImageSet, value: str) -> None:
    detector = small_detector()
    maps = picked(detector)
    before = fingerprint(detector.network)
    under = ablation(detector, images, value)
    (found,), _ = masked_scores(detector, images, [maps], ablation=under, batch_size=7)
    assert fingerprint(detector.network) == before
    np.testing.assert_allclose(found, slow(detector, images, value, maps), rtol=1e-4, atol=1e-4)
    plain = detector.logits(pixels(detector, images)).double().numpy()
    moved = np.abs(found - plain)
    fakes = np.array([entry.label == FAKE for entry in images])
    assert (moved[fakes] > 3e-4).all()
    if value == "paired":  # a photograph is its own
        np.testing.assert_allclose(found[~fakes], plain[~fakes], rtol=1e-6)


def test_numbers_do_not_depend_on_batches_or_order(images: ImageSet) -> None:
    detector = small_detector()
    maps = picked(detector)
    for value in ("mean", "resample", "paired"):
        under = ablation(detector, images, value)
        whole = masked_scores(detector, images, [maps], ablation=under)[0][0]
        singles = masked_scores(detector, images, [maps], ablation=under, batch_size=1)[0][0]
        np.testing.assert_allclose(singles, whole, rtol=1e-5, atol=1e-5)
        turned = ImageSet(images.root, images.entries[::-1])
        again = replace(under, images=turned)
        other = masked_scores(detector, turned, [maps], ablation=again, batch_size=4)[0][0]
        np.testing.assert_allclose(other[::-1], whole, rtol=1e-5, atol=1e-5)


def test_another_real_is_another(images: ImageSet) -> None:
    """Both generators have the same reals: none is its own other, and copies have the same."""
    under = ablation(small_detector(), images, "resample")
    assert set(under.partners) == {images.image_id(entry) for entry in images}
    for key, partner in under.partners.items():
        assert partner.label == REAL
        own = images.root / key
        assert own.read_bytes() != partner.path.read_bytes()
    reals = [key for key in under.partners if "0_real" in key]
    for key in reals:
        assert under.partners[key] == under.partners[key.replace("two/", "one/")]
    assert len(set(under.partners.values())) > 2
    with pytest.raises(UserError, match="two reals or more"):
        ablation(small_detector(), ImageSet(images.root, images.entries[:1]), "resample")


# --- sites ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["zero", "mean", "mean-real"])
@pytest.mark.parametrize("site", ["bn", "activation"])
def test_a_site_holds_what_it_should(images: ImageSet, site: str, value: str) -> None:
    """What a BatchNorm or an activation gives for an ablated map is zero, or its mean, there."""
    detector = small_detector()
    network = detector.network
    behind = {
        "module": ("bn_module", "relu_module"), "inplace": ("bn_inplace", "relu_inplace"),
        "swish": ("bn_swish", "memory_swish"),
    }  # fmt: skip
    batch = detector.normalised(pixels(detector, images))
    kinds = np.array([entry.label for entry in images])
    of = kinds == REAL if value == "mean-real" else np.ones(len(kinds), dtype=bool)
    under = ablation(detector, images, value, site=site)  # type: ignore[arg-type]
    for layer, names in behind.items():
        at = names[site == "activation"]
        (plain,) = outputs_of(network, batch, at)
        wanted = plain[of].mean(dim=(0, 2, 3)) if value != "zero" else torch.zeros(plain.shape[1])
        maps = [FeatureMap(layer, channel, 4) for channel in (0, 2)]
        with put(network, maps, under.constants_of(maps)):
            (found,) = outputs_of(network, batch, at)
        for channel in (0, 2):
            held = found[:, channel]
            torch.testing.assert_close(held, wanted[channel].expand_as(held), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[:, [1, 3]], plain[:, [1, 3]])


def test_what_a_convolution_goes_through_is_seen(images: ImageSet) -> None:
    detector = small_detector()
    first = detector.normalised(pixels(detector, images)[:1])
    found = chains(detector.network, detector.layers, first)
    assert set(found) == {*ALONE, "summed"}  # not one that is called twice, without a BatchNorm
    assert all(found[layer].activation is not None for layer in ALONE)
    assert found["summed"].activation is None  # a sum comes first
    network = detector.network
    for layer, bn in (("functional", "bn_functional"), ("summed", "bn_summed")):
        (own,), (after,) = (outputs_of(network, first, one) for one in (layer, bn))
        torch.testing.assert_close(found[layer].behind(own, "bn"), after, rtol=1e-4, atol=1e-5)
    (own,), (after,) = (outputs_of(network, first, one) for one in ("swish", "memory_swish"))
    torch.testing.assert_close(
        found["swish"].behind(own, "activation"), after, rtol=1e-4, atol=1e-5
    )


def test_sites_of_shipped_networks_are_found() -> None:
    for name, least in (("resnet50", 45), ("efficientnet-b0", 45)):
        network = registry.get_architecture(name).build().eval()
        layers = {one.layer: one.width for one in find_feature_maps(network, without=("_se",))}
        found = chains(network, layers, torch.randn(1, 3, 64, 64))
        assert len(found) >= least
        assert sum(one.activation is not None for one in found.values()) >= 30


def test_a_network_without_batchnorm_has_one_site(images: ImageSet) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(4, 1)).eval()  # fmt: skip
    detector = replace(small_detector(), network=plain, feature_maps=find_feature_maps(plain))
    with pytest.raises(UserError, match="no site 'bn'; use site conv"):
        ablation(detector, images, "mean", site="bn")


# --- means ---------------------------------------------------------------------------------------


def test_means_are_exact_under_any_sharding_and_saved(images: ImageSet, tmp_path: Path) -> None:
    detector = small_detector()
    whole = means(detector, images)
    parts = means(detector, images, batch_size=3)
    for key, numbers in whole.of.items():
        np.testing.assert_allclose(parts.of[key], numbers, rtol=1e-5, atol=1e-7)
    turned = ImageSet(images.root, images.entries[::-1])
    alone = [means(detector, one, batch_size=1) for one in (images, turned)]
    for key in whole.of:  # each image's numbers are the same, and their sums are exact
        np.testing.assert_array_equal(alone[0].of[key], alone[1].of[key])
    network = copy.deepcopy(detector.network).double()
    batch = detector.normalised(pixels(detector, images)).double()
    own = {layer: torch.stack(outputs_of(network, batch, layer)) for layer in detector.layers}
    kinds = np.array([entry.label for entry in images])
    found = whole.by_layer(whole.numbers("conv", ("real",)))
    for layer, output in own.items():
        expected = output[:, kinds == REAL].mean(dim=(0, 1, 3, 4))
        torch.testing.assert_close(found[layer][:, 0], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="no mean over fakes at site conv"):
        means(detector, images.only(label=REAL)).numbers("conv", ("fake",))


# --- pairs ---------------------------------------------------------------------------------------


def test_all_maps_of_a_cut_restore_the_photograph(images: ImageSet) -> None:
    """Where every map of the last layer is the photograph's, so is all that follows."""
    for detector, layer in ((planted_detector(), "conv2"), (small_detector(), "twice")):
        cut = [one for one in detector.feature_maps if one.layer == layer]
        under = ablation(detector, images, "paired")
        logits, _ = masked_scores(detector, images, [(), cut, cut[1:]], ablation=under)
        ids = [images.image_id(entry) for entry in images]
        assert len(under.partners) == len(images) // 2
        for key, photograph in under.partners.items():
            there = ids.index(images.image_id(photograph))
            assert logits[1, ids.index(key)] == pytest.approx(logits[0, there], abs=1e-5)
            assert abs(logits[0, ids.index(key)] - logits[0, there]) > 1e-4
    assert not np.allclose(logits[1], logits[2])


@pytest.mark.parametrize("world", ["smooth", "photographs"])
def test_the_planted_unit_alone_restores_the_photograph(
    images: ImageSet, tmp_path: Path, world: str
) -> None:
    detector = planted_detector()
    if world == "photographs":
        forge_planted(
            photographs("test")[:8], {"luma": Trace("luma", 2, 20)}, tmp_path, pairs=8, side=32
        )
        images = scan(tmp_path)
    under = ablation(detector, images, "paired")
    alone = [[one] for one in detector.feature_maps]
    logits, _ = masked_scores(detector, images, [(), *alone], ablation=under)
    ids = [images.image_id(entry) for entry in images]
    fakes = [ids.index(key) for key in under.partners]
    theirs = [ids.index(images.image_id(one)) for one in under.partners.values()]
    before = np.abs(logits[0, fakes] - logits[0, theirs])
    left = np.abs(logits[1:, fakes] - logits[0, theirs]).mean(axis=1) / before.mean()
    by_map = dict(zip(map(str, detector.feature_maps), left, strict=True))
    for layer in ("conv1", "conv2"):
        assert by_map.pop(f"{layer}.#0(T=8)") < 0.01
    assert min(by_map.values()) > 0.9  # and no other does


def test_pairs_come_from_names_or_a_table(images: ImageSet, tmp_path: Path) -> None:
    found = pairs_of(images)
    for key, photograph in found.items():
        assert photograph.label == REAL
        assert Path(key).stem == photograph.path.stem
        assert key.split("/")[0] == photograph.generator
    rows = [(key, images.image_id(one)) for key, one in found.items()]
    table = pd.DataFrame(rows, columns=["fake", "photograph"])
    assert pairs_of(images, table) == found
    table[:3].to_csv(tmp_path / "pairs.csv", index=False)
    assert len(pairs_of(images, tmp_path / "pairs.csv")) == 3
    for wrong, said in (
        (table[["fake"]], "column photograph is missing"),
        (pd.concat([table[:1], table[:1]]), "is there twice"),
        (table.assign(photograph="none.png"), "none.png is no file below"),
        (table.assign(fake=table["photograph"].iloc[0]), "is there twice"),
    ):
        with pytest.raises(UserError, match=said):
            pairs_of(images, wrong)
    fakes = images.only(label=FAKE)
    assert pairs_of(fakes) == {}
    with pytest.raises(UserError, match="no fake has its photograph beside it"):
        ablation(small_detector(), fakes, "paired")


# --- learnt constants ----------------------------------------------------------------------------


def test_learnt_constants_change_logits_least(tmp_path: Path) -> None:
    """On the reference never more than mean or zero; on other photographs not on average."""
    detector = small_detector()
    reference = planted_images(tmp_path / "reference", ("a",), n=24)
    other = planted_images(tmp_path / "other", ("b",), n=40)
    held_out = ImageSet(other.root, tuple(e for e in other if int(e.path.stem) >= 24))
    rows = []
    for seed in range(3):
        maps = picked(detector, 3, seed)
        for value in ("zero", "mean", "mean-real", "optimal"):
            under = ablation(detector, reference, value, reference=reference)
            for where, own in (("reference", reference), ("held out", held_out)):
                logits = masked_scores(detector, own, [(), maps], ablation=under)[0]
                loss = float(((logits[1] - logits[0]) ** 2).mean())
                rows.append((seed, value, where, loss))
    table = pd.DataFrame(rows, columns=["seed", "value", "where", "loss"])
    losses = table.pivot_table(index=["where", "seed"], columns="value", values="loss")
    best = losses[["zero", "mean", "mean-real"]].min(axis=1)
    assert (losses["optimal"]["reference"] <= 1.0001 * best["reference"]).all()
    assert losses["optimal"]["held out"].mean() <= losses.loc["held out", "mean"].mean()
    assert losses["optimal"]["held out"].mean() <= losses.loc["held out", "zero"].mean()


def test_learnt_constants_reach_the_best_there_are(images: ImageSet) -> None:
    """One map behind which all is linear: the best constant is known."""
    detector = planted_detector()
    with torch.no_grad():
        detector.network.conv2.bias[0] = 5.0  # the rectifier behind never closes
    unit = FeatureMap("conv2", 0, 8)
    under = ablation(detector, images, "optimal")
    constant = float(under.constants_of([unit])["conv2"][0, 0])  # type: ignore[index]
    network, batch = detector.network, detector.normalised(pixels(detector, images))
    (output,) = outputs_of(network, batch, "conv2")
    expected = float(output[:, 0].detach().mean())  # of a linear logit: the mean over images
    assert constant == pytest.approx(expected, rel=0.02)
    with pytest.raises(UserError, match="value optimal is learnt on images"):
        ablation(detector, images, "optimal", reference=means(detector, images))


# --- first order ---------------------------------------------------------------------------------


def test_first_order_effects_are_finite_differences(images: ImageSet) -> None:
    detector = replace(small_detector(), network=small_detector().network.double())
    one = pixels(detector, images)[:4]
    constants = {
        layer: torch.linspace(-0.5, 0.5, width, dtype=torch.float64)[:, None]
        for layer, width in detector.layers.items()
    }
    run = partial(_logits_double, detector, one)
    without = [FeatureMap("inplace", 1, 4)]
    logits, found = first_order_double(detector, one, constants, without)
    with put(detector.network, without, constants):
        np.testing.assert_allclose(logits, run(), rtol=1e-9)
    step = 1e-6
    for place, unit in enumerate(detector.feature_maps):
        if unit in without:
            continue
        module = dict(detector.network.named_modules())[unit.layer]
        value = constants[unit.layer][unit.channel]

        def nudge(module, args, output, unit=unit, value=value):
            moved = output.clone()
            moved[:, unit.channel] += step * (value - output[:, unit.channel])
            return moved

        with put(detector.network, without, constants):
            plain = run()
            handle = module.register_forward_hook(nudge)
            nudged = run()
            handle.remove()
        expected = (nudged - plain) / step
        np.testing.assert_allclose(
            found[:, place], expected, rtol=2e-3, atol=1e-4, err_msg=str(unit)
        )


def _logits_double(detector: Detector, batch: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return detector.network(detector.normalised(batch).double())[:, 0].numpy()


def first_order_double(detector, batch, constants, without):
    """Run first_order on a float64 network: pixels are normalised in float32."""
    doubled = copy.copy(detector)
    normalised = detector.normalised
    object.__setattr__(doubled, "normalised", lambda given: normalised(given).double())
    logits, found = first_order(doubled, batch, constants, without)
    return logits.numpy(), found.numpy()


def test_first_order_effects_see_what_is_replaced_already(images: ImageSet) -> None:
    detector = small_detector()
    before = fingerprint(detector.network)
    maps = picked(detector, 4)
    _, alone = first_order(detector, pixels(detector, images), None)
    _, given = first_order(detector, pixels(detector, images), None, maps)
    at = [detector.feature_maps.index(one) for one in maps]
    assert not given[:, at].any()
    assert not torch.allclose(alone, given)
    assert fingerprint(detector.network) == before


# --- networks are left alone, transformers have units --------------------------------------------


@pytest.mark.parametrize("value", VALUES)
def test_the_network_is_as_before_also_after_an_error(images: ImageSet, value: str) -> None:
    detector = small_detector()
    before = fingerprint(detector.network)
    under = ablation(detector, images, value)
    maps = picked(detector, 2)
    masked_scores(detector, images, [maps], ablation=under)
    assert fingerprint(detector.network) == before
    with pytest.raises(UserError, match="no feature map"):
        masked_scores(detector, images, [[FeatureMap("none", 0, 4)]],
                      ablation=replace(under, constants=None, value="zero"))  # fmt: skip
    broken = detector.network.fc.register_forward_pre_hook(_fails)
    with pytest.raises((RuntimeError, UserError)):
        masked_scores(detector, images, [maps], ablation=under)
    broken.remove()
    assert fingerprint(detector.network) == before


def _fails(module: nn.Module, args: object) -> None:
    raise RuntimeError("a network that fails")


class Block(nn.Module):
    """Attention of two heads and an MLP, as transformers name them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = []
        for h in range(2):
            at = slice(4 * h, 4 * h + 4)
            scores = (q[..., at] @ k[..., at].transpose(-1, -2) / 2).softmax(-1)
            mixed.append(scores @ v[..., at])
        return self.proj(torch.cat(mixed, dim=-1))


class Mlp(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.mlp = nn.LayerNorm(8), Block(), Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm(x))
        return x + self.mlp(x)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.block = nn.Sequential(Layer(), Layer())
        self.fc = nn.Linear(8, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(self.patch(batch).flatten(2).transpose(1, 2)).mean(dim=1))


@pytest.mark.parametrize("units", ["neurons", "heads", "channels"])
@pytest.mark.parametrize("value", VALUES)
def test_units_of_transformers_under_every_value(images: ImageSet, units, value: str) -> None:
    torch.manual_seed(0)
    network = Transformer().eval().requires_grad_(False)
    detector = replace(small_detector(), network=network, feature_maps=find_feature_maps(network))
    detector = with_units(detector, units)
    last = list(detector.layers)[-1]
    maps = [one for one in detector.feature_maps if one.layer == last][:2]
    under = ablation(detector, images, value)
    logits, _ = masked_scores(detector, images, [(), maps], ablation=under)
    assert np.isfinite(logits).all()
    batch = detector.normalised(pixels(detector, images))
    ids = [images.image_id(entry) for entry in images]
    module = dict(network.named_modules())[last]
    heads = units == "heads"
    seen: list[torch.Tensor] = []
    if heads:
        handle = module.register_forward_pre_hook(lambda m, a: seen.append(a[0].clone()))
    else:
        handle = module.register_forward_hook(lambda m, a, o: seen.append(o.clone()))
    network(batch)
    handle.remove()
    tokens, size = seen[0], 4 if heads else 1
    constants = under.constants_of(maps)

    def edit(given: torch.Tensor) -> torch.Tensor:
        edited = given.clone()
        for one in maps:
            at = slice(size * one.channel, size * (one.channel + 1))
            if value in ("paired", "resample"):
                for row, key in enumerate(ids):
                    if key in under.partners:
                        other = ids.index(images.image_id(under.partners[key]))
                        edited[row, :, at] = tokens[other, :, at]
            else:
                held = 0.0 if constants is None else constants[last][one.channel].to(given)
                edited[..., at] = held
        return edited

    if heads:
        handle = module.register_forward_pre_hook(lambda m, a: (edit(a[0]),))
    else:
        handle = module.register_forward_hook(lambda m, a, o: edit(o))
    expected = network(batch)[:, 0].double().numpy()
    handle.remove()
    np.testing.assert_allclose(logits[1], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(logits[1] - logits[0]).max() > 1e-5


def test_a_photograph_outside_the_set_is_read(images: ImageSet, tmp_path: Path) -> None:
    fakes = images.only(label=FAKE)
    photographs = {images.image_id(e): e.path for e in images.only(label=REAL)}
    table = pd.DataFrame(
        [(fakes.image_id(e), str(photographs[fakes.image_id(e).replace("1_fake", "0_real")]))
         for e in fakes],
        columns=["fake", "photograph"],
    )  # fmt: skip
    listed = pairs_of(fakes, table)
    assert all(isinstance(one, ImageEntry) for one in listed.values())
    detector = planted_detector()
    cut = [one for one in detector.feature_maps if one.layer == "conv2"]
    under = ablation(detector, fakes, "paired", pairs=listed)
    (found,), _ = masked_scores(detector, fakes, [cut], ablation=under)
    (plain,), _ = masked_scores(detector, images, [()])
    ids = [images.image_id(entry) for entry in images]
    theirs = [plain[ids.index(fakes.image_id(e).replace("1_fake", "0_real"))] for e in fakes]
    np.testing.assert_allclose(found, theirs, rtol=1e-6)
