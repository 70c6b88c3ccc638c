"""What a process holds in memory, within a budget: the least recently used goes first, nothing that is at work."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from threading import Lock
from typing import Generic, Protocol, TypeVar

from deployments.admission import Refused


class Held(Protocol):
    num_bytes: int
    num_inside: int
    stays: bool


T = TypeVar("T", bound=Held)


class NoRoom(Refused):
    """A version that does not fit beside what must stay."""


class Shelf(Generic[T]):
    """Things by key. Safe for threads."""

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._things: dict[Hashable, T] = {}
        self._used_at: dict[Hashable, float] = {}
        self._lock = Lock()

    def get(self, key: Hashable) -> T | None:
        """The thing, which counts as used now; None where it is not here any more."""
        thing = self._things.get(key)
        if thing is not None:
            self._used_at[key] = time.monotonic()
        return thing

    def peek(self, key: Hashable) -> T | None:
        """The same, which counts as no use."""
        return self._things.get(key)

    def things(self) -> list[T]:
        return list(self._things.values())

    def drop_unused(self, unused_s: float, group: Callable[[Hashable], Hashable]) -> None:
        """Drops what was not used for so long, but of each group the last used thing."""
        with self._lock:
            newest = {group(key): key for key in sorted(self._things, key=self._used_at.__getitem__)}
            before = time.monotonic() - unused_s
            old = [
                key
                for key, each in self._things.items()
                if key not in newest.values() and not each.num_inside and not each.stays and self._used_at[key] < before
            ]
            for key in old:
                del self._things[key]
        if old:
            give_memory_back()

    def put(self, key: Hashable, thing: T) -> None:
        """Room was made for it before."""
        with self._lock:
            self._used_at[key] = time.monotonic()
            self._things[key] = thing

    def make_room(self, num_bytes: int, keep: Collection[Hashable]) -> None:
        """Drops what was not used for longest, until `num_bytes` more fit. Raises `NoRoom`, and then drops nothing."""
        if self._max_bytes is None:
            return
        with self._lock:
            excess = sum(each.num_bytes for each in self._things.values()) + num_bytes - self._max_bytes
            droppable = [key for key, each in self._things.items() if key not in keep and not each.num_inside and not each.stays]
            droppable.sort(key=self._used_at.__getitem__)
            if excess > sum(self._things[key].num_bytes for key in droppable):
                raise NoRoom(
                    f"{num_bytes} bytes more do not fit model_memory_bytes={self._max_bytes} beside what is in use; come back later"
                )
            dropped = []
            while excess > 0:
                dropped.append(droppable.pop(0))
                excess -= self._things[dropped[-1]].num_bytes
                del self._things[dropped[-1]]
        if dropped:
            give_memory_back()

    def drop(self, key: Hashable) -> None:
        """Whoever is using it still finishes with it."""
        with self._lock:
            self._things.pop(key, None)
        give_memory_back()


def give_memory_back() -> None:
    """Returns what was freed to the kernel, which the replicas' settings of malloc (`app.py`) would keep for the next batch."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library has its own ways
        ctypes.CDLL("libc.so.6").malloc_trim(0)
