"""Work beside requests that they hardly notice: versions are loaded in steps, and threads stand behind others."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from models.home import home
from models.spec import SegmenterSpec

_POLL_S = 0.005
_PATIENCE_S = 1
_LONGEST_TURN_S = 60  # of another process, which hangs then

_NICE = 10

GiveWay = Callable[[], None]
"""To be called before each step: returns when no request is inside, or after a second, so that a version comes to serve under any load."""


def at_once() -> None:
    """The `GiveWay` of who has nobody to disturb."""


class Champion(Protocol):
    """What a version is loaded beside, and compared with."""

    spec: SegmenterSpec
    forward_s: float
    num_inside: int


@contextmanager
def loading_beside(champion: Champion | None) -> Iterator[GiveWay]:
    """A turn to load, and what to call between its steps. Replicas of a machine load one after another, so that others answer."""
    if champion is None:
        yield at_once
        return
    folder = home() / "served"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".loading").open("w") as file:  # closing it ends the turn, also where the process is killed
        deadline = time.monotonic() + _LONGEST_TURN_S
        while not _is_mine(file.fileno()) and time.monotonic() < deadline:
            time.sleep(10 * _POLL_S)
        yield partial(_while_nobody_asks, champion)


def _while_nobody_asks(champion: Champion) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while champion.num_inside and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _is_mine(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def be_nice() -> None:
    """Lets this process's other threads go before the present one. Ray's workers are nice themselves, so this adds to what they are."""
    os.nice(_NICE)  # Linux: of the calling thread alone
