"""The things on a class map: connected regions of one class, each with box, area, score and COCO run lengths."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from faster_coco_eval import mask as coco_mask

from models.label_set import LabelSet


@dataclass(frozen=True)
class SegmentedObject:
    """One object; `box` is [x, y, width, height] in pixels, `score` the mean confidence in [0, 1], `area` in pixels."""

    class_index: int
    score: float
    box: tuple[int, int, int, int]
    area: int
    rle: dict
    """COCO's compressed run lengths: `size` [height, width] and `counts`, a string."""


def find_objects(class_map: np.ndarray, confidence: np.ndarray, label_set: LabelSet) -> list[SegmentedObject]:
    """The 8-connected regions of every class but background, largest first; together they are the whole class map.

    Shapes: both (h, w) uint8, confidence being probability times 255.
    """
    present = np.flatnonzero(np.bincount(class_map.ravel(), minlength=len(label_set)))
    found = [
        segmented
        for class_index in present
        if class_index != label_set.background
        for segmented in _regions(class_map, confidence, int(class_index))
    ]
    return sorted(found, key=lambda segmented: -segmented.area)


def encode_rle(mask: np.ndarray) -> dict:
    """COCO's compressed run lengths of `mask` (h, w) bool or uint8, as JSON holds them."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _regions(class_map: np.ndarray, confidence: np.ndarray, class_index: int) -> list[SegmentedObject]:
    num_regions, regions, stats, _ = cv2.connectedComponentsWithStats((class_map == class_index).view(np.uint8), connectivity=8)
    confidence_sums = np.bincount(regions.ravel(), weights=confidence.ravel(), minlength=num_regions)
    found = []
    for region in range(1, num_regions):
        x, y, width, height, area = (int(value) for value in stats[region])
        score = round(float(confidence_sums[region]) / area / 255, 4)
        found.append(SegmentedObject(class_index, score, (x, y, width, height), area, encode_rle(regions == region)))
    return found
