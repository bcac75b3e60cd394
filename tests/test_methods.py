"""The registry of explanation methods: each against its definition, on every shipped detector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from forensift import explain, load_detector
from forensift.cli import completion
from forensift.cli.app import app
from forensift.detectors import ARCHITECTURES
from forensift.detectors.registry import shipped_weights
from forensift.errors import UserError
from forensift.explain import METHODS, attribution, explainer, list_methods, named_methods
from forensift.explain.attribution import DRAWS, NOISE, STEPS, _drawn_by
from forensift.explain.cam_family import spread
from forensift.explain.separate import PairedMax, separated
from forensift.explain.superpixels import superpixels
from forensift.explain.tokens import Grid
from forensift.files import home

from .planted import PLANTED, fingerprint, planted_detector, planted_images
from .test_gradcam import network, pixels, resnet18

LAYER = "6"  # of the small network: its last convolution


def gradient_of(model: nn.Module, batch: Tensor, target: Tensor) -> Tensor:
    leaf = batch.clone().requires_grad_()
    logits = model(leaf).gather(1, target[:, None])
    return torch.autograd.grad(logits.sum(), leaf)[0]


def found(method: str, model: nn.Module, batch: Tensor, layer: str | None = None) -> Tensor:
    return explainer(model, method, layer)(batch, None).relevance


def linear() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1)).double().eval()


# --- captum's methods ----------------------------------------------------------------------------


def test_gradients_by_their_definitions() -> None:
    model, batch = network(), pixels()
    target = model(batch).argmax(1)
    plain = gradient_of(model, batch, target)
    torch.testing.assert_close(found("saliency", model, batch), plain)
    torch.testing.assert_close(found("input-x-gradient", model, batch), plain * batch)
    places, weights = np.polynomial.legendre.leggauss(STEPS)
    total = sum(
        w / 2 * gradient_of(model, batch * ((a + 1) / 2), target)
        for a, w in zip(places.tolist(), weights.tolist(), strict=True)
    )
    integrated = found("integrated-gradients", model, batch)
    torch.testing.assert_close(integrated, batch * total)
    change = (model(batch) - model(batch * 0)).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(integrated.sum((1, 2, 3)), change, rtol=0.05, atol=0.01)


def test_smoothgrad_is_the_mean_gradient_of_noisy_copies() -> None:
    model, batch = network(), pixels(2)
    target = model(batch).argmax(1)
    got = found("smoothgrad", model, batch)
    for place, image in enumerate(batch):
        spread_of = NOISE * float(image.max() - image.min())
        with _drawn_by(image[None]):
            noise = torch.normal(0, torch.full((DRAWS, *image.shape), spread_of))
        many = target[place].expand(DRAWS)
        expected = gradient_of(model, image + noise, many).mean(0)
        torch.testing.assert_close(got[place], expected, rtol=1e-4, atol=1e-7)


def test_gradient_shap_of_a_linear_network_is_the_difference_from_a_colour() -> None:
    model, batch = linear(), pixels(1)
    weight = model[1].weight.detach().reshape(3, 16, 16)
    colour = batch[0] - found("gradient-shap", model, batch)[0] / weight
    assert float(colour.std(dim=(1, 2)).max()) < 1e-6  # one colour, a mean of those drawn
    inside = (colour[:, 0, 0] >= batch.amin((0, 2, 3))) & (colour[:, 0, 0] <= batch.amax((0, 2, 3)))
    assert bool(inside.all())


def test_deeplift_by_the_rescale_rule() -> None:
    model = nn.Sequential(*(one for one in network() if not isinstance(one, nn.MaxPool2d)))
    batch = pixels()
    target = model(batch).argmax(1)
    values, zeros = [batch], [batch * 0]
    for layer in model:
        values.append(layer(values[-1]).detach())
        zeros.append(layer(zeros[-1]).detach())
    flowing = F.one_hot(target, 4).double()
    for place, layer in reversed(list(enumerate(model))):
        if isinstance(layer, nn.ReLU):
            change = values[place] - zeros[place]
            flowing = flowing * (values[place + 1] - zeros[place + 1]) / change
        else:
            leaf = values[place].clone().requires_grad_()
            (flowing,) = torch.autograd.grad(layer(leaf), leaf, flowing)
    torch.testing.assert_close(found("deeplift", model, batch), flowing * batch)


def test_deeplift_sums_to_the_change_of_the_logit() -> None:
    """ResNets reuse one ReLU, in place, and pool overlapping windows."""
    model, batch = resnet18(), pixels(2, 48)
    before = fingerprint(model)
    got = found("deeplift", model, batch)
    target = model(batch).argmax(1)
    change = (model(batch) - model(batch * 0)).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(got.sum((1, 2, 3)), change, rtol=1e-6, atol=1e-8)
    assert fingerprint(model) == before
    assert sum(isinstance(one, nn.ReLU) for one in separated(model).modules()) > 17


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("given", [(2, 2, 0), (3, 2, 1), (3, 1, 1), ((2, 3), (1, 2), (0, 1))])
def test_paired_max_is_max_pooling(given: tuple[Any, Any, Any], ceil_mode: bool) -> None:
    batch = pixels(2, 17) - 5
    expected = F.max_pool2d(batch, *given, ceil_mode=ceil_mode)
    torch.testing.assert_close(PairedMax(*given, ceil_mode)(batch), expected)


@pytest.mark.parametrize(
    ("layer", "message"),
    [(nn.SiLU(), "SiLU"), (nn.GroupNorm(2, 8).double(), "GroupNorm"), (nn.Softmax(1), "Softmax")],
)
def test_deeplift_says_what_it_has_no_rule_for(layer: nn.Module, message: str) -> None:
    model = network()
    model[2] = layer
    with pytest.raises(UserError, match=f"DeepLift: its rescale rule is not made for {message}"):
        explainer(model, "deeplift")

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.mean((2, 3), keepdim=True)

    model[2] = Product()
    with pytest.raises(UserError, match="a product of two activations"):
        explainer(model, "deeplift")


def test_occlusion_is_the_mean_fall_of_the_logit() -> None:
    model, batch = network(), pixels(1)
    target = int(model(batch).argmax())
    total, count = np.zeros((16, 16)), np.zeros((16, 16))
    side, step = 3, 1  # a sixth of 16 pixels, and half of that
    for top in range(0, 16 - side + 1, step):
        for left in range(0, 16 - side + 1, step):
            covered = batch.clone()
            covered[:, :, top : top + side, left : left + side] = 0
            fall = float((model(batch) - model(covered)).detach()[0, target])
            total[top : top + side, left : left + side] += fall
            count[top : top + side, left : left + side] += 1
    got = found("occlusion", model, batch)[0].numpy()
    np.testing.assert_allclose(got, total / count, rtol=1e-5, atol=1e-7)


def test_kernel_shap_of_a_linear_network_is_each_part_s_own_share() -> None:
    model, batch = linear(), pixels(1)
    parts = superpixels(batch[0].float().numpy())
    share = (model[1].weight.reshape(1, 3, 16, 16) * batch).sum(1)[0].detach().numpy()
    got = found("kernel-shap", model, batch)[0].numpy()
    for part in np.unique(parts):
        inside = parts == part
        np.testing.assert_allclose(got[inside], share[inside].sum(), rtol=1e-3, atol=1e-4)


def test_methods_of_many_passes_see_a_large_image_smaller(
    monkeypatch: pytest.MonkeyPatch, few_passes: None
) -> None:
    methods = [name for name, method in METHODS.items() if method.small]
    assert {"occlusion", "kernel-shap", "scorecam", "ablationcam", "deeplift"} <= set(methods)
    detector = planted_detector()
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 47, 61), dtype=np.uint8)
    batch = detector.normalised(torch.from_numpy(image))
    whole = explain(detector, image, methods)
    assert not whole.notes
    monkeypatch.setattr(attribution, "LARGE", 47 * 61)
    again = explain(detector, image, methods)
    for one, other in zip(whole, again, strict=True):  # as large as may be, as it was
        np.testing.assert_array_equal(one.relevance, other.relevance)
    monkeypatch.setattr(attribution, "LARGE", 47 * 61 - 1)
    monkeypatch.setattr(attribution, "WORKING", 400)  # squares of 3 × 3
    less = explain(detector, image, methods)
    assert "means of 3 × 3" in " ".join(less.notes)
    small = F.avg_pool2d(batch, 3, ceil_mode=True, count_include_pad=False)
    for one in less:
        assert one.relevance.shape[-2:] == (47, 61)
        if one.method in ("integrated-gradients", "deeplift"):
            own = explainer(detector, one.method)(small, None).relevance
            assert one.relevance.sum() == pytest.approx(float(own.sum()), rel=1e-4)
        if one.relevance.ndim == 3 or one.method in ("occlusion", "kernel-shap"):
            flat = one.relevance[..., :45, :60].reshape(-1, 15, 3, 20, 3)
            assert np.ptp(flat, axis=(2, 4)).max() == 0


def test_superpixels_follow_the_colours() -> None:
    image = np.zeros((3, 40, 60), np.uint8)
    image[:, :, 30:] = 220
    parts = superpixels(image, 24)
    assert parts.shape == (40, 60)
    assert 12 <= len(np.unique(parts)) <= 24
    assert not set(parts[:, :30].ravel()) & set(parts[:, 30:].ravel())
    np.testing.assert_array_equal(parts, superpixels(image, 24))


# --- the family of class activation maps ---------------------------------------------------------


def maps_of(model: nn.Sequential, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last convolution's maps, their gradients, and the targets."""
    target = model(batch).argmax(1)
    maps = model[: int(LAYER) + 1](batch).detach().requires_grad_()
    logits = model[int(LAYER) + 1 :](maps).gather(1, target[:, None])
    return maps.detach(), torch.autograd.grad(logits.sum(), maps)[0], target


