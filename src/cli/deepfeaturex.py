"""``forensift deepfeaturex``: guidance file, robustness and generalisation sets, tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..records import ImageSet
    from ..studies.deepfeaturex import Families

HELP = (
    "Real, GAN or diffusion: the files and the tests around DeepFeatureX Net. It is trained by "
    "`forensift train deepfeaturex`."
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
    from ..data import scan
    from ..files import write_csv
    from ..training.guidance import STAGES, make_guidance

    try:
        three = [float(one) for one in shares.split(",")]
    except ValueError:
        raise UserError(f"--shares {shares}: give three numbers, e.g. 0.4,0.4,0.2") from None
    table = make_guidance(scan(data), seed=seed, by=by, shares=three)
    options.output_folder(out.parent)
    write_csv(out, table)
    counts = ", ".join(f"{(table['label'] == at).sum()} {name}" for at, name in enumerate(STAGES))
    print(f"{len(table)} images in {out}: {counts}")


def filters(
    data: options.Data,
    guidance: Guidance = None,
    tags: Annotated[
        str, typer.Option("--filters", metavar="A,B", help="Which; default: all of them.")
    ] = "",
    diffusion: Annotated[
        str, typer.Option("--diffusion", metavar="A,B", help="Generators that are diffusion models")
    ] = INNER_DM,
    out: options.Out = Path("output/testing_robustness"),
) -> None:
    """Write the robustness sets: JPEG 90…50 (4:4:4), blur, scaling, mirroring, rotation.

    Example: `forensift deepfeaturex filters --data datasets --guidance guidance.csv`

    Folders `testing_dset-TAG/CLASS/ARCHITECTURE/*`; `test --robustness` needs none of them.
    """
    from ..data import check_skipped
    from ..files import write_manifest
    from ..studies.deepfeaturex import chosen_filters, write_filtered

    images, chosen = _images(data, guidance), tuple(_listed(tags))
    chosen_filters(chosen)
    output = options.output_folder(out)
    with (
        options.skipped_images(output) as skipped,
        options.progress("filtering", len(images)) as advance,
    ):
        folders = write_filtered(
            images, output, chosen, diffusion=_listed(diffusion), skipped=skipped, progress=advance
        )
    check_skipped(skipped, len(images))
    facts = {"data": str(images.root), "image_set_sha256": images.hash()}
    write_manifest(output, {**facts, "filters": [folder.name for folder in folders]})
    print(f"{len(images)} images, {len(folders)} filters in {output}")


def sets(
    data: options.Data,
    inner_gan: InnerGan = INNER_GAN,
    outer_gan: OuterGan = OUTER_GAN,
    inner_dm: InnerDm = INNER_DM,
    outer_dm: OuterDm = OUTER_DM,
    out: options.Out = Path("output/testing_generalization"),
) -> None:
    """Write the generalisation sets: inner_gan, outer_gan, io_gan … as `SET/{0_real,1_fake}/*`.

    Example: `forensift deepfeaturex sets --data runs/forged/test --out output/sets`

    `forensift evaluate deepfeaturex --data output/sets` then gives a row a set. Files are hard
    links where the disk allows.
    """
    from ..data import scan
    from ..studies.deepfeaturex import write_sets

    images = scan(data)
    families = _families(images, inner_gan, outer_gan, inner_dm, outer_dm)
    counts = write_sets(images, families, options.output_folder(out))
    for name, count in counts.items():
        print(f"{name}: {count} fakes")


def measure(
    data: options.Data,
    weights: options.Weights = None,
    guidance: Guidance = None,
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
    inner_gan: InnerGan = INNER_GAN,
    outer_gan: OuterGan = OUTER_GAN,
    inner_dm: InnerDm = INNER_DM,
    outer_dm: OuterDm = OUTER_DM,
    preset: options.PresetName = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    max_skipped: options.MaxSkipped = 0.01,
    out: options.Out = Path("output/deepfeaturex"),
) -> None:
    """Test it: three classes, real against fake, inner and outer generators, filters, base models.

    Example: `forensift deepfeaturex test --data runs/results/images/test`

    Three-class numbers, filters and base models use the generators that were trained on; the
    generalisation sets use all. Writes `measures.csv`, `confusion.csv` (and a figure),
    `robustness.csv`, `generalisation.csv`, `base_models.csv`, `predictions.csv`, `results.md`,
    `skipped.csv` and `manifest.json`.
    """
    from .. import figures
    from ..files import write_csv, write_manifest
    from ..records import FAKE, ImageSet
    from ..studies.deepfeaturex import CLASS_WORDS, FILTERS, study, write_page

    images = _images(data, guidance)
    families = _families(images, inner_gan, outer_gan, inner_dm, outer_dm)
    inner = (*families.inner_gan, *families.inner_dm)
    # Reals may be listed under any generator: each once is what counts.
    kept = tuple(one for one in images if one.label != FAKE or one.generator in inner)
    known = ImageSet(images.root, kept, images.layout)
    choose = options.choose_device(device)
    detectors = {"DeepFeatureX": _complete(weights, preset, choose)}
    if plain is not None:
        detectors["plain baseline"] = _plain(plain, preset, choose)
    bases = [] if base_models is None else _bases(base_models, preset, choose)
    output = options.output_folder(out)
    looks = len(detectors) * (len(images) + len(known) * (1 + len(FILTERS) * robustness))
    with (
        options.skipped_images(output) as skipped,
        options.progress("testing", looks + len(bases) * len(known)) as advance,
    ):
        found = study(
            detectors,
            images,
            families=families,
            known=known,
            base_models=bases,
            filters=() if robustness else None,
            batch_size=batch_size,
            seed=seed,
            skipped=skipped,
            max_skipped=max_skipped,
            progress=advance,
        )
    for name, table in found.tables().items():
        write_csv(output / name, table)
    drawn = figures.plot_confusion_matrix(found.confusion, words=CLASS_WORDS)
    figures.save(drawn, output, "confusion")
    first = detectors["DeepFeatureX"]
    facts = {
        **options.studied(first, images),
        "families": {key: list(value) for key, value in vars(families).items()},
        "used": len(found.predictions),
        "skipped": len(skipped),
        "seed": seed,
        "positive": "real",
    }
    write_manifest(output, facts)
    write_page(output, output / "results.md")
    print((output / "results.md").read_text(encoding="utf-8"))


def compare(
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NAME=FILE…", help="Complete networks or plain baselines."),
    ],
    data: options.Data,
    guidance: Guidance = None,
    diffusion: Annotated[
        str, typer.Option("--diffusion", metavar="A,B", help="Generators that are diffusion models")
    ] = INNER_DM,
    preset: options.PresetName = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    seed: options.Seed = 0,
    out: options.Out = Path("output/deepfeaturex"),
) -> None:
    """Compare networks of several backbones on the same images.

    Example: `forensift deepfeaturex compare shufflenet=a.safetensors resnet18=b.safetensors
    --data runs/results/images/test`

    Writes `comparison.csv` and `manifest.json`.
    """
    from ..detectors import read_checkpoint
    from ..detectors.deepfeaturex import recognises
    from ..files import write_csv, write_manifest
    from ..studies.deepfeaturex import compare as run

    choose = options.choose_device(device)
    images = _images(data, guidance)
    loaded: dict[str, tuple[Detector, Path]] = {}
    for given in networks:
        name, _, file = given.partition("=")
        if not file:
            raise UserError(f"{given!r}: give NAME=FILE, e.g. resnet18=complete/deepfeaturex.pt")
        shapes = {key: tuple(one.shape) for key, one in read_checkpoint(Path(file))[0].items()}
        load = _complete if recognises(shapes) else _plain
        loaded[name] = (load(Path(file), preset, choose), Path(file))
    output = options.output_folder(out)
    table = run(loaded, images, diffusion=_listed(diffusion), batch_size=batch_size, seed=seed)
    write_csv(output / "comparison.csv", table)
    weights = {name: one.weights.sha256 for name, (one, _) in loaded.items()}
    facts = {"data": str(images.root), "image_set_sha256": images.hash(), "weights": weights}
    write_manifest(output, {**facts, "seed": seed})
    print(table.to_string(index=False, float_format="%.3f"))


VERBS: dict[str, Callable[..., None]] = {
    "guidance": guidance,
    "filters": filters,
    "sets": sets,
    "test": measure,
    "compare": compare,
}


def _listed(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _images(data: Path, guidance: Path | None) -> ImageSet:
    from ..data import scan
    from ..training.guidance import TEST, of_stage, read_guidance

    images = scan(data)
    return images if guidance is None else of_stage(images, read_guidance(guidance), TEST)


def _families(images: ImageSet, *named: str) -> Families:
    """Return the families that the options name, of which those without images are left out.

    Raises:
        UserError: a generator of fakes that none of the options names.
    """
    from ..records import FAKE
    from ..studies.deepfeaturex import Families

    families = Families(*(tuple(_listed(names)) for names in named))
    there = {entry.generator for entry in images if entry.label == FAKE}
    strange = sorted(there - {name for group in vars(families).values() for name in group})
    if strange:
        raise UserError(
            f"{images.root}: is {strange[0]!r} a GAN or a diffusion model, and was it trained on? "
            "Name it in --inner-gan, --outer-gan, --inner-dm or --outer-dm"
        )
    return families.among(sorted(there))


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
