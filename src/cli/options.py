"""The options that verbs share, and the choice of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from . import completion

_DETECTOR = (
    "resnet50, efficientnet-b0, npr … (`forensift doctor` lists them), NAME:VARIANT, "
    "NAME=FILE with weights of one's own, or a network of one's own: file.py:function, "
    "package.module:function or timm:NAME."
)
DetectorName = Annotated[
    str, typer.Argument(metavar="DETECTOR", help=_DETECTOR, autocompletion=completion.detectors)
]
MaybeDetector = Annotated[
    str, typer.Argument(metavar="[DETECTOR]", help=_DETECTOR, autocompletion=completion.detectors)
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Image set: a folder in any layout that `forensift scan` knows, or its manifest.csv.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Checkpoint of the detector, as published or from `forensift train`. "
        "Default: the weights that forensift ships.",
    ),
]
Backbone = Annotated[
    Path | None,
    typer.Option(
        "--backbone",
        metavar="FILE",
        help="The network that the detector stands on, where its published file holds its head "
        "alone: CLIP, DINOv2 (`forensift doctor` names the file).",
    ),
]
Units = Annotated[
    str,
    typer.Option(
        "--units",
        metavar="neurons|heads|channels",
        help="Of a transformer: the feature maps are its MLPs' neurons (and convolutions), its "
        "attention heads, or the channels of its blocks.",
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Preprocessing: wang-nocrop, wang-crop224, npr-native, npr-forensynths, "
        "npr-SUITE (docs/commands.md), tff-ffrs, tff-ffrs-SIZE, imagenet, clip-crop224 … Default: "
        "the detector's own.",
        autocompletion=completion.presets,
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda", help="auto takes a GPU if there is one.")
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images at a time. Changes memory and speed; results to rounding.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is random.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for the results; made if missing. Default: output/ and the verb's name.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print tables and facts as JSON, for scripts, and nothing else."),
]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="photograph|class|none",
        help="What the intervals draw: photographs (images whose file names differ in a final "
        "-NUMBER only are crops of one, as `forensift forge` writes), classes, or images.",
    ),
]
EqualiseJpeg = Annotated[
    str,
    typer.Option(
        "--equalise-jpeg",
        metavar="none|fakes[:Q]|both[:Q]",
        help="Take JPEG away as a difference, in memory: `fakes` compresses the fakes as the "
        "reals of their generator are, or all at quality Q; `both` compresses every image at "
        "quality Q (96). See `forensift scan --audit`.",
    ),
]
RankingCsv = Annotated[
    Path, typer.Option("--ranking", metavar="CSV", help="The -fake.csv of `forensift rank`.")
]
MaybeRankingCsv = Annotated[
    Path | None,
    typer.Option(
        "--ranking",
        metavar="CSV",
        help="The -fake.csv of `forensift rank`: also look at its top k maps. Needs --k.",
    ),
]
K = Annotated[
    int,
    typer.Option(
        "--k", min=1, help="Feature maps from the top; published 114 (resnet50), 27 (b0)."
    ),
]
Composite = Annotated[
    str,
    typer.Option(
        "--composite",
        metavar="NAME[,PATTERN=RULE...]",
        help="Rules of LRP: beta0 (published), epsilon, gamma, alpha2-beta1, epsilon-plus, "
        "epsilon-plus-flat, epsilon-gamma-box, alpha2-beta1-flat; then settings and rules of "
        "layers: beta0,spread or gamma,gamma=0.1,layer1.*=flat (docs/commands.md).",
        autocompletion=completion.composites,
    ),
]
TrainingFamily = Annotated[
    str | None,
    typer.Option(
        "--training-family",
        metavar="NAME",
        help="The generator that the detector was trained on, which is set apart from the unseen.",
    ),
]
Detectors = Annotated[
    str,
    typer.Option(
        "--detectors",
        metavar="A,B",
        help="Which detectors.",
        autocompletion=completion.detectors,
    ),
]
Generator = Annotated[
    str | None,
    typer.Option("--generator", metavar="NAME", help="The only one to look at. Default: all."),
]
LooseImages = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGE...", help="Files, or folders with images at any depth."),
]
MaybeLooseImages = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[IMAGE]...", help="Files, or folders with images at any depth."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run with this --out was.")
]
Regime = Annotated[
    str,
    typer.Option(
        metavar="quick|matched",
        help="Training of variants: half a minute each, or a minute to the shipped quality.",
    ),
]
MaxSkipped = Annotated[
    float,
    typer.Option(
        "--max-skipped",
        min=0.0,
        max=1.0,
        help="Largest share of images to go on without, 0 to 1. All are in skipped.csv.",
    ),
]


def numbers(option: str, text: str) -> list[int]:
    """Return the numbers of an option like ``--k 8,16``; none where it is empty.

    Raises:
        UserError: something else stands there.
    """
    try:
        return [int(one) for one in text.split(",") if one]
    except ValueError:
        raise UserError(f"{option} {text}: give numbers with commas between") from None


def choose_device(asked: str) -> str:
    """Return 'cpu' or 'cuda' for what ``--device`` asks.

    Raises:
        UserError: another word, or CUDA where torch finds none.
    """
    if asked == "cpu":
        return asked
    if asked not in ("auto", "cuda"):
        raise UserError(f"--device {asked}: choose auto, cpu or cuda")
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        build = torch.version.cuda
        why = f"no GPU that fits CUDA {build}" if build else "this torch is built without CUDA"
        raise UserError(f"--device cuda: {why}; use --device cpu or see `forensift doctor`")
    return "cpu"