def upsampled(cam: Tensor) -> Tensor:
    return F.interpolate(cam[:, None], (16, 16), mode="bilinear", align_corners=False)[:, 0]


def test_weighted_maps_by_their_definitions() -> None:
    model, batch = network(), pixels()
    a, g, target = maps_of(model, batch)
    total = a.sum((2, 3), keepdim=True)
    alpha = g**2 / (2 * g**2 + total * g**3 + 1e-6)
    plus = (F.relu(g) * alpha).sum((2, 3), keepdim=True)
    x = (g * a / (total + 1e-7)).sum((2, 3), keepdim=True)
    expected = {
        "gradcam++": (plus * a).sum(1),
        "xgradcam": (x * a).sum(1),
        "hirescam": (g * a).sum(1),
        "layercam": (F.relu(g) * a).sum(1),
    }
    for method, cam in expected.items():
        got = found(method, model, batch, LAYER)
        torch.testing.assert_close(got, upsampled(cam), rtol=1e-5, atol=1e-9, msg=method)
    rest = model[int(LAYER) + 1 :]
    score = rest(a).gather(1, target[:, None])
    weights = []
    for channel in range(a.shape[1]):
        without = a.clone()
        without[:, channel] = 0
        fall = score - rest(without).gather(1, target[:, None])
        weights.append(fall / score.abs())
    cam = (torch.stack(weights, 1)[..., None] * a).sum(1)
    got = found("ablationcam", model, batch, LAYER)
    torch.testing.assert_close(got, upsampled(cam), rtol=1e-4, atol=1e-6)


