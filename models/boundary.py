"""Where a class map has edges, and how well two maps agree near them.

Source: Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021, and its published code.
"""

from __future__ import annotations

import cv2
import numpy as np

from models.label_set import IGNORE_INDEX

BAND_SHARE = 0.02  # of the photo's diagonal: the paper's width for large photos too
_NEIGHBOURS = np.ones((3, 3), np.uint8)


def band_width(size: tuple[int, int]) -> int:
    """How many pixels the band along an edge is wide, at least one, in a photo of `size` (height, width)."""
    return max(1, round(BAND_SHARE * float(np.hypot(*size))))


def edges(class_map: np.ndarray) -> np.ndarray:
    """The pixels with another class among their eight neighbours, (h, w) uint8 of 0 and 1, for `class_map` (h, w) uint8."""
    return cv2.compare(cv2.dilate(class_map, _NEIGHBOURS), cv2.erode(class_map, _NEIGHBOURS), cv2.CMP_NE) & 1


def near(places: np.ndarray, distance: int) -> np.ndarray:
    """The pixels at most `distance` rows and columns away from one of `places` (h, w) uint8 of 0 and 1; (h, w) bool."""
    return cv2.distanceTransform(1 - places, cv2.DIST_C, 3) <= distance


def boundary_band(class_map: np.ndarray, width: int) -> np.ndarray:
    """The pixels at most `width` rows and columns away from another class or from the outside of the photo, (h, w) bool.

    The bands of all classes at once: a pixel is in its own class's band, since on the shortest way to another class the last
    pixel of its own class is an edge.
    """
    places = edges(class_map)
    places[[0, -1]] = places[:, [0, -1]] = 1
    return near(places, width - 1)


def boundary_outcomes(mask: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """tp, fp and fn of each class among the pixels of its band, (K, 3) int64; their IoU is the class's boundary IoU.

    Shapes: both (h, w) uint8 at the photo's native resolution. Pixels that are `IGNORE_INDEX` in `mask` belong to no class in
    either map, so both have the same edge there.
    """
    ignored = cv2.compare(mask, IGNORE_INDEX, cv2.CMP_EQ)
    predicted = cv2.bitwise_or(predicted, ignored)  # 255 where ignored
    width = band_width(mask.shape)
    in_mask, in_predicted = boundary_band(mask, width), boundary_band(predicted, width)
    true = _count(mask[in_mask], num_classes)
    claimed = _count(predicted[in_predicted], num_classes)
    tp = _count(mask[in_mask & in_predicted & (mask == predicted)], num_classes)
    return np.stack([tp, claimed - tp, true - tp], axis=1)


def _count(classes: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(classes, minlength=IGNORE_INDEX + 1)[:num_classes]
