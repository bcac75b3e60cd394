"""Variants of the forge's families: other seeds, losses, photographs; resuming; critics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data.photos import photographs
from forensift.errors import UserError
from forensift.forge import (
    FAMILIES,
    TRAINED,
    VARIANTS,
    ForgeTraining,
    facts_of,
    family_of,
    forge,
    get_family,
    get_variant,
    load_critic,
    load_family,
    load_generator,
    member_files,
    save_critic,
    save_generator,
    train_and_save,
    train_generator,
    variant_settings,
)
from forensift.forge.losses import Critic, critic_loss, generator_loss

PHOTOS = photographs("train")[:2]
HELD_OUT = photographs("validation")[:1]
SMALL = ForgeTraining(steps=20, batch_size=2, side=16, warm_up=0.3, seed=3)


def same(ours: torch.nn.Module, others: torch.nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), others.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("family", ["dcgan-like", "ldm-like", "ddpm-like"])
def test_a_training_that_was_cut_ends_as_a_whole_one(tmp_path: Path, family: str) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    whole = train_generator(family, PHOTOS, HELD_OUT, SMALL)
    cut = train_generator(family, PHOTOS, HELD_OUT, SMALL, checkpoint=checkpoint, stop_after=9)
    assert list(cut.history["step"]) == [2, 4, 6, 8, 10]
    assert not same(cut.generator, whole.generator)
    resumed = train_generator(family, PHOTOS, HELD_OUT, SMALL, checkpoint=checkpoint)
    assert same(resumed.generator, whole.generator)
    assert resumed.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert resumed.history["seconds"].is_monotonic_increasing
    if whole.critic is not None and resumed.critic is not None:
        assert same(resumed.critic, whole.critic)
    assert (whole.critic is None) == (family == "ddpm-like")


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    small = replace(SMALL, steps=2)
    train_generator("dcgan-like", PHOTOS, HELD_OUT, small, checkpoint=checkpoint, stop_after=1)
    others = [
        {"settings": replace(small, loss="hinge")},
        {"settings": small, "photographs": PHOTOS[:1]},
        {"settings": small, "start": FAMILIES["dcgan-like"].generator()},
    ]
    for other in others:
        given = {"photographs": PHOTOS, "held_out": HELD_OUT, **other}
        with pytest.raises(UserError, match="other settings or photographs"):
            train_generator("dcgan-like", checkpoint=checkpoint, **given)


def test_the_losses_have_their_values() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.5])
    assert float(critic_loss("hinge", real, fake)) == pytest.approx(0.5 + 0.75)
    assert float(generator_loss("hinge", fake)) == pytest.approx(0.75)
    assert float(critic_loss("least-squares", real, fake)) == pytest.approx(1 + 2.125)
    assert float(generator_loss("least-squares", fake)) == pytest.approx((9 + 0.25) / 2)


def test_each_loss_trains_another_network_and_none_has_no_critic() -> None:
    small = replace(SMALL, steps=4, warm_up=0.5)
    found = {
        loss: train_generator("pixelshuffle-like", PHOTOS, HELD_OUT, replace(small, loss=loss))
        for loss in ("least-squares", "hinge", "none")
    }
    assert not same(found["hinge"].generator, found["least-squares"].generator)
    assert not same(found["none"].generator, found["least-squares"].generator)
    assert found["none"].critic is None
    assert not found["none"].history[["adversarial", "critic"]].to_numpy().any()
    with pytest.raises(UserError, match="least-squares, hinge, none"):
        replace(SMALL, loss="wasserstein")


def test_a_critic_comes_back_in_half_precision_and_is_differentiable(tmp_path: Path) -> None:
    torch.manual_seed(0)
    critic = Critic().eval()
    save_critic(tmp_path / "critic.safetensors", critic, {"family": "dcgan-like"})
    again = load_critic(tmp_path / "critic.safetensors")
    assert facts_of(tmp_path / "critic.safetensors") == {"family": "dcgan-like"}
    image = torch.randn(2, 3, 16, 16, requires_grad=True)
    said = again(image)
    assert said.shape == (2, 1, 4, 4)
    assert torch.allclose(said, critic(image), atol=1e-2)
    (gradient,) = torch.autograd.grad(said.sum(), image)
    assert gradient.abs().sum() > 0
    save_generator(tmp_path / "g.safetensors", FAMILIES["dcgan-like"].generator(), {})
    with pytest.raises(UserError, match="not a critic"):
        load_critic(tmp_path / "g.safetensors")


def test_nothing_is_left_of_a_training_but_what_it_is_for(tmp_path: Path) -> None:
    small = replace(SMALL, steps=2)
    given = ("dcgan-like", small, PHOTOS, HELD_OUT, tmp_path)
    facts = train_and_save("mine", *given, critic=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine.safetensors", "mine-critic.safetensors", "mine-history.csv"}
    assert facts_of(tmp_path / "mine.safetensors") == facts
    assert facts["loss"] == "least-squares"
    load_critic(tmp_path / "mine-critic.safetensors")
    without = ("dcgan-like", replace(small, loss="none"), *given[2:])
    with pytest.raises(UserError, match="without a critic"):
        train_and_save("mine", *without, critic=True)


def test_variants_differ_from_the_shipped_network_in_what_they_say() -> None:
    assert get_variant("seed-7").seed == 7
    assert variant_settings("dcgan-like", get_variant("loss-hinge")).loss == "hinge"
    assert get_variant("photos").photos == "train-others"
    assert get_variant("finetune").fine_tuned
    seeds = [variant.seed for variant in VARIANTS]
    assert len(set(seeds)) == len(seeds)
    with pytest.raises(UserError, match="quick, matched"):
        variant_settings("dcgan-like", get_variant("photos"), "slow")
    with pytest.raises(UserError, match="seed-N"):
        get_variant("colour")


def test_the_parts_of_the_training_photographs() -> None:
    inside, others = photographs("train-interiors"), photographs("train-others")
    assert (len(inside), len(others)) == (24, 12)
    assert sorted(inside + others) == photographs("train")
    with pytest.raises(UserError, match="no split"):
        photographs("test-interiors")  # type: ignore[arg-type]


def test_a_variant_is_a_family_of_one_that_the_forge_uses_by_its_name(tmp_path: Path) -> None:
    for name in ("dcgan-like", "dcgan-like-2", "dcgan-like--seed", "dcgan-like--seed-2"):
        save_generator(tmp_path / f"{name}.safetensors", get_family(name[:10]).generator(), {})
    assert family_of("dcgan-like--seed-2") == "dcgan-like"
    assert len(load_family("dcgan-like", tmp_path)) == 2
    assert len(load_family("dcgan-like", tmp_path, 1)) == 1
    assert [one.stem for one in member_files("dcgan-like--seed", tmp_path)] == ["dcgan-like--seed"]
    out = tmp_path / "out"
    forge(PHOTOS[:1], ["dcgan-like--seed-2"], out, per_family=1, side=16, weights=tmp_path)
    assert len(list(out.glob("dcgan-like--seed-2/*/*.png"))) == 2
    with pytest.raises(UserError, match="no family of generators"):
        get_family("nothing--seed-2")
    with pytest.raises(UserError, match="forge-train"):
        member_files("dcgan-like--photos")


def test_one_member_of_the_shipped_family(tmp_path: Path) -> None:
    forge(PHOTOS[:1], ["progan-like"], tmp_path / "one", per_family=3, side=16, members=1)
    forge(PHOTOS[:1], ["progan-like"], tmp_path / "all", per_family=3, side=16)
    one, all_ = (sorted(tmp_path.glob(f"{name}/*/1_fake/*.png")) for name in ("one", "all"))
    equal = [a.read_bytes() == b.read_bytes() for a, b in zip(one, all_, strict=True)]
    assert equal == [True, False, False]


def test_the_verb_trains_a_variant(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in PHOTOS[:1]:
        (folder / path.name).write_bytes(path.read_bytes())
    common = ["--photos", str(folder), "--held-out", str(folder), "--steps", "2", "--size", "16"]
    asked = ["forge-train", "stylegan2-like", *common, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*asked, "--variant", "finetune", "--save-critic"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "out" / "stylegan2-like--finetune.safetensors"
    facts = facts_of(path)
    assert (facts["seed"], facts["steps"], facts["loss"]) == ("13", "2", "least-squares")
    assert "forge-train stylegan2-like" in facts["command"]
    # Two steps from the shipped weights are still near to them, and so is the quality.
    assert float(facts["psnr"]) > 20
    load_generator(path, "stylegan2-like")
    load_critic(path.with_name("stylegan2-like--finetune-critic.safetensors"))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert np.isclose(manifest["psnr"], float(facts["psnr"]))
    refused = CliRunner().invoke(app, [*asked, "--variant", "photos", "--member", "2"])
    assert refused.exit_code == 2
    assert "--member" in refused.output


def test_the_encoder_alone_can_be_taken_over() -> None:
    start = load_family("dcgan-like")[0]
    assert start is not None
    small = replace(SMALL, steps=1, learning_rate=0.0)
    found = train_generator("dcgan-like", PHOTOS, HELD_OUT, small, start=start, encoder_only=True)
    assert same(found.generator.encoder, start.encoder)
    assert not same(found.generator.decoder, start.decoder)
    other = load_family("ddpm-like")[0]
    with pytest.raises(UserError, match="encoder"):
        train_generator("ddpm-like", PHOTOS, HELD_OUT, small, start=other, encoder_only=True)


def test_the_texture_loss_can_wait_for_the_warm_up() -> None:
    late = replace(SMALL, steps=4, warm_up=1.0, texture_late=True, loss="none")
    without = replace(late, texture_late=False, texture=0.0)
    ours, others = (
        train_generator("pixelshuffle-like", PHOTOS, HELD_OUT, one) for one in (late, without)
    )
    assert same(ours.generator, others.generator)
    assert ours.history["texture"].equals(others.history["texture"])


def test_every_family_has_the_settings_of_a_variant() -> None:
    for family in TRAINED:
        for variant in VARIANTS:
            assert variant_settings(family, variant).steps > 0
            assert variant_settings(family, variant, "matched").texture_late
