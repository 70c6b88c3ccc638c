"""Who is let in: a request that cannot be answered in time is told so at once, and when to come back.

One `Admission` for each replica of the ingress. It counts what is inside the graph and measures how fast that drains, whatever
stage is the slow one and wherever it runs; so it needs to know nothing of the stages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SMOOTHING = 0.1  # of the newest interval; answers come in bursts of a batch
_CAUTION = 3  # in mean errors: so few of those let in come late
_BULK_SHARE = 0.5  # of the places, so that a flood of bulk work leaves room for people


class Refused(RuntimeError):
    """Not now; `retry_after_s` says when."""

    def __init__(self, message: str, retry_after_s: float = 1) -> None:
        super().__init__(message, retry_after_s)
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return self.message


class Overloaded(Refused):
    """More is waiting than can be answered in time."""


class DeadlinePassed(Refused):
    """Let in, but its turn did not come in time."""


class Admission:
    """Counts and times what is inside. To be used from one event loop.

    A request is let in while there is a place, and while, at the measured pace, its turn comes before its deadline.
    """

    def __init__(self, num_places: int, clock: Callable[[], float] = time.time) -> None:
        self._num_places, self._clock = num_places, clock
        self._num_interactive = self._num_bulk = 0
        self._interval_s: float | None = None  # between two answers while there is work
        self._error_s = 0.0  # by how much answers came later than foretold: batches and other lanes make them uneven
        self._last_answer = 0.0

    @property
    def num_inside(self) -> int:
        return self._num_interactive + self._num_bulk

    def num_ahead(self, *, bulk: bool) -> int:
        """How many will be answered before one that comes now."""
        return self.num_inside if bulk else self._num_interactive

    def num_in_lane(self, *, bulk: bool) -> int:
        return self._num_bulk if bulk else self._num_interactive

    @contextmanager
    def place(self, *, bulk: bool) -> Iterator[None]:
        """Holds a place while the body runs, and measures it."""
        begin = self._clock()
        foretold_s = (self.num_ahead(bulk=bulk) + 1) * (self._interval_s or 0)
        if self.num_inside == 0:
            self._last_answer = begin
        self._count(bulk, 1)
        try:
            yield
        except BaseException:
            self._count(bulk, -1)
            raise
        self._count(bulk, -1)
        self._measure(begin + foretold_s)

    def check(self, *, bulk: bool, deadline: float) -> None:
        """Raises `Overloaded` where there is no place, or none in time. `deadline` is in seconds of `time.time()`."""
        num_places = max(1, int(self._num_places * _BULK_SHARE)) if bulk else self._num_places
        num_ahead = self.num_ahead(bulk=bulk)
        wait_s = num_ahead * (self._interval_s or 0)
        if num_ahead >= num_places:
            raise Overloaded(
                f"{num_ahead} requests are waiting, which is the most; come back in {_seconds(wait_s)} s", retry_after_s=_seconds(wait_s)
            )
        late_s = self._clock() + wait_s + _CAUTION * self._error_s - deadline
        if late_s > 0 and num_ahead:  # with nobody ahead a try tells more than what was
            raise Overloaded(
                f"the answer would come {late_s:.1f} s after the deadline; allow more time, or come back in {_seconds(late_s)} s",
                retry_after_s=_seconds(late_s),
            )

    def _count(self, bulk: bool, change: int) -> None:
        if bulk:
            self._num_bulk += change
        else:
            self._num_interactive += change

    def _measure(self, foretold: float) -> None:
        now = self._clock()
        interval_s = now - self._last_answer
        self._last_answer = now
        if self._interval_s is None:  # nothing could be foretold
            self._interval_s = interval_s
            return
        self._interval_s += _SMOOTHING * (interval_s - self._interval_s)
        self._error_s += _SMOOTHING * (max(0.0, now - foretold) - self._error_s)


def _seconds(duration_s: float) -> int:
    """Whole seconds, as Retry-After wants them, at least one."""
    return max(1, math.ceil(duration_s))
