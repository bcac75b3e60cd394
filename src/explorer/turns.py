"""One computation at a time, urgent ones first, and those that nobody waits for any more none."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition, Lock

NOW, SOON, LATER = 0, 1, 2  # a number that moves; what is looked at next; what is made ready
LANES = 512  # of pages and what they ask, that are remembered


class Stale(Exception):
    """The page has asked for something newer in the meantime."""


class Turns:
    """Who computes: a network's hooks belong to one at a time.

    Long computations ask for a turn at each step, so that a short one need not wait for the whole.
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = count()
        self._busy = False

    @contextmanager
    def turn(self, urgency: int) -> Iterator[None]:
        """Wait for a turn, and hold it while the block runs."""
        with self._condition:
            own = (urgency, next(self._numbers))
            heapq.heappush(self._waiting, own)
            self._condition.wait_for(lambda: not self._busy and self._waiting[0] == own)
            heapq.heappop(self._waiting)
            self._busy = True
        try:
            yield
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()


class Latest:
    """Which request of a lane is the newest: older ones are not worth computing."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def check(self, lane: str, number: int) -> Callable[[], None]:
        """Note a request, and return what raises ``Stale`` once there is a newer one."""
        with self._lock:
            self._newest[lane] = max(number, self._newest.get(lane, number))
            self._newest.move_to_end(lane)
            while len(self._newest) > LANES:
                self._newest.popitem(last=False)

        def fresh() -> None:
            if self._newest.get(lane, number) > number:
                raise Stale

        return fresh
