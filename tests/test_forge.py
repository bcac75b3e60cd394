"""The forge: pairs that differ by the network alone, equal to the byte for equal seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forensift.data import scan
from forensift.data.photos import photographs
from forensift.errors import UserError
from forensift.evaluation import pixel_audit
from forensift.forge import (
    FAMILIES,
    TRAINED,
    forge,
    load_family,
    load_generator,
    psnr_crops,
    psnr_of,
    save_generator,
)
from forensift.forge.crops import SCALES, random_crop, read_photograph
from forensift.forge.families.family import Generator
from forensift.forge.generators import to_signed
from forensift.rng import keyed_short
from forensift.training import run
from forensift.training.generators import GeneratorSettings, GeneratorTask

TEST_PHOTOS = photographs("test")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.png"))
    }


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        forge(TEST_PHOTOS[:2], ["progan-like"], tmp_path / name, per_family=3, side=32, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not set(files(tmp_path / "a").values()) & set(files(tmp_path / "c").values())


def test_families_share_their_reals_and_differ_in_their_fakes(tmp_path):
    forge(TEST_PHOTOS[:2], TRAINED, tmp_path, per_family=2, side=32)
    found = files(tmp_path)
    reals = {name: b for name, b in found.items() if "0_real" in name}
    assert len(reals) == 2 * len(TRAINED)
    assert len(set(reals.values())) == 2
    fakes = [b for name, b in found.items() if "1_fake" in name]
    assert len(set(fakes)) == len(fakes)


def test_an_interrupted_run_goes_on(tmp_path):
    forge(TEST_PHOTOS[:2], ["dcgan-like"], tmp_path / "whole", per_family=4, side=32)
    forge(TEST_PHOTOS[:2], ["dcgan-like"], tmp_path / "cut", per_family=2, side=32)
    victim = next((tmp_path / "cut").rglob("1_fake/*.png"))
    victim.unlink()
    forge(TEST_PHOTOS[:2], ["dcgan-like"], tmp_path / "cut", per_family=4, side=32)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_other_settings_are_not_mixed_into_a_set(tmp_path):
    forge(TEST_PHOTOS[:1], ["identity"], tmp_path, per_family=1, side=32)
    with pytest.raises(UserError, match="another --out"):
        forge(TEST_PHOTOS[:1], ["identity"], tmp_path, per_family=1, side=32, seed=1)


def test_the_layout_is_one_that_scan_knows(tmp_path):
    forge(TEST_PHOTOS[:2], ["progan-like", "identity"], tmp_path, per_family=2, side=32)
    images = scan(tmp_path)
    assert images.generators == ("identity", "progan-like")
    assert len(images) == 8


def test_the_identity_passes_another_crop_of_the_photograph_through_unchanged(tmp_path):
    forge(TEST_PHOTOS[:1], ["identity"], tmp_path, per_family=1, side=32)
    real, fake = (
        np.asarray(Image.open(next((tmp_path / "identity" / kind).glob("*.png"))))
        for kind in ("0_real", "1_fake")
    )
    assert real.shape == fake.shape == (32, 32, 3)
    assert not np.array_equal(real, fake)


def test_a_crop_equals_the_crop_of_the_whole_rescaled_photograph():
    photo = read_photograph(TEST_PHOTOS[0])
    crop = np.asarray(random_crop(photo, 64, keyed_short(0, "crop"))).astype(int)
    rng = keyed_short(0, "crop")
    factor = rng.uniform(max(SCALES[0], 64 / min(photo.size)), SCALES[1])
    size = tuple(round(length * factor) for length in photo.size)
    left, top = int(rng.integers(0, size[0] - 63)), int(rng.integers(0, size[1] - 63))
    whole = np.asarray(photo.resize(size, Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(whole[top : top + 64, left : left + 64] - crop).max() <= 1


@pytest.mark.parametrize(
    ("photographs_", "families", "side", "message"),
    [
        ([], ["progan-like"], 32, "no photographs"),
        (TEST_PHOTOS[:1], ["stylegan"], 32, "there are"),
        (TEST_PHOTOS[:1], ["progan-like"], 30, "multiple of 4"),
        (TEST_PHOTOS[:1], ["progan-like"], 2000, "too small"),
        (TEST_PHOTOS[:1] * 2, ["progan-like"], 32, "share a file name"),
    ],
)
def test_what_cannot_be_forged_is_refused(tmp_path, photographs_, families, side, message):
    with pytest.raises(UserError, match=message):
        forge(photographs_, families, tmp_path, per_family=1, side=side)


def test_missing_or_wrong_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="forge-train"):
        load_family("progan-like", tmp_path)
    save_generator(tmp_path / "x.safetensors", Generator(FAMILIES["dcgan-like"]), {})
    with pytest.raises(UserError, match="not the weights"):
        load_generator(tmp_path / "x.safetensors", "progan-like")


@pytest.mark.parametrize("family", TRAINED)
def test_shipped_generators_reach_26_db_on_photographs_no_training_saw(family):
    crops = psnr_crops(TEST_PHOTOS, 96, seed=5)
    for generator in load_family(family):
        assert psnr_of(generator, crops) >= 26


@pytest.mark.parametrize("family", TRAINED)
def test_an_image_is_forged_alike_alone_and_in_a_batch(family):
    crops = [np.asarray(read_photograph(path))[:48, :64] for path in TEST_PHOTOS[:2]]
    batch = torch.cat([to_signed(crop) for crop in crops])
    generator = load_family(family)[0]
    with torch.no_grad():
        together = generator(batch)
        for place, crop in enumerate(crops):
            alone = generator(to_signed(crop))
            assert alone.shape == (1, 3, 48, 64)
            assert torch.allclose(alone[0], together[place], atol=2e-5)
            assert torch.equal(alone, generator(to_signed(crop)))  # its noise is the image's own


@pytest.mark.parametrize("bits", [8, 16])
def test_a_saved_generator_comes_back(tmp_path, bits):
    generator = FAMILIES["sngan-like"].generator().eval()
    save_generator(tmp_path / "sngan-like.safetensors", generator, {}, bits=bits)
    again = load_generator(tmp_path / "sngan-like.safetensors", "sngan-like")
    for name, tensor in generator.state_dict().items():
        step = tensor.abs().max() / 127 if bits == 8 else tensor.abs().max() / 1024
        assert (again.state_dict()[name] - tensor).abs().max() <= step


def test_the_members_of_a_family_take_turns(tmp_path):
    one, two = Generator(FAMILIES["dcgan-like"]), Generator(FAMILIES["dcgan-like"])
    for folder, members in (("one", [one]), ("two", [two]), ("both", [one, two])):
        for number, member in enumerate(members):
            name = "dcgan-like" + (f"-{number + 1}" if number else "")
            save_generator(tmp_path / folder / f"{name}.safetensors", member, {})
        out = tmp_path / "out" / folder
        forge(
            TEST_PHOTOS[:1], ["dcgan-like"], out, per_family=4, side=16, weights=tmp_path / folder
        )
    fakes = [
        [found for name, found in files(tmp_path / "out" / folder).items() if "1_fake" in name]
        for folder in ("one", "two", "both")
    ]
    assert fakes[2] == [fakes[0][0], fakes[1][1], fakes[0][2], fakes[1][3]]


@pytest.mark.parametrize("family", TRAINED)
def test_training_lowers_the_loss_and_is_repeatable(family):
    settings = GeneratorSettings(steps=20, batch_size=4, size=16, warm_up=0.5)
    photos = photographs("train")[:2]
    tasks = [GeneratorTask(family, photos, TEST_PHOTOS[:1], settings) for _ in range(2)]
    history, _ = (run(task, None, workers=0) for task in tasks)
    loss = "noise" if family == "ddpm-like" else "l1"
    assert history[loss].iloc[-1] < history[loss].iloc[0]
    if loss == "l1":
        assert history["critic"].iloc[-1] > 0
    for ours, again in zip(*(task.network.state_dict().values() for task in tasks), strict=True):
        assert np.array_equal(ours.numpy(), again.numpy())


def test_the_forge_itself_gives_nothing_away(tmp_path):
    forge(TEST_PHOTOS, ["identity"], tmp_path, per_family=120, side=64, seed=11)
    table = pixel_audit(scan(tmp_path)).set_index("property")
    for name in ("file_size", "brightness", "dct_probe"):
        row = table.loc[name]
        assert row["low"] <= 0.5 <= row["high"], f"{name}: {row.to_dict()}"
        assert 0.35 < row["auc"] < 0.65


def test_the_audit_sees_what_a_network_leaves(tmp_path):
    forge(TEST_PHOTOS, ["progan-like"], tmp_path, per_family=60, side=64, seed=11)
    table = pixel_audit(scan(tmp_path)).set_index("property")
    assert table.loc["dct_probe", "low"] > 0.5
