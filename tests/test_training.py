"""Training: the recipe's augmentations and plateau rule, keyed batches, exact resume."""

from __future__ import annotations

import dataclasses
import io
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from scipy.ndimage import gaussian_filter

from forensift.data import scan
from forensift.detectors import (
    get_architecture,
    load_detector,
    read_checkpoint,
    save_weights,
)
from forensift.errors import UserError
from forensift.training import RECIPES, get_recipe, train
from forensift.training.augment import blur, blur_and_jpeg, jpeg
from forensift.training.batches import TrainingBatches, augmented, make_pairs
from forensift.training.initialise import high_pass_filters, initialise
from forensift.training.one_logit import OneLogit
from forensift.training.plateau import Plateau
from forensift.training.recipes import OneLogitSettings


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Eight pairs of noise and smoothed noise: a difference that a network can find."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for kind in ("0_real", "1_fake"):
        (root / "toy" / kind).mkdir(parents=True)
    for number in range(8):
        image = rng.integers(0, 256, (40, 44, 3)).astype(np.uint8)
        Image.fromarray(image).save(root / "toy" / "0_real" / f"{number}.png")
        Image.fromarray(blur(image, 1.0)).save(root / "toy" / "1_fake" / f"{number}.png")
    return scan(root)


def settings(**changes) -> OneLogitSettings:
    values = {"batch_size": 4, "load_size": 0, "crop_size": 32, "pairs": True, "epoch_steps": 2}
    return get_recipe("npr", "npr", **(values | changes))


def history(images, run: OneLogitSettings, out, **how) -> pd.DataFrame:
    return train("npr", images, images, run, out, **{"workers": 0, **how}).histories["history"]


def test_recipes_hold_the_published_values():
    for name, probability in (("blur-jpg-0.5", 0.5), ("blur-jpg-0.1", 0.1)):
        recipe = RECIPES[name]
        assert (recipe.blur, recipe.jpeg) == (probability, probability)
        assert (recipe.load_size, recipe.side, recipe.batch_size) == (256, 224, 64)
        assert (recipe.learning_rate, recipe.plateau) == (1e-4, True)
    npr = RECIPES["npr"]
    assert (npr.blur, npr.jpeg, npr.squash, npr.batch_size) == (0, 0, True, 32)
    assert (npr.learning_rate, npr.decay_epochs, npr.decay, npr.epochs) == (2e-4, 10, 0.9, 50)
    with pytest.raises(UserError, match="resnet50's are blur-jpg"):
        get_recipe("resnet50", "blur")


def test_published_blur_truncates_after_each_pass():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    exact = np.stack([gaussian_filter(image[..., c].astype(float), 1.5) for c in range(3)], -1)
    difference = blur(image, 1.5, published=True) - exact
    assert difference.mean() == pytest.approx(-0.99, abs=0.03)  # the figure of the specification
    assert difference.max() < 0
    in_place = image.copy()
    for c in range(3):
        gaussian_filter(in_place[..., c], 1.5, output=in_place[..., c])
    assert np.array_equal(blur(image, 1.5, published=True), in_place)


def test_blur_rounds_once_and_zero_is_the_identity():
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    exact = np.stack([gaussian_filter(image[..., c].astype(float), 2.0) for c in range(3)], -1)
    assert np.abs(blur(image, 2.0) - exact).max() <= 0.501
    for published in (False, True):
        assert np.array_equal(blur(image, 0.0, published=published), image)


def test_jpeg_goes_through_the_named_codec():
    image = np.asarray(Image.linear_gradient("L").resize((40, 40)).convert("RGB"))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    assert np.array_equal(jpeg(image, 40, "pil"), np.asarray(Image.open(buffer)))
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200  # a channel swap would turn it blue
    assert np.abs(jpeg(red, 95, "cv2").astype(int) - red).max() < 12