def test_score_cam_masks_the_image_by_each_map() -> None:
    model, batch = network(), pixels(2)
    a, _, target = maps_of(model, batch)
    masks = F.interpolate(a, (16, 16), mode="bilinear", align_corners=True)
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    masks = (masks - low) / (high - low + 1e-8)
    for place in range(2):
        scores = model(batch[place] * masks[place][:, None])[:, target[place]]
        cam = (scores.softmax(0)[:, None, None] * a[place]).sum(0)
        got = found("scorecam", model, batch, LAYER)[place]
        torch.testing.assert_close(got, upsampled(cam[None])[0], rtol=1e-4, atol=1e-6)


def test_eigen_cam_is_the_first_component_and_has_a_sign() -> None:
    model, batch = network(), pixels()
    a, _, _ = maps_of(model, batch)
    got = found("eigencam", model, batch, LAYER)
    for place in range(len(a)):
        flat = a[place].flatten(1).T
        flat = flat - flat.mean(0)
        first = flat @ torch.linalg.svd(flat)[2][0]
        first = first * torch.sign(first[first.abs().argmax()])
        expected = upsampled(first.reshape(1, *a.shape[2:]))[0]
        torch.testing.assert_close(got[place], expected, rtol=1e-4, atol=1e-5)


def test_full_grad_lays_the_whole_logit_on_the_image() -> None:
    for model, batch, last in ((network(), pixels(), -1), (resnet18(), pixels(2, 64), None)):
        logits = model(batch)
        target = logits.argmax(1)
        bias = (model[last] if last else model.fc).bias[target]
        got = found("fullgrad", model, batch)
        expected = logits.gather(1, target[:, None])[:, 0] - bias
        torch.testing.assert_close(got.sum((1, 2)), expected.detach(), rtol=1e-9, atol=1e-9)
    some = pixels(2, 5)[:, 0]
    larger = spread(some, (32, 24))
    torch.testing.assert_close(larger.sum((1, 2)), some.sum((1, 2)))
    model = network()
    model[1] = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(UserError, match="'1' keeps no statistics"):
        explainer(model, "fullgrad")


