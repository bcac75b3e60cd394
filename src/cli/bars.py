"""Progress: a bar a task on a terminal, a line every half minute elsewhere, so that a log lives."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

Tell = Callable[..., None]  # (what), (what, done, total) or (what, done, total, text)

EVERY = 30.0  # seconds between two lines of a log
WINDOW = 60.0  # seconds that a rate is taken over


class Pace:
    """How far one task is, how fast it goes and how long it will take."""

    def __init__(self, what: str, done: float = 0) -> None:
        self.what, self.since, self.done = what, time.monotonic(), done
        self.total: float | None = None
        self.text = ""
        self._seen = deque([(self.since, done)])  # when, how much was done; never empty: it is
        # read from another thread

    def add(self, done: float, total: float | None, text: str) -> None:
        """Take what was told. A rate starts from what an earlier run had done already."""
        now = time.monotonic()
        if done < self.done:  # it starts again
            self._seen = deque([(now, done)])
        self.done, self.total, self.text = done, total, text
        if done > self._seen[-1][1]:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > WINDOW:
            self._seen.popleft()

    def rate(self) -> tuple[float, float]:
        """Return how much is done in a second, over the last minute, and the seconds that are left.

        Both are 0 as long as they are unknown. While a step takes longer than those before it, the
        rate falls.
        """
        (first, before), (last, done) = self._seen[0], self._seen[-1]
        if done <= before or last <= first or not self.total:
            return 0.0, 0.0
        now, step = time.monotonic(), done - self._seen[-2][1]
        rate, since = (done - before) / (last - first), now - last
        if since > step / rate:
            rate, since = (done - before) / (now - first), 0.0
        return rate, max(1.0, (self.total - done) / rate - since)

    @property
    def over(self) -> bool:
        """Whether all of it is done."""
        return bool(self.total) and self.done >= (self.total or 0)

    def count(self) -> str:
        """Return how much is done of how much, ``64/144``; '' where nothing is counted."""
        if self.total:
            return f"{int(self.done)}/{self.total:.0f}"
        return f"{self.done:.0f}" if self.done else ""

    def speed(self) -> str:
        """Return rate and remaining time, ``2.1/s, 38 s left``, or how long it has taken."""
        if self.over:
            return f"finishing, {spoken(time.monotonic() - self._seen[-1][0])}"
        rate, left = self.rate()
        if not rate:
            return spoken(time.monotonic() - self.since)
        slow = f"{1 / rate:.2g} s" if rate > 0.1 else spoken(1 / rate)
        fast = f"{rate:.2g}" if rate < 10 else f"{rate:.0f}"
        return f"{f'{fast}/s' if rate >= 1 else f'{slow} each'}, {spoken(left)} left"

    def line(self) -> str:
        """Return all of it in one line for a log."""
        return f"{self.what}: {', '.join(filter(None, (self.count(), self.speed(), self.text)))}"


def spoken(seconds: float) -> str:
    """Return a time as ``8 s``, ``2 min 05 s`` or ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Tasks:
    """What was told so far; what is done, or of no known length, ends when something else is told.

    Until then it is shown: what comes after the last batch takes its time too.
    """

    def __init__(self) -> None:
        self.paces: dict[str, Pace] = {}
        self.now = Pace("loading libraries")

    def tell(self, what: str, done: float = 0, total: float | None = None, text: str = "") -> None:
        """Take what is being done, how far, of how much, and a remark."""
        if what != self.now.what and (self.now.total is None or self.now.over):
            self.paces.pop(self.now.what, None)
        if what not in self.paces:
            self.paces[what] = Pace(what, done)
        self.now = self.paces[what]
        self.now.add(done, total, text)


@contextmanager
def bars() -> Iterator[Tell]:
    """Yield a function that is told what is being done, how far, of how much, and a remark."""
    with _drawn() if sys.stderr.isatty() else _logged() as tell:
        yield tell


@contextmanager
def _drawn() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Speed(ProgressColumn):
        """Rate and remaining time, which go on between what is told."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["pace"].speed(), style="progress.remaining")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[count]}"),
        Speed(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, max_width=24)),
    )
    # What goes to a file or a pipe must not be drawn into the bars on the terminal.
    shared = sys.stdout.isatty()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, expand=True, redirect_stdout=shared
    ) as drawn:
        told = Tasks()
        bar: dict[str, Any] = {}

        def tell(what: str, done: float = 0, total: float | None = None, text: str = "") -> None:
            told.tell(what, done, total, text)
            for gone in bar.keys() - told.paces.keys():
                drawn.remove_task(bar.pop(gone))
            pace = told.now
            if what not in bar:
                bar[what] = drawn.add_task(
                    what, total=total, pace=pace, count=pace.count(), text=text
                )
            drawn.update(bar[what], completed=done, total=total, count=pace.count(), text=text)

        tell("loading libraries")
        try:
            yield tell
        finally:
            for one in bar.values():
                drawn.remove_task(one)


@contextmanager
def _logged() -> Iterator[Tell]:
    told, over = Tasks(), Event()

    def log() -> None:
        while not over.wait(EVERY):
            print(told.now.line(), file=sys.stderr, flush=True)

    told.tell("loading libraries")
    writer = Thread(target=log, daemon=True)
    writer.start()
    try:
        yield told.tell
    finally:
        over.set()
        writer.join()
