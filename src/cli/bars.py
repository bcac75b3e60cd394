"""Progress: a bar a task on a terminal, a line a minute elsewhere, so that a log shows life."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[..., None]  # (what, done, total) or (what, done, total, text)

EVERY = 60.0  # seconds between two lines of a log


@contextmanager
def bars() -> Iterator[Tell]:
    """Yield a function that is told what is being done, how far, of how much, and a remark."""
    if sys.stderr.isatty():
        with _drawn() as tell:
            yield tell
    else:
        yield _logged()


@contextmanager
def _drawn() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(compact=True),
    )
    # What goes to a file or a pipe must not be drawn into the bars on the terminal.
    shared = sys.stdout.isatty()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, expand=True, redirect_stdout=shared
    ) as drawn:
        tasks = {}

        def tell(what: str, done: float, total: float | None, text: str = "") -> None:
            state = f"{done:.0f}/{total:.0f} {text}" if total else f"{done:.0f} {text}"
            if what not in tasks:
                tasks[what] = drawn.add_task(what, total=total, state=state.rstrip())
            drawn.update(tasks[what], completed=done, total=total, state=state.rstrip())
            if total and done >= total:
                drawn.update(tasks[what], visible=False)

        yield tell


def _logged() -> Tell:
    last = time.monotonic()

    def tell(what: str, done: float, total: float | None, text: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            of = f" of {total:.0f}" if total else ""
            print(f"{what}: {done:.0f}{of} {text}".rstrip(), file=sys.stderr, flush=True)

    return tell
