"""What the model says of an image, small enough to send: class and confidence per cell, probabilities only on borders."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.instance_decoder import Instances, decode_instances
from models.label_set import LabelSet

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
    instances: Instances | None = None
    """None where the model does not tell objects of one class apart."""


def compact(class_map: np.ndarray, confidence: np.ndarray, probabilities: np.ndarray, original_size: tuple[int, int]) -> Prediction:
    """The prediction that holds all that restoring the exact mask needs.

    Shapes: class_map (H, W) uint8, the argmax of `probabilities` (K, H, W) float16, the lowest index where some are equal;
    confidence (H, W) uint8.
    """
    is_border = cv2.dilate(class_map, _NEIGHBOURS) != cv2.erode(class_map, _NEIGHBOURS)
    border_cells = np.flatnonzero(is_border).astype(np.int32)
    border_probabilities = np.ascontiguousarray(probabilities[:, is_border].T)
    return Prediction(class_map, confidence, border_cells, border_probabilities, original_size)


def interpret(
    outputs: np.ndarray, class_map: np.ndarray, confidence: np.ndarray, label_set: LabelSet, original_size: tuple[int, int]
) -> Prediction:
    """The prediction that the network's `outputs` (K, H, W) float16 state, or (K + 3, H, W) with an instance head; else as `compact`."""
    prediction = compact(class_map, confidence, outputs[: len(label_set)], original_size)
    head = outputs[len(label_set) :]
    return replace(prediction, instances=decode_instances(class_map, head, label_set)) if len(head) else prediction
