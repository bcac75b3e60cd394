"""Detectors of one's own, from outside the package: a function, a file, timm, and a preset."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv3 import MobileNetV3
from torchvision.ops.misc import SqueezeExcitation
from typer.testing import CliRunner

import forensift as ff
from forensift.cli.app import app
from forensift.detectors import load_plugin, own_detector, save_weights
from forensift.errors import UserError

PAGE = Path(__file__).parents[1] / "docs" / "own-detector.md"
MODERN = "## Transformers and ConvNeXts"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)

MODULE = """
import torch
from torch import nn
import forensift as ff
from helpers import WIDTH

class Net(nn.Sequential):
    def __init__(self, outputs=1):
        super().__init__(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(WIDTH, outputs))

def one():
    torch.manual_seed(0)
    return Net()

def three():
    return Net(3)
three.classes = ["gan", "diffusion", "camera"]
three.real = "camera"
three.preset = ff.Preset("mine", crop=16, mean=(0.5,) * 3, std=(0.5,) * 3)

def nameless():
    return Net(3)

def ready():
    return ff.own_detector(Net(), name="ready", preset="npr-native", without=("0",))

def broken():
    return 1 / 0

def number():
    return 7

def probable():
    return nn.Sequential(Net(), nn.Sigmoid())

def narrow():
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(9, 1))

made = Net()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the user's with a module, its helper and nothing else."""
    (tmp_path / "userdetector.py").write_text(MODULE)
    (tmp_path / "helpers.py").write_text("WIDTH = 4\n")
    monkeypatch.chdir(tmp_path)
    for name in ("userdetector", "helpers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def invoke(line: str) -> str:
    """Run a command as written, in this process; what it printed."""
    words = shlex.split(line)
    assert words[0] == "forensift"
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page, _, _ = PAGE.read_text(encoding="utf-8").partition(MODERN)
    blocks = BLOCK.findall(page)
    module, in_python, _ = (text for kind, text in blocks if kind == "python")
    lines = [line for kind, text in blocks if kind == "console" for line in text.splitlines()]
    Path("mydetector.py").write_text(module, encoding="utf-8")
    Path("after.py").write_text(in_python, encoding="utf-8")
    for line in lines:
        if line.startswith("python "):
            subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, env=os.environ)
        else:
            invoke(line)
    evaluated = pd.read_csv("evaluated/evaluation.csv").set_index("generator")
    assert evaluated.loc["progan-like", "accuracy"] >= 0.7
    manifest = json.loads(Path("evaluated/manifest.json").read_text())
    assert manifest["detector"] == "mydetector.py:network"
    assert (manifest["weights"]["file"], manifest["preset"]) == ("mydetector.pth", "mine")
    assert len(pd.read_csv("ranked/forged-fake.csv")) == 28
    assert set(pd.read_csv("dropped/dropout.csv")["mask"]) >= {"baseline", "top-k", "random-k"}
    assert Path("explained/china-000.npy").is_file()
    runpy.run_path("after.py")
    said = capsys.readouterr().out
    assert "conv1" in said
    assert "AP is" in said


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_networks_of_today_go_through_every_verb(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, _, modern = PAGE.read_text(encoding="utf-8").partition(MODERN)
    (module, *_), (console, *_) = (
        [text for kind, text in BLOCK.findall(modern) if kind == wanted]
        for wanted in ("python", "console")
    )
    Path("modern.py").write_text(module, encoding="utf-8")
    for line in page.splitlines():
        if line.startswith("forensift forge "):
            invoke(line)
    for line in console.replace("vit", name).splitlines():
        if line.startswith("python "):
            subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, env=os.environ)
        else:
            invoke(line)
    assert len(pd.read_csv(f"{name}/evaluated/evaluation.csv")) > 1
    table = pd.read_csv(f"{name}/ranked/forged-fake.csv")
    layers = table["key"].str.rpartition(".#")[0].unique()
    neurons = [layer for layer in layers if ".mlp." in layer]
    assert neurons
    assert table["mean_relevance"].sum() <= len(layers)
    for layer in neurons:
        assert 0 < table.loc[table["key"].str.startswith(f"{layer}.#"), "mean_relevance"].sum() <= 1
    if name == "vit":  # the blocks of this ConvNeXt are convolutions
        invoke(
            f"forensift rank modern.py:{name}={name}.pth --data forged --min-confidence 0.5 "
            f"--units channels --out {name}/channels"
        )
        invoke(
            f"forensift dropout modern.py:{name}={name}.pth --data forged --k 4 --draws 1 "
            f"--ks none --ranking {name}/channels/forged-fake.csv --out {name}/channels/dropped"
        )
        assert len(pd.read_csv(f"{name}/channels/dropped/dropout.csv"))
    dropped = pd.read_csv(f"{name}/dropped/dropout.csv")
    assert set(dropped["mask"]) >= {"baseline", "top-k", "random-k", "low-k"}
    assert len(pd.read_csv(f"{name}/median/median_test.csv")) == 2 * 8
    assert {one.stem for one in Path(f"{name}/patches").glob("collage*.p*")} == {
        "collage-progan-like", "collage-dcgan-like",
    }  # fmt: skip
    assert Path(f"{name}/explained/china-000.npy").is_file()
    for csv in ("transfer/transfer.csv", "colour/colour.csv", "embedded/embedding.csv"):
        assert len(pd.read_csv(f"{name}/{csv}"))


