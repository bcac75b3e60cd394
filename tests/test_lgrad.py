"""LGrad: the critic's golden values, gradient images and their cache, folders, stage 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data import batches, get_preset, scan
from forensift.detectors import (
    ARCHITECTURES,
    gradient_images,
    lgrad,
    load_detector,
    load_strictly,
    resnet50,
    save_weights,
)
from forensift.detectors.critics import Critic, given_critic, load_critic
from forensift.detectors.gradient_images import (
    GradientImages,
    GradientPreset,
    cache_folder,
    gradient,
    gradient_preset,
    read_gradient,
    to_8_bits,
    write_gradient,
)
from forensift.detectors.stylegan_discriminator import (
    StyleGANDiscriminator,
    channels,
    with_minibatch_deviation,
)
from forensift.errors import UserError
from forensift.evaluation import score
from forensift.forge.generators import save_critic
from forensift.forge.losses import Critic as ForgeCritic
from forensift.lrp import LRP
from forensift.records import REAL, ImageEntry, ImageSet
from forensift.training import get_recipe
from forensift.training.gradients import gradient_paths, write_gradients

from .conftest import write_image

STYLEGAN = "karras2019stylegan-bedrooms-256x256_discriminator.pth"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing kept by another test or the user."""
    monkeypatch.setenv("FORENSIFT_CACHE", str(tmp_path / "cache"))
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch, limit: int = 2**20) -> None:
    monkeypatch.setattr(gradient_images, "_MEMORY", gradient_images._Memory(limit))


@pytest.fixture
def pixels(rng: np.random.Generator) -> torch.Tensor:
    """Three images as files have them."""
    found = rng.integers(0, 256, (3, 3, 16, 20), dtype=np.uint8)
    for image in found:
        gradient_images.remember_file(image)
    return torch.from_numpy(found)


@pytest.fixture
def forge_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "progan-like-critic.safetensors"
    save_critic(path, ForgeCritic(), {"family": "progan-like"})
    return path


def squares(image: torch.Tensor) -> torch.Tensor:
    return image.square().sum(dim=(1, 2, 3))  # the gradient is 2 x


# ---- the published critic ----------------------------------------------------------------------


@torch.no_grad()
def deterministic(network: nn.Module) -> None:
    """Fill a network by the rule of the golden values."""
    for place, (key, value) in enumerate(network.state_dict().items()):
        if key == "lod" or key.endswith("kernel"):
            continue
        k = torch.arange(value.numel(), dtype=torch.float64)
        wave = torch.sin(0.7 * k + place) if value.dim() > 1 else 0.1 * torch.sin(k + place)
        value.copy_(wave.reshape(value.shape))