# --- networks of tokens --------------------------------------------------------------------------


def timm_vit(**options: Any) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    sizes = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return VisionTransformer(**(sizes | options), num_classes=1).eval()


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(48, 8, 2, 2, 16, 32, num_classes=2)
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


def timm_swin() -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    return SwinTransformer(
        img_size=64, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4,
        num_classes=1,
    ).eval()  # fmt: skip


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    torch.manual_seed(0)
    return SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=3).eval()


NETWORKS = {
    "class token": (lambda: timm_vit(), (32, 48), "blocks.1.norm1"),
    "registers": (lambda: timm_vit(reg_tokens=4), (32, 48), "blocks.1.norm1"),
    "mean of tokens": (
        lambda: timm_vit(class_token=False, global_pool="avg", fc_norm=False), (32, 48), "norm",
    ),
    "torchvision": (torchvision_vit, (48, 48), "encoder.layers.encoder_layer_1.ln_1"),
    "swin": (timm_swin, (64, 64), "norm"),
    "torchvision swin": (torchvision_swin, (64, 64), "norm"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_the_grid_of_tokens_is_found(kind: str) -> None:
    make, size, layer = NETWORKS[kind]
    model, batch = make(), torch.randn(2, 3, *size)
    before = fingerprint(model)
    for method in ("gradcam", "hirescam", "eigencam", "ablationcam"):
        explain_ = explainer(model, method)
        relevance = explain_(batch, None).relevance
        assert relevance.shape == (2, *size)
        assert explain_.layer == layer  # type: ignore[attr-defined]
        assert float(relevance.std()) > 0
        alone = explain_(batch[1:], None).relevance[0]
        torch.testing.assert_close(alone, relevance[1], rtol=1e-3, atol=1e-5 * alone.abs().max())
    assert fingerprint(model) == before


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_class_and_register_tokens_are_left_out(prefix: int) -> None:
    """A network whose logit is one token of the grid alone, by the place of its patch."""

    class OneToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8)
            self.extra = nn.Parameter(torch.randn(1, prefix, 8))

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1)
            return self.norm(tokens)[:, prefix + 2 * 6 + 4].square().sum(1, keepdim=True)

    torch.manual_seed(0)
    model = OneToken().eval()
    (cam,) = explainer(model, "hirescam")(torch.randn(1, 3, 32, 48), None).relevance
    top, left = divmod(int(cam.argmax()), 48)
    assert (top // 8, left // 8) == (2, 4)
    assert float(cam[:8].abs().max()) == 0
    grid = Grid(model, (32, 48))
    tokens = torch.arange(prefix + 24.0).reshape(1, -1, 1)
    arrange = grid.arrangement(tokens, model.norm)
    assert arrange is not None
    assert arrange(tokens)[0, 0].tolist() == (torch.arange(24.0) + prefix).reshape(4, 6).tolist()


def test_a_detector_that_lrp_refuses_has_other_methods() -> None:
    class Added(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(-1)

    model = timm_vit()
    model.fc_norm = Added()
    with pytest.raises(UserError, match=r"cumsum.*; methods that work on it: gradcam, gradient"):
        explainer(model, "lrp")
    names = set(METHODS) - {"lrp", "guided-gradcam", "guided-backprop", "deeplift", "fullgrad"}
    for name in names - {"kernel-shap", "scorecam"}:
        assert float(found(name, model, torch.randn(1, 3, 32, 48)).abs().max()) > 0, name
    with pytest.raises(UserError, match="FullGrad: the logit of a network of tokens"):
        explainer(model, "fullgrad")


# --- every shipped detector ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [one for one in ARCHITECTURES if shipped_weights(one).is_file()])
def test_all_methods_on_every_shipped_detector(name: str, tmp_path: Path, few_passes: None) -> None:
    detector = load_detector(name)
    files = []
    for photo in ("chelsea", "coffee"):
        with Image.open(home() / "photos" / f"{photo}.jpg") as image:
            image.convert("RGB").crop((60, 40, 124, 104)).save(tmp_path / f"{photo}.png")
        files.append(tmp_path / f"{photo}.png")
    before = fingerprint(detector.network)
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    result = explain(detector, files, "all")
    assert fingerprint(detector.network) == before
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    methods = list(dict.fromkeys(one.method for one in result))
    refused = [note.split()[0] for note in result.notes]
    assert methods + refused == [one for one in METHODS if one in methods] + refused
    assert set(methods) | set(refused) == set(METHODS)
    assert refused == (["deeplift"] if name in ("efficientnet-b0", "vit") else [])
    for one in result:
        assert one.relevance.dtype == np.float32
        assert one.relevance.shape[-2:] == one.map.shape == one.pixels.shape[1:]
        assert np.isfinite(one.relevance).all(), one.method
        if one.method != "guided-gradcam":  # empty where Grad-CAM has nothing positive
            assert np.ptp(one.map) > 0, one.method
    alone = explain(detector, files[1:], methods)
    for one in alone:
        (other,) = (both for both in result.of(one.method) if both.key == one.key)
        scale = np.abs(other.relevance).max()
        assert np.abs(one.relevance - other.relevance).max() <= 2e-3 * scale, one.method


# --- names, the list and the panel ---------------------------------------------------------------


def test_names() -> None:
    assert named_methods("all") == list(METHODS)
    assert named_methods("lrp,occlusion,lrp") == ["lrp", "occlusion"]
    with pytest.raises(UserError, match="no explanation method 'lime'; there are lrp, gradcam"):
        named_methods(["lrp", "lime"])
    assert ("all", *METHODS) == completion.METHODS
    assert completion.methods("lrp,gradcam+") == ["lrp,gradcam++"]


def test_the_list_of_methods_says_what_applies_and_how_long_it_takes(few_passes: None) -> None:
    plain = list_methods()
    assert plain.tables["methods"]["method"].tolist() == list(METHODS)
    assert "21 explanation methods" in plain.said
    detector = planted_detector()
    detector.network.relu2 = nn.SiLU()
    told: list[Any] = []
    result = list_methods(
        detector, ["gradient", "occlusion", "deeplift"], progress=lambda *a: told.append(a)
    )
    rows = result.table.set_index("method")
    assert rows["applies"].to_dict() == {"gradient": True, "occlusion": True, "deeplift": False}
    assert rows.loc["gradient", "gradients"] == 1
    assert rows.loc["occlusion", "gradients"] > 1
    assert "SiLU" in rows.loc["deeplift", "reason"]
    assert "2 of 3 explanation methods apply to planted" in result.said
    assert [one[1:] for one in told] == [(1, 3), (2, 3), (3, 3)]


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["explain", *map(str, words)])


def test_the_panel_of_all_methods_and_the_list(tmp_path: Path, few_passes: None) -> None:
    images = planted_images(tmp_path / "set", ("one",), n=1, size=32)
    out = tmp_path / "out"
    result = run(PLANTED, images.entries[0].path, "--method", "all", "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    table = pd.read_csv(out / "explained.csv")
    assert table["method"].tolist() == list(METHODS)
    (panel_file,) = out.glob("*-methods.png")
    with Image.open(panel_file) as panel:
        assert panel.width > 1500
    for row in table.to_dict("records"):
        assert np.load(out / row["file"]).dtype == np.float32
    result = run("--list", "--out", tmp_path / "list")
    assert result.exit_code == 0
    assert len(pd.read_csv(tmp_path / "list/methods.csv")) == len(METHODS)
    result = run(PLANTED, "--out", out)
    assert result.exit_code == 2
    assert "name a DETECTOR and images, or --list" in result.stderr


def test_captum_and_grad_cam_are_loaded_when_used() -> None:
    script = (
        "import sys, forensift, forensift.explain, forensift.cli.app; "
        "print(sorted({'captum', 'pytorch_grad_cam', 'matplotlib'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "[]"
