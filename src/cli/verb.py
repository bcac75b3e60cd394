"""A verb is a typed function ``(run, own options …) → result``; this makes a command of it."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from threading import current_thread, main_thread
from types import SimpleNamespace
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from ..errors import UserError, counted
from .bars import bars
from .run import Out

COMMON = "Common options"
NAMED = 5  # images left out that are named on the terminal; skipped.csv names all


def verb(function: Callable[..., Any]) -> Callable[..., None]:
    """Turn ``function(run: Run, own options …) -> result`` into a command of all of them.

    The fields of the run's class become options beside the function's own. The result is saved to
    ``--out``, printed, or with ``--json`` printed as JSON alone; a function that returns None does
    so itself. A UserError is one line on stderr and exit code 2.
    """
    first, *own = inspect.signature(function).parameters.values()
    hints = _hints(function)
    kind = hints[first.name]
    common = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=_in_panel(hint),
        )
        for one in fields(kind)
        if not one.metadata.get("hidden")
        for hint in [_hints(kind)[one.name]]
    ]
    named = [one.replace(annotation=hints[one.name], kind=one.KEYWORD_ONLY) for one in own]
    # DETECTOR comes before what it is to look at; a verb's own options before the common ones.
    words = [one for one in (*common, *named) if _is_argument(one.annotation)]
    every = [*words, *(one for one in (*named, *common) if one not in words)]
    name = function.__name__.replace("_", "-")

    def command(**given: Any) -> None:
        shared = {one.name: given.pop(one.name) for one in common}
        plain = {key: str(value) if value is not None else None for key, value in given.items()}
        run = kind(**shared, verb=name, given=plain)
        with one_line_errors([one.name for one in every], run):
            with bars() as tell:
                run.tell = tell
                result = _skipped_saved(run, lambda: function(run, **given))
                view = None if result is None else _saved(run, result)
            if view is not None:
                finish(run, view)
            if "folder" in vars(run):  # all is saved now
                from ..files import clear_torn

                shutil.rmtree(run.folder / "partials", ignore_errors=True)
                clear_torn(run.folder)

    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in every}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def _saved(run: Out, result: Any) -> Any:
    """Save a verb's result, and return its view."""
    from .. import views

    view = views.view_of(result)
    views.save(result, run.folder, run.facts(), run.tell)
    return view


def finish(run: Out, view: Any) -> None:
    """Print what a verb found."""
    for one in run.skipped[:NAMED]:
        print(f"skipped {one.path}: {one.reason}", file=sys.stderr)
    if run.json:
        print(json.dumps(as_json(run, view), indent=2, ensure_ascii=False))
        return
    from .tables import console, show

    show(view, console())
    number = len(run.skipped)
    counts = f"{counted(number, 'image')} left out (skipped.csv); " if number else ""
    pages = [name for name in view.files if name.endswith(".html")]
    where = f"open {run.folder / pages[0]}" if pages else f"tables in {run.folder}"
    print(f"{counts}{where}")


def as_json(run: Out, view: Any) -> dict[str, Any]:
    """Return a view for scripts: what it says, facts of the run, tables as lists of rows."""
    facts = json.loads(json.dumps({**run.facts(), **view.facts}, default=str))
    tables = {
        name: json.loads(table.to_json(orient="records", double_precision=15))
        for name, table in view.tables.items()
    }
    return {"verb": run.verb, "said": view.said, "facts": facts, "tables": tables}


@contextmanager
def one_line_errors(names: list[str], run: Any = None) -> Iterator[None]:
    """Print a UserError as one line, the options of a command by their flags; exit code 2.

    A signal to stop, Ctrl-C or SIGTERM, leaves the terminal and partial results in order.
    """
    here = current_thread() is main_thread()
    before = signal.signal(signal.SIGTERM, _stop) if here else None
    try:
        yield
    except UserError as error:
        text = " ".join(str(error).split())
        for name in sorted(names, key=len, reverse=True):
            if "_" in name:
                text = re.sub(rf"(?<![\w-]){name}(?!\w)", "--" + name.replace("_", "-"), text)
        typer.echo(f"error: {text}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stopped:
        again = "; the same command with --resume goes on" if hasattr(run, "resume") else ""
        typer.echo(f"interrupted{again}", err=True)
        raise typer.Exit(128 + (stopped.args or (signal.SIGINT,))[0]) from None
    finally:
        if here:
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt(number)


def _skipped_saved(run: Out, work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns; unusable images are listed also after an error."""
    try:
        return work()
    finally:
        if "folder" in vars(run) and hasattr(run, "max_skipped"):
            from ..files import write_csv
            from ..records import skipped_table

            write_csv(run.folder / "skipped.csv", skipped_table(run.skipped))


def _hints(of: Any) -> dict[str, Any]:
    """Return annotations with their Typer options; what only type checkers import is left out."""
    found: dict[str, Any] = {}
    for one in reversed(inspect.getmro(of)) if inspect.isclass(of) else (of,):
        if one is object:
            continue
        space = vars(sys.modules[one.__module__])
        for name, hint in getattr(one, "__annotations__", {}).items():
            if name != "return":
                try:
                    alone = SimpleNamespace(__annotations__={name: hint})
                    found |= get_type_hints(alone, space, include_extras=True)
                except NameError:
                    found[name] = Any
    return found


def _is_argument(hint: Any) -> bool:
    return any(isinstance(one, ArgumentInfo) for one in getattr(hint, "__metadata__", ()))


def _in_panel(hint: Any) -> Any:
    for one in getattr(hint, "__metadata__", ()):
        if isinstance(one, OptionInfo) and one.rich_help_panel is None:
            one.rich_help_panel = COMMON
    return hint