def test_every_other_verb_takes_one(
    folder: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    data = image_folder(("one",), 4)
    detector = "userdetector.py:one"
    csv = "key,mean_relevance\n" + "".join(f"0.#{i}(T=4),{0.4 - i / 10}\n" for i in range(4))
    Path("ranking-fake.csv").write_text(csv)
    ranked = "--ranking ranking-fake.csv --k 2"
    invoke(f"forensift colour {detector} --data {data} --modes published --out colour")
    invoke(f"forensift median-test {detector} --data {data} {ranked} --out median")
    invoke(f"forensift patches {detector} --data {data} {ranked} --out patches")
    invoke(f"forensift embed {detector} --data {data} --out embed")
    for name in ("colour/colour.csv", "median/median_test.csv", "embed/embedding.csv"):
        assert len(pd.read_csv(name))
    assert list(Path("patches").glob("collage.*"))


def test_what_a_function_says_is_what_the_detector_is(folder: Path) -> None:
    one = load_plugin("userdetector:one")
    assert (one.name, one.preset.name, one.classes) == ("userdetector:one", "wang-nocrop", ())
    assert [str(each) for each in one.feature_maps] == [f"0.#{i}(T=4)" for i in range(4)]
    assert one.weights.sha256 == load_plugin("userdetector.py:one").weights.sha256
    assert len(one.weights.sha256) == 64
    three = ff.load_detector("userdetector:three", device="cpu")
    assert (three.classes, three.real) == (("gan", "diffusion", "camera"), 2)
    assert three.preset.name == "mine"
    named = ff.load_detector("userdetector:three", preset="npr-native")
    assert named.preset.name == "npr-native"
    given = ff.load_detector("userdetector:three", preset=ff.Preset("other", crop=20))
    assert given.preset.name == "other"
    ready = ff.load_detector("userdetector:ready")
    assert (ready.name, ready.preset.name, ready.feature_maps) == ("ready", "npr-native", ())
    assert load_plugin("userdetector:made").layers == {"0": 4}
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    outputs = three.outputs(pixels)
    assert outputs.shape == (2, 3)
    expected = outputs[:, :2].logsumexp(1) - outputs[:, 2]
    torch.testing.assert_close(three.logits(pixels), expected)
    for target, number in (("gan", 0), ("real", 2), ("Camera", 2), ("1", 1)):
        (found,) = ff.explain(three, pixels[:1], "gradient", target=target)
        assert (found.target, found.target_name) == (number, three.classes[number])
    (found,) = ff.explain(three, pixels[:1], target="decision")
    assert found.target == int(three.outputs(pixels)[0].argmax())
    with pytest.raises(UserError, match="no class is called 'fake'; there are gan, diffusion"):
        ff.explain(three, pixels, target="fake")


def test_weights_are_loaded_strictly(folder: Path) -> None:
    state = load_plugin("userdetector:one").network.state_dict()
    state["4.bias"] = torch.tensor([5.0])
    torch.save(state, "mine.pth")
    loaded = ff.load_detector("userdetector:one", weights="mine.pth")
    assert float(loaded.network[4].bias.detach()) == 5.0  # type: ignore[index]
    assert loaded.weights.path == "mine.pth"
    into = ff.load_detector("userdetector:ready", weights="mine.pth")
    assert into.weights.path == "mine.pth"
    torch.save({"other": torch.zeros(1), **state}, "more.pth")
    with pytest.raises(UserError, match="unknown: other"):
        ff.load_detector("userdetector:one", weights="more.pth")
    with pytest.raises(UserError, match="no such weights file"):
        ff.load_detector("userdetector:one", weights="none.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:one", "no module 'nowhere' is installed or in the working directory"),
        ("nowhere.py:one", "nowhere.py: no such file"),
        ("userdetector:none", "userdetector has no 'none'"),
        ("userdetector:", "write package.module:function"),
        ("userdetector:broken", r"failed with ZeroDivisionError.*userdetector\.py, line \d+"),
        ("userdetector:number", "returned int instead of a torch.nn.Module or a Detector"),
        ("userdetector:probable", "ends in a sigmoid; a detector gives logits"),
        ("userdetector:nameless", "gives 3 outputs, but `classes` has 0 names"),
        ("userdetector:narrow", r"on one image \(1, 3, 224, 224\), failed with RuntimeError"),
        ("timm:resnet18", "timm has no detectors' weights; give weights, timm:resnet18=FILE"),
        ("timm:nonsense", "timm has no model 'nonsense'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ff.load_detector(name)


def test_a_module_that_fails_to_import_says_where(folder: Path) -> None:
    Path("helpers.py").write_text("import nothing_like_this\n")
    with pytest.raises(UserError, match=r"No module named 'nothing_like_this' \(.*line"):
        ff.load_detector("userdetector:one")
    before = list(sys.path)
    with pytest.raises(UserError, match=r"userdetector\.py: running it failed with ModuleNotFound"):
        ff.load_detector("userdetector.py:one")
    assert sys.path == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("a", "b")}, "which of a, b is the real class"),
        ({"classes": ("a", "b"), "real": "c"}, "real = 'c' is none of the classes a, b"),
        ({"classes": ("a", "b"), "real": 2}, "the classes are 0 … 1"),
        ({"classes": "ab"}, "a list of names"),
        ({"preset": "none"}, "no preset 'none'"),
    ],
)
def test_classes_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match=message):
        own_detector(network, **options)  # type: ignore[arg-type]