def test_blur_and_jpeg_strike_independently_at_their_rates():
    image = np.random.default_rng(2).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    rng = np.random.default_rng(3)
    for probability in (0.1, 0.5):
        same = [
            np.array_equal(blur_and_jpeg(image, (probability, probability), rng), image)
            for _ in range(600)
        ]
        expected = (1 - probability) ** 2
        assert abs(np.mean(same) - expected) < 4 * np.sqrt(expected * (1 - expected) / 600)


def test_plateau_follows_the_published_state_machine():
    watch = Plateau(1e-4)
    rates = []
    for _ in range(18):
        watch.update(0.5)
        rates.append(watch.learning_rate)
        if watch.ended:
            break
    assert rates[:6] == [1e-4] * 5 + [1e-5]
    assert rates[11] == pytest.approx(1e-6)
    assert len(rates) == 18  # the third plateau: 1e-6 itself is still trained with
    assert watch.ended


def test_plateau_counts_only_progress_by_the_margin():
    watch = Plateau(1e-4)
    for accuracy in (0.5, 0.5009, 0.501, 0.5):
        watch.update(accuracy)
    assert (watch.best, watch.waited) == (0.501, 1)


def test_pairs_share_crop_and_flip_and_come_together(pairs):
    data = TrainingBatches(pairs, settings())
    images, labels = data[0]
    assert images.shape == (4, 3, 32, 32)
    assert labels.flatten().tolist() == [0, 1, 0, 1]
    for real, fake in ((0, 1), (2, 3)):
        flat = torch.stack([images[real].flatten(), images[fake].flatten()])
        assert torch.corrcoef(flat)[0, 1] > 0.1  # noise: any other crop would have none
    assert len(make_pairs(pairs)) == 8


def test_an_epoch_sees_every_pair_once_and_batches_depend_on_the_step_alone(pairs):
    data = TrainingBatches(pairs, settings())
    assert data.steps_an_epoch == 4
    again = TrainingBatches(pairs, settings())
    assert torch.equal(data[6][0], again[6][0])
    assert not torch.equal(data[6][0], data[2][0])


def test_unpaired_data_and_small_images_are_refused_with_the_mend(pairs, tmp_path):
    reals = pairs.only(label=0)
    with pytest.raises(UserError, match="without pairs"):
        TrainingBatches(reals, settings())
    data = TrainingBatches(pairs, settings(crop_size=41))
    with pytest.raises(UserError, match="smaller crop size"):
        data[0]


@pytest.mark.parametrize("size", [3, 7])
def test_high_pass_filters_ignore_constants_and_ramps(size):
    filters = high_pass_filters(torch.Size((8, 3, size, size))).double()
    axis = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    for pattern in (torch.ones_like(x), x, y):
        assert (filters * pattern).sum((2, 3)).abs().max() < 1e-4
    assert filters.flatten(1).norm(dim=1).min() > 1


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-b0"])
def test_high_pass_starts_residual_blocks_as_the_identity(name):
    network = initialise(get_architecture(name), "high-pass", 0)
    zeros = [
        module
        for module in network.modules()
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any()
    ]
    assert len(zeros) == {"resnet50": 16, "efficientnet-b0": 9}[name]


