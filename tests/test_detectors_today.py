"""Detectors of today: files in the published formats, backbones in every layout, exact counts.

The published weights are not here: files are written with random numbers under the published names,
and the networks are compared with those that open_clip and transformers make of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import forensift as ff
import transformers
from forensift.cli.app import app
from forensift.data.presets import CLIP_MEAN, CLIP_STD, get_preset
from forensift.detectors import ARCHITECTURES, load_detector, read_checkpoint
from forensift.detectors.backbones import resized, translated
from forensift.errors import UserError
from forensift.lrp import LRP

from .conftest import write_image

WIDTH, DEPTH, EMBEDDING = 128, 2, 24
COUNTS = {
    # torchvision's resnet50 with one logit
    ("corvi", ()): 23_510_081,
    # CLIP ViT-L/14: 303,179,776 before its projection of 768 × 1024 (OpenAI: 303,966,208)
    ("univfd", ()): 303_966_208 + 769,
    ("c2p-clip", ()): 303_966_208 + 769,
    ("clip-based", ()): 303_179_776 + 1025,
    ("effort", ()): 303_179_776 + 2 * 1025,
    # without the last MLP and norm; α 24 × 1024, 2 + 2 + 2 layers of 1024 × 1025, one logit
    ("rine", ()): 303_179_776
    - (8 * 1024**2 + 5 * 1024)
    - 2 * 1024
    + 24 * 1024
    + 6 * 1024 * 1025
    + 1025,
    ("drct", ("clip",)): 303_966_208 + 1024 * 769 + 2 * 1025,
    # timm's convnext_base has 87,566,464 without its classifier
    ("drct", ("convnext",)): 87_566_464 + 1024 * 1025 + 2 * 1025,
    # DINOv2 ViT-L/14 has 304,368,640 with its mask token of 1024, at 37 × 37 patches; here 24 × 24
    ("dda", ()): 304_368_640 - 1024 - (37**2 - 24**2) * 1024 + 1025,
    # timm's vit_small_patch16_384 and _224 with one logit
    ("commfor", ()): 21_811_584 + 385,
}


@pytest.mark.parametrize(("name", "given"), COUNTS)
def test_parameter_counts_are_exact(name: str, given: tuple[str, ...]) -> None:
    with torch.device("meta"):
        network = ARCHITECTURES[name].build(*given)
    assert sum(one.numel() for one in network.parameters()) == COUNTS[name, given]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("univfd", "vit_large_patch14_clip_quickgelu_224"),
        ("clip-based", "vit_large_patch14_clip_224"),
        ("dda", "vit_large_patch14_dinov2"),
        ("commfor", "vit_small_patch16_384"),
    ],
)
def test_backbones_are_those_that_timm_calls_by_name(name: str, own: str) -> None:
    sides = {"dda": {"img_size": 336}}
    with torch.device("meta"):
        ours = ARCHITECTURES[name].build().backbone
        named = timm.create_model(own, num_classes=0, **sides.get(name, {}))
    shapes = [
        {key: value.shape for key, value in one.state_dict().items()} for one in (ours, named)
    ]
    assert shapes[0] == shapes[1]
    assert repr(ours) == repr(named)  # activations and epsilons too


# ---- files as they are published, and what the network of their makers gives ---------------------


class Made(NamedTuple):
    """A detector's files, and the logits that its makers' network gives of a batch."""

    weights: Path
    backbone: Path | None
    logits: Callable[[Tensor], Tensor]


def scattered(network: nn.Module) -> nn.Module:
    """Set every parameter to small random numbers, so that no bias or scale is 0 or 1."""
    for one in network.parameters():
        one.data = torch.randn_like(one) * (0.3 if one.dim() < 2 else one[0].numel() ** -0.5)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data += 1
    return network.eval()


def clip_of_openai(*, quick: bool = True) -> Any:
    vision = open_clip.model.CLIPVisionCfg(layers=DEPTH, width=WIDTH, patch_size=14)
    text = open_clip.model.CLIPTextCfg(8, 32, width=16, heads=2, layers=1)
    return scattered(open_clip.model.CLIP(EMBEDDING, vision, text, quick_gelu=quick))


def clip_of_transformers() -> Any:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
    vision = {**sizes, "intermediate_size": 4 * WIDTH, "image_size": 224, "patch_size": 14}
    text = {**sizes, "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 8}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=EMBEDDING
    )
    return scattered(transformers.CLIPModel(config))


def under(before: str, network: nn.Module) -> dict[str, Tensor]:
    return {f"{before}{key}": value for key, value in network.state_dict().items()}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def univfd(folder: Path) -> Made:
    clip, fc = clip_of_openai(), nn.Linear(EMBEDDING, 1)
    return Made(
        saved(folder / "fc_weights.pth", fc.state_dict()),
        saved(folder / "ViT-L-14.pt", clip.state_dict()),
        lambda x: fc(clip.encode_image(x)),
    )


def univfd_whole(folder: Path) -> Made:
    clip, fc = clip_of_openai(), nn.Linear(EMBEDDING, 1)
    state = {"model": {**under("model.", clip), **under("fc.", fc)}, "total_steps": 3}
    return Made(saved(folder / "w.pth", state), None, lambda x: fc(clip.encode_image(x)))


def clip_based(folder: Path) -> Made:
    clip, fc = clip_of_openai(quick=False), nn.Linear(WIDTH, 1)
    path = saved(folder / "open_clip_pytorch_model.bin", clip.state_dict())
    clip.visual.proj = None
    return Made(
        saved(folder / "weights.pth", {"model": under("fc.", fc)}),
        path,
        lambda x: fc(clip.encode_image(x, normalize=True)),
    )


def c2p_clip(folder: Path) -> Made:
    clip, fc = clip_of_transformers(), nn.Linear(EMBEDDING, 1)
    state = {**under("vision_model.", clip.vision_model), **under("fc.", fc)}
    state |= under("visual_projection.", clip.visual_projection)

    def logits(x: Tensor) -> Tensor:
        feature = clip.visual_projection(clip.vision_model(x).pooler_output)
        return fc(feature / feature.norm(dim=-1, keepdim=True))

    named = {f"model.{key}": value for key, value in state.items()}
    return Made(saved(folder / "C2P_CLIP_release.pth", named), None, logits)


def rine(folder: Path, projections: int = 2, features: int = 16) -> Made:
    clip = clip_of_openai()
    alpha = torch.randn(1, DEPTH, features)
    layers = lambda into: nn.Sequential(  # noqa: E731
        nn.Dropout(),
        *(
            layer
            for at in range(projections)
            for layer in (nn.Linear(features if at else into, features), nn.ReLU(), nn.Dropout())
        ),
    )
    proj1, proj2 = layers(WIDTH), layers(features)
    head = nn.Sequential(
        nn.Linear(features, features), nn.ReLU(), nn.Dropout(),
        nn.Linear(features, features), nn.ReLU(), nn.Dropout(), nn.Linear(features, 1),
    )  # fmt: skip
    proj1, proj2, head = scattered(proj1), scattered(proj2), scattered(head)
    seen: list[Tensor] = []
    for block in clip.visual.transformer.resblocks:
        block.ln_2.register_forward_hook(lambda module, given, out: seen.append(out[:, 0]))

    def logits(x: Tensor) -> Tensor:
        seen.clear()
        clip.encode_image(x)
        inside = proj1(torch.stack(seen, dim=1))
        return head(proj2((torch.softmax(alpha, dim=1) * inside).sum(dim=1)))

    state = {"alpha": alpha, **under("proj1.", proj1), **under("proj2.", proj2)}
    return Made(
        saved(folder / "model_4class_trainable.pth", {**state, **under("head.", head)}),
        saved(folder / "ViT-L-14.pt", clip.state_dict()),
        logits,
    )


def effort(
    folder: Path, *, towers: str = "backbone.", head: str = "head.", outputs: int = 2
) -> Made:
    clip, fc = clip_of_transformers(), nn.Linear(WIDTH, outputs)
    state = under(towers, clip.vision_model)
    for name, module in clip.vision_model.named_modules():
        if isinstance(module, nn.Linear) and "self_attn" in name:
            before, whole = f"{towers}{name}.", module.weight.data
            u, s, v = torch.linalg.svd(whole)
            kept = {"U": u[:, :-1], "S": s[:-1], "V": v[:-1]}
            state[f"{before}weight_main"] = kept["U"] @ kept["S"].diag() @ kept["V"]
            trained = {"U": torch.randn(WIDTH, 1), "S": torch.rand(1), "V": torch.randn(1, WIDTH)}
            state |= {f"{before}{one}_residual": value for one, value in trained.items()}
            state |= {f"{before}{one}_r": value for one, value in kept.items()}
            del state[f"{before}weight"]
            added = trained["U"] @ trained["S"].diag() @ trained["V"]
            module.weight.data = state[f"{before}weight_main"] + added
    if towers.startswith("model."):
        state |= under("model.text_model.", clip.text_model)
        state |= under("model.visual_projection.", clip.visual_projection)
    state |= under(head, fc)
    path = saved(folder / "effort.pth", {f"module.{key}": one for key, one in state.items()})
    return Made(path, None, lambda x: fc(clip.vision_model(x).pooler_output))


def effort_of_one_logit(folder: Path) -> Made:
    return effort(folder, towers="model.vision_model.", head="fc.", outputs=1)


def drct_clip(folder: Path) -> Made:
    clip = clip_of_openai()
    embedding, fc = nn.Linear(EMBEDDING, 12), nn.Linear(12, 2)
    state = {**under("model.model.", clip), **under("model.fc.", embedding), **under("fc.", fc)}
    path = saved(folder / "13_acc0.9664.pth", state)
    return Made(path, None, lambda x: fc(embedding(clip.encode_image(x))))


def drct_convnext(folder: Path) -> Made:
    net = timm.create_model(
        "convnext_base", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=12
    )
    net, fc = scattered(net), nn.Linear(12, 2)
    path = saved(folder / "14_acc0.9996.pth", {**under("model.", net), **under("fc.", fc)})
    return Made(path, None, lambda x: fc(net(x)))


def dinov2() -> Any:
    """DINOv2 of torch hub: timm's names, a mask token, made for 518 pixels."""
    return scattered(
        timm.create_model(
            "vit_large_patch14_dinov2", embed_dim=WIDTH, depth=DEPTH, num_heads=2, num_classes=0,
            img_size=518,
        )
    )  # fmt: skip


