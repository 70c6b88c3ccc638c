"""The things on a class map, each with box, area and score: those that the model told apart, else connected regions of one class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from models.label_set import IGNORE_INDEX, LabelSet
from models.run_lengths import run_edges


@dataclass(frozen=True)
class SegmentedObject:
    """One object; `box` is [x, y, width, height] in pixels, `area` in pixels.

    `score` in [0, 1] is the mean confidence; where the model tells objects apart, the geometric mean of that and of the certainty that it
    is one object.
    """

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


def find_objects(
    class_map: np.ndarray,
    confidence: np.ndarray,
    label_set: LabelSet,
    *,
    min_score: float = 0.0,
    instances: tuple[np.ndarray, np.ndarray] | None = None,
) -> ObjectMap:
    """The objects of every class but background whose score, as rounded, is at least `min_score`.

    `instances` are what the model tells apart: a map (h, w) int32, 0 where no object is, numbered from 1, each of one class, and their
    certainties (N,). Pixels that it gives to no object, or all without it, are objects by their 8-connected regions.
    Shapes: both others (h, w) uint8, confidence being probability times 255. The pixels of an object that is left out become what
    `left_out_index` says; without `min_score` the objects together are the whole class map.
    """
    regions, certainty = _number_regions(class_map, label_set, instances)
    found = _measure(regions, certainty, class_map, confidence, is_told_apart=instances is not None)
    order = sorted(range(len(found)), key=lambda place: -found[place].area)
    kept = [place for place in order if found[place].score >= min_score]
    numbers = np.zeros(len(found) + 1, np.int32)
    numbers[[place + 1 for place in kept]] = range(1, len(kept) + 1)
    region_map = numbers[regions]
    if len(kept) < len(found):
        class_map = np.where((regions > 0) & (region_map == 0), np.uint8(left_out_index(label_set)), class_map)
    return ObjectMap(tuple(found[place] for place in kept), region_map, class_map)


def _number_regions(
    class_map: np.ndarray, label_set: LabelSet, instances: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """A map (h, w) int32 of all objects, numbered from 1 without gaps, and their certainties (N,)."""
    classes = present_classes(class_map, label_set)
    if instances is None:
        regions, num_regions = label_regions(class_map, classes, connectivity=8)
        return regions, np.ones(num_regions)
    is_kept = np.zeros(IGNORE_INDEX + 1, np.uint8)
    is_kept[classes] = 1
    instance_map, certainty = instances
    instance_map = instance_map * cv2.LUT(class_map, is_kept)
    present = np.flatnonzero(np.bincount(instance_map.ravel(), minlength=1)[1:]) + 1
    numbers = np.zeros(len(certainty) + 1, np.int32)
    numbers[present] = np.arange(1, len(present) + 1)
    alone = np.where(instance_map > 0, np.uint8(IGNORE_INDEX), class_map)
    rest, num_rest = label_regions(alone, present_classes(alone, label_set), connectivity=8)
    regions = np.where(rest > 0, rest + len(present), numbers[instance_map]).astype(np.int32)
    return regions, np.concatenate([certainty[present - 1], np.ones(num_rest)])


def present_classes(class_map: np.ndarray, label_set: LabelSet) -> list[int]:
    """The classes on `class_map` (h, w) uint8, ascending, but background and `IGNORE_INDEX`."""
    num_pixels = cv2.calcHist([class_map], [0], None, [IGNORE_INDEX + 1], [0, IGNORE_INDEX + 1])
    return [index for index in np.flatnonzero(num_pixels).tolist() if index not in (label_set.background, IGNORE_INDEX)]


def keep_classes(class_map: np.ndarray, classes: Iterable[int], label_set: LabelSet) -> np.ndarray:
    """`class_map` (h, w) uint8 with only `classes` on it; all else becomes what `left_out_index` says."""
    lookup = np.full(IGNORE_INDEX + 1, left_out_index(label_set), np.uint8)
    kept = list(classes)
    lookup[kept] = kept
    return cv2.LUT(class_map, lookup)


def left_out_index(label_set: LabelSet) -> int:
    """The value of pixels that are left out: background, or `IGNORE_INDEX` where no class is background."""
    return IGNORE_INDEX if label_set.background is None else label_set.background


def label_regions(class_map: np.ndarray, classes: Iterable[int], *, connectivity: int) -> tuple[np.ndarray, int]:
    """A map (h, w) int32 of the connected regions of `classes`, each of which is there, numbered from 1, 0 elsewhere, and how many they are."""
    region_map, num_regions = np.zeros(class_map.shape, np.int32), 0
    for class_index in classes:
        mask = cv2.inRange(class_map, class_index, class_index)
        x, y, width, height = cv2.boundingRect(mask)
        box = slice(y, y + height), slice(x, x + width)
        num_labels, labels = cv2.connectedComponents(mask[box], connectivity=connectivity)
        np.add(labels, num_regions, out=region_map[box], where=labels > 0)
        num_regions += num_labels - 1
    return region_map, num_regions


def _measure(
    regions: np.ndarray, certainty: np.ndarray, class_map: np.ndarray, confidence: np.ndarray, *, is_told_apart: bool
) -> list[SegmentedObject]:
    """The regions 1, 2, ... of `regions` as objects, from the runs of equal numbers along its rows: one pass for all."""
    width, num_regions = regions.shape[1], len(certainty)
    edges = run_edges(regions)
    first, last = edges[:-1], edges[1:] - 1
    owners = regions.ravel()[first]
    area, confidence_sums = np.zeros((2, num_regions + 1), np.int64)
    np.add.at(area, owners, last - first + 1)
    np.add.at(confidence_sums, owners, np.add.reduceat(confidence.ravel(), first, dtype=np.int64))
    class_of = np.zeros(num_regions + 1, np.int64)
    class_of[owners] = class_map.ravel()[first]
    wraps = last // width > first // width
    low, high = np.full((2, num_regions + 1), regions.size), np.zeros((2, num_regions + 1), np.int64)
    np.minimum.at(low[0], owners, np.where(wraps, 0, first % width))
    np.minimum.at(low[1], owners, first // width)
    np.maximum.at(high[0], owners, np.where(wraps, width - 1, last % width))
    np.maximum.at(high[1], owners, last // width)
    boxes = np.concatenate([low, high - low + 1])[:, 1:].T.tolist()
    means = confidence_sums[1:] / area[1:] / 255
    scores = np.round(np.sqrt(means * certainty) if is_told_apart else means, 4).tolist()
    columns = zip(class_of[1:].tolist(), scores, map(tuple, boxes), area[1:].tolist())
    return [SegmentedObject(*row) for row in columns]
