"""How much more each pixel counts in training the narrower the gap is that it lies in: what keeps touching things apart."""

from __future__ import annotations

import cv2
import numpy as np

from models.label_set import LabelSet
from models.objects import label_regions

_REACH = 4  # deviations; beyond it less than 0.0004 of the highest weight would be added


def border_weights(region_map: np.ndarray, *, strength: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """1 + strength * exp(-(d1 + d2)^2 / (2 sigma^2)) between the regions, 1 on them and far from two of them: (h, w) float32.

    Shapes: region_map (h, w) int32, 0 between regions, each region with a number of its own. d1 and d2 are the distances to the
    nearest and the second nearest region, in pixels from centre to centre. The paper's weights for the frequency of classes are
    left to the Dice loss.
    Source: Ronneberger, Fischer, Brox, "U-Net", 2015, equation 2, with its numbers as defaults.
    """
    height, width = region_map.shape
    reach = int(np.ceil(_REACH * sigma))
    nearest, second = np.full((2, height, width), np.inf, np.float32)
    for number, (top, left, bottom, right) in _boxes(region_map):
        window = slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach)
        away = cv2.distanceTransform((region_map[window] != number).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], away))
        nearest[window] = np.minimum(nearest[window], away)
    gap = nearest + second
    return np.where(region_map == 0, 1 + strength * np.exp(-(gap**2) / (2 * sigma**2)), 1).astype(np.float32)


def weight_regions(class_map: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """The regions that `border_weights` keeps apart where no objects are known, (h, w) int32: those of each class, by pixel sides.

    What lies between them is background, or the first class where none is called so.
    """
    between = label_set.background or 0
    classes = [label.index for label in label_set.labels if label.index != between]
    present = np.flatnonzero(np.bincount(class_map.ravel(), minlength=len(label_set)))
    return label_regions(class_map, [index for index in classes if index in present], connectivity=4)[0]


def _boxes(region_map: np.ndarray) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Each region's number and its (top, left, bottom, right), the last two one beyond it."""
    y, x = np.nonzero(region_map)
    numbers, place = np.unique(region_map[y, x], return_inverse=True)
    low, high = np.full((2, len(numbers)), max(region_map.shape)), np.zeros((2, len(numbers)), np.int64)
    for axis, positions in enumerate((y, x)):
        np.minimum.at(low[axis], place, positions)
        np.maximum.at(high[axis], place, positions + 1)
    return list(zip(numbers.tolist(), map(tuple, np.concatenate([low, high]).T.tolist())))
