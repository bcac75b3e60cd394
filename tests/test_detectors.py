"""Detectors: published parameter counts, golden logits, every wrapper, strict loading."""

from __future__ import annotations

import argparse
import gzip
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from forensift.data import read_image
from forensift.detectors import (
    ARCHITECTURES,
    header,
    load_detector,
    load_strictly,
    parse_spec,
    read_checkpoint,
    save_weights,
    shipped_weights,
)
from forensift.detectors.checkpoints import FEW
from forensift.detectors.npr import NPR, NPRResidual
from forensift.eight_bits import CODED, deflated, dequantise, inflated, quantise
from forensift.errors import UserError
from forensift.records import ImageEntry, ImageSet

from .conftest import write_image

PARAMETERS = {
    "resnet50": 23_510_081,
    "efficientnet-b0": 4_008_829,
    "npr": 1_437_761,
    "vit": 2_512_769,
    "lgrad": 23_510_081,
    "dna-det": 5_897_349,
    "deepfeaturex": 72_551_427,
}
SIDE = {"vit": 96}  # the only one of a fixed size
MAPS = {"resnet50": (53, 26_560), "efficientnet-b0": (49, 21_008)}


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    small = {"deepfeaturex": {"backbone": "resnet18"}}
    return {
        name: architecture.build(**small.get(name, {})).eval()
        for name, architecture in ARCHITECTURES.items()
        if name in PARAMETERS
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    with torch.device("meta"):
        network = ARCHITECTURES[name].build()
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MAPS)
def test_feature_maps_are_those_of_the_published_ranking(networks, name, tmp_path):
    torch.save(networks[name].state_dict(), tmp_path / "w.pth")
    detector = load_detector(name, weights=tmp_path / "w.pth")
    assert (len(detector.layers), len(detector.feature_maps)) == MAPS[name]


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Set deterministic weights: sines of the entry's number and the position in it."""
    state = network.state_dict()
    for e, (key, value) in enumerate(state.items()):
        if not value.is_floating_point():
            continue
        k = np.arange(value.numel(), dtype=np.float64)
        wave = np.sin(k + e)
        if key.endswith("running_var"):
            new = 1 + 0.5 * wave
        elif key.endswith("running_mean") or key.endswith("bias"):
            new = 0.1 * wave
        elif value.dim() == 1:
            new = 1 + 0.25 * wave
        else:
            new = np.sin(0.7 * k + e) * np.sqrt(2 / (value.numel() / value.shape[0]))
        state[key] = torch.from_numpy(new.reshape(value.shape)).float()
    network.load_state_dict(state)
    return network.eval()


def wave_image(side: int) -> torch.Tensor:
    k = np.arange(3 * side * side, dtype=np.float64)
    return torch.from_numpy(np.sin(0.001 * k**2 + 0.3 * k)).float().reshape(1, 3, side, side)


@pytest.mark.parametrize(("side", "logit"), [(64, 0.0383940), (32, 0.0440918)])
def test_npr_gives_the_golden_logits(side, logit):
    with torch.no_grad():
        assert fill(NPR())(wave_image(side)).item() == pytest.approx(logit, rel=1e-4)


def test_npr_residual_of_the_published_ramp():
    ramp = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    expected = torch.tensor([[0.0, 1, 0, 1], [4, 5, 4, 5]]).repeat(2, 1)
    assert torch.allclose(NPRResidual()(ramp)[0, 0] * 1.5, expected)


