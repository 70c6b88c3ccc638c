"""From the instance head's numbers to objects: the peaks of the centre map, and for each pixel the peak that its offset leads to.

Source: Cheng et al., "Panoptic-DeepLab", 2020, section 3.2. Unlike there the classes of pixels stay as they are: what leads to one
peak is one object for each class in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.label_set import IGNORE_INDEX, LabelSet
from models.objects import label_regions, present_classes
from models.spec import OFFSET_UNIT

_LOWEST_PEAK = 0.1
_PEAK_WINDOW = np.ones((7, 7), np.uint8)  # in which no other peak may be higher
_FARTHEST = 0.25  # of the input's longer side, between where an offset leads and the peak


@dataclass(frozen=True)
class Instances:
    """The objects on the cells of a prediction.

    Shapes: instance_map (H, W), unsigned integers: 0 where no object is, objects numbered from 1, each of one class; certainty (N,)
    float32 in [0, 1], how sure it is that the cells of an object are one thing.
    """

    instance_map: np.ndarray
    certainty: np.ndarray


def decode_instances(class_map: np.ndarray, head: np.ndarray, label_set: LabelSet) -> Instances:
    """The objects on the cells: each cell of a class but background belongs to one, and each object has one class.

    Shapes: class_map (H, W) uint8; head (3, H, W) float16: how much a cell is a centre, the way to its own, down and to the right.
    Cells that lead to no peak are objects by their connected regions.
    """
    centre = np.clip(head[0].astype(np.float32), 0, 1)
    peaks = _find_peaks(centre)
    is_object = cv2.inRange(class_map, 0, IGNORE_INDEX - 1) > 0
    if label_set.background is not None:
        is_object &= class_map != label_set.background
    owner = _follow_offsets(is_object, head[1:].astype(np.float32) * OFFSET_UNIT, peaks)
    alone = np.where(owner == 0, class_map, np.uint8(IGNORE_INDEX))
    regions, num_regions = label_regions(alone, present_classes(alone, label_set), connectivity=8)
    heights = centre[tuple(peaks.T)]
    owned, certainty = _split_by_class(owner, class_map, heights)
    highest = np.zeros(num_regions + 1, np.float32)
    np.maximum.at(highest, regions.ravel(), centre.ravel())
    instance_map = np.where(regions > 0, regions + len(certainty), owned)
    kind = np.min_scalar_type(len(certainty) + num_regions)
    return Instances(instance_map.astype(kind), np.concatenate([certainty, highest[1:]]).astype(np.float32))


def _find_peaks(centre: np.ndarray) -> np.ndarray:
    """The (N, 2) int64 places [y, x] of the cells that are as high as any near them; neighbours that are equal are one."""
    is_peak = (centre == cv2.dilate(centre, _PEAK_WINDOW)) & (centre >= _LOWEST_PEAK)
    _, _, _, middles = cv2.connectedComponentsWithStats(is_peak.view(np.uint8), connectivity=8)
    return np.rint(middles[1:, ::-1]).astype(np.int64)


def _follow_offsets(is_object: np.ndarray, offsets: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """For each cell (H, W) int32 the number, from 1, of the peak nearest to where its offset leads; 0 where none is near, or no object.

    One map of the nearest peak to each cell answers for all, however many peaks there are.
    """
    height, width = is_object.shape
    owner = np.zeros((height, width), np.int32)
    y, x = np.nonzero(is_object)
    if not len(peaks) or not len(y):
        return owner
    is_far = np.ones((height, width), np.uint8)
    is_far[tuple(peaks.T)] = 0
    distance, label = cv2.distanceTransformWithLabels(is_far, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    number = np.zeros(len(peaks) + 1, np.int32)
    number[label[tuple(peaks.T)]] = np.arange(1, len(peaks) + 1)
    to_y = np.clip(np.rint(y + offsets[0, y, x]), 0, height - 1).astype(np.int64)
    to_x = np.clip(np.rint(x + offsets[1, y, x]), 0, width - 1).astype(np.int64)
    is_near = distance[to_y, to_x] <= _FARTHEST * max(height, width)
    owner[y, x] = np.where(is_near, number[label[to_y, to_x]], 0)
    return owner


def _split_by_class(owner: np.ndarray, class_map: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map (H, W) of the pairs of a peak and a class that occur, numbered from 1, and each pair's certainty.

    A peak's height counts for a class by the share of its cells that have that class.
    """
    num_values = IGNORE_INDEX + 1
    pair = np.where(owner > 0, owner * num_values + class_map, 0)
    size = np.bincount(pair.ravel(), minlength=num_values * (len(heights) + 1)).reshape(-1, num_values)
    size[0] = 0  # cells of no peak
    peak, class_index = np.nonzero(size)
    number = np.zeros(size.size, np.int32)
    number[peak * num_values + class_index] = np.arange(1, len(peak) + 1)
    return number[pair], heights[peak - 1] * size[peak, class_index] / size.sum(axis=1)[peak]
