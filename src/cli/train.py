"""``forensift train`` and ``forge-train``: a command a training, options are its settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from ..errors import UserError
from . import options
from .bars import bars
from .forge import photograph_paths
from .run import Out, scanned
from .verb import verb

if TYPE_CHECKING:
    from ..records import ImageSet

HELP = "Train a detector; each has options of its own: `forensift train resnet50 --help`."
FORGE_HELP = "Train a family of generators: `forensift forge-train dcgan-like --help`."
SPELLED = {"learning_rate": "--lr", "start": "--init", "balanced": "--class-bal"}

DETECTOR_DOC = """Train {name}; run the same command again to go on after an interruption.

Example: `forensift train {name} --data DIR --recipe {recipe}`

Recipes: {recipes}. A recipe's sizes are the published ones; on smaller images give `--load-size 0
--crop-size N`, where there are such options. Early stopping is the recipe's. Writes
`{name}.safetensors` (best epoch), `history.csv`, `checkpoint.pth` (to go on from) and
`manifest.json`; DeepFeatureX, which is four trainings, into a folder for each.
"""
FORGE_DOC = """Train a small {name} generator to re-synthesise photographs.

Example: `forensift forge-train {name} --out weights/forge`

A family may have several networks (`--member 2 --seed 1`), and some families build them
differently; the forge lets them take turns. A variant is another matter: the family's first
network, trained with another seed or loss, fine-tuned from the shipped weights, or trained on
other photographs; `forensift forge --weights DIR --families {name}--VARIANT` uses it. It decides
all that is not given.

Writes `STEM.safetensors`, where STEM is {name}, {name}-MEMBER or {name}--VARIANT,
`STEM-history.csv` with the PSNR on held-out photographs, and `manifest.json`. A run that was
interrupted goes on from its last tenth and ends the same.
"""


@dataclass(kw_only=True)
class TrainRun(Out):
    """A training."""

    device: options.Device = "auto"

    def how(self, name: str) -> dict[str, Any]:
        """Return what the library's training is given."""
        return {
            "device": options.choose_device(self.device),
            "progress": lambda done, total, text: self.tell(f"training {name}", done, total, text),
        }


@dataclass(kw_only=True)
class DetectorRun(TrainRun):
    """A detector's training on an image set."""

    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", help="Image set, or a folder with `train` and `val` in it."
        ),
    ]
    recipe: Annotated[str | None, typer.Option("--recipe", metavar="NAME")] = None
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 1
    bits: Annotated[
        int, typer.Option(help="Of the weights written: 32, 16, or 8 and fewer (rounded).")
    ] = 32
    difference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write only the tensors that differ from these weights, which must then lie "
            "beside the new ones, or be shipped.",
        ),
    ] = None

    def sets(self) -> tuple[ImageSet, ImageSet | None]:
        """Return the images, which DeepFeatureX itself splits."""

        return scanned(self.data), None


@dataclass(kw_only=True)
class ValidatedRun(DetectorRun):
    """A training that is validated on other images."""

    validation: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Image set; default: `DATA/val`.")
    ] = None

    def sets(self) -> tuple[ImageSet, ImageSet | None]:
        """Return training and validation images."""
        training, validation = self.data, self.validation
        if validation is None:
            if not training.exists():
                raise UserError(f"{training}: no such folder")
            if not all((training / name).is_dir() for name in ("train", "val")):
                raise UserError(f"{training} holds no train and val folder; give --validation DIR")
            training, validation = training / "train", training / "val"
        return self.chosen(training), self.chosen(validation)

    def chosen(self, folder: Path) -> ImageSet:
        """Return the images of a folder that are asked for."""
        from ..data import require_both_classes

        images = scanned(folder)
        require_both_classes(images)
        return images


@dataclass(kw_only=True)
class OneLogitRun(ValidatedRun):
    """A training that tells real from fake."""

    generator: Annotated[
        str | None, typer.Option(metavar="NAME", help="Use this generator's images alone.")
    ] = None
    classes: Annotated[
        str, typer.Option(metavar="A,B", help="Use these folders alone (car,cat,chair,horse).")
    ] = ""

    def chosen(self, folder: Path) -> ImageSet:
        """Return the images of a folder that are asked for."""
        from ..records import ImageSet

        images = super().chosen(folder)
        if self.generator is not None:
            if self.generator not in images.generators:
                raise UserError(f"{folder}: no generator {self.generator!r}; {images.generators}")
            images = images.only(generator=self.generator)
        if self.classes:
            names = self.classes.split(",")
            known = sorted({entry.class_name for entry in images})
            if missing := [name for name in names if name not in known]:
                raise UserError(f"{folder}: no class {', '.join(missing)}; there are {known}")
            kept = tuple(entry for entry in images if entry.class_name in names)
            images = ImageSet(images.root, kept, images.layout)
        return images


@dataclass(kw_only=True)
class GeneratorRun(TrainRun):
    """A generator's training on photographs."""

    variant: Annotated[
        str | None,
        typer.Option(
            metavar="seed-N|loss-hinge|loss-l1|finetune|photos",
            help="Train the family again in another way; decides all that is not given.",
        ),
    ] = None
    regime: Annotated[
        str | None,
        typer.Option(
            metavar="quick|matched",
            help="Training of the variant: half a minute, or (default) a minute to the shipped "
            "quality.",
        ),
    ] = None
    photos: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|train|train-interiors|train-others|validation|all",
            help="Photographs to train on; by default train.",
        ),
    ] = None
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|validation|test",
            help="Photographs for the PSNR; by default validation, or test for a network that is "
            "trained on validation.",
        ),
    ] = None


def detector_command(name: str) -> Callable[..., None]:
    """Return the command that trains a detector."""
    from ..training import get_recipe, get_training, train

    training = get_training(name)
    several = {"dna-det": ValidatedRun, "deepfeaturex": DetectorRun}

    def run_it(run: Any, given: dict[str, Any]) -> Any:
        recipes = list(training.recipes)
        if run.recipe is None and len(recipes) > 1:
            raise UserError(f"--recipe is missing: choose {', '.join(recipes)}")
        settings = get_recipe(name, run.recipe or recipes[0], **given)
        images, validation = run.sets()
        return train(
            name,
            images,
            validation,
            settings,
            run.folder,
            bits=run.bits,
            difference=run.difference,
            workers=run.workers,
            **run.how(name),
        )

    recipes = list(training.recipes)
    doc = DETECTOR_DOC.format(name=name, recipe=recipes[0], recipes=", ".join(recipes))
    own, kind = dataclasses.fields(training.settings), several.get(name, OneLogitRun)
    return _command("train", kind, own, list(training.recipes.values()), run_it, doc)


def generator_command(family: str) -> Callable[..., None]:
    """Return the command that trains a family's generator."""
    from ..training.generators import GeneratorSettings, GeneratorTask, settings_of, train_generator
    from ..training.settings import changed
    from ..training.variants import REGIME, get_variant, variant_name, variant_settings

    def run_it(run: Any, given: dict[str, Any]) -> Any:
        settings, photos = GeneratorSettings(), run.photos
        if run.variant is not None:
            if given["member"] not in (None, 1):
                raise UserError("--variant is of a family's first network: leave --member out")
            variant = get_variant(run.variant)
            settings = variant_settings(family, variant, run.regime or REGIME)
            photos = photos or variant.photos
            if given["start"] and given.get("encoder_only") is None:
                settings = changed(settings, {"encoder_only": False})
        elif run.regime is not None:
            raise UserError("--regime is of a --variant: give one, or leave --regime out")
        settings, photos = changed(settings, given), photos or "train"
        held_out = run.held_out or ("test" if photos == "validation" else "validation")
        stem = family if settings.member == 1 else f"{family}-{settings.member}"
        stem = stem if run.variant is None else variant_name(family, run.variant)
        training, validation = photograph_paths(photos), photograph_paths(held_out)
        task = GeneratorTask(family, training, validation, settings, stem)
        return train_generator(task, run.folder, **run.how(stem))

    known = settings_of(family)
    own = [one for one in dataclasses.fields(GeneratorSettings) if one.name in known]
    doc = FORGE_DOC.format(name=family)
    return _command("forge_train", GeneratorRun, own, [GeneratorSettings()], run_it, doc)


def _command(
    name: str,
    kind: type[TrainRun],
    own: Iterable[dataclasses.Field[Any]],
    recipes: Sequence[Any],
    run_it: Callable[[Any, dict[str, Any]], Any],
    doc: str,
) -> Callable[..., None]:
    """Return a verb whose own options are fields of the recipes' settings, None where not given."""
    types = get_type_hints(type(recipes[0]))
    hints = {one.name: _option(one, types[one.name], recipes) for one in own}

    def function(run: Any, **given: Any) -> Any:
        for key, value in given.items():
            if get_origin(types[key]) is tuple and value is not None:
                given[key] = tuple(one for one in value.split(",") if one)
        return run_it(run, given)

    first = inspect.Parameter("run", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    rest = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for key, hint in hints.items()
    ]
    function.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
    function.__annotations__ = {"run": kind, **hints}
    function.__name__, function.__doc__ = name, doc
    return verb(function)


def _option(one: dataclasses.Field[Any], kind: Any, recipes: Sequence[Any]) -> Any:
    flag = SPELLED.get(one.name, "--" + one.name.replace("_", "-"))
    listed = get_origin(kind) is tuple
    values = {getattr(recipe, one.name) for recipe in recipes}
    shown = ",".join(next(iter(values))) if listed else str(next(iter(values)))
    default = f"Default: {shown}." if len(values) == 1 else "Default: the recipe's."
    among = "|".join(map(str, one.metadata["among"]))
    told = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=f"{one.metadata['said']} {default if shown and kind is not bool else ''}".rstrip(),
        min=one.metadata["least"],
        metavar=among or ("A,B" if listed else None),
    )
    return Annotated[(str if listed else kind) | None, told]


def _group(known: str, command: Callable[[str], Callable[..., None]], told: str) -> typer.Typer:
    """Return a group whose commands are made when one is asked for: their options need torch.

    known: where the names of the commands are, ``module:name``.
    """

    def names() -> list[str]:
        module, _, name = known.partition(":")
        return list(getattr(import_module(f"..{module}", __package__), name))

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return names()

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            with bars():
                known = names()
            if cmd_name not in known:
                return None
            alone = typer.Typer(rich_markup_mode="markdown", add_completion=False)
            alone.command(cmd_name)(command(cmd_name))
            return typer.main.get_command(alone)

    return typer.Typer(cls=Group, help=told, no_args_is_help=True, rich_markup_mode="markdown")


app = _group("training:TRAININGS", detector_command, HELP)
forge_app = _group("forge:TRAINED", generator_command, FORGE_HELP)
