"""Work on many files in all cores; a file that kills its process costs itself and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
from loky import ProcessPoolExecutor
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, crashed: Callable[[Item], Result], what: str, few: int = 64
) -> list[Result]:
    """`function` of each item, in their order; `crashed` of an item whose process dies of it. A progress bar shows `what`.

    Less than `few` items are done here, before processes would have started. loky's processes import `function`'s module only, not the program's, which in training would be Ray and PyTorch.
    """
    results: list[Result] = []
    with tqdm(total=len(items), desc=what, unit="photo", disable=None, leave=False) as bar:
        if len(items) < few:
            for item in items:
                results.append(function(item))
                bar.update()
            return results
        while len(results) < len(items):
            try:
                _extend(results, function, items[len(results) :], bar)
            except BrokenProcessPool:
                suspects = items[len(results) : len(results) + _CHUNK * (_num_cpus() + 1)]
                results += _one_by_one(function, suspects, crashed)
                bar.update(len(suspects))
    return results


def _extend(results: list, function: Callable, items: Sequence, bar: tqdm) -> None:
    with ProcessPoolExecutor(_num_cpus(), initializer=_one_thread) as pool:
        for result in pool.map(function, items, chunksize=_CHUNK):
            results.append(result)
            bar.update()


def _one_by_one(function: Callable[[Item], Result], items: Sequence[Item], crashed: Callable[[Item], Result]) -> list[Result]:
    """The results of items among which is one that kills its process: each time that happens, it is the one in hand."""
    results: list[Result] = []
    while len(results) < len(items):
        try:
            with ProcessPoolExecutor(1, initializer=_one_thread) as pool:
                for item in items[len(results) :]:
                    results.append(pool.submit(function, item).result())
        except BrokenProcessPool:
            results.append(crashed(items[len(results)]))
    return results


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0))


def _one_thread() -> None:
    cv2.setNumThreads(1)
