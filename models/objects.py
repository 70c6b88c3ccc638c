"""The things on a class map: connected regions of one class, each with box, area and score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from models.label_set import IGNORE_INDEX, LabelSet


@dataclass(frozen=True)
class SegmentedObject:
    """One object; `box` is [x, y, width, height] in pixels, `score` the mean confidence in [0, 1], `area` in pixels."""

    class_index: int
    score: float
    box: tuple[int, int, int, int]
    area: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns of the box."""
        x, y, width, height = self.box
        return slice(y, y + height), slice(x, x + width)


@dataclass(frozen=True)
class ObjectMap:
    """The objects, largest first, and where they are; what is no object's is background or `IGNORE_INDEX`.

    Shapes: class_map (h, w) uint8; region_map (h, w) int32, 0 where no object is, else the object's place in `objects` plus 1.
    """

    objects: tuple[SegmentedObject, ...]
    region_map: np.ndarray
    class_map: np.ndarray


def find_objects(class_map: np.ndarray, confidence: np.ndarray, label_set: LabelSet, *, min_score: float = 0.0) -> ObjectMap:
    """The 8-connected regions of every class but background whose score, as rounded, is at least `min_score`.

    Shapes: both (h, w) uint8, confidence being probability times 255. The pixels of a region that is left out become what
    `left_out_index` says; without `min_score` the objects together are the whole class map.
    """
    present = np.flatnonzero(np.bincount(class_map.ravel(), minlength=IGNORE_INDEX + 1)).tolist()
    classes = [index for index in present if index not in (label_set.background, IGNORE_INDEX)]
    regions, found = label_regions(class_map, classes, connectivity=8)
    sums = np.bincount(regions.ravel(), weights=confidence.ravel(), minlength=len(found) + 1)[1:]
    scores = np.round(sums / np.maximum(found[:, 5], 1) / 255, 4)
    order = np.argsort(-found[:, 5], kind="stable")
    kept = order[scores[order] >= min_score]
    numbers = np.zeros(len(found) + 1, np.int32)
    numbers[kept + 1] = np.arange(1, len(kept) + 1)
    objects = tuple(
        SegmentedObject(class_index, score, (x, y, width, height), area)
        for (class_index, x, y, width, height, area), score in zip(found[kept].tolist(), scores[kept].tolist())
    )
    region_map = numbers[regions]
    if len(kept) < len(found):
        class_map = np.where((regions > 0) & (region_map == 0), np.uint8(left_out_index(label_set)), class_map)
    return ObjectMap(objects, region_map, class_map)


def keep_classes(class_map: np.ndarray, classes: Iterable[int], label_set: LabelSet) -> np.ndarray:
    """`class_map` (h, w) uint8 with only `classes` on it; all else becomes what `left_out_index` says."""
    lookup = np.full(IGNORE_INDEX + 1, left_out_index(label_set), np.uint8)
    kept = list(classes)
    lookup[kept] = kept
    return cv2.LUT(class_map, lookup)


def left_out_index(label_set: LabelSet) -> int:
    """The value of pixels that are left out: background, or `IGNORE_INDEX` where no class is background."""
    return IGNORE_INDEX if label_set.background is None else label_set.background


def label_regions(class_map: np.ndarray, classes: Iterable[int], *, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """A map (h, w) int32 of the connected regions of `classes`, numbered from 1, and a table of them, one row each.

    The table's columns (n, 6) int64: class index, x, y, width, height, area. Work is done within each class's box.
    """
    region_map, tables, num_regions = np.zeros(class_map.shape, np.int32), [np.zeros((0, 6), np.int64)], 0
    for class_index in classes:
        mask = cv2.inRange(class_map, class_index, class_index)
        x, y, width, height = cv2.boundingRect(mask)
        box = slice(y, y + height), slice(x, x + width)
        num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=connectivity)
        np.add(labels, num_regions, out=region_map[box], where=labels > 0)
        tables.append(np.insert(stats[1:].astype(np.int64) + (x, y, 0, 0, 0), 0, class_index, axis=1))
        num_regions += num_labels - 1
    return region_map, np.concatenate(tables)
