"""Detectors: published parameter counts, golden logits, every wrapper, strict loading."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from forensift.detectors import (
    ARCHITECTURES,
    load_detector,
    read_checkpoint,
    save_weights,
    shipped_weights,
)
from forensift.detectors.checkpoints import FEW
from forensift.detectors.npr import NPR, NPRResidual
from forensift.eight_bits import CODED, deflated, dequantise, inflated, quantise
from forensift.errors import UserError

PARAMETERS = {
    "resnet50": 23_510_081,
    "efficientnet-b0": 4_008_829,
    "npr": 1_437_761,
    "lgrad": 23_510_081,
    "dna-det": 5_897_349,
    "deepfeaturex": 72_551_427,
}
SIDE = {"dna-det": 64, "deepfeaturex": 64}
MAPS = {"resnet50": (53, 26_560), "efficientnet-b0": (49, 21_008)}


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    small = {"deepfeaturex": {"backbone": "resnet18"}}
    return {
        name: architecture.build(**small.get(name, {})).eval()
        for name, architecture in ARCHITECTURES.items()
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
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
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_published_wrapper_gives_the_same_network(networks, name, wrapper, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](networks[name].state_dict()), path)
    loaded = load_detector(name, weights=path).network
    image = torch.randn(1, 3, 32, 32)
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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shipped_weights_load_and_are_small_enough(name):
    detector = load_detector(name)
    assert not detector.network.training
    assert shipped_weights(name).stat().st_size < 30e6
    assert len(detector.weights.sha256) == 64