def dda(folder: Path, *, whole: bool = True) -> Made:
    net, fc = dinov2(), nn.Linear(WIDTH, 1)
    state = {"mask_token": torch.zeros(1, WIDTH), **net.state_dict()}
    path = None if whole else saved(folder / "dinov2_vitl14_pretrain.pth", dict(state))
    out = under("base_model.fc.", fc)
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            down, up = torch.randn(8, module.in_features), torch.randn(module.out_features, 8)
            down, up = down * 0.1, up * 0.1
            before = f"base_model.model.{name}."
            out |= {f"{before}lora.lora_A": down, f"{before}lora.lora_B": up}
            if whole:
                for own in ("weight", "bias"):
                    value = state.pop(f"{name}.{own}")
                    out[f"{before}original_layer.{own}"] = value.clone()
            module.weight.data += (1 / 8) * up @ down
    if whole:
        out |= {f"base_model.model.{key}": value for key, value in state.items()}
    table = net.pos_embed.data
    net.patch_embed.set_input_size(img_size=(336, 336))
    net.pos_embed.data = resized(table, 24, hub=True)
    return Made(saved(folder / "ckpt.pth", {"model": out}), path, lambda x: fc(net(x)))


def dda_trained_alone(folder: Path) -> Made:
    return dda(folder, whole=False)


