"""The command line: one verb a file, registered here; errors that a user can mend are one line."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..errors import UserError
from . import (
    attribute,
    colour,
    deepfeaturex,
    demo,
    doctor,
    dropout,
    embed,
    evaluate,
    explain,
    faithfulness,
    forge,
    gradients,
    median_test,
    patches,
    planted,
    rank,
    reproduce,
    robustness,
    scan,
    score,
    train,
    transfer,
)

# Each module is quick to import: what needs torch is imported inside its function.
VERBS: dict[str, Callable[..., None]] = {
    "scan": scan.scan,
    "forge": forge.forge,
    "gradients": gradients.gradients,
    "evaluate": evaluate.evaluate,
    "score": score.score,
    "explain": explain.explain,
    "robustness": robustness.robustness,
    "faithfulness": faithfulness.faithfulness,
    "rank": rank.rank,
    "dropout": dropout.dropout,
    "colour": colour.colour,
    "median-test": median_test.median_test,
    "reproduce": reproduce.reproduce,
    "patches": patches.patches,
    "embed": embed.embed,
    "transfer": transfer.transfer,
    "planted": planted.planted,
    "demo": demo.demo,
    "doctor": doctor.doctor,
}

app = typer.Typer(
    name="forensift",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"forensift {version('forensift')}")
        raise typer.Exit


@app.callback()
def forensift(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop."),
    ] = False,
) -> None:
    """Find out which feature maps a detector of generated images looks at.

    Start with `forensift doctor`, then `forensift demo`. Every verb has its own `--help`.
    Exit code: 0, or 2 with one line that says what is wrong with the input.
    """


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the verb with a UserError as one line on stderr and exit code 2."""

    @functools.wraps(verb)
    def run(*args: Any, **options: Any) -> None:
        try:
            verb(*args, **options)
        except UserError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return run


for _name, _verb in VERBS.items():
    app.command(_name)(guarded(_verb))

_attribute = typer.Typer(help=attribute.HELP, no_args_is_help=True, rich_markup_mode="markdown")
for _name, _verb in attribute.VERBS.items():
    _attribute.command(_name)(guarded(_verb))
app.add_typer(_attribute, name="attribute")
_deepfeaturex = typer.Typer(
    help=deepfeaturex.HELP, no_args_is_help=True, rich_markup_mode="markdown"
)
for _name, _verb in deepfeaturex.VERBS.items():
    _deepfeaturex.command(_name)(guarded(_verb))
app.add_typer(_deepfeaturex, name="deepfeaturex")

for _name, _group in train.apps().items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the command line (the console script ``forensift``)."""
    # Refused images are named in skipped.csv; Pillow's own line about them says less.
    warnings.filterwarnings("ignore", message=".*could be decompression bomb DOS attack")
    app()


if __name__ == "__main__":
    main()