def small_mobilenet() -> MobileNetV3:
    from torchvision.models.mobilenetv3 import InvertedResidualConfig

    def block(*numbers: object) -> InvertedResidualConfig:
        return InvertedResidualConfig(*numbers, 1, 1.0)  # type: ignore[arg-type]

    blocks = [block(8, 3, 8, 8, True, "RE", 2), block(8, 5, 16, 8, True, "HS", 1)]
    return MobileNetV3(blocks, 16, num_classes=1)


def test_gates_are_not_ranked(tmp_path: Path) -> None:
    network = small_mobilenet()
    gates = {
        f"{name}.{own}"
        for name, module in network.named_modules()
        if isinstance(module, SqueezeExcitation)
        for own in ("fc1", "fc2")
    }
    assert len(gates) == 4
    detector = own_detector(network, preset="npr-native")
    assert not gates & set(detector.layers)
    assert set(detector.layers) == set(ff.LRP(network).layers)


def test_a_network_of_timm(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    facts = {"classes": json.dumps(["real", "made"]), "preset": "npr-native"}
    save_weights(path, timm.create_model("resnet18", num_classes=2).state_dict(), facts)
    detector = ff.load_detector("timm:resnet18", weights=path)
    assert (detector.classes, detector.real) == (("real", "made"), 0)
    assert (detector.preset.name, len(detector.layers)) == ("npr-native", 20)
    data = image_folder(("one",), 1, (32, 32))
    assert len(ff.score(detector, ff.scan(data))) == 2
    (found,) = ff.explain(detector, next(data.rglob("1_fake/*.png")), target="made")
    assert found.relevance.shape == (3, 32, 32)
    with pytest.raises(UserError, match="timm has no model 'resnet19'; near are"):
        ff.load_detector("timm:resnet19", weights=path)
    with pytest.raises(UserError, match="missing: "):
        ff.load_detector("timm:resnet26", weights=path)


def test_without_timm_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(1, 2)}, path)
    with pytest.raises(UserError, match="timm is not installed; `pip install timm` mends that"):
        ff.load_detector("timm:resnet18", weights=path)