def test_the_stylegan_discriminator_has_the_published_keys_and_golden_gradient(
    tmp_path: Path,
) -> None:
    network = StyleGANDiscriminator()
    state = network.state_dict()
    keys = ["lod"]
    for block in range(7):
        for layer in (f"input{block}", f"layer{2 * block}", f"layer{2 * block + 1}"):
            keys += [f"{layer}.weight", f"{layer}.bias"]
        keys += [f"layer{2 * block + 1}.blur.kernel"] if block < 6 else []
    assert list(state) == [*keys, "layer14.weight", "layer14.bias"]
    assert len(state) == 51
    assert sum(one.numel() for one in network.parameters()) == 23_052_353
    dead = sum(
        one.numel()
        for block in range(1, 7)
        for one in getattr(network, f"input{block}").parameters()
    )
    assert 23_052_353 - dead == 23_042_625
    assert state["layer5.blur.kernel"].shape == (channels(64), 1, 3, 3)
    scales = {0: 0.05893, 2: 0.04167, 4: 0.02946, 6: 0.02083, 12: 0.02081, 13: 0.015625}
    for layer, scale in {**scales, 14: 0.04419}.items():
        assert getattr(network, f"layer{layer}").scale == pytest.approx(scale, rel=1e-3)
    assert network.input0.scale == pytest.approx(0.8165, rel=1e-4)  # type: ignore[union-attr]

    deterministic(network)
    torch.save(network.state_dict(), tmp_path / STYLEGAN)
    del network, state
    critic = load_critic(tmp_path / STYLEGAN)
    assert (critic.name, critic.side) == (STYLEGAN.removesuffix(".pth"), 256)
    k = torch.arange(3 * 256 * 256, dtype=torch.float64)
    image = torch.sin(0.001 * k**2 + 0.3 * k).float().reshape(1, 3, 256, 256).requires_grad_()
    score = critic.score(image).sum()
    (found,) = torch.autograd.grad(score, image)
    score = score.detach()
    close = {"rel": 1e-4}
    assert float(score) == pytest.approx(-0.0173675, **close)
    assert float(found.min()) == pytest.approx(-0.00218204, **close)
    assert float(found.max()) == pytest.approx(0.00254913, **close)
    at = [-7.81815e-06, -8.16766e-06, -4.67579e-06]
    # A difference of two float32 of 2e-3: what rounding leaves of it is absolute.
    assert found[0, :, 100, 100].tolist() == pytest.approx(at, rel=1e-4, abs=1e-9)
    stretched = (found - found.min()) / (found.max() - found.min()) * 255
    assert stretched[0, :, 100, 100].tolist() == pytest.approx([117.186, 117.167, 117.355], **close)
    assert float(stretched.mean()) == pytest.approx(117.616, **close)
    rounded = to_8_bits(found[0])
    assert rounded[:, 100, 100].tolist() == [117, 117, 117]
    assert (int(rounded.min()), int(rounded.max())) == (0, 255)

    preset = gradient_preset(critic)
    assert preset.squash == (256, 256)
    assert preset.name == f"lgrad-256:{critic.name}@{critic.sha256[:12]}"
    with pytest.raises(UserError, match="takes 256 × 256 pixels, not 20 × 16"):
        gradient(critic, torch.zeros(3, 16, 20, dtype=torch.uint8))
    assert isinstance(critic.score, nn.Module)
    partial = critic.score.state_dict()
    del partial["layer7.weight"]
    torch.save(partial, tmp_path / "partial.pth")
    with pytest.raises(UserError, match=r"missing: layer7\.weight"):
        load_critic(tmp_path / "partial.pth")


def test_the_minibatch_deviation_of_one_image_is_a_constant() -> None:
    features = torch.rand(1, 3, 4, 4, requires_grad=True)
    last = with_minibatch_deviation(features)[:, 3]
    assert torch.allclose(last, torch.full((1, 4, 4), 1e-4))
    (passed,) = torch.autograd.grad(last.sum(), features)
    assert float(passed.abs().max()) == 0
    # Groups of four take every second of eight images.
    eight = torch.rand(8, 3, 4, 4, dtype=torch.float64)
    found = with_minibatch_deviation(eight)[:, 3, 0, 0]
    for start in (0, 1):
        spread = eight[start::2].var(0, unbiased=False).add(1e-8).sqrt().mean()
        assert torch.allclose(found[start::2], spread.expand(4))


# ---- gradient images ---------------------------------------------------------------------------


def test_eight_bits_are_those_of_opencvs_writer(tmp_path: Path, rng: np.random.Generator) -> None:
    found = torch.from_numpy(rng.normal(size=(3, 40, 40)).astype(np.float32))
    found[0, 0, :8] = torch.tensor(
        [-5.0, 5.0, *(-5 + 10 * half / 255 for half in (0.5, 1.5, 2.5, 3.5, 126.5, 127.5))]
    )
    floats = found.numpy() - found.numpy().min()
    floats = floats / floats.max() * 255
    cv2.imwrite(str(tmp_path / "published.png"), floats.transpose(1, 2, 0)[:, :, ::-1])
    published = np.asarray(Image.open(tmp_path / "published.png")).transpose(2, 0, 1)
    assert np.array_equal(to_8_bits(found).numpy(), published)


def test_halves_go_to_the_even_neighbour_and_a_constant_to_zero() -> None:
    ramp = torch.arange(0, 256, dtype=torch.float32)
    halves = torch.cat([ramp, ramp[:-1] + 0.5]).reshape(1, 7, 73)
    found = to_8_bits(halves).flatten().tolist()
    for value in (0.5, 1.5, 2.5, 63.5):  # exact in float32 after the stretch
        place = 256 + int(value)
        if (halves / 255 * 255).flatten()[place] == value:
            assert found[place] == round(value)
    assert to_8_bits(torch.full((3, 4, 4), 7.0)).tolist() == torch.zeros(3, 4, 4).tolist()


