"""Run lengths of all regions of a map at once, and COCO's compressed form of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from faster_coco_eval import mask as coco_mask


def run_edges(array: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin in the flattened array, ascending, and its size."""
    flat = array.ravel()
    return np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])


def find_runs(region_map: np.ndarray, num_regions: int) -> list[np.ndarray]:
    """For each region its runs (n, 2) int64, [first, behind the last] place in the flattened map, ascending.

    Shapes: region_map (h, w) int32, 0 for none, regions numbered from 1. A run goes on from one row to the next. One pass over
    the map, however many regions there are.
    """
    edges = run_edges(region_map)
    owners = region_map.ravel()[edges[:-1]]
    order = np.argsort(owners, kind="stable")
    runs = np.stack([edges[:-1], edges[1:]], axis=1)[order]
    bounds = np.searchsorted(owners[order], np.arange(1, num_regions + 2)).tolist()
    return [runs[start:stop] for start, stop in pairwise(bounds)]


def count_runs(runs: np.ndarray, size: int) -> list[int]:
    """The lengths of the stretches of 0 and 1 by turns, 0 first, of a mask with `size` pixels; its end only where that is not 0."""
    touching = runs[:-1, 1] == runs[1:, 0]
    if touching.any():
        runs = np.stack([runs[np.append(True, ~touching), 0], runs[np.append(~touching, True), 1]], axis=1)
    counts = np.diff(runs.ravel(), prepend=0, append=size).tolist()
    return counts if counts[-1] else counts[:-1]


def coco_run_lengths(region_map: np.ndarray, num_regions: int) -> list[dict]:
    """For each region COCO's compressed run lengths: `size` [height, width] and `counts`, a string."""
    height, width = region_map.shape
    found = find_runs(region_map.T, num_regions)  # COCO counts down the columns
    plain = [{"size": [height, width], "counts": count_runs(runs, region_map.size)} for runs in found]
    return [_compress(each, height, width) for each in plain]


def _compress(run_lengths: dict, height: int, width: int) -> dict:
    compressed = coco_mask.frPyObjects(run_lengths, height, width)
    return {"size": [height, width], "counts": compressed["counts"].decode("ascii")}