def test_a_checkpoint_is_an_initialisation_and_a_bad_name_is_refused(tmp_path):
    architecture = get_architecture("npr")
    network = initialise(architecture, "default", 1)
    torch.save(network.state_dict(), tmp_path / "n.pth")
    again = initialise(architecture, str(tmp_path / "n.pth"), 2)
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    state = network.state_dict()
    state["fc1.weight"], state["fc1.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
    torch.save(state, tmp_path / "imagenet.pth")
    assert initialise(architecture, str(tmp_path / "imagenet.pth"), 3).fc1.weight.shape == (1, 512)
    with pytest.raises(UserError, match="neither"):
        initialise(architecture, "kaiming", 0)


def test_a_resumed_run_ends_as_an_uninterrupted_one(pairs, tmp_path):
    whole = history(pairs, settings(max_steps=6), tmp_path / "whole")
    for _ in range(3):  # three crashes, each after an epoch
        cut = history(pairs, settings(max_steps=6), tmp_path / "cut", stop_after=1)
    times = ["seconds"]
    pd.testing.assert_frame_equal(whole.drop(columns=times), cut.drop(columns=times))
    states = [
        torch.load(tmp_path / name / "checkpoint.pth", weights_only=True)["model"]
        for name in ("whole", "cut")
    ]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    load_detector("npr", weights=tmp_path / "cut" / "npr.safetensors")
    load_detector("npr", weights=tmp_path / "cut" / "checkpoint.pth")


def test_a_killed_command_goes_on_to_the_same_weights(pairs, tmp_path):
    """SIGKILL in the middle of an epoch; the same command again; as if nothing had happened."""
    options = ["--recipe", "npr", "--load-size", "0", "--crop-size", "32", "--pairs"]
    options += ["--batch-size", "4", "--epoch-steps", "20", "--max-steps", "60", "--workers", "0"]
    data = ["--data", str(pairs.root), "--validation", str(pairs.root)]

    def command(folder: str) -> list[str]:
        verb = [sys.executable, "-m", "forensift.cli.app", "train", "npr", *data, *options]
        return [*verb, "--out", str(tmp_path / folder)]

    subprocess.run(command("whole"), check=True, capture_output=True)
    checkpoint = tmp_path / "cut" / "checkpoint.pth"
    with subprocess.Popen(command("cut"), stdout=subprocess.DEVNULL) as running:
        while not checkpoint.is_file() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1)  # into the second epoch
        running.kill()
    done = len(pd.read_csv(tmp_path / "cut" / "history.csv"))
    assert running.returncode == -signal.SIGKILL
    assert 1 <= done < 3
    subprocess.run(command("cut"), check=True, capture_output=True)
    histories = [pd.read_csv(tmp_path / name / "history.csv") for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*(one.drop(columns="seconds") for one in histories))
    whole, cut = (
        read_checkpoint(tmp_path / name / "npr.safetensors")[0] for name in ("whole", "cut")
    )
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())


def test_workers_change_nothing(pairs, tmp_path):
    histories = [
        history(pairs, settings(max_steps=2), tmp_path / str(w), workers=w) for w in (0, 1)
    ]
    assert histories[0]["loss"].tolist() == histories[1]["loss"].tolist()