def test_a_gradient_is_that_of_the_summed_score_and_of_one_image_alone(
    pixels: torch.Tensor, forge_file: Path
) -> None:
    found = gradient(given_critic(squares, "squares"), pixels[0])
    assert torch.equal(found, 2 * (pixels[0].float() / 127.5 - 1))
    critic = load_critic(forge_file)  # one score a patch
    image = (pixels[:1].float() / 127.5 - 1).requires_grad_()
    critic.score(image).sum().backward()
    assert image.grad is not None
    assert torch.equal(gradient(critic, pixels[0]), image.grad[0])

    def of_the_batch(images: torch.Tensor) -> torch.Tensor:
        return (images - images.mean(0)).square().sum() + images.sum()

    alone = GradientImages(given_critic(of_the_batch, "batch"))
    assert float(alone(pixels).float().std()) == 0  # nothing of the others gets in


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_computed_wherever_autograd_is_off(
    mode: Callable, pixels: torch.Tensor, forge_file: Path
) -> None:
    images = GradientImages(load_critic(forge_file))
    with mode():
        found = images(pixels.clone())
    assert images.computed == 3
    assert torch.equal(found[1], to_8_bits(gradient(images.critic, pixels[1])))


def test_critics_that_give_no_gradient_are_refused_by_name(pixels: torch.Tensor) -> None:
    with pytest.raises(UserError, match="critic flat: its score does not depend"):
        gradient(given_critic(lambda x: torch.zeros(1), "flat"), pixels[0])
    with pytest.raises(UserError, match="critic wild: its gradient is not finite"):
        gradient(given_critic(lambda x: (x * float("inf")).sum(), "wild"), pixels[0])


def test_other_weights_and_unknown_callables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such weights file"):
        load_critic(tmp_path / "none.pth")
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth"):
        load_critic(tmp_path / "other.pth")
    with pytest.raises(UserError, match="cannot be imported"):
        load_critic("no_such_module:critic")
    assert load_critic(f"{__name__}:squares").score is squares
    with pytest.raises(UserError, match="no function"):
        load_critic(f"{__name__}:STYLEGAN")


# ---- the cache ---------------------------------------------------------------------------------