def commfor(folder: Path, side: int = 384) -> Made:
    net = scattered(
        timm.create_model(
            f"vit_small_patch16_{side}", embed_dim=WIDTH, depth=DEPTH, num_heads=2, num_classes=1
        )
    )
    path = folder / "model.safetensors"
    save_file({key: value.contiguous() for key, value in under("vit.", net).items()}, path)
    return Made(path, None, net)


def commfor_224(folder: Path) -> Made:
    return commfor(folder, 224)


def corvi(folder: Path) -> Made:
    from torchvision.models import resnet50

    net = resnet50(num_classes=1).eval()
    net.conv1.stride, net.maxpool.stride = (1, 1), (1, 1)
    path = saved(folder / "model_epoch_best.pth", {"model": under("module.", net)})
    return Made(path, None, net)


MAKERS: dict[str, tuple[str, Callable[[Path], Made], int]] = {
    "univfd": ("univfd", univfd, 224),
    "univfd, whole": ("univfd", univfd_whole, 224),
    "clip-based": ("clip-based", clip_based, 224),
    "c2p-clip": ("c2p-clip", c2p_clip, 224),
    "rine": ("rine", rine, 224),
    "effort": ("effort", effort, 224),
    "effort, one logit": ("effort", effort_of_one_logit, 224),
    "drct on CLIP": ("drct", drct_clip, 224),
    "drct on ConvNeXt": ("drct", drct_convnext, 64),
    "dda": ("dda", dda, 336),
    "dda, trained alone": ("dda", dda_trained_alone, 336),
    "commfor": ("commfor", commfor, 384),
    "commfor at 224": ("commfor", commfor_224, 224),
    "corvi": ("corvi", corvi, 48),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    torch.manual_seed(0)
    found = {}
    with torch.no_grad():
        for case, (_, make, _) in MAKERS.items():
            found[case] = make(tmp_path_factory.mktemp(case.replace(" ", "-")))
    return found


@pytest.mark.parametrize("case", MAKERS)
def test_a_published_file_gives_what_its_makers_network_gives(
    made: dict[str, Made], case: str
) -> None:
    name, _, side = MAKERS[case]
    weights, backbone, logits = made[case]
    detector = load_detector(f"{name}={weights}", backbone=backbone)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        ours, theirs = detector.network(images), logits(images)
    assert (ours - theirs).abs().max() <= 1e-5 * max(1, theirs.abs().max())
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3  # the image matters
    assert ours.shape == (2, max(1, len(detector.classes)))
    assert detector.weights.backbone == ("" if backbone is None else backbone.name)
    assert len(detector.weights.backbone_sha256) == (0 if backbone is None else 64)


@pytest.mark.parametrize("case", MAKERS)
def test_a_published_file_is_known_by_its_shapes(made: dict[str, Made], case: str) -> None:
    state = read_checkpoint(made[case].weights).state
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    known = [one.name for one in ARCHITECTURES.values() if one.recognises(shapes)]
    # In strides alone does corvi differ from resnet50 and from LGrad's: there the user says which.
    assert known == (["resnet50", "lgrad", "corvi"] if case == "corvi" else [MAKERS[case][0]])


@pytest.mark.parametrize("case", MAKERS)
def test_a_network_can_be_traced(made: dict[str, Made], case: str) -> None:
    name, _, side = MAKERS[case]
    network = load_detector(name, weights=made[case].weights, backbone=made[case].backbone).network
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = network(images)
        exported = torch.export.export(network, (images,)).module()(images)
        traced = torch.fx.symbolic_trace(network)(images)
    torch.testing.assert_close(exported, expected)
    torch.testing.assert_close(traced, expected)


def test_outputs_of_two_classes_are_real_and_fake(made: dict[str, Made]) -> None:
    for case in ("effort", "drct on ConvNeXt"):
        detector = load_detector(MAKERS[case][0], weights=made[case].weights)
        assert (detector.classes, detector.real) == (("real", "fake"), 0)
        given = torch.tensor([[1.0, 3.0]])
        assert torch.equal(detector.decide(given), torch.tensor([2.0]))


# ---- what is missing, too much or something else -------------------------------------------------


@pytest.mark.parametrize(
    ("case", "upstream"),
    [
        ("univfd", "ViT-L-14.pt of openai/CLIP"),
        ("rine", "ViT-L-14.pt of openai/CLIP"),
        ("clip-based", "open_clip_pytorch_model.bin of laion/CLIP-ViT-L-14-CommonPool"),
        ("dda, trained alone", "dinov2_vitl14_pretrain.pth of facebookresearch/dinov2"),
    ],
)
def test_a_missing_backbone_is_named(made: dict[str, Made], case: str, upstream: str) -> None:
    name = MAKERS[case][0]
    with pytest.raises(UserError, match=f"head of {name} alone; give its backbone.*{upstream}"):
        load_detector(name, weights=made[case].weights)


def test_missing_weights_are_named_as_upstream() -> None:
    for name in {one for one, _, _ in MAKERS.values()}:
        published = ARCHITECTURES[name].published
        assert published is not None
        with pytest.raises(UserError, match=f"give them: {name}=FILE, upstream") as caught:
            load_detector(name)
        assert published.file in str(caught.value)


@pytest.mark.parametrize("case", ["univfd, whole", "c2p-clip", "effort", "drct on CLIP", "commfor"])
def test_a_backbone_beside_a_file_that_holds_one_is_refused(
    made: dict[str, Made], case: str
) -> None:
    with pytest.raises(UserError, match="holds its own backbone"):
        load_detector(MAKERS[case][0], weights=made[case].weights, backbone=made["univfd"].backbone)


def test_what_does_not_fit_is_said(made: dict[str, Made], tmp_path: Path) -> None:
    head, clip, _ = made["univfd"]
    with pytest.raises(UserError, match="npr: stands on no other network; leave the backbone"):
        load_detector("npr", backbone=clip)
    with pytest.raises(UserError, match="weights of univfd, not of rine"):
        load_detector("rine", weights=head, backbone=clip)
    with pytest.raises(UserError, match=r"not weights of univfd, which are fc_weights\.pth"):
        load_detector("univfd", weights=clip, backbone=clip)
    with pytest.raises(UserError, match=r"not a backbone in a layout that is known.*open_clip"):
        load_detector("univfd", weights=head, backbone=head)
    state = torch.load(clip)
    del state["visual.ln_post.bias"]
    state["visual.surplus"] = torch.zeros(2)
    broken = saved(tmp_path / "broken.pt", state)
    with pytest.raises(
        UserError, match=r"on .*broken.pt: .*missing: backbone.norm.bias; unknown: backbone.surplus"
    ):
        load_detector("univfd", weights=head, backbone=broken)
    with pytest.raises(UserError, match="takes 224 × 224 pixels; preset wang-nocrop makes images"):
        load_detector("univfd", weights=head, backbone=clip, preset="wang-nocrop")
    with pytest.raises(UserError, match="dda: takes 336 × 336 pixels; preset clip-crop224 makes"):
        load_detector("dda", weights=made["dda"].weights, preset="clip-crop224")
    part = read_checkpoint(made["dda"].weights).state
    part.pop("base_model.model.blocks.1.mlp.fc2.lora.lora_B")
    with pytest.raises(UserError, match=r"mlp\.fc2: holds lora\.lora_A, but not lora\.lora_B"):
        load_detector("dda", weights=saved(tmp_path / "part.pth", part))


# ---- backbones in the layouts that people hold ---------------------------------------------------


def test_one_clip_in_every_layout_is_one_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    clip, fc = clip_of_openai(), nn.Linear(EMBEDDING, 1)
    head = saved(tmp_path / "fc_weights.pth", fc.state_dict())
    layouts = {
        "openai.pt": clip.state_dict(),
        "half.pt": {key: value.half() for key, value in clip.state_dict().items()},
        "wrapped.pt": {"state_dict": under("module.", clip)},
    }
    named = translated(clip.state_dict(), "clip")
    projection = named.pop("projection.weight")
    layouts["timm.bin"] = {
        **named, "head.weight": projection, "head.bias": torch.zeros(EMBEDDING),
    }  # fmt: skip
    layouts["transformers.bin"] = as_transformers(clip)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = fc(clip.encode_image(images))
    for name, state in layouts.items():
        detector = load_detector("univfd", weights=head, backbone=saved(tmp_path / name, state))
        close = 1e-2 if name == "half.pt" else 1e-5
        with torch.no_grad():
            assert (detector.network(images) - expected).abs().max() < close, name
        assert all(one.dtype == torch.float32 for one in detector.network.parameters())


def as_transformers(clip: Any) -> dict[str, Tensor]:
    """Return a CLIP of open_clip in the names of transformers, by running both ways of its code."""
    other, state = clip_of_transformers(), {}
    visual, own = clip.visual, other.vision_model
    own.embeddings.class_embedding.data = visual.class_embedding.data
    own.embeddings.position_embedding.weight.data = visual.positional_embedding.data
    own.embeddings.patch_embedding.weight.data = visual.conv1.weight.data
    pairs = [(own.pre_layrnorm, visual.ln_pre), (own.post_layernorm, visual.ln_post)]
    for layer, block in zip(own.encoder.layers, visual.transformer.resblocks, strict=True):
        pairs += [(layer.layer_norm1, block.ln_1), (layer.layer_norm2, block.ln_2)]
        pairs += [(layer.mlp.fc1, block.mlp.c_fc), (layer.mlp.fc2, block.mlp.c_proj)]
        pairs += [(layer.self_attn.out_proj, block.attn.out_proj)]
        for at, part in enumerate(
            (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
        ):
            part.weight.data = block.attn.in_proj_weight.data.chunk(3)[at]
            part.bias.data = block.attn.in_proj_bias.data.chunk(3)[at]
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
    other.visual_projection.weight.data = visual.proj.data.T
    state = other.state_dict()
    state["vision_model.embeddings.position_ids"] = torch.arange(257)[None]  # of older versions
    return state


class AsOpenAI(nn.Module):
    """What OpenAI's archives hold: a visual tower, a text tower, three numbers, half precision."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.visual = clip.visual
        self.transformer = clip.transformer
        self.logit_scale = clip.logit_scale
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(224))

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


def test_openais_archive_is_read_and_not_run(tmp_path: Path, monkeypatch: Any) -> None:
    torch.manual_seed(2)
    clip = AsOpenAI(clip_of_openai()).half().eval()
    path = tmp_path / "ViT-L-14.pt"
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.jit.trace(clip, (images.half(),), check_trace=False).save(str(path))

    def never(*given: object, **named: object) -> None:
        raise AssertionError("the archive was run")

    monkeypatch.setattr(torch.jit, "load", never)
    held = read_checkpoint(path)
    expected = clip.state_dict()
    used = {key for key in expected if key.startswith("visual.")}
    assert held.wrapper == "TorchScript"
    assert used <= held.state.keys() <= expected.keys()
    for key, value in held.state.items():
        assert value.dtype == expected[key].dtype
        assert torch.equal(value, expected[key]), key
    fc = nn.Linear(EMBEDDING, 1)
    head = saved(tmp_path / "fc_weights.pth", fc.state_dict())
    network = load_detector("univfd", weights=head, backbone=path).network
    with torch.no_grad():
        assert (network(images) - fc(clip.float()(images))).abs().max() < 1e-5


def test_dinov2_of_transformers_is_translated(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = transformers.Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, image_size=336,
        patch_size=14,
    )  # fmt: skip
    model = scattered(transformers.Dinov2Model(config))
    ours = ARCHITECTURES["dda"].build(width=WIDTH, depth=DEPTH).backbone.eval()
    model.save_pretrained(tmp_path)  # the names in the file are not those in memory
    held = read_checkpoint(tmp_path / "model.safetensors").state
    ours.load_state_dict(translated(held, "dinov2"))
    images = torch.randn(2, 3, 336, 336)
    with torch.no_grad():
        assert (ours(images) - model(images).pooler_output).abs().max() < 1e-5


# ---- position tables -----------------------------------------------------------------------------


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def test_a_position_table_is_resized_as_dinov2_does() -> None:
    """The formula in float64: output i lies at (i + ½) · 37 / 24.1 − ½, four neighbours weigh."""
    table = torch.randn(1, 1 + 37**2, 3, generator=torch.Generator().manual_seed(0))
    found = resized(table, 24, hub=True)
    grid = table[0, 1:].double().reshape(37, 37, 3).numpy()
    at = (np.arange(24) + 0.5) * 37 / 24.1 - 0.5
    weights = np.zeros((24, 37))
    for i, place in enumerate(at):
        for j in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            weights[i, np.clip(j, 0, 36)] += cubic(np.array(place - j), -0.75)
    expected = np.einsum("ia,jb,abd->ijd", weights, weights, grid).reshape(-1, 3)
    assert torch.equal(found[:, 0], table[:, 0])
    assert np.abs(found[0, 1:].numpy() - expected).max() < 3e-5


def test_other_position_tables_are_resized_as_open_clip_does() -> None:
    table = torch.randn(1, 1 + 24**2, 3, generator=torch.Generator().manual_seed(0))
    state = {"visual.positional_embedding": table[0].clone()}
    visual = open_clip.model.VisionTransformer(224, 14, 3, 1, 1, 4.0)
    open_clip.model.resize_pos_embed(state, type("Model", (), {"visual": visual}))
    assert torch.allclose(resized(table, 16)[0], state["visual.positional_embedding"], atol=1e-6)
    assert resized(table, 24) is table


# ---- preprocessing, commands ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(301, 260), (200, 150), (224, 224)])
def test_presets_are_the_published_transforms(size: tuple[int, int]) -> None:
    from torchvision import transforms as T

    image = noise(size)
    after = [T.ToTensor(), T.Normalize(CLIP_MEAN, CLIP_STD)]
    bicubic = T.InterpolationMode.BICUBIC
    published = {
        "clip-crop224": [T.CenterCrop(224), *after],
        "clip-crop336": [T.CenterCrop(336), *after],
        "clip-resize224": [T.Resize(224), T.CenterCrop(224), *after],
        "clip-bicubic224": [T.Resize(224, bicubic), T.CenterCrop(224), *after],
        "commfor-384": [
            T.Resize(440), T.CenterCrop(384), T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ],
    }  # fmt: skip
    for name, steps in published.items():
        preset = get_preset(name)
        pixels = torch.from_numpy(np.array(preset.geometry(image))).permute(2, 0, 1)[None]
        assert pixels.shape[-1] == preset.side
        torch.testing.assert_close(preset.normalise(pixels)[0], T.Compose(steps)(image))


def test_efforts_preset_shrinks_without_smoothing() -> None:
    """Between four pixels, as OpenCV does: halving takes the mean of 2 × 2."""
    image = noise((448, 448))
    found = np.array(get_preset("clip-squash224").geometry(image)).astype(float)
    means = np.array(image).astype(float).reshape(224, 2, 224, 2, 3).mean(axis=(1, 3))
    assert np.abs(found - means).max() <= 0.5


def noise(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_command_takes_a_head_and_a_backbone(made: dict[str, Made], tmp_path: Path) -> None:
    image = write_image(tmp_path / "photo.png", (240, 230))
    head, clip, _ = made["univfd"]
    spec = f"univfd={head}"
    given = ["score", spec, str(image), "--out", str(tmp_path / "out"), "--backbone", str(clip)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert '"ViT-L-14.pt"' in manifest
    folder = write_image(tmp_path / "one" / "0_real" / "0.png", (240, 230)).parents[1]
    write_image(folder / "1_fake" / "0.png", (240, 230), 1)
    several = ["robustness", f"{spec},npr", "--data", str(tmp_path), "--conditions", "grey"]
    done = CliRunner().invoke(app, [*several, *given[3:]])
    assert done.exit_code == 0, done.output
    failed = CliRunner().invoke(app, given[:-2])
    assert failed.exit_code == 2
    assert "ViT-L-14.pt of openai/CLIP" in failed.output


@pytest.mark.parametrize("case", ["univfd", "rine", "clip-based", "drct on ConvNeXt", "corvi"])
def test_relevance_goes_through(made: dict[str, Made], case: str) -> None:
    name, _, side = MAKERS[case]
    detector = load_detector(name, weights=made[case].weights, backbone=made[case].backbone)
    images = torch.randn(1, 3, side, side)
    found = LRP(detector)(images)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, detector.network(images), atol=1e-4, rtol=1e-4)
    assert found.feature_maps.keys() == detector.layers.keys()
    assert found.pixels.abs().sum() > 0
    # The last MLP of a CLIP acts on the class token alone, which is no place in the image.
    nothing = [layer for layer, one in found.feature_maps.items() if not one.abs().sum() > 0]
    assert nothing == [f"backbone.blocks.{DEPTH - 1}.mlp.act"] * (case in ("univfd", "clip-based"))


def test_maps_of_a_transformer_are_ranked_and_dropped(
    made: dict[str, Made], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    state = read_checkpoint(made["rine"].weights).state
    state["head.6.bias"] += 5  # so that every fake is told
    weights = saved(tmp_path / "rine.pth", state)
    detector = load_detector("rine", weights=weights, backbone=made["rine"].backbone)
    images = ff.scan(image_folder(("one",), n=2, size=(230, 224)))
    ranking = ff.rank(detector, images, label="fake")
    found = ff.dropout(detector, images, ranking, k=20, draws=2)
    assert len(ranking.table) == len(detector.feature_maps)
    assert "top-k" in set(found.tables["dropout"]["mask"])


def test_nothing_is_imported_before_it_is_used() -> None:
    code = "import forensift.detectors, sys; print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_doctor_names_files_and_licences() -> None:
    from forensift.cli.doctor import files

    found = {one.what: one for one in files()}
    univfd = found["detector univfd"]
    assert "code: MIT, weights: MIT; its backbone's code: MIT" in univfd.found
    assert "univfd=fc_weights.pth of" in univfd.mend
    assert "--backbone ViT-L-14.pt of openai/CLIP" in univfd.mend
    for name in {one for one, _, _ in MAKERS.values()}:
        assert "code: " in found[f"detector {name}"].found
