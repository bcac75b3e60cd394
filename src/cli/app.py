"""The command line: one verb a file, registered here; errors that a user can mend are one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

UsageError = typer.BadParameter.__base__  # Typer's own or click's, by Typer's version

# Panel of the help → verb, or command.verb, with the module and the function that it is.
# Each module is quick to import: what needs torch is imported inside its functions.
VERBS: dict[str, dict[str, str]] = {
    "Start here": {"doctor": "doctor", "demo": "demo"},
    "Images": {"scan": "scan", "spectra": "spectra", "forge": "forge", "gradients": "gradients"},
    "How well does it do?": {
        "score": "score",
        "evaluate": "evaluate",
        "robustness": "robustness",
        "attribute": "attribute:app",
        "deepfeaturex": "deepfeaturex:app",
    },
    "What does it look at?": {
        "explore": "explore",
        "explain": "explain",
        "faithfulness": "faithfulness",
        "rank": "rank",
        "dropout": "dropout",
        "prune": "prune",
        "bias-units": "bias_units",
        "transfer": "transfer",
        "colour": "colour",
        "median-test": "median_test",
        "patches": "patches",
        "embed": "embed",
    },
    "Trainings and studies": {
        "study": "study",
        "report": "report",
        "train": "train:app",
        "forge-train": "train:forge_app",
        "planted": "planted",
        "causal": "causal",
        "reproduce": "reproduce:app",
    },
}


class Verbs(TyperGroup):
    """The verbs; what is wrong with the words of a command is one line too."""

    def make_context(self, *given: Any, **extra: Any) -> Any:
        """Read the words before the verb."""
        with _one_line():
            return super().make_context(*given, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Read the verb's words, and run it."""
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except UsageError as error:  # type: ignore[misc]
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            raise
        text = " ".join(error.format_message().split()).rstrip(".")
        typer.echo(f"error: {text}; see `{error.ctx.command_path} --help`", err=True)
        raise typer.Exit(2) from None


app = typer.Typer(
    name="forensift",
    cls=Verbs,
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


for _panel, _verbs in VERBS.items():
    for _verb, _where in _verbs.items():
        _module, _, _name = _where.partition(":")
        _found = getattr(import_module(f".{_module}", __package__), _name or _module)
        if isinstance(_found, typer.Typer):
            app.add_typer(_found, name=_verb, rich_help_panel=_panel)
        else:
            app.command(_verb, rich_help_panel=_panel)(_found)


def main() -> None:
    """Run the command line (the console script ``forensift``)."""
    # Refused images are named in skipped.csv; Pillow's own line about them says less.
    warnings.filterwarnings("ignore", message=".*could be decompression bomb DOS attack")
    app()


if __name__ == "__main__":
    main()
