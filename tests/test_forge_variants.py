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
    facts_of,
    family_of,
    forge,
    get_family,
    load_critic,
    load_family,
    load_generator,
    member_files,
    save_critic,
    save_generator,
    shipped_path,
)
from forensift.forge.losses import Critic, critic_loss, generator_loss
from forensift.training import run
from forensift.training.generators import GeneratorSettings, GeneratorTask, train_generator
from forensift.training.variants import VARIANTS, get_variant, variant_settings

PHOTOS = photographs("train")[:2]
HELD_OUT = photographs("validation")[:1]
SMALL = GeneratorSettings(steps=20, batch_size=2, size=16, warm_up=0.3, seed=3)


def same(ours: torch.nn.Module, others: torch.nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), others.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def trained(family: str, settings: GeneratorSettings, out: Path | None = None, **how):
    """Return the task and its history."""
    task = GeneratorTask(family, PHOTOS, HELD_OUT, settings)
    return task, run(task, out, workers=0, **how)


@pytest.mark.parametrize("family", ["dcgan-like", "ldm-like", "ddpm-like"])
def test_a_training_that_was_cut_ends_as_a_whole_one(tmp_path: Path, family: str) -> None:
    state = torch.get_rng_state()
    whole, history = trained(family, SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)  # what the user draws changes nothing either
    cut, first = trained(family, SMALL, tmp_path, stop_after=5)
    assert list(first["step"]) == [2, 4, 6, 8, 10]
    assert not same(cut.network, whole.network)
    assert not list(tmp_path.glob("*.safetensors"))  # half a training leaves no weights
    resumed, both = trained(family, SMALL, tmp_path)
    assert same(resumed.learner, whole.learner)  # the critic too
    assert both.drop(columns="seconds").equals(history.drop(columns="seconds"))
    assert both["seconds"].is_monotonic_increasing
    assert (whole.critic is None) == (family == "ddpm-like")


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    small = replace(SMALL, steps=2)
    trained("dcgan-like", small, tmp_path, stop_after=1)
    others = (
        (PHOTOS, replace(small, loss="hinge")),
        (PHOTOS[:1], small),
        (PHOTOS, replace(small, start=str(shipped_path("dcgan-like")))),
    )
    for photographs_, settings in others:
        with pytest.raises(UserError, match="other settings or data"):
            run(GeneratorTask("dcgan-like", photographs_, HELD_OUT, settings), tmp_path)


def test_the_losses_have_their_values() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.5])
    assert float(critic_loss("hinge", real, fake)) == pytest.approx(0.5 + 0.75)
    assert float(generator_loss("hinge", fake)) == pytest.approx(0.75)
    assert float(critic_loss("least-squares", real, fake)) == pytest.approx(1 + 2.125)
    assert float(generator_loss("least-squares", fake)) == pytest.approx((9 + 0.25) / 2)


def test_each_loss_trains_another_network_and_none_has_no_critic() -> None:
    small = replace(SMALL, steps=4, warm_up=0.5)
    found = {
        loss: trained("pixelshuffle-like", replace(small, loss=loss))
        for loss in ("least-squares", "hinge", "none")
    }
    networks = {loss: task.network for loss, (task, _) in found.items()}
    assert not same(networks["hinge"], networks["least-squares"])
    assert not same(networks["none"], networks["least-squares"])
    assert not found["none"][1][["adversarial", "critic"]].to_numpy().any()
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
    small = replace(SMALL, steps=2, save_critic=True)
    mine = GeneratorTask("dcgan-like", PHOTOS, HELD_OUT, small, "mine")
    facts = train_generator(mine, tmp_path).facts
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine.safetensors", "mine-critic.safetensors", "mine-history.csv"}
    assert facts_of(tmp_path / "mine.safetensors") == facts
    assert facts["loss"] == "least-squares"
    load_critic(tmp_path / "mine-critic.safetensors")
    without = GeneratorTask("dcgan-like", PHOTOS, HELD_OUT, replace(small, loss="none"))
    with pytest.raises(UserError, match="without a critic"):
        train_generator(without, tmp_path)
    with pytest.raises(UserError, match="denoiser"):
        GeneratorTask("ddpm-like", PHOTOS, HELD_OUT, replace(small, loss="hinge"))


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
    assert np.isclose(float(manifest["psnr"]), float(facts["psnr"]))
    refused = CliRunner().invoke(app, [*asked, "--variant", "photos", "--member", "2"])
    assert refused.exit_code == 2
    assert "--member" in refused.output


def test_the_encoder_alone_can_be_taken_over() -> None:
    start = load_family("dcgan-like")[0]
    assert start is not None
    small = replace(SMALL, steps=1, learning_rate=0.0, encoder_only=True)
    found, _ = trained("dcgan-like", replace(small, start=str(shipped_path("dcgan-like"))))
    assert same(found.network.encoder, start.encoder)
    assert not same(found.network.decoder, start.decoder)
    with pytest.raises(UserError, match="encoder"):
        trained("ddpm-like", replace(small, start=str(shipped_path("ddpm-like"))))


def test_the_texture_loss_can_wait_for_the_warm_up() -> None:
    late = replace(SMALL, steps=4, warm_up=1.0, texture_late=True, loss="none")
    without = replace(late, texture_late=False, texture=0.0)
    ours, others = (trained("pixelshuffle-like", one) for one in (late, without))
    assert same(ours[0].network, others[0].network)
    assert ours[1]["texture"].equals(others[1]["texture"])


def test_every_family_has_the_settings_of_a_variant() -> None:
    for family in TRAINED:
        for variant in VARIANTS:
            assert variant_settings(family, variant).steps > 0
            assert variant_settings(family, variant, "matched").texture_late
