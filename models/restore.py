"""From the model's cells back to the photo's own pixels: the argmax of upsampled probabilities.

Where the four cells around a pixel agree on a class, bilinear interpolation cannot change it (float16 probabilities differ by
far more than float32 rounds), so only pixels between cells that disagree are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.prediction import Prediction

_CHUNK = 2**16  # disputed pixels at a time, which bounds memory whatever the photo's size


@dataclass(frozen=True)
class _Axis:
    """For each output pixel the two cells it lies between and the second one's weight, half-pixel centres."""

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray

    @classmethod
    def between(cls, num_cells: int, num_pixels: int) -> _Axis:
        position = (np.arange(num_pixels) + 0.5) * (num_cells / num_pixels) - 0.5
        position = np.clip(position, 0, num_cells - 1)
        first = np.floor(position).astype(np.int32)
        return cls(first, np.minimum(first + 1, num_cells - 1), (position - first).astype(np.float32))


def restore_class_map(prediction: Prediction) -> np.ndarray:
    """The class index of each of the photo's pixels, (h, w) uint8: bilinear probabilities, then argmax."""
    cells = prediction.class_map
    rows = _Axis.between(cells.shape[0], prediction.original_size[0])
    columns = _Axis.between(cells.shape[1], prediction.original_size[1])
    restored = cells[rows.first][:, columns.first]
    disputed = _disagreement(cells)[rows.first][:, columns.first]
    ys, xs = np.nonzero(disputed)
    place = np.zeros(cells.size, np.int32)  # of a cell in the list of border cells
    place[prediction.border_cells] = np.arange(len(prediction.border_cells), dtype=np.int32)
    for start in range(0, len(ys), _CHUNK):
        y, x = ys[start : start + _CHUNK], xs[start : start + _CHUNK]
        restored[y, x] = _interpolate(prediction, place, rows, columns, y, x).argmax(1)
    return restored


def restore_confidence(prediction: Prediction) -> np.ndarray:
    """The winner's probability times 255 at each of the photo's pixels, (h, w) uint8, bilinear."""
    h, w = prediction.original_size
    return cv2.resize(prediction.confidence, (w, h), interpolation=cv2.INTER_LINEAR)


def _disagreement(cells: np.ndarray) -> np.ndarray:
    """True where a cell, its right, its lower and its lower right neighbour are not of one class."""
    padded = np.pad(cells, ((0, 1), (0, 1)), mode="edge")
    right, lower, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (cells != right) | (cells != lower) | (cells != diagonal)


def _interpolate(prediction: Prediction, place: np.ndarray, rows: _Axis, columns: _Axis, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear probabilities (N, K) float32 at the pixels (y, x), all of them between border cells."""
    width = prediction.class_map.shape[1]

    def probabilities(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return prediction.border_probabilities[place[row * width + column]].astype(np.float32)

    top, bottom = rows.first[y], rows.second[y]
    left, right = columns.first[x], columns.second[x]
    down, across = rows.weight[y][:, None], columns.weight[x][:, None]
    upper = probabilities(top, left) * (1 - across) + probabilities(top, right) * across
    lower = probabilities(bottom, left) * (1 - across) + probabilities(bottom, right) * across
    return upper * (1 - down) + lower * down
