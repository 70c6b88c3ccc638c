"""From objects on the model's cells to objects on the photo's own pixels, whose classes are known already.

A pixel belongs to that object of its class which has the most weight among the four cells around it, by the weights of bilinear
interpolation. Where all four are of one object, so is the pixel: its class cannot be another.
"""

from __future__ import annotations

import cv2
import numpy as np

from models.axis import Axis
from models.prediction import Prediction

_PIXELS = 2**17  # decided at a time, which bounds memory


def restore_instances(prediction: Prediction, class_map: np.ndarray) -> np.ndarray:
    """The object of each of the photo's pixels, (h, w) int32: 0 where none is, else its number in `prediction.instances`.

    `class_map` (h, w) uint8 is what `restore_class_map` made of the prediction; all pixels of an object have its class. One whose
    class none of the four cells has goes to the nearest object of that class, and to none where no cell has the class.
    """
    cells = prediction.instances.instance_map.astype(np.int32)
    rows, columns = (Axis.between(*pair) for pair in zip(cells.shape, class_map.shape))
    around = np.pad(cells, ((0, 1), (0, 1)), mode="edge")
    corners = np.stack([cells, around[:-1, 1:], around[1:, :-1], around[1:, 1:]])
    restored = cells.take(columns.first, 1).take(rows.first, 0)
    is_mixed = (corners[1:] != cells).any(axis=0)
    pixels = np.flatnonzero(is_mixed.take(columns.first, 1).take(rows.first, 0))
    class_of = np.full(len(prediction.instances.certainty) + 1, -1)
    class_of[cells] = prediction.class_map
    class_of[0] = -1
    for start in range(0, len(pixels), _PIXELS):
        y, x = np.divmod(pixels[start : start + _PIXELS], class_map.shape[1])
        at = rows.first[y], columns.first[x]
        candidates = corners[:, *at]
        chosen = _heaviest(candidates, _bilinear(rows.weight[y], columns.weight[x]), class_of[candidates] == class_map[y, x])
        lost = np.flatnonzero((chosen == 0) & np.isin(class_map[y, x], class_of))
        chosen[lost] = _nearest(cells, class_of, class_map[y, x][lost], at[0][lost], at[1][lost])
        restored[y, x] = chosen
    return restored


def _bilinear(down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The weights (4, P) of the cells at the top left, top right, bottom left and bottom right, of the second ones' (P,) both ways."""
    return np.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across])


def _heaviest(candidates: np.ndarray, weights: np.ndarray, may_win: np.ndarray) -> np.ndarray:
    """Of each column of `candidates` (4, P) the number with the most of `weights` (4, P) together among those that may win, else 0."""
    total = np.stack([(weights * (candidates == each)).sum(axis=0) for each in candidates])
    total[~may_win] = -1
    best = total.argmax(axis=0)[np.newaxis]
    return np.where(may_win.any(axis=0), np.take_along_axis(candidates, best, axis=0)[0], 0)


def _nearest(cells: np.ndarray, class_of: np.ndarray, classes: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The number of the object of `classes` (P,) nearest to each of the cells (y, x), both (P,)."""
    numbers = np.zeros(len(classes), np.int32)
    for index in np.unique(classes):
        elsewhere = class_of[cells] != index
        _, label = cv2.distanceTransformWithLabels(elsewhere.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        number = np.zeros(int(label.max()) + 1, np.int32)
        number[label[~elsewhere]] = cells[~elsewhere]
        chosen = classes == index
        numbers[chosen] = number[label[y[chosen], x[chosen]]]
    return numbers
