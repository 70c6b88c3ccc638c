"""How well regions are kept apart, whatever the width of the lines between them: the measure of the ISBI 2012 challenge."""

from __future__ import annotations

import cv2
import numpy as np

from models.objects import label_regions

RAND_RULE = "1 - F-score of pairs of pixels in one part, on the true parts' pixels, lines between predicted parts thinned; mean over photos"


def rand_error(true_regions: np.ndarray, regions: np.ndarray) -> float:
    """1 - the F-score of pairs of pixels that lie in one region in both, in [0, 1]: 0 where the regions are the same.

    Shapes: both (h, w) int32, regions numbered from 1; pixels that are 0 in `true_regions` are not counted. NaN where none is left.
    Source: Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for connectomics", 2015, the
    foreground-restricted Rand score, equation 1 with alpha 0.5.
    """
    counted = true_regions > 0
    if not counted.any():
        return float("nan")
    true, found = true_regions[counted].astype(np.int64), regions[counted].astype(np.int64)
    both = _num_pairs(true * (int(found.max()) + 1) + found)
    return 1 - 2 * both / (_num_pairs(true) + _num_pairs(found))


def regions_after_thinning(class_map: np.ndarray, class_index: int) -> np.ndarray:
    """The parts of a class (h, w) int32 that hang together by the sides of pixels, grown until the lines between have no width.

    Where no pixel has the class all is one region.
    """
    is_other = class_map != class_index
    if is_other.all():
        return np.ones(class_map.shape, np.int32)
    regions, _ = label_regions(class_map, [class_index], connectivity=4)
    _, nearest = cv2.distanceTransformWithLabels(is_other.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(nearest.max()) + 1, np.int32)
    of_label[nearest[~is_other]] = regions[~is_other]
    return of_label[nearest]


def class_rand_error(true_map: np.ndarray, class_map: np.ndarray, class_index: int) -> float:
    """The Rand error of a class's parts on `class_map` after thinning against those on `true_map`, both (h, w) uint8."""
    if not (true_map == class_index).any():
        return float("nan")
    true_regions, _ = label_regions(true_map, [class_index], connectivity=4)
    return rand_error(true_regions, regions_after_thinning(class_map, class_index))


def _num_pairs(regions: np.ndarray) -> float:
    """How many ordered pairs of pixels are of one region, each with itself too."""
    _, sizes = np.unique(regions, return_counts=True)
    return float((sizes.astype(np.float64) ** 2).sum())