def test_a_second_pass_computes_nothing(
    pixels: torch.Tensor, forge_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = GradientImages(load_critic(forge_file), cache_folder())
    first = images(pixels)
    assert images.computed == 3
    assert torch.equal(images(pixels.flip(0)).flip(0), first)
    assert images.computed == 3
    forget(monkeypatch)  # as another program would start
    again = GradientImages(load_critic(forge_file), cache_folder())
    assert torch.equal(again(pixels), first)
    assert again.computed == 0
    other = pixels.clone()
    other[0, 0, 0, 0] ^= 1
    again(other)
    assert again.computed == 1


def test_what_another_critic_made_is_not_taken(
    pixels: torch.Tensor, forge_file: Path, tmp_path: Path
) -> None:
    GradientImages(load_critic(forge_file), cache_folder())(pixels)
    torch.manual_seed(1)
    save_critic(tmp_path / "other.safetensors", ForgeCritic(), {})
    other = GradientImages(load_critic(tmp_path / "other.safetensors"), cache_folder())
    other(pixels)
    assert other.computed == 3
    # Callables have no digest: what one made is neither kept on disk nor taken by another.
    one, two = (GradientImages(given_critic(squares, "s"), cache_folder()) for _ in range(2))
    for given in (one, two, one):
        given(pixels)
    assert (one.computed, two.computed, one.folder) == (3, 3, None)


@pytest.mark.parametrize("harm", ["cut", "empty", "pixels", "renamed", "text"])
def test_a_damaged_file_is_computed_anew(
    harm: str, pixels: torch.Tensor, forge_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = GradientImages(load_critic(forge_file), cache_folder())
    first = images(pixels)
    kept = sorted((cache_folder() or Path()).rglob("*.png"))
    assert len(kept) == 3
    if harm == "cut":
        kept[0].write_bytes(kept[0].read_bytes()[:-60])
    elif harm == "empty":
        kept[0].write_bytes(b"")
    elif harm == "text":
        kept[0].write_text("no image")
    elif harm == "renamed":
        kept[1].replace(kept[0])
    else:
        with Image.open(kept[0]) as opened:
            picture, facts = np.array(opened), dict(opened.info)
        picture[0, 0, 0] ^= 1
        write_gradient(kept[0], picture.transpose(2, 0, 1), facts[gradient_images.KEY])
        whole = kept[0].read_bytes()
        assert read_gradient(kept[0], kept[0].stem) is not None
        # The pixels that are there are not those that the file says it holds.
        Image.fromarray(picture).save(kept[0])
        assert whole != kept[0].read_bytes()
    forget(monkeypatch)
    again = GradientImages(load_critic(forge_file), cache_folder())
    assert torch.equal(again(pixels), first)
    assert again.computed == (2 if harm == "renamed" else 1)
    assert read_gradient(kept[0], kept[0].stem) is not None


def test_a_cache_that_cannot_be_written_is_done_without(
    pixels: torch.Tensor, forge_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    images = GradientImages(load_critic(forge_file), tmp_path / "file" / "cache")
    assert images(pixels).shape == pixels.shape
    assert images.folder is None


def test_the_memory_is_bounded_and_keeps_what_was_asked_for_last() -> None:
    memory = gradient_images._Memory(300)
    for key in "abc":
        memory.add(key, np.zeros(100, np.uint8))
    assert memory.get("a") is not None
    memory.add("d", np.zeros(100, np.uint8))
    assert [key for key in "abcd" if memory.get(key) is not None] == ["a", "c", "d"]
    memory.add("large", np.zeros(1000, np.uint8))
    assert memory.get("large") is not None
    assert memory.get("d") is None


def test_threads_share_a_folder(
    pixels: torch.Tensor, forge_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, limit=1)  # so that all of them go to the disk
    expected = GradientImages(load_critic(forge_file))(pixels)
    found: list[bool] = []

    def work() -> None:
        images = GradientImages(load_critic(forge_file), cache_folder())
        found.extend(torch.equal(images(pixels), expected) for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 12
    folder = cache_folder()
    assert folder is not None
    assert len([one for one in folder.rglob("*") if one.is_file()]) == 3


def test_only_what_files_hold_is_kept_on_disk(
    image_folder: Callable[..., Path], forge_file: Path
) -> None:
    preset = gradient_preset(load_critic(forge_file))
    images = scan(image_folder(("one",), 2, (20, 16)))
    (batch,) = batches(images, preset, 4, skipped=[])
    preset.normalise(batch.pixels)
    folder = cache_folder() or Path()
    assert len(list(folder.rglob("*.png"))) == 4
    preset.normalise(255 - batch.pixels)  # edited in a batch, and before the geometry
    for edited in batches(images, preset, 4, skipped=[], transform=lambda one, _: one.rotate(180)):
        preset.normalise(edited.pixels)
    assert preset.images.computed == 12
    assert len(list(folder.rglob("*.png"))) == 4


def test_the_folder_is_bounded_and_keeps_what_was_used_last(
    pixels: torch.Tensor, forge_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = GradientImages(load_critic(forge_file), cache_folder())
    images(pixels)
    kept = [images._path(images.key(one.numpy())) for one in pixels]
    for place, path in enumerate(kept):
        os.utime(path, (1000 + place, 1000 + place))
    forget(monkeypatch)
    images(pixels[:1])  # used again
    size = sum(path.stat().st_size for path in kept)
    monkeypatch.setattr(gradient_images, "DISK_BYTES", size - 1)
    gradient_images._bound(images.folder, size)
    assert all(path.is_file() for path in kept)
    more = pixels.flip(3)
    for one in more:
        gradient_images.remember_file(one.numpy())
    monkeypatch.setattr(gradient_images, "CHECK", 1)
    GradientImages(load_critic(forge_file), cache_folder())(more[:1])
    assert kept[0].is_file()
    held = sum(path.stat().st_size for path in (images.folder or Path()).rglob("*.png"))
    assert held <= size - 1
    assert not kept[1].is_file()


def test_the_key_says_where_it_was_computed(pixels: torch.Tensor, forge_file: Path) -> None:
    images = GradientImages(load_critic(forge_file), cache_folder())
    own = pixels[0].numpy()
    assert images.key(own, "cpu") == images.key(own) != images.key(own, "mps")


def test_the_preset_is_written_alike_in_every_process(forge_file: Path) -> None:
    line = (
        "import sys; from forensift.detectors.gradient_images import gradient_preset as p; "
        f"sys.path.append({str(Path(__file__).parent)!r}); "
        f"print(repr(p({str(forge_file)!r})), repr(p('colorsys:rgb_to_hsv')))"
    )
    run = [sys.executable, "-c", line]
    one, two = (subprocess.run(run, capture_output=True, text=True, check=True) for _ in range(2))
    assert one.stdout == two.stdout
    assert " at 0x" not in one.stdout
    assert "progan-like" in one.stdout


def test_a_critic_of_one_s_own_stays_as_it_is() -> None:
    network = torch.nn.Conv2d(3, 1, 3).train()
    critic = given_critic(network, "mine")
    assert network.training
    assert network.weight.requires_grad
    assert isinstance(critic.score, torch.nn.Module)
    assert not critic.score.training


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache" / "gradients"
    monkeypatch.setenv("FORENSIFT_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.delenv("FORENSIFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "forensift" / "gradients"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert (cache_folder() or Path()).parts[-2:] == ("forensift", "gradients")


# ---- the preset --------------------------------------------------------------------------------


def test_the_preset_normalises_the_gradient_image(pixels: torch.Tensor, forge_file: Path) -> None:
    preset = lgrad.preset_of(f"lgrad:{forge_file}")
    assert isinstance(preset, GradientPreset)
    expected = get_preset("wang-nocrop").normalise(preset.images(pixels))
    assert torch.equal(preset.normalise(pixels), expected)
    digest = preset.images.critic.sha256
    assert preset.name == f"lgrad:progan-like@{digest[:12]}"
    assert preset.facts == {"critic": {"name": "progan-like", "sha256": digest}}
    assert preset.squash is None
    assert len(digest) == 64


def test_presets_by_name(forge_file: Path) -> None:
    sized = lgrad.preset_of(f"lgrad-64:{forge_file}")
    assert sized is not None
    assert sized.squash == (64, 64)
    assert sized.name.startswith("lgrad-64:progan-like@")
    native = lgrad.preset_of(f"lgrad-native:{forge_file}")
    assert native is not None
    assert native.squash is None
    given = lgrad.preset_of(f"lgrad:{__name__}:squares")
    assert given is not None
    assert given.name == f"lgrad:{__name__}:squares"
    assert lgrad.preset_of("npr-native") is None
    assert type(lgrad.preset_of("lgrad-gradients")) is type(get_preset("wang-nocrop"))
    with pytest.raises(UserError, match="no such weights file"):
        lgrad.preset_of("lgrad:none.safetensors")


# ---- the classifier ----------------------------------------------------------------------------


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def test_the_whole_classifier_is_the_published_resnet50() -> None:
    network = lgrad.build()
    found = shapes(network)
    assert sum(one.numel() for one in network.parameters()) == 23_510_081
    assert len(found) == 320
    assert float(network.fc.weight.detach().std()) == pytest.approx(0.02, rel=0.1)  # type: ignore[union-attr, operator]
    assert lgrad.recognises(found)
    assert resnet50.recognises(found)  # the user says which
    assert lgrad.options_of(found, {}) == {"stages": 4}


@pytest.mark.parametrize(("stages", "parameters"), [(1, 225_601), (2, 1_445_441)])
def test_fewer_stages_are_told_from_the_shapes(stages: int, parameters: int) -> None:
    network = lgrad.build(stages=stages).eval()
    assert sum(one.numel() for one in network.parameters()) == parameters
    found = shapes(network)
    assert not any(f"layer{stages + 1}" in key for key in found)
    assert lgrad.recognises(found)
    others = [one.name for one in ARCHITECTURES.values() if one.recognises(found)]
    assert set(others) <= {"lgrad"}
    again = lgrad.build(**lgrad.options_of(found, {})).eval()
    load_strictly(again, network.state_dict(), "memory")
    batch = torch.randn(2, 3, 40, 40)
    assert torch.equal(network(batch), again(batch))
    state = {key: value for key, value in network.state_dict().items() if key != "fc.bias"}
    with pytest.raises(UserError, match=r"missing: fc\.bias"):
        load_strictly(again, state, "memory")
    with pytest.raises(UserError, match="stages 5"):
        lgrad.build(stages=5)


def test_a_loaded_detector_scores_images_and_gradient_folders_alike(
    image_folder: Callable[..., Path], forge_file: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_weights(tmp_path / "lgrad.safetensors", lgrad.build(stages=2).state_dict(), {})
    loaded = load_detector(
        "lgrad", weights=tmp_path / "lgrad.safetensors", preset=f"lgrad:{forge_file}"
    )
    assert len(loaded.layers) == 1 + 3 * 3 + 4 * 3 + 2
    images = scan(image_folder(n=2, size=(40, 36)))
    assert isinstance(loaded.preset, GradientPreset)
    first = score(loaded, images)
    assert loaded.preset.images.computed == 8
    again = score(loaded, images, batch_size=1)
    assert loaded.preset.images.computed == 8  # nothing, in whatever batches
    assert np.allclose(first["logit"], again["logit"], atol=1e-5)
    write_gradients(images, loaded.preset, tmp_path / "gradients", skipped=[])
    stored = load_detector(
        "lgrad", weights=tmp_path / "lgrad.safetensors", preset="lgrad-gradients"
    )
    on_folders = score(stored, scan(tmp_path / "gradients"))
    assert np.allclose(first["logit"], on_folders["logit"], atol=1e-5)


def test_relevance_goes_through_the_short_classifier(
    pixels: torch.Tensor, forge_file: Path
) -> None:
    torch.manual_seed(0)
    network = lgrad.build(stages=2).eval()
    preset = lgrad.preset_of(f"lgrad:{forge_file}")
    assert preset is not None
    batch = preset.normalise(pixels)
    found = LRP(network)(batch)
    assert torch.allclose(found.logits, network(batch), atol=1e-5)
    assert found.pixels.shape == batch.shape
    assert float(found.pixels.abs().sum()) > 0


def test_the_recipe_is_the_published_one() -> None:
    recipe = get_recipe("lgrad", "lgrad")
    assert (recipe.load_size, recipe.side, recipe.squash) == (256, 224, True)
    assert (recipe.batch_size, recipe.learning_rate, recipe.epochs) == (16, 5e-4, 100)
    assert (recipe.blur, recipe.jpeg, recipe.grey, recipe.plateau) == (0, 0, 0, False)
    assert (recipe.decay_epochs, recipe.decay) == (10, 0.8)


def test_training_on_gradient_folders_of_chosen_classes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("car", "horse"):
            for kind in ("0_real_grad", "1_fake_grad"):
                for number in range(2):
                    path = tmp_path / split / name / kind / f"{number}.png"
                    write_image(path, (40, 40), seed=number)
    out = tmp_path / "out"
    command = ["train", "lgrad", "--recipe", "lgrad", "--stages", "1", "--classes", "horse"]
    command += ["--load-size", "0", "--crop-size", "32", "--batch-size", "4", "--max-steps", "2"]
    command += ["--data", str(tmp_path), "--device", "cpu", "--workers", "0", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "manifest.json").read_text())["images"] == [4, 4]
    loaded = load_detector("lgrad", weights=out / "lgrad.safetensors", preset="lgrad-gradients")
    images = scan(tmp_path / "val")
    assert {entry.class_name for entry in images} == {"car", "horse"}
    assert len(score(loaded, images)) == 8


# ---- folders -----------------------------------------------------------------------------------


def test_gradient_folders_mirror_the_set(image_folder: Callable[..., Path]) -> None:
    root = image_folder()
    (root / "one" / "0_real" / "0.png").rename(root / "one" / "0_real" / "a.b.png")
    (root / "one" / "0_real" / "1.png").rename(root / "one" / "0_real" / "a.c.png")
    found = [str(path) for path in gradient_paths(scan(root))]
    assert found[:3] == [f"one/0_real_grad/{name}.png" for name in ("2", "a.b.png", "a.c.png")]
    assert found[3] == "one/1_fake_grad/0.png"
    # One generator alone keeps its name, and splits and classes keep theirs.
    assert str(gradient_paths(scan(root / "two"))[0]) == "two/0_real_grad/0.png"
    entry = ImageEntry(Path("/s/train/horse/0_real/n01.v2.JPEG"), 0, "horse")
    images = ImageSet(Path("/s"), (entry,), "forensynths")
    assert str(gradient_paths(images)[0]) == "train/horse/0_real_grad/n01.png"
    listed = ImageSet(Path("/s"), (ImageEntry(Path("/t/x.png"), 1, "gan", "car"),), "csv")
    assert str(gradient_paths(listed)[0]) == "gan/car/1_fake_grad/x.png"


def test_an_interrupted_run_goes_on_and_stale_images_are_replaced(
    image_folder: Callable[..., Path], forge_file: Path, tmp_path: Path
) -> None:
    images, out = scan(image_folder(n=2, size=(16, 12))), tmp_path / "out"
    half = ImageSet(images.root, images.entries[:3], images.layout)

    def run(images: ImageSet, critic: Critic) -> tuple[int, int, int]:
        preset = gradient_preset(critic, cache=False)
        done = write_gradients(images, preset, out, skipped=[])
        return done.written, done.kept, preset.images.computed

    critic = load_critic(forge_file)
    assert run(half, critic) == (3, 0, 3)
    before = (out / "one/0_real_grad/0.png").stat().st_mtime_ns
    assert run(images, critic)[:2] == (5, 3)
    assert (out / "one/0_real_grad/0.png").stat().st_mtime_ns == before
    assert run(images, critic)[:2] == (0, 8)
    write_image(images.entries[0].path, (16, 12), seed=99)
    assert run(images, critic)[:2] == (1, 7)
    torch.manual_seed(5)
    save_critic(tmp_path / "other.safetensors", ForgeCritic(), {})
    assert run(images, load_critic(tmp_path / "other.safetensors"))[:2] == (8, 0)


def test_the_command_writes_what_the_preset_computes(
    image_folder: Callable[..., Path], forge_file: Path, tmp_path: Path
) -> None:
    root = image_folder(n=2, size=(16, 12))
    (root / "one" / "0_real" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["gradients", str(root), "--critic", str(forge_file), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--max-skipped", "0.5", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "8 gradient images of progan-like written, 0 were there." in result.stdout
    manifest = json.loads((out / "manifest.json").read_text())
    preset = gradient_preset(forge_file)
    assert manifest["critic"] == preset.images.critic.facts
    assert "broken.png" in (out / "skipped.csv").read_text()

    written = scan(out)
    assert written.generators == ("one", "two")
    assert [entry.label for entry in written] == [0, 0, 1, 1] * 2
    on_gradients = lgrad.preset_of("lgrad-gradients")
    assert on_gradients is not None
    sources = [entry for entry in scan(root) if entry.path.name != "broken.png"]
    for entry, source in zip(written, sources, strict=True):
        stored, original = (
            torch.from_numpy(np.array(Image.open(one.path)).transpose(2, 0, 1).copy())[None]
            for one in (entry, source)
        )
        assert torch.equal(on_gradients.normalise(stored), preset.normalise(original))

    again = CliRunner().invoke(app, [*command, "--max-skipped", "0.5", "--out", str(out)])
    assert "0 gradient images of progan-like written, 8 were there." in again.stdout

    bad = CliRunner().invoke(app, ["gradients", str(root), "--critic", "none.pth"])
    assert bad.exit_code == 2
    assert "none.pth: no such weights file" in bad.stderr


def test_what_gradients_are_not_made_of_is_said_and_ends_no_run(
    image_folder: Callable[..., Path], forge_file: Path, tmp_path: Path
) -> None:
    root = image_folder(("one",), n=2, size=(16, 12))
    tiny = write_image(root / "one" / "1_fake" / "tiny.png", (1, 1))
    for name in "ab":
        write_image(root / "extra" / f"{name}.png")
    command = ["gradients", str(root), "--critic", str(forge_file), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--max-skipped", "0.5"])
    assert done.exit_code == 0, done.output
    assert "left out: 2 images in extra/" in done.stderr
    assert f"skipped {tiny}: critic progan-like cannot take 1 × 1 pixels" in done.stderr
    assert "4 gradient images of progan-like written" in done.stdout
    for option in (["--batch-size", "2"], ["--seed", "1"], ["--resume"]):  # they change nothing
        refused = CliRunner().invoke(app, [*command, *option])
        assert refused.exit_code == 2
        assert "No such option" in refused.stderr


def test_a_real_of_two_generators_has_a_gradient_image_in_both(
    forge_file: Path, tmp_path: Path
) -> None:
    real = write_image(tmp_path / "real.png")
    entries = tuple(ImageEntry(real, REAL, generator) for generator in ("one", "two"))
    preset = gradient_preset(load_critic(forge_file), cache=False)
    done = write_gradients(ImageSet(tmp_path, entries, "csv"), preset, tmp_path / "out")
    assert (done.written, done.facts["images"]) == (2, 2)
    files = [tmp_path / "out" / one / "0_real_grad" / "real.png" for one in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