@pytest.mark.parametrize(("height", "width"), [(33, 32), (32, 35), (31, 37)])
def test_npr_trims_odd_sides(networks, height, width):
    image = torch.randn(1, 3, height, width)
    trimmed = image[..., : height // 2 * 2, : width // 2 * 2]
    with torch.no_grad():
        assert torch.equal(networks["npr"](image), networks["npr"](trimmed))


WRAPPERS = {
    "bare": lambda s: s,
    "model": lambda s: {"model": s, "optimizer": {"state": {}}, "total_steps": 7},
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "model of module": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", PARAMETERS)
def test_every_published_wrapper_gives_the_same_network(networks, name, wrapper, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](networks[name].state_dict()), path)
    loaded = load_detector(name, weights=path).network
    image = torch.randn(1, 3, *[SIDE.get(name, 32)] * 2)
    with torch.no_grad():
        assert torch.equal(loaded(image), networks[name](image))


def test_an_old_npr_file_with_its_dead_head_loads(networks, tmp_path):
    state = networks["npr"].state_dict()
    state |= {"fc.weight": torch.zeros(1, 2048), "fc.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "old.pth")
    load_detector("npr", weights=tmp_path / "old.pth")


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_saved_weights_come_back(networks, tmp_path, bits):
    state = networks["npr"].state_dict()
    save_weights(tmp_path / "n.safetensors", state, {"seed": "0"}, bits=bits)
    loaded = read_checkpoint(tmp_path / "n.safetensors").state
    for key, value in state.items():
        # Small tensors stay in half precision: rounded high-pass filters would let brightness in.
        kept = 16 if bits == 8 and value.numel() < FEW else bits
        bound = {32: 0, 16: 1e-3, 8: 0.5 / 127}[kept] * (value.abs().max().item() + 1e-3)
        assert (loaded[key].float() - value.float()).abs().max().item() <= bound * 1.001 + 0


def test_eight_bits_err_by_half_a_step_at_most():
    weight = torch.randn(5, 3, 3, 3) * torch.logspace(-4, 1, 5)[:, None, None, None]
    values, scale = quantise(weight)
    error = (dequantise(values, scale) - weight).abs().amax((1, 2, 3))
    assert (error <= scale * 0.5001).all()


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_fewer_bits_have_fewer_values(bits):
    weight = torch.randn(4, 500)
    values, scale = quantise(weight, bits)
    assert values.abs().max() == 2 ** (bits - 1) - 1
    assert ((dequantise(values, scale) - weight).abs() <= scale[:, None] * 0.5001).all()


def test_deflated_tensors_come_back_to_the_bit():
    torch.manual_seed(0)
    state = {
        "eight": (torch.randn(64, 32, 3, 3) * 20).clamp(-127, 127).to(torch.int8),
        "half": torch.randn(300, 40).half(),
        "float": torch.randn(3000),
        "noise": torch.randint(0, 256, (9000,)).to(torch.uint8),
        "counter": torch.tensor(7),
        "few": torch.randn(3, 3),
    }
    coded, facts = deflated(state)
    assert {key for key in coded if key.endswith(CODED)} == {
        f"{key}{CODED}" for key in ("eight", "half", "float")
    }
    assert sum(value.nbytes for value in coded.values()) < 0.9 * sum(
        value.nbytes for value in state.values()
    )
    again = inflated(coded, facts)
    assert again.keys() == state.keys()
    for key, value in state.items():
        assert again[key].dtype == value.dtype
        assert torch.equal(again[key], value)
    coded[f"half{CODED}"][20:40] = 255
    with pytest.raises(ValueError, match="half"):
        inflated(coded, facts)


def test_weights_of_another_network_are_refused_with_the_keys(networks, tmp_path):
    torch.save(networks["npr"].state_dict(), tmp_path / "npr.pth")
    with pytest.raises(UserError, match="weights of npr, not of resnet50"):
        load_detector("resnet50", weights=tmp_path / "npr.pth")
    state = networks["npr"].state_dict()
    del state["layer1.0.conv1.weight"]
    state["surplus"] = torch.zeros(1)
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(UserError, match=r"missing: layer1.0.conv1.weight; unknown: surplus"):
        load_detector("npr", weights=tmp_path / "partial.pth")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("content", [b"", b"no weights"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="broken"):
        read_checkpoint(path)


def test_missing_files_names_and_state_dicts_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such weights file"):
        load_detector("npr", weights=tmp_path / "none.pth")
    with pytest.raises(UserError, match="there are"):
        load_detector("resnet51")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pth")
    with pytest.raises(UserError, match="no state dict"):
        read_checkpoint(tmp_path / "numbers.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="weights of another network"):
        load_detector("npr", weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", PARAMETERS)
def test_shipped_weights_load_and_are_small_enough(name):
    detector = load_detector(name)
    assert not detector.network.training
    assert shipped_weights(name).stat().st_size < 30e6
    assert len(detector.weights.sha256) == 64


# ---- checkpoints as people have them -----------------------------------------------------------


class Settings:
    """A class of somebody's training program, kept beside the weights."""

    def __init__(self) -> None:
        self.lr = np.float32(0.1)


class Config(dict):
    """The same as a kind of dict."""


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


BESIDE = {
    "epoch": 3, "best": np.float64(0.9), "args": argparse.Namespace(lr=0.1), "curve": np.arange(3),
    "folder": PurePosixPath("/runs"), "settings": Settings(),
}  # fmt: skip
HELD = {
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "much beside": lambda s: {"state_dict": s, **BESIDE},
    "a kind of dict beside": lambda s: {"model": s, "config": Config(lr=Config(a=1)), **BESIDE},
    "net": lambda s: {"net": s},
    "network": lambda s: {"network": s, "optimizer": {"state": {0: {"m": torch.ones(1)}}}},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {}},
    "a name of one's own": lambda s: {"my_cnn": s, "epoch": 1},
    "two deep": lambda s: {"checkpoint": {"state_dict": s}, "epoch": 1},
    "with a counter": lambda s: {**s, "epoch": 3},
    "compiled": lambda s: under("_orig_mod.", s),
    "compiled parallel": lambda s: under("module._orig_mod.", s),
    "compiled in part": lambda s: {
        key.replace("layer1.", "layer1._orig_mod."): value for key, value in s.items()
    },
    "averaged": lambda s: {**under("module.", s), "n_averaged": torch.tensor(3)},
    "lightning": lambda s: {
        "state_dict": {**under("model.", s), "loss_fn.pos_weight": torch.ones(1)},
        "pytorch-lightning_version": "2.0",
    },
    "lightning compiled": lambda s: {"state_dict": under("model._orig_mod.", s)},
    "ordered": lambda s: {"params": OrderedDict(s)},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", HELD)
def test_checkpoints_of_training_programs_load(networks, name, legacy, tmp_path):
    state = networks["npr"].state_dict()
    path = tmp_path / "weights.pth"
    torch.save(HELD[name](state), path, _use_new_zipfile_serialization=not legacy)
    loaded = load_detector("npr", weights=path).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_averaged_weights_are_taken_before_the_others(networks, tmp_path):
    state = networks["npr"].state_dict()
    ema = {key: value + 1 for key, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": ema}, tmp_path / "ema.pth")
    found = read_checkpoint(tmp_path / "ema.pth")
    assert found.wrapper == "state_dict_ema"
    assert torch.equal(found.state["conv1.weight"], ema["conv1.weight"])


@pytest.mark.parametrize("suffix", ["pth", "SAFETENSORS", "bin", ""])
def test_the_content_says_what_a_file_is(networks, suffix, tmp_path):
    state = networks["npr"].state_dict()
    path = tmp_path / f"weights.{suffix}"
    save_file(under("module.", state), path, {"preset": "npr-native"})
    assert load_detector("npr", weights=path).preset.name == "npr-native"
    assert header(path) == {"preset": "npr-native"}
    torch.save(state, tmp_path / "torch.safetensors")
    assert load_detector("npr", weights=tmp_path / "torch.safetensors").weights.wrapper == "bare"


def test_a_network_whose_own_names_look_wrapped_gets_its_weights(tmp_path):
    network = nn.Sequential(OrderedDict(model=nn.Linear(2, 1)))
    for place, state in enumerate(
        (network.state_dict(), under("module.", network.state_dict()), network[0].state_dict())
    ):
        torch.save(state, tmp_path / f"{place}.pth")
        load_strictly(network, read_checkpoint(tmp_path / f"{place}.pth").state, "file")
    inner = nn.Sequential(nn.Linear(2, 1))
    torch.save(under("encoder.", inner.state_dict()), tmp_path / "encoder.pth")
    load_strictly(inner, read_checkpoint(tmp_path / "encoder.pth").state, "file")
    both = under("student.", inner.state_dict()) | under("teacher.", inner.state_dict())
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(UserError, match="weights of another network"):
        load_strictly(inner, read_checkpoint(tmp_path / "both.pth").state, "file")


def files_that_are_something_else(folder: Path) -> dict[str, str]:
    """Write each file; return what must be said of it."""
    whole = folder / "whole.pth"
    torch.save({"a": torch.zeros(100)}, whole)
    save_file({"a": torch.zeros(100)}, folder / "whole.safetensors")
    torch.save({"a": torch.zeros(100)}, folder / "old.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(folder / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"nothing")
        archive.writestr("script/constants.pkl", b"nothing")
    torch.save(nn.Sequential(nn.Conv2d(1, 1, 1)), folder / "network.pth")
    torch.save({"G": {"a": torch.zeros(1)}, "D": {"a": torch.zeros(1)}}, folder / "two.pth")
    torch.save(torch.zeros(3), folder / "tensor.pth")
    np.savez(folder / "arrays.npz", a=np.zeros(2))
    np.save(folder / "array.npy", np.zeros(2))
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.write(whole, "whole.pth")
    contents = {
        "lfs.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 94\n",
        "page.pth": b"\n <!DOCTYPE html><html><title>virus scan warning</title>",
        "page.safetensors": b"<HTML><body>",
        "empty.pth": b"", "blank.pth": b"\n\n", "zeros.pth": bytes(5000),
        "note.pth": b"Not Found", "error.safetensors": b'{"error": "Invalid credentials"}',
        "index.json": b'{"weight_map": {"a": "b"}}', "packed.gz": gzip.compress(whole.read_bytes()),
        "keras.h5": b"\x89HDF\r\n", "cut.pth": whole.read_bytes()[:-200],
        "cut.safetensors": (folder / "whole.safetensors").read_bytes()[:-20],
        "cut_old.pth": (folder / "old.pth").read_bytes()[:-100],
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {
        "lfs.pth": "Git-LFS pointer.*git lfs pull",
        "page.pth": r"saved web page \('virus scan warning'\)",
        "page.safetensors": "saved web page",
        "empty.pth": r"empty \(0 bytes\)", "blank.pth": "empty", "zeros.pth": "zeros only",
        "note.pth": "is text", "error.safetensors": "is text", "index.json": "several files",
        "packed.gz": "gzip; unpack it", "keras.h5": "Keras", "cut.pth": "cut off",
        "cut.safetensors": "cut off", "cut_old.pth": "cut off",
        "script.pt": "TorchScript archive that cannot.*state_dict",
        "network.pth": r"run code .*Sequential.*state_dict",
        "two.pth": r"several networks \(G, D\)", "tensor.pth": "no state dict in it, but Tensor",
        "arrays.npz": "ZIP archive", "array.npy": "NumPy", "packed.zip": "ZIP archive.*unpack it",
    }  # fmt: skip


def test_files_that_are_something_else_are_named_in_one_line(tmp_path):
    for name, message in files_that_are_something_else(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            read_checkpoint(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) < len(str(tmp_path)) + 250, name


# ---- loading leaves alone what is the user's, detectors are short and named in one way ----------


@pytest.mark.parametrize("name", ["npr", "resnet50", "efficientnet-b0", "dna-det"])
def test_loading_draws_no_random_number_and_initialises_nothing(name):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    detector = load_detector(name)
    assert torch.equal(torch.rand(4), expected)
    state = read_checkpoint(shipped_weights(name)).state
    for key, value in detector.network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, state[key].to(value.dtype)), key
    assert all(bool(torch.isfinite(one).all()) for one in detector.network.buffers())


def test_a_detector_is_short_and_makes_batches(tmp_path):
    detector = load_detector("npr")
    assert len(repr(detector)) < 250
    assert repr(detector).startswith("<Detector npr: 1 logit, ")
    paths = [write_image(tmp_path / f"{n}.png", (20, 16), n) for n in range(3)]
    images = ImageSet(tmp_path, tuple(ImageEntry(path, 0, "") for path in paths))
    batch = detector.batch(images[:2], seed=0)
    assert (batch.shape, batch.dtype) == ((2, 3, 16, 20), torch.float32)
    pixels = torch.from_numpy(np.array(read_image(paths[1]))).permute(2, 0, 1)
    assert torch.equal(batch[1], detector.preset.normalise(pixels[None])[0])
    assert torch.equal(detector.batch(paths[:2]), batch)
    assert torch.equal(detector.batch([images[1]]), batch[1:])
    assert torch.equal(detector.batch(str(paths[1])), batch[1:])
    other = write_image(tmp_path / "other.png", (24, 16))
    with pytest.raises(UserError, match=r"the images have 2 sizes .20 × 16, 24 × 16 pixels"):
        detector.batch([*paths, other])
    with pytest.raises(UserError, match=r"absent\.png: no such file"):
        detector.batch(tmp_path / "absent.png")
    with pytest.raises(UserError, match="no images are given"):
        detector.batch(images[:0])


def test_a_detector_moves_without_its_network():
    detector = load_detector("npr")
    moved = detector.to("meta")
    assert (moved.device.type, detector.device.type) == ("meta", "cpu")
    assert detector.to("cpu") is detector


@pytest.mark.parametrize(
    ("text", "name", "weights"),
    [
        ("resnet50", "resnet50", None),
        ("resnet50:colour-robust", "resnet50", "colour-robust"),
        ("resnet50=a/my.pth", "resnet50", "a/my.pth"),
        ("resnet50=C:\\my=1.pth", "resnet50", "C:\\my=1.pth"),
        ("resnet50-imagenet=my.pth", "resnet50-imagenet", "my.pth"),
        ("my.py:net", "my.py:net", None),
        ("lr=1/my.py:net", "lr=1/my.py:net", None),
        ("lr=1/my.py:net=lr=1/w.pth", "lr=1/my.py:net", "lr=1/w.pth"),
        ("timm:resnet18=w.safetensors", "timm:resnet18", "w.safetensors"),
        ("nothing=w.pth", "nothing", "w.pth"),
    ],
)
def test_one_spelling_says_which_detector(text, name, weights):
    assert parse_spec(text) == (name, weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet50:none", "no variant 'none'; there are colour-robust"),
        ("npr:colour-robust", "npr has no variant 'colour-robust'; there are none"),
        ("resnet50:colour-robust=w.pth", "a variant and a file"),
        ("resnet50=", "write NAME, NAME:VARIANT or NAME=FILE"),
        ("=w.pth", "write NAME, NAME:VARIANT or NAME=FILE"),
        ("resnt50", r"no detector is called 'resnt50' \(is it resnet50\?\); there are resnet50, "),
        ("nothing=w.pth", "no detector is called 'nothing'.*efficientnet-lite0-imagenet"),
    ],
)
def test_a_spelling_that_says_nothing_lists_what_there_is(text, message):
    with pytest.raises(UserError, match=message):
        load_detector(text)


def test_a_detector_is_loaded_by_its_spelling(networks, tmp_path):
    robust = load_detector("resnet50:colour-robust")
    assert robust.weights.path == "resnet50-colour-robust.safetensors"
    torch.save(networks["npr"].state_dict(), tmp_path / "my.pth")
    assert load_detector(f"npr={tmp_path / 'my.pth'}").weights.path == "my.pth"
    with pytest.raises(UserError, match="names weights already"):
        load_detector(f"npr={tmp_path / 'my.pth'}", weights="other.pth")
