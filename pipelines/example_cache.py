"""Examples that were read once, kept for the next epoch: a file that all processes of a machine map into their memory."""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from models.home import home

Arrays = tuple[np.ndarray, ...]
_SHARE_OF_FREE_MEMORY = 4  # one part in so many, where nobody says a number


class ExampleCache:
    """The examples of `read` by their index, each read once as long as the budget lasts. To be pickled for loader processes.

    All examples have the shapes and dtypes of the first. The file is named by `key`, which must change with anything that `read`
    depends on, and is used again by the next training of the same examples; those of other trainings are deleted.
    """

    def __init__(self, read: Callable[[int], Arrays], num_examples: int, key: str, budget_bytes: int | None = None) -> None:
        self.read, self.num_examples = read, num_examples
        self.capacity = 0
        if budget_bytes == 0:
            return
        budget_bytes = budget_bytes or psutil.virtual_memory().available // _SHARE_OF_FREE_MEMORY
        self.layout = [(array.shape, array.dtype) for array in read(0)]
        self.example_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.layout)
        self.capacity = max(0, min(num_examples, (budget_bytes - num_examples) // self.example_bytes))
        self.path = _folder() / f"{_digest(key, _boot(), self.layout)}.examples"
        _delete_unused(self.path)
        self._open()

    def __len__(self) -> int:
        return self.num_examples

    def __getitem__(self, index: int) -> Arrays:
        if index >= self.capacity:
            return self.read(index)
        # One byte for each example says whether it is there. Two processes that write one at a time write the same.
        begin = self.num_examples + index * self.example_bytes
        stored = self._map[begin : begin + self.example_bytes]
        if not self._map[index]:
            arrays = self.read(index)
            stored[:] = np.concatenate([np.ascontiguousarray(array).view(np.uint8).ravel() for array in arrays])
            self._map[index] = 1
        return tuple(_split(stored, self.layout))

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_map": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        self._open()

    def _open(self) -> None:
        """Reserves the place at once: a disk that is full later would end the process at a write into the map."""
        self._map = None
        if not self.capacity:
            return
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            weakref.finalize(self, os.close, file)
            fcntl.flock(file, fcntl.LOCK_SH)  # until it is closed
            os.posix_fallocate(file, 0, self.num_examples + self.capacity * self.example_bytes)
            self._map = np.memmap(self.path, np.uint8, "r+")
        except OSError:
            self.capacity = 0  # no place: every example is read when it is needed


def _split(stored: np.ndarray, layout: list[tuple[tuple[int, ...], np.dtype]]) -> Arrays:
    """Copies of the arrays that lie in `stored` one behind the other."""
    ends = np.cumsum([math.prod(shape) * dtype.itemsize for shape, dtype in layout])
    parts = np.split(np.array(stored), ends[:-1])
    return tuple(part.view(dtype).reshape(shape) for part, (shape, dtype) in zip(parts, layout))


def _folder() -> Path:
    folder = home() / "cache" / socket.gethostname()  # a home may be shared by machines
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _boot() -> str:
    """Changes when the machine was started anew; what was being written then may be half there."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    return ""


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _delete_unused(kept: Path) -> None:
    for path in kept.parent.glob("*.examples"):
        if path == kept:
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where a process uses it
            path.unlink()
