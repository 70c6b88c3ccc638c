"""How a row or column of pixels lies between the model's cells: half-pixel centres, as in every bilinear resize."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, eq=False)
class Axis:
    """For each output pixel the first of the two cells that it lies between and the second one's weight, half-pixel centres.

    Cell i is the first one of `count[i]` pixels from `start[i]` on.
    """

    first: np.ndarray
    weight: np.ndarray
    start: np.ndarray
    count: np.ndarray

    @classmethod
    @lru_cache(maxsize=32)  # photos of one camera have one size
    def between(cls, num_cells: int, num_pixels: int) -> Axis:
        """The axis of `num_pixels` over `num_cells`; not to be written to, since all callers share it."""
        position = (np.arange(num_pixels) + 0.5) * (num_cells / num_pixels) - 0.5
        position = np.clip(position, 0, num_cells - 1)
        first = np.floor(position).astype(np.intp)
        count = np.bincount(first, minlength=num_cells)
        return cls(first, (position - first).astype(np.float32), np.cumsum(count) - count, count)