def test_another_run_is_not_overwritten(pairs, tmp_path):
    history(pairs, settings(max_steps=2), tmp_path)
    with pytest.raises(UserError, match="other settings"):
        history(pairs, settings(max_steps=2, seed=1), tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_lowers_the_loss(pairs, tmp_path, precision):
    run = settings(max_steps=30, epoch_steps=10, precision=precision, learning_rate=1e-3)
    found = history(pairs, run, tmp_path)
    assert found["loss"].iloc[-1] < 0.8 * found["loss"].iloc[0]
    assert list(found["step"]) == [10, 20, 30]


def test_settled_norms_are_plain_averages_over_batches_and_weights_stay(pairs, tmp_path):
    history(pairs, settings(max_steps=2), tmp_path)
    checkpoint = tmp_path / "checkpoint.pth"
    settling = OneLogit("npr", pairs, pairs, settings(settle=3, settle_crop=40))
    state, found = settling.settled(checkpoint)
    before = torch.load(checkpoint, weights_only=True)["model"]
    moved = {key for key in before if not torch.equal(before[key], state[key])}
    assert moved
    assert all("running_" in key or "num_batches" in key for key in moved)
    network = get_architecture("npr").build()
    network.load_state_dict(state)
    seen: list[torch.Tensor] = []
    network.bn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    data = TrainingBatches(pairs, settings(crop_size=40))
    with torch.no_grad():
        for step in range(3):
            network.eval()(data[step][0])
    torch.testing.assert_close(state["bn1.running_mean"], torch.stack(seen).mean(0))
    assert set(found) == {"accuracy", "ap", "clean_accuracy", "clean_ap"}


def test_colour_robust_is_the_published_recipe_with_half_of_the_crops_grey(pairs):
    recipe = RECIPES["colour-robust"]
    assert dataclasses.replace(recipe, grey=0.0) == RECIPES["blur-jpg-0.5"]
    sampling = dataclasses.replace(recipe, blur=0.0, jpeg=0.0, load_size=0, crop_size=32)
    entry = pairs.entries[0]
    crops = [augmented(entry, sampling, np.random.default_rng(seed)) for seed in range(300)]
    grey = np.array([(crop == crop[:, :, :1]).all() for crop in crops])
    assert 0.4 < grey.mean() < 0.6
    coloured = dataclasses.replace(sampling, grey=0.0)
    for seed in np.flatnonzero(grey)[:5]:  # Pillow's luma of the crop that would have been there
        crop = augmented(entry, coloured, np.random.default_rng(seed))
        luma = np.asarray(Image.fromarray(np.ascontiguousarray(crop)).convert("L"))
        np.testing.assert_array_equal(crops[seed][:, :, 0], luma)


def test_frozen_convolutions_keep_their_weights_and_a_difference_leaves_them_out(pairs, tmp_path):
    base = tmp_path / "base.safetensors"
    start = get_architecture("npr").build()
    save_weights(base, start.state_dict(), {}, bits=16)
    run = settings(start=str(base), freeze=("layer2",), max_steps=2)
    history(pairs, run, tmp_path / "run")
    trained = read_checkpoint(tmp_path / "run" / "npr.safetensors").state
    before = read_checkpoint(base).state
    for key, value in trained.items():
        if key.startswith("layer2") and "conv" in key:
            assert torch.equal(value, before[key].float()), key
    assert not torch.equal(trained["layer1.0.conv1.weight"], before["layer1.0.conv1.weight"])

    path = tmp_path / "npr-other.safetensors"
    save_weights(path, trained, {}, base=base)
    assert path.stat().st_size < base.stat().st_size * 2
    with safe_open(path, "pt") as opened:
        held = list(opened.keys())
    assert not any(key.startswith("layer2") and "conv" in key for key in held)
    whole, wrapper, _ = read_checkpoint(path)
    assert "over base.safetensors" in wrapper
    assert whole.keys() == trained.keys()
    for key, value in trained.items():
        assert torch.equal(whole[key].float(), value.float()), key

    base.write_bytes(base.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"base\.safetensors"):
        read_checkpoint(path)


def test_a_prefix_that_freezes_nothing_is_refused(pairs, tmp_path):
    with pytest.raises(UserError, match="freeze layer9"):
        history(pairs, settings(freeze=("layer9",)), tmp_path)


def test_a_training_leaves_the_users_random_numbers_alone(pairs, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    whole = history(pairs, settings(max_steps=2, settle=1), tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again = history(pairs, settings(max_steps=2, settle=1), tmp_path / "two")
    pd.testing.assert_frame_equal(whole.drop(columns="seconds"), again.drop(columns="seconds"))


def test_a_run_that_is_over_is_written_again_in_other_bits(pairs, tmp_path):
    for bits in (8, 32):
        found = train("npr", pairs, pairs, settings(max_steps=2), tmp_path, bits=bits, workers=0)
        load_detector("npr", weights=found.weights)
    assert len(found.histories["history"]) == 1
    assert "weights in" in found.said


def test_settings_are_refused_by_their_name(pairs, tmp_path):
    for wrong, said in (
        ({"precision": "half"}, "precision 'half': choose float32, bf16"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
    ):
        with pytest.raises(UserError, match=said):
            settings(**wrong)
    with pytest.raises(UserError, match="trained by LGradSettings"):
        train("lgrad", pairs, pairs, settings(), tmp_path)
    with pytest.raises(UserError, match="bits 12"):
        train("npr", pairs, pairs, settings(), tmp_path, bits=12)
