"""The vision transformer: its layers against their formulas, its options, how it is trained."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from forensift.ablation import put
from forensift.cli.app import app
from forensift.data import photographs, scan
from forensift.data.presets import get_preset
from forensift.detectors import ARCHITECTURES, load_detector, read_checkpoint, save_weights
from forensift.detectors.vit import HEAD, PATCH, STEMS, Block, build, options_of, recognises
from forensift.errors import UserError
from forensift.evaluation import score
from forensift.fmap_ranking import rank, top
from forensift.forge import forge
from forensift.training import get_recipe, train
from forensift.training.initialise import initialise
from forensift.training.one_logit import OneLogit, warmed
from forensift.training.recipes import ViTSettings

from .conftest import write_image


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for kind, size in (("0_real", 40), ("1_fake", 41)):
        for number in range(4):
            write_image(root / "toy" / kind / f"{number}.png", (size, size), number)
    return scan(root)


def settings(**changes) -> ViTSettings:
    values = {"batch_size": 4, "load_size": 0, "crop_size": 32, "pairs": True, "epoch_steps": 2}
    values |= {"width": 64, "depth": 1, "warm_up": 2}
    return get_recipe("vit", "blur-jpg-0.5", **(values | changes))


# ---- the network -------------------------------------------------------------------------------


def softmax_attention(tokens: np.ndarray, block: Block) -> np.ndarray:
    """Attention of (T, width) one head at a time, from the formula, in float64."""
    weight, bias = (one.detach().double().numpy() for one in block.attn.qkv.parameters())
    query, key, value = np.split(tokens @ weight.T + bias, 3, axis=1)
    mixed = []
    for start in range(0, tokens.shape[1], HEAD):
        own = slice(start, start + HEAD)
        scores = query[:, own] @ key[:, own].T / math.sqrt(HEAD)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, own])
    weight, bias = (one.detach().double().numpy() for one in block.attn.proj.parameters())
    return np.concatenate(mixed, axis=1) @ weight.T + bias


def test_a_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = Block(2 * HEAD).double().eval()
    for one in block.parameters():
        nn.init.normal_(one, std=0.3)
    tokens = torch.randn(1, 7, 2 * HEAD, dtype=torch.float64)

    def normed(x: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
        weight, bias = (one.detach().numpy() for one in norm.parameters())
        return centred / spread * weight + bias

    x = tokens[0].numpy()
    x = x + softmax_attention(normed(x, block.norm1), block)
    first, last = block.mlp.fc1, block.mlp.fc2
    hidden = normed(x, block.norm2) @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    gauss = 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    x = x + (hidden * gauss) @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(block(tokens)[0].detach().numpy(), x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stem", STEMS)
def test_tokens_are_patches_and_only_the_class_token_decides(stem: str) -> None:
    torch.manual_seed(0)
    network = build(width=64, depth=1, side=32, stem=stem).eval()
    x = torch.randn(2, 3, 32, 32)
    tokens = network.patch_embed(x)
    assert tokens.shape == (2, 64, 32 // PATCH, 32 // PATCH)
    embedded = tokens.flatten(2).transpose(1, 2)
    first = network.cls_token.expand(2, -1, -1)
    rows = torch.cat([first, embedded], dim=1) + network.pos_embed
    with torch.no_grad():
        expected = network.head(network.norm(network.blocks(rows))[:, 0])
        torch.testing.assert_close(network(x), expected)
        network.blocks[0].attn.proj.weight.zero_()  # nothing reaches the class token any more
        alone = network(x)
    torch.testing.assert_close(alone[0], alone[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("stem", STEMS)
def test_options_are_told_from_the_shapes(stem: str, tmp_path: Path) -> None:
    given = {"width": 128, "depth": 3, "side": 48, "stem": stem}
    torch.manual_seed(1)
    network = build(**given).eval()
    found = shapes(network)
    assert recognises(found)
    assert [one.name for one in ARCHITECTURES.values() if one.recognises(found)] == ["vit"]
    assert options_of(found, {}) == given
    path = tmp_path / "own.safetensors"
    save_weights(path, network.state_dict(), {"preset": "vit-48"})
    detector = load_detector("vit", weights=path)
    assert detector.preset == get_preset("vit-48")
    assert detector.preset.crop == 48
    pixels = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(detector.preset.normalise(pixels))[:, 0]
    torch.testing.assert_close(detector.logits(pixels), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"width": 100}, {"side": 100}, {"stem": "linear"}])
def test_sizes_that_do_not_divide_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        build(**wrong)


# ---- its training ------------------------------------------------------------------------------


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine() -> None:
    run = settings(learning_rate=1.0, warm_up=4)
    rates = [warmed(run, step, 14) for step in range(14)]
    np.testing.assert_allclose(rates[:4], [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(
        rates[4:], [(1 + math.cos(math.pi * done / 10)) / 2 for done in range(10)]
    )


def test_weights_decay_and_biases_and_norms_do_not(pairs) -> None:
    task = OneLogit("vit", pairs, pairs, settings(weight_decay=0.3))
    decayed, free = task.optimisers()[0].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0)
    names = {id(one): name for name, one in task.network.named_parameters()}
    assert {names[id(one)] for one in free["params"]} == {
        name for name, one in task.network.named_parameters() if one.dim() == 1
    }
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_a_position_table_of_another_size_is_enlarged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = build(width=64, depth=1, side=32)
    with torch.no_grad():
        ramp = torch.arange(4.0).repeat(4)  # x of a token in its row
        small.pos_embed[0, 1:] = ramp[:, None]
        small.pos_embed[0, 0] = 7
    path = tmp_path / "small.safetensors"
    save_weights(path, small.state_dict(), {})
    options = {"width": 64, "depth": 1}
    same = initialise(ARCHITECTURES["vit"], str(path), 0, {**options, "side": 32})
    assert torch.equal(same.pos_embed, small.pos_embed)
    large = initialise(ARCHITECTURES["vit"], str(path), 0, {**options, "side": 64})
    assert torch.equal(large.pos_embed[0, 0], small.pos_embed[0, 0])
    rows = large.pos_embed[0, 1:].reshape(8, 8, 64).detach()
    assert torch.equal(rows[0], rows[7])
    fine = rows[0, :, 0]
    assert bool((fine.diff() > 0).all())
    torch.testing.assert_close(fine + fine.flip(0), torch.full((8,), 3.0))
    for key, value in small.state_dict().items():
        assert key == "pos_embed" or torch.equal(value, large.state_dict()[key]), key


def test_a_resumed_training_ends_as_an_uninterrupted_one(pairs, tmp_path: Path) -> None:
    run = settings(max_steps=4)
    whole = train("vit", pairs, pairs, run, tmp_path / "whole", workers=0)
    train("vit", pairs, pairs, run, tmp_path / "parts", workers=0, stop_after=1)
    again = train("vit", pairs, pairs, run, tmp_path / "parts", workers=0)
    wanted, found = (read_checkpoint(one.weights).state for one in (whole, again))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())
    with pytest.raises(UserError, match="other settings or data"):  # the cosine would be another
        train("vit", pairs, pairs, settings(max_steps=6), tmp_path / "parts", workers=0)


def test_the_command_trains_in_eight_bits(pairs, tmp_path: Path) -> None:
    words = ["train", "vit", "--recipe", "blur-jpg-0.1", "--data", str(pairs.root), "--validation",
             str(pairs.root), "--load-size", "0", "--crop-size", "32", "--batch-size", "4",
             "--width", "64", "--depth", "1", "--stem", "patch", "--max-steps", "2", "--init",
             "high-pass", "--preset", "vit-32", "--bits", "8", "--workers", "0", "--device", "cpu",
             "--out", str(tmp_path)]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    detector = load_detector("vit", weights=tmp_path / "vit.safetensors")
    assert detector.preset.crop == 32
    assert len(score(detector, pairs)) == len(pairs)


# ---- what is shipped ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """Photographs that no training learnt from, and their fakes of the training family."""
    root = tmp_path_factory.mktemp("forged")
    forge(photographs("validation"), ["progan-like"], root, per_family=12, side=96, seed=5)
    return scan(root)


def test_the_shipped_weights_tell_photographs_from_fakes(forged) -> None:
    detector = load_detector("vit")
    assert detector.preset.crop == 96
    assert detector.layers == {f"blocks.{block}.mlp.act": 768 for block in range(5)}
    table = score(detector, forged)
    assert np.mean((table["score"] > 0.5) == (table["label"] == 1)) >= 0.9


def test_neurons_are_ranked_and_dropped(forged) -> None:
    detector = load_detector("vit")
    fakes = forged.only(label=1)
    ranking = rank(detector, fakes)
    assert len(ranking) == 5 * 768
    assert str(ranking.feature_maps()[0]).split(".#")[0] in detector.layers
    sums = ranking.table.groupby("layer")["omega"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)  # no neuron's relevance is lost
    before = score(detector, fakes)["logit"]
    with put(detector.network, top(ranking, 400)):
        without = score(detector, fakes)["logit"]
    with put(detector.network, list(ranking.feature_maps())[-400:]):
        low = score(detector, fakes)["logit"]
    assert (before - without).mean() > 4 * (before - low).abs().mean()
    pd.testing.assert_series_equal(score(detector, fakes)["logit"], before)
