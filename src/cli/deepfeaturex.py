"""``forensift deepfeaturex``: guidance file, robustness and generalisation sets, tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError, counted
from . import options
from .run import OnImages, scanned
from .verb import one_line_errors, verb

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..records import ImageSet
    from ..studies.deepfeaturex import Families, Study

app = typer.Typer(
    help="Real, GAN or diffusion: the files and the tests around DeepFeatureX Net. It is trained "
    "by `forensift train deepfeaturex`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Guidance = Annotated[
    Path | None,
    typer.Option(
        "--guidance",
        metavar="FILE",
        help="Guidance file; its test images alone are used. Default: all images.",
    ),
]
INNER_GAN, OUTER_GAN = (
    "progan-like,dcgan-like,sngan-like,cyclegan-like",
    ("stylegan2-like,pixelshuffle-like"),
)
InnerGan = Annotated[
    str, typer.Option("--inner-gan", metavar="A,B", help="GANs that were trained on.")
]
OuterGan = Annotated[
    str, typer.Option("--outer-gan", metavar="A,B", help="GANs that were not trained on.")
]
InnerDm = Annotated[
    str, typer.Option("--inner-dm", metavar="A,B", help="Diffusion models that were trained on.")
]
OuterDm = Annotated[
    str, typer.Option("--outer-dm", metavar="A,B", help="Diffusion models that were not.")
]
INNER_DM, OUTER_DM = "ddpm-like,ldm-like", ""
Diffusion = Annotated[
    str, typer.Option("--diffusion", metavar="A,B", help="Generators that are diffusion models.")
]


@dataclass(kw_only=True)
class OnTestImages(OnImages):
    """A run over the test images of a guidance file, or all of a set."""

    guidance: Guidance = None

    @property
    def tested(self) -> ImageSet:
        """The images that are tested on."""
        from ..training.guidance import TEST, of_stage, read_guidance

        images = self.images
        return (
            images
            if self.guidance is None
            else of_stage(images, read_guidance(self.guidance), TEST)
        )


@dataclass(kw_only=True)
class OnFamilies(OnTestImages):
    """A run that knows which generators were trained on."""

    inner_gan: InnerGan = INNER_GAN
    outer_gan: OuterGan = OUTER_GAN
    inner_dm: InnerDm = INNER_DM
    outer_dm: OuterDm = OUTER_DM

    def families(self) -> Families:
        """Return the families that the options name, of which those without images are left out.

        Raises:
            UserError: a generator of fakes that none of the options names.
        """
        from ..records import FAKE
        from ..studies.deepfeaturex import Families

        named = (self.inner_gan, self.outer_gan, self.inner_dm, self.outer_dm)
        families = Families(*(tuple(_listed(names)) for names in named))
        images = self.tested
        there = {entry.generator for entry in images if entry.label == FAKE}
        strange = sorted(there - {name for group in vars(families).values() for name in group})
        if strange:
            raise UserError(
                f"{images.root}: is {strange[0]!r} a GAN or a diffusion model, and was it trained "
                "on? Name it in --inner-gan, --outer-gan, --inner-dm or --outer-dm"
            )
        return families.among(sorted(there))


@app.command("guidance")
def guidance(
    data: options.Data,
    by: Annotated[
        str,
        typer.Option(
            metavar="photograph|name|image",
            help="What a draw decides about: all crops of a photograph and their fakes, one "
            "crop and its fakes, or one image (as published).",
        ),
    ] = "photograph",
    shares: Annotated[
        str, typer.Option(metavar="B,C,T", help="Of base models, complete model and test.")
    ] = "0.4,0.4,0.2",
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The CSV to write.")] = Path(
        "output/guidance.csv"
    ),
) -> None:
    """Write the guidance file: which images are for base models, complete model and test.

    Example: `forensift deepfeaturex guidance --data datasets --out guidance.csv`

    Columns label (0, 1, 2), image_path (below the data folder), model (architecture).
    """
    from ..files import write_csv
    from ..training.guidance import STAGES, make_guidance

    with one_line_errors(["by", "seed"]):
        try:
            three = [float(one) for one in shares.split(",")]
        except ValueError:
            raise UserError(f"--shares {shares}: give three numbers, e.g. 0.4,0.4,0.2") from None
        table = make_guidance(scanned(data), seed=seed, by=by, shares=three)
        write_csv(out, table)
    counts = ", ".join(f"{(table['label'] == at).sum()} {name}" for at, name in enumerate(STAGES))
    print(f"{counted(len(table), 'image')} in {out}: {counts}")


@verb
def filters(
    run: OnTestImages,
    tags: Annotated[
        str, typer.Option("--filters", metavar="A,B", help="Which; default: all of them.")
    ] = "",
    diffusion: Diffusion = INNER_DM,
) -> None:
    """Write the robustness sets: JPEG 90…50 (4:4:4), blur, scaling, mirroring, rotation.

    Example: `forensift deepfeaturex filters --data datasets --guidance guidance.csv`

    Folders `testing_dset-TAG/CLASS/ARCHITECTURE/*`; `test --robustness` needs none of them.
    """
    from ..data import check_skipped
    from ..files import write_manifest
    from ..studies.deepfeaturex import chosen_filters, write_filtered

    images, chosen = run.tested, tuple(_listed(tags))
    chosen_filters(chosen)
    folders = write_filtered(
        images,
        run.folder,
        chosen,
        diffusion=_listed(diffusion),
        skipped=run.skipped,
        progress=run.tell,
    )
    check_skipped(run.skipped, len(images), run.max_skipped)
    write_manifest(run.folder, {**run.facts(), "filters": [folder.name for folder in folders]})
    print(f"{counted(len(images), 'image')}, {counted(len(folders), 'filter')} in {run.folder}")


@verb
def sets(run: OnFamilies) -> None:
    """Write the generalisation sets: inner_gan, outer_gan, io_gan … as `SET/{0_real,1_fake}/*`.

    Example: `forensift deepfeaturex sets --data runs/forged/test --out output/sets`

    `forensift evaluate deepfeaturex --data output/sets` then gives a row a set. Files are hard
    links where the disk allows.
    """
    from ..studies.deepfeaturex import write_sets

    for name, count in write_sets(run.images, run.families(), run.folder).items():
        print(f"{name}: {count} fakes")


@verb
def measure(
    run: OnFamilies,
    weights: options.Weights = None,
    base_models: Annotated[
        Path | None,
        typer.Option(
            "--base-models",
            metavar="DIR",
            help="Folder with bm-dm, bm-gan and bm-real of the training: test these too.",
        ),
    ] = None,
    plain: Annotated[
        Path | None,
        typer.Option("--plain", metavar="FILE", help="Weights of the plain baseline, beside it."),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness/--no-robustness", help="Test under every filter.")
    ] = True,
    preset: options.PresetName = None,
) -> Study:
    """Test it: three classes, real against fake, inner and outer generators, filters, base models.

    Example: `forensift deepfeaturex test --data runs/results/images/test`

    Three-class numbers, filters and base models use the generators that were trained on; the
    generalisation sets use all. Writes `measures.csv`, `confusion.csv` (and a figure),
    `robustness.csv`, `generalisation.csv`, `base_models.csv`, `predictions.csv`, `results.md`,
    `skipped.csv` and `manifest.json`.
    """
    from ..records import FAKE, ImageSet
    from ..studies.deepfeaturex import study

    images, families = run.tested, run.families()
    inner = (*families.inner_gan, *families.inner_dm)
    # Reals may be listed under any generator: each once is what counts.
    kept = tuple(one for one in images if one.label != FAKE or one.generator in inner)
    known = ImageSet(images.root, kept, images.layout)
    on = run.chosen_device
    detectors = {"DeepFeatureX": _complete(weights, preset, on)}
    if plain is not None:
        detectors["plain baseline"] = _plain(plain, preset, on)
    return study(
        detectors,
        images,
        families=families,
        known=known,
        base_models=[] if base_models is None else _bases(base_models, preset, on),
        filters=() if robustness else None,
        **run.how,
    )


@verb
def compare(
    run: OnTestImages,
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NAME=FILE…", help="Complete networks or plain baselines."),
    ],
    diffusion: Diffusion = INNER_DM,
    preset: options.PresetName = None,
) -> Study:
    """Compare networks of several backbones on the same images.

    Example: `forensift deepfeaturex compare shufflenet=a.safetensors resnet18=b.safetensors
    --data runs/results/images/test`

    Writes `comparison.csv` and `manifest.json`.
    """
    import pandas as pd

    from ..detectors import read_checkpoint
    from ..detectors.deepfeaturex import recognises
    from ..studies.deepfeaturex import Study
    from ..studies.deepfeaturex import compare as measured

    loaded: dict[str, tuple[Detector, Path]] = {}
    for given in networks:
        name, _, file = given.partition("=")
        if not file:
            raise UserError(f"{given!r}: give NAME=FILE, e.g. resnet18=complete/deepfeaturex.pt")
        shapes = {key: tuple(one.shape) for key, one in read_checkpoint(Path(file)).state.items()}
        load = _complete if recognises(shapes) else _plain
        loaded[name] = (load(Path(file), preset, run.chosen_device), Path(file))
    table = measured(loaded, run.tested, diffusion=_listed(diffusion), **run.how)
    none = pd.DataFrame()
    facts = {"weights": {name: one.weights.sha256 for name, (one, _) in loaded.items()}}
    return Study(none, none, none, comparison=table, facts=facts)


for _name, _verb in {
    "filters": filters,
    "sets": sets,
    "test": measure,
    "compare": compare,
}.items():
    app.command(_name)(_verb)


def _listed(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _complete(weights: Path | None, preset: str | None, device: str) -> Detector:
    from ..detectors import load_detector

    return load_detector("deepfeaturex", weights=weights, preset=preset, device=device)


def _plain(weights: Path, preset: str | None, device: str) -> Detector:
    from ..detectors.deepfeaturex import load_plain

    return load_plain(weights, preset=preset, device=device)


def _bases(folder: Path, preset: str | None, device: str) -> list[Detector]:
    from ..detectors.deepfeaturex import load_base_model
    from ..training.deepfeaturex import FOLDERS

    found = []
    for main, name in FOLDERS.items():
        files = sorted(
            path
            for path in (folder / name).glob("*")
            if path.suffix in (".safetensors", ".pt", ".pth") and path.name != "checkpoint.pth"
        )
        if len(files) != 1:
            raise UserError(f"{folder / name}: {len(files)} weights files; expected one")
        found.append(load_base_model(files[0], main=main, preset=preset, device=device))
    return found