# ---- what a network gives is looked at ---------------------------------------------------------


class Ends(nn.Module):
    """A small network, and what is done to its outputs in the end."""

    def __init__(self, end: Callable[[torch.Tensor], object], outputs: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sigmoid()  # registered first, whether it is used or not
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, outputs)
        self.end = end

    def forward(self, x: torch.Tensor) -> object:
        return self.end(self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3))))


class NoGrad(Ends):
    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> object:
        return super().forward(x)


def two(logit: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(logit)
    return torch.cat([1 - p, p], dim=1)


PROBABLE: dict[str, tuple[Callable[[torch.Tensor], object], int]] = {
    "sigmoid": (torch.sigmoid, 1),
    "in place": (lambda x: x.sigmoid_(), 1),
    "expit": (torch.special.expit, 1),
    "module": (nn.Sigmoid(), 1),
    "hard": (nn.functional.hardsigmoid, 1),
    "one minus": (lambda x: 1 - torch.sigmoid(x), 1),
    "clamped": (lambda x: torch.sigmoid(x).clamp(1e-6, 1 - 1e-6).squeeze(1), 1),
    "logarithm": (nn.functional.logsigmoid, 1),
    "softmax": (lambda x: x.softmax(1), 2),
    "second of softmax": (lambda x: x.softmax(1)[:, 1:], 2),
    "sum of softmax": (lambda x: x.softmax(1)[:, :2].sum(1), 3),
    "log-softmax": (lambda x: x.log_softmax(1), 2),
    "logarithm of softmax": (lambda x: x.softmax(1).log(), 2),
    "both": (two, 1),
    "by hand": (lambda x: 1 / (1 + torch.exp(-x)), 1),
    "by hand, two": (lambda x: x.exp() / x.exp().sum(1, keepdim=True), 2),
    "tanh": (lambda x: (x.tanh() + 1) / 2, 1),
    "mean of two": (lambda x: (torch.sigmoid(x) + torch.sigmoid(2 * x)) / 2, 1),
    "product": (lambda x: torch.sigmoid(x) * torch.sigmoid(2 * x), 1),
    "two sigmoids": (torch.sigmoid, 2),
}


@pytest.mark.parametrize("kind", [Ends, NoGrad])
@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_are_not_taken_for_logits(name: str, kind: type[Ends]) -> None:
    end, outputs = PROBABLE[name]
    network = kind(end, outputs)
    classes = ("real", "fake") if outputs == 2 and name != "second of softmax" else ()
    classes = ("real", "fake") if name == "both" else classes
    with pytest.raises(UserError, match=r"ends in .*; a detector gives logits") as caught:
        own_detector(network, preset="npr-native", classes=classes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Ends, NoGrad])
