"""Composites: each rule against its slow twin, networks against zennit, names and refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from PIL import Image
from torch import Tensor, nn

from forensift.errors import UserError
from forensift.lrp import LRP, CanonisationError
from forensift.lrp.composites import COMPOSITES, RULES, composite

from .lrp_reference import matrix, per_image, relative_error, stabilised
from .test_lrp_rules import CONVOLUTIONS, convolution, relevance_through

PHOTO = Path(__file__).parents[1] / "photos" / "astronaut.jpg"
BOX = (-2.2, 2.7)
EPSILON, GAMMA = 0.05, 0.4  # far from the defaults, so that no test passes by leaving them out


def parts(layer: nn.Module, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matrix (outputs, inputs), bias (outputs,) and terms w·x of one image through a layer."""
    w = matrix(lambda one: layer(one[None])[0], a)
    bias = layer(torch.zeros_like(a)[None]).flatten().detach()
    return w, bias, w * a.flatten()


def quotient(r: Tensor, z: Tensor, epsilon: float = 1e-6) -> Tensor:
    """R ⊘ (z + ε sign z), a column: one number an output."""
    return (r.flatten() / (stabilised(z) if epsilon == 1e-6 else z + epsilon * z.sign()))[:, None]


def twin_epsilon(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    _, bias, terms = parts(layer, a)
    return (terms * quotient(r, terms.sum(1) + bias, EPSILON)).sum(0)


def twin_gamma(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    _, bias, terms = parts(layer, a)
    y = terms.sum(1) + bias
    own = torch.where(y[:, None] > 0, terms.clamp(min=0), terms.clamp(max=0))
    of_bias = torch.where(y > 0, bias.clamp(min=0), bias.clamp(max=0))
    counted = terms + GAMMA * own
    return (counted * quotient(r, counted.sum(1) + bias + GAMMA * of_bias)).sum(0)


def twin_zplus(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    _, bias, terms = parts(layer, a)
    plus = terms.clamp(min=0)
    return (plus * quotient(r, plus.sum(1) + bias.clamp(min=0))).sum(0)


def twin_alpha_beta(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    _, bias, terms = parts(layer, a)
    minus = terms.clamp(max=0)
    against = (minus * quotient(r, minus.sum(1) + bias.clamp(max=0))).sum(0)
    return 2 * twin_zplus(layer, a, r) - against


def twin_w2(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    w, _, _ = parts(layer, a)
    return (w.square() * quotient(r, w.square().sum(1))).sum(0)


def twin_flat(layer: nn.Module, a: Tensor, r: Tensor) -> Tensor:
    w, _, _ = parts(layer, a)
    ones = (w != 0).double()  # no random weight is 0
    return (ones * quotient(r, ones.sum(1))).sum(0)


TWINS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "epsilon": twin_epsilon, "gamma": twin_gamma, "zplus": twin_zplus,
    "alpha2-beta1": twin_alpha_beta, "w2": twin_w2, "flat": twin_flat,
}  # fmt: skip


def through(layer: nn.Module, x: Tensor, r: Tensor, rule: str, nonneg: bool) -> tuple[Tensor, ...]:
    """Relevance of the pixels in float64 and in float32, and by the slow twin."""
    given = {"composite": f"beta0,epsilon={EPSILON},gamma={GAMMA}", "overrides": {"layer": rule}}
    entered = x.clamp(min=0) if nonneg else x
    expected = per_image(lambda a, b: TWINS[rule](layer, a, b).view_as(a), entered, r)
    found = relevance_through(layer, x, r, nonneg=nonneg, **given)
    single = relevance_through(
        copy.deepcopy(layer).float(), x.float(), r.float(), nonneg=nonneg, **given
    )
    return found, single, expected


def test_every_rule_has_a_twin() -> None:
    assert set(TWINS) == set(RULES)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("nonneg", [False, True])
@pytest.mark.parametrize("rule", TWINS)
def test_rules_of_convolutions_match_the_matrix(name: str, nonneg: bool, rule: str) -> None:
    torch.manual_seed(len(name))
    layer = convolution(CONVOLUTIONS[name])
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    found, single, expected = through(layer, x, torch.randn_like(layer(x)), rule, nonneg)
    assert relative_error(found, expected) < 1e-12
    assert relative_error(single, expected) < 1e-3


@pytest.mark.parametrize("rule", TWINS)
def test_rules_of_transposed_convolutions(rule: str) -> None:
    torch.manual_seed(3)
    settings = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    layer = convolution(settings, nn.ConvTranspose2d)
    x = torch.randn(2, 4, 4, 3, dtype=torch.float64)
    found, _, expected = through(layer, x, torch.randn_like(layer(x)), rule, False)
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("shape", [(3, 6), (2, 5, 6)])
@pytest.mark.parametrize("rule", TWINS)
def test_rules_of_linear_layers_of_vectors_and_tokens(rule: str, shape: tuple[int, ...]) -> None:
    from forensift.lrp.weighted import Linear

    torch.manual_seed(4)
    layer = nn.Linear(6, 4).double()
    x = torch.randn(shape, dtype=torch.float64)
    r = torch.randn_like(layer(x))
    given = composite(f"beta0,epsilon={EPSILON},gamma={GAMMA}")
    made = given.build(rule, Linear(layer.weight.detach(), layer.bias.detach()), False)
    y, saved = made.forward(x)
    torch.testing.assert_close(y, layer(x))
    (found,) = made.backward(saved, r)
    expected = per_image(lambda a, b: TWINS[rule](layer, a, b).view_as(a), x, r)
    assert relative_error(found, expected) < 1e-12


class Shifted(nn.Module):
    """A BatchNorm that a ReLU parts from any layer before, and that three things read."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


@pytest.mark.parametrize("rule", TWINS)
def test_rules_of_an_affine_map_on_its_own(rule: str) -> None:
    torch.manual_seed(5)
    layer = Shifted().double().eval()
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    model = nn.Sequential(nn.ReLU(), layer, nn.Flatten()).double().eval()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    r = torch.randn_like(layer(x))
    given = f"beta0,epsilon={EPSILON},gamma={GAMMA}"
    lrp = LRP(
        nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), *model).double(), composite=given,
        overrides={"2.norm": rule},
    )  # fmt: skip
    weight = lrp.plan.steps[0].rule.convolution.weight  # type: ignore[union-attr]
    entered = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x).clamp(min=0)
    found = lrp(x, start=r.flatten(1), layers=["0"]).feature_maps["0"]
    expected = per_image(lambda a, b: TWINS[rule](layer, a, b).view_as(a), entered, r)
    assert relative_error(found, expected) < 1e-12


def test_bias_behind_a_shift_is_of_both_signs_where_padding_makes_it_so() -> None:
    torch.manual_seed(6)
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, padding=1)
    nn.init.normal_(norm.bias)
    both = nn.Sequential(norm, conv).double().eval()
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), both, nn.Flatten()).double().eval()
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    entered = model[1](model[0](x)).detach()
    r = torch.randn_like(both(entered)).detach()
    for rule in ("epsilon", "gamma", "zplus", "alpha2-beta1"):
        lrp = LRP(
            model, composite=f"beta0,epsilon={EPSILON},gamma={GAMMA}", overrides={"2.1": rule}
        )
        assert ("2.1", "2.0") in lrp.report.merged
        found = lrp(x, start=r.flatten(1), layers=["0"]).feature_maps["0"]
        expected = per_image(
            lambda a, b, rule=rule: TWINS[rule](both, a, b).view_as(a),  # type: ignore[misc]
            entered, r,
        )  # fmt: skip
        assert relative_error(found, expected) < 1e-12, rule


def test_budget_says_what_biases_take_under_every_composite() -> None:
    torch.manual_seed(7)
    model = zoo.resnet18(num_classes=1).double().eval()
    batch = torch.randn(1, 3, 64, 64, dtype=torch.float64).clamp(*BOX)
    for name in COMPOSITES:
        found = LRP(model, box=BOX, composite=name)(batch, budget=True)
        assert found.pixels is not None
        assert found.budget is not None
        absorbed = float(found.budget["absorbed"].sum())
        assert float(found.pixels.sum()) == pytest.approx(1 - absorbed, abs=1e-6)


# ---- against zennit


def zennit_composite(name: str, canonisers: list[Any]) -> Any:
    """zennit's composite of our name; ``epsilon`` and ``gamma`` are its rules in every layer."""
    composites = pytest.importorskip("zennit.composites")
    rules = pytest.importorskip("zennit.rules")
    types = pytest.importorskip("zennit.types")
    low, high = (torch.full((1, 3, 1, 1), end, dtype=torch.float64) for end in BOX)
    base = composites.layer_map_base()
    of = {
        "epsilon": lambda: composites.LayerMapComposite(
            [*base, (types.Linear, rules.Epsilon())], canonizers=canonisers
        ),
        "gamma": lambda: composites.LayerMapComposite(
            [*base, (types.Linear, rules.Gamma())], canonizers=canonisers
        ),
        "alpha2-beta1": lambda: composites.EpsilonAlpha2Beta1(canonizers=canonisers),
        "epsilon-plus": lambda: composites.EpsilonPlus(canonizers=canonisers),
        "epsilon-plus-flat": lambda: composites.EpsilonPlusFlat(canonizers=canonisers),
        "epsilon-gamma-box": lambda: composites.EpsilonGammaBox(
            low=low, high=high, canonizers=canonisers
        ),
        "alpha2-beta1-flat": lambda: composites.EpsilonAlpha2Beta1Flat(canonizers=canonisers),
    }
    return of[name]()


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """A real photograph, (1, 3, 32, 32) float64, normalised as ImageNet's."""
    with Image.open(PHOTO) as image:
        pixels = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.float64) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1)[None].copy())


def trained_like(build: Callable[..., nn.Module]) -> nn.Module:
    """A network with biases and statistics that are not those of a fresh one, in float64.

    zennit folds a BatchNorm and leaves its eps in what stays of it, so that every fold shrinks the
    outputs by eps / 2; a vanishing eps takes that difference away.
    """
    torch.manual_seed(0)
    with torch.device("meta"):
        model = build(weights=None, num_classes=3)
    if isinstance(model, zoo.VGG):  # its own classifier has 120 M numbers
        with torch.device("meta"):
            model.avgpool = nn.AdaptiveAvgPool2d(2)
            model.classifier = nn.Sequential(nn.Linear(512 * 4, 32), nn.ReLU(), nn.Linear(32, 3))
    model = model.to_empty(device="cpu").double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
            module.eps = 1e-300
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("build", [zoo.vgg11, zoo.vgg16, zoo.resnet18, zoo.resnet50])
def test_composites_agree_with_zennit(build: Callable[..., nn.Module], photograph: Tensor) -> None:
    attribution = pytest.importorskip("zennit.attribution")
    canonisers = pytest.importorskip("zennit.torchvision")
    model = trained_like(build)
    start = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    errors = {}
    for name in set(COMPOSITES) - {"beta0"}:
        own = [canonisers.ResNetCanonizer()] if isinstance(model, zoo.ResNet) else []
        theirs = zennit_composite(name, own)
        with attribution.Gradient(model=model, composite=theirs) as explainer:
            _, expected = explainer(photograph, start)
        found = LRP(model, box=BOX, composite=name)(photograph, start=start, layers=()).pixels
        assert found is not None
        assert float(expected.norm()) > 0
        errors[name] = float((found - expected).norm() / expected.norm())
    assert max(errors.values()) <= 1e-9, errors


def test_values_of_epsilon_and_gamma_are_zennits(photograph: Tensor) -> None:
    attribution = pytest.importorskip("zennit.attribution")
    composites = pytest.importorskip("zennit.composites")
    canonisers = pytest.importorskip("zennit.torchvision")
    model = trained_like(zoo.resnet18)
    start = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    low, high = (torch.full((1, 3, 1, 1), end, dtype=torch.float64) for end in BOX)
    theirs = composites.EpsilonGammaBox(
        low=low, high=high, epsilon=0.1, gamma=0.7, canonizers=[canonisers.ResNetCanonizer()]
    )
    with attribution.Gradient(model=model, composite=theirs) as explainer:
        _, expected = explainer(photograph, start)
    lrp = LRP(model, box=BOX, composite="epsilon-gamma-box,epsilon=0.1,gamma=0.7")
    found = lrp(photograph, start=start, layers=()).pixels
    assert found is not None
    assert float((found - expected).norm() / expected.norm()) <= 1e-9


# ---- names


def test_beta0_is_the_default_and_unchanged() -> None:
    torch.manual_seed(8)
    model = zoo.resnet18(num_classes=1).eval()
    batch = torch.randn(2, 3, 40, 40)
    default, named = LRP(model)(batch), LRP(model, composite="beta0")(batch)
    assert default.pixels is not None
    assert named.pixels is not None
    assert torch.equal(default.pixels, named.pixels)
    rules = dict(LRP(model).report.rules.set_index("layer")["rule"])
    assert rules["conv1"] == "box"
    assert rules["layer1.0.conv1"] == "z+"
    assert rules["fc"] == "epsilon"


def test_overrides_by_name_and_the_last_that_matches_decides() -> None:
    model = zoo.resnet18(num_classes=1).eval()
    lrp = LRP(
        model, composite="epsilon,layer1.*=gamma", overrides={"layer1.0.*": "flat", "f?": "gamma"}
    )
    assert str(lrp.composite) == "epsilon,layer1.*=gamma,layer1.0.*=flat,f?=gamma"
    rules = dict(lrp.report.rules.set_index("layer")["rule"])
    assert rules["conv1"] == "epsilon"
    assert rules["layer1.0.conv2"] == "flat"
    assert rules["layer1.1.conv2"] == "gamma"
    assert rules["layer2.0.conv1"] == "epsilon"
    assert rules["fc"] == "gamma"
    assert composite(str(lrp.composite)) == lrp.composite


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_by_name_round_trip(name: str) -> None:
    found = composite(f"{name},gamma=0.5,epsilon=1e-3,conv1=w2")
    assert (found.gamma, found.epsilon) == (0.5, 1e-3)
    assert composite(str(found)) == found
    assert composite(found) is not None
    assert str(composite(name)) == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("epsilom", "no composite 'epsilom'.*beta0, epsilon, gamma"),
        ("epsilon,layer1.*", "'layer1.*' in composite .* is not PATTERN=RULE"),
        ("epsilon,layer1.*=gama", "no relevance rule 'gama' .*layer1.*epsilon, gamma"),
        ("gamma,gamma=-1", "gamma -1.0 .* is not ≥ 0"),
        ("gamma,epsilon=0", "epsilon 0.0 .* is not > 0"),
        ("gamma,gamma=much", "gamma of composite .* is no number"),
        ("epsilon,layer9.*=gamma", r"no layer is named 'layer9.\*'.*conv1"),
    ],
)
def test_refusals_say_what_there_is(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LRP(zoo.resnet18(num_classes=1), composite=given)


def test_box_needs_a_convolution_of_the_pixels() -> None:
    late = zoo.resnet18(num_classes=1)
    with pytest.raises(CanonisationError, match=r"layer1.0.conv1.*box rule needs"):
        LRP(late, composite="beta0,layer1.0.conv1=box")
    with pytest.raises(CanonisationError, match="input_rule 'zplus' is of composite beta0"):
        LRP(late, input_rule="zplus", composite="gamma")
