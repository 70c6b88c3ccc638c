"""What the model says of an image, small enough to send: class and confidence per cell, probabilities only on borders."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Prediction:
    """One image's result on the cells of the model's output that show the image, padding cut away.

    Shapes: class_map (H, W) uint8; confidence (H, W) uint8, the winner's probability times 255; border_cells (M,) int32,
    ascending flat indices of the cells with another class among their eight neighbours; border_probabilities (M, K)
    float16, theirs. `original_size` is the photo's (height, width).
    """

    class_map: np.ndarray
    confidence: np.ndarray
    border_cells: np.ndarray
    border_probabilities: np.ndarray
    original_size: tuple[int, int]


def compact(class_map: np.ndarray, confidence: np.ndarray, probabilities: np.ndarray, original_size: tuple[int, int]) -> Prediction:
    """The prediction that holds all that restoring the exact mask needs.

    Shapes: class_map (H, W) uint8, the argmax of `probabilities` (K, H, W) float16, the lowest index where some are equal;
    confidence (H, W) uint8.
    """
    is_border = cv2.dilate(class_map, _NEIGHBOURS) != cv2.erode(class_map, _NEIGHBOURS)
    border_cells = np.flatnonzero(is_border).astype(np.int32)
    border_probabilities = np.ascontiguousarray(probabilities[:, is_border].T)
    return Prediction(class_map, confidence, border_cells, border_probabilities, original_size)