@pytest.mark.parametrize(
    "end",
    [
        lambda x: 0.5 + 0.01 * x,  # logits that happen to lie between 0 and 1
        lambda x: 10 * torch.sigmoid(x) - 5,
        lambda x: torch.logit(torch.sigmoid(x)),
        lambda x: torch.sigmoid(x) * x,
        lambda x: nn.functional.silu(x),
        lambda x: x.squeeze(1),
        lambda x: torch.relu(x),
        lambda x: x[..., None, None],
        lambda x: torch.sigmoid(x).log() - (1 - torch.sigmoid(x)).log(),
    ],
)
def test_logits_are_not_taken_for_probabilities(
    end: Callable[[torch.Tensor], object], kind: type[Ends]
) -> None:
    network = kind(end)
    with torch.no_grad():
        network.fc.bias.fill_(0.4)
    detector = own_detector(network, preset="npr-native")
    assert detector.outputs(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 1)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            lambda x: {"features": x, "logits": x},
            r"a dict with the keys features, logits; .*'logits'",
        ),
        (lambda x: (x, x), r"a tuple of \(1, 1\), \(1, 1\); let its forward return one"),
        (lambda x: None, "returns NoneType instead of logits"),
        (lambda x: x.squeeze(), r"returns \(\) for 1 image instead of \(1, classes\)"),
        (lambda x: x.sum(0), r"\(1,\) for 2 images instead of \(2, classes\)"),
        (lambda x: nn.functional.dropout(x + 1), "another output each time.*F.dropout"),
        (lambda x: x - x.mean(0) + x.std(0, correction=0), "depends on the others in the batch"),
    ],
)
def test_outputs_that_are_no_logits_are_named(
    end: Callable[[torch.Tensor], object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        own_detector(Ends(end), preset="npr-native")
    assert "\n" not in str(caught.value)


def test_statistics_of_the_batch_are_refused_by_the_layer_s_name() -> None:
    network = Ends(lambda x: x)
    network.bn = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(UserError, match="bn takes its statistics from the batch"):
        own_detector(network, preset="npr-native")


def plain() -> Ends:
    return Ends(nn.Identity())


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        torch.compile,
        lambda network: nn.DataParallel(torch.compile(network)),
    ],
)
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    wrapped = wrap(plain())
    detector = own_detector(wrapped, preset="npr-native")
    assert list(detector.layers) == ["conv"]
    inside = nn.Sequential(wrapped, nn.Identity())
    assert list(own_detector(inside, preset="npr-native").layers) == ["0.conv"]
    assert type(inside[0]) is type(wrapped)


def test_the_user_s_network_stays_as_it_is(folder: Path) -> None:
    network = plain().train()
    network.bn.eval()
    nn.utils.spectral_norm(network.conv)
    network(torch.randn(2, 3, 8, 8)).sum().backward()  # type: ignore[attr-defined]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    detector = own_detector(network, preset="npr-native")
    assert torch.equal(torch.rand(3), expected)
    assert (network.training, network.bn.training) == (True, False)
    assert not detector.network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.fc.weight.grad is not None
    loaded = load_plugin("userdetector:made")
    made = sys.modules["userdetector"].made
    assert made.training
    assert not loaded.network.training
    torch.manual_seed(5)
    moved = load_plugin("userdetector:made", device="cpu").to("meta")
    assert (moved.device.type, next(made.parameters()).device.type) == ("meta", "cpu")
    load_plugin("userdetector:one")  # its function sets the seed
    assert torch.equal(torch.rand(3), expected)


def test_a_ready_detector_is_looked_at_too(folder: Path) -> None:
    text = (
        "\n\ndef hidden():\n    d = ready()\n    from dataclasses import replace\n"
        "    return replace(d, network=nn.Sequential(d.network, nn.Sigmoid()))\n"
    )
    Path("userdetector.py").write_text(MODULE + text)
    with pytest.raises(UserError, match="ends in a sigmoid"):
        load_plugin("userdetector.py:hidden")


def test_weights_stand_behind_the_name_of_one_s_own(folder: Path) -> None:
    torch.save({"model": load_plugin("userdetector:one").network.state_dict()}, "mine.pth")
    assert ff.load_detector("userdetector.py:one=mine.pth").weights.path == "mine.pth"
    assert ff.load_detector("userdetector:one=mine.pth").weights.wrapper == "model"
